"""An import never replaces photos, and never lets a mask mean another class."""

from __future__ import annotations

import json
import shlex
import zipfile
from dataclasses import replace

import pytest

from getam.data.corrections import read_corrections
from getam.data.masks import read_mask
from getam.errors import UserError
from getam.exchange.label_studio import write_label_studio
from getam.exchange.voc_masks import write_voc
from tests.exchange.conftest import CLASSES, assert_same, refused
from tests.exchange.test_importing import ONE, SIZE, WHOLE, coco


@pytest.mark.parametrize("reverse", [False, True])
def test_exchanged_names_do_not_become_one_class(own, tmp_path, reverse):
    renamed = ["zebra=ant", "ant=zebra"][:: -1 if reverse else 1]
    photos = [("zebra_01.jpg", SIZE), ("ant_03.webp", (50, 50))]
    shapes = [(0, "zebra", WHOLE), (1, "ant", WHOLE)]
    own.bring("coco", coco(tmp_path, photos, shapes), tmp_path / "back", *renamed)
    values = [read_mask(tmp_path / "back" / f"{i}.png")[0, 0] for i in (ONE, "ant_03")]
    assert values == [CLASSES.index("ant") + 1, CLASSES.index("zebra") + 1]


@pytest.mark.parametrize("folder", ["images", "images/zebra", "."])
def test_the_folder_of_the_photos_is_refused(own, tmp_path, folder):
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    before = {p: p.read_bytes() for p in own.root.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="would replace them"):
        own.bring("coco", file, own.root / folder)
    assert {p: p.read_bytes() for p in own.root.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("classes", "part"),
    [
        (("bear", *CLASSES), "value 1 is 'zebra'"),
        (CLASSES[:2], "value 3 is 'café'"),
        ((*CLASSES, "bear"), None),
    ],
)
def test_masks_keep_their_classes_when_the_data_set_gets_another_one(own, tmp_path, classes, part):
    folder = tmp_path / "back"
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    own.bring("coco", file, folder)
    changed = replace(own.data, classes=classes)
    found = read_corrections(folder, [*own.masks])
    assert not found.notes
    if part is None:
        assert changed.with_corrections(found).splits
        return
    with pytest.raises(UserError, match=part):
        changed.with_corrections(found)
    before = (folder / f"{ONE}.png").read_bytes()
    other = type(own).__new__(type(own))
    other.data = changed
    with pytest.raises(UserError, match=part):
        other.bring("coco", file, folder)
    assert (folder / f"{ONE}.png").read_bytes() == before


def test_a_subset_of_the_classes_does_not_change_what_masks_mean(own, tmp_path):
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    own.bring("coco", file, tmp_path / "back")
    found = read_corrections(tmp_path / "back", [*own.masks])
    part = own.data.with_corrections(found).subset(("ant",))
    assert part.read_correction(_record(part, ONE)).max() == 1


def _record(data, image_id):
    return next(r for records in data.splits.values() for r in records if r.id == image_id)


def test_masks_of_which_nobody_wrote_the_classes_are_not_said_to_have_these(own, tmp_path):
    (tmp_path / "back").mkdir()
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    own.bring("coco", file, tmp_path / "back")
    (tmp_path / "back" / "classes.txt").unlink()
    own.bring("coco", file, tmp_path / "back")
    assert not (tmp_path / "back" / "classes.txt").exists()


def test_photos_that_are_not_wanted_may_have_any_shape(own, tmp_path):
    photos = [("zebra_01.jpg", SIZE), ("ant_03.webp", (50, 50)), ("unknown.jpg", (9, 9))]
    shapes = [(0, "ant", WHOLE), (1, "person", WHOLE), (2, "person", WHOLE)]
    file = coco(tmp_path, photos, shapes, (*CLASSES, "person"))
    content = json.loads(file.read_text())
    content["annotations"][1]["segmentation"] = []
    file.write_text(json.dumps(content))
    assert own.bring("coco", file, tmp_path / "back", only=[ONE]).ids == [ONE]
    refused(own, "coco", file, tmp_path / "again", "no outline")


def test_tasks_that_are_not_wanted_may_have_any_shape(own, tmp_path):
    (tmp_path / "ls").mkdir()
    write_label_studio(own.batch(), tmp_path / "ls")
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    done = [{"data": t["data"], "annotations": t["predictions"]} for t in tasks]
    for task in done:
        if task["data"]["photo"] != ONE:
            task["annotations"] = [{"result": [{"type": "rectanglelabels", "value": {}}]}]
    (tmp_path / "out.json").write_text(json.dumps(done))
    file = tmp_path / "out.json"
    assert own.bring("label-studio", file, tmp_path / "back", only=[ONE]).ids == [ONE]


def test_notes_of_a_mac_are_passed_over_in_folders_and_archives(own, tmp_path):
    voc = tmp_path / "voc"
    write_voc(own.batch(), voc)
    (voc / "SegmentationClass" / f"._{ONE}.png").write_bytes(b"a note")
    file = voc / "SegmentationClass" / f"{ONE}.png"
    file.rename(file.with_suffix(".PNG"))
    own.bring("voc", voc, tmp_path / "back")
    assert_same(tmp_path / "back", own.masks)
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as archive:
        for path in voc.rglob("*"):
            archive.write(path, f"mine/{path.relative_to(voc).as_posix()}")
        archive.writestr(f"__MACOSX/mine/SegmentationClass/._{ONE}.png", b"a note")
    own.bring("voc", tmp_path / "mac.zip", tmp_path / "again")
    assert_same(tmp_path / "again", own.masks)


def test_a_message_names_the_archive_and_not_where_it_is_unpacked(own, tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    told = refused(own, "voc", tmp_path / "mine.zip", tmp_path, "mine.zip: got 0 folders")
    assert told.count("tmp") == str(tmp_path).count("tmp")


def test_two_classes_of_one_colour_are_refused(own, tmp_path):
    voc = tmp_path / "voc"
    write_voc(own.batch(), voc)
    lines = (voc / "labelmap.txt").read_text().splitlines()
    same = [f"{line.partition(':')[0]}:128,0,0::" for line in lines[1:]]
    (voc / "labelmap.txt").write_text("\n".join([lines[0], *same]))
    refused(own, "voc", voc, tmp_path, "the same colour 128,0,0")


def test_a_remedy_with_a_quote_can_be_typed(own, tmp_path):
    names = (*CLASSES, "ant's nest")
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant's nest", WHOLE)], names)
    told = refused(own, "coco", file, tmp_path, "--rename")
    words = shlex.split(told[told.index("--rename") :].partition(" (background")[0])
    own.bring("coco", file, tmp_path / "again", words[1])


def test_other_classes_of_a_mask_survive_a_correction_of_a_subset(own, tmp_path):
    """To the tool they were ignored pixels."""
    folder, size = tmp_path / "back", (SIZE[0], SIZE[1])
    left = [[0, 0, 10, 0, 10, size[0], 0, size[0]]]
    right = [[10, 0, 20, 0, 20, size[0], 10, size[0]]]
    photo = [("zebra_01.jpg", SIZE)]
    own.bring("coco", coco(tmp_path, photo, [(0, "café", left), (0, "zebra", right)]), folder)
    before = read_mask(folder / f"{ONE}.png")
    subset = type(own).__new__(type(own))
    subset.data, subset.root = own.data.subset(["ant", "zebra"]), own.root
    shapes = [(0, "ignored", left), (0, "ant", right)]
    file = coco(tmp_path, photo, shapes, names=("ant", "zebra", "ignored"))
    done = subset.bring("coco", file, folder)
    after = read_mask(folder / f"{ONE}.png")
    cafe, ant = CLASSES.index("café") + 1, CLASSES.index("ant") + 1
    assert (before[:, :10] == cafe).all()
    assert (after[:, :10] == cafe).all()
    assert (after[:, 10:20] == ant).all()
    assert any("1 mask keeps what it had before of classes" in note for note in done.notes)
    (folder / f"{ONE}.png").write_bytes(b"broken")  # an import can replace it all the same
    subset.bring("coco", file, folder)
    assert (read_mask(folder / f"{ONE}.png")[:, :10] == 255).all()


def test_a_photo_that_is_there_twice_and_annotated_once_is_annotated(own, tmp_path):
    photos = [("zebra_01.jpg", SIZE), ("zebra_01.jpg", SIZE)]
    done = own.bring("coco", coco(tmp_path, photos, [(1, "ant", WHOLE)]), tmp_path / "back")
    assert done.ids == [ONE]
    assert not any("not annotated" in note for note in done.notes)


@pytest.mark.parametrize("written", ["{}.jpg", "JPEGImages/{}.jpg", "/JPEGImages/{}"])
def test_lists_of_voc_may_have_folders_and_endings(own, tmp_path, written):
    write_voc(own.batch(), tmp_path / "voc")
    listed = tmp_path / "voc" / "ImageSets" / "Segmentation" / "default.txt"
    listed.write_text("".join(f"{written.format(i)}\n" for i in own.masks), encoding="utf-8")
    done = own.bring("voc", tmp_path / "voc", tmp_path / "back")
    assert not any("not annotated" in note for note in done.notes)
    assert_same(tmp_path / "back", own.masks)
