"""The ways to say which classes are in the images of a data folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from getam.data.check import check
from getam.data.folder import read_folder
from getam.errors import UserError
from getam.running.commands.predict import find_images


def labels(root: Path) -> dict[str, set[str]]:
    index = read_folder(root)
    records = [record for name in index.splits for record in index.split(name)]
    return {r.id: {index.classes[label - 1] for label in r.labels} for r in records}


@pytest.fixture
def by_class(folder) -> Path:
    """The same folder with a sub-folder per class instead of a table."""
    table = labels(folder)
    for name in ("images", "masks", "saliency"):
        for image_id, (class_name,) in table.items():
            (folder / name / class_name).mkdir(exist_ok=True)
            (folder / name / f"{image_id}.png").rename(
                folder / name / class_name / f"{image_id}.png"
            )
    for name in ("labels.csv", "classes.txt"):
        (folder / name).unlink()
    shutil.rmtree(folder / "splits")
    return folder


def test_json_says_the_same_as_csv_and_takes_names_with_spaces(folder):
    before = labels(folder)
    (folder / "labels.csv").unlink()
    table = {image_id: sorted(names) for image_id, names in before.items()}
    (folder / "labels.json").write_text(json.dumps(table))
    assert labels(folder) == before
    table["photo03"] = ["cat", "polar bear"]
    (folder / "labels.json").write_text(json.dumps(table))
    (folder / "classes.txt").write_text("cat\ndog\npolar bear\n")
    assert labels(folder)["photo03"] == {"cat", "polar bear"}


def test_a_sub_folder_per_class_labels_its_images(by_class):
    found = labels(by_class)
    assert found["cat_photo00"] == {"cat"}
    assert found["dog_photo01"] == {"dog"}
    assert len(found) == 12
    records = [r for records in read_folder(by_class).splits.values() for r in records]
    record = next(r for r in records if r.id == "cat_photo00")
    assert record.mask == by_class / "masks" / "cat" / "photo00.png"
    assert record.saliency == by_class / "saliency" / "cat" / "photo00.png"


def test_the_same_name_in_two_classes_is_two_images(by_class):
    shutil.copy(by_class / "images/cat/photo00.png", by_class / "images/dog/photo00.png")
    assert {"cat_photo00", "dog_photo00"} <= set(labels(by_class))


def test_the_class_is_the_first_folder_below_images(by_class):
    deep = by_class / "images" / "cat" / "2021" / "may"
    deep.mkdir(parents=True)
    shutil.copy(by_class / "images/cat/photo00.png", deep / "new.png")
    assert read_folder(by_class).classes == ("cat", "dog")
    assert labels(by_class)["cat_2021_may_new"] == {"cat"}


def test_names_that_begin_with_a_dot_or_an_at_sign_are_no_photos_and_no_classes(by_class):
    before = labels(by_class)
    for folder in ("@eaDir", ".ipynb_checkpoints", "cat/@eaDir", "__MACOSX"):
        (by_class / "images" / folder).mkdir()
        shutil.copy(by_class / "images/cat/photo00.png", by_class / "images" / folder / "._a.png")
    for folder in ("@eaDir", ".ipynb_checkpoints", "cat/@eaDir"):
        shutil.copy(by_class / "images/cat/photo00.png", by_class / "images" / folder / "a.png")
    (by_class / "images" / "cat" / "._photo00.png").write_bytes(b"a note of the system")
    assert labels(by_class) == before


def test_hidden_files_are_no_split_and_hide_no_table(folder):
    before = labels(folder)
    (folder / "splits" / "._train.txt").write_bytes(b"\xff\xfe")
    (folder / "images" / "@eaDir").mkdir()
    assert labels(folder) == before


def test_photos_beside_class_folders_are_refused(by_class):
    shutil.copy(by_class / "images/cat/photo00.png", by_class / "images/loose.png")
    with pytest.raises(UserError, match=r"got 1 photos beside folders, 'loose.png' first"):
        read_folder(by_class)


def test_a_link_to_a_folder_of_a_class_is_refused(by_class):
    (by_class / "images" / "cat").rename(by_class / "elsewhere")
    (by_class / "images" / "cat").symlink_to(by_class / "elsewhere")
    with pytest.raises(UserError, match="images/cat: this link to a folder is not followed"):
        read_folder(by_class)


def test_hidden_photos_are_not_predicted_either(by_class):
    (by_class / "images" / "@eaDir").mkdir()
    for name in ("@eaDir/a.png", "cat/._photo00.png"):
        shutil.copy(by_class / "images/cat/photo00.png", by_class / "images" / name)
    assert len(find_images([by_class / "images"], by_class / "out")) == 12


def notes(root: Path) -> str:
    return "\n".join(check(read_folder(root), ["train", "val"])["notes"])


def test_files_that_are_not_read_are_counted_with_a_first_name(folder):
    assert "not read" not in notes(folder)
    for name in ("raw.CR2", "raw2.cr2", "clip.mov", "Thumbs.db"):
        (folder / "images" / name).write_bytes(b"")
    (folder / "images" / "old").mkdir()
    (folder / "images" / "old" / "a.png").write_bytes(b"")
    (folder / "masks" / "photo00.jpg").write_bytes(b"")
    told = notes(folder)
    assert "images/: 4 files are not read, 'clip.mov' first (2 .cr2, 1 .mov, 1 .png)" in told
    assert "masks/: 1 file is not read, 'photo00.jpg' first (1 .jpg)" in told


def test_masks_and_saliency_of_no_photo_and_photos_of_no_split_are_counted(folder):
    for name in ("masks", "saliency"):
        (folder / name / "photo00.png").rename(folder / name / "photo-00.png")
    (folder / "splits" / "val.txt").write_text("photo08\n")
    told = notes(folder)
    assert "masks/: 1 of 12 masks matches no photo, 'photo-00.png' first" in told
    assert "saliency/: 1 of 12 saliency maps matches no photo" in told
    assert "3 of 12 photos are not in splits/ and are left out, 'photo09' first" in told


def test_a_folder_without_photos_says_what_lies_there(folder):
    for file in (folder / "images").iterdir():
        file.rename(file.with_suffix(".cr2"))
    with pytest.raises(UserError, match=r"got no photos.*12 files are not read, 'photo00.cr2'"):
        read_folder(folder)


def test_a_file_name_that_is_not_utf_8_is_refused(folder):
    shutil.copy(
        os.fsencode(folder / "images" / "photo00.png"),
        os.fsencode(folder / "images") + b"/caf\xe9.png",
    )
    with pytest.raises(UserError, match=r"caf\\xe9.png: this file name has bytes that are not"):
        read_folder(folder)


def test_a_file_name_with_a_line_break_is_refused(folder):
    shutil.copy(folder / "images" / "photo00.png", folder / "images" / "two\nlines.png")
    with pytest.raises(UserError, match=r"two\\nlines.png: .*control characters"):
        read_folder(folder)


def test_a_file_name_of_a_screenshot_is_taken(folder):
    """macOS writes a narrow no-break space into it, which is no printable character."""
    name = "Screenshot at 3.45\u202fPM"
    shutil.copy(folder / "images" / "photo00.png", folder / "images" / f"{name}.png")
    (folder / "splits" / "val.txt").write_text(f"{name}\n", encoding="utf-8")
    assert [record.id for record in read_folder(folder).split("val")] == [name]


def test_a_name_that_is_too_long_once_nested_is_refused(by_class):
    long = by_class / "images" / "cat" / ("sub" * 50)
    long.mkdir()
    shutil.copy(by_class / "images/cat/photo00.png", long / f"{'n' * 96}.png")
    assert len(labels(by_class)) == 13  # 255 bytes: cat_subsub..._nnn....png
    (long / f"{'n' * 96}.png").rename(long / f"{'n' * 97}.png")
    with pytest.raises(UserError, match=r"256 bytes long; expected at most 255"):
        read_folder(by_class)


def test_an_id_that_hides_the_order_of_the_classes_is_refused(folder):
    shutil.copy(folder / "images" / "photo00.png", folder / "images" / "classes.txt.png")
    with pytest.raises(UserError, match=r"the id 'classes.txt', which has a meaning of its own"):
        read_folder(folder)


def test_an_id_that_looks_like_a_temporary_file_is_no_photo(folder):
    shutil.copy(folder / "images" / "photo00.png", folder / "images" / ".tmp-1.png")
    assert ".tmp-1" not in labels(folder)
    with (folder / "labels.csv").open("a") as table:
        table.write(".tmp-1,cat\n")
    with pytest.raises(UserError, match=r"got '.tmp-1', .* Files whose names begin with \. or @"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "labels.json: not JSON"),
        ("[]", "got a list, expected"),
        ('{"photo00": "cat"}', "'photo00' has 'cat', expected a list"),
        ('{"../photo00": ["cat"]}', "got '../photo00', but images/ has no such photo"),
        ('{"photo00": ["cta"]}', "Did you mean 'cat'"),
    ],
)
def test_a_wrong_json_table_is_named(folder, content, message):
    (folder / "labels.csv").unlink()
    (folder / "labels.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_folder(folder)


def test_two_tables_are_one_too_many(folder):
    (folder / "labels.json").write_text("{}")
    with pytest.raises(UserError, match=r"labels.csv and labels.json, expected one"):
        read_folder(folder)


def test_a_subset_renumbers_labels_and_ignores_the_others_in_masks(folder):
    index = read_folder(folder).subset(["dog"])
    cat, dog = index.split("train")[:2]
    assert (cat.labels, dog.labels) == ((), (1,))
    assert set(np.unique(index.read_mask(cat))) == {0, 255}
    assert set(np.unique(index.read_mask(dog))) == {0, 1}
    assert (index.mask_values(np.array([0, 1], np.uint8)) == [0, 2]).all()
    again = index.subset(["dog"])
    assert again == index


def test_a_subset_of_a_subset_still_knows_the_values_of_the_files(folder):
    turned = read_folder(folder).subset(["dog", "cat"])
    index = turned.subset(["cat"])
    dog = index.split("train")[1]
    assert set(np.unique(index.read_mask(dog))) == {0, 255}
    assert index.mask_values(np.array([1], np.uint8)) == [1]


@pytest.mark.parametrize(
    ("name", "typed"),
    [("labels.csv", "Labels.CSV"), ("classes.txt", "CLASSES.txt"), ("masks", "Masks")],
)
def test_a_name_in_other_case_is_not_passed_over(folder, name, typed):
    (folder / name).rename(folder / typed)
    with pytest.raises(UserError, match=rf"{typed} is there, expected {name}\. Rename it"):
        read_folder(folder)


def test_a_class_folder_without_a_photo_is_told(by_class):
    (by_class / "images" / "horse").mkdir()
    notes = read_folder(by_class).notes
    assert "images/: the folder 'horse' has no photo that is read, so it is no class." in notes


@pytest.mark.parametrize("name", ["labels.tsv", "labels.csv.csv", "Labels 2024.XLSX"])
def test_a_table_under_another_name_is_named(folder, name):
    (folder / "labels.csv").rename(folder / name)
    with pytest.raises(UserError, match=f"If '{name}' is the table, save it as labels.csv"):
        read_folder(folder)
    (folder / name).unlink()
    with pytest.raises(UserError) as caught:
        read_folder(folder)
    assert "is the table" not in str(caught.value)


def test_a_renamed_spreadsheet_file_is_told_to_be_saved_as_csv(folder):
    (folder / "labels.csv").write_bytes(b"PK\x03\x04\xff\xfe" * 9)
    with pytest.raises(UserError, match="to rename a spreadsheet file is not enough"):
        read_folder(folder)
