"""report: the file, and what a browser makes of it."""

from __future__ import annotations

import base64
import configparser
import fnmatch
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from getam.data.index import Record
from getam.data.masks import read_mask
from getam.running.commands.figures import _measured
from getam.running.commands.gallery import pick
from getam.running.commands.report import _finite
from getam.view.page import label_uri, map_uri, photo_uri
from tests.conftest import ROOT
from tests.running.commands.conftest import assert_one_sentence, block


@pytest.fixture(scope="module")
def report(micro, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    made = micro("report", "-o", path)
    assert made.code == 0, made
    return path


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_report_holds_the_chain_the_figures_and_both_splits(report, micro):
    data = block(report)
    stages = ["classifier", "maps", "pseudolabels", "deeplab", "predictions", "doubt", "evaluation"]
    assert [row["stage"] for row in data["stages"]] == stages
    assert all(micro.artifact(row["stage"]).name == row["key"] for row in data["stages"])
    metrics = json.loads((micro.artifact("evaluation") / "metrics.json").read_text())
    assert [row["value"] for row in data["rows"]] == [row["value"] for row in metrics]
    titles = [chart["title"] for chart in data["charts"]]
    assert titles == [
        "Seeds at each threshold (train)",
        "classifier: loss of each epoch",
        "deeplab: loss of each epoch",
    ]
    assert [entry["split"] for entry in data["gallery"]["entries"]] == ["train"] * 8 + ["val"] * 4
    assert "classifier.epochs = 2" in data["settings"]


def test_gallery_images_are_those_of_the_artifacts(report, micro):
    entries = {entry["id"]: entry for entry in block(report)["gallery"]["entries"]}
    train, val = entries["photo01"], entries["photo09"]
    label = next(one["uri"] for one in train["layers"] if one["layer"] == "label")
    expected = read_mask(micro.artifact("pseudolabels") / "labels" / "photo01.png")
    assert (np.array(decoded(label)) == expected).all()
    assert [m["classId"] for m in train["maps"]] == [2]
    assert decoded(train["maps"][0]["uri"]).size == (4, 4)
    assert decoded(train["image"]).size == (48, 40) == tuple(train["size"])
    captions = [one["caption"] for one in val["layers"]]
    assert captions == ["prediction", "prediction + CRF", "final mask", "mask"]
    assert not val["maps"]


def test_a_path_of_this_machine_is_not_in_the_report(report, micro):
    assert str(micro.place) not in report.read_text()


def test_fewer_images_are_the_worst_the_best_and_some_between():
    records = [Record(f"{n:02}", Path(), ()) for n in range(30)]
    scores = {r.id: (7 * n % 30) / 30 for n, r in enumerate(records)}
    chosen = sorted(scores[r.id] * 30 for r in pick(records, scores, 9))
    assert np.round(chosen).tolist()[:3] == [0, 1, 2]
    assert np.round(chosen).tolist()[-3:] == [27, 28, 29]
    assert len({r.id for r in pick(records, scores, 9)}) == 9
    assert [r.id for r in pick(records, {}, 3)] == ["00", "10", "20"]
    doubts = {r.id: n / 30 for n, r in enumerate(records)}
    assert [r.id for r in pick(records, {}, 3, doubts)] == ["29", "28", "27"]


def test_report_of_a_run_without_labels_and_evaluation(micro, tmp_path):
    partial = micro("report", "-o", tmp_path / "r.html", more=("pseudolabels.quantile=0.5",))
    assert partial.code == 0, partial
    data = block(tmp_path / "r.html")
    assert [row["status"] for row in data["stages"]] == ["cached", "cached", *["stale"] * 5]
    assert data["rows"] == []
    assert {entry["split"] for entry in data["gallery"]["entries"]} == {"train"}
    assert all(entry["maps"] and entry["score"] is None for entry in data["gallery"]["entries"])


def test_large_images_are_reduced_and_labels_keep_their_values():
    image = np.zeros((600, 300, 3), np.uint8)
    labels = np.zeros((600, 300), np.uint8)
    labels[:300] = 200
    assert decoded(photo_uri(image)).size == (128, 256)
    small = decoded(label_uri(labels))
    assert small.size == (128, 256)
    assert set(np.unique(np.array(small))) == {0, 200}
    assert small.info["transparency"] == 0
    assert np.array(decoded(map_uri(np.array([[0, 0.5, 1]])))).tolist() == [[0, 128, 255]]


def test_page_files_are_in_the_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    folder = ROOT / "getam" / "view" / "page"
    patterns = config["options.package_data"]["getam.view.page"].split()
    files = [p.name for p in folder.iterdir() if p.is_file() and p.suffix != ".py"]
    assert len(files) == 7
    assert [f for f in files if not any(fnmatch.fnmatch(f, p) for p in patterns)] == []


def test_mistakes(micro, tmp_path):
    nothing = micro("report", "-o", tmp_path / "r.html", more=("classifier.epochs=9", "seed=5"))
    assert_one_sentence(nothing, "evaluation", "run --until evaluation")
    assert not (tmp_path / "r.html").exists()
    assert_one_sentence(micro("report", "-o", tmp_path), "got a folder", "report.html")
    inside = micro("report", "-o", micro.artifact("maps") / "r.html")
    assert_one_sentence(inside, "among the artifacts")
    (tmp_path / "file").touch()
    assert_one_sentence(micro("report", "-o", tmp_path / "file" / "r.html"), "cannot be written")


def test_a_photo_in_which_no_pixel_counts_has_no_score():
    ignored, truth = np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8)
    measured, _ = _measured(Record("a", Path(), ()), ignored, truth, 2)
    assert measured.score is None


def test_numbers_that_json_has_not_become_null_also_in_lists():
    assert _finite({"a": [math.nan, (1.0, math.inf)]}) == {"a": [None, [1.0, None]]}
