"""Atomic writes."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from getam.cache import CacheError, atomic, atomic_write, atomic_write_bytes, atomic_write_json
from getam.cache.atomic import disk_errors, in_threads, is_disk_full
from getam.cache.checked import read_checked, write_checked
from getam.cache.folders import files_of


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_nothing_is_seen_under_the_name_before_it_is_whole(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "new"


def test_content_reaches_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut can leave the name with nothing in it."""
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("sync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), replace(a, b)))
    atomic_write_bytes(tmp_path / "a", b"x")
    assert steps == ["sync", "replace", "sync"]


def test_temporary_name_keeps_the_suffix_and_the_folder(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "map.h5") as temporary:
        assert (temporary.suffix, temporary.parent) == (".h5", tmp_path)
        temporary.touch()


def test_value_that_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "a.json", {"é": 1})
    with pytest.raises(TypeError):
        atomic_write_json(tmp_path / "a.json", {"a": object()})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "é": 1\n}\n'


def test_checked_file_that_was_damaged_is_as_absent(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert read_checked(path) is None
    write_checked(path, b"body")
    assert read_checked(path) == b"body"
    path.write_bytes(path.read_bytes()[:-1] + b"Y")
    assert read_checked(path) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_one_sentence_with_the_remedy(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(CacheError, match=r"No space left while merging in .* MiB free\): free some"),
        disk_errors("merging", tmp_path / "not" / "yet"),
    ):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_write_protected_disk_is_one_sentence_with_the_remedy(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(CacheError, match=r"cannot be written while merging .* write permission"),
        disk_errors("merging", tmp_path),
    ):
        raise OSError(number, os.strerror(number), str(tmp_path))


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output"), disk_errors("merging", tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_full_disk_is_recognised_behind_other_errors() -> None:
    error = RuntimeError("file write failed")
    assert not is_disk_full(error)
    error.__cause__ = OSError(errno.ENOSPC, "full")
    assert is_disk_full(error)
    assert is_disk_full(RuntimeError("write failed: errno 28, 'No space left on device'"))


def test_link_is_refused_where_the_target_would_not_be_kept(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("x")
    assert set(files_of(tmp_path)) == {"folder/a"}
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "folder" / "a")
    with pytest.raises(CacheError, match="link is neither a file nor a folder"):
        files_of(tmp_path, refuse_links=True)


@pytest.mark.parametrize("brief", [60, 0])
def test_only_items_that_take_long_go_to_other_threads(
    brief: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No item takes a minute; each takes more than no time."""
    monkeypatch.setattr(atomic, "BRIEF", brief)

    def item(number: int) -> tuple[int, str]:
        time.sleep(0.001)  # so that no thread does all the work before another one begins
        return number, threading.current_thread().name

    done = in_threads(item, range(100), 4)
    assert [number for number, _ in done] == [*range(100)]
    threads = {name for _, name in done}
    assert (len(threads) > 1) == (brief == 0)
