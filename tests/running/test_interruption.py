"""Commands that are stopped, and their workers: a sentence, an exit code, no process left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from getam.cache import Store, verify
from tests.conftest import ROOT, TINY, Result, make_folder, pipeline

LONG = ("classifier.epochs=100000",)  # a training that ends only when it is stopped


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("interruption") / "data")


def settings(data: Path, *more: str) -> tuple[str, ...]:
    return ("data.kind=folder", f"data.root={data}", *TINY, *more)


def start(place: Path, data: Path, *words: str, sets=(), env=None) -> subprocess.Popen:
    options = [w for s in settings(data, *sets) for w in ("--set", s)]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "pipeline.py"), "run", *words, *options],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(condition, process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_for_training(process: subprocess.Popen) -> None:
    """Read what the command tells until a training has taken steps."""
    told = []
    for line in process.stderr:
        told.append(line)
        if "steps" in line:
            return
    raise AssertionError(told)


def one_sentence(result: Result) -> bool:
    errors = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    return result.code == 1 and len(errors) == 1 and "Traceback" not in result.err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_stopped_training_saves_a_checkpoint_and_says_how_to_go_on(tmp_path, data, number, code):
    process = start(tmp_path, data, "--until", "classifier", "--workers", "1", sets=LONG)
    wait_for_training(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Interrupted. Run the same command again to go on." in err
    assert "Traceback" not in err
    assert len(list((tmp_path / "artifacts").rglob("checkpoint.pt"))) == 1
    told = pipeline("status", cwd=tmp_path, settings=settings(data, *LONG))
    assert "partial" in told.out
    assert "interrupted; goes on from what it has" in told.out


def test_a_run_whose_record_has_other_settings_is_not_said_to_go_on(tmp_path, data):
    """Its name alone would mean the settings of the record, under which all is cached."""
    words = ("--until", "classifier", "--workers", "1", "--name", "mine")
    assert pipeline("run", *words, cwd=tmp_path, settings=settings(data)).code == 0
    process = start(tmp_path, data, *words, sets=LONG)
    wait_for_training(process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert "Interrupted. Run the same command again to go on." in err


def children_of(pid: int) -> set[int]:
    """All processes below a process."""
    table = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split() for line in table]
    parents = {int(p): int(pp) for p, pp, stat in rows if not stat.startswith("Z")}
    found, pending = set(), {pid}
    while pending:
        above = pending.pop()
        below = {p for p, pp in parents.items() if pp == above}
        pending |= below - found
        found |= below
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that are still there, and are no remains that nobody has asked for."""
    table = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,stat="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split() for line in table]
    return pids & {int(pid) for pid, stat in rows if not stat.startswith("Z")}


# A stage whose workers write files, the folder of these files, and settings that make a photo
# take seconds.
SLOW = ("pseudolabels", "labels", ("pseudolabels.pamr.iterations=3000",))
SLOW_PREDICTIONS = (
    "predictions",
    "masks",
    ("predictions.crf.enabled=true", "predictions.crf.steps=3000"),
)
WORKING = pytest.mark.parametrize("slow", [SLOW, SLOW_PREDICTIONS], ids=lambda slow: slow[0])


def begin(place: Path, data: Path, made: Path, slow: tuple) -> subprocess.Popen:
    """Start a slow stage on a copy of the artifacts before it; wait for its first file."""
    shutil.copytree(made / "artifacts", place / "artifacts")
    stage, _, sets = slow
    process = start(place, data, "--until", stage, "--workers", "2", sets=sets)
    until(lambda: files_of(place, slow), process, seconds=300)
    return process


def files_of(place: Path, slow: tuple) -> dict[str, int]:
    """The files that an unfinished stage has written, and when."""
    stage, folder, _ = slow
    files = (place / "artifacts" / stage).glob(f"*.partial/{folder}/*.png")
    return {file.name: file.stat().st_mtime_ns for file in files}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data) -> Path:
    """The artifacts up to the segmentation network."""
    place = tmp_path_factory.mktemp("trained")
    words = ("run", "--until", "deeplab", "--workers", "1")
    done = pipeline(*words, cwd=place, settings=settings(data))
    assert done.code == 0, done
    return place


@WORKING
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_command_however_it_ends(tmp_path, data, trained, number, slow):
    process = begin(tmp_path, data, trained, slow)
    workers = children_of(process.pid)
    assert len(workers) >= 2
    process.send_signal(number)
    process.communicate(timeout=60)
    codes = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
    assert process.returncode == codes[number]
    end = time.monotonic() + 5
    while alive(workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(workers)
    assert verify(Store(tmp_path / "artifacts")) == []


def test_predictions_of_a_killed_run_are_kept_by_the_next_one(tmp_path, data, trained):
    process = begin(tmp_path, data, trained, SLOW_PREDICTIONS)
    process.kill()
    process.communicate(timeout=60)
    kept = files_of(tmp_path, SLOW_PREDICTIONS)
    process = start(tmp_path, data, "--until", "predictions", sets=SLOW_PREDICTIONS[2])
    more = lambda: len(files_of(tmp_path, SLOW_PREDICTIONS)) > len(kept)  # noqa: E731
    until(more, process, seconds=300)
    process.kill()
    process.communicate(timeout=60)
    assert kept
    assert kept.items() <= files_of(tmp_path, SLOW_PREDICTIONS).items()


def test_workers_that_wait_for_work_end_with_a_stopped_training(tmp_path, data, trained):
    """They made the labels, and would wait minutes for more."""
    shutil.copytree(trained / "artifacts", tmp_path / "artifacts")
    words = ("--until", "deeplab", "--workers", "2")
    sets = ("pseudolabels.pamr.iterations=9", "deeplab.epochs=100000")
    process = start(tmp_path, data, *words, sets=sets)
    until(lambda: any((tmp_path / "artifacts").glob("deeplab/*.partial/started.json")), process)
    time.sleep(1)
    workers = children_of(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    soon = time.monotonic() + 5
    while alive(workers) and time.monotonic() < soon:
        time.sleep(0.1)
    assert not alive(workers)


@WORKING
def test_a_killed_worker_is_a_sentence_and_the_next_run_goes_on(tmp_path, data, trained, slow):
    process = begin(tmp_path, data, trained, slow)
    table = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    ours = children_of(process.pid)
    loky = [line.split()[0] for line in table if "LokyProcess" in line]
    os.kill(next(int(pid) for pid in loky if int(pid) in ours), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    result = Result(process.returncode, "", err)
    assert one_sentence(result), result
    assert f"{slow[0]}: A worker process was killed" in err
    told = pipeline("status", cwd=tmp_path, settings=settings(data, *slow[2]))
    assert "A worker process was killed" in told.out
