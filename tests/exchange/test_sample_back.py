"""The random sample comes back whole, and an import that is interrupted can be repeated."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from getam.data.corrections import read_corrections
from getam.errors import UserError
from getam.exchange.coco_json import write_coco
from getam.exchange.importing import photos_of
from getam.exchange.label_studio import write_label_studio
from getam.exchange.voc_masks import write_cvat, write_voc
from tests.exchange.conftest import assert_same, refused
from tests.exchange.test_importing import ONE, SIZE, WHOLE, coco

SAMPLE = (ONE, "ant_03", "café_01")
LIST = "".join(f"{image_id}\n" for image_id in SAMPLE)


@pytest.fixture
def part(own, tmp_path):
    """A sample of three tasks of which one was submitted."""
    (tmp_path / "ls").mkdir()
    write_label_studio(own.batch(sample=SAMPLE), tmp_path / "ls")
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    done = []
    for task in tasks:
        if task["data"]["photo"] in SAMPLE:
            submitted = task["predictions"] if task["data"]["photo"] == ONE else []
            done.append({"data": task["data"], "annotations": submitted})
    (tmp_path / "out.json").write_text(json.dumps(done))
    return tmp_path / "out.json"


@pytest.mark.parametrize("only", [None, [ONE]])
def test_tasks_of_the_sample_that_nobody_submitted_belong_to_it(own, part, tmp_path, only):
    """Else the photos that were easy would seem to be drawn at random."""
    done = own.bring("label-studio", part, tmp_path / "back", only=only)
    assert done.ids == [ONE]
    assert {*(tmp_path / "back" / "sample.txt").read_text().splitlines()} == {*SAMPLE}
    assert any("2 of 3 photos of the random sample have no mask yet" in n for n in done.notes)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_import_has_its_lists_and_can_be_repeated(own, tmp_path, monkeypatch, after):
    write_voc(own.batch(sample=SAMPLE), tmp_path / "voc")
    back, placed = tmp_path / "back", []

    def replace(source, target, real=os.replace):
        if str(target).endswith(".png"):
            if len(placed) == after:
                raise KeyboardInterrupt
            placed.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        own.bring("voc", tmp_path / "voc", back)
    monkeypatch.undo()
    assert (back / "sample.txt").read_text() == LIST
    assert (back / "classes.txt").is_file()
    (back / ".import-killed").mkdir()
    shutil.copy(next((tmp_path / "voc").rglob("*.png")), back / ".import-killed")
    own.bring("voc", tmp_path / "voc", back)
    assert_same(back, own.masks)
    found = read_corrections(back, [*own.masks])
    assert found.sample == {*SAMPLE}
    assert found.classes == own.data.classes
    assert not found.notes


def test_a_sample_list_that_does_not_fit_is_refused_before_a_mask_is_replaced(own, tmp_path):
    file, back = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)]), tmp_path / "back"
    own.bring("coco", file, back)
    before = (back / f"{ONE}.png").read_bytes()
    (back / "sample.txt").write_text("nobody\n")
    (tmp_path / "sample.txt").write_text(f"{ONE}\n")
    coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "zebra", WHOLE)])
    with pytest.raises(UserError, match="nobody"):
        own.bring("coco", file, back)
    assert (back / f"{ONE}.png").read_bytes() == before


def test_masks_of_rejected_photos_are_kept_and_said_to_be_unused(own, tmp_path):
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    (tmp_path / "sample.txt").write_text(f"{ONE}\nant_03\n")
    records = photos_of(own.data).records
    left = type(own).__new__(type(own))
    splits = {"train": [r for i, r in records.items() if i != ONE]}
    left.data = own.data.__class__(own.data.root, own.data.classes, splits)
    refused(left, "coco", file, tmp_path, "is no photo of the data set")
    done = left.bring("coco", file, tmp_path / "back", rejected=[records[ONE]])
    assert done.sample == [ONE, "ant_03"]
    assert any("1 mask is of photos that data.review rejects, 'zebra_01'" in n for n in done.notes)


@pytest.mark.parametrize("moved", [False, True])
def test_a_coco_export_finds_its_sample_from_the_file_alone(own, tmp_path, moved):
    pytest.importorskip("pycocotools")
    write_coco(own.batch(sample=SAMPLE), tmp_path / "s1")
    file = tmp_path / "s1" / "annotations" / "instances_default.json"
    if moved:  # the file itself knows it
        file = file.rename(tmp_path / "moved.json")
    else:  # a tool keeps no info
        file.write_text(json.dumps({**json.loads(file.read_text()), "info": {}}))
    done = own.bring("coco", file, tmp_path / "back", as_background=True)
    assert done.sample == [*SAMPLE]


def test_a_sample_list_is_found_in_an_archive_of_the_folder(own, tmp_path):
    write_voc(own.batch(sample=SAMPLE), tmp_path / "up" / "mine")
    file = shutil.make_archive(str(tmp_path / "mine"), "zip", tmp_path / "up")
    assert own.bring("voc", tmp_path / file, tmp_path / "back").sample == [*SAMPLE]


def test_a_list_of_other_photos_beside_the_file_does_not_stop_an_import(own, tmp_path):
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    (tmp_path / "sample.txt").write_text(f"{ONE}\nIMG_4711\n")
    done = own.bring("coco", file, tmp_path / "back")
    assert done.sample == []
    assert any("sample.txt is not taken" in note and "--sample" in note for note in done.notes)
    with pytest.raises(UserError, match="IMG_4711"):
        own.bring("coco", file, tmp_path / "again", sample=tmp_path / "sample.txt")


def test_a_wrong_target_or_list_is_noticed_before_the_file_is_read(own, tmp_path):
    (tmp_path / "file.json").write_text("broken")
    (tmp_path / "back").write_text("a file")
    with pytest.raises(UserError, match="back: got a file, expected a folder"):
        own.bring("coco", tmp_path / "file.json", tmp_path / "back")
    with pytest.raises(UserError, match=r"none\.txt: cannot read this list"):
        own.bring("coco", tmp_path / "file.json", tmp_path / "o", sample=tmp_path / "none.txt")


def test_masks_wait_on_the_disk_of_the_folder_that_gets_them(own, tmp_path, monkeypatch):
    """The folder may be a link to another disk, where no file can be moved to."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "corrections").symlink_to(tmp_path / "disk")
    moved = []

    def replace(source, target, real=os.replace):
        moved.append(os.path.realpath(source))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    own.bring("coco", file, tmp_path / "photos" / "corrections")
    assert moved
    assert all(path.startswith(str(tmp_path / "disk")) for path in moved)


@pytest.mark.parametrize("write", [write_voc, write_cvat, write_label_studio, write_coco])
def test_an_interrupted_export_has_no_mask_without_the_list_of_its_sample(own, tmp_path, write):
    out = tmp_path / "out"
    out.mkdir()

    def broken(photos):
        yield next(iter(photos))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(own.batch(sample=SAMPLE, track=broken), out)
    masks = [path for path in out.rglob("*") if path.suffix in (".png", ".json")]
    assert (out / "sample.txt").is_file() or not masks
