"""Tables in plain text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

FEWEST, RELIABLE = 5, 50  # photos of a sample for an interval, and for one to trust


def text_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)
) -> str:
    """A table as text. The columns in ``left`` are left-aligned, the others right-aligned.

    >>> print(text_table(["", "mIoU"], [["seeds", "50.1"]]))
           mIoU
    seeds  50.1
    """
    columns = list(zip(header, *rows))
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in [header, *rows]:
        cells = zip(row, widths)
        aligned = [c.ljust(w) if n in left else c.rjust(w) for n, (c, w) in enumerate(cells)]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def percent(value: float | None) -> str:
    """A share as percent with one decimal.

    >>> percent(0.5012), percent(None)
    ('50.1', '-')
    """
    return "-" if value is None or value != value else f"{100 * value:.1f}"


def evaluation_table(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[str], notes: Sequence[str] = ()
) -> str:
    """The table of an evaluation: one line per measured output, one column per class.

    Below it are the ``notes`` about the masks.
    """
    names = ["background", *classes]
    header = ["", "split", "images", "measure", "value", *names, "further"]
    body = [
        [
            row["what"],
            row["split"],
            str(row["images"]),
            row["measure"],
            percent(row["value"]),
            *(percent(row["per class"].get(name)) for name in names),
            _further(row),
        ]
        for row in rows
    ]
    table = text_table(header, body, left=(0, len(header) - 1))
    return "\n".join([table, *(f"note: {note}" for note in notes)]) + "\n"


def _further(row: Mapping[str, Any]) -> str:
    parts = []
    if row.get("no class in masks"):
        parts.append("not measured: the masks show no class")
    if "F1 micro" in row:
        parts.append(f"F1 {row['F1 micro']:.3f} micro, {row['F1 macro']:.3f} macro")
    if "best threshold" in row:
        parts.append(f"best threshold {row['best threshold']:g}")
    if "ignored" in row:
        parts.append(f"{percent(row['ignored'])} % ignored")
        parts.append(f"{percent(row['foreground recall'])} % of the foreground found")
    if "drawn" in row and row["value"] is not None:
        parts += _sampled(row)
    if "trained on" in row:
        parts.append(f"trained on {row['trained on']}")
    return ", ".join(parts)


def _sampled(row: Mapping[str, Any]) -> list[str]:
    """What a random sample of photos tells about all photos.

    >>> row = {"value": 0.713, "interval": [0.66, 0.759], "images": 50, "drawn": 50}
    >>> row["kind"] = "final mask"
    >>> _sampled(row)
    ['71.3 [66.0, 75.9] (95 % by bootstrap, 50 photos drawn at random)']
    >>> print(*_sampled({**row, "images": 12, "learnt": True})[1:], sep="\\n")
    fewer than 50 photos: do not trust this interval
    without a final mask: 38 of the sample
    the network learnt from these masks
    >>> _sampled({**row, "images": 2, "drawn": 2})
    ['too few photos for an interval: 2']
    """
    if "interval" in row and row["images"] >= FEWEST:
        low, high = map(percent, row["interval"])
        told = [
            f"{percent(row['value'])} [{low}, {high}] (95 % by bootstrap, {row['images']} photos "
            f"drawn at random)"
        ]
        if row["images"] < RELIABLE:
            told.append(f"fewer than {RELIABLE} photos: do not trust this interval")
    else:
        told = [f"too few photos for an interval: {row['images']}"]
    if row["images"] < row["drawn"]:
        told.append(f"without a {row['kind']}: {row['drawn'] - row['images']} of the sample")
    return told + (["the network learnt from these masks"] if row.get("learnt") else [])
