"""Processes that die, run out of disk or meet: nothing is lost and nothing is half made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from getam.cache import CacheError, faults, verify

STAGES = ("seeds", "labels", "figures")


def crash_everywhere(folder: Path, fault: str) -> list[tuple[Path, int, int, int, list[str]]]:
    """For each fault point: project, first exit, problems found then, second exit, output."""
    script = Path(__file__).with_name("toy_crashes.py")
    subprocess.run([sys.executable, "-B", str(script), str(folder), fault], check=True)
    results = []
    for log in sorted(folder.glob("*.txt"), key=lambda path: int(path.stem)):
        first, problems, second, *lines = log.read_text().splitlines()
        results.append((log.with_suffix(""), int(first), int(problems), int(second), lines))
    return results


def artifacts_of(folder: Path) -> dict[str, str]:
    """Every file of every stage by its path, temporary and partial ones included."""
    files = [p for stage in STAGES for p in (folder / "artifacts" / stage).rglob("*")]
    found = {str(p.relative_to(folder)): p for p in files if p.is_file()}
    return {n: p.read_text() if p.name != "manifest.json" else "" for n, p in found.items()}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In memory where the system has such a place: hundreds of runs flush every write."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def kills(folder: Path) -> list:
    return crash_everywhere(folder / "kills", "*:{}")


@pytest.fixture(scope="module")
def full_disks(folder: Path) -> list:
    return crash_everywhere(folder / "full", "enospc@*:{}")


def test_every_moment_is_tried(kills: list, full_disks: list) -> None:
    """The last attempt of each series is past the last point and goes through."""
    for results, end in ((kills, -signal.SIGKILL), (full_disks, 3)):
        assert len(results) > 60
        assert [first for _, first, *_ in results] == [end] * (len(results) - 1) + [0]


def test_nothing_half_made_is_seen_as_done(kills: list, full_disks: list) -> None:
    for folder, _, problems, *_ in (*kills, *full_disks):
        assert problems == 0, folder


def test_next_run_ends_as_if_nothing_had_happened(kills: list, full_disks: list) -> None:
    expected = artifacts_of(kills[-1][0])
    assert {Path(name).parts[1] for name in expected} == set(STAGES)
    for folder, _, _, second, lines in (*kills, *full_disks):
        assert second == 0, (folder, lines)
        assert artifacts_of(folder) == expected, folder


def test_nothing_that_was_done_is_done_again(kills: list, full_disks: list) -> None:
    """A stage whose artifact is in place does not run again, nor is a finished shard remade."""
    for folder, _, _, _, lines in (*kills, *full_disks):
        counts = Counter(lines)
        assert all(counts[f"done {stage} "] <= 1 for stage in STAGES), folder
        assert sum(counts[f"shard {number}"] for number in range(3)) <= 4, folder


def test_full_disk_is_one_sentence(full_disks: list) -> None:
    for folder, *_, lines in full_disks[:-1]:
        (error,) = [line for line in lines if line.startswith("CacheError")]
        assert error.startswith("CacheError No space left while "), folder
        assert "free some space (gc drops what no named run uses), then run again" in error


def make_slow(project) -> None:
    """The first stage says that it has begun, and waits for the file ``go``."""
    wait = """
    import time
    job.context("in the stage")
    while not (job.folder.parents[2] / "go").exists():
        time.sleep(0.01)
    for shard in"""
    project.edit("toysteps/seeds.py", "\n    for shard in", wait)


def read_until(process: subprocess.Popen, text: str) -> list[str]:
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if text in line:
            return lines
    raise AssertionError((lines, process.stderr.read()))


def finish(process: subprocess.Popen) -> list[str]:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output.splitlines()


def test_two_processes_make_one_artifact(project) -> None:
    make_slow(project)
    first = project.process()
    read_until(first, "in the stage")
    second = project.process()
    waiting = read_until(second, "waiting")
    assert waiting == [f"waiting seeds process {first.pid} on {os.uname().nodename}"]
    (project.root / "go").touch()
    lines, others = finish(first), finish(second)
    assert "done seeds " in lines
    assert "shard 0" not in others
    assert "skip seeds " in others
    assert Counter(lines + others)["done labels "] == 1
    assert verify(project.runner().store) == []


def test_many_processes_at_once_make_each_artifact_once(project) -> None:
    processes = [project.process() for _ in range(4)]
    lines = [line for process in processes for line in finish(process)]
    assert all(Counter(lines)[f"done {stage} "] == 1 for stage in STAGES)
    assert project.run() == []


def test_lock_of_a_killed_process_is_free_at_once(project) -> None:
    make_slow(project)
    first = project.process()
    read_until(first, "in the stage")
    first.kill()
    first.wait()
    (project.root / "go").touch()
    assert "waiting" not in {line.split()[0] for line in finish(project.process())}


def test_lock_does_not_live_on_in_a_worker_of_a_killed_process(project) -> None:
    """A forked worker inherits the open lock file, and may outlive the process it works for."""
    make_slow(project)
    fork = "import os\n    if not os.fork():\n        time.sleep(5); os._exit(0)"
    project.edit("toysteps/seeds.py", "import time", f"import time\n    {fork}")
    first = project.process()
    read_until(first, "in the stage")
    first.kill()
    first.wait()
    (partial,) = (project.artifacts / "seeds").glob("*.partial")
    with project.runner().store.lock("seeds", partial.stem) as free:
        assert free


def test_killed_forced_rerun_leaves_an_artifact_whole(project) -> None:
    """Between the two renames there is no artifact, but a sealed one that only wants its name."""
    project.run()
    runner = project.runner()
    plan = runner.plan(force=["seeds"])
    child = os.fork()
    if not child:
        faults._ORDER = "store.stepped-aside:1"
        try:
            runner.run(plan)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not project.folder("seeds").exists()
    lines: list[str] = []
    project.context = lines.append
    assert project.run() == []
    assert lines == []
    assert [e.kind for e in project.events] == ["done", "skip", "skip"]
    assert sorted(p.name for p in (project.artifacts / "seeds").iterdir()) == [
        project.runner().key("seeds")
    ]


def test_full_disk_inside_a_stage_is_one_sentence(project) -> None:
    project.edit("toysteps/seeds.py", "return", "raise OSError(28, 'full')\n    return")
    with pytest.raises(CacheError, match="No space left while running seeds in"):
        project.run()
    assert project.reason("seeds").startswith("failed: No space left while running seeds")


@pytest.mark.parametrize("order", ["kill", "name", "name:0", "name:x", "other@name:1", ":1"])
def test_misspelt_fault_is_refused(order: str) -> None:
    with pytest.raises(ValueError, match="GETAM_FAULT is"):
        faults._obey(order, "name")
