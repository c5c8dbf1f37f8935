"""A toy project in a folder of its own, run in this process or in others."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from getam.cache import DataPart, Event, Runner, Store

SCRIPT = Path(__file__).with_name("toy_project.py")
_spec = importlib.util.spec_from_file_location("toy_project", SCRIPT)
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)


class Project:
    """The toy project at `root`; what tests change in it is public."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = copy.deepcopy(toy.CONFIG)
        self.data = copy.deepcopy(toy.DATA)
        self.stages = toy.stages()
        self.context: Callable[[str], None] | None = None
        self.events: list[Event] = []
        toy.create(root)

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert old in text
        (self.root / path).write_text(text.replace(old, new))

    def runner(self, **options) -> Runner:
        """A new runner, with modules imported anew as in a new process."""
        for name in [n for n in sys.modules if n.split(".")[0] in ("toysteps", "toylib")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return Runner(
            Store(self.artifacts),
            self.stages,
            self.config,
            {name: DataPart.of_items(items) for name, items in self.data.items()},
            self.root,
            self.context,
            packages=("toysteps", "toylib"),
            report=self.events.append,
            **options,
        )

    def run(self, run_name: str = "default", **choice) -> list[str]:
        """Run, and say which stages did."""
        self.events.clear()
        runner = self.runner(run_name=run_name)
        runner.run(runner.plan(**choice))
        return self.ran()

    def ran(self) -> list[str]:
        return [event.stage for event in self.events if event.kind == "start"]

    def folder(self, stage: str) -> Path:
        return self.artifacts / stage / self.runner().key(stage)

    def statuses(self) -> dict[str, str]:
        return {row.stage: row.status for row in self.runner().status()}

    def reason(self, stage: str) -> str:
        return next(d.reason.sentence() for d in self.runner().plan() if d.stage == stage)

    def outputs(self) -> dict[str, str]:
        """Content of every output of every artifact in place, without the manifests."""
        files = (p for p in self.artifacts.glob("*/*/**/*") if p.is_file())
        found = {str(p.relative_to(self.artifacts)): p for p in files}
        return {n: p.read_text() for n, p in found.items() if p.name != "manifest.json"}

    def process(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """The project run by another process; its output lines are in ``stdout``."""
        return subprocess.Popen(
            [sys.executable, "-B", str(SCRIPT), str(self.root), *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # stale after an edit in the same second
    yield Project(tmp_path)
    for name in [n for n in sys.modules if n.split(".")[0] in ("toysteps", "toylib")]:
        del sys.modules[name]


@pytest.fixture
def settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files just written count as settled: tests do not wait for two seconds."""
    monkeypatch.setattr("getam.cache.atomic.SETTLED_NS", -1)
