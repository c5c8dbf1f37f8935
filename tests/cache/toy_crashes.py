"""Runs the toy project once for each fault point, with that fault, and then once more without.

usage: toy_crashes.py FOLDER FAULT      FAULT: "*:{}" or "enospc@*:{}"

In FOLDER/N the project of the N-th point; beside it N.txt: how the first attempt ended (a negative
signal, or the exit status), what ``verify`` found then, how the second ended, and all output.
"""

from __future__ import annotations

import concurrent.futures.thread
import os
import socket
import sys
from pathlib import Path

import filelock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import toy_project

from getam.cache import CacheError, Store, faults, runner, verify

FORKED = (concurrent.futures.thread, socket, filelock, runner)  # imported once for all attempts


def attempt(folder: Path, order: str, log: Path) -> int:
    """Run in a forked process; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    faults._ORDER = order
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    try:
        toy_project.main(str(folder))
    except CacheError as error:
        print("CacheError", error, flush=True)
        os._exit(3)
    except BaseException as error:
        print("unexpected", repr(error), flush=True)
        os._exit(4)
    os._exit(0)


def main(root: Path, fault: str) -> None:
    number, first = 0, None
    while first not in (0, 4):
        number += 1
        folder, log = root / str(number), root / f"{number}.txt"
        toy_project.create(folder)
        first = attempt(folder, fault.format(number), log)
        problems = verify(Store(folder / "artifacts"))
        second = attempt(folder, "", log)
        log.write_text(f"{first}\n{len(problems)}\n{second}\n{log.read_text()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
