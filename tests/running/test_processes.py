"""Work by several processes: what a task brings along is received once."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time

import pytest

from getam.running.processes import PARTS, VALUES, OncePerProcess, process_pool, room_in_process
from tests.conftest import ROOT


class Counted:
    """Adds, and knows how often it has been received."""

    received = 0

    def __init__(self, first: int) -> None:
        self.first = first

    def __setstate__(self, state: dict) -> None:
        self.__dict__ = state
        Counted.received += 1

    def __call__(self, second: int) -> int:
        return self.first + second


def test_a_function_is_received_once_for_all_tasks_and_not_mistaken_for_another() -> None:
    function, other = OncePerProcess(Counted(1)), OncePerProcess(Counted(10))
    assert [pickle.loads(pickle.dumps(function))(n) for n in range(40)] == [*range(1, 41)]
    assert Counted.received == 1
    assert pickle.loads(pickle.dumps(other))(1) == 11
    assert pickle.loads(pickle.dumps(function))(1) == 2


def busy(values: int) -> tuple[float, float]:
    """When a task that has room for so many values begins and ends."""
    with room_in_process(values):
        begin = time.monotonic()
        time.sleep(0.2)
        return begin, time.monotonic()


@pytest.mark.parametrize(
    ("parts", "together"), [(1, 3), (2 / 3 * PARTS, 3), (PARTS, 2), (PARTS + 1, 1), (99 * PARTS, 1)]
)
def test_tasks_run_together_only_while_their_arrays_fit_in_the_memory_of_all(parts, together):
    """Of three processes: they have the room of two."""
    with process_pool(3) as pool:
        [*pool.map(busy, [1] * 6)]  # all processes have begun
        spans = [*pool.map(busy, [int(parts * VALUES)] * 6)]
    most = max(sum(b <= begin < e for b, e in spans) for begin, _ in spans)
    assert most <= together
    assert together == 1 or most > 1


def fail(values: int) -> None:
    with room_in_process(values):
        raise ValueError(values)


def test_a_task_that_fails_leaves_its_room_to_the_next():
    with process_pool(2) as pool:
        for _ in range(3):
            with pytest.raises(ValueError, match=str(PARTS * VALUES)):
                pool.submit(fail, PARTS * VALUES).result()
        assert pool.submit(busy, PARTS * VALUES).result(timeout=60)


def test_processes_end_at_once_after_an_error():
    tasks, begin = [], time.monotonic()

    def interrupted() -> None:
        with process_pool(2) as pool:
            tasks.append(pool.submit(time.sleep, 600))
            pool.submit(busy, 1).result()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begin < 300
    assert tasks[0].exception() is not None


def test_outside_of_a_pool_there_is_room_for_everything():
    with room_in_process(99 * PARTS * VALUES):
        pass


def test_a_process_that_only_writes_predictions_does_not_load_torch():
    """It would take about 300 MB in each process."""
    program = """
import sys
import numpy as np
import stages.predictions
from getam.networks.tiling import Part, label_parts, tiles
grids = [np.linspace(0, 1, 48, dtype=np.float32).reshape(2, 4, 6)]
(tile,) = tiles((8, 12), 12)
part = Part(tile, np.zeros((8, 12, 3), np.uint8), grids)
label_parts([part], (8, 12), crf={"steps": 1})
assert "torch" not in sys.modules
"""
    pytest.importorskip("pydensecrf")
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
