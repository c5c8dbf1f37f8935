"""A photo whose file breaks off is found by its end, without decoding all photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from getam.data.check import check
from getam.data.folder import read_folder

FORMATS = ("jpg", "png", "webp", "bmp")


def noisy(file: Path) -> bytes:
    """A photo whose file has some kilobytes."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file.read_bytes()


def problems(root: Path) -> list[str]:
    return check(read_folder(root), ["train", "val"])["problems"]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_photo_that_breaks_off_is_found_without_deep(folder, ending):
    (folder / "images" / "photo02.png").unlink()
    file = folder / "images" / f"photo02.{ending}"
    whole = noisy(file)
    Image.new("L", (40, 48)).save(folder / "masks" / "photo02.png")
    Image.new("L", (40, 48)).save(folder / "saliency" / "photo02.png")
    assert problems(folder) == []
    file.write_bytes(whole[: len(whole) // 2])
    (problem,) = problems(folder)
    assert f"photo02.{ending}: cannot read this photo" in problem
    assert "delete it and its lines in the label table" in problem


def test_a_photo_with_something_behind_its_end_is_whole(folder):
    (folder / "images" / "photo02.png").unlink()
    file = folder / "images" / "photo02.jpg"
    whole = noisy(file)
    Image.new("L", (40, 48)).save(folder / "masks" / "photo02.png")
    Image.new("L", (40, 48)).save(folder / "saliency" / "photo02.png")
    for behind in (b"\0" * 40, b"a trailer of the camera" * 9):
        file.write_bytes(whole + behind)
        assert problems(folder) == []
