"""Does a class map lie on its object? The pointing game and the energy inside the mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from getam.data.label_values import IGNORE

__all__ = ["Inside", "inside_mask"]


class Inside(NamedTuple):
    """Two measures of K maps of a photo. Both are nan for a class that the mask does not show."""

    pointing: np.ndarray  # (K,) float64, 0 to 1
    energy: np.ndarray  # (K,) float64, 0 to 1


def inside_mask(maps: np.ndarray, class_ids: Sequence[int], mask: np.ndarray) -> Inside:
    """Measure how much of each class map M lies inside the mask of its class.

        pointing   1 if the centre of the patch with the highest value of M is inside, else 0; if
                   several patches are equally high, the share of them that is inside
        energy     sum of M inside / sum of M, where each pixel has the value of its patch

    Maps are not interpolated: that would move the highest value towards the border. Pixels with 255
    (ignore) are left out of the sums, and patches whose centre is 255 are not pointed at. A map
    that is 0 everywhere counts as constant.

    Pointing game: Zhang et al. 2016, arXiv 1608.00507 (without its margin of 15 pixels). Energy:
    the "energy-based pointing game" of Score-CAM, Wang et al. 2020, arXiv 1910.01279.

    Args:
        maps: (K, h, w), at least 0, one map for each class, on the patch grid of the photo.
        class_ids: the K label values of the classes, 1..254.
        mask: (H, W) integers; 0 background, class ids, 255 ignore.

    Raises:
        ValueError: a shape does not fit, or a map has NaN or a value below 0.

    >>> maps = np.array([[[3.0, 1.0, 0.0, 9.0]]])
    >>> inside_mask(maps, [1], np.array([[1, 0, 0, 255]]))
    Inside(pointing=array([1.]), energy=array([0.75]))
    """
    maps, mask = np.asarray(maps, dtype=np.float64), np.asarray(mask)
    if maps.ndim != 3 or len(maps) != len(class_ids) or mask.ndim != 2:
        raise ValueError(
            f"Got maps of shape {maps.shape}, {len(class_ids)} class ids and a mask of shape "
            f"{mask.shape}, expected (K, h, w), K and (H, W)."
        )
    if not (maps >= 0).all():
        raise ValueError("Got maps with NaN or values below 0: check the class maps.")
    constant = ~maps.any(axis=(1, 2), keepdims=True)
    maps = maps + constant
    pairs = [*zip(maps, class_ids)]
    return Inside(
        np.array([_pointing(own, mask, label) for own, label in pairs], dtype=np.float64),
        np.array([_energy(own, mask, label) for own, label in pairs], dtype=np.float64),
    )


def _pointing(values: np.ndarray, mask: np.ndarray, label: int) -> float:
    """Of one map (h, w)."""
    rows, columns = (
        ((np.arange(cells) + 0.5) * pixels / cells).astype(int)
        for cells, pixels in zip(values.shape, mask.shape)
    )
    centres = mask[np.ix_(rows, columns)]
    counted = centres != IGNORE
    if not (mask == label).any() or not counted.any():
        return float("nan")
    values, centres = values[counted], centres[counted]
    return float((centres[values == values.max()] == label).mean())


def _energy(values: np.ndarray, mask: np.ndarray, label: int) -> float:
    """Of one map (h, w)."""
    if not (mask == label).any():
        return float("nan")
    rows, columns = (
        ((np.arange(pixels) + 0.5) * cells / pixels).astype(int)
        for cells, pixels in zip(values.shape, mask.shape)
    )
    enlarged = values[np.ix_(rows, columns)]
    total = enlarged[mask != IGNORE].sum()
    return float(enlarged[mask == label].sum() / total) if total else 0.0
