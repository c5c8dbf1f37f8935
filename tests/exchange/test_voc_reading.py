"""Masks of PASCAL VOC that other programs write: greys, palettes, transparency, odd archives."""

from __future__ import annotations

import errno
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from getam.data.masks import read_mask
from getam.errors import UserError
from getam.exchange.voc_masks import label_map, write_voc
from tests.exchange.conftest import assert_same, refused
from tests.exchange.test_importing import ONE, SIZE

BACK = "background:0,0,0::\n"


def voc(tmp_path, lines, pixels, mode=None):
    """A VOC folder with one mask."""
    (tmp_path / "voc" / "SegmentationClass").mkdir(parents=True, exist_ok=True)
    (tmp_path / "voc" / "labelmap.txt").write_text(lines)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels, mode)
    image.save(tmp_path / "voc" / "SegmentationClass" / f"{ONE}.png")
    return tmp_path / "voc"


def grey(*values):
    """A grey mask: rows of each value, the rest 0."""
    pixels = np.zeros(SIZE, np.uint8)
    for row, value in enumerate(values):
        pixels[row] = value
    return pixels


def read(own, tmp_path, *rows):
    own.bring("voc", tmp_path / "voc", tmp_path / "back")
    return [int(read_mask(tmp_path / "back" / f"{ONE}.png")[row, 0]) for row in rows]


def test_grey_values_are_the_greys_that_the_label_map_declares(own, tmp_path):
    voc(tmp_path, f"{BACK}ant:255,255,255::\nzebra:128,128,128::\n", grey(255, 128))
    assert read(own, tmp_path, 0, 1, 2) == [4, 1, 0]


def test_numbers_of_lines_are_read_where_a_line_has_a_grey_too(own, tmp_path):
    """The seventh class of VOC has the colour 128,128,128."""
    voc(tmp_path, f"{BACK}zebra:128,128,128::\nant:0,128,0::\n", grey(2, 1, 255))
    assert read(own, tmp_path, 0, 1, 2, 3) == [4, 1, 255, 0]


def test_white_that_nothing_explains_is_refused(own, tmp_path):
    voc(tmp_path, f"{BACK}ant:128,0,0::\n", grey(255))
    told = refused(own, "voc", tmp_path / "voc", tmp_path, f"{ONE}.png", "0 and 255", "no white")
    assert "ignored:255,255,255::" in told
    voc(tmp_path, f"{BACK}ant:128,0,0::\nignored:255,255,255::\n", grey(255))
    assert read(own, tmp_path, 0, 1) == [255, 0]


@pytest.mark.parametrize("lines", ["ant:128,0,0::\nzebra:0,128,0::\n", "ant\nzebra\n"])
def test_a_label_map_without_background_does_not_shift_the_classes(own, tmp_path, lines):
    voc(tmp_path, lines, grey(1))
    refused(own, "voc", tmp_path / "voc", tmp_path, "labelmap.txt: got 'ant' in the first line")


def test_a_class_in_black_without_background_is_refused(own, tmp_path):
    colours = np.zeros((*SIZE, 3), np.uint8)
    for lines in ("ant\nzebra\n", "ant:0,0,0::\n"):
        voc(tmp_path, lines, colours)
        refused(own, "voc", tmp_path / "voc", tmp_path, "Put the line background:0,0,0::")


def test_colours_need_no_line_of_background(own, tmp_path):
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[0] = 128, 0, 0
    voc(tmp_path, "ant:128,0,0::\n", colours)
    assert read(own, tmp_path, 0, 1) == [4, 0]


@pytest.mark.parametrize("alpha", [0, 20, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_refused_and_opaque_ones_are_read(own, tmp_path, alpha, mode):
    if mode == "P":
        image = Image.fromarray(grey(1))
        image.putpalette([0, 0, 0, 128, 0, 0])
        image.info["transparency"] = bytes([255, alpha])
        pixels, kind = image, None
    else:
        shape = {"RGBA": (128, 0, 0, alpha), "LA": (1, alpha)}[mode]
        pixels, kind = np.zeros((*SIZE, len(shape)), np.uint8), mode
        pixels[..., -1] = 255
        pixels[0] = shape
    voc(tmp_path, f"{BACK}ant:128,0,0::\n", pixels, kind)
    if alpha < 255:
        refused(own, "voc", tmp_path / "voc", tmp_path, f"{ONE}.png", "transparent pixels")
    else:
        assert read(own, tmp_path, 0, 1) == [4, 0]


def test_a_mask_that_is_too_large_is_one_sentence(own, tmp_path, monkeypatch):
    voc(tmp_path, f"{BACK}ant:128,0,0::\n", grey(1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    refused(own, "voc", tmp_path / "voc", tmp_path, f"{ONE}.png: cannot read this mask", "exceeds")


def test_masks_of_another_suffix_are_named(own, tmp_path):
    folder = voc(tmp_path, f"{BACK}ant:128,0,0::\n", grey(1)) / "SegmentationClass"
    Image.fromarray(grey(0)).save(folder / f"{ONE}.tif")
    (folder / "Thumbs.db").write_bytes(b"")
    done = own.bring("voc", tmp_path / "voc", tmp_path / "back")
    note = next(note for note in done.notes if "not read" in note)
    assert note.startswith("1 file is not read")
    assert f"{ONE}.tif first" in note


def test_an_archive_with_names_of_windows_is_read(own, tmp_path):
    write_voc(own.batch(), tmp_path / "voc")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted((tmp_path / "voc").rglob("*")):
            if file.is_file():
                entry = zipfile.ZipInfo("x")
                entry.filename = str(file.relative_to(tmp_path)).replace("/", "\\")
                archive.writestr(entry, file.read_bytes())
    own.bring("voc", tmp_path / "a.zip", tmp_path / "back")
    assert_same(tmp_path / "back", own.masks)


def test_notes_of_a_mac_in_an_unpacked_folder_are_passed_over(own, tmp_path):
    write_voc(own.batch(), tmp_path / "up" / "voc")
    (tmp_path / "up" / "__MACOSX" / "voc" / "SegmentationClass").mkdir(parents=True)
    own.bring("voc", tmp_path / "up", tmp_path / "back")
    assert_same(tmp_path / "back", own.masks)


def test_a_full_temporary_folder_is_named_and_not_the_target(own, tmp_path, monkeypatch):
    write_voc(own.batch(), tmp_path / "voc")
    file = shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "voc")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    told = refused(own, "voc", tmp_path / file, tmp_path, "a.zip: cannot unpack", "TMPDIR")
    assert "back" not in told


def palette(*colours):
    image = Image.fromarray(grey(1, 2))
    image.putpalette([value for colour in colours for value in colour])
    return image


def test_a_palette_in_another_order_does_not_make_another_class(tmp_path):
    red, green, custom = (128, 0, 0), (0, 128, 0), (1, 2, 3)
    file = tmp_path / "mask.png"
    palette((0, 0, 0), green, red).save(file)
    with pytest.raises(UserError, match=r"mask\.png: got the value 1 in the colour"):
        read_mask(file, classes=2)
    for colours in ([(0, 0, 0), red, green, red], [(0, 0, 0), custom, (9, 9, 9)], [(0, 0, 0)] * 3):
        palette(*colours).save(file)
        assert read_mask(file, classes=2)[:3, 0].tolist() == [1, 2, 0]


def test_the_label_map_of_an_export_needs_no_remedy(own, tmp_path):
    voc(tmp_path, label_map(own.data.classes), grey(1, 2, 255))
    assert read(own, tmp_path, 0, 1, 2, 3) == [1, 2, 255, 0]
