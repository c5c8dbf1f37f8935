"""Which change of the project's code makes which stages run again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from getam.running import opening
from tests.conftest import ROOT, make_folder
from tests.running.reruns import ALL, FROM, differing, keys


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("rerun")
    make_folder(place / "data")
    return place


ERROR = 'raise UserError(\n            f"'
WARNING = 'warnings.warn(\n            "'


@pytest.fixture
def code(tmp_path, monkeypatch) -> Path:
    """A copy of the project's code that may be edited."""
    root = tmp_path / "code"
    for package in ("stages", "getam"):
        shutil.copytree(ROOT / package, root / package)
    monkeypatch.setattr(opening, "CODE", root)
    return root


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("stages/maps.py", "SHARD = 64", "SHARD = 32", FROM["maps"]),
        ("stages/maps.py", "SHARD = 64", "SHARD = 64  # images", ()),
        (
            "stages/maps.py",
            '"""maps: computes where each class is',
            '"""maps: finds where each class is',
            (),
        ),
        # stages.pseudolabels -> getam.labels.completion: one import deep
        ("getam/labels/completion.py", "size // 2", "size // 3", FROM["pseudolabels"]),
        # stages.maps -> getam.maps.compute -> .attention -> .probe: three imports deep
        ("getam/maps/probe.py", "import torch\n", "import torch\n\nUNUSED = 1\n", FROM["maps"]),
        ("getam/config/network_settings.py", "Field(10, ", "Field(11, ", ()),
        ("getam/data/label_values.py", "IGNORE = 255", "IGNORE = 254", ALL),
        ("getam/training/crf_loss.py", "CHUNK = 1 << 22", "CHUNK = 1 << 21", ()),
    ],
)
def test_each_change_of_the_code_reruns_the_stages_that_import_it(
    place, code, file, old, new, stages
):
    before = keys(place)
    edit(code / file, old, new)
    assert differing(before, keys(place)) == stages
    edit(code / file, new, old)
    assert keys(place) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        # getam/data/images.py is imported by every stage
        ("getam/data/images.py", ERROR, ERROR + "File ", ()),
        ("getam/data/images.py", "# Pillow raises many kinds on broken files", "# Many kinds.", ()),
        ("getam/data/images.py", '"""Scores (h, w) as grey levels', '"""Grey levels of scores', ()),
        ("getam/data/images.py", "scores.clip(0, 1) * 255", "scores.clip(0, 1) * 254", ALL),
        ("getam/data/masks.py", "if wrong.size:", "if not wrong.size:", ALL),
        ("getam/networks/precision.py", WARNING, WARNING + "Note: ", ()),
        ("getam/config/label_settings.py", "Refine with PAMR.", "Apply PAMR.", ()),
        ("getam/running/commands/options.py", "You can give several", "Give several", ()),
        ("getam/view/table.py", '"further"]', '"more"]', ("evaluation",)),
        ("stages/evaluation.py", "SALIENT = 0.5", "SALIENT = 0.6", ("evaluation",)),
        (
            "stages/predictions.py",
            "if kind == FINAL else kind",
            "if kind != FINAL else kind",
            FROM["predictions"],
        ),
    ],
)
def test_text_for_people_reruns_nothing_and_a_comparison_beside_it_what_imports_it(
    place, code, file, old, new, stages
):
    before = keys(place)
    edit(code / file, old, new)
    assert differing(before, keys(place)) == stages


def test_another_number_of_thresholds_reruns_the_evaluation_alone(place):
    assert differing(keys(place), keys(place, "evaluation.thresholds=50")) == ("evaluation",)


def test_moved_code_and_artifacts_have_the_same_keys(place, code, tmp_path):
    before = keys(place)
    shutil.copytree(place, tmp_path / "moved")
    assert keys(tmp_path / "moved") == before
