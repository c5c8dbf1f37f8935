"""Processes that load images for a training: they end with it, and their errors stay sentences."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from getam.cache.pieces import begin
from getam.config.schema import Training
from getam.errors import UserError
from getam.running.failures import in_a_sentence
from getam.training.loop import train
from tests.conftest import ROOT
from tests.training.test_loop import Net, loss

SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from tests.training.test_loop import Net, begin, item, loss, train, Training

def slow(index):
    Path("loader.txt").write_text(str(os.getpid()))
    time.sleep(0.05)
    return item(index)

if __name__ == "__main__":
    torch.set_num_threads(1)
    settings = Training(epochs=1000, batch_size=4)
    train(Net(), 10, slow, loss, settings, seed=0, pieces=begin(Path("work")),
          scratch=Path("work/scratch"), device="cpu", workers=1)
"""


@pytest.fixture
def training(tmp_path):
    """A training with a process that loads; that process."""
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )
    end = time.monotonic() + 60
    while not (tmp_path / "loader.txt").exists() or not (tmp_path / "loader.txt").read_text():
        assert time.monotonic() < end
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    yield process, int((tmp_path / "loader.txt").read_text())
    process.kill()
    process.communicate()


def lives(pid: int) -> bool:
    words = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(words, capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_they_end_when_the_training_is_killed(training):
    process, loader = training
    assert lives(loader)
    process.kill()
    end = time.monotonic() + 5
    while lives(loader) and time.monotonic() < end:
        time.sleep(0.1)
    assert not lives(loader)


def test_ctrl_c_in_them_does_not_take_the_checkpoint_from_the_training(training, tmp_path):
    """A terminal sends it to every process of a command."""
    process, loader = training
    time.sleep(1)
    for pid in (loader, process.pid):
        os.kill(pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in err
    assert b"DataLoader worker" not in err
    assert (tmp_path / "work" / "scratch" / "checkpoint.pt").exists()


def learn(tmp_path: Path, item: Callable[[int], Any]) -> None:
    """Train on two items that one process loads, as a stage does."""

    def run(job: SimpleNamespace) -> None:
        train(
            Net(),
            *(2, item, loss, Training(epochs=1, batch_size=2)),
            seed=0,
            pieces=begin(tmp_path),
            scratch=tmp_path,
            device="cpu",
            workers=1,
        )

    call = in_a_sentence(lambda function, job: function(job))
    call(run, SimpleNamespace(stage="classifier"))


def test_an_error_of_the_user_in_one_of_them_is_one_sentence(tmp_path):
    def broken(index: int):
        raise UserError(f"photo{index}.png: cannot read (an Error: 5). Mend it.")

    with pytest.raises(UserError) as told:
        learn(tmp_path, broken)
    assert str(told.value) in [f"photo{n}.png: cannot read (an Error: 5). Mend it." for n in (0, 1)]


def test_a_process_that_is_killed_is_a_sentence(tmp_path):
    def dies(index: int):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match="classifier: A worker process was killed"):
        learn(tmp_path, dies)
