"""Linear readouts of patch features that have not seen the photos they are asked about.

A readout learns the labels of the patches of many photos: a ridge regression from the features of a
patch to the share of each label in it. The photos are dealt into folds. Each fold has its own
readout, which learns from the photos of all other folds. So its answer on a photo is a second
opinion: it does not come from the labels of that photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from getam.data.label_values import IGNORE
from getam.data.transforms import resize_maps

__all__ = [
    "FINE",
    "HeldOutReadouts",
    "held_out_answers",
    "label_shares",
    "on_patches",
    "patch_grid",
]

RIDGE = 1e-2  # penalty of the regression, as a share of the mean square of the features
TINY = 1e-6
FOLDS = 5
FINE = 4  # pixels per patch along a side, when labels are compared with an answer

Photos = Callable[[], Iterable[tuple[Tensor, np.ndarray]]]


def patch_grid(size: tuple[int, int], patch: float) -> tuple[int, int]:
    """The (rows, columns) of patches that show a photo of (h, w) pixels; at least one of each.

    The rest of the patch grid of a letterboxed photo shows its padding.

    >>> patch_grid((252, 336), 14)
    (18, 24)
    """
    return tuple(max(1, round(side / patch)) for side in size)


def on_patches(labels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Labels (H, W) of a photo, resized to ``FINE`` pixels per patch: (4h, 4w)."""
    size = (grid[1] * FINE, grid[0] * FINE)
    return cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT)


def held_out_answers(photos: Photos, count: int, folds: int = FOLDS) -> Iterator[np.ndarray]:
    """What readouts that learnt from other photos answer on each photo, in their order.

    Args:
        photos: gives the photos anew each time that it is called, always in the same order: their
            features (D, h, w) and their labels (4h, 4w) uint8, 0 to ``count`` - 1 or 255.
        count: number of labels, background included.

    Yields:
        (count, 4h, 4w) float32: scores, about 1 for the label of a pixel and 0 for others.
    """
    readouts = None
    for position, (features, labels) in enumerate(photos()):
        readouts = readouts or HeldOutReadouts(len(features), count, folds)
        shares = label_shares(torch.from_numpy(labels), features.shape[1:], count)
        readouts.add(features.flatten(1).T, shares, position % folds)
    if readouts is None:
        return
    readouts.fit()
    for position, (features, _) in enumerate(photos()):
        scores = readouts(features.flatten(1).T, position % folds).T
        grid = features.shape[1:]
        enlarged = resize_maps(scores.unflatten(1, grid)[None], tuple(FINE * n for n in grid))
        yield enlarged[0].numpy()


def label_shares(labels: Tensor, grid: tuple[int, int], count: int) -> Tensor:
    """The share of each label in each patch.

    Args:
        labels: (n * h, n * w) uint8, each patch n x n pixels; 255 belongs to no label.
        grid: (h, w).
        count: number of labels; they are 0 to ``count`` - 1.

    Returns:
        (h * w, count) float32.

    >>> label_shares(torch.tensor([[0, 1], [1, 1]], dtype=torch.uint8), (1, 1), 2).tolist()
    [[0.25, 0.75]]
    """
    known = labels != IGNORE
    of_label = F.one_hot(labels.long() * known, count).float() * known[..., None]
    h, w = grid
    blocks = of_label.reshape(h, labels.shape[0] // h, w, labels.shape[1] // w, count)
    return blocks.mean(dim=(1, 3)).flatten(0, 1)


class HeldOutReadouts:
    """One readout per fold, from features of ``width`` values to ``count`` labels.

    Call :meth:`add` for every photo, then :meth:`fit` once, then the object itself.

    >>> readouts = HeldOutReadouts(2, 2, folds=2)
    >>> for fold in range(2):
    ...     readouts.add(torch.eye(2), torch.eye(2), fold)
    >>> readouts.fit()
    >>> readouts(torch.eye(2), 0).argmax(dim=1).tolist()
    [0, 1]
    """

    def __init__(self, width: int, count: int, folds: int) -> None:
        self._squares = torch.zeros(folds, width + 1, width + 1, dtype=torch.float64)
        self._products = torch.zeros(folds, width + 1, count, dtype=torch.float64)
        self._weights: Tensor | None = None

    def add(self, features: Tensor, shares: Tensor, fold: int) -> None:
        """Learn from a photo: features (N, D) and shares of the labels (N, count) of its patches.

        Its answers must be asked for with the same ``fold``. Patches without a label do not count.
        """
        inputs = _inputs(features)
        self._squares[fold] += ((inputs * shares.sum(1, keepdim=True)).T @ inputs).double()
        self._products[fold] += (inputs.T @ shares).double()

    def fit(self) -> None:
        """Fit the readout of each fold to the photos of all other folds."""
        squares = self._squares.sum(0) - self._squares
        products = self._products.sum(0) - self._products
        size = squares.diagonal(dim1=1, dim2=2)[:, :-1].mean(1)
        penalty = torch.full((squares.shape[-1],), RIDGE, dtype=torch.float64)
        penalty[-1] = 0  # the constant
        damping = torch.diag_embed(penalty * size[:, None] + TINY)
        self._weights = torch.linalg.solve(squares + damping, products).float()

    def __call__(self, features: Tensor, fold: int) -> Tensor:
        """Scores (N, count) of patches (N, D) of a photo of this fold: about 1 for their label."""
        if self._weights is None:
            raise RuntimeError("The readouts are not fitted: call fit() first.")
        return _inputs(features) @ self._weights[fold]


def _inputs(features: Tensor) -> Tensor:
    """Features of one length, and a constant: (N, D) to (N, D + 1)."""
    scaled = F.normalize(features.float(), dim=1) * features.shape[1] ** 0.5
    return torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1)
