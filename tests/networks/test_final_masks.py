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


def photo(width: int, probabilities: dict[int, list[float]], side: int) -> list[Part]:
    """Tiles of a photo of one row of blocks; the last class id has what the others leave of 1."""
    rows = np.array([probabilities[c] for c in sorted(probabilities)], np.float32)
    whole = np.concatenate([1 - rows.sum(0, keepdims=True), rows])[:, None].repeat(side, 1)
    parts = []
    for tile in tiles((side, width), side):
        grid = whole[:, :, tile.window[1]]
        parts.append(Part(tile, np.full((*grid.shape[1:], 3), 128, np.uint8), [grid]))
    return parts


def known(parts: list[Part], classes: list[int]) -> list[int]:
    size = (parts[0].image.shape[0], parts[-1].tile.window[1].stop)
    return label_parts(parts, size, classes, present=True)[0].tolist()


HAT, TROUSERS = 1, 2


def test_a_class_that_is_sure_nowhere_gets_the_pixels_where_it_is_seen_most():
    seen = {HAT: [0.3] * 4 + [0.02] * 12, TROUSERS: [0.0] * 8 + [0.9] * 8}
    parts = photo(16, seen, side=16)
    assert label_parts(parts, (16, 16), [HAT, TROUSERS])[0].tolist() == [0] * 8 + [TROUSERS] * 8
    assert known(parts, [HAT, TROUSERS]) == [HAT] * 4 + [0] * 4 + [TROUSERS] * 8


def test_a_class_that_is_sure_somewhere_stays_as_it_is():
    parts = photo(16, {HAT: [0.0] * 16, TROUSERS: [0.99] * 4 + [0.45] * 4 + [0.0] * 8}, side=16)
    assert known(parts, [TROUSERS]) == [TROUSERS] * 4 + [0] * 12


def test_a_class_that_is_seen_nowhere_gets_nothing():
    assert known(photo(16, {HAT: [0.02] * 16, TROUSERS: [0.0] * 16}, side=16), [HAT]) == [0] * 16


def test_a_class_is_raised_by_what_all_tiles_together_show():
    seen = {HAT: [0.3] * 8 + [0.0] * 24, TROUSERS: [0.3] * 16 + [0.95] * 16}
    seen[TROUSERS][:8] = [0.0] * 8
    parts = photo(32, seen, side=16)
    assert len(parts) > 1
    assert known(parts, [HAT, TROUSERS]) == [HAT] * 8 + [0] * 8 + [TROUSERS] * 16


def test_each_scale_is_raised_by_itself():
    (part,) = photo(16, {HAT: [0.3] * 4 + [0.02] * 12, TROUSERS: [0.0] * 16}, side=16)
    twice = part._replace(grids=[part.grids[0], part.grids[0].repeat(2, 1).repeat(2, 2)])
    assert known([twice], [HAT]) == [HAT] * 4 + [0] * 12
