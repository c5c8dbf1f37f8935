"""Memory and processor time of a command and of all processes that it starts. Linux only."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
PAUSE = 0.03  # seconds between two looks
TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """Peak of the memory in MB (10^6 bytes), processor seconds, seconds on the clock."""

    megabytes: float
    cpu: float
    seconds: float


def watch(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Cost:
    """Run a command to its end, and watch its processes.

    Memory is the sum of the PSS of the processes: a page that several processes share counts once.
    Peaks shorter than the pause between two looks are missed.

    Raises:
        SystemExit: the command failed.
    """
    start, peak, ticks = time.perf_counter(), 0, {}
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            tree = _tree(process.pid)
            peak = max(peak, sum(map(_shared_memory, tree)))
            for one in tree:
                ticks[one] = max(ticks.get(one, 0), _ticks(one))
            time.sleep(PAUSE)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
    return Cost(peak / 1e6, sum(ticks.values()) / TICKS, time.perf_counter() - start)


def _tree(root: int) -> list[int]:
    """The process and its descendants."""
    children: dict[int, list[int]] = {}
    for path in PROC.iterdir():
        if path.name.isdigit():
            fields = _stat(int(path.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(path.name))
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def _stat(process: int) -> list[str]:
    """The fields after the name of the program; none of a process that ended."""
    text = _read(process, "stat")
    return text.rpartition(")")[2].split()


def _ticks(process: int) -> int:
    fields = _stat(process)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _shared_memory(process: int) -> int:
    """Bytes of memory; pages shared with n - 1 others count 1 / n."""
    for line in _read(process, "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(process: int, name: str) -> str:
    try:
        return (PROC / str(process) / name).read_text()
    except OSError:  # it ended meanwhile
        return ""
