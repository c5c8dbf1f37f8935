"""Label images: indexed PNG with the VOC palette, so that any viewer shows the classes apart.

They are read back with ``getam.data.masks.read_mask``.
"""

from __future__ import annotations

from functools import cache
from os import PathLike

import numpy as np
from PIL import Image


@cache
def voc_palette() -> bytes:
    """The 256 colours of PASCAL VOC as 768 bytes, R G B of label 0 first.

    The bits of a label go to the three channels in turn, the lowest to the highest colour bits.

    >>> palette = voc_palette()
    >>> tuple(palette[:3]), tuple(palette[3:6]), tuple(palette[-3:])
    ((0, 0, 0), (128, 0, 0), (224, 224, 192))
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((labels >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours.tobytes()


def class_colour(value: int) -> tuple[int, int, int]:
    """The colour (R, G, B) of a label value in the VOC palette.

    >>> class_colour(1)
    (128, 0, 0)
    """
    red, green, blue = voc_palette()[3 * value : 3 * value + 3]
    return red, green, blue


def write_label_png(path: str | PathLike[str], labels: np.ndarray) -> None:
    """Write labels (H, W) uint8 as an indexed PNG with the VOC palette, whatever ``path`` ends in.

    Raises:
        ValueError: another shape or dtype; a silent cast would turn label 256 into background.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from getam.data.masks import read_mask
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_label_png(Path(folder) / "a.png", np.array([[0, 1], [2, 255]], np.uint8))
    ...     read_mask(Path(folder) / "a.png").tolist()
    [[0, 1], [2, 255]]
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(
            f"labels: got an array {labels.shape} of {labels.dtype}, expected (H, W) of uint8; "
            f"check that the values are 0 to 255 and convert with labels.astype('uint8')."
        )
    image = Image.fromarray(labels)
    image.putpalette(voc_palette())
    image.save(path, format="PNG")
