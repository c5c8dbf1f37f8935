"""Lists and layouts that could silently mean something else than they say."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from PIL import Image

from getam.data.check import check
from getam.data.class_names import as_yaml
from getam.data.folder import read_folder
from getam.errors import UserError
from tests.conftest import make_folder
from tests.data.test_corrections import correct, data
from tests.data.test_label_table import root

__all__ = ["root"]


def draw(file) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(file)


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (['p0,"cat', "p1,dog", "p2,cat"], 2),
        (["p0,cat", "p1,dog", 'p2,"cat'], 4),
        (['p0,"cat', 'p1,"cat;dog"', "p2,cat"], 2),
        (["p0,cat", '"p1,dog', "p2,cat"], 3),
        (['p0,"cat;dog', 'owl"', 'p1,"cat'], 4),  # after a cell of two lines
    ],
)
def test_a_quote_that_is_not_closed_is_named_with_its_line(root, lines, line):
    (root / "labels.csv").write_text("\n".join(["image,classes", *lines]) + "\n")
    with pytest.raises(UserError, match=rf"labels.csv, line {line}: not a CSV table .*quote"):
        read_folder(root)


def test_quotes_with_spaces_around_and_inches_are_read(root):
    (root / "labels.csv").write_text('image,classes\n"p0", "cat;dog"  \np1,5" pipe;cat\n')
    assert read_folder(root).classes == ('5" pipe', "cat", "dog")


@pytest.mark.parametrize("folders", [("train", "val"), ("Training", "Test"), ("valid",)])
def test_folders_of_splits_are_no_classes(tmp_path, folders):
    for folder in folders:
        for name in ("cat", "dog"):
            draw(tmp_path / "images" / folder / name / "0.png")
    with pytest.raises(UserError, match=r"which are no classes.*splits/"):
        read_folder(tmp_path)


def test_train_is_a_class_beside_others(tmp_path):
    for name in ("train", "boat"):
        draw(tmp_path / "images" / name / "0.png")
    assert read_folder(tmp_path).classes == ("boat", "train")


@pytest.mark.parametrize(
    "names", [["1", "2"], ["yes", "no"], ["ox's", "a: b"], ["cat", "café"], ["traffic light"]]
)
def test_classes_that_a_message_proposes_can_be_typed_as_they_stand(root, names):
    (root / "classes.txt").write_text("\n".join([*names, "absent"]) + "\n", encoding="utf-8")
    cell = [f'"{name};"' for name in names]
    lines = [f"p{n},{cell[n % len(cell)]}" for n in range(10)]
    text = "\n".join(["image,classes", *lines])
    (root / "labels.csv").write_text(text + "\n", encoding="utf-8")
    told = " ".join(check(read_folder(root), ["train", "val"])["problems"])
    _, setting = shlex.split(re.search(r"--set data\.classes=.*\]'?", told)[0])
    assert yaml.safe_load(setting.partition("=")[2]) == names
    assert yaml.safe_load(as_yaml(names)) == names


def test_background_in_the_list_of_classes_is_to_be_deleted(root):
    (root / "labels.csv").write_text("image,classes\np0,cat\n")
    (root / "classes.txt").write_text("background\ncat\n")
    with pytest.raises(UserError, match="Delete this line: the first class has the value 1"):
        read_folder(root)


def test_a_folder_called_background_needs_a_table(tmp_path):
    for name in ("background", "cat"):
        draw(tmp_path / "images" / name / "0.png")
    with pytest.raises(UserError, match=r"write their classes into a labels.csv"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    "line", ["images/p0.png", "./images/p0.png", "images\\p0.png", "images/p0"]
)
def test_a_path_below_the_data_folder_names_its_photo(root, line):
    (root / "labels.csv").write_text(f"image,classes\n{line},cat\np1,dog\n")
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text(f"{line}\np1\n")
    found = read_folder(root)
    assert [(r.id, r.labels) for r in found.split("train")] == [("p0", (1,)), ("p1", (2,))]


def test_a_path_in_folders_of_classes_names_its_photo(tmp_path):
    for name in ("cat", "dog"):
        draw(tmp_path / "images" / name / "0.png")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.txt").write_text("cat/0.png\nimages/dog/0\n")
    assert [r.id for r in read_folder(tmp_path).split("train")] == ["cat_0", "dog_0"]


@pytest.mark.parametrize("line", ["x1", "x1.png", "cat/x1.png"])
def test_a_photo_in_a_folder_that_is_not_read_is_said_to_be_there(root, line):
    draw(root / "images" / "cat" / "x1.png")
    (root / "labels.csv").write_text(f"image,classes\np0,cat\n{line},cat\n")
    with pytest.raises(UserError, match=r"images/cat/x1.png.*move all photos"):
        read_folder(root)


def test_a_file_name_with_a_space_at_its_end_is_refused(root):
    draw(root / "images" / "IMG 1 .png")
    (root / "labels.csv").write_text("image,classes\np0,cat\n")
    with pytest.raises(UserError, match=r"ends with a space.*Rename the file"):
        read_folder(root)


def test_deep_compares_corrected_masks_with_the_labels(tmp_path):
    folder = make_folder(tmp_path / "data")
    shown = {r.id: r.labels for r in read_folder(folder).split("train")}
    single = {image_id: labels[0] for image_id, labels in shown.items() if len(labels) == 1}
    correct(folder, {image_id: 3 - label for image_id, label in single.items()})
    code, told = data(folder, "--deep")
    assert code == 1
    assert "corrected masks: the masks of" in told
    assert "other ids" in told


def test_a_first_line_longer_than_a_cell_may_be_is_no_header(root):
    (root / "labels.csv").write_text('{"p0": "' + "x" * 200_000 + '"}')
    with pytest.raises(UserError, match=r"labels.csv, line 1: .*expected the header") as caught:
        read_folder(root)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_the_line_that_a_message_proposes_is_read(root, delimiter):
    header, lines = f"image{delimiter}classes", ['p0{}"cat;owl"', "p0{}dog", "p1{}dog", "p2{}cat"]
    table = [line.format(delimiter) for line in lines]
    (root / "labels.csv").write_text("\n".join([header, *table]) + "\n")
    with pytest.raises(UserError, match="write one line per photo: ") as caught:
        read_folder(root)
    proposed = str(caught.value).rpartition(": ")[2]
    (root / "labels.csv").write_text("\n".join([header, proposed, *table[2:]]) + "\n")
    assert read_folder(root).classes == ("cat", "dog", "owl")
