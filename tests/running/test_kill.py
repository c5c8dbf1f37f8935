"""The chain killed with SIGKILL, and run out of disk, again and again: nothing is lost.

One process imports torch; each attempt is a fork of it that runs the chain until a fault strikes.
The embedded example, small, on networks that take milliseconds. How many faults struck is
printed: ``pytest -n 0 -rP tests/test_kill.py | grep faults``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch

import stages.classifier
import stages.deeplab
import stages.endtoend
import stages.evaluation
import stages.maps
import stages.predictions
import stages.pseudolabels
from getam.cache import CacheError, faults
from getam.config.loading import load_config
from getam.running.opening import open_runner
from stages.chain import ORDER, chain
from tests.conftest import EXAMPLE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def attempt(
    place: Path, fault: str = "", kill_after: float | None = None, settings=EXAMPLE
) -> int | str:
    """Run the chain in a fork: 0 done, "killed", or the sentence of a full disk."""
    (place / "sentence.txt").unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        os._exit(_run(place, fault, settings))
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return "killed"
    if (place / "sentence.txt").exists():
        return (place / "sentence.txt").read_text()
    return os.WEXITSTATUS(status)


def _run(place: Path, fault: str, settings: tuple[str, ...]) -> int:
    try:
        torch.set_num_threads(1)
        os.environ["GETAM_CHECKPOINT_SECONDS"] = "0"
        faults._ORDER = fault
        stages.maps.SHARD = 3
        log = (place / "work.jsonl").open("a")
        failed = (place / "failed.txt").open("a")

        def track(iterable, total=None, initial=0, unit="", **_):
            print(json.dumps([unit, initial, total]), file=log, flush=True)
            for item in iterable:
                yield item
                if unit == "step":
                    faults.point("step")

        def report(event):
            if event.kind == "failed":
                print(event.stage, file=failed, flush=True)

        config = load_config((), settings)
        runner = open_runner(
            chain, config, place / "artifacts", device="cpu", workers=1, track=track, report=report
        )
        runner.run(runner.plan())
    except CacheError as error:
        (place / "sentence.txt").write_text(str(error))
        return 1
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        return 2
    return 0


def digests(place: Path) -> dict[str, dict]:
    """The content digests of all files of all finished artifacts."""
    manifests = (place / "artifacts").glob("*/*/manifest.json")
    read = [json.loads(path.read_text()) for path in manifests]
    return {m["stage"]: m["files"] for m in read}


def resumed(place: Path) -> list[list]:
    """The loops that went on from something: (unit, initial, total) with initial > 0."""
    return [json.loads(line) for line in (place / "work.jsonl").open() if json.loads(line)[1]]


def points(place: Path) -> list[str]:
    """The names of the fault points that a whole run passes."""
    place.mkdir()
    os.environ["GETAM_FAULT_LOG"] = str(place / "points.txt")
    assert attempt(place, "list") == 0
    return sorted(set((place / "points.txt").read_text().split()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, dict]:
    place = tmp_path_factory.mktemp("whole")
    assert attempt(place) == 0
    assert len(digests(place)) == 8
    return digests(place)


def test_killed_at_every_write_point_it_ends_in_the_same_artifacts(tmp_path, whole):
    names = points(tmp_path / "points")
    assert len(names) >= 8
    killed_at, work = [], []
    for passage in (1, 2, 4):
        place = tmp_path / str(passage)
        place.mkdir()
        for name in names:
            outcome = attempt(place, f"{name}:{passage}")
            if outcome == "killed":
                killed_at.append(name)
            else:  # done before it passed that point so often: start over
                assert outcome == 0
                assert digests(place) == whole
                shutil.rmtree(place / "artifacts")
        assert attempt(place) == 0
        assert digests(place) == whole
        work += resumed(place)
    print(f"faults: {len(killed_at)} kills at {len(names)} kinds of write points")
    assert len(killed_at) >= 25
    assert set(killed_at) == set(names)
    assert "step" in {unit for unit, _, _ in work}


def test_the_end_to_end_network_killed_in_each_phase_ends_in_the_same_weights_and_curves(tmp_path):
    """Two phases of four steps; a checkpoint follows each."""
    settings = (*EXAMPLE, "mode=end-to-end")
    whole = tmp_path / "whole"
    whole.mkdir()
    assert attempt(whole, settings=settings) == 0
    assert set(digests(whole)) == {"data", "endtoend", "predictions", "doubt", "evaluation"}
    kills = {1: [1], 4: [4], 6: [4, 2], 8: [4, 4]}  # after this step, and where it goes on
    for step, goes_on_at in kills.items():
        place = tmp_path / str(step)
        place.mkdir()
        assert attempt(place, f"step:{step}", settings=settings) == "killed"
        assert attempt(place, settings=settings) == 0
        assert digests(place) == digests(whole)
        assert [initial for unit, initial, _ in resumed(place) if unit == "step"] == goes_on_at
    print(f"faults: {len(kills)} kills in the phases of the end-to-end network")


def test_killed_at_random_moments_it_ends_in_the_same_artifacts(tmp_path, whole):
    moments = random.Random(0)
    kills = 0
    while kills < 40:
        outcome = attempt(tmp_path, kill_after=moments.uniform(0.02, 0.8))
        if outcome == "killed":
            kills += 1
        else:  # done before it was killed: start over
            assert outcome == 0
            assert digests(tmp_path) == whole
            shutil.rmtree(tmp_path / "artifacts")
    print(f"faults: {kills} kills at random moments")
    assert attempt(tmp_path) == 0
    assert digests(tmp_path) == whole


def test_disk_full_at_every_write_point_is_one_sentence_and_the_next_run_goes_on(tmp_path, whole):
    """Each attempt gets one write point further than the one before it did."""
    full = 0
    while (outcome := attempt(tmp_path, f"enospc@*:{full + 1}")) != 0:
        assert str(outcome).startswith("No space left while "), outcome
        full += 1
    print(f"faults: {full} full disks")
    assert full >= 30
    assert digests(tmp_path) == whole


def test_disk_full_at_the_end_of_every_stage_is_one_sentence(tmp_path, whole):
    """From the second attempt on, each finishes the stage that the one before it could not."""
    fault = "enospc@stage.returned:1"
    while (outcome := attempt(tmp_path, fault)) != 0:
        assert str(outcome).startswith("No space left while running "), outcome
        fault = "enospc@stage.returned:2"
    assert (tmp_path / "failed.txt").read_text().split() == [
        name for name in ORDER if name in whole
    ]
    assert digests(tmp_path) == whole
