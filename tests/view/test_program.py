"""Messages name the program that was called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, torchrun

REPORT = ("report", "-o", "report.html")  # of a run that does not exist
CONSOLE = "import sys\nfrom pipeline import main\nsys.exit(main())\n"  # as pip writes it


@pytest.fixture
def getam(tmp_path) -> str:
    """The console script of an installation."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "getam").write_text(f"import sys\nsys.path[0] = {str(ROOT)!r}\n{CONSOLE}")
    return str(tmp_path / "bin" / "getam")


def told(*words: str, place: Path) -> str:
    """What a command says on standard error; it stands in the clone."""
    command = [sys.executable, *words, "--artifacts", str(place / "artifacts")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_a_clone_tells_python_pipeline(tmp_path):
    assert "'python pipeline.py run --until evaluation --artifacts " in told(
        "pipeline.py", *REPORT, place=tmp_path
    )
    path = str(ROOT / "pipeline.py")
    assert f"'python {path} run --until evaluation --artifacts " in told(
        path, *REPORT, place=tmp_path
    )
    assert "'python -m pipeline run --until evaluation --artifacts " in told(
        "-m", "pipeline", *REPORT, place=tmp_path
    )


def test_an_installation_tells_getam(getam, tmp_path):
    said = told(getam, *REPORT, place=tmp_path)
    assert "'getam run --until evaluation --artifacts " in said
    assert "pipeline.py" not in said


def test_usage_names_the_same_program(getam):
    for script, name in (("pipeline.py", "python pipeline.py"), (getam, "getam")):
        command = [sys.executable, script, "run", "--untill", "maps"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert f"Usage: {name} run [OPTIONS]" in done.stderr
        assert f"Try '{name} run -" in done.stderr


def test_under_torchrun_it_is_the_program_that_torchrun_starts(getam, tmp_path):
    place = ("--artifacts", str(tmp_path / "artifacts"))
    clone = torchrun("pipeline.py", *REPORT, *place, cwd=ROOT)
    assert "'python pipeline.py run --until evaluation --artifacts " in clone.err, clone
    installed = torchrun(getam, *REPORT, *place, cwd=tmp_path)
    assert "'getam run --until evaluation --artifacts " in installed.err, installed
