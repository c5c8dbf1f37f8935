"""Annotations of COCO whose outline covers no pixel are told before a run."""

from __future__ import annotations

import pytest

from getam.data.check import check
from getam.data.coco import read_coco
from getam.data.coco_outlines import misses
from tests.data.test_coco import change, make_coco


@pytest.mark.parametrize(
    ("outline", "what"),
    [
        ([], "no outline"),
        (None, "no outline"),
        ([[0.1, 0.1, 0.6, 0.1, 0.6, 0.6]], "an outline outside the image"),
        ([[5000, 5000, 5020, 5000, 5020, 5020]], "an outline outside the image"),
    ],
)
def test_annotations_without_a_visible_outline_are_told_before_a_run(tmp_path, outline, what):
    """Their pixels are background in the masks, which a run said only at its end, or never."""
    root, number = make_coco(tmp_path / "coco"), 0

    def edit(content):
        nonlocal number
        for annotation in content["annotations"]:
            if isinstance(annotation["segmentation"], list) and annotation["segmentation"]:
                annotation["segmentation"], number = outline, number + 1

    before = check(read_coco(root), ["train2014", "val2014"])["notes"]
    change(root, edit)
    told = check(read_coco(root), ["train2014", "val2014"])["notes"]
    assert any(f"annotations have {what}" in note and "mIoU" in note for note in told)
    assert len(told) >= len(before)
    assert any(f"json: {number}" in note or "annotations have no outline" in note for note in told)


def test_a_sound_outline_is_not_told_to_be_outside():
    assert not misses([[0, 0, 40, 0, 40, 30]], (48, 64))
    assert not misses([[-5, -5, 10, 0, 10, 10]], (48, 64))
    assert misses([[64, 0, 70, 0, 70, 9]], (48, 64))
    assert not misses([[None, 0, 70, 0, 70, 9]], (48, 64))
