"""Signals that end a process, held back until what it is doing is whole."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

Handler = Callable[[int, "FrameType | None"], Any]


class HeldBack:
    """Within, Ctrl-C and SIGTERM wait until :meth:`obey`; a second one is obeyed at once.

        with HeldBack() as signals:
            for step in steps:
                step()
                if signals.came:
                    save()
                signals.obey()

    What a signal does is what it did before. One that ends the process without a handler still
    does, and outside of the main thread, which alone is told of signals, nothing is held back.
    """

    def __init__(self) -> None:
        self.came = False
        self._number = 0
        self._handlers: dict[int, Handler] = {}

    def __enter__(self) -> HeldBack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def obey(self) -> None:
        """Do what the signal that came does; usually that raises KeyboardInterrupt."""
        if self.came:
            self._handlers[self._number](self._number, None)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            self._handlers[number](number, frame)
        self.came, self._number = True, number
        with suppress(OSError):  # not print: the signal may have come in the middle of one
            os.write(2, b"\nStopping after this step; once more stops at once.\n")
