"""Which change of the data makes which stages run again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import make_folder
from tests.running.reruns import ALL, END_TO_END, FROM, differing, keys


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("rerun")
    make_folder(place / "data")
    return place


@pytest.fixture(scope="module")
def baseline(place) -> dict[str, str]:
    return keys(place)


def image_changed(data: Path) -> None:
    Image.fromarray(np.zeros((48, 40, 3), np.uint8)).save(data / "images" / "photo00.png")


def label_changed(data: Path) -> None:
    table = (data / "labels.csv").read_text()
    (data / "labels.csv").write_text(table.replace("photo00,cat", "photo00,cat dog"))


def rows_in_another_order(data: Path) -> None:
    header, *rows = (data / "labels.csv").read_text().splitlines()
    (data / "labels.csv").write_text("\n".join([header, *reversed(rows)]))


def class_list_reordered(data: Path) -> None:
    (data / "classes.txt").write_text("dog\ncat\n")


def mask_changed(data: Path) -> None:
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(data / "masks" / "photo00.png")


def saliency_changed(data: Path) -> None:
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(data / "saliency" / "photo00.png")


def split_changed(data: Path) -> None:
    (data / "splits" / "val.txt").write_text("photo08\n")


def image_renamed_in_place(data: Path) -> None:
    """Rewritten with the same bytes: another inode, the same content."""
    content = (data / "images" / "photo00.png").read_bytes()
    (data / "images" / "photo00.png").unlink()
    (data / "images" / "photo00.png").write_bytes(content)


def unused_file_added(data: Path) -> None:
    (data / "images" / "notes.txt").write_text("not an image")


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        (image_changed, ALL),
        (label_changed, ALL),
        (rows_in_another_order, ()),
        (class_list_reordered, ALL),
        (split_changed, ALL),
        (mask_changed, ("evaluation",)),
        (saliency_changed, FROM["pseudolabels"]),
        (image_renamed_in_place, ()),
        (unused_file_added, ()),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_change_of_the_data_reruns_the_stages_that_read_it(tmp_path, change, stages):
    make_folder(tmp_path / "data")
    before = keys(tmp_path)
    shutil.copytree(tmp_path / "data", tmp_path / "kept")
    change(tmp_path / "data")
    assert differing(before, keys(tmp_path)) == stages
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "kept", tmp_path / "data")
    assert keys(tmp_path) == before


def test_a_subset_of_classes_reruns_all_and_another_place_of_saliency_nothing(place, baseline):
    assert differing(baseline, keys(place, "data.classes=[dog]")) == ALL
    shutil.copytree(place / "data" / "saliency", place / "salient", dirs_exist_ok=True)
    assert keys(place, f"data.saliency={place / 'salient'}") == baseline
    assert differing(baseline, keys(place, "data.saliency=nowhere")) == FROM["pseudolabels"]


def test_masks_count_for_the_supervised_line(tmp_path):
    make_folder(tmp_path / "data")
    before = keys(tmp_path, "deeplab.labels=masks")
    mask_changed(tmp_path / "data")
    after = keys(tmp_path, "deeplab.labels=masks")
    assert differing(before, after) == ("deeplab", "predictions", "doubt", "evaluation")


@pytest.mark.parametrize("saliency", ["folder", "none"])
def test_data_that_the_end_to_end_network_reads(tmp_path, saliency):
    """Its validation curve reads the masks of val, but nothing reads those of train."""
    make_folder(tmp_path / "data")
    settings = ("mode=end-to-end", f"pseudolabels.saliency={saliency}")
    before = keys(tmp_path, *settings)
    mask_changed(tmp_path / "data")
    after_train_mask = keys(tmp_path, *settings)
    assert differing(before, after_train_mask) == ("evaluation",)
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(tmp_path / "data/masks/photo08.png")
    after_val_mask = keys(tmp_path, *settings)
    assert differing(after_train_mask, after_val_mask) == END_TO_END
    saliency_changed(tmp_path / "data")
    expected = END_TO_END if saliency == "folder" else ()
    assert differing(after_val_mask, keys(tmp_path, *settings)) == expected
