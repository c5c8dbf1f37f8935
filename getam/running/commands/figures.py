"""What artifacts say about single classes and images: the tables of ``inspect``."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from getam.data.class_names import counted
from getam.data.images import read_scores
from getam.data.index import Record
from getam.data.label_values import IGNORE
from getam.data.masks import read_mask
from getam.maps.file import MapFile
from getam.metrics.segmentation import ConfusionMatrix
from getam.running.commands.current import CurrentRun, Track
from getam.view.overlay import enlarge
from getam.view.table import percent, text_table

LISTED = 8  # images named in a line
FLAT = 0.5  # a map is flat if nine tenths of it are above this share of its peak
WEAK = 0.01  # ... and weak if its peak is below this share of its class's median peak
THREADS = 8
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
WHOLE = 0.9  # a foreground of more than this share of its image looks wrong


def seed_threshold(run: CurrentRun) -> float:
    """The best threshold of the evaluation where there is one, else 0.5."""
    for row in metric_rows(run):
        if "best threshold" in row:
            return row["best threshold"]
    return 0.5


def metric_rows(run: CurrentRun) -> list[dict]:
    """The rows of ``metrics.json``; empty where there is no evaluation."""
    if not run.has("evaluation"):
        return []
    return json.loads((run.folder("evaluation") / "metrics.json").read_text())


def map_table(
    maps: MapFile,
    chosen: int | None,
    known: Sequence[tuple[float, float]] | None = None,
    records: Sequence[Record] = (),
) -> str:
    """Images, strongest and weakest map of each class, and the maps that look wrong.

    A map looks wrong if it is empty, weak or flat although the image is said to have the class.
    ``known`` are for each class the average precision of the classifier, and that of chance.
    Those of the ``records`` that show no class need no map.
    """
    rows = _map_rows(maps)
    kept = [row for row in rows if chosen in (None, row["class"])]
    body = []
    for class_id, name in enumerate(maps.classes, start=1):
        own = sorted((r for r in kept if r["class"] == class_id), key=lambda r: -r["peak"])
        if own:
            wrong = sum(bool(row["wrong"]) for row in own)
            row = [name, str(len(own)), _named(own[0]), _named(own[-1]), str(wrong)]
            body.append(row + [percent(value) for value in known[class_id - 1]] if known else row)
    header = ["class", "images", "strongest (peak)", "weakest (peak)", "suspicious"]
    header += ["AP %", "chance %"] if known else []
    grid = "x".join(str(n) for n in maps.file.attrs["grid"])
    lines = [
        f"{counted(len(maps.image_ids), 'image', 'images')}, "
        f"{counted(len(rows), 'map', 'maps')} on a {grid} grid, "
        f"method {maps.file.attrs['method']}",
        text_table(header, body, left=(0, 2, 3)),
    ]
    for kind in ("empty", "weak", "flat"):
        wrong = [row for row in kept if row["wrong"] == kind]
        named = [f"{row['image']} ({maps.classes[row['class'] - 1]})" for row in wrong]
        lines += _listed(f"{kind} maps although the class is labelled", named)
    empty = _of_no_class(records)
    without = sorted(set(maps.image_ids) - {row["image"] for row in rows} - empty)
    return "\n".join(lines + _listed("images without any map", without) + _told(empty, chosen))


def _map_rows(maps: MapFile) -> list[dict]:
    rows = []
    for image_id in maps.image_ids:
        for class_id, image_map, peak in zip(*maps.read(image_id)):
            row = {"image": image_id, "class": int(class_id), "peak": float(peak)}
            rows.append({**row, "low": float(np.quantile(image_map, 0.1))})
    peaks: dict[int, list[float]] = {}
    for row in rows:
        peaks.setdefault(row["class"], []).append(row["peak"])
    usual = {class_id: float(np.median(found)) for class_id, found in peaks.items()}
    for row in rows:
        row["wrong"] = _wrong(row, usual[row["class"]])
    return rows


def _wrong(row: dict, usual: float) -> str:
    if row["peak"] <= 0:
        return "empty"
    if row["peak"] < WEAK * usual:
        return "weak"
    return "flat" if row["low"] > FLAT else ""


def _named(row: dict) -> str:
    return f"{row['image']} ({row['peak']:.2g})"


def label_table(
    run: CurrentRun, records: Sequence[Record], folder: Path, chosen: int | None, track: Track
) -> str:
    """Images, area and IoU of each class in label images, and those to look at first."""
    classes, empty = run.data.classes, _of_no_class(records)
    measured, total = [], ConfusionMatrix(len(classes) + 1)
    for one, confusion in measure(run, records, folder, track):
        measured.append(one)
        total += confusion
    iou = total.iou() if total.has_classes else np.full(len(classes) + 1, np.nan)

    body = []
    for class_id in [chosen] if chosen else range(len(classes) + 1):
        name = classes[class_id - 1] if class_id else "background"
        shares = [one.areas[class_id] for one in measured if one.areas[class_id] > 0]
        missing = [m.record.id for m in measured if class_id in m.missing]
        wrong = [m for m in measured if class_id in m.wrong]
        area = percent(float(np.median(shares))) if shares else "-"
        row = [name, str(len(shares)), area, str(len(missing)) if class_id else "-"]
        body.append([*row, str(len(wrong)) if class_id else "-", percent(iou[class_id])])
    header = ["class", "shown in", "median area %", "labelled but absent", "seen, not labelled"]
    header += ["IoU %"]
    lines = [counted(len(records), "image", "images"), text_table(header, body)]
    if any(one.areas[IGNORE] for one in measured):
        ignored = float(np.mean([one.areas[IGNORE] for one in measured]))
        lines.append(f"ignored: {percent(ignored)} % of all pixels")
    kept = [m for m in measured if chosen is None or m.areas[chosen] > 0 or chosen in m.missing]
    lines += _listed(
        "background only",
        [m.record.id for m in kept if not m.has_class and m.record.id not in empty],
    )
    absent = [m.record.id for m in kept if m.missing and (chosen is None or chosen in m.missing)]
    lines += _listed("a labelled class is absent", absent)
    wrong = [
        f"{m.record.id} ({', '.join(classes[c - 1] for c in sorted(m.wrong))})"
        for m in kept
        if m.wrong and (chosen is None or chosen in m.wrong)
    ]
    lines += _listed("a class is seen that is not labelled", wrong)
    scored = sorted((m for m in kept if m.score is not None), key=lambda m: m.score)
    lines += _listed("lowest mIoU", [f"{m.record.id} ({percent(m.score)})" for m in scored])
    return "\n".join(lines + _told(empty, chosen))


def _of_no_class(records: Sequence[Record]) -> set[str]:
    """Photos that are said to show none of the classes: their labels are rightly background."""
    return {record.id for record in records if record.labels == ()}


def _told(empty: Collection[str], chosen: int | None) -> list[str]:
    return [f"photos labelled with no class: {len(empty)}"] if empty and chosen is None else []


@dataclass(frozen=True)
class Measured:
    """One label image: area share of each value, and what there is to say about it.

    ``missing`` are labelled classes without a pixel, ``wrong`` classes with a pixel that a labelled
    photo is not labelled with, ``score`` is the mIoU of this image alone
    over the classes in it or its mask, None without a mask.
    """

    record: Record
    areas: np.ndarray
    missing: frozenset[int]
    wrong: frozenset[int]
    has_class: bool
    score: float | None


def measure(
    run: CurrentRun, records: Sequence[Record], folder: Path, track: Track
) -> Iterator[tuple[Measured, ConfusionMatrix]]:
    """Each label image of a folder against its mask, in the order of the records."""
    classes = len(run.data.classes)

    def one(record: Record) -> tuple[Measured, ConfusionMatrix]:
        labels = read_mask(folder / f"{record.id}.png", classes=classes)
        return _measured(record, labels, run.truth(record), classes)

    with ThreadPoolExecutor(THREADS) as threads:
        yield from track(threads.map(one, records), total=len(records))


def _measured(
    record: Record, labels: np.ndarray, truth: np.ndarray | None, classes: int
) -> tuple[Measured, ConfusionMatrix]:
    confusion = ConfusionMatrix(classes + 1)
    if truth is not None:
        confusion.update(labels, truth)
    miou = float(confusion.miou())
    score = None if np.isnan(miou) else miou  # no pixel counts
    counts = np.bincount(labels.ravel(), minlength=256)
    missing = frozenset(c for c in record.labels or () if not counts[c])
    seen = {c for c in range(1, classes + 1) if counts[c]}
    wrong = frozenset(seen.difference(record.labels) if record.labels is not None else ())
    areas = counts / labels.size
    return Measured(record, areas, missing, wrong, bool(seen), score), confusion


def foreground_table(
    run: CurrentRun, records: Sequence[Record], folder: Path, chosen: int | None, track: Track
) -> str:
    """What each threshold would call object, and the images to look at first.

    IoU is that of object against ground, all images together, and "-" without masks.
    """
    records = [record for record in records if chosen is None or chosen in (record.labels or ())]
    own = run.config.pseudolabels.saliency_threshold
    thresholds = sorted({*THRESHOLDS, own})

    def one(record: Record) -> list[Found]:
        return _foreground(run, record, folder / f"{record.id}.png", thresholds)

    with ThreadPoolExecutor(THREADS) as threads:
        found = list(track(threads.map(one, records), total=len(records)))
    body = []
    for threshold, column in zip(thresholds, zip(*found)):
        mark = " (saliency_threshold)" if threshold == own else ""
        area = float(np.median([one.area for one in column]))
        iou = sum((one.confusion for one in column), start=ConfusionMatrix(2)).iou()
        none = sum(not one.area for one in column)
        body.append([f"{threshold:g}{mark}", percent(area), str(none), percent(iou[1])])
    header = ["threshold", "median area %", "nothing found", "IoU %"]
    lines = [counted(len(records), "image", "images"), text_table(header, body)]
    at_own = [(record.id, row[thresholds.index(own)]) for record, row in zip(records, found)]
    empty = _of_no_class(records)
    lines += _listed("nothing found", [i for i, o in at_own if not o.area and i not in empty])
    whole = [f"{i} ({percent(one.area)} %)" for i, one in at_own if one.area > WHOLE]
    lines += _listed("nearly all of the image", whole)
    scored = sorted((one.confusion.iou()[1], i) for i, one in at_own if one.confusion.matrix.any())
    named = [f"{i} ({percent(iou)})" for iou, i in scored if not np.isnan(iou)]
    return "\n".join(lines + _listed("lowest IoU", named) + _told(empty, chosen))


class Found(NamedTuple):
    """What a threshold calls object: share of the image, and against its mask if it has one."""

    area: float
    confusion: ConfusionMatrix


def _foreground(
    run: CurrentRun, record: Record, file: Path, thresholds: Sequence[float]
) -> list[Found]:
    truth, scores = run.truth(record), read_scores(file)
    if truth is not None:
        scores = enlarge(scores, truth.shape)
        truth = np.where(truth == IGNORE, truth, truth > 0)
    found = []
    for threshold in thresholds:
        above, confusion = scores > threshold, ConfusionMatrix(2)
        if truth is not None:
            confusion.update(above.astype(np.uint8), truth)
        found.append(Found(float(above.mean()), confusion))
    return found


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return [f"{what} ({len(names)}): {', '.join(names[:LISTED])}{more}"]
