"""Final masks: how the labels of a photo decide between the answers of the network."""

from __future__ import annotations

import numpy as np
import pytest

from getam.data.resizing import Second
from getam.networks.tiling import Part, label_parts, tiles

SIDE = 8
COW, DOG, CAT = 1, 2, 3


def labels_of(probabilities: list[float], classes: list[int], crf: dict | None = None) -> int:
    """The label of a photo in which all pixels have these probabilities."""
    grid = np.tile(np.array(probabilities, np.float32)[:, None, None], (1, SIDE, SIDE))
    (tile,) = tiles((SIDE, SIDE), 1000)
    part = Part(tile, np.full((SIDE, SIDE, 3), 128, np.uint8), [grid])
    (label,) = np.unique(label_parts([part], (SIDE, SIDE), classes, crf))
    return int(label)


CRF = {"steps": 2}


@pytest.mark.parametrize("crf", [None, CRF], ids=["plain", "crf"])
@pytest.mark.parametrize(
    ("probabilities", "classes", "label"),
    [
        ([0.3, 0.1, 0.6, 0.0], [COW], COW),  # a cow that looks like a dog is no background
        ([0.6, 0.1, 0.3, 0.0], [COW], 0),  # background stays
        ([0.3, 0.1, 0.5, 0.1], [COW, DOG], DOG),  # the photo has both: the more probable one
        ([0.3, 0.1, 0.0, 0.6], [COW, DOG], COW),  # the more similar one of the classes it has
        ([0.2, 0.2, 0.2, 0.4], [], 0),  # a photo without a class
        ([0.3, 0.0, 0.7, 0.0], [COW, CAT], 0),  # nothing tells which of them it is
    ],
)
def test_what_looks_like_a_class_that_the_photo_has_not_goes_to_its_own(
    probabilities, classes, label, crf
):
    assert labels_of(probabilities, classes, crf) == label


def test_all_classes_are_asked_where_none_is_given():
    assert labels_of([0.3, 0.1, 0.6, 0.0], None) == DOG


def with_pseudo_label(probabilities, classes, pseudo, weight, crf=None):
    """The labels of a photo with a pseudo label, all of whose pixels have these probabilities."""
    grid = np.tile(np.array(probabilities, np.float32)[:, None, None], (1, SIDE, SIDE))
    (tile,) = tiles((SIDE, SIDE), 1000)
    part = Part(tile, np.full((SIDE, SIDE, 3), 128, np.uint8), [grid])
    return label_parts([part], (SIDE, SIDE), classes, crf, second=Second(pseudo, weight))


@pytest.mark.parametrize(
    "crf",
    [None, {"steps": 1, "bilateral_compat": 0.01, "gaussian_compat": 0.01}],
    ids=["plain", "crf"],
)
def test_pseudo_label_adds_to_the_probability_of_its_class(crf):
    """Left half cow, right half background; rows below are not labelled."""
    pseudo = np.zeros((SIDE, SIDE), np.uint8)
    pseudo[:, : SIDE // 2] = COW
    pseudo[SIDE // 2 :] = 255
    sure_cow = with_pseudo_label([0.3, 0.1, 0.6], [COW], pseudo, 0.5, crf)
    assert (sure_cow[0] == [COW] * 4 + [0] * 4).all()  # 0.3 + 0.5 for background is above 0.7
    assert (sure_cow[-1] == COW).all()
    weak = with_pseudo_label([0.2, 0.1, 0.7], [COW], pseudo, 0.5, crf)
    assert (weak == COW).all()  # 0.2 + 0.5 is not above 0.8


def test_pseudo_label_of_a_tile_is_that_of_its_pixels():
    size = (SIDE, 4 * SIDE)
    pseudo = np.zeros(size, np.uint8)
    pseudo[:, 3 * SIDE :] = DOG
    grid = np.tile(np.array([0.4, 0.3, 0.3], np.float32)[:, None, None], (1, 2, 2))
    parts = []
    for tile in tiles(size, 2 * SIDE):
        rows, columns = tile.window
        image = np.full((rows.stop - rows.start, columns.stop - columns.start, 3), 128, np.uint8)
        parts.append(Part(tile, image, [grid]))
    assert len(parts) > 1
    for crf in (None, {"steps": 1, "bilateral_compat": 0.1, "gaussian_compat": 0.1}):
        found = label_parts(parts, size, [COW, DOG], crf, second=Second(pseudo, 1.0))
        assert (found == pseudo).all()


def test_a_large_photo_is_smoothed_with_its_reduced_pseudo_label():
    pseudo = np.zeros((40, 60), np.uint8)
    pseudo[20:] = COW
    grid = np.array([0.5, 0.5], np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    (tile,) = tiles((40, 60), 1000)
    part = Part(tile, np.full((20, 30, 3), 128, np.uint8), [grid])
    crf = {"steps": 1, "bilateral_compat": 0.1, "gaussian_compat": 0.1}
    found = label_parts([part], (40, 60), [COW], crf, second=Second(pseudo, 1.0))
    assert (found != pseudo).mean() < 0.05  # the edge itself is between two working pixels
