"""Which file a setting comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from getam.config.base import Machine
from getam.config.plain_yaml import read_yaml

PARTS = {  # of a file -> the machines they are for; a later part wins over an earlier one
    "on_gpu": ("gpu",),
    "on_cpu": ("cpu", "cpu_bf16"),
    "on_cpu_bf16": ("cpu_bf16",),
}


def has(values: Any, where: str) -> bool:
    """Whether nested values have the setting ``section.field``.

    >>> has({"maps": {"method": "cam"}}, "maps.method"), has({"maps": None}, "maps.method")
    (True, False)
    """
    for name in where.split("."):
        if not isinstance(values, Mapping) or name not in values:
            return False
        values = values[name]
    return True


def origin(file: Path, where: str, machine: Machine) -> str | None:
    """The file, and the part of it, that sets ``where``: this one or one that it extends.

    The files can be read: their settings have been merged before. None: none of them sets it.
    """
    content = read_yaml(file) or {}
    for name in reversed(PARTS):
        if machine in PARTS[name] and content.get(name):
            found = _of(content[name], file, f"{file}: {name}", where, machine)
            if found:
                return found
    return _of(content, file, str(file), where, machine)


def _of(
    content: Mapping[str, Any], file: Path, told: str, where: str, machine: Machine
) -> str | None:
    if has(content, where):
        return told
    base = content.get("extends")
    return origin((file.parent / base).resolve(), where, machine) if base else None
