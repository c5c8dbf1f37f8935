"""HEIC photos: read where pillow-heif is installed, and said in one sentence where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from getam.data import heic, images
from getam.data.check import check
from getam.data.folder import read_folder
from getam.errors import UserError
from tests.conftest import TINY, pipeline


@pytest.fixture
def forget():
    """What was found out about pillow-heif holds for one test."""
    heic._teach_pillow.cache_clear()
    yield
    heic._teach_pillow.cache_clear()


@pytest.fixture
def without(monkeypatch, forget):
    """A machine that lacks pillow-heif."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


def rename(folder: Path, *numbers: int) -> None:
    for n in numbers:
        (folder / "images" / f"photo{n:02}.png").rename(folder / "images" / f"photo{n:02}.HEIC")


def test_heic_photos_are_photos(folder):
    rename(folder, 0, 9)
    assert read_folder(folder).split("train")[0].image.name == "photo00.HEIC"


def test_without_the_extra_data_says_how_many_there_are_and_what_to_install(folder, without):
    rename(folder, 0, 9)
    (folder / "images" / "photo01.png").write_bytes(b"no image")
    problems = check(read_folder(folder), ["train", "val"])["problems"]
    assert len(problems) == 2
    assert "photo01.png: cannot read" in problems[1], "the others are looked at all the same"
    assert "photo00.HEIC: got 2 HEIC photos" in problems[0]
    assert "pip install 'getam[heic]'" in problems[0]


@pytest.mark.parametrize("read", [images.read_image, images.image_size])
def test_without_the_extra_reading_one_is_one_sentence(tmp_path, without, read):
    with pytest.raises(UserError, match=r"a.heic: got 1 HEIC photos.*getam\[heic\]"):
        read(tmp_path / "a.heic")


def test_without_the_extra_a_run_stops_before_any_stage(folder):
    rename(folder, 9)
    (folder / "pillow_heif.py").write_text("raise ImportError")
    settings = ("data.kind=folder", f"data.root={folder}", *TINY)
    result = pipeline("run", cwd=folder.parent, settings=settings, env={"PYTHONPATH": str(folder)})
    assert result.code == 1
    assert "photo09.HEIC: got 1 HEIC photos" in result.err
    assert result.stages_run() == []


def test_a_heic_photo_is_read_upright(tmp_path, forget):
    heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:20, :32] = 200
    file = heif.from_pillow(Image.fromarray(pixels))
    file.save(tmp_path / "a.heic", quality=90)
    assert images.image_size(tmp_path / "a.heic") == (40, 64)
    read = images.read_image(tmp_path / "a.heic")
    assert abs(read.astype(int) - pixels).mean() < 3
