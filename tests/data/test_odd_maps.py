"""Masks and saliency maps that are not grey levels of 8 bits are refused, with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from getam.data.check import check
from getam.data.folder import read_folder
from getam.data.masks import read_mask, read_saliency
from getam.errors import UserError
from getam.labels.saliency import Saliency
from getam.running.preflight_data import check_saliency
from tests.data.test_label_table import write

SIZE = (8, 8)


@pytest.fixture
def root(tmp_path) -> Path:
    """Ten photos with saliency maps."""
    for name in ("images", "saliency"):
        (tmp_path / name).mkdir()
    for n in range(10):
        Image.new("RGB", SIZE, (n, n, n)).save(tmp_path / "images" / f"p{n}.png")
        Image.new("L", SIZE, 25 * n).save(tmp_path / "saliency" / f"p{n}.png")
    return write(tmp_path, *(["cat", "dog"] * 5))


def cut_out(mode: str) -> Image.Image:
    """An object on transparent ground, as a program that removes backgrounds writes it."""
    alpha = np.zeros(SIZE, np.uint8)
    alpha[2:6, 2:6] = 255
    image = Image.new("RGBA", SIZE)
    image.putalpha(Image.fromarray(alpha))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_a_transparent_saliency_map_is_refused(root, mode):
    """Over white, the ground of a cut-out was the most salient."""
    file = root / "saliency" / "p3.png"
    if mode == "PA":
        cut_out("RGBA").quantize().save(file)
    else:
        cut_out(mode).save(file)
    with pytest.raises(UserError, match=r"p3.png: got a saliency map with transparent pixels"):
        read_saliency(file, SIZE)
    index = read_folder(root)
    assert "transparent pixels" in "\n".join(check(index, ["train", "val"])["problems"])
    split = next(name for name, rs in index.splits.items() if "p3" in [r.id for r in rs])
    saliency = Saliency(("folder",), 0.3)
    with pytest.raises(UserError, match="transparent pixels"):
        check_saliency(saliency, index.split(split))


def test_an_opaque_map_with_alpha_is_read_as_it_is(root):
    file = root / "saliency" / "p3.png"
    Image.new("RGBA", SIZE, (51, 51, 51, 255)).save(file)
    assert read_saliency(file, SIZE) == pytest.approx(0.2)


@pytest.mark.parametrize("deep", [False, True])
def test_maps_with_1_for_object_are_a_problem(root, deep):
    for file in (root / "saliency").iterdir():
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(file)
    index = read_folder(root)
    told = "\n".join(check(index, ["train", "val"], deep=deep)["problems"])
    assert "got no value above 1 in this saliency map" in told
    assert "multiply them by 255" in told
    with pytest.raises(UserError, match="no value above 1"):
        check_saliency(Saliency(("folder",), 0.3), index.split("train"))


@pytest.mark.parametrize(
    ("mode", "remedy"),
    [
        ("1", "grey values of 8 bits"),
        ("I;16", "grey values of 8 bits"),
        ("LA", "without transparency"),
        ("RGB", "colours to class ids"),
    ],
)
def test_each_mode_of_a_mask_has_its_remedy(tmp_path, mode, remedy):
    Image.new(mode, SIZE).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=remedy):
        read_mask(tmp_path / "m.png")


def test_a_broken_mask_is_called_a_mask(tmp_path):
    (tmp_path / "m.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"cannot read this mask .* or delete it\.$"):
        read_mask(tmp_path / "m.png")
