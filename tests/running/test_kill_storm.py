"""The command line under a storm of signals: same bytes, no process left, gc and verify work.

Each attempt is a fork that runs the command line with two workers. GETAM_SIGNALS sets the number of
signals in each mode (8): ``GETAM_SIGNALS=100 pytest -n 0 -rP tests/running/test_kill_storm.py |
grep signals`` prints what they did.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import pytest
import torch

from getam.cache import Store, faults, gc, verify
from pipeline import main
from tests.conftest import EXAMPLE, ROOT
from tests.running.test_kill import digests

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SIGNALS = int(os.environ.get("GETAM_SIGNALS", "8"))
SLOWER = ("pseudolabels.pamr.iterations=60", "predictions.crf.enabled=true")  # work for workers
MODES = {"multi-stage": SLOWER, "end-to-end": ("mode=end-to-end", SLOWER[1])}
KINDS = ("parent", "workers", "both", "SIGTERM", "SIGINT", "record", "gc", "gc at a write")


def begin(place: Path, words: list[str], fault: str = "") -> int:
    """Run a command in a fork, in a session of its own."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        os.chdir(place)
        for stream in (1, 2):
            os.dup2(os.open(place / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        torch.set_num_threads(1)
        os.environ["GETAM_CHECKPOINT_SECONDS"] = "0.05"
        faults._ORDER = fault
        main(words)
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def end(child: int) -> int:
    """Its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def processes() -> dict[int, tuple[int, str]]:
    """Process -> its parent and its command, of all that live."""
    words = ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="]
    table = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=3) for line in table.splitlines()]
    return {int(r[0]): (int(r[1]), r[3]) for r in rows if not r[2].startswith("Z")}


def below(pid: int) -> set[int]:
    """All processes below a process."""
    parents = {child: parent for child, (parent, _) in processes().items()}
    found, pending = set(), {pid}
    while pending:
        above = pending.pop()
        pending |= {p for p, parent in parents.items() if parent == above} - found
        found |= pending
    return found


class Storm:
    """Signals to runs in one folder; what became of each is counted."""

    def __init__(self, place: Path, settings: tuple[str, ...], choice: random.Random) -> None:
        self.place, self.choice = place, choice
        sets = [w for s in (*EXAMPLE, *settings) for w in ("--set", s)]
        self.run = ["run", "--device", "cpu", "--workers", "2", *sets]
        self.counts: Counter[tuple[str, int]] = Counter()
        self.slowest = 0.0

    def whole(self) -> float:
        """A run that nothing disturbs: its seconds."""
        start = time.monotonic()
        self.place.mkdir(exist_ok=True)
        code = end(begin(self.place, self.run))
        assert code == 0, (self.place / "output.txt").read_text()
        return time.monotonic() - start

    def strike(self, kind: str, seconds: float) -> int:
        """One signal; how the command ended."""
        self.place.mkdir(exist_ok=True)
        words, fault = self.run, ""
        if kind == "record":
            fault = f"{self.choice.choice(['write.begin', 'write.filled', 'write.synced'])}:1"
        elif kind.startswith("gc"):
            words = ["gc"]
            fault = f"*:{self.choice.randint(1, 6)}" if kind != "gc" else ""
            self.add_garbage()
        child = begin(self.place, words, fault)
        if fault:
            return end(child)
        time.sleep(self.choice.uniform(0, 0.05 if kind == "gc" else seconds))
        workers = below(child)
        self.send(kind, child, workers)
        code = end(child)
        self.check_gone(workers)
        return code

    def add_garbage(self) -> None:
        """Copies of an artifact and of its working folder, under keys that no run uses."""
        for made in [*(self.place / "artifacts").glob("data/*/manifest.json")][:1]:
            for name in ("0" * 20, "1" * 20 + ".partial"):
                copy = made.parents[1] / name
                shutil.copytree(made.parent, copy, dirs_exist_ok=True)

    def send(self, kind: str, child: int, workers: set[int]) -> None:
        numbers = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
        if kind in ("workers", "both"):
            commands = processes()
            for worker in workers & commands.keys():
                if "LokyProcess" in commands[worker][1]:
                    kill(worker, signal.SIGKILL)
        if kind != "workers":
            kill(child, numbers.get(kind, signal.SIGKILL))

    def check_gone(self, workers: set[int]) -> None:
        start = time.monotonic()
        while left := workers & processes().keys():
            assert time.monotonic() - start < 5, left
            time.sleep(0.1)
        self.slowest = max(self.slowest, time.monotonic() - start)

    def check(self, kind: str, code: int) -> None:
        """Whether a command may end so, and what it left is sound."""
        expected = {
            "workers": (0, 1),
            "SIGTERM": (0, 143, -signal.SIGTERM),  # the last before the command has begun
            "SIGINT": (0, 130, -signal.SIGINT),
        }
        told = (self.place / "output.txt").read_text()
        assert code in expected.get(kind, (0, -signal.SIGKILL)), (kind, code, told[-3000:])
        # A worker that is stopped while it starts shows a traceback of joblib's, which may be
        # installed in the project folder or in one whose name begins like it.
        own = [line for line in told.splitlines() if f'File "{ROOT}/' in line]
        assert not [line for line in own if "/site-packages/" not in line], told[-3000:]
        artifacts = self.place / "artifacts"
        made = [p for p in verify(Store(artifacts)) if p.key != "0" * 20]  # that key is made up
        assert made == []
        # A working folder may have what a kill left of its manifest; the next run removes it.
        folders = [path.parent for path in artifacts.glob("*/*/manifest.json")]
        finished = [folder for folder in folders if folder.suffix != ".partial"]
        assert [f for path in finished for f in path.rglob(".tmp-*")] == []
        gc(Store(artifacts))
        assert [*artifacts.glob("*/*.dropped")] == [*artifacts.glob("*/0000*")] == []


def kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@pytest.mark.parametrize("mode", MODES)
def test_a_storm_of_signals_changes_no_byte_and_leaves_no_process(tmp_path, mode):
    choice = random.Random(mode)
    undisturbed = Storm(tmp_path / "whole", MODES[mode], choice)
    seconds = undisturbed.whole()
    whole = digests(tmp_path / "whole")
    storm = Storm(tmp_path / "storm", MODES[mode], choice)
    finished = 0
    for number in range(SIGNALS):
        kind = KINDS[number % len(KINDS)]
        code = storm.strike(kind, seconds)
        storm.check(kind, code)
        storm.counts[kind, code] += 1
        if code == 0 and not kind.startswith("gc"):
            assert digests(storm.place) == whole
            shutil.rmtree(storm.place / "artifacts")
            finished += 1
    storm.whole()
    assert digests(storm.place) == whole
    artifacts = storm.place / "artifacts"
    assert verify(Store(artifacts)) == []
    stages = [path for path in artifacts.iterdir() if path.name not in (".cache", "runs")]
    assert [f for path in stages for f in path.rglob(".tmp-*")] == []
    told = ", ".join(f"{k} {c}: {n}" for (k, c), n in sorted(storm.counts.items()))
    print(
        f"signals: {SIGNALS} in mode {mode} ({told}); {finished} runs ended meanwhile, with the "
        f"same bytes; the last worker was gone after {storm.slowest:.1f} s at most; an undisturbed "
        f"run takes {seconds:.1f} s"
    )
