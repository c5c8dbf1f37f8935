"""Upright images: their size from the header alone, and that of their pixels, in all formats."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from getam.data.images import image_size, read_image

LYING = 6  # the EXIF orientation of a camera that was turned by 90 degrees


def photo(path, orientation=LYING):
    """A photo of 6 x 9 pixels with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(path, exif=exif)
    return path


def behind_the_pixels(path):
    """Moves the EXIF of a PNG from before its pixels to behind them, which the format allows."""
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    without, exif = content[:start] + content[end:], content[start:end]
    last = without.index(b"IEND") - 4
    path.write_bytes(without[:last] + exif + without[last:])
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", [1, LYING])
def test_size_is_that_of_the_upright_image(tmp_path, suffix, orientation):
    path = photo(tmp_path / f"a.{suffix}", orientation)
    assert image_size(path) == read_image(path).shape[:2]


def test_exif_behind_the_pixels_of_a_png_counts(tmp_path):
    path = behind_the_pixels(photo(tmp_path / "a.png"))
    assert image_size(path) == read_image(path).shape[:2] == (9, 6)


def test_pixels_of_a_png_are_not_decoded(tmp_path, monkeypatch):
    path = photo(tmp_path / "a.png")
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert image_size(path) == (9, 6)
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / "b.png")
    assert image_size(tmp_path / "b.png") == (6, 9)


def test_a_png_that_breaks_off_has_the_size_of_its_header(tmp_path):
    path = photo(tmp_path / "a.png", orientation=1)
    path.write_bytes(path.read_bytes()[:-20])
    assert image_size(path) == (6, 9)


def turned(values, orientation):
    """The upright image (H, W), of one that is stored with an EXIF orientation."""
    flips = {1: values, 2: values[:, ::-1], 3: values[::-1, ::-1], 4: values[::-1]}
    if orientation in flips:
        return flips[orientation]
    return flips[{5: 1, 6: 4, 7: 3, 8: 2}[orientation]].swapaxes(0, 1)


def write_colour_tiff(path, values, orientation):
    """A TIFF of 16 bits (H, W, 3), which Pillow cannot write."""
    height, width, _ = values.shape
    ids = (256, 257, 258, 259, 262, 273, 274, 277, 278, 279)
    bits = 8 + 2 + 12 * len(ids) + 4
    entries = (width, height, bits, 1, 2, bits + 6, orientation, 3, height, values.nbytes)
    head = b"II*\0" + struct.pack("<IH", 8, len(ids))
    for tag, value in zip(ids, entries):
        head += struct.pack("<HHII", tag, *((3, 3) if tag == 258 else (4, 1)), value)
    path.write_bytes(head + struct.pack("<I3H", 0, 16, 16, 16) + values.astype("<u2").tobytes())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["L.png", "L.tif", "I;16.png", "I;16.tif", "F.tif", "RGB;16.tif"])
def test_grey_and_deep_photos_are_turned(tmp_path, kind, orientation):
    values = np.random.default_rng(0).integers(0, 255, (6, 9), dtype=np.uint8)
    mode, _, suffix = kind.rpartition(".")
    path = tmp_path / f"a.{suffix}"
    if mode == "RGB;16":
        write_colour_tiff(path, np.dstack([values] * 3).astype(np.uint16), orientation)
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        dtype = {"L": np.uint8, "I;16": np.uint16, "F": np.float32}[mode]
        Image.fromarray(values.astype(dtype)).save(path, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the conversion to 8 bits
        found = read_image(path, (0, 255))
    assert image_size(path) == found.shape[:2]
    assert (found[..., 0] == turned(values, orientation)).all()
