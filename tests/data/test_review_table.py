"""``review.csv``: what it changes in a data set, and mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from getam.data.folder import read_folder
from getam.data.index import DataIndex, Record
from getam.data.review import Review, reviewed
from getam.data.review_table import read_review, review_notes
from getam.errors import UserError

HEADER = "image,verdict,classes\n"


def written(place: Path, text: str) -> Path:
    file = place / "review.csv"
    file.write_text(text, encoding="utf-8")
    return file


def read(folder: Path, rows: str) -> Review:
    return read_review(written(folder, HEADER + rows), read_folder(folder), "train")


def data_with(*classes: str) -> DataIndex:
    """One photo of each split, and these classes."""
    splits = {n: [Record(i, Path(f"{i}.png"), (1,))] for n, i in (("train", "a"), ("val", "b"))}
    return DataIndex(Path("data"), classes, splits)


def test_corrected_classes_replace_labels_and_rejected_photos_leave_train(folder):
    review = read(folder, "photo00,,dog\nphoto01,rejected,\nphoto02,accepted,\nphoto08,,cat;dog\n")
    before, after = read_folder(folder), reviewed(read_folder(folder), review)
    train = {record.id: record.labels for record in after.split("train")}
    assert train["photo00"] == (2,)
    assert "photo01" not in train
    assert len(train) == len(before.split("train")) - 1
    assert train["photo02"] == (1,)
    assert {r.id: r.labels for r in after.split("val")}["photo08"] == (1, 2)


def test_a_dash_is_no_class_and_an_empty_cell_no_correction(folder):
    review = read(folder, "photo00,,-\nphoto01,accepted,\n")
    assert review.classes == {"photo00": ()}
    labels = {r.id: r.labels for r in reviewed(read_folder(folder), review).split("train")}
    assert (labels["photo00"], labels["photo01"]) == ((), (2,))


def test_rejected_photos_of_val_stay_to_be_measured(folder):
    review = read(folder, "photo08,rejected,\n")
    assert reviewed(read_folder(folder), review).splits == read_folder(folder).splits


def test_an_unlabelled_photo_gets_labels_by_its_correction(folder):
    table = (folder / "labels.csv").read_text().replace("photo00,cat\n", "")
    (folder / "labels.csv").write_text(table)
    review = read(folder, "photo00,,cat\n")
    assert reviewed(read_folder(folder), review).split("train")[0].labels == (1,)


def test_file_names_other_delimiters_and_spreadsheet_marks_are_read(folder):
    text = "\ufeffimage;verdict;classes\r\nphoto00.png;accepted;\r\nphoto01;;cat dog\r\n"
    review = read_review(written(folder, text), read_folder(folder), "train")
    assert review.verdicts == {"photo00": "accepted"}
    assert review.classes == {"photo01": ("cat", "dog")}


def test_classes_with_signs_that_separate_are_told_apart(tmp_path):
    """Such names come from labels.json, VOC or COCO; the page joins all names by semicolons."""
    index = data_with("bow, weapon", "a;b", "a", "traffic light")
    rows = '"a","","bow, weapon;traffic light"\n"b",,a;a;b\n'
    review = read_review(written(tmp_path, HEADER + rows), index, "train")
    assert review.classes == {"a": ("bow, weapon", "traffic light"), "b": ("a;b", "a")}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("image,verdict\nphoto00,accepted\n", ("line 1", "image,verdict,classes")),
        ("", ("line 1", "image,verdict,classes")),
        (f"{HEADER}photo99,accepted,\n", ("line 2", "photo99", "no such photo")),
        (f"{HEADER}photo00,reject,\n", ("line 2", "'reject'", "accepted, rejected")),
        (f"{HEADER}photo00,accepted\n", ("line 2", "2 columns", "image,verdict,classes")),
        (f"{HEADER}photo00,,\nphoto00,,cat\n", ("line 3", "photo00", "twice")),
        (f"{HEADER}photo00,,cta\n", ("photo00", "'cta'", "Did you mean 'cat'?")),
        (f"{HEADER}photo00,,zebra\n", ("photo00", "'zebra'", "cat, dog", "- for no class")),
        (HEADER + "".join(f"photo0{n},rejected,\n" for n in range(8)), ("all 8", "train")),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(folder, text, parts):
    file = written(folder, text)
    with pytest.raises(UserError) as told:
        read_review(file, read_folder(folder), "train")
    assert str(file) in str(told.value)
    assert "\n" not in str(told.value)
    for part in parts:
        assert part in str(told.value)


def test_a_missing_file_is_said(folder):
    with pytest.raises(UserError, match=r"data\.review: there is no file .*none\.csv"):
        read_review(folder / "none.csv", read_folder(folder), "train")


def test_a_class_called_dash_is_not_taken_for_no_class(tmp_path):
    file = written(tmp_path, f"{HEADER}a,,-\n")
    with pytest.raises(UserError, match="means no class"):
        read_review(file, data_with("-", "cat"), "train")


def test_notes_say_what_the_review_changes(folder):
    review = read(
        folder, "photo00,accepted,dog\nphoto01,rejected,\nphoto08,rejected,\nphoto02,,cat;dog\n"
    )
    assert review_notes("review.csv", review, read_folder(folder)) == [
        "review.csv: photos that are accepted: 1, rejected: 2, with corrected classes: 2.",
        "review.csv: 1 rejected photo leaves train, 'photo01' first.",
        "review.csv: 1 rejected photo is not in train and stays: without such photos the figures "
        "would be too high.",
        "review.csv: 'cat' is added to 0 photos and removed from 1 photo.",
        "review.csv: 'dog' is added to 2 photos and removed from 0 photos.",
    ]


def test_a_wrong_class_and_a_missing_file_are_told_with_their_place(folder):
    with pytest.raises(
        UserError, match=r"review\.csv, line 3: image 'photo01' has the class 'bird'"
    ):
        read(folder, "photo00,accepted,dog\nphoto01,,bird\n")
    with pytest.raises(UserError, match=rf"there is no file {Path.cwd()}/lost\.csv"):
        read_review(Path("lost.csv"), read_folder(folder), "train")
