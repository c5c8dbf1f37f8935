"""A Gaussian filter over points with several features, by a permutohedral lattice.

Adams, Baek & Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice". For d
features the lattice lies in the plane of those d+1 coordinates whose sum is 0. Each point lies in
a simplex with d+1 vertices, and is a weighted mean of them. The filter adds the values of the
points to the vertices, blurs them along each of the d+1 directions with the kernel (1/2, 1, 1/2),
and reads the points back.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["GaussianFilter"]

_FACTOR = 0x9E3779B97F4A7C15  # odd; its powers are the factors of the coordinates in a code
_BLOCK = 1 << 18  # points that are located at a time, to bound the memory
_TINY = 1e-20


class GaussianFilter:
    """Multiplies values by the kernel ``exp(-|f_i - f_j|^2 / 2)`` of points i and j.

    This is an approximation. The kernel K is normalised on both sides: ``D^-1/2 K D^-1/2``, where
    D holds the sums of its rows.

    Args:
        features: (d, N) float32, the features f of N points. A distance of 1 is one standard
            deviation.
    """

    def __init__(self, features: np.ndarray) -> None:
        codes, weights = _located(features)
        # An entry is a vertex of a point. Sorted, the entries of one vertex follow each other.
        entries = np.argsort(codes, axis=None)
        codes = codes.ravel()[entries]
        is_first = np.concatenate([[True], codes[1:] != codes[:-1]])
        first = np.flatnonzero(is_first)
        codes = codes[first]
        vertices = np.empty(weights.size, np.int32)
        vertices[entries] = np.cumsum(is_first, dtype=np.int32) - 1
        self._vertices = _tensor(vertices.reshape(weights.shape).T)
        self._read_weights = _tensor(weights.T)
        self._first = _tensor(first.astype(np.int32))
        self._add_weights = _tensor(weights.ravel()[entries])
        entries %= features.shape[1]
        self._points = _tensor(entries.astype(np.int32))
        self._neighbours = [_neighbours(codes, step) for step in _steps(len(weights))]
        self._kernel = torch.tensor([1, 0.5, 0.5]).expand(len(codes), 3).contiguous()
        self._normalise()

    def _normalise(self) -> None:
        scale = (self(torch.ones(len(self._vertices), 1)) + _TINY).rsqrt_()
        self._add_weights *= scale[self._points, 0]
        self._read_weights *= scale

    def __call__(self, values: Tensor) -> Tensor:
        """Filter values (N, K) float32, each of the K columns by itself; the result is (N, K)."""
        vertices = _sums(values, self._points, self._add_weights, self._first)
        for neighbours in self._neighbours:  # the row after the last: vertices that are missing
            vertices = _sums(F.pad(vertices, (0, 0, 0, 1)), neighbours, self._kernel)
        return _sums(vertices, self._vertices, self._read_weights)


def _sums(rows: Tensor, which: Tensor, weights: Tensor, first: Tensor | None = None) -> Tensor:
    """Add up rows with weights: the groups are the rows of `which`, or begin at `first`."""
    return F.embedding_bag(which, rows, first, mode="sum", per_sample_weights=weights)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _neighbours(codes: np.ndarray, step: np.int64) -> Tensor:
    """(M, 3): each vertex, and the two beside it in one direction; M where there is none.

    Args:
        codes: (M,), of all vertices, ascending.
        step: the difference between the code of a vertex and that of the next.
    """
    count = len(codes)
    found = np.full((count, 3), count, np.int32)
    found[:, 0] = np.arange(count)
    at = np.searchsorted(codes, codes + step)
    at[at == count] = 0
    known = np.flatnonzero(codes[at] == codes + step)
    found[known, 1] = at[known]
    found[at[known], 2] = known
    return torch.from_numpy(found)


def _located(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (int64) and weights (float32) of the vertices of N points, both (d+1, N).

    A code is linear in the coordinates of a vertex, modulo 2^64. So the codes of neighbours differ
    by a constant, and different vertices have the same code by chance only (2^-64 per pair).
    """
    shape = (len(features) + 1, features.shape[1])
    codes, weights = np.empty(shape, np.int64), np.empty(shape, np.float32)
    for begin in range(0, shape[1], _BLOCK):
        block = slice(begin, begin + _BLOCK)
        codes[:, block], weights[:, block] = _simplices(features[:, block])
    return codes, weights


def _simplices(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = len(features) + 1
    origin, rest = _origins(_basis(len(features)) @ features)
    order = np.argsort(-rest, axis=0, kind="stable")  # the largest coordinate first
    rest = np.take_along_axis(rest, order, axis=0) / np.float32(sides)
    weights = np.empty_like(rest)
    weights[0] = 1 + rest[-1] - rest[0]
    weights[1:] = (rest[:-1] - rest[1:])[::-1]
    # From one vertex to the next, all coordinates grow by 1, and one of them shrinks by d+1: first
    # that of the smallest rest, then that of the second smallest, and so on.
    codes = np.empty(order.shape, np.int64)
    codes[0] = _coordinate_factors(sides) @ origin.astype(np.int64)
    codes[1:] = _steps(sides)[order[:0:-1]]
    return np.cumsum(codes, axis=0), weights


def _coordinate_factors(sides: int) -> np.ndarray:
    """Of the coordinates in a code. The last is 0: that coordinate follows from the others."""
    powers = [pow(_FACTOR, power, 1 << 64) for power in range(1, sides)]
    return np.array([*powers, 0], np.uint64).astype(np.int64)


def _steps(sides: int) -> np.ndarray:
    """What is added to a code from a vertex to the next in each of the d+1 directions."""
    factors = _coordinate_factors(sides)
    return factors.sum() - sides * factors


def _basis(dimensions: int) -> np.ndarray:
    """(d+1, d): maps features to the plane, scaled so that the filter has standard deviation 1."""
    column, row = np.arange(1, dimensions + 1), np.arange(dimensions + 1)[:, None]
    directions = np.where(row < column, 1, np.where(row == column, -column, 0))
    lengths = np.sqrt(column * (column + 1))
    return (directions / lengths * math.sqrt(2 / 3) * (dimensions + 1)).astype(np.float32)


def _origins(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first vertex of the simplex of each point, and the place of the point relative to it.

    The coordinates of a first vertex are multiples of d+1. Rounding finds multiples whose sum need
    not be 0. The coordinates that were rounded most are corrected by d+1, until the sum is 0.
    """
    sides = np.float32(len(places))
    origin = np.rint(places / sides) * sides
    rest = places - origin
    excess = np.rint(origin.sum(axis=0) / sides).astype(np.int8)
    ranks = _ranks(rest) + excess
    wrap = ((ranks < 0).astype(np.int8) - (ranks >= sides)) * sides
    return origin + wrap, rest - wrap


def _ranks(rows: np.ndarray) -> np.ndarray:
    """(R, N) int8: how many values of the column are larger (of equals: stand before)."""
    ranks = np.zeros(rows.shape, np.int8)
    for i in range(len(rows)):
        for j in range(i):
            later = rows[i] > rows[j]
            ranks[j] += later
            ranks[i] += ~later
    return ranks
