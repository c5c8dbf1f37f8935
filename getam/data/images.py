"""Photos and other images in files, with errors that name the file."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from getam.data.heic import check_readable
from getam.data.intensity import (
    FEW,
    FULL_16_BIT,
    Range,
    is_deep,
    to_levels,
    upright_values,
)
from getam.errors import UserError

if TYPE_CHECKING:
    from getam.data.index import Record

PNG = b"\x89PNG\r\n\x1a\n"
NEW_SUBFILE_TYPE = 254  # tag of a TIFF page; its lowest bit: a smaller copy of another page
ROWS = 128  # of a photo that are copied at a time

_said: set[str] = set()
_lock = threading.Lock()


def read_photo(record: Record) -> np.ndarray:
    """The photo of a record, as :func:`read_image`, in the intensity range of its data set."""
    return read_image(record.image, record.intensities)


def read_image(path: Path, intensities: Range | None = None) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Grey, deep (16-bit, float), palette and alpha images are converted (alpha over white), and of
    several pages or frames the first is read; each kind is said once, as a warning.

    Args:
        intensities: the values of a deep image that become 0 and 255; None: 0 and 65535, for
            images of 16 bits. Others stay as they are.

    Raises:
        UserError: a missing, truncated or unreadable file, or a float image without a range.
    """
    image, values = _load(path)
    if values is not None:
        image = to_rgb(_in_range(path, image.mode, values, intensities))
    elif image.mode != "RGB":
        _say_once(image.mode, f"{path}: converted from mode {image.mode} to RGB")
        image = to_rgb(image)
    return _pixels(image)


def _pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 3) of an RGB image. ``np.array`` would have it in memory three times meanwhile."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, ROWS):
        rows = image.crop((0, top, image.width, min(top + ROWS, image.height)))
        pixels[top : top + ROWS] = np.asarray(rows)
    return pixels


def photo_values(path: Path) -> np.ndarray:
    """The values of a deep photo, (H, W) or (H, W, 3 or 4), upright.

    Raises:
        UserError: a missing, truncated or unreadable file.
    """
    image, values = _load(path)
    return np.asarray(image) if values is None else values


def _load(path: Path) -> tuple[Image.Image, np.ndarray | None]:
    """The upright image, or of a deep one its upright values."""
    check_readable([path])
    try:
        with opened(path) as image:
            kind = image.format
            found = (image, upright_values(image, path)) if is_deep(image) else None
            found = found or (_upright(image), None)
    except Exception as error:  # Pillow raises many kinds on broken files
        raise UserError(_unreadable(path, error)) from None
    _say_pages(path, kind)
    return found


def _say_pages(path: Path, kind: str | None) -> None:
    """Say once that a file has several pages or frames.

    A JPEG or HEIC of a phone may have a second picture, such as its depth, that nobody means.
    """
    if kind in ("TIFF", "PNG", "WEBP") and "pages" not in _said and _has_pages(path):
        _say_once(
            "pages",
            f"{path}: this file has several pages or frames, and only the first is read. Save each "
            f"that you need as a photo of its own",
        )


def _has_pages(path: Path) -> bool:
    """Whether there is a page or frame behind the first that is no smaller copy of another."""
    try:
        with opened(path) as image:
            if not isinstance(image, TiffImageFile):
                return getattr(image, "is_animated", False)
            for page in count(1):
                image.seek(page)
                if not image.tag_v2.get(NEW_SUBFILE_TYPE, 0) & 1:
                    return True
    except Exception:  # Pillow raises many kinds; the first page was read, and is what counts
        return False


def _in_range(path: Path, mode: str, values: np.ndarray, intensities: Range | None) -> Image.Image:
    """A deep image as one of 8 bits."""
    if intensities is None and values.dtype.kind != "u" and not _fits_16_bit(values):
        raise UserError(
            f"{path}: got a photo with values of type {values.dtype}, and no range for them; "
            f"expected the values that are black and white. Set data.intensity_range to them."
        )
    low, high = intensities or FULL_16_BIT
    levels = to_levels(values, (low, high))
    told = f"values from {low:g} to {high:g} become 0 to 255"
    _say_once(f"{mode} {low} {high}", f"{path}: converted from mode {mode}, {told}")
    left = np.count_nonzero(np.bincount(levels.ravel(), minlength=256))
    if left < FEW <= len(np.unique(values)):
        _say_once(
            "few levels",
            f"{path}: {left} grey levels remain, fewer than {FEW}, as {told} in all photos. Set "
            f"data.intensity_range to the values that matter",
        )
    return Image.fromarray(levels)


def _fits_16_bit(values: np.ndarray) -> bool:
    """Whether these are 16 bits after all: some releases of Pillow read such a PNG into 32."""
    low, high = FULL_16_BIT
    return values.dtype.kind == "i" and low <= values.min() and values.max() <= high


def image_size(path: Path, what: str = "photo") -> tuple[int, int]:
    """(H, W) of an upright image, from its header alone; ``what`` it is, for errors.

    That a photo has several pages is said, as :func:`read_image` says it.

    Raises:
        UserError: a missing or unreadable file.
    """
    check_readable([path])
    try:
        with opened(path) as image:
            kind = image.format if what == "photo" else None
            width, height = image.size
            if isinstance(image, TiffImageFile):  # its size may be the upright one already
                width, height = image.tag_v2[256], image.tag_v2[257]
            whole = not isinstance(image, PngImageFile) or _metadata_behind(path)
            # Of a PNG, getexif decodes all pixels to see what is behind them; mostly nothing is.
            exif = image.getexif() if whole else Image.Image.getexif(image)
            turned = exif.get(0x0112, 1) in (5, 6, 7, 8)
    except Exception as error:  # Pillow raises many kinds on broken files
        raise UserError(_unreadable(path, error, what)) from None
    _say_pages(path, kind)
    return (width, height) if turned else (height, width)


def turned_hint(found: tuple[int, int], size: tuple[int, int]) -> str:
    """A sentence where a mask of the size ``found`` has height and width of its photo exchanged."""
    if found == size or found != size[::-1]:
        return ""
    return " If the photo has an EXIF orientation, this is its size when it is upright."


def _metadata_behind(path: Path) -> bool:
    """Whether a PNG has text or EXIF behind its first pixels, which may turn it."""
    with path.open("rb", buffering=0) as file:
        file.seek(len(PNG))
        behind = False
        while len(head := file.read(8)) == 8:
            if behind and head[4:] not in (b"IDAT", b"IEND"):
                return True
            behind = behind or head[4:] == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


def write_scores(path: Path, scores: np.ndarray) -> None:
    """Scores (h, w) as grey levels: 0 to 255 for 0 to 1."""
    grey = (scores.clip(0, 1) * 255).round().astype(np.uint8)
    Image.fromarray(grey).save(path, format="PNG")


def read_scores(path: Path) -> np.ndarray:
    """What :func:`write_scores` wrote: (h, w) float32 in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(image, np.float32) / 255


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file. Pillow gets no path: it would map a turned TIFF to memory in a wrong shape."""
    with path.open("rb") as file, Image.open(file) as image:
        yield image


def open_upright(path: Path, what: str) -> Image.Image:
    """An image file as it is, decoded and turned upright; ``what`` it is, for errors."""
    check_readable([path])
    try:
        with opened(path) as image:
            return _upright(image)
    except Exception as error:  # Pillow raises many kinds on broken files
        raise UserError(_unreadable(path, error, what)) from None


def _upright(image: Image.Image) -> Image.Image:
    """The image, decoded and turned as its EXIF says, without a second copy in memory."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _unreadable(path: Path, error: Exception, what: str = "photo") -> str:
    """What to do; ``what`` the file is. A photo may stand in a label table and in lists too."""
    lines = "its lines in the label table and in the lists of photos"
    if isinstance(error, FileNotFoundError):
        instead = f", or delete {lines}" if what == "photo" else ""
        return f"{path}: this {what} is missing. Put it back{instead}."
    kinds = "JPEG, PNG, BMP, TIFF, WebP or HEIC" if what == "photo" else "PNG"
    also = f" and {lines}" if what == "photo" else ""
    return (
        f"{path}: cannot read this {what} ({error}). Expected a whole {kinds} file. Replace the "
        f"file, or delete it{also}."
    )


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB: alpha over white, 16 bits by their first eight."""
    if image.mode.startswith("I"):
        return Image.fromarray(to_levels(np.asarray(image), FULL_16_BIT)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _say_once(kind: str, message: str) -> None:
    with _lock:
        new = kind not in _said
        _said.add(kind)
    if new:
        warnings.warn(f"{message} (said once for all photos like it).", stacklevel=4)
