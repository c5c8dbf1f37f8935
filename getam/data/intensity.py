"""Photos of more than 8 bits: 16-bit, 12 bits in 16, float, thermal.

Nothing in such a file says which values are black and white. One range is used for all photos of a
data set, so that what is brighter than something else stays so: ``data.intensity_range``, or the
range that is measured over them.
"""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

Range = tuple[float, float]

FULL_16_BIT: Range = (0.0, 65535.0)
FEW = 32  # grey levels; with fewer, a photo is a handful of flat areas
OUTSIDE = 0.001  # share of the values of a photo at each end that do not count: defects, hot pixels
ORIENTATION = 0x0112  # of EXIF
_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_deep(image: Image.Image) -> bool:
    """Whether an image, opened and not loaded, has more than 8 bits a channel."""
    raw = image.tile[0][3] if image.tile else ""
    raw = raw[0] if isinstance(raw, tuple) else raw
    return image.mode in ("I", "F") or image.mode.startswith("I;16") or ";16" in str(raw)


def is_deep_file(path: Path) -> bool:
    """The same by the first bytes of a file; False for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            start = file.read(25)
        if start[:4] in _TIFF:
            with Image.open(path) as image:
                return is_deep(image)
    except Exception:  # Pillow raises many kinds on broken files; reading it tells
        return False
    return start[:8] == _PNG and start[24:] == b"\x10"


def upright_values(image: Image.Image, path: str | PathLike[str]) -> np.ndarray:
    """The values of a deep image, opened from ``path``: (H, W), or (H, W, 3 or 4) RGB(A)."""
    turned = image.format == "TIFF"  # by Pillow and by OpenCV
    orientation = 1 if turned else image.getexif().get(ORIENTATION, 1)
    if len(image.getbands()) == 1:
        values = np.asarray(image)
    else:
        import cv2

        values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if values is None:
            raise ValueError("a damaged file")
        if values.ndim == 3:
            values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    return _upright(values, orientation)


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turned as EXIF says; 1 or nothing is upright."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def to_levels(values: np.ndarray, intensities: Range) -> np.ndarray:
    """Values to 0..255, so that the range fills them; what is outside is black or white.

    The alpha channel of (H, W, 4), which is no brightness, keeps its full range.

    >>> to_levels(np.array([[0, 1000, 3000, 9000]], np.uint16), (1000, 5000)).tolist()
    [[0, 0, 128, 255]]
    """
    low, high = intensities
    span = max(high - low, 1e-12)
    scaled = (np.nan_to_num(values.astype(np.float32), posinf=high, neginf=low) - low) / span
    if values.ndim == 3 and values.shape[2] == 4:
        scaled[..., 3] = values[..., 3] / FULL_16_BIT[1]
    return np.clip(scaled * 255, 0, 255).round().astype(np.uint8)


def measure(values: np.ndarray) -> Range:
    """Lowest and highest value of a photo, without a thousandth at each end and without NaN.

    >>> measure(np.array([[0, 10, 20, 20]]))
    (0.0, 20.0)
    """
    brightness = values[..., :3] if values.ndim == 3 else values
    known = brightness[np.isfinite(brightness)]
    if not known.size:
        return 0.0, 0.0
    skipped = int(known.size * OUTSIDE)
    ordered = np.partition(known, [skipped, known.size - 1 - skipped])
    return float(ordered[skipped]), float(ordered[known.size - 1 - skipped])


def widest(ranges: Iterable[Range]) -> Range:
    """From the lowest low to the highest high."""
    lows, highs = zip(*ranges)
    return min(lows), max(highs)


def loses_levels(own: Range, whole: Range) -> bool:
    """Whether a photo of values ``own`` has few grey levels left when ``whole`` becomes 0..255."""
    spread, span = own[1] - own[0], max(whole[1] - whole[0], 1e-12)
    return spread > 0 and spread / span * 255 < FEW - 1
