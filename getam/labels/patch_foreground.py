"""What of an image is object, and of which class, by a ViT's own patch features: no supervision
beyond the image-level labels that its class maps come from.

Over many images the first principal component of a transformer's patch features tells object from
ground (Oquab et al. 2023, arXiv 2304.07193). Here the peaks of the class maps, which lie on
objects, say which end of it the objects are at, and where they begin; a linear classifier that
learns from its own answers then uses all other directions too.

The maps name the classes of objects, each in its own image. A linear classifier of object patches
that learns these names from many images at once forgets what is not alike in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "PatchScore",
    "class_shares",
    "default_block",
    "fit_classes",
    "fit_foreground",
    "patch_features",
    "unstacked",
]

RIDGE = 1e-2  # of the features' mean variance


@dataclass(frozen=True)
class PatchScore:
    """Linear scores of patch features: about 1 where they are what is looked for, 0 elsewhere.

    ``weight`` (D,) with ``bias`` () for one score, or (D, C) with (C,) for several.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(..., D) to (...) or (..., C), not bounded."""
        return features @ self.weight.to(features) + self.bias.to(features)


def fit_foreground(
    features: Tensor, peaks: Tensor, rounds: int = 3, threshold: float = 0.5
) -> PatchScore:
    """Tell object from ground in the patches of many images.

    1. The first principal component of the features, turned so that the peaks are positive.
    2. Object is what lies nearer to the peaks' mean than to that of all patches.
    3. ``rounds`` times: ridge regression of object (1) and ground (0) on the features; object is
       then what it gives more than ``threshold``.

    With a threshold of one half the answers hardly change after three rounds. Above it what is
    object shrinks with each round, and what resembles the core of objects least goes first.

    Args:
        features: (N, D), of all patches of some images (:func:`patch_features`).
        peaks: (N,) bool, the patches where a class map is near its maximum.
        rounds: at least one.
        threshold: of the answers that the next round learns from.

    Raises:
        ValueError: no peak, other shapes, or nothing that is object in the end.

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
    mean, covariance = _moments(features)
    component = torch.linalg.eigh(covariance)[1][:, -1].to(features)
    along = features @ component - mean.to(features) @ component
    level = along[peaks].mean()
    found = along * level.sign() > level.abs() / 2

    damping = RIDGE * covariance.diagonal().mean() * torch.eye(len(mean)).to(covariance)
    for _ in range(rounds):
        share = found.double().mean()
        target = (found.double() - share).to(features)
        weight = torch.linalg.solve(covariance + damping, (target @ features).double() / len(found))
        foreground = PatchScore(weight.float(), (share - mean @ weight).float())
        found = foreground(features) > threshold
    if not (foreground(features) > 0.5).any():
        raise ValueError(
            f"Got no object after {rounds} rounds with threshold={threshold}, expected some: take "
            f"fewer rounds, or a threshold nearer to 0.5."
        )
    return foreground


def fit_classes(features: Tensor, classes: Tensor, count: int) -> PatchScore:
    """Tell the classes of object patches apart, by ridge regression in which each weighs the same.

    Args:
        features: (N, D), of object patches of some images.
        classes: (N,) int64, 0 to ``count`` - 1: what the maps of its image call each. A class
            that none has gets a score of 0 everywhere.

    Raises:
        ValueError: no patch, or other shapes.

    >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> found = fit_classes(features, torch.tensor([0, 0, 1]), 3)
    >>> found(features).argmax(dim=1).tolist()
    [0, 0, 1]
    """
    if features.ndim != 2 or classes.shape != features.shape[:1] or not len(features):
        raise ValueError(
            f"Got features {tuple(features.shape)} and classes {tuple(classes.shape)}, expected "
            f"(N, D) and (N,) with at least one patch."
        )
    targets = F.one_hot(classes, count).to(features)
    weights = targets @ (1 / targets.sum(dim=0).clamp(min=1))
    weights = (weights / weights.mean())[:, None]
    mean, shares = (weights * features).mean(dim=0), (weights * targets).mean(dim=0)
    centred = features - mean
    covariance = ((weights * centred).T @ centred).double() / len(features)
    damping = RIDGE * covariance.diagonal().mean() * torch.eye(len(mean)).to(covariance)
    joint = ((weights * centred).T @ (targets - shares)).double() / len(features)
    weight = torch.linalg.solve(covariance + damping, joint).to(features)
    return PatchScore(weight, shares - mean @ weight)


def class_shares(scores: Tensor) -> Tensor:
    """What each class of an image has of a patch: scores (..., K) to shares that sum to 1.

    >>> class_shares(torch.tensor([[0.6, 0.2], [-0.1, 0.3], [-1.0, -2.0]])).tolist()
    [[0.75, 0.25], [0.0, 1.0], [0.5, 0.5]]
    """
    positive = scores.clamp(min=0)
    total = positive.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, positive / total.clamp(min=1e-12), 1 / scores.shape[-1])


def unstacked(scores: np.ndarray, count: int) -> np.ndarray:
    """Scores of ``count`` classes, one below the other (K * h, w), apart: (K, h, w)."""
    return scores.reshape(count, -1, scores.shape[1])


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of (N, D) in double precision, by portions."""
    mean = features.mean(dim=0, dtype=torch.float64)
    centred = (part.double() - mean for part in features.split(1 << 16))
    return mean, sum(part.T @ part for part in centred) / len(features)


@torch.no_grad()
def patch_features(network: nn.Module, images: Tensor, block: int) -> Tensor:
    """Output of a block for each patch, of unit length: (B, 3, H, W) to (B, h, w, D) float32."""
    (features,) = network.forward_intermediates(
        images, indices=[block], output_fmt="NCHW", intermediates_only=True, stop_early=True
    )
    return F.normalize(features.float().permute(0, 2, 3, 1), dim=3)


def default_block(network: nn.Module) -> int:
    """Two thirds up, where objects stand out most: the later blocks know classes."""
    return len(network.blocks) * 2 // 3
