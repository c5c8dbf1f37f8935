"""``tools/failures.py``: shares of a prediction worked out by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image


@pytest.fixture
def failures():
    path = Path(__file__).parents[2] / "tools" / "failures.py"
    spec = importlib.util.spec_from_file_location("failures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path: Path, rows: list[list[int]]) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(path)


def test_found_and_named_by_size(failures, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    # 4 of 8 known pixels are an object: of 3 that are found one has the wrong class.
    write(tmp_path / "masks" / "a.png", [[0, 0, 0, 0, 255], [1, 1, 2, 2, 255]])
    write(tmp_path / "out" / "a.png", [[0, 0, 0, 1, 1], [1, 0, 2, 1, 0]])
    arguments = ["--masks", tmp_path / "masks", "--classes", tmp_path / "classes.txt"]
    picture = tmp_path / "pictures" / "x.png"
    words = [str(word) for word in (picture, f"ours={tmp_path / 'out'}", *arguments)]
    told = CliRunner().invoke(failures.main, words, catch_exceptions=False).output.splitlines()
    assert [line.split() for line in told[1:]] == [
        ["background", "75.0", "25.0", "0.0"],
        ["cat", "50.0", "50.0", "0.0"],
        ["dog", "0.0", "50.0", "50.0"],
        ["found", "nan", "nan", "nan", "nan", "75.0"],
        ["named", "nan", "nan", "nan", "nan", "66.7"],
    ]
    assert Image.open(picture).width > 500


def test_a_folder_without_predictions_is_told(failures, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\n")
    words = ["x.png", f"ours={tmp_path / 'none'}", "--masks", str(tmp_path)]
    done = CliRunner().invoke(failures.main, [*words, "--classes", str(tmp_path / "classes.txt")])
    assert done.exit_code == 1
    assert "expected LINE=FOLDER" in done.output
