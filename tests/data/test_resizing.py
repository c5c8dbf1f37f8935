"""Probabilities enlarged without torch: as torch enlarges them, in strips of little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from getam.data import resizing
from getam.data.resizing import enlarged, enlarged_argmax
from getam.data.transforms import resize_maps

SIZES = ((31, 50), (6, 9), (200, 7), (1, 1), (3, 90))  # larger, the same, smaller


def grids(*sizes: tuple[int, int]) -> list[np.ndarray]:
    """Probabilities of 7 classes at each size."""
    draw = np.random.default_rng(1)
    drawn = [draw.random((7, *size), dtype=np.float32) for size in sizes]
    return [one / one.sum(0) for one in drawn]


def by_torch(of: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    wholes = [resize_maps(torch.from_numpy(grid)[None], size)[0].numpy() for grid in of]
    return np.mean(wholes, axis=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scales", [((6, 9),), ((6, 9), (12, 18))])
def test_probabilities_are_enlarged_as_torch_does(scales, size):
    of = grids(*scales)
    np.testing.assert_allclose(enlarged(of, size), by_torch(of, size), atol=1e-5)


@pytest.mark.parametrize("strip", [1, 100, 1 << 18])
def test_strips_change_no_value(monkeypatch, strip):
    of = grids((6, 9), (12, 18))
    values, labels = enlarged(of, (31, 50)), enlarged_argmax(of, (31, 50))
    monkeypatch.setattr(resizing, "STRIP", strip)
    np.testing.assert_array_equal(enlarged(of, (31, 50)), values)
    np.testing.assert_array_equal(enlarged_argmax(of, (31, 50)), labels)


def test_labels_are_those_of_torch_but_for_rare_ties():
    of = grids((60, 80), (90, 120))
    expected = by_torch(of, (750, 1000)).argmax(0)
    assert (enlarged_argmax(of, (750, 1000)) == expected).mean() > 0.9999


def test_labels_of_a_large_photo_need_no_array_of_numbers_at_its_size():
    of = grids((30, 40))
    tracemalloc.start()
    enlarged_argmax(of, (1500, 2000))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10e6, "3 MB of labels; one float32 for each pixel are 12 MB"
