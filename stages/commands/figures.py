"""What artifacts say about single classes and images: the tables of ``inspect``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from getam.data.images import read_mask
from getam.data.index import Record
from getam.mapfile import MapFile
from getam.metrics import ConfusionMatrix
from getam.view.table import percent, text_table
from stages.commands.current import CurrentRun, Track

LISTED = 8  # images named in a line
FLAT = 0.5  # a map is flat if nine tenths of it are above this share of its peak
WEAK = 0.01  # ... and weak if its peak is below this share of its class's median peak
THREADS = 8


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


def map_table(maps: MapFile, chosen: int | None) -> str:
    """Images, strongest and weakest map of each class, and the maps that look wrong.

    A map looks wrong if it is empty, weak or flat although the image is said to have the class.
    """
    rows = _map_rows(maps)
    kept = [row for row in rows if chosen in (None, row["class"])]
    body = []
    for class_id, name in enumerate(maps.classes, start=1):
        own = sorted((r for r in kept if r["class"] == class_id), key=lambda r: -r["peak"])
        if own:
            wrong = sum(bool(row["wrong"]) for row in own)
            body.append([name, str(len(own)), _named(own[0]), _named(own[-1]), str(wrong)])
    header = ["class", "images", "strongest (peak)", "weakest (peak)", "suspicious"]
    grid = "x".join(str(n) for n in maps.file.attrs["grid"])
    lines = [
        f"{len(maps.image_ids)} images, {len(rows)} maps on a {grid} grid, "
        f"method {maps.file.attrs['method']}",
        text_table(header, body, left=(0, 2, 3)),
    ]
    for kind in ("empty", "weak", "flat"):
        named = [
            f"{r['image']} ({maps.classes[r['class'] - 1]})" for r in kept if r["wrong"] == kind
        ]
        lines += _listed(f"{kind} maps although the class is labelled", named)
    without = sorted(set(maps.image_ids) - {row["image"] for row in rows})
    return "\n".join(lines + _listed("images without any map", without))


def _map_rows(maps: MapFile) -> list[dict]:
    rows = []
    for image_id in maps.image_ids:
        for class_id, image_map, peak in zip(*maps.read(image_id)):
            low = float(np.quantile(image_map, 0.1))
            rows.append(
                {"image": image_id, "class": int(class_id), "peak": float(peak), "low": low}
            )
    peaks: dict[int, list[float]] = {}
    for row in rows:
        peaks.setdefault(row["class"], []).append(row["peak"])
    for row in rows:
        row["wrong"] = _wrong(row, float(np.median(peaks[row["class"]])))
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
    classes = run.data.classes
    measured = measure(run, records, folder, track)
    total = ConfusionMatrix(len(classes) + 1)
    for one in measured:
        total.matrix += one.confusion
    truths = any(one.confusion.any() for one in measured)
    iou = total.iou() if truths else np.full(len(classes) + 1, np.nan)

    body = []
    for class_id in [chosen] if chosen else range(len(classes) + 1):
        name = classes[class_id - 1] if class_id else "background"
        shares = [one.areas[class_id] for one in measured if one.areas[class_id] > 0]
        missing = [m.record.id for m in measured if class_id in m.missing]
        area = percent(float(np.median(shares))) if shares else "-"
        row = [name, str(len(shares)), area, str(len(missing)) if class_id else "-"]
        body.append([*row, percent(iou[class_id])])
    header = ["class", "images", "median area %", "labelled but absent", "IoU %"]
    lines = [f"{len(records)} images", text_table(header, body)]
    if any(one.areas[255] for one in measured):
        ignored = float(np.mean([one.areas[255] for one in measured]))
        lines.append(f"ignored: {percent(ignored)} % of all pixels")
    kept = [m for m in measured if chosen is None or m.areas[chosen] > 0 or chosen in m.missing]
    lines += _listed("background alone", [m.record.id for m in kept if not m.has_class])
    absent = [m.record.id for m in kept if m.missing and (chosen is None or chosen in m.missing)]
    lines += _listed("a labelled class is absent", absent)
    scored = sorted((m for m in kept if m.score is not None), key=lambda m: m.score)
    lines += _listed("lowest mIoU", [f"{m.record.id} ({percent(m.score)})" for m in scored])
    return "\n".join(lines)


class Measured:
    """One label image: area share of each value, and its confusion with the mask if there is one.

    ``missing`` are labelled classes without a pixel, ``score`` is the mIoU of this image alone
    over the classes in it or its mask, None without a mask.
    """

    def __init__(self, record: Record, labels: np.ndarray, truth: np.ndarray | None, classes: int):
        counts = np.bincount(labels.ravel(), minlength=256)
        self.record, self.areas = record, counts / labels.size
        self.missing = {c for c in record.labels or () if not counts[c]}
        self.has_class = bool(counts[1 : classes + 1].any())
        self.confusion = np.zeros((classes + 1, classes + 2), np.int64)
        self.score: float | None = None
        if truth is not None and (truth != 255).any():
            matrix = ConfusionMatrix(classes + 1)
            matrix.update(labels, truth)
            self.confusion, self.score = matrix.matrix, float(matrix.miou())


def measure(
    run: CurrentRun, records: Sequence[Record], folder: Path, track: Track
) -> list[Measured]:
    """Each label image of a folder against its mask, in the order of the records."""
    classes = len(run.data.classes)

    def one(record: Record) -> Measured:
        labels = read_mask(folder / f"{record.id}.png", classes=classes)
        return Measured(record, labels, run.truth(record), classes)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(track(threads.map(one, records), total=len(records)))


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return [f"{what} ({len(names)}): {', '.join(names[:LISTED])}{more}"]
