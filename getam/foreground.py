"""What of an image is object, by a ViT's own patch features: no class, and no supervision beyond
the image-level labels that its class maps come from.

Over many images the first principal component of a transformer's patch features tells object from
ground (Oquab et al. 2023, arXiv 2304.07193). Here the peaks of the class maps, which lie on
objects, say which end of it the objects are at, and where they begin; a linear classifier that
learns from its own answers then uses all other directions too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Foreground", "default_block", "fit_foreground", "patch_features"]

RIDGE = 1e-2  # of the features' mean variance


@dataclass(frozen=True)
class Foreground:
    """A linear score of patch features (..., D): about 1 on objects, 0 on ground."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(..., D) to (...), not bounded."""
        return features @ self.weight.to(features) + self.bias.to(features)


def fit_foreground(
    features: Tensor, peaks: Tensor, rounds: int = 3, threshold: float = 0.5
) -> Foreground:
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
        ValueError: no peak, or other shapes.

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
        foreground = Foreground(weight.float(), (share - mean @ weight).float())
        found = foreground(features) > threshold
    return foreground


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
