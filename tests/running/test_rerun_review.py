"""Which lines of ``review.csv`` make which stages run again, for each kind of data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from getam.config.loading import load_config
from getam.running.opening import open_runner
from pipeline import main
from stages.chain import chain
from tests.conftest import EXAMPLE, TINY, make_folder
from tests.running.reruns import differing


def write_coco(root: Path) -> None:
    """Two train photos and a val photo of two classes."""
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]
    for split, names in {"train": ["a", "b"], "val": ["c"]}.items():
        (root / split).mkdir()
        for name in names:
            Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(root / split / f"{name}.png")
        images = [
            {"id": n, "file_name": f"{i}.png", "height": 32, "width": 32}
            for n, i in enumerate(names)
        ]
        annotations = [{"image_id": n, "category_id": 2} for n in range(len(names))]
        content = {"images": images, "annotations": annotations, "categories": categories}
        file = root / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(content))


def write_voc(root: Path) -> None:
    for name in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for name in "abc":
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(root / f"JPEGImages/{name}.jpg")
        text = "<annotation><object><name>cat</name></object></annotation>"
        (root / f"Annotations/{name}.xml").write_text(text)
    for split, ids in {"train": "a\nb\n", "val": "c\n"}.items():
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(ids)


KINDS = {  # kind -> how its data are written, two train photos, a val photo, two classes
    "folder": (make_folder, ("photo00", "photo01", "photo08"), ("cat", "dog")),
    "voc": (write_voc, ("a", "b", "c"), ("cat", "dog")),
    "coco": (write_coco, ("a", "b", "c"), ("cat", "dog")),
    "shapes": (Path, ("train_0000", "train_0001", "val_0000"), ("dots", "rings")),
}
SETTINGS = {"shapes": EXAMPLE, "voc": (*TINY, "data.train=train")}


class Place:
    """Data of a kind, and the keys of a run with a review of them."""

    def __init__(self, kind: str, place: Path) -> None:
        write, self.photos, self.classes = KINDS[kind]
        write(place / "data")
        self.review, self.place = place / "review.csv", place
        self.settings = (f"data.kind={kind}", *SETTINGS.get(kind, TINY))
        self.settings += () if kind == "shapes" else (f"data.root={place / 'data'}",)

    def keys(self, rows: str | None, *more: str) -> dict[str, str]:
        settings = (*self.settings, *more)
        if rows is not None:
            self.review.write_text(f"image,verdict,classes\n{rows}")
            settings += (f"data.review={self.review}",)
        runner = open_runner(chain, load_config((), settings), self.place / "artifacts")
        return {decision.stage: decision.key for decision in runner.plan()}


@pytest.fixture(params=KINDS)
def place(request, tmp_path) -> Place:
    return Place(request.param, tmp_path)


def test_accepting_a_photo_reruns_nothing(place):
    rows = "".join(f"{photo},accepted,\n" for photo in place.photos)
    assert place.keys(rows) == place.keys("") == place.keys(None)


def test_corrected_classes_rerun_what_reads_labels(place):
    """Encoder features are computed from photos alone."""
    fixed = "deeplab.fixed_encoder=true"
    before = place.keys(None, fixed)
    after = place.keys(f"{place.photos[0]},,{place.classes[1]}\n", fixed)
    others = ("data", "encoder_features")
    assert differing(before, after) == tuple(stage for stage in before if stage not in others)
    assert place.keys(f"{place.photos[0]},,-\n", fixed) != after


def test_the_order_of_lines_and_classes_is_no_matter(place):
    one, other = place.classes
    first = f"{place.photos[0]},,{one};{other}\n"
    second = f"{place.photos[1]},accepted,{one}\n"
    turned = first.replace(f"{one};{other}", f"{other};{one}")
    assert place.keys(first + second) == place.keys(second + turned)


def test_rejecting_a_train_photo_reruns_and_a_val_photo_does_not(place):
    before = place.keys(None, "deeplab.fixed_encoder=true")
    after = place.keys(f"{place.photos[0]},rejected,\n", "deeplab.fixed_encoder=true")
    assert differing(before, after) == tuple(stage for stage in before if stage != "data")
    unmoved = place.keys(f"{place.photos[2]},rejected,\n", "deeplab.fixed_encoder=true")
    assert unmoved == before


def test_classes_of_a_rejected_train_photo_are_no_matter(place):
    rejected = place.keys(f"{place.photos[0]},rejected,\n")
    assert place.keys(f"{place.photos[0]},rejected,{place.classes[1]}\n") == rejected


def test_a_correction_that_says_what_the_table_says_reruns_nothing(tmp_path):
    place = Place("folder", tmp_path)
    assert place.keys("photo00,,cat\n") == place.keys(None)


def test_the_place_of_the_file_is_no_matter(tmp_path):
    place = Place("folder", tmp_path)
    before = place.keys("photo00,,dog\n")
    place.review = tmp_path / "elsewhere.csv"
    assert place.keys("photo00,,dog\n") == before


@pytest.mark.parametrize("command", ["run", "run --dry-run", "status", "explain deeplab"])
def test_a_mistake_is_told_before_the_first_stage(place, command):
    place.review.write_text(f"image,verdict,classes\n{place.photos[0]},,zebra\n")
    settings = (*place.settings, f"data.review={place.review}")
    sets = [word for setting in settings for word in ("--set", setting)]
    words = [*command.split(), "--artifacts", str(place.place / "artifacts"), *sets]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "has the class 'zebra'" in done.output
    assert "runs:" not in done.output


def test_data_says_what_the_review_changes(tmp_path):
    for kind in ("folder", "voc", "coco"):
        place = Place(kind, tmp_path / kind)
        place.review.write_text(
            f"image,verdict,classes\n{place.photos[0]},rejected,\n{place.photos[2]},,dog\n"
        )
        settings = (*place.settings, f"data.review={place.review}")
        sets = [word for setting in settings for word in ("--set", setting)]
        done = CliRunner().invoke(main, ["data", "--json", *sets])
        found = json.loads(done.stdout.partition("Error:")[0])
        assert any("1 rejected photo leaves train" in note for note in found["notes"]), kind
        assert any("'dog' is added to 1 photo " in n for n in found["notes"]), kind
        assert found["splits"]["train"]["images"] == {"folder": 7}.get(kind, 1)
