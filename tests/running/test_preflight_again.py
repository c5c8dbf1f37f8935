"""Checks that found nothing wrong are not made again, and a change is never overlooked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY, make_folder
from tests.running.test_preflight import FOLDERS, assert_refused, run
from tests.running.test_preflight_corrections import SET, correct

BEGIN = (
    "import os; from getam.cache import Runner; Runner._bring = lambda *_: os._exit(0); "
    "from pipeline import main; main()"
)
PLAIN = "from pipeline import main; main()"


def modules_of(place: Path, code: str, *options: str) -> set[str]:
    """The modules that a run in a process of its own imports."""
    every = ("data.kind=folder", f"data.root={place / 'data'}", *TINY)
    sets = [word for setting in every for word in ("--set", setting)]
    words = [sys.executable, "-X", "importtime", "-c", code, "run", *sets, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}


UNUSUAL = ("--set", "deeplab.encoder_args={patch_size: 8, depth: 2, qk_norm: true}")


def test_the_first_dry_run_needs_no_torch_with_networks_that_are_known(tmp_path):
    make_folder(tmp_path / "data")
    plain = ("--set", "pseudolabels.saliency=none")
    assert "torch" not in modules_of(tmp_path, PLAIN, "--dry-run", *plain)
    assert "torch" in modules_of(tmp_path, PLAIN, "--dry-run", *plain, *UNUSUAL)


def test_once_a_run_has_begun_a_dry_run_needs_no_torch(tmp_path):
    make_folder(tmp_path / "data")
    assert "torch" in modules_of(tmp_path, PLAIN, "--dry-run", *UNUSUAL)
    modules_of(tmp_path, BEGIN, *UNUSUAL)
    assert "torch" not in modules_of(tmp_path, PLAIN, "--dry-run", *UNUSUAL)
    other = ("--set", "classifier.lr_head=0.5", "--set", "pseudolabels.quantile=0.7")
    assert "torch" not in modules_of(tmp_path, PLAIN, "--dry-run", *UNUSUAL, *other)
    wrong = ("--set", "maps.start_block=7")
    with pytest.raises(AssertionError, match=r"maps\.start_block"):
        modules_of(tmp_path, PLAIN, "--dry-run", *UNUSUAL, *wrong)


def begin(place: Path, monkeypatch: pytest.MonkeyPatch, *settings: str) -> None:
    """A run that ends before its first stage, in this process."""
    with monkeypatch.context() as patch:
        patch.setattr("getam.cache.Runner._bring", lambda *_: (_ for _ in ()).throw(SystemExit(0)))
        assert run(place, *settings).exit_code == 0


@pytest.mark.parametrize("change", FOLDERS, ids=lambda change: change.__name__)
def test_a_folder_that_changes_after_a_run_has_begun_is_refused(tmp_path, change, monkeypatch):
    make_folder(tmp_path / "data")
    begin(tmp_path, monkeypatch)
    change(tmp_path / "data")
    assert_refused(run(tmp_path, *FOLDERS[change][0]), tmp_path, FOLDERS[change][1])


def test_a_sample_that_changes_after_a_run_has_begun_is_refused(tmp_path, monkeypatch):
    """The photo that is added has no key of its own: it is neither in train nor in val."""
    data = make_folder(tmp_path / "data")
    val = (data / "splits/val.txt").read_text().replace("photo11\n", "")
    (data / "splits/val.txt").write_text(val)
    (data / "splits/other.txt").write_text("photo11\n")
    correct(data, {"photo09": 1, "photo11": 1}, ["photo09"])
    begin(tmp_path, monkeypatch, SET)
    correct(data, {}, ["photo09", "photo11"])
    assert_refused(run(tmp_path, SET), tmp_path, "sample.txt: 1 of 2 photos are not labelled")
