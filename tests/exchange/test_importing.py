"""What may be wrong with a tool's file: one sentence each, and nothing is written."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from getam.data.masks import read_mask
from getam.data.palette import write_label_png
from getam.errors import UserError
from getam.exchange.batch import Batch
from getam.exchange.copies import PhotoNames
from getam.exchange.importing import class_names, photos_of
from getam.exchange.voc_masks import label_map, write_voc
from tests.exchange.conftest import CLASSES, TURNED, assert_same, refused

ONE = "zebra_01"
SIZE = (37, 53)


def coco(tmp_path, photos, shapes, names=CLASSES):
    """A COCO file of photos (name, size) and shapes (photo, class, outline)."""
    content = {
        "images": [
            {"id": n, "file_name": name, "height": size[0], "width": size[1]}
            for n, (name, size) in enumerate(photos)
        ],
        "annotations": [
            {"id": n, "image_id": photo, "category_id": names.index(name), "segmentation": outline}
            for n, (photo, name, outline) in enumerate(shapes)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    return tmp_path / "coco.json"


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


WHOLE = box(0, 0, 53, 37)


def test_unknown_classes_are_all_named_with_the_known_ones_and_the_remedy(own, tmp_path):
    names = (*CLASSES, "Zebras", "lorry")
    shapes = [(0, "Zebras", WHOLE), (0, "lorry", WHOLE), (0, "ant", WHOLE)]
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], shapes, names)
    told = refused(own, "coco", file, tmp_path, "'Zebras', 'lorry'", *CLASSES)
    assert "--rename Zebras=zebra (" in told


def test_renamed_classes_are_those_of_the_data_set(own, tmp_path):
    names = ("Zebras", "sky", "blurred")
    shapes = [(0, "Zebras", WHOLE), (0, "sky", box(0, 0, 9, 9)), (0, "blurred", box(9, 9, 12, 12))]
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], shapes, names)
    renamed = ("Zebras=zebra", "sky=background", "blurred=ignored")
    own.bring("coco", file, tmp_path / "back", *renamed)
    mask = read_mask(tmp_path / "back" / f"{ONE}.png")
    assert (mask[:9, :9] == 0).all()
    assert (mask[9:12, 9:12] == 255).all()
    assert (mask[12:] == 1).all()


@pytest.mark.parametrize(
    ("text", "part"), [("a=lion", "no class 'lion'"), ("zebra", "OLD=NEW"), ("=ant", "OLD=NEW")]
)
def test_wrong_renaming_is_refused(own, text, part):
    with pytest.raises(UserError, match=part):
        class_names(own.data, [text])


def test_unknown_class_that_no_shape_has_does_no_harm(own, tmp_path):
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)], (*CLASSES, "person"))
    assert own.bring("coco", file, tmp_path / "back").ids == [ONE]


def test_photo_that_is_not_in_the_data_set(own, tmp_path):
    photos = [("zebra_01.jpg", SIZE), ("lion_7.jpg", SIZE), ("x.jpg", SIZE)]
    file = coco(tmp_path, photos, [(n, "ant", WHOLE) for n in range(3)])
    refused(own, "coco", file, tmp_path, "'lion_7.jpg'", "2 such names", "--only", "--config")
    own.bring("coco", file, tmp_path / "back", only=[ONE])
    assert {p.name for p in (tmp_path / "back").glob("*.png")} == {f"{ONE}.png"}


def test_mask_of_a_resized_photo(own, tmp_path):
    file = coco(tmp_path, [("zebra_01.jpg", (74, 106))], [(0, "ant", WHOLE)])
    refused(own, "coco", file, tmp_path, ONE, "106 x 74", "53 x 37", "own size")


def test_mask_of_a_photo_that_the_tool_did_not_turn_upright(own, tmp_path):
    upright = own.masks["café_01"].shape
    file = coco(tmp_path, [(TURNED, upright[::-1])], [(0, "ant", WHOLE)])
    refused(own, "coco", file, tmp_path, "café_01", "64 x 48", "48 x 64", "EXIF", "copies")
    file = coco(tmp_path, [("zebra_01.jpg", SIZE[::-1])], [(0, "ant", WHOLE)])
    assert "EXIF" not in refused(own, "coco", file, tmp_path, "37 x 53")


def test_two_masks_of_one_photo(own, tmp_path):
    photos = [("zebra_01.jpg", SIZE), ("zebra/01.jpg", SIZE)]
    file = coco(tmp_path, photos, [(0, "ant", WHOLE), (1, "ant", WHOLE)])
    refused(own, "coco", file, tmp_path, "second mask", ONE, "zebra/01.jpg")


def test_crowd_of_cvat_is_a_shape_like_any_other(own, tmp_path):
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    told = file.read_text().replace('"segmentation"', '"iscrowd": 1, "segmentation"')
    assert "iscrowd" in told
    file.write_text(told)
    own.bring("coco", file, tmp_path / "back")
    assert (read_mask(tmp_path / "back" / f"{ONE}.png") == 4).all()


def test_later_shape_wins_and_the_overlap_is_told(own, tmp_path):
    shapes = [(0, "ant", WHOLE), (0, "zebra", box(0, 0, 5, 5))]
    file = coco(tmp_path, [("zebra_01.jpg", SIZE), ("ant_03.webp", (50, 50))], shapes)
    done = own.bring("coco", file, tmp_path / "back")
    mask = read_mask(tmp_path / "back" / f"{ONE}.png")
    assert (mask[:5, :5] == 1).all()
    assert (mask[5:] == 4).all()
    assert any("overlap" in note and note.startswith("1 photo has") for note in done.notes)
    assert any("1 photo is not annotated, 'ant_03' first" in note for note in done.notes)


def test_shapes_of_one_class_that_overlap_are_no_overlap(own, tmp_path):
    shapes = [(0, "ant", WHOLE), (0, "ant", box(0, 0, 5, 5))]
    done = own.bring("coco", coco(tmp_path, [("zebra_01.jpg", SIZE)], shapes), tmp_path / "back")
    assert not any("overlap" in note for note in done.notes)


def test_photo_without_shapes_is_left_out_or_background(own, tmp_path):
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [])
    refused(
        own, "coco", file, tmp_path, "none of its photos is annotated (1 in all)", "--unannotated"
    )
    own.bring("coco", file, tmp_path / "back", as_background=True)
    assert not read_mask(tmp_path / "back" / f"{ONE}.png").any()


def test_box_without_an_outline(own, tmp_path):
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", [])])
    refused(own, "coco", file, tmp_path, "zebra_01.jpg", "'ant'", "no outline")


@pytest.mark.parametrize("content", ["{}", "[]", '{"images": 1}', "no json", '{"images": [], "a'])
def test_file_of_another_kind(own, tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    refused(own, "coco", tmp_path / "x.json", tmp_path, "x.json", "again")
    if content != "[]":
        refused(own, "label-studio", tmp_path / "x.json", tmp_path, "x.json", "again")


def test_missing_file_archive_or_folder(own, tmp_path):
    for kind in ("coco", "voc", "cvat", "label-studio"):
        refused(own, kind, tmp_path / "none.zip", tmp_path, "none.zip", "no such file")
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    refused(own, "cvat", tmp_path / "broken.zip", tmp_path, "broken.zip", "cannot unpack")
    (tmp_path / "empty").mkdir()
    refused(own, "cvat", tmp_path / "empty", tmp_path, "Segmentation mask 1.1")
    refused(own, "coco", tmp_path / "empty", tmp_path, "annotations/*.json")


def test_archive_with_damaged_data_is_one_sentence(own, tmp_path):
    """Its directory is whole, and what is packed is not: zlib says so, not zipfile."""
    file = tmp_path / "damaged.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(range(256)) * 50)
    content = bytearray(file.read_bytes())
    content[31:60] = b"\xff" * 29  # behind the header of 30 bytes and the name
    file.write_bytes(content)
    refused(own, "cvat", file, tmp_path, "damaged.zip", "cannot unpack")


def test_archive_that_leaves_its_folder_stays_inside(own, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../outside.txt", "x")
    refused(own, "voc", tmp_path / "a.zip", tmp_path)
    assert not (tmp_path.parent / "outside.txt").exists()


@pytest.fixture
def voc(own, tmp_path):
    write_voc(own.batch(with_photos=False), tmp_path / "voc")
    return tmp_path / "voc"


def test_colour_that_is_not_declared(own, voc, tmp_path):
    file = voc / "SegmentationClass" / f"{ONE}.png"
    image = Image.open(file).convert("RGB")
    image.putpixel((3, 2), (64, 0, 0))  # as an editor smooths an edge
    image.save(file)
    refused(own, "voc", voc, tmp_path, f"{ONE}.png", "64,0,0", "labelmap.txt", "smooth")


def test_missing_or_wrong_label_map(own, voc, tmp_path):
    (voc / "labelmap.txt").write_text("zebra:red::\n")
    refused(own, "voc", voc, tmp_path, "labelmap.txt, line 1", "name:R,G,B")
    (voc / "labelmap.txt").unlink()
    refused(own, "voc", voc, tmp_path, "labelmap.txt", "missing")


def test_grey_masks_have_the_numbers_of_the_lines(own, voc, tmp_path):
    (voc / "labelmap.txt").write_text("background:::\nant:::\nzebra:::\n")
    for file in (voc / "SegmentationClass").iterdir():
        file.unlink()
    grey = np.zeros(SIZE, np.uint8)
    grey[:5], grey[5:9], grey[9:12] = 1, 2, 255
    Image.fromarray(grey).save(voc / "SegmentationClass" / f"{ONE}.png")
    own.bring("voc", voc, tmp_path / "back")
    mask = read_mask(tmp_path / "back" / f"{ONE}.png")
    assert [mask[0, 0], mask[6, 0], mask[10, 0], mask[20, 0]] == [4, 1, 255, 0]


def test_listed_photo_without_a_mask_is_not_annotated(own, voc, tmp_path):
    (voc / "SegmentationClass" / f"{ONE}.png").unlink()
    done = own.bring("voc", voc, tmp_path / "back")
    assert any(f"1 photo is not annotated, '{ONE}' first" in note for note in done.notes)
    assert_same(tmp_path / "back", own.masks, without=(ONE,))


@pytest.mark.parametrize("name", ["a:b", "#1"])
def test_class_name_that_a_label_map_cannot_have(name):
    with pytest.raises(UserError, match="--format coco or --format label-studio"):
        label_map(["x", name])


def test_sample_is_found_beside_the_file_or_given(own, tmp_path):
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    assert own.bring("coco", file, tmp_path / "none").sample == []
    assert not (tmp_path / "none" / "sample.txt").exists()
    (tmp_path / "list.txt").write_text(f"ant_03\n{ONE}\n")
    done = own.bring("coco", file, tmp_path / "given", sample=tmp_path / "list.txt")
    assert (tmp_path / "given" / "sample.txt").read_text() == f"ant_03\n{ONE}\n"
    assert any("1 of 2 photos of the random sample have no mask yet" in n for n in done.notes)
    (tmp_path / "list.txt").rename(tmp_path / "sample.txt")
    assert own.bring("coco", file, tmp_path / "beside").sample == ["ant_03", ONE]


def test_sample_of_other_photos_is_refused_or_not_taken(own, tmp_path):
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    (tmp_path / "sample.txt").write_text("ant_03\n")
    assert own.bring("coco", file, tmp_path / "other").sample == []
    with pytest.raises(UserError, match="none of the 1 imported masks"):
        own.bring("coco", file, tmp_path / "back", sample=tmp_path / "sample.txt")


def test_mask_in_a_sub_folder_is_replaced_where_it_is(own, tmp_path):
    (tmp_path / "back" / "zebra").mkdir(parents=True)
    write_label_png(tmp_path / "back" / "zebra" / "01.png", np.zeros(SIZE, np.uint8))
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    assert own.bring("coco", file, tmp_path / "back").replaced == 1
    assert not (tmp_path / "back" / f"{ONE}.png").exists()
    assert (read_mask(tmp_path / "back" / "zebra" / "01.png") == 4).all()


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("zebra/01.jpg", "zebra_01"),
        ("/data/upload/3/0123abcd-zebra_01.jpg", "zebra_01"),
        ("images/default/zebra/01.JPG", "zebra_01"),
        ("images\\zebra\\deep er\\02.png", "zebra_deep er_02"),
        ("caf%C3%A9_01.jpg", "café_01"),
        ("cafe\u0301_01.jpg", "café_01"),
        ("ant_v1.2", "ant_v1.2"),
        ("ant_v1.2.jpg", "ant_v1.2"),
        ("01.jpg", None),
    ],
)
def test_names_of_tools_find_their_photos(own, name, image_id):
    found = photos_of(own.data).find(name)
    assert (found and found.id) == image_id


def test_longer_match_of_a_name_wins(own):
    records = photos_of(own.data).records
    short = {"01": records["café_01"], **records}
    names = PhotoNames(())
    names.records = short
    assert names.find("zebra/01.jpg").id == "zebra_01"


def test_values_are_those_of_the_mask_files_also_of_a_subset_of_classes(own, tmp_path):
    subset = type(own).__new__(type(own))
    subset.data, subset.masks, subset.root = own.data.subset(["ant", "zebra"]), {}, own.root
    file = coco(tmp_path, [("zebra_01.jpg", SIZE)], [(0, "ant", WHOLE)])
    done = subset.bring("coco", file, tmp_path / "back")
    assert (read_mask(tmp_path / "back" / f"{ONE}.png") == 4).all()
    assert any("not labelled with" in note for note in done.notes)


def test_nothing_to_export_writes_empty_lists(own, tmp_path):
    write_voc(Batch(own.data.classes, [], "masks"), tmp_path / "voc")
    assert (tmp_path / "voc" / "ImageSets" / "Segmentation" / "default.txt").read_text() == ""
