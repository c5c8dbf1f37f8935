"""Separates objects from background by the patch features of a ViT.

It uses only class maps, so it needs no supervision beyond image-level labels.

Over many images the first principal component of the patch features of a ViT separates objects
from background (Oquab et al. 2023, arXiv 2304.07193). The peaks of the class maps lie on objects.
They tell which side of this component is object, and where objects begin. A linear classifier is
then trained on this answer, and again on its own answers, so that it uses all directions of the
features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PatchScore", "default_block", "fit_foreground", "fit_objects", "patch_features"]

RIDGE = 1e-2  # penalty of the regression, as a share of the mean variance of the features


@dataclass(frozen=True)
class PatchScore:
    """Linear scores of patch features: about 1 for patches of the wanted kind, about 0 for others.

    One score has a ``weight`` (D,) and a ``bias`` (); C scores have (D, C) and (C,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(..., D) to (...) or (..., C), not bounded."""
        return features @ self.weight.to(features) + self.bias.to(features)


def fit_foreground(
    features: Tensor, peaks: Tensor, rounds: int = 3, threshold: float = 0.5
) -> PatchScore:
    """Fit a score that separates object from background in the patches of many images.

    1. Take the first principal component of the features, with the sign that makes the mean of the
       peaks positive.
    2. Call a patch object if it is nearer to the mean of the peaks than to the mean of all patches.
    3. ``rounds`` times: fit a ridge regression to object (1) and background (0), and call a patch
       object if its score is above ``threshold``.

    With a threshold of 0.5 the answers hardly change after three rounds. With a higher threshold
    objects shrink in each round; the patches that are least typical of objects go first.

    Args:
        features: (N, D), of all patches of some images (:func:`patch_features`).
        peaks: (N,) bool, the patches where a class map is near its maximum.
        rounds: at least one.
        threshold: a patch counts as object in the next round if its score is above this value.

    Raises:
        ValueError: there is no peak, a shape is wrong, or no patch is object in the end.

    >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [0.0, 0.8]])
    >>> found = fit_foreground(features, torch.tensor([True, False, False, False, False]))
    >>> (found(features) > 0.5).tolist()
    [True, True, False, False, False]
    """
    if features.ndim != 2 or peaks.shape != features.shape[:1] or not peaks.any():
        raise ValueError(
            f"Got features {tuple(features.shape)} and {int(peaks.sum())} peaks of "
            f"{tuple(peaks.shape)}, expected (N, D) and (N,) with at least one peak."
        )
    regression = _Regression(features)
    mean, covariance = regression.mean, regression.covariance
    component = torch.linalg.eigh(covariance)[1][:, -1].to(features)
    along = features @ component - mean.to(features) @ component
    level = along[peaks].mean()
    found = along * level.sign() > level.abs() / 2

    for _ in range(rounds):
        foreground = regression(found)
        found = foreground(features) > threshold
    if not (foreground(features) > 0.5).any():
        raise ValueError(
            f"Got no object after {rounds} rounds with threshold={threshold}, expected some: take "
            f"fewer rounds, or a threshold nearer to 0.5."
        )
    return foreground


def fit_objects(features: Tensor, found: Tensor) -> PatchScore:
    """Fit a score that separates the patches that are ``found`` from all others.

    It is the ridge regression of one round of :func:`fit_foreground`.

    Args:
        features: (N, D), of all patches of some images.
        found: (N,) bool, the patches of objects.

    >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> (fit_objects(features, torch.tensor([True, True, False]))(features) > 0.5).tolist()
    [True, True, False]
    """
    return _Regression(features)(found)


class _Regression:
    """Ridge regressions from features (N, D) to object (1) and background (0)."""

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self.mean, self.covariance = _moments(features)
        damping = RIDGE * self.covariance.diagonal().mean()
        self._damped = self.covariance + damping * torch.eye(len(self.mean)).to(self.covariance)

    def __call__(self, found: Tensor) -> PatchScore:
        share = found.double().mean()
        target = (found.double() - share).to(self.features)
        joint = (target @ self.features).double() / len(found)
        weight = torch.linalg.solve(self._damped, joint)
        return PatchScore(weight.float(), (share - self.mean @ weight).float())


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of (N, D), in double precision and in portions."""
    mean = features.mean(dim=0, dtype=torch.float64)
    centred = (part.double() - mean for part in features.split(1 << 16))
    return mean, sum(part.T @ part for part in centred) / len(features)


@torch.no_grad()
def patch_features(network: nn.Module, images: Tensor, block: int) -> Tensor:
    """Output of a block for each patch, of unit length: (B, 3, H, W) -> (B, h, w, D) float32."""
    (features,) = network.forward_intermediates(
        images, indices=[block], output_fmt="NCHW", intermediates_only=True, stop_early=True
    )
    return F.normalize(features.float().permute(0, 2, 3, 1), dim=3)


def default_block(network: nn.Module) -> int:
    """The block at two thirds of the depth: objects stand out most there."""
    return len(network.blocks) * 2 // 3
