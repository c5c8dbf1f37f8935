"""Annotations of COCO whose outline covers no pixel are told before a run."""

from __future__ import annotations

import pytest

from getam.data.check import check
from getam.data.coco import read_coco, read_instances
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
    root, number, total = make_coco(tmp_path / "coco"), 0, 0

    def edit(content):
        nonlocal number, total
        total = len(content["annotations"])
        for annotation in content["annotations"]:
            if isinstance(annotation["segmentation"], list) and annotation["segmentation"]:
                annotation["segmentation"], number = outline, number + 1

    bare, outside = read_instances(root / "annotations" / "instances_train2014.json").invisible()
    before = bare if what == "no outline" else outside
    change(root, edit)
    assert number > 1
    told = f"train2014.json: {before + number} of {total} annotations have {what}"
    assert any(told in note for note in notes_of(root)), (told, notes_of(root))


def notes_of(root):
    return check(read_coco(root), ["train2014", "val2014"])["notes"]


def test_a_sound_outline_is_not_told_to_be_outside():
    assert not misses([[0, 0, 40, 0, 40, 30]], (48, 64))
    assert not misses([[-5, -5, 10, 0, 10, 10]], (48, 64))
    assert misses([[64, 0, 70, 0, 70, 9]], (48, 64))
    assert not misses([[None, 0, 70, 0, 70, 9]], (48, 64))
