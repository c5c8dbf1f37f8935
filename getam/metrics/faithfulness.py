"""Is a class map true? Insertion and deletion: what the class score does as patches come and go.

Deletion removes the patches of a photo in the order of the map, highest value first. Insertion
begins with a photo of which every patch is removed, and gives the patches back in the same order.
If the map is true, the score of the class falls early in deletion and rises early in insertion
(RISE, Petsiuk et al. 2018, arXiv 1806.07421). No masks are needed.

A removed patch has the mean colour of its photo, unless the caller gives another replacement. The
curves alone say little: removing any patches lowers the score. So compare each map with the two
controls of `getam.metrics.controls` (arXiv 2404.01415).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Curves", "PhotoCurves", "insertion_deletion"]

Classify = Callable[[Tensor], Tensor]
TIES = 0  # seed of the order in which patches of equal value come


class Curves(NamedTuple):
    """The curves of P pairs of a photo and a class, at S + 1 shares of the patches.

    `shares` rises from 0 to 1. At share s, deletion has removed this share of the patches, and
    insertion has given it back. So `deletion[:, 0]` and `insertion[:, -1]` are scores of whole
    photos.
    """

    photos: Tensor  # (P,) int64, index of the photo in the batch
    classes: Tensor  # (P,) int64, index of the class
    shares: Tensor  # (S + 1,) float64
    insertion: Tensor  # (P, S + 1), class scores; probabilities from 0 to 1 by default
    deletion: Tensor  # (P, S + 1)
    passes: int  # forward passes; a batch of n photos counts as n

    @property
    def insertion_area(self) -> Tensor:
        """(P,) float64, the mean score along the curve, by the trapezoidal rule; high is good."""
        return torch.trapezoid(self.insertion.double(), self.shares)

    @property
    def deletion_area(self) -> Tensor:
        """(P,) float64, the mean score along the curve, by the trapezoidal rule; low is good."""
        return torch.trapezoid(self.deletion.double(), self.shares)


class PhotoCurves:
    """The curves of many photos; those of a photo are the mean of the curves of its classes.

    Attributes:
        passes: forward passes of all photos together.
    """

    def __init__(self) -> None:
        self.passes, self._shares = 0, np.zeros(0)
        self._found: dict[str, np.ndarray] = {}  # id -> (2, S + 1)

    def update(self, ids: Sequence[str], curves: Curves) -> None:
        """Add the curves of a batch; ``ids`` are the names of its photos."""
        both = torch.stack([curves.insertion, curves.deletion], dim=1).double().cpu().numpy()
        photos = curves.photos.cpu().numpy()
        for photo in np.unique(photos):
            self._found[ids[photo]] = both[photos == photo].mean(axis=0)
        self.passes, self._shares = self.passes + curves.passes, curves.shares.cpu().numpy()

    def areas(self) -> dict[str, dict[str, float]]:
        """Insertion and deletion, each the area of every photo by its id; {} without photos."""
        areas = {name: np.trapezoid(both, self._shares) for name, both in self._found.items()}
        if not areas:
            return {}
        return {
            measure: {name: float(area[row]) for name, area in areas.items()}
            for row, measure in enumerate(("insertion", "deletion"))
        }

    def means(self) -> dict[str, Any]:
        """The shares, both curves as means over the photos, the passes; {} without photos."""
        if not self._found:
            return {}
        insertion, deletion = np.mean([*self._found.values()], axis=0).tolist()
        return {
            "shares": self._shares.tolist(),
            "insertion": insertion,
            "deletion": deletion,
            "forward passes": self.passes,
        }


@torch.no_grad()
def insertion_deletion(
    model: Classify,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    steps: int = 10,
    replacement: Tensor | None = None,
    score: Callable[[Tensor], Tensor] = torch.sigmoid,
    batch_size: int = 32,
) -> Curves:
    """Measure the insertion and deletion curves of class maps.

    With N patches (cells of the map) and S steps, `k_s = round(s N / S)` patches are removed or
    given back at step s = 0..S: those with the k_s highest values. Patches of equal value come in
    an order that is random but always the same. So a constant map counts as a random one.

    Each pair of a photo and a class takes `2 (S - 1)` forward passes, and each photo 2 more, for
    the whole photo and the one without patches. The changed photos are made on the device, at most
    `batch_size` at a time.

    Args:
        model: gives scores (B, C) of images (B, 3, H, W). If it is a module, it must be in
            evaluation mode. It runs in the caller's autocast state.
        images: (B, 3, H, W), normalised as the model expects.
        maps: (B, C, h, w), for instance of `compute_maps`; h and w at most H and W. Only the order
            of the values of a map counts.
        targets: (B, C) bool or 0/1, the classes whose maps are measured.
        steps: S, the number of steps; at most one per patch is taken.
        replacement: what a removed patch shows, a tensor that broadcasts to `images`. None: the
            mean colour of its photo.
        score: from the model's output (B, C) to the scores that are measured.
        batch_size: changed photos per forward pass of the model.

    Returns:
        The curves of the pairs, ordered by photo, then by class.

    Raises:
        ValueError: a shape does not fit, a map has NaN, there is no class to measure, or the model
            is in training mode.

    A model whose score is the brightness of the left half, and a map that says so:

    >>> left = lambda images: images[..., :2].mean(dim=(1, 2, 3))[:, None]
    >>> images, maps = torch.ones(1, 3, 4, 4), torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    >>> curves = insertion_deletion(left, images, maps, torch.ones(1, 1), steps=4,
    ...                             replacement=torch.zeros(1), score=lambda output: output)
    >>> curves.shares.tolist(), curves.insertion.tolist()
    ([0.0, 0.25, 0.5, 0.75, 1.0], [[0.0, 0.5, 1.0, 1.0, 1.0]])
    >>> curves.insertion_area.tolist(), curves.deletion_area.tolist(), curves.passes
    ([0.75], [0.25], 8)
    """
    _check(model, images, maps, targets)
    targets = targets.to(images.device) == 1
    photos, classes = targets.nonzero().unbind(dim=1)
    ranks = _ranks(maps.to(images.device)[photos, classes].flatten(1))
    if replacement is None:
        replacement = images.mean(dim=(2, 3), keepdim=True)
    replacement = replacement.to(images).expand_as(images)
    cells = ranks.shape[1]
    counts = torch.linspace(0, cells, min(steps, cells) + 1, dtype=torch.float64).round()
    counts = counts.to(images.device)

    def scores_of(copies: Tensor) -> Tensor:
        output = model(copies)
        return score(output.to(torch.promote_types(output.dtype, torch.float32)))

    copies = _Copies(images, replacement, photos, ranks.unflatten(1, maps.shape[-2:]), counts[1:-1])
    shown, own = photos.unique(return_inverse=True)
    ends = [_in_batches(scores_of, part[shown], batch_size) for part in (replacement, images)]
    _check_scores(ends[0], targets)
    empty, whole = (scores[own, classes][:, None] for scores in ends)
    inner = copies.scores(scores_of, classes, batch_size)
    return Curves(
        photos=photos,
        classes=classes,
        shares=counts / cells,
        insertion=torch.cat([empty, inner[0], whole], dim=1),
        deletion=torch.cat([whole, inner[1], empty], dim=1),
        passes=2 * len(shown) + inner.numel(),
    )


class _Copies(NamedTuple):
    """The copies of P pairs at S - 1 steps, once of insertion and once of deletion.

    They are numbered as in an array (2, P, S - 1).
    """

    images: Tensor  # (B, 3, H, W)
    replacement: Tensor  # (B, 3, H, W)
    photos: Tensor  # (P,)
    ranks: Tensor  # (P, h, w), 0 for the highest value
    counts: Tensor  # (S - 1,), patches given back or removed

    def scores(self, scores_of: Classify, classes: Tensor, batch_size: int) -> Tensor:
        """(2, P, S - 1): the class scores, first of insertion, then of deletion."""
        shape = (2, len(self.photos), len(self.counts))
        numbers = torch.arange(2 * shape[1] * shape[2], device=self.images.device)
        found = [
            scores_of(self.some(part)).gather(1, classes[self.pair(part)][:, None])[:, 0]
            for part in numbers.split(batch_size)
        ]
        return torch.cat(found).view(shape) if found else self.images.new_zeros(shape)

    def pair(self, numbers: Tensor) -> Tensor:
        """The pair of each copy."""
        return numbers // len(self.counts) % len(self.photos)

    def some(self, numbers: Tensor) -> Tensor:
        """The changed photos of these numbers (R,): (R, 3, H, W)."""
        pair, count = self.pair(numbers), self.counts[numbers % len(self.counts)]
        deletes = numbers >= len(self.counts) * len(self.photos)
        first = self.ranks[pair] < count[:, None, None]
        kept = _enlarged(first ^ deletes[:, None, None], self.images.shape[-2:])
        photo = self.photos[pair]
        return torch.where(kept[:, None], self.images[photo], self.replacement[photo])


def _enlarged(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """(R, h, w) bool to (R, H, W): each pixel has the value of the cell that its centre is in."""
    return F.interpolate(cells[:, None].float(), size=size, mode="nearest-exact")[:, 0] > 0.5


def _ranks(values: Tensor) -> Tensor:
    """(P, N): 0 for the highest value of a row, N - 1 for the lowest."""
    cells = values.shape[1]
    shuffled = torch.randperm(cells, generator=torch.Generator().manual_seed(TIES))
    shuffled = shuffled.to(values.device)
    order = shuffled[values[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(cells, device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def _in_batches(scores_of: Classify, images: Tensor, batch_size: int) -> Tensor:
    return torch.cat([scores_of(part) for part in images.split(batch_size)])


def _check(model: Classify, images: Tensor, maps: Tensor, targets: Tensor) -> None:
    if getattr(model, "training", False):
        raise ValueError("The model is in training mode. Call model.eval() before.")
    if images.dim() != 4 or maps.dim() != 4 or maps.shape[:2] != targets.shape:
        raise ValueError(
            f"Got images of shape {tuple(images.shape)}, maps of {tuple(maps.shape)} and targets "
            f"of {tuple(targets.shape)}, expected (B, 3, H, W), (B, C, h, w) and (B, C)."
        )
    if len(images) != len(maps) or any(m > i for m, i in zip(maps.shape[2:], images.shape[2:])):
        raise ValueError(
            f"Got maps of shape {tuple(maps.shape)} for images of {tuple(images.shape)}, expected "
            f"one for each image, with no more cells than pixels in height and width."
        )
    if maps.isnan().any():
        raise ValueError("Got maps with NaN, expected numbers: check the class maps.")
    if not (targets == 1).any():
        raise ValueError("Got targets without a class, expected one or more classes to measure.")


def _check_scores(scores: Tensor, targets: Tensor) -> None:
    if scores.dim() != 2 or scores.shape[1] != targets.shape[1]:
        raise ValueError(
            f"Got scores of shape {tuple(scores.shape)}, expected (B, {targets.shape[1]}): one for "
            f"each class of the targets."
        )
