"""Stages read photos ahead of the network, and never hold many whole photos."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch

import getam.networks.tiling
import stages.doubt
import stages.encoder_features
import stages.maps
import stages.predictions
import stages.shared
from getam.config.loading import load_config
from getam.data.ahead import Behind, read_ahead
from getam.data.images import read_photo
from getam.running.opening import open_runner
from stages.chain import chain
from stages.encoder_features import read_features, shard_path
from tests.conftest import EXAMPLE, ROOT

SETTINGS = (
    *EXAMPLE,
    "pseudolabels.saliency=features",
    "deeplab.fixed_encoder=true",
    "predictions.crf.steps=1",
)
READING = ("maps", "encoder_features", "predictions", "doubt", "shared")


class Counted:
    """Reads photos, and counts those in memory."""

    def __init__(self) -> None:
        self.alive, self.most, self.read, self.lock = 0, 0, 0, threading.Lock()

    def __call__(self, record) -> np.ndarray:
        photo = read_photo(record)
        with self.lock:
            self.alive, self.read = self.alive + 1, self.read + 1
            self.most = max(self.most, self.alive)
        weakref.finalize(photo, self.leave)
        return photo

    def leave(self) -> None:
        with self.lock:
            self.alive -= 1


def test_no_stage_holds_more_whole_photos_than_it_has_readers(tmp_path, monkeypatch):
    counted = {name: Counted() for name in READING}
    for name, count in counted.items():
        monkeypatch.setattr(getattr(stages, name), "read_photo", count)
    monkeypatch.setattr(getam.networks.tiling, "WORKING", 32)  # the photos have 48 pixels
    config = load_config((), SETTINGS)
    runner = open_runner(chain, config, tmp_path / "artifacts", device="cpu", workers=1)
    runner.run(runner.plan(until="doubt"))
    for name, count in counted.items():
        assert count.read >= 8, name  # the train photos at least
        assert count.most <= 2, name  # the one being read, and the one just used


def test_features_are_read_with_few_files_open_at_a_time(tmp_path):
    """More files than a process may open; a process keeps what it has read from before."""
    for number in range(80):
        values = np.full((1, 2, 3, 3), number, np.float16)
        np.save(shard_path(tmp_path, number), values)
    program = f"""
import resource, sys
from pathlib import Path
from stages.encoder_features import SHARD, read_features
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (48, hard))
for _ in range(2):
    for number in range(80):
        assert (read_features(Path({str(tmp_path)!r}), number * SHARD) == number).all()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_photo_in_the_middle_of_a_file_has_its_own_features(tmp_path):
    values = np.random.default_rng(0).random((5, 2, 3, 4)).astype(np.float16)
    np.save(shard_path(tmp_path, 0), values)
    for n in range(5):
        assert torch.equal(read_features(tmp_path, n), torch.from_numpy(values[n]))


def test_what_is_read_ahead_comes_in_order_and_an_error_at_its_item():
    def read(n: int) -> int:
        if n == 7:
            raise ValueError("seven")
        return n * n

    found = read_ahead(read, range(20), ahead=3, workers=2)
    assert [next(found) for _ in range(7)] == [(n, n * n) for n in range(7)]
    with pytest.raises(ValueError, match="seven"):
        next(found)


def test_calls_behind_are_done_in_order_before_the_context_ends():
    done = []
    with Behind(waiting=1) as behind:
        for n in range(20):
            behind(done.append, n)
    assert done == [*range(20)]


@pytest.mark.parametrize("calls_after", [0, 5])
def test_an_error_behind_is_raised(calls_after):
    def write() -> None:
        with Behind() as behind:
            behind(divmod, 1, 0)
            for _ in range(calls_after):
                behind(divmod, 1, 1)

    with pytest.raises(ZeroDivisionError):
        write()
