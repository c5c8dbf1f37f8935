"""Masks and saliency maps in files, with errors that name the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from getam.data.images import open_upright, opened, to_rgb, turned_hint
from getam.data.label_values import IGNORE, MOST_CLASSES
from getam.data.palette import voc_palette
from getam.data.sampling import evenly
from getam.errors import UserError

OPAQUE = 255
MASK_MODES = ("P", "L")  # of Pillow: 8 bits, a palette or grey
LOOKED_AT = 8  # saliency maps whose values are read before a run


def read_saliency(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A saliency map as (H, W) float32 in [0, 1]; it must have ``size`` (H, W).

    Raises:
        UserError: a missing, truncated or unreadable file, one of another size, or one that is
            transparent anywhere.
    """
    image = open_upright(path, "saliency map")
    _refuse_transparent(path, image)
    array = np.asarray(image if image.mode == "L" else to_rgb(image).convert("L"))
    _check_size(path, array, size, "saliency map")
    return array.astype(np.float32) / 255


def read_mask(
    path: Path, size: tuple[int, int] | None = None, classes: int = MOST_CLASSES
) -> np.ndarray:
    """A mask as (H, W) uint8: 0 background, 1..``classes``, 255 ignore.

    Raises:
        UserError: an unreadable file, another ``size`` (H, W), colours instead of indices, or
            a value that is no class.
    """
    image = open_upright(path, "mask")
    check_mask_mode(path, image)
    mask = np.array(image)
    if image.mode == "P":
        _check_palette(path, mask, bytes(image.getpalette()), classes)
    if size is not None:
        _check_size(path, mask, size, "mask")
    wrong = mask[(mask > classes) & (mask != IGNORE)]
    if wrong.size:
        raise UserError(
            f"{path}: got the value {wrong[0]} in this mask, expected 0 (background), "
            f"1 to {classes} (class ids) or 255 (ignore)."
        )
    return mask


def _check_palette(path: Path, mask: np.ndarray, palette: bytes, classes: int) -> None:
    """A program may save a palette in another order: then the colours, not the values, are right.

    Raises:
        UserError: a value has the colour that another class has in VOC's palette.
    """
    if voc_palette().startswith(palette):
        return
    of = {voc_palette()[3 * value :][:3]: value for value in range(1, min(classes, 254) + 1)}
    for value in np.unique(mask).tolist():
        meant = of.get(palette[3 * value :][:3], value)
        if meant != value:
            raise UserError(
                f"{path}: got the value {value} in the colour that the value {meant} has in the "
                f"masks of this program, so its palette may be in another order. Save it with "
                f"VOC's palette in its order, or as grey values of 8 bits if the values are right."
            )


def check_mask_mode(path: Path, image: Image.Image) -> None:
    """Whether a mask has class ids as values; the header is enough.

    Raises:
        UserError: colours, or values of another width.
    """
    if image.mode not in MASK_MODES:
        remedy = "Save it as grey values of 8 bits, without transparency"
        if image.mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
            remedy = "Convert its colours to class ids first"
        raise UserError(
            f"{path}: got a mask in mode {image.mode}, expected a palette or grey PNG of 8 bits "
            f"whose values are class ids (0 background, 255 ignore). {remedy}."
        )


def check_saliency_header(path: Path) -> None:
    """A saliency map whose header speaks of transparency must be opaque all the same.

    Raises:
        UserError: it is not.
    """
    with opened(path) as image:
        may = image.has_transparency_data
    if may:
        _refuse_transparent(path, open_upright(path, "saliency map"))


def check_saliency_values(maps: Sequence[Path]) -> None:
    """Of some maps, at equal distances, one at least must have a value above 1 of 255.

    Raises:
        UserError: none has, or one cannot be read.
    """
    some = evenly(maps, LOOKED_AT)
    if some and all(_highest(path) <= 1 for path in some):
        raise UserError(
            f"{some[0]}: got no value above 1 in this saliency map, nor in {len(some) - 1} others; "
            f"expected grey levels from 0 to 255. If 1 is object in them, multiply them by 255."
        )


def _highest(path: Path) -> int:
    return max(high for _, high in to_rgb(open_upright(path, "saliency map")).getextrema())


def is_opaque(image: Image.Image) -> bool:
    """Whether no pixel is transparent, not even in part."""
    if not image.has_transparency_data:
        return True
    return image.convert("RGBA").getchannel("A").getextrema()[0] == OPAQUE


def _refuse_transparent(path: Path, image: Image.Image) -> None:
    """Over which ground would it be read? A cut-out has its object opaque, and its ground clear."""
    if not is_opaque(image):
        raise UserError(
            f"{path}: got a saliency map with transparent pixels, expected grey levels (255 "
            f"object, 0 background). If its opacity is the saliency, save that alone, as grey."
        )


def _check_size(path: Path, array: np.ndarray, size: tuple[int, int], what: str) -> None:
    if array.shape != tuple(size):
        raise UserError(
            f"{path}: got a {what} of {array.shape[1]} x {array.shape[0]}, expected "
            f"{size[1]} x {size[0]} as its photo has (width x height)."
            f"{turned_hint(array.shape, tuple(size))} Make it again at this size."
        )
