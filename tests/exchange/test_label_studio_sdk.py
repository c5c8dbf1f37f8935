"""Label Studio's own library: what we write it reads, what it writes we read, to the pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from getam.exchange import brush
from getam.exchange.label_studio import labelling_interface, write_label_studio
from tests.exchange.conftest import CLASSES, assert_same

REASON = "no label-studio-sdk: pip install 'getam[annotation]'"
converter = pytest.importorskip("label_studio_sdk.converter", reason=REASON)
theirs = pytest.importorskip("label_studio_sdk.converter.brush", reason=REASON)

VALUES = {"ignored": 255, **{name: n for n, name in enumerate(CLASSES, 1)}}
pixels = arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20)))


@pytest.fixture
def tasks(own, tmp_path) -> list[dict]:
    (tmp_path / "ls").mkdir()
    write_label_studio(own.batch(), tmp_path / "ls")
    return json.loads((tmp_path / "ls" / "tasks.json").read_text())


@given(pixels)
@settings(deadline=None)
def test_the_sdk_decodes_our_runs(chosen):
    image = theirs.decode_rle(brush.encode(chosen)).reshape(*chosen.shape, 4)
    assert np.array_equal(image, np.where(chosen, 255, 0)[..., None].repeat(4, -1))


@given(pixels)
@settings(deadline=None)
def test_we_decode_the_runs_of_the_sdk(chosen):
    rle = theirs.mask2rle(np.where(chosen, 255, 0).astype(np.uint8))
    assert np.array_equal(brush.decode(rle, chosen.shape), chosen)


def test_long_runs_are_the_same_as_those_of_the_sdk():
    chosen = np.zeros((300, 400), bool)
    chosen[100:290] = True
    image = theirs.decode_rle(brush.encode(chosen)).reshape(300, 400, 4)
    assert np.array_equal(image[..., 3] == 255, chosen)
    rle = theirs.mask2rle(np.where(chosen, 255, 0).astype(np.uint8))
    assert np.array_equal(brush.decode(rle, (300, 400)), chosen)


def test_the_labelling_interface_and_our_tasks_are_valid(tasks):
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(labelling_interface(CLASSES).decode())
    interface.validate()
    assert [*interface.get_control("label").labels] == [*CLASSES, "ignored"]
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert interface.validate_prediction(prediction)


def test_the_converter_reads_our_tasks_to_the_pixel(own, tasks):
    """The converter's arrays of the brush, from our predictions as somebody submits them."""
    for task in tasks:
        ours = own.masks[task["data"]["photo"]]
        made = np.zeros_like(ours)
        for region in task["predictions"][0]["result"]:
            flat = {**region["value"], **region}
            (layer,) = theirs.decode_from_annotation("label", [flat]).values()
            made[layer > 0] = VALUES[region["value"]["brushlabels"][0]]
        assert np.array_equal(made, ours)


def test_the_converter_makes_our_masks_of_a_whole_export(own, tasks, tmp_path):
    export = tmp_path / "export.json"
    export.write_text(json.dumps(with_annotations(tasks)))
    config = tmp_path / "ls" / "config.xml"
    (tmp_path / "arrays").mkdir()
    made = converter.Converter(str(config), str(tmp_path))
    made.convert(str(export), str(tmp_path / "arrays"), "BRUSH_TO_NUMPY", is_dir=False)
    found = {n: np.zeros_like(own.masks[task["data"]["photo"]]) for n, task in enumerate(tasks)}
    for file in (tmp_path / "arrays").glob("*.npy"):
        number, name = int(file.name.split("-")[1]), file.stem.split("-label-")[1]
        found[number][np.load(file) > 0] = VALUES[name.rpartition("-")[0]]
    for n, task in enumerate(tasks):
        assert np.array_equal(found[n], own.masks[task["data"]["photo"]])


def with_annotations(tasks) -> list[dict]:
    return [
        {
            "id": n,
            "data": task["data"],
            "annotations": [
                {
                    "id": n,
                    "completed_by": 1,
                    "was_cancelled": False,
                    "result": task["predictions"][0]["result"],
                }
            ],
        }
        for n, task in enumerate(tasks)
    ]


def test_we_read_annotations_that_the_sdk_made(own, tmp_path):
    """Masks that another program drew with the SDK, of photos that were uploaded by hand."""
    names = {value: name for name, value in VALUES.items()}
    exported = []
    for n, (image_id, mask) in enumerate(own.masks.items()):
        result = [
            {
                "type": "brushlabels",
                "original_width": mask.shape[1],
                "original_height": mask.shape[0],
                "value": {
                    "format": "rle",
                    "rle": theirs.mask2rle(((mask == value) * 255).astype(np.uint8)),
                    "brushlabels": [names[value]],
                },
            }
            for value in np.unique(mask[mask > 0]).tolist()
        ]
        data = {"image": f"/data/upload/7/0a1b2c3d-{image_id}.jpg"}
        exported.append({"id": n, "data": data, "annotations": [{"result": result}]})
    (tmp_path / "export.json").write_text(json.dumps(exported))
    own.bring("label-studio", tmp_path / "export.json", tmp_path / "back")
    assert_same(tmp_path / "back", own.masks)
