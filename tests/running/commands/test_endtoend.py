"""The commands about an end-to-end run: it has no maps and no pseudo labels."""

from __future__ import annotations

import pytest

from getam.data.masks import read_mask
from tests.running.commands.conftest import MicroRun, assert_one_sentence, block


@pytest.fixture(scope="module")
def joint(tmp_path_factory) -> MicroRun:
    run = MicroRun(tmp_path_factory.mktemp("joint"), "mode=end-to-end")
    run.make()
    return run


def test_report_has_its_stages_its_curves_and_its_predictions(joint, tmp_path):
    done = joint("report", "-o", tmp_path / "r.html")
    assert done.code == 0, done
    data = block(tmp_path / "r.html")
    assert [row["stage"] for row in data["stages"]] == [
        "endtoend",
        "predictions",
        "doubt",
        "evaluation",
    ]
    assert "endtoend: val mIoU of each epoch" in [chart["title"] for chart in data["charts"]]
    assert {entry["split"] for entry in data["gallery"]["entries"]} == {"val"}
    assert all(entry["layers"] for entry in data["gallery"]["entries"])


def test_inspect_shows_predictions_and_says_that_there_are_no_maps(joint, tmp_path):
    made = joint("inspect", "predictions", "photo08", "-o", tmp_path)
    assert (tmp_path / "predictions" / "photo08.png").exists(), made
    assert_one_sentence(
        joint("inspect", "maps"), "no such stage", "endtoend, predictions, doubt, evaluation"
    )


def test_predict_takes_the_network_of_the_run(joint, tmp_path):
    done = joint("predict", joint.data / "images", "-o", tmp_path, "--device", "cpu")
    assert done.code == 0, done
    files = [*(joint.artifact("predictions") / "predictions").glob("*.png")]
    assert len(files) == 4
    for file in files:
        assert (read_mask(tmp_path / "predictions" / file.name) == read_mask(file)).all()
