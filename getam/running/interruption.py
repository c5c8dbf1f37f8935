"""How a command ends that is stopped, or whose output nobody takes. Does not import torch."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click

from getam.running.same_run import command_to_go_on

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Terminated(KeyboardInterrupt):
    """SIGTERM: it ends a command as Ctrl-C does."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM end a command with a sentence and exit code 130 or 143.

    What is made stays as it is; a training saves a checkpoint first (``getam.training.signals``).
    A standard output that is closed, or full, is a sentence and exit code 1.
    """
    came: list[int] = []
    with _handlers(came):
        try:
            yield
            _flush_output()
        except BaseException as error:
            if came or isinstance(error, KeyboardInterrupt):
                _interrupted(came[-1] if came else signal.SIGINT)
            if isinstance(error, OSError) and (told := _of_output(error)):
                _discard_output()
                raise click.ClickException(told) from None
            raise


@contextmanager
def _handlers(came: list[int]) -> Iterator[None]:
    """The signals are noted in ``came``: some libraries turn what a handler raises into an error
    of their own. Only the main thread may set handlers."""

    def stop(number: int, _: FrameType | None) -> None:
        came.append(number)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and shells ask for
            former[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _interrupted(number: int) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)  # the end is near, and clean
    _end_workers()
    with suppress(OSError):  # the terminal may be gone
        command = command_to_go_on()
        how = f"'{command}' goes on" if command else "Run the same command again to go on"
        click.echo(f"Interrupted. {how}.", err=True)
    try:
        _flush_output()
    except OSError:
        _discard_output()
    raise SystemExit(128 + number)


def _end_workers() -> None:
    """Processes that would otherwise finish what they are doing, which nobody waits for."""
    processes = sys.modules.get("multiprocessing")
    for process in processes.active_children() if processes else ():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(process.pid, signal.SIGKILL)


def _of_output(error: OSError) -> str | None:
    """The sentence if it was the output that could not be written."""
    if error.errno == errno.EPIPE:
        return "The program that reads the output ended before all was written."
    if error.errno not in _FULL or error.filename is not None:
        return None
    return f"The output cannot be written ({error.strerror}). Free some space where it goes."


def _flush_output() -> None:
    if sys.stdout is not None:  # a command may be started without one
        sys.stdout.flush()


def _discard_output() -> None:
    """What is still in the buffer would be an error once more when Python ends."""
    with suppress(OSError, ValueError, AttributeError):  # it may be no file at all
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
