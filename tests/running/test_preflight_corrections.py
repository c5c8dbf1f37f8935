"""Corrected masks that no stage could use are refused before the first stage runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import make_folder
from tests.data.test_corrections import correct
from tests.running.test_preflight import assert_refused, run

SET = "data.corrections=corrections"


def no_corrections(data: Path) -> None:
    """There is no such folder."""


def unknown_correction(data: Path) -> None:
    correct(data, {"photo00": 1})
    (data / "corrections/photo00.png").rename(data / "corrections/photo44.png")


def turned_correction(data: Path) -> None:
    correct(data, {"photo01": 1})
    (data / "corrections/photo01.png").rename(data / "corrections/photo00.png")


def class_too_many(data: Path) -> None:
    correct(data, {"photo00": 3})


def turned_sample(data: Path) -> None:
    correct(data, {"photo09": 1})
    (data / "corrections/photo09.png").rename(data / "corrections/photo08.png")
    correct(data, {}, ["photo08"])


def sample_without_mask(data: Path) -> None:
    correct(data, {"photo00": 1}, ["photo00", "photo03"])


def unlabelled_sample(data: Path) -> None:
    table = (data / "labels.csv").read_text().replace("photo03,dog\n", "")
    (data / "labels.csv").write_text(table)
    correct(data, {"photo03": 1}, ["photo03"])


def correct_other_split(data: Path) -> None:
    """Of a photo that is neither in train nor in val."""
    ids = (data / "splits/val.txt").read_text().replace("photo11\n", "")
    (data / "splits/val.txt").write_text(ids)
    (data / "splits/other.txt").write_text("photo11\n")
    correct(data, {"photo11": 1}, ["photo11"])


CORRECTIONS = {
    no_corrections: "data.corrections: there is no folder",
    unknown_correction: "photo44.png: got a corrected mask for 'photo44'",
    turned_correction: "photo00.png: got a mask of 48 x 40, expected 40 x 48",
    class_too_many: "photo00.png: got the value 3 in this mask, expected 0 (background), 1 to 2",
    turned_sample: "photo08.png: got a mask of 48 x 40, expected 40 x 48",
    sample_without_mask: "sample.txt: 1 of 2 photos have no corrected mask, 'photo03' first",
    unlabelled_sample: "sample.txt: 1 of 1 photos are not labelled, or neither in train nor in val",
    correct_other_split: "sample.txt: 1 of 1 photos are not labelled, or neither in train nor",
}


@pytest.mark.parametrize("change", CORRECTIONS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("mode", ["multi-stage", "end-to-end"])
def test_wrong_corrections_are_refused_before_the_first_stage(tmp_path, change, mode):
    make_folder(tmp_path / "data")
    change(tmp_path / "data")
    assert_refused(run(tmp_path, SET, f"mode={mode}"), tmp_path, CORRECTIONS[change])


EXAMPLES = {
    "train_0900": (96, 1, "got a corrected mask for 'train_0900'"),
    "train_0003": (48, 1, "train_0003.png: got a mask of 48 x 48, expected 96 x 96"),
    "train_0004": (96, 6, "train_0004.png: got the value 6 in this mask"),
}


@pytest.mark.parametrize("image_id", EXAMPLES)
def test_wrong_corrections_of_the_example_are_refused_before_it_is_drawn(tmp_path, image_id):
    side, value, words = EXAMPLES[image_id]
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / f"{image_id}.png"
    Image.fromarray(np.full((side, side), value, np.uint8)).save(file)
    settings = ("data.kind=shapes", "data.root=null", f"data.corrections={tmp_path / 'mine'}")
    assert_refused(run(tmp_path, *settings), tmp_path, words)
