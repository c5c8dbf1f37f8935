"""Outlines of a mask as polygons along the edges of its pixels."""

from __future__ import annotations

import cv2
import numpy as np

_SCALE = 2  # with two pixels for one, a contour of pixel centres tells the edges of a pixel apart


def outlines(chosen: np.ndarray, tolerance: float = 0) -> list[list[float]]:
    """Polygons x1, y1, x2, y2 ... that cover exactly the pixels of a mask.

    Coordinates are in pixels, with (0, 0) at the corner of the first pixel. A hole is cut out by a
    seam: the outline goes along a line to the hole, around it, and back on the same line.

    Args:
        chosen: (H, W) bool.
        tolerance: by how many pixels an outline may leave the edges, to have fewer corners. 0: it
            follows every edge.

    >>> outlines(np.array([[False, True, True]]))
    [[1.0, 0.0, 1.0, 1.0, 3.0, 1.0, 3.0, 0.0]]
    """
    large = chosen.astype(np.uint8).repeat(_SCALE, 0).repeat(_SCALE, 1)
    found, tree = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [_simplified((ring[:, 0] + 1) // _SCALE, tolerance) for ring in found]
    polygons = []
    for index, ring in enumerate(rings):
        if len(ring) < 3 or tree[0, index, 3] >= 0:  # too small after simplification, or a hole
            continue
        holes = [rings[n] for n in _children(tree[0], index) if len(rings[n]) >= 3]
        for hole in sorted(holes, key=lambda hole: hole.min(0)[0]):  # from the left
            ring = _with_hole(ring, hole)
        polygons.append(ring.astype(float).ravel().tolist())
    return polygons


def _children(tree: np.ndarray, index: int) -> list[int]:
    """The contours of the holes of a contour; -1 ends each list."""
    found, child = [], tree[index, 2]
    while child >= 0:
        found.append(int(child))
        child = tree[child, 0]
    return found


def _simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """(N, 2) corners without repeated ones, and without those within the tolerance."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(1)]
    if tolerance <= 0 or len(ring) < 3:
        return ring
    return cv2.approxPolyDP(ring.astype(np.int32)[:, None], tolerance, closed=True)[:, 0]


def _with_hole(ring: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """A ring and a hole of it as one ring, joined from the left end of the hole to what is near."""
    inner = hole[:, 0].argmin()
    outer = ((ring - hole[inner]) ** 2).sum(1).argmin()
    around = np.concatenate([hole[inner:], hole[: inner + 1]])
    return np.concatenate([ring[: outer + 1], around, ring[outer:]])
