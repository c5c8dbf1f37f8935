"""A folder of corrected masks: what is read, what is refused, and what ``data`` says of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from getam.data.corrections import check_meaning, read_corrections
from getam.data.folder import read_folder
from getam.errors import UserError
from pipeline import main

IDS = [f"photo{n:02}" for n in range(12)]


@pytest.fixture
def corrected(folder) -> Path:
    """Corrections of photo00, photo01 and photo08; the last one measures."""
    return correct(folder, {"photo00": 1, "photo01": 2, "photo08": 1}, ["photo08"])


def correct(folder: Path, masks: dict[str, int], sample: list[str] | None = None) -> Path:
    """Write corrected masks that are of one value everywhere."""
    place = folder / "corrections"
    place.mkdir(exist_ok=True)
    for image_id, value in masks.items():
        size = Image.open(folder / "images" / f"{image_id}.png").size[::-1]
        Image.fromarray(np.full(size, value, np.uint8)).save(place / f"{image_id}.png")
    if sample is not None:
        (place / "sample.txt").write_text("".join(f"{name}\n" for name in sample))
    return place


def data(folder: Path, *arguments: str) -> tuple[int, str]:
    settings = ("data.kind=folder", f"data.root={folder}", "data.corrections=corrections")
    sets = [word for setting in settings for word in ("--set", setting)]
    done = CliRunner().invoke(main, ["data", *sets, *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_masks_and_the_sample_are_found_and_given_to_the_photos(folder, corrected):
    index = read_folder(folder)
    index = index.with_corrections(read_corrections(corrected, IDS))
    train = {r.id: (r.correction, r.in_sample) for r in index.split("train") if r.correction}
    assert train == {i: (corrected / f"{i}.png", False) for i in ("photo00", "photo01")}
    assert [r.id for r in index.split("val") if r.in_sample] == ["photo08"]
    assert (index.read_correction(index.split("train")[1]) == 2).all()


def test_masks_of_photos_in_sub_folders_may_be_in_sub_folders_too(folder):
    (folder / "corrections" / "cat").mkdir(parents=True)
    Image.new("L", (4, 4)).save(folder / "corrections" / "cat" / "01.png")
    Image.new("L", (4, 4)).save(folder / "corrections" / "dog_02.png")
    found = read_corrections(folder / "corrections", ["cat_01", "dog_02"])
    assert sorted(found.files) == ["cat_01", "dog_02"]


def test_class_ids_are_those_of_the_data_set_also_with_a_subset_of_its_classes(folder, corrected):
    index = read_folder(folder).subset(["dog"]).with_corrections(read_corrections(corrected, IDS))
    cat, dog = index.split("train")[:2]
    assert (index.read_correction(cat) == 255).all()
    assert (index.read_correction(dog) == 1).all()


def no_folder(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))


def no_mask(place: Path) -> None:
    for file in place.glob("*.png"):
        file.unlink()


def unknown_photo(place: Path) -> None:
    (place / "photo01.png").rename(place / "photo99.png")


def unknown_line(place: Path) -> None:
    (place / "sample.txt").write_text("photo08\nphoto77\n")


def line_without_mask(place: Path) -> None:
    (place / "sample.txt").write_text("photo08\nphoto09\nphoto10\n")


def line_twice(place: Path) -> None:
    (place / "sample.txt").write_text("photo08\nphoto08\n")


WRONG = {
    no_folder: "there is no folder",
    no_mask: "there is no mask in",
    unknown_photo: "photo99.png: got a corrected mask for 'photo99'",
    unknown_line: "sample.txt, line 2: got 'photo77'",
    line_without_mask: "2 of 3 photos have no corrected mask, 'photo09' first",
    line_twice: "'photo08' stands there twice",
}


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change.__name__)
def test_a_folder_that_is_not_as_it_should_be_is_refused(folder, corrected, change):
    change(corrected)
    if change is not line_without_mask:  # that may be on its way: only a run refuses it
        with pytest.raises(UserError, match=WRONG[change]):
            read_corrections(corrected, IDS)
    code, out = data(folder)
    assert code == 1
    assert WRONG[change] in out
    assert "Traceback" not in out


def test_data_counts_corrections_and_the_sample(folder, corrected):
    (corrected / "notes.docx").write_text("")
    code, out = data(folder)
    assert code == 0, out
    assert "corrected masks: 3; the networks learn from 2, and 1 are the sample" in out
    assert "corrections/: 1 file is not read, 'notes.docx' first" in out
    told = json.loads(data(folder, "--json")[1])
    assert told["corrections"] == {"masks": 3, "sample": 1, "learnt from": 2}


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((40, 48), np.uint8), "photo00.png: got a mask of 48 x 40"),
        (np.full((48, 40), 3, np.uint8), "photo00.png: got the value 3"),
        (np.zeros((48, 40, 3), np.uint8), "photo00.png: got a mask in mode RGB"),
    ],
    ids=["size", "value", "colours"],
)
def test_data_names_a_corrected_mask_that_is_wrong(folder, corrected, mask, words):
    Image.fromarray(mask).save(corrected / "photo00.png")
    code, out = data(folder)
    assert code == 1
    assert words in out


def test_data_finds_what_a_run_refuses_of_the_sample(folder, corrected):
    table = (folder / "labels.csv").read_text().replace("photo03,dog\n", "")
    (folder / "labels.csv").write_text(table)
    correct(folder, {"photo03": 1}, ["photo03", "photo08"])
    code, out = data(folder)
    assert code == 1
    assert "sample.txt: 1 of 2 photos are not labelled" in out


def test_data_tells_of_masks_and_samples_of_rejected_photos(folder, corrected):
    review = folder / "review.csv"
    review.write_text("image,verdict,classes\nphoto00,rejected,\n")
    setting = ("--set", f"data.review={review}")
    code, out = data(folder, *setting)
    assert code == 0, out
    assert "corrections/: 1 mask is of a rejected photo and is not used: photo00" in out
    correct(folder, {}, ["photo00", "photo08"])
    code, out = data(folder, *setting)
    assert code == 1
    assert "sample.txt: 1 of 2 photos are rejected in the file of data.review, 'photo00'" in out


@pytest.mark.parametrize(
    ("listed", "classes", "remedy"),
    [
        (
            ("kitty", "dog"),
            ("cat", "dog"),
            "If 'kitty' was renamed, write its new name in its line",
        ),
        (("cat", "dog"), ("dog", "katze"), "If 'cat' was renamed, write its new name"),
        (("cat", "dog"), ("dog", "cat"), "in the order of the masks (cat, dog)"),
        (("cat", "dog"), ("bear", "cat", "dog"), "in the order of the masks (cat, dog)"),
        (("cat", "dog"), ("cat",), "in the order of the masks (cat, dog)"),
    ],
)
def test_the_remedy_for_other_classes_helps(tmp_path, listed, classes, remedy):
    with pytest.raises(UserError, match=r"classes\.txt: in the masks of this folder") as caught:
        check_meaning(tmp_path, listed, classes)
    assert remedy in str(caught.value)
