"""Names the class of each object patch, by the patch features of a ViT and image-level labels.

The class maps name the class of each object patch, image by image. A linear classifier learns these
names from many images together, so that errors of single images count less (:func:`fit_classes`).

But something that is next to a class in every image also gets its name: the face of a person who
wears a hat is called hat. Image-level labels contradict this, because faces are also in images
without a hat. :func:`separate_classes` uses them: it separates each class from the objects of all
images without this class, and a patch may have no class at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from getam.labels.patch_foreground import RIDGE, PatchScore

__all__ = ["class_shares", "fit_classes", "separate_classes", "unstacked"]

FEWEST = 10  # patches of a class, and of all others, that a score is fitted to


def fit_classes(features: Tensor, classes: Tensor, count: int) -> PatchScore:
    """Fit scores that separate the classes of object patches.

    A ridge regression in which every class has the same weight.

    Args:
        features: (N, D), of object patches of some images.
        classes: (N,) int64, 0 to ``count`` - 1: the class that the maps give to each patch. A class
            without patches gets the score 0 everywhere.

    Raises:
        ValueError: there is no patch, or a shape is wrong.

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


def separate_classes(
    features: Tensor, possible: Tensor, first: PatchScore, rounds: int
) -> PatchScore:
    """Fit scores that separate each class from all other objects, those without a class included.

    Start with the best class of ``first`` at each patch, among the classes of its image. Then
    ``rounds`` times:

    1. For each class fit a ridge regression that is 1 on the patches of this class, and 0 on the
       object patches of all images without this class and on those that have another class. Both
       sides have the same weight. A patch without a class counts on neither side of the classes
       of its image.
    2. A patch gets the class of its image with the best score, or no class if this score is not
       above one half.

    A class with fewer than ten patches, or that nearly all patches have, keeps its last score.

    Args:
        features: (N, D), of object patches of some images, those without any class included.
        possible: (N, C) bool, the classes of the image of each patch.
        first: scores of C classes to start with (:func:`fit_classes`).
        rounds: 0 returns ``first``.

    Returns:
        Scores of C classes: about 1 for patches of the class, about 0 for other objects.

    Raises:
        ValueError: a shape is wrong.

    >>> face, hat, scarf = torch.eye(3).repeat_interleave(20, dim=0).split(20)
    >>> features = torch.cat([face, hat, face, scarf])  # a photo of a hat, and one of a scarf
    >>> possible = torch.tensor([[True, False], [False, True]]).repeat_interleave(40, dim=0)
    >>> first = fit_classes(features, possible.long().argmax(dim=1), 2)
    >>> (first(face[0]) > 0.4).tolist()
    [True, True]
    >>> (separate_classes(features, possible, first, 3)(face[0]) > 0.4).tolist()
    [False, False]
    """
    if possible.shape != (len(features), *first.bias.shape):
        raise ValueError(
            f"Got features {tuple(features.shape)} and possible classes {tuple(possible.shape)}, "
            f"expected (N, D) and (N, {len(first.bias)})."
        )
    weight, bias = first.weight.to(features).clone(), first.bias.to(features).clone()
    named = _best_class(PatchScore(weight, bias)(features), possible, -torch.inf)
    total = _sums(features)
    for _ in range(rounds):
        for c in range(len(bias)):
            own = _sums(features[named == c])
            undecided = _sums(features[(named < 0) & possible[:, c]])
            other = [whole - part - rest for whole, part, rest in zip(total, own, undecided)]
            if min(own[0], other[0]) >= FEWEST:
                weight[:, c], bias[c] = _separating(own, other)
        named = _best_class(PatchScore(weight, bias)(features), possible, 0.5)
    return PatchScore(weight, bias)


def _best_class(scores: Tensor, possible: Tensor, least: float) -> Tensor:
    """The possible class (N,) with the best score; -1 where no such score is above ``least``."""
    best = scores.masked_fill(~possible, -torch.inf).max(dim=1)
    return torch.where(best.values > least, best.indices, -1)


def _sums(features: Tensor) -> tuple[int, Tensor, Tensor]:
    """Number, sum (D,) and sum of outer products (D, D) of features (N, D), in double precision."""
    products = sum((part.T @ part).double() for part in features.split(1 << 14))
    return len(features), features.sum(dim=0, dtype=torch.float64), products


def _separating(own: Sequence, other: Sequence) -> tuple[Tensor, Tensor]:
    """Ridge regression of 1 on one side and 0 on the other, from their sums: (D,) and ()."""
    (m1, p1), (m0, p0) = ((s / n, p / n) for n, s, p in (own, other))
    mean = (m1 + m0) / 2
    covariance = (p1 + p0) / 2 - mean.outer(mean)
    damping = RIDGE * covariance.diagonal().mean() * torch.eye(len(mean)).to(covariance)
    weight = torch.linalg.solve(covariance + damping, (m1 - m0) / 4)
    return weight, 0.5 - mean @ weight


def class_shares(scores: Tensor) -> Tensor:
    """Turn the scores (..., K) of the classes of an image into shares that sum to 1 per patch.

    >>> class_shares(torch.tensor([[0.6, 0.2], [-0.1, 0.3], [-1.0, -2.0]])).tolist()
    [[0.75, 0.25], [0.0, 1.0], [0.5, 0.5]]
    """
    positive = scores.clamp(min=0)
    total = positive.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, positive / total.clamp(min=1e-12), 1 / scores.shape[-1])


def unstacked(scores: np.ndarray, count: int) -> np.ndarray:
    """Split the scores of ``count`` classes, stacked as (K * h, w), into (K, h, w)."""
    return scores.reshape(count, -1, scores.shape[1])
