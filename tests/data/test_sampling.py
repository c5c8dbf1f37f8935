"""As many photos as asked for, at equal distances."""

from __future__ import annotations

import itertools

import pytest

from getam.data.sampling import evenly


@pytest.mark.parametrize("there", [0, 1, 9, 10, 11, 19, 20, 21, 460])
def test_as_many_as_asked_for_at_distances_that_differ_by_at_most_one(there):
    taken = evenly(range(there), 10)
    assert len(taken) == min(10, there)
    assert len({b - a for a, b in itertools.pairwise(taken)}) <= 2
    assert taken[:1] == [*range(there)][:1]
