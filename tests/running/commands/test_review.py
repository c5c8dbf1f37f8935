"""review: the queue as a table and as JSON, and what is in the page."""

from __future__ import annotations

import configparser
import fnmatch
import json
import re
from pathlib import Path

import numpy as np
import pytest

from getam.config.loading import load_config, recorded
from getam.data.palette import write_label_png
from getam.errors import UserError
from getam.running.commands import review_queue
from getam.running.commands.current import CurrentRun
from getam.view import review_page
from stages.chain import chain
from tests.conftest import ROOT
from tests.running.commands.conftest import assert_one_sentence, block

ROWS = (
    ("photo03", "train", 0.9, "The network is not sure which pixels are dog."),
    ("photo08", "val", 0.5, "cat has no pixel in the mask, or hardly one."),
    ("photo00", "train", 0.25, "The network sees dog, which is not among the labels."),
)


def write_doubt(file: Path, rows=ROWS) -> Path:
    lines = [f'{image},{split},{doubt:.4f},"{reason}"' for image, split, doubt, reason in rows]
    file.write_text("\n".join(["image,split,doubt,reason", *lines]) + "\n")
    return file


@pytest.fixture
def doubted(micro, tmp_path, monkeypatch):
    """The micro run, with a table of doubt."""
    file = write_doubt(tmp_path / "doubt.csv")
    monkeypatch.setattr(review_queue, "doubt_file", lambda run: file)
    return micro


def reviewed(place: Path, rows: str) -> tuple[str]:
    (place / "review.csv").write_text(f"image,verdict,classes\n{rows}")
    return (f"data.review={place / 'review.csv'}",)


def test_the_table_is_in_the_order_of_doubt(doubted):
    told = doubted("review").out
    lines = told.splitlines()
    assert lines[0].split() == ["doubt", "image", "split", "classes", "verdict", "reason"]
    assert [line.split()[:4] for line in lines[1:4]] == [
        ["0.90", "photo03", "train", "dog"],
        ["0.50", "photo08", "val", "cat"],
        ["0.25", "photo00", "train", "cat"],
    ]
    assert lines[4] == "3 of 3 photos, most doubtful first."


def test_json_is_only_json_and_has_what_the_review_says(doubted, tmp_path):
    rows = "photo03,accepted,\nphoto00,,cat;dog\nphoto08,rejected,-\n"
    found = json.loads(doubted("review", "--json", more=reviewed(tmp_path, rows)).out)
    assert [(r["image"], r["verdict"], r["classes"]) for r in found] == [
        ("photo03", "accepted", ["dog"]),
        ("photo08", "rejected", []),
        ("photo00", "", ["cat", "dog"]),
    ]
    assert found[0]["doubt"] == 0.9
    assert found[1]["reason"] == "cat has no pixel in the mask, or hardly one."


def test_a_photo_with_a_corrected_mask_is_marked_and_last(doubted, tmp_path):
    folder = tmp_path / "corrections"
    folder.mkdir()
    write_label_png(folder / "photo03.png", np.full((40, 48), 2, np.uint8))
    more = (f"data.corrections={folder}", "data.learn_from_sample=false")
    told = doubted("review", "--json", more=more)
    rows = json.loads(told.out)
    assert [row["image"] for row in rows] == ["photo08", "photo00", "photo03"]
    assert rows[-1]["reason"] == "Corrected mask: it takes the place of the final mask."
    assert "Corrected mask" in doubted("review", more=more).out
    assert doubted("review", "-o", tmp_path / "review.html", more=more).code == 0
    last = block(tmp_path / "review.html")["entries"][-1]
    assert (last["id"], last["reason"]) == ("photo03", rows[-1]["reason"])
    assert last["layers"][0]["caption"] == "corrected mask"
    assert last["layers"][0]["classes"] == [2]


def test_split_and_limit_choose(doubted):
    train = json.loads(doubted("review", "--json", "--split", "train").out)
    assert [row["image"] for row in train] == ["photo03", "photo00"]
    first = json.loads(doubted("review", "--json", "--limit", "1").out)
    assert [row["image"] for row in first] == ["photo03"]
    assert "1 of 3 photos" in doubted("review", "--limit", "1").out


@pytest.fixture
def with_label_errors(doubted, tmp_path, monkeypatch):
    file = tmp_path / "label_errors.csv"
    lines = ("photo08,val,0.8000,dog,no", "photo03,train,0.3000,dog,yes")
    file.write_text("\n".join(["image,split,probability,class,labelled", *lines]) + "\n")
    monkeypatch.setattr(review_queue, "label_file", lambda run: file)
    return doubted


def test_the_labels_alone_have_an_order_of_their_own(with_label_errors, tmp_path):
    found = json.loads(with_label_errors("review", "--labels", "--json").out)
    assert [(row["image"], row["doubt"]) for row in found] == [("photo08", 0.8), ("photo03", 0.3)]
    assert [row["reason"] for row in found] == [
        "The photo looks like photos with dog, which is not among the labels.",
        "The photo does not look like other photos with dog, which is among the labels.",
    ]
    told = with_label_errors("review", "--labels", "--limit", "1").out
    assert told.splitlines()[-1] == "1 of 2 photos, most likely wrong labels first."
    path = tmp_path / "labels.html"
    assert with_label_errors("review", "--labels", "--split", "train", "-o", path).code == 0
    data = block(path)
    assert [entry["id"] for entry in data["entries"]] == ["photo03"]
    assert data["about"].startswith("1 photo, most likely wrong labels first")


def test_mistakes_are_one_sentence(doubted, tmp_path):
    assert_one_sentence(doubted("review", "--split", "tset"), "tset", "train, val")
    assert_one_sentence(doubted("review", "-o", tmp_path), str(tmp_path), "folder")
    assert_one_sentence(
        doubted("review", "-o", doubted.artifacts / "a.html"), "among the artifacts"
    )
    both = doubted("review", "--json", "-o", tmp_path / "a.html")
    assert both.code == 2
    assert not (tmp_path / "a.html").exists()


def test_without_the_table_of_doubt_it_says_so(micro):
    """It names the stage; how to run it is said by every command alike."""
    more = ("classifier.epochs=3",)  # of which nothing is cached
    assert_one_sentence(micro("review", more=more), "doubt")


def test_the_page_has_photos_masks_and_maps(doubted, tmp_path):
    path = tmp_path / "review.html"
    made = doubted("review", "-o", path)
    assert made.code == 0, made
    assert re.search(r"review.html  3 photos, 0\.\d MB", made.out)
    data = block(path)
    assert [entry["id"] for entry in data["entries"]] == ["photo03", "photo08", "photo00"]
    train, val, _ = data["entries"]
    assert [one["caption"] for one in train["layers"]] == ["final mask", "pseudo label"]
    assert [one["caption"] for one in val["layers"]] == ["final mask", "prediction"]
    assert [one["class"] for one in train["maps"]] == [2]
    assert (train["labels"], train["size"]) == (["dog"], [48, 40])
    assert all(entry["photo"].startswith("data:image/webp;base64,") for entry in data["entries"])


def test_the_page_keeps_lines_of_photos_that_it_does_not_show(doubted, tmp_path):
    """A saved review.csv would lose them otherwise."""
    more = reviewed(tmp_path, "photo01,accepted,\nphoto02,rejected,\nphoto08,,dog\n")
    path = tmp_path / "review.html"
    assert doubted("review", "-o", path, more=more).code == 0
    data = block(path)
    assert data["review"] == {
        "photo01": {"verdict": "accepted", "classes": None},
        "photo02": {"verdict": "rejected", "classes": None},
        "photo08": {"verdict": "", "classes": ["dog"]},
    }
    assert data["entries"][-1]["id"] == "photo02"  # rejected: its verdict can be taken back
    assert data["entries"][-1]["doubt"] is None


def test_labels_outside_the_classes_of_the_run_stay_in_the_page(doubted, tmp_path):
    path = tmp_path / "review.html"
    assert doubted("review", "-o", path, more=("data.classes=[cat]",)).code == 0
    data = block(path)
    assert [one["name"] for one in data["classes"]] == ["cat"]
    assert data["entries"][0]["labels"] == ["dog"]
    assert data["known"] == ["cat", "dog"]  # a review.csv may name them, of any photo


def test_a_named_run_finds_its_review_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "review.csv").write_text("image,verdict,classes\n")
    monkeypatch.chdir(tmp_path)
    kept = recorded(load_config((), ("data.review=review.csv",)))
    assert kept["data"]["review"] == str(tmp_path / "review.csv")


def test_another_run_or_review_begins_with_a_store_of_its_own(doubted, tmp_path):
    path = tmp_path / "review.html"
    stores = []
    for rows in ("", "photo03,accepted,\n", ""):
        doubted("review", "-o", path, more=reviewed(tmp_path, rows))
        stores.append(block(path)["store"])
    assert stores[0] == stores[2] != stores[1]


def test_a_rejected_photo_that_is_asked_for_is_said_to_be_rejected(micro, tmp_path):
    more = reviewed(tmp_path, "photo00,rejected,\n")
    with pytest.raises(UserError, match=r"photo00: .* rejected in the file that data\.review"):
        CurrentRun(chain, load_config((), (*micro.settings, *more)), micro.artifacts).records(
            "train", ["photo00"]
        )


def test_every_file_of_the_page_is_packed():
    """Patterns of setup.cfg, without building a wheel."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["getam.view.review_page"].split()
    files = [p.name for p in Path(review_page.__file__).parent.iterdir() if p.suffix != ".py"]
    packed = [name for name in files if any(fnmatch.fnmatch(name, one) for one in patterns)]
    assert {"review.html", "review.css", "review.js"} <= set(packed)
    assert sorted(packed) == sorted(name for name in files if name != "__pycache__")
