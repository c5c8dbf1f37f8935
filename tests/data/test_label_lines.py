"""Bad lines of the label table and the lists are told together, each with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from getam.data.folder import read_folder
from getam.errors import UserError
from tests.data.test_label_table import write


@pytest.fixture
def root(tmp_path) -> Path:
    """Ten photos without a table."""
    (tmp_path / "images").mkdir()
    for n in range(10):
        Image.new("RGB", (8, 8), (n, n, n)).save(tmp_path / "images" / f"p{n}.png")
    return tmp_path


def test_all_bad_lines_are_told_in_one_call(root):
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text("p0\np1.PNG\nq1\nq2\np0\n")
    (root / "splits" / "val.txt").write_text("p2\np3\n")
    rows = ["gone_1,cat", "p0,cat", "p1,cat,dog", "gone_2,dog", "p2,['cat']", "p3,background"]
    (root / "labels.csv").write_text("\n".join(["image,classes", *rows, "p4,dog"]))
    problems: list[str] = []
    index = read_folder(root, problems=problems)
    told = "\n".join(problems)
    assert "labels.csv, line 4: got 3 columns" in told
    assert (
        "2 lines name photos that images/ does not have: line 2 'gone_1', line 5 'gone_2'" in told
    )
    assert "photo 'p2' has ['cat'], a list as text" in told
    assert "a class called 'background'" in told
    assert "train.txt: 2 lines name photos that images/ does not have: line 3 'q1'" in told
    assert "photo 'p0' stands there twice (lines 1 and 5)" in told
    assert len(problems) == 6
    assert [record.id for record in index.split("train")] == ["p0", "p1"]
    assert index.classes == ("cat", "dog")
    with pytest.raises(UserError, match=r"line 4: .*There are 5 more: the command data lists all"):
        read_folder(root)


def test_a_class_that_classes_txt_lacks_is_told_once_for_all_photos(root):
    (root / "classes.txt").write_text("cat\n")
    problems: list[str] = []
    read_folder(write(root, "cat", "dgo", "bird"), problems=problems)
    assert sorted(problem.split("the class ")[1][:6] for problem in problems) == [
        "'bird'",
        "'dgo',",
    ]


def test_photos_in_sub_folders_beside_a_table_are_said_to_be_there(root):
    (root / "images" / "garden").mkdir()
    for n in (3, 4):
        (root / "images" / f"p{n}.png").rename(root / "images" / "garden" / f"p{n}.png")
    with pytest.raises(UserError, match=r"2 of these photos are in sub-folders") as caught:
        read_folder(write(root, "cat", "dog"))
    assert "'images/garden/p3.png' first" in str(caught.value)
    assert "move all photos into images/ itself" in str(caught.value)
