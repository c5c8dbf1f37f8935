"""Benchmarks start, and those of single functions run on small cases. No time is asserted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = sorted(file.stem for file in FOLDER.glob("*.py"))
HELPERS = {"rounds", "map_rivals"}
SMALL = {  # and what the table tells among others
    "endtoend": ("--rounds=1 --batch=2 --channels=8 --threads=1", "joint / supervised"),
    "labels": ("--rounds=1 --size 40 50 --threads=1", "ThresholdSweep.update"),
    "precision": ("--rounds=1 --batch=2 --size=28 --threads=1", "maps: fp32 / bf16"),
    "maps": ("--rounds=1 --batch=2 --size=64 --threads=1 --only=released", "getam / forward"),
}


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HELPERS])
def test_a_benchmark_is_described_in_the_readme(name):
    text = (FOLDER / "README.md").read_text()
    _, heading, section = text.partition(f"\n## {name}.py\n")
    assert heading
    assert f"\n    python benchmarks/{name}.py" in section.partition("\n## ")[0]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {*SMALL, *HELPERS}])
def test_a_benchmark_of_whole_runs_starts(name):
    assert "Usage:" in run(name, "--help")


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_of_functions_runs_on_a_small_case(name):
    options, told = SMALL[name]
    assert told in run(name, *options.split())
