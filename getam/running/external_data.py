"""Which other files an ONNX file keeps its weights in, told without the package onnx.

An ONNX file is a protobuf message. A tensor in it may name a file beside it that holds its numbers
(``external_data``). Only the fields on the way to these names are looked at; nothing is executed.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from getam.errors import UserError

# Message -> number of a field in it -> the message that the field holds (onnx/onnx.proto).
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        **{5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
        **{22: "sparse tensor", 23: "sparse tensor"},
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external data"},
}
_FIXED = {1: 8, 5: 4}  # wire type -> bytes


def external_files(model: Path) -> list[Path]:
    """The files that an ONNX file names, sorted; none of a file that is no ONNX file.

    Raises:
        UserError: one of them is missing, or not in the folder of the model.
    """
    with open(model, "rb") as stream:
        if not model.stat().st_size:
            return []
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            view = memoryview(content)
            names = sorted(set(_locations(view)))
            view.release()
    return [_beside(model, name) for name in names]


def _beside(model: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    file = model.parent / name
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise UserError(
            f"{model}: got {name!r} as the file of its weights, expected one in the same folder. "
            f"Save the model again, with its weights beside it or inside."
        )
    if not file.is_file():
        raise UserError(
            f"{model}: its weights are in {name}, which is missing. Put {file} there, or set "
            f"pseudolabels.saliency_model to a model that has its weights inside."
        )
    return file


def _locations(model: memoryview) -> Iterator[str]:
    pending = [("model", model)]
    while pending:
        kind, message = pending.pop()
        if kind == "external data":
            entry = dict(_fields(message))
            if bytes(entry.get(1, b"")) == b"location":
                yield bytes(entry.get(2, b"")).decode("utf-8", "replace")
            continue
        inside = _INSIDE[kind]
        pending += [(inside[number], part) for number, part in _fields(message) if number in inside]


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the fields that have a length; ends where it is no protobuf."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 2:
            size, at = _varint(message, at)
            if size > len(message) - at:
                return
            yield key >> 3, message[at : at + size]
            at += size
        elif wire == 0:
            _, at = _varint(message, at)
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            return


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it; the end of the message ends a number."""
    number = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            break
    return number, at
