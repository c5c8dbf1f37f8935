"""Fault injection: die, or run out of disk, at a chosen moment.

Code that must survive a crash passes named points. The environment variable ``GETAM_FAULT`` says
what happens there:

- ``NAME:N``: SIGKILL at the N-th passage of point NAME (``*:N``: of any point);
- ``enospc@NAME:N``: "no space left on device" from the N-th passage on, as on a disk that is full;
- ``list``: the name of each point passed is appended to the file ``GETAM_FAULT_LOG``.

Without it a point costs one comparison.
"""

from __future__ import annotations

import errno
import os
import re
import signal

_ORDER = os.environ.get("GETAM_FAULT", "")
_passages = 0


def point(name: str) -> None:
    """Pass the point `name`: nothing happens unless ``GETAM_FAULT`` orders it.

    >>> point("example")
    """
    if _ORDER:
        _obey(_ORDER, name)


def _obey(order: str, name: str) -> None:
    if order == "list":
        with open(os.environ["GETAM_FAULT_LOG"], "a", encoding="utf-8") as log:
            log.write(name + "\n")
        return
    action, target, count = _parse(order)
    if target not in ("*", name):
        return
    global _passages
    _passages += 1
    if action == "enospc" and _passages >= count:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    if not action and _passages == count:
        os.kill(os.getpid(), signal.SIGKILL)


def _parse(order: str) -> tuple[str, str, int]:
    match = re.fullmatch(r"(?:(enospc)@)?([^@:]+):([1-9]\d*)", order)
    if match is None:
        raise ValueError(
            f"GETAM_FAULT is {order!r}, expected 'NAME:N', '*:N', 'enospc@NAME:N' or 'list'"
        )
    return match[1] or "", match[2], int(match[3])
