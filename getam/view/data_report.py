"""The result of the check of a data set, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from getam.view.table import text_table

LISTED = 20  # notes or problems that are shown; of the others only the number


def data_report(found: Mapping[str, Any], then: str) -> str:
    """The result of ``getam.data.check.check`` as text for people.

    Args:
        then: the command that comes next if there is no problem.
    """
    counts = ("images", "labelled", "background only", "masks", "saliency")
    shown = ("photos", "labelled", "background only", "masks", "saliency maps")
    splits = [
        [name, *(str(row[count]) for count in counts), "yes" if row["used"] else "no"]
        for name, row in found["splits"].items()
    ]
    used = [name for name, row in found["splits"].items() if row["used"]]
    classes = [
        [str(row["id"]), row["name"], *(str(row["images"][name]) for name in used)]
        for row in found["classes"]
    ]
    parts = [
        found["root"],
        text_table(["split", *shown, "used"], splits, left=(0, 6)),
        text_table(["id", "class", *(f"in {name}" for name in used)], classes, left=(1,)),
        "\n".join(_facts(found)),
    ]
    for title in ("notes", "problems"):
        if found[title]:
            lines = found[title][:LISTED]
            more = len(found[title]) - len(lines)
            lines = [f"- {line}" for line in lines] + ([f"- and {more} more"] if more else [])
            parts.append("\n".join([f"{title}:", *lines]))
    if not found["problems"]:
        parts.append(f"No problems. Next: {then}")
    return "\n\n".join(part for part in parts if part)


def _facts(found: Mapping[str, Any]) -> list[str]:
    facts = []
    if found["sizes"]:
        sizes = (f"{name} {w} x {h}" for name, (w, h) in found["sizes"].items())
        facts.append(f"photos (width x height): {', '.join(sizes)}")
    colours = found["masks"]["colours"]
    if colours:
        facts.append(f"masks: {', '.join(f'{n} {kind}' for kind, n in colours.items())}")
    if found["masks"]["values"]:
        facts.append(f"values in masks: {' '.join(map(str, found['masks']['values']))}")
    corrected = found["corrections"]
    if corrected["masks"]:
        facts.append(
            f"corrected masks: {corrected['masks']}; the networks learn from "
            f"{corrected['learnt from']}, and {corrected['sample']} are the sample that measures"
        )
    return facts
