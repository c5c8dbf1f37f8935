"""Artifacts of the real chain: moved, damaged, read-only, and never executed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
from pathlib import Path

import pytest
import torch

from getam.cache.pieces import begin
from getam.errors import UserError
from getam.networks.build import build_classifier
from getam.training.checkpoint import Checkpoint
from tests.conftest import ROOT, TINY, make_folder, pipeline

UNTIL = ("run", "--workers", "1", "--until", "pseudolabels")
MADE = ["classifier", "maps", "pseudolabels"]


def settings(place: Path) -> tuple[str, ...]:
    return ("data.kind=folder", f"data.root={place / 'data'}", *TINY)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("made")
    make_folder(place / "data")
    first = pipeline(*UNTIL, cwd=place, settings=settings(place))
    assert first.stages_run() == MADE, first
    return place


@pytest.fixture
def place(made, tmp_path) -> Path:
    """A copy of data and artifacts, to be damaged."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def artifact(place: Path, stage: str) -> Path:
    return next(p for p in (place / "artifacts" / stage).iterdir() if p.is_dir())


def test_copied_artifacts_and_data_are_still_cached(place):
    assert pipeline(*UNTIL, cwd=place, settings=settings(place)).stages_run() == []


def test_moved_project_still_hits_the_cache(place, tmp_path):
    for name in ("stages", "getam"):
        shutil.copytree(ROOT / name, tmp_path / "project" / name)
    shutil.copy(ROOT / "pipeline.py", tmp_path / "project")
    again = pipeline(*UNTIL, cwd=place, settings=settings(place), project=tmp_path / "project")
    assert again.code == 0, again
    assert again.stages_run() == []


def test_damage_is_named_by_verify_and_rebuilt_by_run(place):
    """As a user meets it; ``test_damage`` tries each file of each stage."""
    folder = artifact(place, "maps")
    content = bytearray((folder / "maps.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "maps.h5").write_bytes(content)
    told = pipeline("verify", cwd=place)
    assert told.code == 1, told
    assert f"maps/{folder.name}: the content of maps.h5 changed" in told.out
    again = pipeline(*UNTIL, cwd=place, settings=settings(place))
    assert again.code == 0, again
    assert again.stages_run() == ["maps"]
    assert pipeline("verify", cwd=place).code == 0
    assert [p.name for p in folder.parent.glob("*.broken-*")] == [f"{folder.name}.broken-1"]


def test_read_only_artifacts_can_still_be_looked_at(place):
    root = place / "artifacts"
    writable = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    for path in [root, *root.rglob("*")]:
        path.chmod(path.stat().st_mode & ~writable)
    before = {p: p.lstat().st_mtime_ns for p in [root, *root.rglob("*")]}
    status = pipeline("status", "--json", cwd=place, settings=settings(place))
    assert status.code == 0, status
    rows = {row["stage"]: row["status"] for row in json.loads(status.out)}
    assert [rows[stage] for stage in MADE] == ["cached"] * 3
    for command in (
        (*UNTIL, "--dry-run"),
        ("inspect", "maps"),
        ("inspect", "pseudolabels", "photo00", "-o", "look"),
        ("report", "-o", "report.html"),
    ):
        done = pipeline(*command, cwd=place, settings=settings(place))
        assert done.code == 0, f"{command} {done}"
    assert (place / "look" / "pseudolabels" / "photo00.png").exists()
    assert (place / "report.html").exists()
    assert {p: p.lstat().st_mtime_ns for p in [root, *root.rglob("*")]} == before
    for path in before:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_malicious_weights_are_refused_not_executed(tmp_path):
    torch.save({"blocks": Bomb(tmp_path / "harm")}, tmp_path / "weights.pth")
    args = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    with pytest.raises(UserError, match="cannot load these weights"):
        build_classifier("vit_tiny_patch16_224", 2, 32, args, str(tmp_path / "weights.pth"))
    assert not (tmp_path / "harm").exists()


def test_malicious_checkpoint_is_refused_not_executed(tmp_path):
    file = tmp_path / "work" / "checkpoint.pt"
    with begin(tmp_path / "work").write(file) as temporary:
        temporary.write_bytes(pickle.dumps(Bomb(tmp_path / "harm")))
    with pytest.raises(pickle.UnpicklingError):
        Checkpoint(file, begin(tmp_path / "work"), None, None, None).load()
    assert not (tmp_path / "harm").exists()
