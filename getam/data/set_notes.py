"""What ``data`` says of a data set that is no problem: masks, labels, classes, large photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized

from getam.data.class_names import counted
from getam.data.index import DataIndex
from getam.data.teaching import label_notes

LARGE = 4_000_000  # pixels of a photo that takes long to decode


def split_notes(
    index: DataIndex, used: Sequence[str], expected: Mapping[str, int], draws_masks: bool
) -> list[str]:
    """What the used splits lack, although a run can do without it.

    Args:
        used: as in :func:`getam.data.check.check`.
        expected: photos that a split has officially.
        draws_masks: a run draws the masks itself, so none is missing.
    """
    notes = []
    for name in used[:1]:
        notes += label_notes(name, index.split(name), index.classes)
    for name in used:
        records = index.split(name)
        if expected.get(name, len(records)) != len(records):
            notes.append(f"{name} has {len(records)} photos, officially {expected[name]}.")
        unlabelled = sum(record.labels is None for record in records)
        if unlabelled and name == used[0]:
            notes.append(
                f"{_share(unlabelled, records)} of {name} {'is' if unlabelled == 1 else 'are'} not "
                f"labelled: the classifier does not learn from such a photo, and its pseudo label "
                f"is a guess of the classifier."
            )
    notes += _unseen_notes(index, used[1:2])
    return notes if draws_masks else notes + _mask_notes(index, used[:2])


def _unseen_notes(index: DataIndex, used: Sequence[str]) -> list[str]:
    """Classes that the split to measure on does not show."""
    notes = []
    for name in used:
        shown = {label for record in index.split(name) for label in record.labels or ()}
        absent = [c for n, c in enumerate(index.classes, start=1) if n not in shown]
        if shown and absent:
            notes.append(
                f"{name} has no photo of {', '.join(absent)}, so nothing can be measured for "
                f"{'this class' if len(absent) == 1 else 'these classes'}."
            )
    return notes


def _mask_notes(index: DataIndex, used: Sequence[str]) -> list[str]:
    records = {name: index.split(name) for name in used}
    without = {name: sum(r.mask is None for r in some) for name, some in records.items()}
    if records and all(without[name] == len(some) for name, some in records.items()):
        drawn = sum(record.in_sample for name in used for record in index.split(name))
        if drawn:
            return [
                f"There are no masks/. The corrected masks of the sample "
                f"({counted(drawn, 'photo', 'photos')}) measure the final masks."
            ]
        return [
            "There are no masks, so no figure will measure the labels of pixels: the table of a "
            "run has only the row of the classifier."
        ]
    return [
        f"{_share(without[name], some)} of {name} {'has' if without[name] == 1 else 'have'} no "
        f"mask: only the others are measured."
        for name, some in records.items()
        if without[name]
    ]


def size_notes(sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """Photos so large that every stage takes long to decode them."""
    large = [i for i, (h, w) in sizes.items() if h * w > LARGE]
    if not large:
        return []
    return [
        f"{_share(len(large), sizes)} {'has' if len(large) == 1 else 'have'} more than "
        f"{LARGE // 1_000_000} megapixels, {large[0]!r} first. A photo of 12 megapixels takes "
        f"0.1 to 0.2 s of a core in every stage that reads it (and in every epoch of training), "
        f"and 2 s in pseudolabels. docs/own-data.md says how to shrink them (Large photos)."
    ]


def _share(count: int, of: Sized) -> str:
    """Such as ``1 of 12 photos``."""
    return f"{count} of {counted(len(of), 'photo', 'photos')}"
