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


@pytest.mark.parametrize("changed", [("p1", "P01"), ("p3", "p003.jpg"), ("p7", "images/P7")])
def test_names_that_a_spreadsheet_changed_are_said_to_be_those_photos(root, changed):
    photo, listed = changed
    (root / "labels.csv").write_text(f"image,classes\n{listed},cat\nq,dog\n")
    with pytest.raises(UserError, match=r"only in leading zeros or in upper and lower") as caught:
        read_folder(root)
    assert "1 name differs from that of a photo only" in str(caught.value)
    assert f"{listed!r} from {photo!r} first" in str(caught.value)


def test_a_link_to_a_photo_that_is_gone_is_named(root):
    (root / "images" / "p3.png").unlink()
    (root / "images" / "p3.png").symlink_to("elsewhere.png")
    with pytest.raises(UserError, match=r"p3\.png: this link leads to a file that is not there"):
        read_folder(write(root, "cat", "dog"))


@pytest.mark.parametrize("nested", ['{"labels": {"p0": ["cat"]}}', '{"p0": {"classes": ["cat"]}}'])
def test_a_json_table_with_objects_inside_is_told_its_form(root, nested):
    (root / "labels.json").write_text(nested)
    with pytest.raises(UserError, match=r"has an object \{...\}, expected a list of class names"):
        read_folder(root)


def test_one_photo_with_two_lines_does_not_join_the_words_of_other_cells(root):
    """The lines of p9 would make one class of ``cat dog``."""
    rows = ["p0,cat dog", "p1,bird", "p9,bird", "p9,horse"]
    (root / "labels.csv").write_text("\n".join(["image,classes", *rows]))
    with pytest.raises(UserError, match=r"line 2: photo 'p0' has 'cat dog', which may be one"):
        read_folder(root)
    (root / "classes.txt").write_text("bird\ncat dog\nhorse\n")
    assert read_folder(root).classes == ("bird", "cat dog", "horse")
