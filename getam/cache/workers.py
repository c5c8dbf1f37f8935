"""Processes that work for another one, and end with it."""

from __future__ import annotations

import os
import signal
import threading
import time

_EVERY = 0.5  # seconds


def end_with_parent(parent: int | None = None) -> None:
    """End this process when its parent is gone, however that ended; and leave Ctrl-C, which a
    terminal sends to all processes of a command, to the parent.

    Called once, at the start of a worker. `parent` is the process that it works for; without it,
    it is the one that is the parent now.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch_parent(parent)


def watch_parent(parent: int | None = None) -> None:
    """The first half of `end_with_parent`."""
    threading.Thread(target=_watch, args=(parent or os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    """Asked again and again, as no system call that all systems have waits for it."""
    while os.getppid() == parent:
        time.sleep(_EVERY)
    os._exit(1)
