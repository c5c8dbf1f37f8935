"""Folders of files: what is in them, flushing and removing them. No link is ever followed out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from .atomic import in_threads, sync
from .errors import CacheError

_FLUSHERS = 32  # flushes that wait together share a turn of the disk


def files_of(
    folder: Path, skip: tuple[str, ...] = (), *, refuse_links: bool = False
) -> dict[str, os.stat_result]:
    """Every file under `folder`: path relative to it (with ``/``) -> its stat.

    Names in `skip` are left out at the top level. With `refuse_links`, CacheError for a link or a
    device: what it points to would not be kept with the folder.
    """
    found: dict[str, os.stat_result] = {}
    pending = [("", str(folder))]
    while pending:
        prefix, path = pending.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                name = prefix + entry.name
                if not prefix and name in skip:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append((name + "/", entry.path))
                elif entry.is_file(follow_symlinks=False):
                    found[name] = entry.stat()
                elif not refuse_links:
                    found |= _linked(name, entry.path)
                else:
                    raise CacheError(
                        f"{entry.path} is neither a file nor a folder; an artifact holds only "
                        "those: write a copy instead of a link"
                    )
    return found


def _linked(name: str, path: str) -> dict[str, os.stat_result]:
    """The file that a link leads to; nothing if it leads to no file, or in a circle."""
    try:
        stat = os.stat(path)
    except OSError:
        return {}
    return {name: stat} if S_ISREG(stat.st_mode) else {}


def refuse_escape(root: Path, path: Path) -> None:
    """CacheError if a link on the way from `root` to `path` leads out of `root`: what is written
    there could be anybody's. `root` itself may be a link."""
    inside = os.path.realpath(root)
    at = root
    for part in path.relative_to(root).parts:
        at = at / part
        real = os.path.realpath(at)
        if os.path.commonpath([inside, real]) != inside:
            raise CacheError(
                f"{at} is a link to {real}, which is not in {root}: nothing is written through it. "
                "Replace it by a folder, or set --artifacts to a folder on the other disk"
            )


def sync_all(folder: Path, names: Iterable[str]) -> None:
    """Flush the files, then every folder between them and `folder`."""
    names = list(names)
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents} | {"."}
    for paths in (names, sorted(folders)):
        in_threads(sync, [f"{folder}/{path}" for path in paths], _FLUSHERS)


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link but not what it leads to; nothing
    if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def keep_only(folder: Path, kept: Collection[str], prefix: str = "") -> bool:
    """Remove everything under `folder` except what is in `kept` (paths with ``/``), links as such,
    and the folders that are empty then. Whether anything is left."""
    left = False
    with os.scandir(folder) as scanned:
        entries = list(scanned)
    for entry in entries:
        name = prefix + entry.name
        if name in kept:
            left = True
        elif not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
        elif keep_only(Path(entry.path), kept, name + "/"):
            left = True
        else:
            os.rmdir(entry.path)
    return left
