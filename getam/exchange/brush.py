"""Label Studio's run lengths of brush masks: the format of thi.ng's rle-pack.

A mask (H, W) stands there as the bytes of an image (H, W, 4), RGBA, as runs in a stream of bits:

32 bits     number of bytes
5 bits      bits of a value, less 1 (8 bits here)
4 x 4 bits  four sizes, less 1: of the bits that lengths are written with
then blocks, each of: 1 bit, whether it is a run; 2 bits, which size; the length less 1; and the
            value once (a run), or as many values as the length says
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIZES = (3, 4, 8, 16)
_LONGEST = 1 << SIZES[-1]
_CHANNELS, _ALPHA, _VALUE = 4, 3, 8
_HEADER = 32 + 5 + 4 * len(SIZES)
_OPAQUE = 128  # of 255: what Label Studio shows of a pixel at the edge of a stroke


def encode(chosen: np.ndarray) -> list[int]:
    """A mask (H, W) bool as the bytes of its runs, all four channels 0 or 255.

    >>> decode(encode(np.array([[True, False], [True, True]])), (2, 2)).tolist()
    [[True, False], [True, True]]
    """
    flat = np.ascontiguousarray(chosen, bool).ravel()
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
    lengths = np.diff(np.r_[starts, flat.size]) * _CHANNELS
    values = np.where(flat[starts], 255, 0)
    pieces = -(-lengths // _LONGEST)  # a run that is too long is several
    values = values.repeat(pieces)
    last = np.cumsum(pieces) - 1
    counts = np.full(pieces.sum(), _LONGEST)
    counts[last] = lengths - (pieces - 1) * _LONGEST
    size = np.searchsorted(1 << np.array(SIZES), counts)
    bits = np.array(SIZES)[size]
    codes = ((4 + size) << bits | (counts - 1)) << _VALUE | values  # 4: the bit of a run
    header = [(flat.size * _CHANNELS, 32), (_VALUE - 1, 5), *((s - 1, 4) for s in SIZES)]
    first, widths = zip(*header)
    stream = _bits(np.r_[first, codes], np.r_[widths, 3 + bits + _VALUE])
    return np.packbits(stream).tolist()


def _bits(codes: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Numbers as one row of bits, each of its own width, the highest bit first."""
    ends = np.cumsum(widths)
    shifts = ends.repeat(widths) - 1 - np.arange(ends[-1])
    return (codes.astype(np.int64).repeat(widths) >> shifts & 1).astype(np.uint8)


def decode(rle: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Runs as a mask (H, W) bool: where the alpha channel is at least half opaque.

    Raises:
        ValueError: bytes that are no runs, or those of another size.
    """
    stream = np.unpackbits(np.array(rle, np.uint8))
    text = (stream + ord("0")).tobytes()  # of "0" and "1": int(text, 2) is quick
    if len(text) < _HEADER:
        raise ValueError(f"{len(rle)} bytes of runs, which is too few")
    number, width = int(text[:32], 2), int(text[32:37], 2) + 1
    if number != size[0] * size[1] * _CHANNELS or width != _VALUE:
        raise ValueError(
            f"runs of {number} values of {width} bits for {size[1]} x {size[0]} pixels"
        )
    sizes = [int(text[at : at + 4], 2) + 1 for at in range(37, _HEADER, 4)]
    try:
        out = _blocks(text, stream, sizes, number)
    except IndexError:
        raise ValueError(f"runs that end before {number} values") from None
    return out.reshape(*size, _CHANNELS)[..., _ALPHA] >= _OPAQUE


def _blocks(text: bytes, stream: np.ndarray, sizes: Sequence[int], number: int) -> np.ndarray:
    """The values of the blocks behind the header."""
    out, done, at = np.zeros(number, np.uint8), 0, _HEADER
    while done < number:
        bits = sizes[int(text[at + 1 : at + 3], 2)]
        count = int(text[at + 3 : at + 3 + bits], 2) + 1
        is_run, at = text[at] == ord("1"), at + 3 + bits
        values = np.packbits(stream[at : at + _VALUE * (1 if is_run else count)])
        out[done : done + count] = values
        done, at = done + count, at + _VALUE * len(values)
    return out
