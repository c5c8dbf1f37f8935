"""Does a class map lie on its object? The pointing game and the energy inside the mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from getam.data.label_values import IGNORE

__all__ = ["Inside", "inside_mask"]

EQUAL = 1e-6  # relative; values of enlarged maps differ by rounding


class Inside(NamedTuple):
    """Two measures of K maps of a photo. Both are nan for a class that the mask does not show."""

    pointing: np.ndarray  # (K,) float64, 0 to 1
    energy: np.ndarray  # (K,) float64, 0 to 1


def inside_mask(maps: np.ndarray, class_ids: Sequence[int], mask: np.ndarray) -> Inside:
    """Measure how much of each class map M lies inside the mask of its class.

        pointing   1 if the highest value of M is inside, else 0; if several pixels are equally
                   high, the share of them that is inside
        energy     sum of M inside / sum of M

    Pixels with 255 (ignore) are left out of both. A map that is 0 everywhere counts as constant, so
    both measures are the share of the photo's area that shows the class.

    Pointing game: Zhang et al. 2016, arXiv 1608.00507 (without its margin of 15 pixels). Energy:
    the "energy-based pointing game" of Score-CAM, Wang et al. 2020, arXiv 1910.01279.

    Args:
        maps: (K, H, W), at least 0, one map for each class, enlarged to the size of the mask.
        class_ids: the K label values of the classes, 1..254.
        mask: (H, W) integers; 0 background, class ids, 255 ignore.

    Raises:
        ValueError: a shape does not fit, or a map has NaN or a value below 0.

    >>> maps = np.array([[[3.0, 1.0, 0.0, 9.0]]])
    >>> inside_mask(maps, [1], np.array([[1, 0, 0, 255]]))
    Inside(pointing=array([1.]), energy=array([0.75]))
    """
    maps, mask = np.asarray(maps), np.asarray(mask)
    if maps.ndim != 3 or maps.shape != (len(class_ids), *mask.shape):
        raise ValueError(
            f"Got maps of shape {maps.shape}, {len(class_ids)} class ids and a mask of shape "
            f"{mask.shape}, expected (K, H, W), K and (H, W): resize the maps to the mask."
        )
    if not (maps >= 0).all():
        raise ValueError("Got maps with NaN or values below 0: check the class maps.")
    counted = mask != IGNORE
    labels, values = mask[counted], maps[:, counted].astype(np.float64)
    measured = [_inside(own, labels == label) for own, label in zip(values, class_ids)]
    pointing, energy = np.array(measured, dtype=np.float64).reshape(-1, 2).T
    return Inside(pointing, energy)


def _inside(values: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Both measures of one map, of its counted pixels (n,)."""
    if not inside.any():
        return float("nan"), float("nan")
    if not values.any():
        values = np.ones_like(values)
    highest = values >= values.max() * (1 - EQUAL)
    return float(inside[highest].mean()), float(values[inside].sum() / values.sum())
