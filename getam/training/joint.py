"""The joint step of the end-to-end mode: the network labels its batch, then learns from the labels.

This is GETAM's double backward propagation (arXiv 2112.02841). The first backward passes, inside
:func:`online_labels`, compute the maps and change no weight. The second one trains the network
with a loss of five terms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from getam.data.label_values import IGNORE
from getam.data.transforms import image_pixels, resize_maps
from getam.errors import UserError
from getam.labels.completion_batch import gather_present
from getam.labels.steps import SoftSaliency, label_images
from getam.maps.compute import compute_maps
from getam.networks.build import normalisation
from getam.training.crf_loss import dense_energy
from getam.training.losses import (
    background_cross_entropy,
    foreground_cross_entropy,
    multi_label_soft_margin,
    saliency_loss,
)

SMALLEST = 1e-30  # smaller than the peak of any map that is not zero


class JointLoss:
    """The loss of a batch, for :func:`getam.training.loop.train`.

    Several processes each label their own images. The mean of a value over the processes is then
    the value of the whole batch.

    Args:
        classifier: the encoder of the network that is trained; it makes the labels.
        weights: the fields of ``getam.config.schema.LossWeights``.
        maps, labels: as for :func:`online_labels`.
        correction_weight: the weight of a pixel of a corrected mask; a pixel of the network's own
            labels has the weight 1. None: batches have no corrected masks.
    """

    def __init__(
        self,
        classifier: nn.Module,
        weights: Any,
        maps: Any,
        labels: Any,
        correction_weight: float | None = None,
        with_shares: bool = False,
    ) -> None:
        self.classifier, self.weights, self.maps, self.labels = classifier, weights, maps, labels
        self.correction_weight, self.with_shares = correction_weight, with_shares

    def __call__(self, network: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            network: the end-to-end network.
            batch: images (B, 3, H, W), image-level labels (B, C); with saliency, salient pixels
                (B, H, W); with corrected masks, these as (B, H, W) integers, -1 everywhere in an
                image without one; with shares, these as (B, C, h, w).

        Returns:
            ``loss``, its terms (not weighted), and ``label share`` (C + 2,).

        Raises:
            UserError: the maps of the network are no numbers, or zero: the training diverged.
        """
        images, targets, *others = batch
        shares = others.pop() if self.with_shares else None
        corrections = None if self.correction_weight is None else others.pop()
        saliency = objects(others[0], targets) if others else None
        pixels = image_pixels(images, normalisation(self.classifier))
        try:
            labels = online_labels(
                self.classifier, images, pixels, targets, saliency, self.maps, self.labels, shares
            )
        except ValueError as error:  # a check before the run has computed maps of this network
            raise UserError(
                f"Training diverged: the network has no class maps any more ({error}). Lower "
                f"lr_encoder and lr_head of this phase, or give it a longer warmup. Its last "
                f"checkpoint is as it was."
            ) from error
        weights = None
        if corrections is not None:
            labels, saliency, weights = self._corrected(corrections, labels, saliency)
        scores, logits = network(images, with_scores=True)
        terms = self.terms(scores, logits.float(), targets, labels, saliency, pixels, weights)
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
        weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms of the loss, not weighted: scalars by name.

        ``weights`` (B,): the weight of each image in the two cross-entropies; None: all count 1.
        """
        by_class = self.weights.class_balanced
        terms = {
            "background": background_cross_entropy(logits, labels, weights),
            "foreground": foreground_cross_entropy(logits, labels, by_class, weights),
            "classification": multi_label_soft_margin(scores, targets),
        }
        if saliency is not None:
            terms["saliency"] = saliency_loss(logits, saliency)
        if self.weights.energy:
            terms["energy"] = self._energy(logits, labels, pixels)
        return terms

    def _corrected(
        self, corrections: Tensor, labels: Tensor, saliency: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Labels and salient pixels as the corrected masks have them, and the weights (B,)."""
        labels = torch.where(corrections >= 0, corrections, labels).to(labels.dtype)
        if saliency is not None:
            known = (corrections >= 0) & (corrections != IGNORE)
            saliency = torch.where(known, corrections > 0, saliency)
        is_corrected = (corrections >= 0).flatten(1).any(dim=1)
        return labels, saliency, torch.where(is_corrected, float(self.correction_weight), 1.0)

    def _energy(self, logits: Tensor, labels: Tensor, pixels: Tensor) -> Tensor:
        """The energy at half resolution. A pixel counts by the share of it that has no label."""
        half = (logits.shape[-2] // 2, logits.shape[-1] // 2)
        uncertain = (labels == IGNORE).to(logits.dtype)[:, None]
        return dense_energy(
            resize_maps(logits.softmax(dim=1), half),
            resize_maps(pixels, half),
            resize_maps(uncertain, half).squeeze(1),
            sigma_rgb=self.weights.bilateral_srgb,
            sigma_xy=self.weights.bilateral_sxy / 2,
        )


def online_labels(
    classifier: nn.Module,
    images: Tensor,
    pixels: Tensor,
    targets: Tensor,
    saliency: Tensor | None,
    maps: Any,
    labels: Any,
    shares: Tensor | None = None,
) -> Tensor:
    """Label every pixel of a batch by its class maps. The classifier is unchanged afterwards.

    Args:
        classifier: as for :func:`getam.maps.compute.compute_maps`.
        images: (B, 3, H, W), normalised as the classifier expects.
        pixels: (B, 3, H, W), the same images in 0..255.
        targets: (B, C) bool or 0/1, the image-level labels.
        saliency: (B, H, W), salient where > 0, or None.
        maps: settings with the fields ``method`` and ``start_block`` of
            ``getam.config.schema.Maps``.
        labels: settings as for :func:`getam.labels.steps.label_images`.
        shares: (B, C, h, w) in [0, 1], where the stage foreground finds each class; the maps are
            weighted with them (:func:`weighted`). None: the maps alone decide.

    Returns:
        (B, H, W) uint8: 0 background, class ids, 255 ignore.
    """
    found = compute_maps(
        classifier, images, targets, method=maps.method, start_block=maps.start_block
    )
    found, class_ids = gather_present(found, targets)
    of_each = (2, 3)
    if shares is not None:
        found, of_each = weighted(found, gather_present(shares, targets)[0]), (1, 2, 3)
    # Divide by the peak, as in maps.h5: un-normalised maps can be far below 1e-5 in normalise.
    # Shares have one scale for all classes of an image, and keep it.
    found = found / found.amax(dim=of_each, keepdim=True).clamp(min=SMALLEST)
    nothing = found.new_empty((len(found), 0, 1, 1))
    given = nothing if saliency is None else (saliency > 0)[:, None].to(found.dtype)
    soft = SoftSaliency(on_grid=nothing, at_size=given, threshold=0.5)
    return label_images(found, class_ids, pixels, soft, labels, shares=shares is not None)


def weighted(maps: Tensor, shares: Tensor) -> Tensor:
    """The share (B, K, h', w') of each class, times the square root of its map (B, K, h, w)
    divided by the mean of the map: (B, K, h, w).

    A map says how much more a patch shows the class than the mean patch of the image does. The
    shares come from many images, so a class that is only seen next to an object gets none of it.
    They are the better guide, so the map counts by its root alone (docs/end-to-end.md).

    >>> maps, shares = torch.tensor([[[[1.0, 7.0]]]]), torch.tensor([[[[0.5, 0.5]]]])
    >>> weighted(maps, shares).tolist()
    [[[[0.25, 0.6614378094673157]]]]
    """
    mean = maps.mean(dim=(2, 3), keepdim=True).clamp(min=SMALLEST)
    return (maps / mean).sqrt() * F.adaptive_avg_pool2d(shares, maps.shape[2:])


def objects(saliency: Tensor, targets: Tensor) -> Tensor:
    """The salient pixels (B, H, W) bool. An image without a class in ``targets`` (B, C) has none.

    >>> objects(torch.tensor([[[1, 0]], [[1, 0]]]), torch.tensor([[1, 0], [0, 0]])).tolist()
    [[[True, False]], [[False, False]]]
    """
    return saliency.bool() & targets.bool().any(dim=1)[:, None, None]


def label_shares(labels: Tensor, classes: int) -> Tensor:
    """Share of the pixels with each label: background, 1..``classes``, ignored: (C + 2,).

    >>> label_shares(torch.tensor([0, 0, 2, 255]), 2).tolist()
    [0.5, 0.0, 0.25, 0.25]
    """
    counts = torch.bincount(labels.flatten(), minlength=IGNORE + 1)
    return torch.cat([counts[: classes + 1], counts[IGNORE:]]) / labels.numel()
