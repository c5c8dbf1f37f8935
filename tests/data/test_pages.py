"""Photos in files of several pages or frames: the first is read, and this is said."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from getam.data import images
from getam.data.images import image_size, read_image

PAGES = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(images, "_said", set())


@pytest.mark.parametrize("name", ["stack.tif", "moving.png", "moving.webp"])
def test_a_photo_of_several_pages_is_its_first_and_is_told(tmp_path, name):
    PAGES[0].save(tmp_path / name, save_all=True, append_images=PAGES[1:], lossless=True)
    with pytest.warns(
        UserWarning, match=rf"{name}: this file has several pages or frames, and only"
    ):
        found = read_image(tmp_path / name)
    assert (found == np.asarray(PAGES[0])).all()


def test_the_header_alone_tells_it(tmp_path):
    PAGES[0].save(tmp_path / "stack.tif", save_all=True, append_images=PAGES[1:])
    with pytest.warns(
        UserWarning, match="stack.tif: this file has several pages or frames, and only"
    ):
        assert image_size(tmp_path / "stack.tif") == (6, 8)


def test_a_deep_stack_is_told_too(tmp_path):
    pages = [Image.fromarray(np.full((6, 8), value, np.uint16)) for value in (0, 65535)]
    pages[0].save(tmp_path / "deep.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(UserWarning, match="deep.tif: this file has several pages"):
        assert (read_image(tmp_path / "deep.tif") == 0).all()


def test_a_smaller_copy_and_a_single_page_are_not_told(tmp_path):
    copy = PAGES[0].resize((4, 3))
    copy.encoderinfo = {"tiffinfo": ImageFileDirectory_v2()}
    copy.encoderinfo["tiffinfo"][images.NEW_SUBFILE_TYPE] = 1
    PAGES[0].save(tmp_path / "copy.tif", save_all=True, append_images=[copy])
    with Image.open(tmp_path / "copy.tif") as image:
        assert image.n_frames == 2
    PAGES[0].save(tmp_path / "single.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("copy.tif", "single.tif"):
            assert (read_image(tmp_path / name) == np.asarray(PAGES[0])).all()


def test_damage_behind_the_first_page_does_not_matter(tmp_path):
    PAGES[0].save(tmp_path / "one.tif")
    whole = bytearray((tmp_path / "one.tif").read_bytes())
    first = int.from_bytes(whole[4:8], "little")  # the place of the first page
    following = first + 2 + 12 * int.from_bytes(whole[first : first + 2], "little")
    whole[following : following + 4] = (7).to_bytes(4, "little")  # no page is there
    (tmp_path / "one.tif").write_bytes(whole)
    assert image_size(tmp_path / "one.tif") == (6, 8)
    assert (read_image(tmp_path / "one.tif") == np.asarray(PAGES[0])).all()


def test_a_second_photo_behind_a_smaller_copy_is_told(tmp_path):
    copy = PAGES[0].resize((4, 3))
    copy.encoderinfo = {"tiffinfo": ImageFileDirectory_v2()}
    copy.encoderinfo["tiffinfo"][images.NEW_SUBFILE_TYPE] = 1
    PAGES[0].save(tmp_path / "a.tif", save_all=True, append_images=[copy, PAGES[1]])
    with pytest.warns(UserWarning, match="several pages"):
        read_image(tmp_path / "a.tif")
