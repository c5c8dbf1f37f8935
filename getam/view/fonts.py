"""Fonts for pictures that have the letters of a text, in any script where there is such a font."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

# DejaVu Sans comes with matplotlib. It has Latin with all accents, Greek, Cyrillic and more.
OWN = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def written(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """A text as it can be drawn, and the font for it.

    The font is that of the pictures, or the first font of this machine that has all letters. If
    there is none, letters that are missing become their Unicode numbers.

    >>> written("Löwenzahn", 14)[0]
    'Löwenzahn'
    >>> written("a\\U0010fffd", 14)[0]
    'a<U+10FFFD>'
    """
    missing = set(text) - _letters(OWN)
    font = next((f for f in _others() if missing <= _letters(f)), None) if missing else OWN
    if font is None:
        font = OWN
        text = "".join(f"<U+{ord(c):04X}>" if c in missing else c for c in text)
    return text, _opened(font, size)


@cache
def _opened(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), size)


@cache
def _letters(file: Path) -> frozenset[str]:
    """What a font has; nothing if it cannot be read."""
    try:
        return frozenset(map(chr, FT2Font(str(file)).get_charmap()))
    except (RuntimeError, OSError):
        return frozenset()


@cache
def _others() -> tuple[Path, ...]:
    """The fonts of this machine, without those whose signs stand for blocks of letters."""
    from matplotlib.font_manager import fontManager

    files = {Path(font.fname) for font in fontManager.ttflist}
    return tuple(sorted(f for f in files if not f.name.startswith("LastResort")))
