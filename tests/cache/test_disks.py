"""Disks that refuse what others can: no flush of folders, no locks, no right to read."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable

import pytest

from getam.cache import CacheError, gc, verify

REFUSALS = [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES]


@pytest.fixture(params=REFUSALS, ids=errno.errorcode.get)
def no_flush_of_folders(request, monkeypatch) -> None:
    """As on the shared folders of VirtualBox, and on some SMB and FUSE mounts."""
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(request.param, os.strerror(request.param))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.fixture(params=[errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK], ids=errno.errorcode.get)
def no_locks_later(request, monkeypatch) -> Callable[[], None]:
    """As on SMB mounts of macOS, and on NFS without a lock service, once it is called."""

    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    return lambda: monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_disk_that_cannot_flush_folders_is_used_all_the_same(
    project, no_flush_of_folders
) -> None:
    assert project.run() == ["seeds", "labels", "figures"]
    assert project.run() == []
    assert verify(project.runner().store) == []


def test_a_file_that_cannot_be_flushed_is_an_error(project, monkeypatch) -> None:
    """Its content may never reach the disk."""

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        project.run()
    assert project.statuses()["seeds"] != "cached"


def test_a_disk_without_locks_is_refused_in_one_sentence_before_a_stage_runs(
    project, no_locks_later
) -> None:
    no_locks_later()
    with pytest.raises(CacheError, match=r"cannot lock files \(.*\).*another disk"):
        project.run()
    assert project.ran() == []


def test_gc_on_a_disk_without_locks_says_the_same_and_removes_nothing(
    project, no_locks_later
) -> None:
    project.run()
    project.config["seed"] = 2
    project.run()
    before = project.outputs()
    no_locks_later()
    for dry_run in (True, False):
        with pytest.raises(CacheError, match=r"cannot lock files \(.*\).*another disk"):
            gc(project.runner().store, dry_run=dry_run)
    assert project.outputs() == before
