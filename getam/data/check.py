"""Checking a data set before hours are spent on it: counts, pairs, sizes, values, coverage."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from getam.cache import in_threads
from getam.data.broken_off import may_break_off
from getam.data.class_names import as_yaml, counted, name_notes
from getam.data.deep_photos import in_its_range
from getam.data.heic import check_readable, is_heic
from getam.data.images import image_size, read_photo, turned_hint
from getam.data.index import DataIndex, Record
from getam.data.mask_labels import MaskLabels, values_of
from getam.data.masks import (
    check_mask_mode,
    check_saliency_header,
    check_saliency_values,
    read_saliency,
)
from getam.data.palette import voc_palette
from getam.data.set_notes import size_notes, split_notes
from getam.data.teaching import label_problems, unlabelled
from getam.errors import UserError, collected


class Seen(NamedTuple):
    """What was found of one image: (H, W), colours of its mask, mask values, and what is wrong.

    ``corrected`` are the values of its corrected mask.
    """

    size: tuple[int, int] | None
    colours: str | None
    values: frozenset[int]
    problems: tuple[str, ...]
    corrected: frozenset[int] = frozenset()


def check(
    index: DataIndex,
    used: Sequence[str],
    *,
    deep: bool = False,
    needs_saliency: bool = False,
    expected: Mapping[str, int] | None = None,
    problems: Sequence[str] = (),
    draws_masks: bool = False,
) -> dict[str, Any]:
    """What a data set has and what is wrong with it, as JSON values.

    Reads the headers of the photos, masks and saliency maps of the splits ``used`` (0.35 ms a file
    on one core of a busy machine), with ``deep`` all their pixels. Photos that seem to break off
    are decoded always.

    Args:
        used: the splits to learn from, to measure on, and to predict, in this order.
        needs_saliency: a missing saliency map of the first split is a problem.
        expected: photos that a split has officially.
        problems: what reading the data set has found already.
        draws_masks: a run draws the masks itself, of outlines as those of COCO.

    Returns:
        ``splits``, ``classes``, ``sizes``, ``masks``, ``corrections``, ``problems`` (what will fail
        or mislead) and ``notes`` (what is worth knowing), each with its remedy.
    """
    problems = [*problems, *_missing_splits(index, used)]
    used = [name for name in used if index.splits.get(name)]
    unreadable = _unreadable(record for name in used for record in index.split(name))
    index, told = in_its_range(index, used[:2], deep)
    records = {record.id: record for name in used for record in index.split(name)}
    looked = [r for r in records.values() if not (unreadable and is_heic(r.image))]
    seen = in_threads(lambda record: _look(index, record, deep), looked)
    against = _against_masks(index, used, dict(zip((r.id for r in looked), seen))) if deep else []
    problems += [*unreadable, *_overlap(index, used[:2])]
    problems += [problem for one in seen for problem in one.problems]
    problems += [sentence for sentence, systematic in against if systematic]
    problems += [p for p in _faint_maps(index, used[:1]) if p not in problems]
    problems += _coverage(index, used[:1], needs_saliency)
    problems += _labels(index, used)
    notes = [*index.notes, *name_notes(index.classes)]
    notes += split_notes(index, used, expected or {}, draws_masks)
    notes += size_notes({r.id: one.size for r, one in zip(looked, seen) if one.size})
    notes += [*told, *(sentence for sentence, systematic in against if not systematic)]
    return {
        "root": str(index.root),
        "splits": {name: _split_row(index.splits[name], name in used) for name in index.splits},
        "classes": _class_rows(index, used),
        "sizes": _sizes([one.size for one in seen if one.size]),
        "masks": {
            "colours": dict(Counter(one.colours for one in seen if one.colours)),
            "values": sorted(set().union(*(one.values for one in seen))) if deep else None,
        },
        "corrections": _corrections(index, used),
        "problems": problems,
        "notes": notes,
    }


def _missing_splits(index: DataIndex, used: Sequence[str]) -> list[str]:
    return [problem for name in used if (problem := _missing_split(index, name))]


def _missing_split(index: DataIndex, name: str) -> str | None:
    try:
        index.split(name)
    except UserError as error:
        return str(error)
    return None


def _unreadable(records: Iterable[Record]) -> list[str]:
    try:
        check_readable(record.image for record in records)
    except UserError as error:
        return [str(error)]
    return []


def _against_masks(
    index: DataIndex, used: Sequence[str], seen: Mapping[str, Seen]
) -> list[tuple[str, bool]]:
    """Of each split what its masks, and the corrected ones, contradict; whether systematically."""
    told = []
    for name in used:
        masks, corrections = MaskLabels(), MaskLabels()
        for record in index.split(name):
            one = seen.get(record.id)
            if one and one.values:
                masks.add(record, one.values)
            if one and one.corrected:
                corrections.add(record, one.corrected)
        for found, what in ((masks, name), (corrections, f"{name}, corrected masks")):
            sentence = found.sentence(what, index.classes)
            if sentence:
                told.append((sentence, found.is_systematic(index.classes)))
    return told


def _overlap(index: DataIndex, used: Sequence[str]) -> list[str]:
    if len(used) < 2 or used[0] == used[1]:
        return []
    first, second = ({record.id for record in index.split(name)} for name in used)
    both = sorted(first & second)
    if not both:
        return []
    return [
        f"{counted(len(both), 'photo is', 'photos are')} in {used[0]} and in {used[1]}, "
        f"{both[0]!r} first: what is learnt from cannot be measured on. Take them out of one list."
    ]


def _labels(index: DataIndex, used: Sequence[str]) -> list[str]:
    """What the labels of the first split cannot teach; whether the second has any."""
    told = [unlabelled(name, index.split(name)) for name in used[:2]]
    problems = [problem for problem in told if problem]
    for name in used[:1]:
        problems += label_problems(name, index.split(name), index.classes)
    return problems


def _faint_maps(index: DataIndex, used: Sequence[str]) -> list[str]:
    """Whether the saliency maps seem to have 1 for 255."""
    problems: list[str] = []
    for name in used:
        with collected(problems):
            check_saliency_values([r.saliency for r in index.split(name) if r.saliency])
    return problems


def _coverage(index: DataIndex, used: Sequence[str], needs_saliency: bool) -> list[str]:
    problems = []
    for name in used:
        records = index.split(name)
        counts = Counter(label for record in records for label in record.labels or ())
        absent = [c for n, c in enumerate(index.classes, start=1) if not counts[n]]
        if absent:
            kept = [c for c in index.classes if c not in absent]
            which = "this class" if len(absent) == 1 else "these classes"
            out = f", or leave {which} out: --set data.classes={shlex.quote(as_yaml(kept))}"
            problems.append(
                f"{name} has no photo of {', '.join(absent)}, so no network can learn "
                f"{'it' if len(absent) == 1 else 'them'}. Add photos{out if kept else '.'}"
            )
        missing = [record.id for record in records if record.saliency is None]
        if needs_saliency and missing:
            problems.append(
                f"{name} has no saliency map for {len(missing)} of {len(records)} photos, "
                f"{missing[0]!r} first. Put ID.png for each into the folder data.saliency (made "
                f"by any saliency model), or set pseudolabels.saliency to onnx, features or none."
            )
    return problems


def _split_row(records: Sequence[Record], used: bool) -> dict[str, Any]:
    return {
        "used": used,
        "images": len(records),
        "labelled": sum(record.labels is not None for record in records),
        "background only": sum(record.labels == () for record in records),
        "masks": sum(record.mask is not None for record in records),
        "saliency": sum(record.saliency is not None for record in records),
    }


def _corrections(index: DataIndex, used: Sequence[str]) -> dict[str, int]:
    """Corrected masks: how many, how many only measure, and how many are learnt from."""
    records = {r.id: r for name in used for r in index.split(name) if r.correction is not None}
    learnt = {r.id for name in used[:1] for r in index.split(name) if not r.in_sample}
    return {
        "masks": len(records),
        "sample": sum(record.in_sample for record in records.values()),
        "learnt from": len(learnt & records.keys()),
    }


def _class_rows(index: DataIndex, used: Sequence[str]) -> list[dict[str, Any]]:
    counts = {
        name: Counter(label for record in index.split(name) for label in record.labels or ())
        for name in used
    }
    return [
        {"id": number, "name": name, "images": {split: counts[split][number] for split in used}}
        for number, name in enumerate(index.classes, start=1)
    ]


def _sizes(sizes: Sequence[tuple[int, int]]) -> dict[str, list[int]] | None:
    """(width, height) of the smallest, the median and the largest image by area."""
    if not sizes:
        return None
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    chosen = {"smallest": 0, "median": len(ordered) // 2, "largest": -1}
    return {name: [ordered[n][1], ordered[n][0]] for name, n in chosen.items()}


def _look(index: DataIndex, record: Record, deep: bool) -> Seen:
    problems: list[str] = []
    size, colours, values, corrected = None, None, frozenset(), frozenset()
    try:
        decoded = deep or may_break_off(record.image)
        size = read_photo(record).shape[:2] if decoded else image_size(record.image)
    except UserError as error:
        return Seen(None, None, values, (str(error),))
    try:
        if record.saliency is not None:
            if deep:
                read_saliency(record.saliency, size)
            else:
                _same_size(record.saliency, size, "saliency map")
                check_saliency_header(record.saliency)
    except UserError as error:
        problems.append(str(error))
    try:
        if record.mask is not None:
            colours = _mask_colours(record.mask, size)
            values = frozenset(values_of(index.read_mask(record, size))) if deep else values
    except UserError as error:
        problems.append(str(error))
    try:
        if record.correction is not None:
            found = values_of(index.read_correction(record, size))
            corrected = frozenset(found) if deep else corrected
    except UserError as error:
        problems.append(str(error))
    return Seen(size, colours, values, tuple(problems), corrected)


def _same_size(path: Path, size: tuple[int, int], what: str) -> None:
    found = image_size(path, what)
    if found != size:
        raise UserError(
            f"{path}: got {found[1]} x {found[0]}, expected {size[1]} x {size[0]} as its photo "
            f"has (width x height).{turned_hint(found, size)} Make it again at this size."
        )


def _mask_colours(path: Path, size: tuple[int, int]) -> str:
    """How a mask shows its class ids, from its header: VOC palette, other palette or grey."""
    _same_size(path, size, "mask")
    with Image.open(path) as image:
        check_mask_mode(path, image)
        if image.mode == "L":
            return "grey"
        colours = image.palette.palette
        return "VOC palette" if voc_palette().startswith(colours) else "other palette"
