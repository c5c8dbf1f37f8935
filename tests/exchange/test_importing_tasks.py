"""What may be wrong with an export of Label Studio, and what its annotations mean."""

from __future__ import annotations

import json

import numpy as np
import pytest

from getam.data.masks import read_mask
from getam.exchange import brush
from getam.exchange.label_studio import write_label_studio
from tests.exchange.conftest import assert_same, refused

ONE = "zebra_01"


@pytest.fixture
def tasks(own, tmp_path):
    (tmp_path / "ls").mkdir()
    write_label_studio(own.batch(sample=(ONE,)), tmp_path / "ls")
    return json.loads((tmp_path / "ls" / "tasks.json").read_text())


def annotated(tmp_path, tasks, annotations):
    done = [{"data": t["data"], "annotations": annotations(t)} for t in tasks]
    (tmp_path / "out.json").write_text(json.dumps(done))
    return tmp_path / "out.json"


def test_tasks_that_nobody_submitted_are_left_out(own, tasks, tmp_path):
    skipped = {"was_cancelled": True, "result": []}
    file = annotated(tmp_path, tasks, lambda task: [skipped])
    refused(
        own,
        "label-studio",
        file,
        tmp_path,
        f"none of its photos is annotated ({len(tasks)} in all)",
    )


def test_submitted_task_without_shapes_is_background(own, tasks, tmp_path):
    file = annotated(tmp_path, tasks[:1], lambda task: [{"result": []}])
    (image_id,) = own.bring("label-studio", file, tmp_path / "back").ids
    assert not read_mask(tmp_path / "back" / f"{image_id}.png").any()


def test_last_of_several_annotations_counts(own, tasks, tmp_path):
    def twice(task):
        new = {"result": task["predictions"][0]["result"], "updated_at": "2024-02-01T00:00:00Z"}
        return [new, {"result": [], "updated_at": "2024-01-31T00:00:00Z"}]

    done = own.bring("label-studio", annotated(tmp_path, tasks, twice), tmp_path / "back")
    assert_same(tmp_path / "back", own.masks)
    assert any("several annotations" in note for note in done.notes)


def test_shape_that_is_no_brush(own, tasks, tmp_path):
    shape = {"type": "polygonlabels", "value": {"points": [], "polygonlabels": ["ant"]}}
    file = annotated(tmp_path, tasks, lambda task: [{"result": [shape]}])
    refused(own, "label-studio", file, tmp_path, "polygonlabels", "brush")


@pytest.mark.parametrize("rle", [[], [0, 0, 0, 4, 56, 1], [1] * 50, [-1, 300], "x"])
def test_broken_runs(own, tasks, tmp_path, rle):
    def broken(task):
        region = json.loads(json.dumps(task["predictions"][0]["result"]))
        for one in region:
            one["value"]["rle"] = rle
        return [{"result": region}]

    file = annotated(tmp_path, [t for t in tasks if t["data"]["photo"] == ONE], broken)
    refused(own, "label-studio", file, tmp_path, "out.json", "again as JSON")


def test_random_sample_comes_back_in_the_tasks_of_label_studio(own, tasks, tmp_path):
    file = annotated(tmp_path, tasks, lambda t: [{"result": t["predictions"][0]["result"]}])
    done = own.bring("label-studio", file, tmp_path / "back")
    assert set(done.sample) == set(own.masks)
    assert set((tmp_path / "back" / "sample.txt").read_text().split("\n")) - {""} == set(own.masks)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"img": "/data/upload/1/0a1b2c3d-zebra_01.jpg", "by": "me"}, None),
        ({"image": "zebra_01", "other": "ant_03.webp"}, None),
        ({"left": "zebra_01.jpg", "right": "ant_03.webp"}, "with 'left', 'right' in its data"),
        ({"text": "words"}, "with 'text' in its data"),
    ],
)
def test_the_address_of_the_photo_may_have_another_name(own, tasks, tmp_path, data, told):
    (task,) = [task for task in tasks if task["data"]["photo"] == ONE]
    file = annotated(tmp_path, [{**task, "data": data}], lambda _: task["predictions"])
    if told:
        refused(own, "label-studio", file, tmp_path, told, "expected the address of one photo")
    else:
        assert own.bring("label-studio", file, tmp_path / "back").ids == [ONE]


# A thin stroke on a photo of 53 x 37 pixels in the page of Label Studio 1.23.2, as it was exported.
STROKE = bytes.fromhex(
    "00001ea4391bff051b008c86307d960119f47211956cb008c8e3808daa303d96011a3c7391a7"
    "6cf008d9639c8db2335d8e01185468b1bd47351b5c66fb1c0230a8d223838d9767804607c4e1"
    "c000"
)


def test_stroke_of_the_page_covers_the_pixels_that_are_at_least_half_opaque():
    drawn = np.argwhere(brush.decode([*STROKE], (37, 53))).tolist()
    assert drawn == [[7, 10], [8, 11], [9, 13], [10, 15], [11, 18], [12, 20]]


def regions(task):
    return json.loads(json.dumps(task["predictions"][0]["result"]))


@pytest.mark.parametrize(
    "value",
    [
        {"type": "polygon", "value": {"points": [[1, 1], [2, 2], [3, 1]]}},
        {"type": "bitmask", "value": {"imageDataURL": "data:image/png;base64,"}},
        {"type": "rectangle", "value": {"x": 1, "y": 1, "width": 5, "height": 5}},
    ],
)
def test_shape_without_a_class_is_not_passed_over(own, tasks, tmp_path, value):
    """It would have become background."""
    file = annotated(tmp_path, tasks, lambda task: [{"result": [*regions(task), value]}])
    refused(own, "label-studio", file, tmp_path, value["type"], "expected shapes that are drawn")


def test_brush_without_a_class_is_named(own, tasks, tmp_path):
    def nameless(task):
        result = regions(task)
        for region in result:
            region["type"] = "brush"
            del region["value"]["brushlabels"]
        return [{"result": result}]

    file = annotated(tmp_path, [t for t in tasks if t["data"]["photo"] == ONE], nameless)
    refused(own, "label-studio", file, tmp_path, ONE, "a shape without a class")


def test_words_and_second_results_of_a_shape_are_no_shapes(own, tasks, tmp_path):
    """The tags Brush and Labels give two results of one id; Choices lie at a region."""

    def more(task):
        result = regions(task)
        plain = json.loads(json.dumps(result))
        for region in plain:
            region["type"] = "brush"
            del region["value"]["brushlabels"]
        for region in result:
            region["value"]["labels"] = region["value"].pop("brushlabels")
            region["type"] = "labels"
        words = [{**r, "type": "choices", "value": {**r["value"], "choices": ["a"]}} for r in plain]
        text = {"type": "textarea", "value": {"text": ["seen"]}}
        return [{"result": [*plain, *result, *words, text, {"type": "relation"}]}]

    own.bring("label-studio", annotated(tmp_path, tasks, more), tmp_path / "back")
    assert_same(tmp_path / "back", own.masks)


def choice(task):
    value = {"choices": ["ant"]}
    return {"type": "choices", "from_name": "kind", "to_name": "image", "value": value}


def test_choices_alone_are_image_level_labels_and_no_masks(own, tasks, tmp_path):
    """They came in as masks that are background everywhere, and would have taught that."""
    file = annotated(tmp_path, tasks, lambda task: [{"result": [choice(task)]}])
    refused(own, "label-studio", file, tmp_path, "image-level labels", "labels.csv")


def test_photos_without_a_shape_are_told_where_others_have_one(own, tasks, tmp_path):
    def half(task):
        shapes = task["predictions"][0]["result"] if task["data"]["photo"] == ONE else []
        return [{"result": [choice(task), *shapes]}]

    done = own.bring("label-studio", annotated(tmp_path, tasks, half), tmp_path / "back")
    bare = len(tasks) - 1
    assert any(
        note.startswith(f"{bare} photo") and "taken as background alone" in note
        for note in done.notes
    ), done.notes


def test_a_remark_on_a_photo_without_a_shape_is_no_label(own, tasks, tmp_path):
    remark = {"type": "textarea", "value": {"text": ["only grass"]}}
    file = annotated(tmp_path, tasks[:2], lambda task: [{"result": [remark]}])
    assert len(own.bring("label-studio", file, tmp_path / "back").ids) == 2


def test_choices_of_some_photos_leave_the_others_as_they_are(own, tasks, tmp_path):
    def half(task):
        return [{"result": [choice(task)] if task["data"]["photo"] == ONE else []}]

    file = annotated(tmp_path, tasks, half)
    assert len(own.bring("label-studio", file, tmp_path / "back").ids) == len(tasks)
