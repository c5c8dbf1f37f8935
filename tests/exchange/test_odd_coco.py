"""COCO files of converters and by hand: refused, where they could silently mean another mask."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from getam.data.coco import read_instances
from getam.errors import UserError
from getam.exchange.importing import class_names
from tests.exchange.conftest import refused
from tests.exchange.test_importing import SIZE, WHOLE, box, coco

PHOTO = ("zebra_01.jpg", SIZE)
SHORT = {"size": [*SIZE], "counts": [5, 5]}


@pytest.mark.parametrize(
    ("outline", "part"),
    [
        ([[1, 1, 8, 1]], "no outline"),
        ([[1, 1, 8, None, 8, 8]], "no number"),
        ([[1, 1, 8, float("nan"), 8, 8]], "no number"),
        ([[1, 1, 8, float("inf"), 8, 8]], "no number"),
        ([[1, 1, 8, 1e30, 8, 8]], "farther than"),
        (SHORT, "as long together"),
    ],
)
def test_an_outline_that_cannot_be_filled_is_no_background(own, tmp_path, outline, part):
    file = coco(tmp_path, [PHOTO], [(0, "ant", outline)])
    refused(own, "coco", file, tmp_path, part)


def test_a_spare_click_beside_a_polygon_does_no_harm(own, tmp_path):
    file = coco(tmp_path, [PHOTO], [(0, "ant", [*WHOLE, [3, 3]])])
    assert own.bring("coco", file, tmp_path / "back").ids == ["zebra_01"]


@pytest.mark.parametrize("size", [(0, 54), (38, 0), (0, 0), (200_000, 200_000)])
def test_a_size_that_no_photo_has_is_refused(own, tmp_path, size):
    file = coco(tmp_path, [("zebra_01.jpg", size)], [(0, "ant", box(0, 0, 5, 5))])
    refused(own, "coco", file, tmp_path, "a height or width is")


@pytest.mark.parametrize("kind", ["images", "categories"])
def test_an_id_that_two_have_is_refused(own, tmp_path, kind):
    photos = [PHOTO, ("ant_03.webp", (50, 50))]
    file = coco(tmp_path, photos, [(0, "ant", WHOLE)])
    content = json.loads(file.read_text())
    for one in content[kind]:
        one["id"] = 0
    file.write_text(json.dumps(content))
    refused(own, "coco", file, tmp_path, f"{kind} with the id 0")
    with pytest.raises(UserError, match=f"{kind} with the id 0"):
        read_instances(file)


def test_a_part_of_a_polygon_that_is_left_out_is_told(own, tmp_path):
    parts = [*WHOLE, [1, 1, 5, 1, 5, 5, 9]]
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", parts)])
    done = own.bring("coco", file, tmp_path / "back")
    assert any(note.startswith("1 part of a polygon is left out") for note in done.notes)


@pytest.mark.parametrize(
    ("classes", "text", "old", "value"),
    [
        (("size=big", "cat"), "size=size=big", "size", 1),
        (("size=big", "cat"), "a=b=cat", "a=b", 2),
        (("size=big", "cat"), "size=big=ignored", "size=big", 255),
    ],
)
def test_a_class_with_an_equals_sign_can_be_renamed(own, classes, text, old, value):
    assert class_names(replace(own.data, classes=classes), [text]).value(old) == value


def test_outlines_in_shares_of_the_photo_are_no_background(own, tmp_path):
    file = coco(tmp_path, [PHOTO], [(0, "ant", [[0.1, 0.1, 0.6, 0.1, 0.6, 0.6]])])
    refused(own, "coco", file, tmp_path, "numbers from 0 to 1 alone", "expected pixels")


def test_a_photo_whose_shapes_cover_no_pixel_is_not_annotated(own, tmp_path):
    """As one without a shape; the others of the file are imported."""
    photos = [PHOTO, ("ant_03.webp", (50, 50))]
    outside = box(500, 500, 520, 520)
    file = coco(tmp_path, photos, [(0, "ant", WHOLE), (1, "ant", outside)])
    done = own.bring("coco", file, tmp_path / "back")
    assert done.ids == ["zebra_01"]
    assert any(note.startswith("1 shape covers no pixel") for note in done.notes)
    assert any("not annotated, 'ant_03' first: left out" in note for note in done.notes)


def test_a_shape_without_a_pixel_beside_others_is_told(own, tmp_path):
    file = coco(tmp_path, [PHOTO], [(0, "ant", WHOLE), (0, "ant", box(500, 500, 520, 520))])
    done = own.bring("coco", file, tmp_path / "back")
    assert any(note.startswith("1 shape covers no pixel") for note in done.notes)
