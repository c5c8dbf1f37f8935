"""Freed memory goes back to the system at once, or it is kept for the next step."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from getam.networks.memory import freed_memory_kept, large_arrays_given_back

HELD = """
import ctypes
import sys
import numpy as np
from contextlib import nullcontext
from getam.networks.memory import large_arrays_given_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

# What glibc does by itself after a freed array of 32 MB, unless the environment forbids it.
ctypes.CDLL(None).mallopt(-3, 32 << 20)
before = resident()
with large_arrays_given_back() if sys.argv[1] == "back" else nullcontext():
    arrays = [np.ones(8 << 20, np.uint8) for _ in range(20)]
    del arrays[:-1]  # the last one is in use, so the memory before it cannot shrink
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")
def test_freed_arrays_are_not_kept():
    kept, back = (
        float(subprocess.check_output([sys.executable, "-c", HELD, how]))
        for how in ("kept", "back")
    )
    assert back < 20
    if kept < 100:
        pytest.skip("the allocator here keeps nothing, so this test shows nothing")


FAULTS = """
import resource
import sys
import numpy as np
from contextlib import nullcontext
from getam.networks.memory import freed_memory_kept

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

with freed_memory_kept() if sys.argv[1] == "kept" else nullcontext():
    before = faults()
    for _ in range(20):
        arrays = [np.ones(8 << 20, np.uint8) for _ in range(8)]
        del arrays
    print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")
def test_kept_memory_is_taken_again_without_asking_the_system():
    usual, kept = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS, how]))
        for how in ("usual", "kept")
    )
    assert kept < usual / 5


@pytest.mark.parametrize("context", [large_arrays_given_back, freed_memory_kept])
def test_on_other_systems_nothing_happens(monkeypatch, context):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr("ctypes.CDLL", lambda _name: pytest.fail("there is no such library"))
    with context():
        pass
