"""Watches a GPU while a process uses it. For ``gpu.py``."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ASK = ("nvidia-smi", "--query-gpu=memory.used,utilization.gpu", "--format=csv,noheader,nounits")
EVERY = 0.5  # seconds


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """A dict that gets, at the end, the most memory of the GPU that was in use and how busy it
    was on average. It stays empty if there is no ``nvidia-smi``."""
    found: dict[str, float] = {}
    if shutil.which(ASK[0]) is None:
        yield found
        return
    seen: list[tuple[float, float]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(EVERY):
            told = subprocess.run(ASK, capture_output=True, text=True).stdout.splitlines()
            if told:
                memory, busy = (float(number) for number in told[0].split(","))
                seen.append((memory, busy))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
        if seen:
            found["GPU memory in use, MiB"] = max(memory for memory, _ in seen)
            found["GPU busy, % of the time"] = sum(busy for _, busy in seen) / len(seen)
