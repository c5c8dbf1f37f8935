"""Final masks: how the labels of a photo decide between the answers of the network."""

from __future__ import annotations

import numpy as np
import pytest

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
