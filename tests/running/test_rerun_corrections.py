"""Corrected masks rerun the stages that read them, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from getam.config.loading import load_config
from getam.config.schema import Shapes
from getam.data.folder import read_folder
from getam.data.shapes import write_shapes
from getam.running.example import drawn_index
from getam.running.opening import open_runner
from stages.chain import chain
from tests.conftest import EXAMPLE, make_folder
from tests.data.test_corrections import correct
from tests.running.reruns import END_TO_END, FROM, differing, keys
from tests.trees import VOC_SETTINGS, make_coco, make_voc

SET = "data.corrections=corrections"
MASKS = {"photo00": 1, "photo01": 2, "photo02": 1, "photo08": 1}


@pytest.fixture
def place(tmp_path) -> Path:
    make_folder(tmp_path / "data")
    correct(tmp_path / "data", MASKS, ["photo02", "photo08"])
    return tmp_path


def test_a_sample_that_grew_is_not_taken_for_the_one_that_was_measured(place):
    before = keys(place, SET)
    correct(place / "data", {}, ["photo02", "photo08", "photo09"])
    assert differing(before, keys(place, SET)) == ("evaluation",)


def change(place: Path, image_id: str) -> None:
    correct(place / "data", {image_id: 0})


both_modes = pytest.mark.parametrize(
    ("mode", "learning"),
    [("multi-stage", FROM["deeplab"]), ("end-to-end", END_TO_END)],
    ids=["multi-stage", "end-to-end"],
)


@both_modes
def test_only_what_reads_a_correction_reruns_when_it_changes(place, mode, learning):
    mode = f"mode={mode}"
    none, before = keys(place, mode), keys(place, mode, SET)
    assert differing(none, before) == learning
    change(place, "photo00")
    after = keys(place, mode, SET)
    assert differing(before, after) == learning
    change(place, "photo02")  # of train, and in the sample
    sampled = keys(place, mode, SET)
    assert differing(after, sampled) == ("evaluation",)
    change(place, "photo08")  # of val, and in the sample
    assert differing(sampled, keys(place, mode, SET)) == ("evaluation",)
    assert keys(place, mode) == none


@both_modes
def test_a_photo_that_goes_into_the_sample_is_no_longer_learnt_from(place, mode, learning):
    mode = f"mode={mode}"
    before = keys(place, mode, SET)
    correct(place / "data", {}, ["photo02", "photo08", "photo01"])
    assert differing(before, keys(place, mode, SET)) == learning
    correct(place / "data", {}, ["photo08", "photo02"])
    assert keys(place, mode, SET) == before


@both_modes
def test_the_sample_is_learnt_from_where_this_is_asked(place, mode, learning):
    settings = (f"mode={mode}", SET)
    before = keys(place, *settings)
    asked = keys(place, *settings, "data.learn_from_sample=true")
    assert differing(before, asked) == learning
    change(place, "photo02")
    other = keys(place, *settings, "data.learn_from_sample=true")
    assert differing(asked, other) == learning


def test_a_correction_of_a_val_photo_outside_the_sample_reruns_nothing(place):
    before = keys(place, SET)
    correct(place / "data", {"photo09": 2})
    assert keys(place, SET) == before


def test_full_supervision_learns_from_no_correction(place):
    masks = "deeplab.labels=masks"
    assert differing(keys(place, masks), keys(place, masks, SET)) == ("evaluation",)


def test_a_folder_of_corrections_counts_by_its_content_not_its_place(place):
    before = keys(place, SET)
    shutil.move(place / "data" / "corrections", place / "mended")
    assert keys(place, f"data.corrections={place / 'mended'}") == before


def keys_of(place: Path, *settings: str) -> dict[str, str]:
    config = load_config((), settings)
    return {d.stage: d.key for d in open_runner(chain, config, place / "artifacts").plan()}


def other_kind(kind: str, place: Path) -> tuple[tuple[str, ...], str, Path]:
    """Settings, a train photo and its mask for a data set of a kind."""
    mask = np.zeros((48, 48), np.uint8)
    if kind == "shapes":
        write_shapes(place / "drawn", train=8, val=4, size=48)
        settings, image_id = EXAMPLE, "train_0007"
    elif kind == "voc":
        root = make_voc(place / "voc")
        settings, image_id = (*VOC_SETTINGS, f"data.root={root}"), "2007_000001"
    else:
        root = make_coco(place / "coco")
        splits = ("data.train=train2014", "data.val=val2014", "pseudolabels.saliency=none")
        settings = ("data.kind=coco", f"data.root={root}", *splits)
        image_id = "COCO_train2014_000000000001"
    folder = place / "corrections"
    folder.mkdir()
    Image.fromarray(mask).save(folder / f"{image_id}.png")
    return (*settings, "deeplab.fixed_encoder=false"), image_id, folder


@pytest.mark.parametrize("kind", ["shapes", "voc", "coco"])
def test_corrections_of_every_kind_of_data_count(tmp_path, kind):
    settings, image_id, folder = other_kind(kind, tmp_path)
    none = keys_of(tmp_path, *settings)
    asked = (*settings, f"data.corrections={folder}")
    before = keys_of(tmp_path, *asked)
    assert differing(none, before) == FROM["deeplab"]
    Image.fromarray(np.ones((48, 48), np.uint8)).save(folder / f"{image_id}.png")
    after = keys_of(tmp_path, *asked)
    assert differing(before, after) == FROM["deeplab"]
    (folder / "sample.txt").write_text(f"{image_id}\n")
    sampled = keys_of(tmp_path, *asked)
    assert differing(after, sampled) == FROM["deeplab"]
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(folder / f"{image_id}.png")
    assert differing(sampled, keys_of(tmp_path, *asked)) == ("evaluation",)


def test_the_ids_of_the_example_are_known_before_it_is_drawn(tmp_path):
    write_shapes(tmp_path / "drawn", train=3, val=2, size=48)
    known = drawn_index(Shapes(train=3, val=2))
    made = read_folder(tmp_path / "drawn")
    assert known.classes == made.classes
    for split in ("train", "val"):
        assert [r.id for r in known.split(split)] == [r.id for r in made.split(split)]
