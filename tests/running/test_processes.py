"""Work by several processes: what a task brings along is received once."""

from __future__ import annotations

import pickle

from getam.running.processes import OncePerProcess


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
