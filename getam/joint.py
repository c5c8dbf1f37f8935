"""The joint step of the end-to-end mode: labels by the network itself, then one loss of five terms.

GETAM's double backward propagation (arXiv 2112.02841): the first backward passes, inside
:func:`online_labels`, explain the class scores and touch no weight; the second one trains.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from getam.data.transforms import image_pixels, resize_maps
from getam.energy import dense_energy
from getam.losses import (
    IGNORE,
    background_cross_entropy,
    foreground_cross_entropy,
    multi_label_soft_margin,
    saliency_loss,
)
from getam.networks import normalisation
from getam.online import label_shares, online_labels


class JointLoss:
    """The loss of a batch, for :func:`getam.training.train`.

    In several processes each makes the labels of its own images; the mean of every figure over
    them is that of the whole batch.

    Args:
        classifier: the encoder of the network that is trained; it makes the labels.
        weights: the fields of ``getam.config.LossWeights``.
        maps, labels: what :func:`getam.online.online_labels` takes.
    """

    def __init__(self, classifier: nn.Module, weights: Any, maps: Any, labels: Any) -> None:
        self.classifier, self.weights, self.maps, self.labels = classifier, weights, maps, labels

    def __call__(self, network: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Images (B, 3, H, W), image-level labels (B, C) and, where there is saliency, salient
        pixels (B, H, W) -> ``loss``, its terms (not weighted), and ``label share`` (C + 2,)."""
        images, targets = batch[:2]
        saliency = batch[2].bool() if len(batch) > 2 else None
        pixels = image_pixels(images, normalisation(self.classifier))
        labels = online_labels(
            self.classifier, images, pixels, targets, saliency, self.maps, self.labels
        )
        scores, logits = network(images, with_scores=True)
        terms = self.terms(scores.float(), logits.float(), targets, labels, saliency, pixels)
        total = sum(getattr(self.weights, name) * term for name, term in terms.items())
        return {"loss": total, **terms, "label share": label_shares(labels, targets.shape[1])}

    def terms(
        self,
        scores: Tensor,
        logits: Tensor,
        targets: Tensor,
        labels: Tensor,
        saliency: Tensor | None,
        pixels: Tensor,
    ) -> dict[str, Tensor]:
        """The terms that have a weight: scalars by name."""
        terms = {
            "background": background_cross_entropy(logits, labels),
            "foreground": foreground_cross_entropy(logits, labels, self.weights.class_balanced),
            "classification": multi_label_soft_margin(scores, targets),
        }
        if saliency is not None:
            terms["saliency"] = saliency_loss(logits, saliency)
        if self.weights.energy:
            terms["energy"] = self._energy(logits, labels, pixels)
        return terms

    def _energy(self, logits: Tensor, labels: Tensor, pixels: Tensor) -> Tensor:
        """At half resolution; pixels count by how much of them has no label."""
        half = (logits.shape[-2] // 2, logits.shape[-1] // 2)
        uncertain = (labels == IGNORE).to(logits.dtype)[:, None]
        return dense_energy(
            resize_maps(logits.softmax(dim=1), half),
            resize_maps(pixels, half),
            resize_maps(uncertain, half).squeeze(1),
            sigma_rgb=self.weights.bilateral_srgb,
            sigma_xy=self.weights.bilateral_sxy / 2,
        )
