"""The name of the program, for messages that tell the user a command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def program() -> str:
    """How this program was called: ``getam``, ``python pipeline.py`` or ``python -m pipeline``.

    A script is named by its path as the user typed it. Under torchrun the name is that of the
    program which torchrun starts: that program alone makes the same artifacts. Code that uses the
    library without the command line gets ``getam``.

    >>> program()
    'getam'
    """
    module = getattr(sys.modules["__main__"], "__spec__", None)
    if module is not None and module.name == "pipeline":
        return "python -m pipeline"
    if Path(sys.argv[0]).name == "pipeline.py":
        return f"python {shlex.quote(sys.argv[0])}"
    return "getam"
