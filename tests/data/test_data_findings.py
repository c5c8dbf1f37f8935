"""What the command data finds in the files of a folder, and how it says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import pipeline
from tests.data.test_data_command import data, found

FORMATS = ("jpg", "png", "webp", "bmp")


def noisy(file: Path) -> bytes:
    """A photo whose file has some kilobytes."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file.read_bytes()


@pytest.mark.parametrize("ending", FORMATS)
def test_a_photo_that_breaks_off_is_found_without_deep(folder, ending):
    (folder / "images" / "photo02.png").unlink()
    file = folder / "images" / f"photo02.{ending}"
    whole = noisy(file)
    Image.new("L", (40, 48)).save(folder / "masks" / "photo02.png")
    Image.new("L", (40, 48)).save(folder / "saliency" / "photo02.png")
    settings = ("data.kind=folder", f"data.root={folder}")
    assert found(*settings)["problems"] == []
    file.write_bytes(whole[: len(whole) // 2])
    (problem,) = found(*settings)["problems"]
    assert f"photo02.{ending}: cannot read this file" in problem
    assert "delete it and its lines in labels.csv" in problem


def test_a_photo_with_something_behind_its_end_is_whole(folder):
    (folder / "images" / "photo02.png").unlink()
    file = folder / "images" / "photo02.jpg"
    whole = noisy(file)
    Image.new("L", (40, 48)).save(folder / "masks" / "photo02.png")
    Image.new("L", (40, 48)).save(folder / "saliency" / "photo02.png")
    for behind in (b"\0" * 40, b"a trailer of the camera" * 9):
        file.write_bytes(whole + behind)
        assert found("data.kind=folder", f"data.root={folder}")["problems"] == []


def test_a_table_with_many_mistakes_is_told_in_one_call(folder):
    rows = [f"gone_{n},cat" for n in range(40)]
    with (folder / "labels.csv").open("a") as table:
        table.write("\n".join([*rows, "photo03,dog,cat", "photo04,"]))
    (folder / "splits" / "val.txt").write_text("photo08\nphoto99\n")
    code, out = data("data.kind=folder", f"data.root={folder}")
    assert code == 1
    assert "40 lines name photos that images/ does not have: line 14 'gone_0'" in out
    assert "'gone_19' and 20 more" in out
    assert "line 54: got 3 columns" in out
    assert "val.txt, line 2: got 'photo99'" in out
    assert "photo 'photo04' has classes in one line and none in another" in out
    assert "Error: 4 problems with this data set." in out


def test_a_folder_without_a_problem_says_so_and_what_comes_next(folder):
    code, out = data("data.kind=folder", f"data.root={folder}", arguments=["--config", "folder"])
    assert code == 0
    last = out.splitlines()[-1]
    assert last.startswith("No problems. Next: ")
    assert f" run --config folder --set data.kind=folder --set data.root={folder} --name" in last


def test_the_data_of_a_named_run_are_checked_by_its_name(folder, tmp_path):
    (tmp_path / "runs").mkdir()
    settings = {"data": {"kind": "folder", "root": str(folder)}}
    record = {"settings": settings, "keys": {}, "unfinished": {}}
    (tmp_path / "runs" / "mine.json").write_text(json.dumps(record))
    out = data(arguments=["--name", "mine", "--artifacts", str(tmp_path)])[1]
    assert str(folder) in out
    assert "run --name mine" in out


def test_one_problem_is_one_problem(folder):
    (folder / "images" / "photo02.png").write_bytes(b"no photo")
    code, out = data("data.kind=folder", f"data.root={folder}")
    assert code == 1
    assert out.splitlines()[-1] == "Error: 1 problem with this data set."


def test_a_photo_of_many_megapixels_is_noted(folder):
    settings = ("data.kind=folder", f"data.root={folder}", "pseudolabels.saliency=none")
    assert not any("megapixels" in note for note in found(*settings)["notes"])
    for name in ("masks", "saliency"):
        (folder / name / "photo02.png").unlink()
    Image.new("RGB", (4000, 3000)).save(folder / "images" / "photo02.png")
    told = "\n".join(found(*settings)["notes"])
    assert "1 of 12 photos has more than 4 megapixels, 'photo02' first" in told


def test_without_any_mask_one_note_says_what_is_measured(folder):
    for file in (folder / "masks").iterdir():
        file.unlink()
    told = found("data.kind=folder", f"data.root={folder}")["notes"]
    assert [note for note in told if "mask" in note] == [
        "There are no masks, so no figure will measure the labels of pixels: the table of a run "
        "has only the row of the classifier."
    ]
    out = data("data.kind=folder", f"data.root={folder}", arguments=["--deep"])[1]
    assert "values in masks" not in out


def test_a_class_that_val_does_not_show_is_noted(folder):
    (folder / "splits" / "val.txt").write_text("photo08\nphoto10\n")
    told = found("data.kind=folder", f"data.root={folder}")["notes"]
    assert "val has no photo of dog, so nothing can be measured for this class." in told


def test_a_warning_is_a_note_without_a_place_in_the_code(folder):
    with Image.open(folder / "images" / "photo02.png") as photo:
        grey = photo.convert("LA")
    grey.save(folder / "images" / "photo02.png")
    settings = ("data.kind=folder", f"data.root={folder}")
    result = pipeline("data", "--deep", cwd=folder, settings=settings)
    assert "UserWarning" not in result.err
    (note,) = result.err.splitlines()
    assert note.startswith("note: ")
    assert "converted from mode LA to RGB" in note
