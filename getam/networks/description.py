"""``network.json``: how a saved network is built, and the names of its classes.

The file may come from somebody else, so it is read as data: known keys, each of its type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from getam.errors import UserError
from getam.networks.weights import check_arguments

__all__ = ["NAME", "read_description", "write_description"]

NAME = "network.json"

_COMMON = ("kind", "classes", "num_classes", "image_size", "args", "intensities")
_KEYS = {
    "classifier": (*_COMMON, "model"),
    "deeplab": (*_COMMON, "encoder", "channels", "atrous_rates", "blocks"),
    "endtoend": (*_COMMON, "model", "channels", "atrous_rates", "blocks"),
}
_OPTIONAL = {
    "classifier": ("intensities",),
    "deeplab": ("intensities", "blocks"),
    "endtoend": ("intensities", "blocks", "atrous_rates"),
}


def write_description(folder: Path, described: Mapping[str, Any]) -> None:
    """Write the file into ``folder``; keys are sorted."""
    text = json.dumps(dict(described), indent=1, sort_keys=True, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def read_description(folder: Path) -> dict[str, Any]:
    """What the file in ``folder`` says: ``kind``, ``classes`` and the arguments of the builder.

    Raises:
        UserError: the file is missing or damaged, has an unknown key, lacks one, or has a value of
            another type.
    """
    file = folder / NAME
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: cannot read how the network is built ({type(error).__name__}). Expected the "
            "JSON file that GETAM saved beside network.safetensors."
        ) from None
    _check(file, described)
    return described


def _check(file: Path, described: Any) -> None:
    kind = described.get("kind") if isinstance(described, dict) else None
    if not isinstance(kind, str) or kind not in _KEYS:
        raise UserError(
            f"{file}: got the kind {kind!r}, expected one of {', '.join(_KEYS)}: {_REMEDY}"
        )
    known = _KEYS[kind]
    unknown = sorted(described.keys() - set(known))
    if unknown:
        raise UserError(
            f"{file}: got the unknown key {unknown[0]!r}, expected only {', '.join(known)}: "
            f"{_REMEDY}"
        )
    missing = [key for key in known if key not in described and key not in _OPTIONAL[kind]]
    if missing:
        raise UserError(f"{file}: the key {missing[0]!r} is missing: {_REMEDY}")
    for key, value in described.items():
        expected, fits = _TYPES[key]
        if not fits(value):
            got = f"a {type(value).__name__}" if isinstance(value, list | dict) else repr(value)
            raise UserError(f"{file}: {key}: got {got:.80}, expected {expected}: {_REMEDY}")
    check_arguments(f"{file}: args", described["args"])


_REMEDY = "take the file as GETAM saved it, or train the network again."


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0  # not a bool, which is an int too


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _all(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda values: isinstance(values, list) and all(map(fits, values))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_COUNT = ("a whole number above 0", _is_count)
_TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "kind": ("a name", _is_text),
    "model": ("a name", _is_text),
    "encoder": ("a name", _is_text),
    "classes": ("a list of names", _all(_is_text)),
    "num_classes": _COUNT,
    "image_size": _COUNT,
    "channels": _COUNT,
    "intensities": (
        "two numbers",
        lambda value: _all(_is_number)(value) and len(value) == 2,
    ),
    "args": ("arguments by name", lambda value: isinstance(value, dict)),
    "atrous_rates": (
        "three whole numbers above 0",
        lambda value: _all(_is_count)(value) and len(value) == 3,
    ),
    "blocks": (
        "null or a list of whole numbers from 0 on",
        lambda value: value is None or _all(lambda n: type(n) is int and n >= 0)(value),
    ),
}
