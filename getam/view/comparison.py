"""The table of the command compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from getam.metrics.controls import as_good
from getam.view.table import percent, text_table

MEASURES = ("insertion", "deletion", "pointing", "energy")
MARK = "*"


def comparison_table(report: Mapping[str, Any]) -> str:
    """One line per map method and control; the columns are the refiners and the measures.

    Below it are the figures that are no better than those of a control.

    Args:
        report: the content of ``comparison.json``.
    """
    refiners, maps = report["refiners"], report["maps"]
    measures = [measure for measure in MEASURES if measure in maps[0]["means"]]
    best = {
        (row["method"], row["refiner"]): f"{percent(row['mIoU'])} @ {row['best threshold']:.2f}"
        for row in report["rows"]
    }
    body = [
        [
            row["map"],
            *(best.get((row["map"], refiner), "-") for refiner in refiners),
            *(_cell(row, measure) for measure in measures),
        ]
        for row in maps
    ]
    table = text_table(["method", *refiners, *measures], body)
    return "\n".join([*_title(report, measures), table, *_notes(maps)]) + "\n"


def _title(report: Mapping[str, Any], measures: Sequence[str]) -> Iterator[str]:
    images = f"split {report['split']}, {report['images']} images"
    if report["rows"]:
        yield f"mIoU @ best threshold, {images}"
    else:
        yield f"No mIoU, pointing or energy: no photo has a mask; {images}"
    if "insertion" in measures:
        yield (
            f"insertion (high is good), deletion (low is good): {report['curve images']} images, "
            f"{report['curve steps']} steps"
        )
    if "pointing" in measures:
        yield "pointing, energy (high is good): share of peaks, and of the sum, inside the mask"


def _cell(row: Mapping[str, Any], measure: str) -> str:
    """The figure in percent, with a mark if a control is as good."""
    return percent(row["means"][measure]) + (MARK if as_good(row, measure) else " ")


def _notes(maps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    marked = [line for row in maps if (line := _sentence(row))]
    if marked:
        yield (
            f"{MARK} No better than a control: the 95 % interval of the difference, photo by photo "
            f"(bootstrap), reaches 0 or less."
        )
        yield from marked
    elif not any(row["against"] for row in maps):
        yield "One photo gives no interval, so no method is marked."


def _sentence(row: Mapping[str, Any]) -> str:
    """
    >>> interval = {"random map": [0.2, 0.1, 0.3], "centre prior": [0.1, -0.1, 0.3]}
    >>> row = {"map": "cam", "against": {"energy": interval, "deletion": interval}}
    >>> _sentence(row)
    '  cam: no better than the centre prior in deletion, energy'
    """
    parts = {}
    for measure in MEASURES:
        if controls := as_good(row, measure):
            parts.setdefault(" and the ".join(controls), []).append(measure)
    told = [f"the {controls} in {', '.join(found)}" for controls, found in parts.items()]
    return f"  {row['map']}: no better than {'; than '.join(told)}" if told else ""
