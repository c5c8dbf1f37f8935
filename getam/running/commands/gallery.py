"""The images of a report: which ones, and what is shown of each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from getam.data.images import read_photo
from getam.data.index import Record
from getam.data.label_values import IGNORE
from getam.data.masks import read_mask
from getam.data.sampling import evenly
from getam.running.commands.current import LABELS, CurrentRun, Track
from getam.running.commands.figures import measure
from getam.running.commands.review_queue import doubt_file, read_doubts
from getam.view.page import LONG_SIDE, label_uri, map_uri, photo_uri

TRAIN = {"pseudolabels": "label", "masks": "mask"}  # what is shown of a split -> its switch
VAL = {"predictions": "prediction", "predictions_crf": "prediction", "masks": "mask"}


@dataclass(frozen=True)
class Part:
    """A split of the gallery: the labels shown of it, and its records with scores and doubts."""

    split: str
    layers: Mapping[str, str]
    records: Sequence[Record]
    scores: dict[str, float | None]
    doubts: dict[str, float]


def gallery(run: CurrentRun, images: int, track: Track) -> dict[str, Any]:
    """The entries of the report's gallery, at most ``images``, and a sentence about them."""
    parts = [part for part in (_train_part(run, track), _val_part(run, track)) if part]
    shuffle = random.Random(0)
    entries = []
    for part in parts:
        chosen = pick(part.records, part.scores, max(1, images // len(parts)), part.doubts)
        entries += [{**_entry(run, part, r), "random": shuffle.random()} for r in track(chosen)]
    return {"about": " ".join(_picked(part, entries) for part in parts), "entries": entries}


def _picked(part: Part, entries: Sequence[dict]) -> str:
    """Which images of a split are shown, in a sentence."""
    shown = sum(entry["split"] == part.split for entry in entries)
    if shown == len(part.records):
        return f"All {shown} {part.split} images."
    scored = any(score is not None for score in part.scores.values())
    how = "the most doubtful ones" if part.doubts else "evenly chosen"
    if scored:
        how = "a third the worst, a third the best, the others between"
    return f"{shown} of {len(part.records)} {part.split} images, {how}."


def _train_part(run: CurrentRun, track: Track) -> Part | None:
    if not (run.has("maps") or run.has("pseudolabels")):
        return None
    return _part(run, run.config.data.train, TRAIN, track)


def _val_part(run: CurrentRun, track: Track) -> Part | None:
    return _part(run, run.config.data.val, VAL, track) if run.has("predictions") else None


def _part(run: CurrentRun, split: str, layers: Mapping[str, str], track: Track) -> Part:
    """Scored by the first of its layers, where that is cached."""
    records, doubts = run.records(split), {}
    if run.has("doubt"):
        doubts = {one.image: one.doubt for one in read_doubts(doubt_file(run))}
    labels = LABELS[next(iter(layers))]
    if not run.has(labels.stage):
        return Part(split, layers, records, {}, doubts)
    measured = measure(run, records, run.folder(labels.stage) / labels.folder, track)
    scores = {one.record.id: one.score for one, _ in measured}
    return Part(split, layers, records, scores, doubts)


def pick(
    records: Sequence[Record],
    scores: dict[str, float | None],
    count: int,
    doubts: Mapping[str, float] | None = None,
) -> Sequence[Record]:
    """A third the lowest, a third the highest, the others evenly between.

    Without scores the most doubtful ones, without doubts too evenly.
    """
    if len(records) <= count:
        return records
    scored = [r for r in records if scores.get(r.id) is not None]
    if doubts and not scored:
        return sorted(records, key=lambda r: -doubts.get(r.id, -1))[:count]
    if len(scored) < count:
        return evenly(records, count)
    ranked = sorted(scored, key=lambda r: scores[r.id])
    third = count // 3
    between = ranked[third : len(ranked) - third]
    rest = count - 2 * third
    return [
        *ranked[:third],
        *evenly(between, rest),
        *ranked[len(ranked) - third :],
    ]


def _entry(run: CurrentRun, part: Part, record: Record) -> dict[str, Any]:
    """``classes`` are the labelled ones and those anywhere in a label, a prediction or the mask."""
    image = read_photo(record)
    shown = []
    for name, layer in part.layers.items():
        if file := run.label_file(LABELS[name], record):
            shown.append((layer, LABELS[name].caption, read_mask(file)))
    truth = run.truth(record)
    if truth is not None:
        shown.append(("truth", "mask", truth))
    maps = _maps(run, part, record)
    found = {int(c) for *_, labels in shown for c in np.unique(labels)} - {0, IGNORE}
    height, width = image.shape[:2]
    scale = min(1, LONG_SIDE / max(height, width))
    return {
        "id": record.id,
        "split": part.split,
        "labels": record.labels,
        "classes": sorted({*found, *(record.labels or ()), *(m["classId"] for m in maps)}),
        "score": part.scores.get(record.id),
        "doubt": part.doubts.get(record.id),
        "size": [max(1, round(width * scale)), max(1, round(height * scale))],
        "image": photo_uri(image),
        "maps": maps,
        "layers": [{"layer": k, "caption": c, "uri": label_uri(a)} for k, c, a in shown],
    }


def _maps(run: CurrentRun, part: Part, record: Record) -> list[dict[str, Any]]:
    if part.layers is not TRAIN or not run.has("maps"):
        return []
    class_ids, maps, _ = run.maps.read(record.id)
    return [{"classId": int(c), "uri": map_uri(m)} for c, m in zip(class_ids, maps)]
