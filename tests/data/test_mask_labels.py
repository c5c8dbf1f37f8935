"""Masks that contradict the image-level labels are counted, with a likely cause."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from getam.data.check import check
from getam.data.folder import read_folder
from tests.conftest import make_folder


def rewrite(root: Path, change, count: int | None = None) -> Path:
    for file in sorted((root / "masks").glob("*.png"))[:count]:
        values = change(np.asarray(Image.open(file)).astype(int))
        Image.fromarray(values.astype(np.uint8)).save(file)
    return root


def relabel(root: Path, text: str, other: str) -> Path:
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace(text, other))
    return root


def deep(root: Path, classes=None) -> tuple[list[str], list[str]]:
    """Notes and problems about masks."""
    told = check(read_folder(root).subset(classes), ["train", "val"], deep=True)
    return tuple([s for s in told[kind] if "contradict" in s] for kind in ("notes", "problems"))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda m: 255 * (m > 0), "nothing but 0 and 255"),
        (lambda m: 0 * m, "nothing but 0. "),
        (lambda m: np.where(m > 0, m - 1, 0), "seem to count from 0"),
        (lambda m: np.where(m > 0, m - 1, 255), "seem to count from 0"),
        (lambda m: np.where(m > 0, 3 - m, 0), "in them cat has 2, dog has 1, but by the order"),
        (lambda m: (m > 0) * 1, "tell object (1) from background (0) alone"),
    ],
    ids=["0 and 255", "nothing", "ids from 0", "ids from 0 and 255", "swapped", "0 and 1"],
)
def test_masks_with_other_values_are_a_problem_that_names_the_cause(folder, change, cause):
    notes, problems = deep(rewrite(folder, change))
    assert [p.split(":")[0] for p in problems] == ["train", "val"]
    assert notes == []
    assert all(cause in problem for problem in problems), problems


def test_the_photos_are_counted_and_the_first_one_named(folder):
    _, problems = deep(rewrite(folder, lambda m: np.where(m > 0, 3 - m, 0)))
    assert (
        "train: the masks of 8 of 8 photos contradict their labels. 8 show a class that is not "
        "labelled, 8 show none of the labelled classes; 'photo00' first: labelled cat, the mask "
        "shows dog." in problems[0]
    )


def test_a_third_class_out_of_order_is_named(tmp_path):
    root = make_folder(tmp_path / "data")
    (root / "classes.txt").write_text("ape\ncat\ndog\n")
    relabel(root, "photo00,cat", "photo00,ape")
    relabel(root, "photo04,cat", "photo04,ape")
    rewrite(root, lambda m: np.where(m == 1, 3, m))  # cat is 3, dog 2
    rewrite(root, lambda m: np.where(m > 0, 1, m), 1)
    rewrite(root / ".", lambda m: m)
    file = root / "masks" / "photo04.png"
    Image.fromarray((np.asarray(Image.open(file)) > 0).astype(np.uint8)).save(file)
    _, problems = deep(root)
    assert (
        "in them cat has 3, dog has 2, but by the order of the classes cat is 2, dog is 3"
        in (problems[0])
    )


def test_a_label_that_is_missing_in_one_photo_is_a_note(folder):
    rewrite(folder, lambda m: np.where(m == 0, 2, m), 1)  # photo00 shows cat, and dog around it
    notes, problems = deep(folder)
    assert problems == []
    assert "train: the masks of 1 of 8 photos contradict their labels. 1 show a class" in notes[0]
    assert "0 show none" in notes[0]
    assert "labelled cat, the mask shows cat and dog" in notes[0]
    assert "lack classes" in notes[0]


def test_masks_that_agree_are_not_spoken_of(folder):
    assert deep(folder) == ([], [])
    assert deep(folder, ["dog"]) == ([], [])
    relabel(folder, "photo00,cat\n", "")
    assert deep(rewrite(folder, lambda m: 3 - m, 1)) == ([], [])  # unlabelled: nothing to say


def test_without_deep_no_mask_is_read(folder):
    rewrite(folder, lambda m: 255 * (m > 0))
    told = check(read_folder(folder), ["train", "val"])
    assert not any("contradict" in said for said in [*told["notes"], *told["problems"]])
