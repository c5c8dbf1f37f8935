"""Text for a terminal. Names in it may come from anybody, and may hold control characters."""

from __future__ import annotations

import re
import sys

import click

# Controls (a terminal obeys them), signs that turn the order of letters, halves of characters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def shown(text: str) -> str:
    r"""The text with control characters escaped, apart from tabs and line breaks.

    >>> shown("a\x1b[31mb"), shown("caf\udce9")
    ('a\\x1b[31mb', 'caf\\xe9')
    """
    return _UNSAFE.sub(lambda found: _escaped(found[0]), text)


def shown_line(text: str) -> str:
    r"""The same in one line.

    >>> shown_line("a\nb")
    'a\\nb'
    """
    return shown(text).replace("\n", "\\n")


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00  # what Python has in place of a byte that is not UTF-8
    return f"\\x{byte:02x}" if 128 <= byte < 256 else character.encode("unicode_escape").decode()


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text on standard output, or on standard error; what cannot be encoded is escaped."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    printed = shown(text).encode(encoding, "backslashreplace").decode(encoding)
    click.echo(printed, err=err, nl=nl)
