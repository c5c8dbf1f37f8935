"""What export writes, import reads: exact to the pixel, with ids, names and ignored pixels."""

from __future__ import annotations

import json
import shutil
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from getam.data.images import image_size
from getam.exchange import brush
from getam.exchange.coco_json import write_coco
from getam.exchange.copies import own_name
from getam.exchange.label_studio import write_label_studio
from getam.exchange.polygons import outlines
from getam.exchange.voc_masks import write_cvat, write_voc
from tests.exchange.conftest import CLASSES, PHOTOS, assert_same

EMPTY = "ant_03"  # background alone

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
pixels = arrays(bool, shapes)


@pytest.mark.parametrize("tolerance", [None, 0])
@pytest.mark.parametrize("name", ["coco.json", "coco"])
def test_coco_gives_back_every_pixel(own, tmp_path, tolerance, name):
    pytest.importorskip("pycocotools")
    write_coco(own.batch(), tmp_path / name, tolerance)
    done = own.bring("coco", tmp_path / name, tmp_path / "back", as_background=True)
    assert_same(tmp_path / "back", own.masks)
    assert "taken as background alone" in done.notes[0]


def test_voc_gives_back_every_pixel(own, tmp_path):
    write_voc(own.batch(), tmp_path / "voc")
    done = own.bring("voc", tmp_path / "voc", tmp_path / "back")
    assert [note for note in done.notes if "not labelled with" not in note] == []
    assert_same(tmp_path / "back", own.masks)


def test_cvat_gives_back_every_pixel(own, tmp_path):
    (tmp_path / "cvat").mkdir()
    write_cvat(own.batch(), tmp_path / "cvat")
    own.bring("cvat", tmp_path / "cvat" / "annotations.zip", tmp_path / "back")
    assert_same(tmp_path / "back", own.masks)
    with zipfile.ZipFile(tmp_path / "cvat" / "annotations.zip") as archive:
        for image_id, mask in own.masks.items():  # an object per class, none of background
            objects = np.array(Image.open(archive.open(f"SegmentationObject/{image_id}.png")))
            pairs = {*zip(mask.ravel().tolist(), objects.ravel().tolist())}
            assert len(pairs) == len(np.unique(mask)) == len(np.unique(objects))
            assert dict(pairs).get(0, 0) == 0
    labels = json.loads((tmp_path / "cvat" / "labels.json").read_text())
    assert [label["name"] for label in labels] == [*CLASSES, "ignored"]


def submitted(tasks, **changes):
    """Tasks as Label Studio exports them after someone has submitted each as it was shown."""
    return [
        {"id": n, "data": t["data"], "annotations": [{**t["predictions"][0], **changes}]}
        for n, t in enumerate(tasks)
    ]


def test_label_studio_gives_back_every_pixel(own, tmp_path):
    (tmp_path / "ls").mkdir()
    write_label_studio(own.batch(), tmp_path / "ls")
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    (tmp_path / "out.json").write_text(json.dumps(submitted(tasks)))
    done = own.bring("label-studio", tmp_path / "out.json", tmp_path / "back")
    assert_same(tmp_path / "back", own.masks)
    usual = ("not labelled with", "submitted without a shape, 'ant_03' first")
    assert [note for note in done.notes if not any(part in note for part in usual)] == []
    config = ElementTree.parse(tmp_path / "ls" / "config.xml")
    assert [e.get("value") for e in config.iter("Label")] == [*CLASSES, "ignored"]


@pytest.mark.parametrize("kind", ["voc", "cvat", "label-studio", "coco"])
def test_copies_of_photos_are_upright_and_have_the_size_of_their_masks(own, tmp_path, kind):
    write = {"voc": write_voc, "cvat": write_cvat, "label-studio": write_label_studio}
    place, inner = tmp_path / "out", {"voc": "JPEGImages", "coco": "images/default"}
    place.mkdir()
    write.get(kind, write_coco)(own.batch(), place)
    found = {p.stem: p for p in (place / inner.get(kind, "images")).iterdir()}
    assert found.keys() == own.masks.keys()
    for image_id, photo in found.items():
        with Image.open(photo) as image:
            assert image.format == "JPEG"
            assert image.size[::-1] == own.masks[image_id].shape
        assert image_size(photo) == own.masks[image_id].shape


def test_without_photos_a_folder_has_none(own, tmp_path):
    for name, write in (("voc", write_voc), ("cvat", write_cvat), ("ls", write_label_studio)):
        (tmp_path / name).mkdir()
        write(own.batch(with_photos=False), tmp_path / name)
    write_coco(own.batch(with_photos=False), tmp_path / "coco")
    assert not [*tmp_path.rglob("*.jpg")]


def test_names_without_copies_are_the_paths_of_the_photos(own, tmp_path):
    write_coco(own.batch(), tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    assert {image["file_name"] for image in content["images"]} == set(PHOTOS)
    records = [record for records in own.data.splits.values() for record in records]
    assert {own_name(record) for record in records} == set(PHOTOS)


def test_ignored_is_a_category_only_if_a_pixel_is_ignored(own, tmp_path):
    write_coco(own.batch(), tmp_path / "some.json")
    clean = own.batch()
    photos = [p for p in clean.photos if 255 not in p.read()]
    write_coco(type(clean)(clean.classes, photos, "masks"), tmp_path / "none.json")
    for name, names in (("some", [*CLASSES, "ignored"]), ("none", [*CLASSES])):
        content = json.loads((tmp_path / f"{name}.json").read_text())
        assert [c["name"] for c in content["categories"]] == names


def test_an_archive_in_a_folder_of_its_own_is_read(own, tmp_path):
    write_voc(own.batch(with_photos=False), tmp_path / "made" / "task 7")
    archive = shutil.make_archive(str(tmp_path / "task"), "zip", tmp_path / "made")
    own.bring("cvat", tmp_path / archive, tmp_path / "back")
    assert_same(tmp_path / "back", own.masks)
    with zipfile.ZipFile(archive) as made:
        assert any(name.startswith("task 7/") for name in made.namelist())


@given(pixels)
@settings(deadline=None, max_examples=200)
def test_exact_polygons_fill_exactly_their_pixels(chosen):
    coco = pytest.importorskip("pycocotools.mask")
    made = outlines(chosen)
    assert bool(made) == chosen.any()
    if made:
        filled = coco.decode(coco.merge(coco.frPyObjects(made, *chosen.shape)))
        assert np.array_equal(filled, chosen)


def test_tolerant_polygons_have_fewer_corners_and_stay_near():
    rows, columns = np.ogrid[:60, :60]
    disc = (rows - 30) ** 2 + (columns - 30) ** 2 < 25**2
    exact, smooth = outlines(disc), outlines(disc, 1)
    coco = pytest.importorskip("pycocotools.mask")
    filled = coco.decode(coco.merge(coco.frPyObjects(smooth, 60, 60))).astype(bool)
    assert len(smooth[0]) < len(exact[0]) / 3
    assert (filled & disc).sum() / (filled | disc).sum() > 0.95


@given(pixels)
@settings(deadline=None)
def test_brush_runs_are_lossless(chosen):
    assert np.array_equal(brush.decode(brush.encode(chosen), chosen.shape), chosen)


def test_brush_runs_longer_than_a_length_can_say():
    chosen = np.zeros((300, 400), bool)
    chosen[100:290] = True
    assert np.array_equal(brush.decode(brush.encode(chosen), (300, 400)), chosen)
