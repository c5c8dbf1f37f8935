"""Reads the masks of a PASCAL VOC folder (see ``getam.exchange.voc_masks``).

A mask in colours has the colours of labelmap.txt. A grey one has them too, if they are greys; else
its values are the numbers of the lines, of which background has the number 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from getam.data.files import IMAGES
from getam.data.images import opened
from getam.data.label_values import BACKGROUND, IGNORE
from getam.data.masks import is_opaque
from getam.data.palette import class_colour
from getam.data.photo_lists import read_lines
from getam.data.unread import SYSTEM
from getam.errors import UserError
from getam.exchange.archive import is_note
from getam.exchange.drawn import Drawn, Names, Reading, files_in
from getam.exchange.voc_masks import CLASSES, LABEL_MAP, LISTS

BLACK = (0, 0, 0)
GREY = 1 << 16 | 1 << 8 | 1  # the code of a colour is R << 16 | G << 8 | B

Lines = Sequence[tuple[str, tuple[int, ...]]]  # name and colour of each line of labelmap.txt


def read_voc_drawn(place: Path, reading: Reading) -> Iterator[Drawn]:
    """The photos of a VOC folder. One that is in a list and has no mask is not annotated.

    Raises:
        UserError: a folder or file that is not as VOC's, or a colour that labelmap.txt has not.
    """
    root = _root(place)
    lines = _read_label_map(root / LABEL_MAP, reading.names)
    folder = root / CLASSES
    masks = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in files_in(folder, ".png")
    }
    others = (file for file in files_in(folder) if file not in masks.values())
    reading.unread += [file for file in others if file.name.lower() not in SYSTEM]
    lists = sorted((root / LISTS).glob("*.txt"))
    listed = [_listed(line) for file in lists for _, line in read_lines(file)]
    for name in filter(reading.wanted, dict.fromkeys((*masks, *listed))):
        labels = _read_mask(masks[name], lines, reading) if name in masks else None
        yield Drawn(name, labels, masks.get(name, root))


def _listed(line: str) -> str:
    """The name of a photo in a list, as masks have it: without the folder of photos and ending."""
    name = line.replace("\\", "/").strip("/").removeprefix("JPEGImages/")
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in IMAGES else name


def _root(place: Path) -> Path:
    """The folder that has the masks: this one, or one below it."""
    if place.is_file():
        raise UserError(
            f"{place}: got a file, expected the archive (.zip) that the tool wrote, or the folder "
            f"with {CLASSES}/ and {LABEL_MAP}."
        )
    found = [place] if (place / CLASSES).is_dir() else sorted(place.rglob(CLASSES))
    found = [path for path in found if not is_note(path.relative_to(place).parts)]
    if len(found) != 1:
        raise UserError(
            f"{place}: got {len(found)} folders {CLASSES}/ in it, expected one. In CVAT, export "
            f"in the format 'Segmentation mask 1.1'."
        )
    return found[0] if found[0] == place else found[0].parent


def _read_label_map(file: Path, names: Names) -> Lines:
    """The lines of labelmap.txt; one without a colour has that of its number in VOC's palette.

    Raises:
        UserError: there is no such file, or a line is not as it should be.
    """
    if not file.is_file():
        raise UserError(
            f"{file}: this file is missing. It says which class has which colour; export from the "
            f"tool again, or put it back."
        )
    found: list[tuple[str, tuple[int, ...]]] = []
    by_number = False
    for number, line in read_lines(file):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        colour = rest.partition(":")[0]
        by_number = by_number or not colour
        numbers = (colour or ",".join(map(str, class_colour(len(found))))).split(",")
        if len(numbers) != 3 or not all(n.strip().isdecimal() and int(n) < 256 for n in numbers):
            raise UserError(f"{file}, line {number}: got {line!r}, expected name:R,G,B::")
        found.append((name, tuple(map(int, numbers))))
    black = [name for name, colour in found if colour == BLACK]
    if by_number or any(names.find(name) != BACKGROUND for name in black):
        _check_first(file, found, names)
    return found


def _check_first(file: Path, lines: Lines, names: Names) -> None:
    """The first line, number 0, must be background.

    Raises:
        UserError: it is a class, so that the numbers of all lines would mean the class before.
    """
    if lines and names.find(lines[0][0]) != BACKGROUND:
        raise UserError(
            f"{file}: got {lines[0][0]!r} in the first line, expected background, which has the "
            f"number 0 and is black. Put the line background:0,0,0:: above it, or give --rename "
            f"if another name means background."
        )


def _read_mask(file: Path, lines: Lines, reading: Reading) -> np.ndarray:
    """A mask file in the values of the data set."""
    try:
        with opened(file) as image:
            opaque, grey = is_opaque(image), image.mode in ("L", "LA")
            pixels = np.array(image.convert("L" if grey else "RGB"))
    except Exception as error:  # Pillow raises many kinds on broken files
        raise UserError(
            f"{file}: cannot read this mask ({error}). Export it from the tool again."
        ) from None
    if not opaque:
        raise UserError(
            f"{file}: got a mask with transparent pixels, expected a colour of {LABEL_MAP} for "
            f"each pixel. Paint black where you erased, and save it without transparency."
        )
    by_number = grey and _has_numbers(file, np.unique(pixels), lines, reading.names)
    if by_number:
        keys = range(len(lines))
        codes = pixels
    else:
        _check_colours(file, lines)
        keys = [r << 16 | g << 8 | b for _, (r, g, b) in lines]
        codes = pixels.astype(np.int32) * GREY if grey else pixels @ np.int32((1 << 16, 1 << 8, 1))
    found, inverse = np.unique(codes, return_inverse=True)
    named = {key: name for key, (name, _) in zip(keys, lines)}
    values = [_value(file, named, int(code), by_number, reading) for code in found]
    return np.array(values, np.uint8)[inverse.reshape(codes.shape)]


def _has_numbers(file: Path, found: np.ndarray, lines: Lines, names: Names) -> bool:
    """Whether the values of a grey mask are numbers of lines, and not greys that are declared.

    Raises:
        UserError: they are neither.
    """
    values = {*found.tolist()} - {BACKGROUND}
    if values <= {r for _, (r, g, b) in lines if r == g == b}:
        return False
    if values == {IGNORE}:
        raise UserError(
            f"{file}: got only the grey values 0 and 255, and {LABEL_MAP} declares no white. Give "
            f"the class that white is in this mask the colour 255,255,255 there; for ignored "
            f"pixels add the line ignored:255,255,255::"
        )
    _check_first(file.parents[1] / LABEL_MAP, lines, names)
    return True


def _check_colours(file: Path, lines: Lines) -> None:
    """Each colour means one class.

    Raises:
        UserError: two names of the label map have one colour.
    """
    of: dict[tuple[int, ...], str] = {}
    for name, colour in lines:
        if of.setdefault(colour, name) != name:
            raise UserError(
                f"{file}: {LABEL_MAP} gives {of[colour]!r} and {name!r} the same colour "
                f"{','.join(map(str, colour))}, expected one for each. Give one of them another "
                f"colour, and draw its pixels in it."
            )


def _value(file: Path, names: dict[int, str], code: int, by_number: bool, reading: Reading) -> int:
    if code in names:
        return reading.names.value(names[code])
    if code == BACKGROUND or (by_number and code == IGNORE):
        return code
    colour = f"{code >> 16},{code >> 8 & 255},{code & 255}"
    raise UserError(
        f"{file}: got a pixel of the {f'grey value {code}' if by_number else f'colour {colour}'}, "
        f"which {LABEL_MAP} does not declare. If a program smoothed the edges, save the mask "
        f"without smoothing; else add the class to {LABEL_MAP}."
    )
