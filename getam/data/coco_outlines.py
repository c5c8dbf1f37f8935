"""Outlines of COCO annotations, filled: polygons, and run-length encodings.

pycocotools trusts what it is given: it ends the process, or draws elsewhere, where an outline is
not sound. So each outline is checked first.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from getam.data.label_values import IGNORE
from getam.errors import UserError

SHORTEST = 6  # numbers of a polygon: x and y of three points
FARTHEST = 1_000_000  # pixels, of a point of a polygon


def draw_mask(
    annotations: Sequence[dict[str, Any]], size: tuple[int, int], numbers: dict[int, int]
) -> np.ndarray:
    """Annotations of one image as a mask (H, W) uint8; see ``getam.data.coco`` for crowds.

    Raises:
        UserError: pycocotools is not installed, or an outline that is not sound.
    """
    mask = np.zeros(size, np.uint8)
    for annotation in sorted(annotations, key=lambda a: not a.get("iscrowd")):  # stable
        outline = annotation.get("segmentation")
        outline = polygons(outline) if isinstance(outline, list) else outline
        if outline:
            number = IGNORE if annotation.get("iscrowd") else numbers[annotation["category_id"]]
            try:
                mask[filled(outline, size, _pycocotools())] = number
            except (ValueError, TypeError, OverflowError, AttributeError) as error:
                raise UserError(
                    f"data.root: the outline of annotation {annotation.get('id')!r} of image "
                    f"{annotation.get('image_id')!r} cannot be filled ({error}). Mend the "
                    f"annotations."
                ) from None
    return mask


def polygons(outline: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """Those of an outline that enclose anything: x and y of three points or more."""
    return [part for part in outline if len(part) >= SHORTEST and len(part) % 2 == 0]


def misses(parts: Sequence[Sequence[float]], size: tuple[int, int]) -> bool:
    """Whether polygons lie outside an image of (H, W), or are in shares of its sides."""
    points = _points(parts)
    if points is None:
        return False
    low, high = points.min(0), points.max(0)
    inside = (low < (size[1], size[0])).all() and (high > 0).all()
    return not inside or are_shares(parts, size)


def are_shares(parts: Sequence[Sequence[float]], size: tuple[int, int]) -> bool:
    """Whether the numbers of polygons are shares of the sides of an image of (H, W), rather than
    pixels: from 0 to 1, and not all whole, as those of the first pixel are."""
    points = _points(parts)
    if points is None or min(size) <= 1:
        return False
    return bool(points.min() >= 0 and points.max() <= 1 and (points % 1).any())


def _points(parts: Sequence[Sequence[float]]) -> np.ndarray | None:
    """The points (N, 2) of polygons; None if one is no number, which :func:`filled` refuses."""
    try:
        points = np.concatenate([np.array(part, float).reshape(-1, 2) for part in parts])
    except (ValueError, TypeError):
        return None
    return points if np.isfinite(points).all() else None


def _pycocotools() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError(
            "data.kind: coco needs pycocotools, which is not installed: pip install 'getam[coco]'."
        ) from None
    return mask


def filled(outline: Any, size: tuple[int, int], coco: ModuleType) -> np.ndarray:
    """(H, W) bool of polygons, or of a run-length encoding, compressed or not.

    Args:
        size: (H, W) of the photo.
        coco: the module ``pycocotools.mask``.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: a point that is no number or too far
            away, or runs that are not as long together as the photo has pixels. pycocotools would
            crash on these, or fill other pixels.
    """
    if isinstance(outline, list):
        _check_points(outline)
        outline = coco.merge(coco.frPyObjects(outline, *size))
    else:
        _check_runs(outline, size)
        if isinstance(outline["counts"], list):
            outline = coco.frPyObjects(outline, *size)
    return coco.decode(outline).astype(bool)


def _check_points(outline: Sequence[Sequence[float]]) -> None:
    """Raises ValueError or TypeError."""
    for part in outline:
        if not (np.abs(np.array(part, float)) <= FARTHEST).all():
            raise ValueError(f"got a point that is no number, or farther than {FARTHEST} pixels")


def _check_runs(outline: dict[str, Any], size: tuple[int, int]) -> None:
    """Raises ValueError or TypeError."""
    if list(outline["size"]) != list(size):
        raise ValueError(f"got the size {outline['size']} (height, width), expected {list(size)}")
    counts = outline["counts"]
    runs = counts if isinstance(counts, list) else _unpacked(counts)
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise ValueError("got runs that are not as long together as the image has pixels")


def _unpacked(counts: str) -> list[int]:
    """The runs in a compressed text: five bits a sign, each run but the first two relative to that
    before the last."""
    runs: list[int] = []
    value = bits = 0
    for sign in counts.encode():
        part = sign - 48
        if not 0 <= part < 64:
            raise ValueError("got a sign that no run-length encoding has")
        value |= (part & 31) << bits
        bits += 5
        if part & 32:
            continue
        if part & 16:
            value -= 1 << bits
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = bits = 0
    return runs
