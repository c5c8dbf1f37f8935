"""Looking writes nothing, and works where nothing can be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from getam.cache import CacheError, gc

LOOKS: dict[str, Callable] = {
    "plan": lambda runner: runner.plan(),
    "plan with force": lambda runner: runner.plan(until="labels", force=["seeds"]),
    "status": lambda runner: runner.status(),
    "explain": lambda runner: [runner.explain(stage) for stage in ("seeds", "figures")],
    "gc dry run": lambda runner: gc(runner.store, dry_run=True),
}


def snapshot(folder: Path) -> dict[str, tuple]:
    """Every path with all that a write would change."""
    paths = [folder, *folder.rglob("*")] if folder.exists() else []
    stats = {str(path): path.lstat() for path in paths}
    return {p: (s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino) for p, s in stats.items()}


@pytest.fixture
def no_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses writes, for root too."""
    opened = os.open

    def refuse(*arguments, **_) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))

    def guarded(path, flags, *arguments, **options) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse(path)
        return opened(path, flags, *arguments, **options)

    for name in ("mkdir", "rename", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(os, "open", guarded)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_looking_writes_nothing(project, look) -> None:
    look(project.runner())
    assert not project.artifacts.exists()
    project.run()
    project.config["figures"] = {"title": "new"}
    project.data["images"] = {"i1": "new"}
    before = snapshot(project.root)
    look(project.runner())
    assert snapshot(project.root) == before


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_looking_works_where_nothing_can_be_written(project, look, no_writes_later) -> None:
    project.run()
    project.config["figures"] = {"title": "new"}
    no_writes_later()
    look(project.runner())


def test_run_with_nothing_to_do_works_where_nothing_can_be_written(
    project, no_writes_later
) -> None:
    project.run()
    no_writes_later()
    before = snapshot(project.artifacts)
    assert project.run() == []
    assert snapshot(project.artifacts) == before


def test_run_with_work_to_do_says_what_cannot_be_written(project, no_writes_later) -> None:
    project.run()
    project.config["seed"] = 2
    no_writes_later()
    with pytest.raises(CacheError, match=r"artifacts.* cannot be written .*write permission"):
        project.run()


@pytest.fixture
def no_writes_later(request: pytest.FixtureRequest) -> Callable[[], None]:
    return lambda: request.getfixturevalue("no_writes")


def test_permissions_alone_are_enough(project) -> None:
    """The same with the rights that a user has; root passes over them."""
    project.run()
    paths = [project.artifacts, *project.artifacts.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    try:
        for path in paths:
            path.chmod(modes[path] & ~0o222)
        before = snapshot(project.artifacts)
        for look in LOOKS.values():
            look(project.runner())
        assert snapshot(project.artifacts) == before
        assert project.run() == []
    finally:
        for path in paths:
            path.chmod(modes[path])
