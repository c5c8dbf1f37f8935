"""The ways to say which classes are in the images of a data folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from getam.data.folder import read_folder
from getam.errors import UserError


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
    record = read_folder(by_class).split("train")[0]
    assert record.mask == by_class / "masks" / "cat" / "photo00.png"
    assert record.saliency == by_class / "saliency" / "cat" / "photo00.png"


def test_the_same_name_in_two_classes_is_two_images(by_class):
    shutil.copy(by_class / "images/cat/photo00.png", by_class / "images/dog/photo00.png")
    assert {"cat_photo00", "dog_photo00"} <= set(labels(by_class))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "labels.json: not JSON"),
        ("[]", "got a list, expected"),
        ('{"photo00": "cat"}', "image 'photo00' has 'cat', expected a list"),
        ('{"../photo00": ["cat"]}', "got '../photo00', but images/ has no such image"),
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
