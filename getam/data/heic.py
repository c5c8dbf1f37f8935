"""HEIC photos, which Pillow reads with the help of pillow-heif: an extra of the package."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from getam.data.files import HEIC
from getam.errors import UserError


def is_heic(path: Path) -> bool:
    """Whether the file name ends as that of a HEIC photo does."""
    return str(path)[-5:].lower() in HEIC


def check_readable(paths: Iterable[Path]) -> None:
    """Whether HEIC photos among these files can be read; opens no file.

    Raises:
        UserError: pillow-heif is not installed.
    """
    heic = [path for path in paths if is_heic(path)]
    if heic and not _teach_pillow():
        raise UserError(
            f"{heic[0]}: got {len(heic)} HEIC photos, this one first, and pillow-heif, which reads "
            f"them, is not installed: pip install 'getam[heic]', or convert them to JPEG."
        )


@cache
def _teach_pillow() -> bool:
    """Once per process; False where pillow-heif is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
