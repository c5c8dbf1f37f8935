"""Without lists, each photo keeps its side of train and val when others come or go."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from getam.data.folder import read_folder
from getam.data.splits import default_splits
from getam.errors import UserError
from pipeline import main

PHOTOS = 60


@pytest.fixture
def root(tmp_path) -> Path:
    """Photos of two classes, without lists."""
    (tmp_path / "images").mkdir()
    for n in range(PHOTOS):
        Image.new("RGB", (8, 8), (n, n, n)).save(tmp_path / "images" / f"p{n}.png")
    lines = [f"p{n},{('cat', 'dog')[n % 2]}" for n in range(PHOTOS)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,classes", *lines]) + "\n")
    return tmp_path


def sides(root: Path) -> dict[str, str]:
    splits = read_folder(root).splits
    return {record.id: name for name, records in splits.items() for record in records}


def add_photo(root: Path, name: str, class_name: str = "cat") -> None:
    Image.new("RGB", (8, 8)).save(root / "images" / f"{name}.png")
    with (root / "labels.csv").open("a") as table:
        table.write(f"{name},{class_name}\n")


def test_one_photo_more_or_less_moves_no_other_photo(root):
    before = sides(root)
    assert set(before.values()) == {"train", "val"}
    for name in ("a0", "a1", "p3b"):  # in the order of their names these are before all others
        add_photo(root, name)
    after = sides(root)
    assert {name: after[name] for name in before} == before
    (root / "images" / "p10.png").unlink()
    lines = (root / "labels.csv").read_text().splitlines()
    (root / "labels.csv").write_text("\n".join(x for x in lines if not x.startswith("p10,")))
    assert sides(root) == {name: side for name, side in after.items() if name != "p10"}


def test_about_every_fifth_photo_is_in_val(root):
    for n in range(140):
        add_photo(root, f"more{n}")
    assert 25 <= list(sides(root).values()).count("val") <= 55


def test_a_class_of_two_photos_is_in_train_and_in_val(root):
    """By their hashes alone both would be in train."""
    for name in ("a", "b"):
        add_photo(root, name, "bird")
    found = sides(root)
    assert {found["a"], found["b"]} == {"train", "val"}


def test_a_list_takes_file_names_as_the_table_does(root):
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text("p0.png\np1.PNG\np2\n")
    assert [r.id for r in read_folder(root).split("train")] == ["p0", "p1", "p2"]
    (root / "splits" / "train.txt").write_text("p0.png\np0\n")
    with pytest.raises(UserError, match="'p0' stands there twice"):
        read_folder(root)


def data(root: Path, *options: str):
    words = ["data", "--config", "folder", *options, "--set", f"data.root={root}"]
    return CliRunner().invoke(main, words)


def test_data_says_how_the_photos_are_divided_and_writes_it_down(root):
    before = sides(root)
    told = data(root).output
    assert "no folder splits/" in told
    assert "--write-splits" in told
    assert not (root / "splits").exists()
    written = data(root, "--write-splits")
    assert written.exit_code == 0, written.output
    assert (root / "splits" / "val.txt").read_text().split() == [
        name for name, side in before.items() if side == "val"
    ]
    assert sides(root) == before
    assert "--write-splits" not in written.output


def test_lists_that_are_there_are_never_replaced(root):
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text("p0\n")
    (root / "splits" / "val.txt").write_text("p1\n")
    refused = data(root, "--write-splits")
    assert refused.exit_code == 1
    assert "this folder exists already" in refused.output
    assert (root / "splits" / "train.txt").read_text() == "p0\n"


def test_no_class_is_in_val_alone():
    """By their hashes alone both photos of the class would be in val, where nothing learns it."""
    photos = [f"p{n}" for n in range(PHOTOS)]
    first, second = default_splits(photos, {})["val"][:2]
    one = default_splits(photos, {first: ["bird"]})
    assert first in one["train"]
    two = default_splits(photos, {first: ["bird"], second: ["bird"]})
    assert len({first, second} & {*two["train"]}) == len({first, second} & {*two["val"]}) == 1


def test_a_photo_that_goes_to_val_leaves_its_other_classes_in_train():
    photos = default_splits([f"p{n}" for n in range(PHOTOS)], {})["train"][:3]
    for only in photos:
        labels = {photo: ["bird"] for photo in photos} | {only: ["bird", "tree"]}
        found = default_splits(photos, labels)
        assert only in found["train"]
        assert len(found["val"]) == 1
