"""Files that carry a checksum of their content: what was damaged since is as absent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .atomic import atomic_write_bytes


def write_checked(path: Path, body: bytes) -> None:
    """Atomically write `body` under a checksum, for `read_checked`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, _digest(body).encode() + b"\n" + body)


def read_checked(path: Path) -> bytes | None:
    """What `write_checked` wrote, or None if it is absent or was damaged since."""
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    return body if _digest(body).encode() == checksum else None


def write_checked_json(path: Path, value: Any) -> None:
    """Atomically write a dict as JSON whose first entry is a checksum of the rest."""
    atomic_write_bytes(path, with_checksum(json.dumps(value, indent=1, ensure_ascii=False)))


def read_checked_json(path: Path) -> dict[str, Any] | None:
    """What `write_checked_json` wrote, without the checksum; None if it was damaged since.

    Raises FileNotFoundError, and other errors of reading.
    """
    content = path.read_bytes()
    body = b"{" + content[len(_header(b"")) :]
    return json.loads(body) if content == _header(body) + body[1:] else None


def with_checksum(body: str) -> bytes:
    """JSON text of a dict that is not empty, with the checksum as its first entry."""
    content = body.encode()
    return _header(content) + content[1:]


def _header(body: bytes) -> bytes:
    return b'{\n "checksum": "' + _digest(body).encode() + b'",'


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
