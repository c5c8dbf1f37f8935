"""The images of a report: which ones, and what is shown of each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from getam.data.images import read_image, read_mask
from getam.data.index import Record
from getam.mapfile import MapFile
from getam.view.report import LONG_SIDE, label_uri, map_uri, photo_uri
from stages.commands.current import CurrentRun, Track
from stages.commands.figures import Measured, measure

Layer = tuple[str, str, str, str]  # kind, caption, stage, folder in its artifact
TRAIN: tuple[Layer, ...] = (("label", "pseudo label", "pseudolabels", "labels"),)
VAL: tuple[Layer, ...] = (
    ("prediction", "prediction", "evaluation", "predictions"),
    ("prediction", "prediction + CRF", "evaluation", "predictions_crf"),
)


@dataclass(frozen=True)
class Part:
    """A split of the gallery: its layers, what its score is of, and its records with scores."""

    split: str
    layers: Sequence[Layer]
    records: Sequence[Record]
    scores: dict[str, float | None]


def gallery(run: CurrentRun, images: int, track: Track) -> dict[str, Any]:
    """The entries of the report's gallery, at most ``images``, and a sentence about them."""
    parts = [part for part in (_train_part(run, track), _val_part(run, track)) if part]
    shuffle = random.Random(0)
    entries = []
    for part in parts:
        chosen = pick(part.records, part.scores, max(1, images // len(parts)))
        entries += [{**_entry(run, part, r), "random": shuffle.random()} for r in track(chosen)]
    return {"about": " ".join(_picked(part, entries) for part in parts), "entries": entries}


def _picked(part: Part, entries: Sequence[dict]) -> str:
    """Which images of a split are shown, in a sentence."""
    shown = sum(entry["split"] == part.split for entry in entries)
    if shown == len(part.records):
        return f"All {shown} {part.split} images."
    scored = any(score is not None for score in part.scores.values())
    how = "a third the worst, a third the best, the others between" if scored else "evenly chosen"
    return f"{shown} of {len(part.records)} {part.split} images, {how}."


def _train_part(run: CurrentRun, track: Track) -> Part | None:
    if not (run.has("maps") or run.has("pseudolabels")):
        return None
    return _part(run, run.config.data.train, TRAIN, track)


def _val_part(run: CurrentRun, track: Track) -> Part | None:
    return _part(run, run.config.data.val, VAL, track) if run.has("evaluation") else None


def _part(run: CurrentRun, split: str, layers: Sequence[Layer], track: Track) -> Part:
    """Scored by its first layer, where that is cached."""
    records = run.records(split)
    _, _, stage, folder = layers[0]
    measured: list[Measured] = []
    if run.has(stage):
        measured = measure(run, records, run.folder(stage) / folder, track)
    return Part(split, layers, records, {m.record.id: m.score for m in measured})


def pick(
    records: Sequence[Record], scores: dict[str, float | None], count: int
) -> Sequence[Record]:
    """A third the lowest, a third the highest, the others evenly between; evenly without scores."""
    if len(records) <= count:
        return records
    scored = [r for r in records if scores.get(r.id) is not None]
    if len(scored) < count:
        return [records[n * len(records) // count] for n in range(count)]
    ranked = sorted(scored, key=lambda r: scores[r.id])
    third = count // 3
    between = ranked[third : len(ranked) - third]
    rest = count - 2 * third
    return [
        *ranked[:third],
        *(between[n * len(between) // rest] for n in range(rest)),
        *ranked[len(ranked) - third :],
    ]


def _entry(run: CurrentRun, part: Part, record: Record) -> dict[str, Any]:
    image = read_image(record.image)
    shown = []
    for kind, caption, stage, folder in part.layers:
        file = run.folder(stage) / folder / f"{record.id}.png" if run.has(stage) else None
        if file and file.exists():
            shown.append((kind, caption, read_mask(file)))
    truth = run.truth(record)
    if truth is not None:
        shown.append(("truth", "ground truth", truth))
    maps = _maps(run, part, record)
    found = {int(c) for *_, labels in shown for c in np.unique(labels)} - {0, 255}
    height, width = image.shape[:2]
    scale = min(1, LONG_SIDE / max(height, width))
    return {
        "id": record.id,
        "split": part.split,
        "classes": sorted({*found, *(record.labels or ()), *(m["classId"] for m in maps)}),
        "score": part.scores.get(record.id),
        "size": [max(1, round(width * scale)), max(1, round(height * scale))],
        "image": photo_uri(image),
        "maps": maps,
        "layers": [{"layer": k, "caption": c, "uri": label_uri(a)} for k, c, a in shown],
    }


def _maps(run: CurrentRun, part: Part, record: Record) -> list[dict[str, Any]]:
    if part.layers is not TRAIN or not run.has("maps"):
        return []
    class_ids, maps, _ = MapFile(run.folder("maps") / "maps.h5").read(record.id)
    return [{"classId": int(c), "uri": map_uri(m)} for c, m in zip(class_ids, maps)]
