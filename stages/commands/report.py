"""report: one HTML file about a run, with whatever stages it has.

Reads artifacts and the data alone, no network.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from getam.cache import atomic_write_bytes
from getam.config import Config
from getam.data.images import read_image, read_mask
from getam.data.index import Record
from getam.errors import UserError
from getam.mapfile import MapFile
from getam.view.lines import headline
from getam.view.overlay import class_colour
from getam.view.progress import duration
from getam.view.report import LONG_SIDE, label_uri, map_uri, photo_uri, render
from stages.commands.current import CurrentRun, Track, output_file, writes
from stages.commands.figures import Measured, measure, metric_rows, seed_threshold

Layer = tuple[str, str, str, str]  # kind, caption, stage, folder in its artifact
TRAIN: tuple[Layer, ...] = (("label", "pseudo label", "pseudolabels", "labels"),)
VAL: tuple[Layer, ...] = (
    ("prediction", "prediction", "evaluation", "predictions"),
    ("prediction", "prediction + CRF", "evaluation", "predictions_crf"),
)


def write_report(run: CurrentRun, path: Path, images: int, track: Track) -> int:
    """Write the report of a run with at most ``images`` images; its size in bytes.

    Raises:
        UserError: nothing of the run is cached, or the file cannot be written.
    """
    if not any(run.has(stage) for stage in run.rows if stage != "data"):
        run.folder(list(run.rows)[-1])  # says what is missing and what makes it
    if path.is_dir():
        raise UserError(f"{path}: got a folder, expected the name of a file such as report.html.")
    output_file(path, run.artifacts)
    text = render(f"GETAM report: {_name(run.config)}", _contents(run, images, track)).encode()
    with writes(path):
        atomic_write_bytes(path, text)
    return len(text)


def _contents(run: CurrentRun, images: int, track: Track) -> dict[str, Any]:
    """What the page's scripts expect."""
    names = run.data.classes
    classes = [{"name": n, "colour": class_colour(c)} for c, n in enumerate(names, start=1)]
    rows = [_finite(row) for row in metric_rows(run)]
    return {
        "about": _about(run),
        "classes": classes,
        "ignore": {"name": "ignore", "colour": class_colour(255)},
        "threshold": seed_threshold(run),
        "stages": [_stage(row) for row in run.rows.values()],
        "settings": _changed(run.config),
        "rows": rows,
        "charts": [*_threshold_charts(rows), *_training_charts(run)],
        "gallery": _gallery(run, images, track),
    }


def _name(config: Config) -> str:
    return "embedded example" if config.data.root is None else Path(config.data.root).name


def _about(run: CurrentRun) -> str:
    data = run.config.data
    splits = [f"{len(run.data.split(name))} {name} images" for name in (data.train, data.val)]
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{len(run.data.classes)} classes · {' · '.join(splits)} · written {made}"


def _stage(row: Any) -> dict[str, str]:
    cached = row.status == "cached"
    figures = "; ".join(headline(row.metrics or {})) if cached else row.reason.sentence()
    return {
        "stage": row.stage,
        "status": row.status,
        "key": row.key,
        "time": duration(row.seconds) if cached else "",
        "size": f"{row.size / 1e6:.1f} MB" if cached else "",
        "figures": figures,
    }


def _changed(config: Config) -> list[str]:
    """The settings that differ from the defaults, but no path of this machine."""
    own, usual = (_leaves(c.model_dump(mode="json")) for c in (config, Config()))
    changed = [f"{name} = {own[name]}" for name in own if own[name] != usual.get(name)]
    return [line for line in changed if not line.startswith("data.root ")]


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path: tree}
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _leaves(value, f"{path}.{name}" if path else name)
    return found


def _finite(value: Any) -> Any:
    """The value with None for each nan, which JSON has not."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _threshold_charts(rows: Sequence[dict]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if "threshold curve" in row:
            curve = {float(t): v for t, v in row["threshold curve"].items() if v is not None}
            yield {
                "title": f"{row['what'].capitalize()} at each threshold ({row['split']})",
                "x": "threshold on the maps",
                "y": "mIoU",
                "points": sorted(curve.items()),
                "mark": row["best threshold"],
            }


def _training_charts(run: CurrentRun) -> Iterator[dict[str, Any]]:
    """A chart of each single figure that a stage kept of its epochs, from two epochs on."""
    for number, stage in enumerate(run.rows):
        history = run.folder(stage) / "history.json" if run.has(stage) else None
        epochs = json.loads(history.read_text()) if history and history.exists() else []
        for name in dict.fromkeys(n for epoch in epochs for n in epoch):
            points = [(n, e.get(name)) for n, e in enumerate(epochs, start=1)]
            points = [(n, v) for n, v in points if isinstance(v, (int, float)) and math.isfinite(v)]
            if len(points) > 1:
                title = f"{stage}: {name} of each epoch"
                chart = {"title": title, "x": "epoch", "y": name, "points": points}
                yield {**chart, "whole": True, "series": number}


@dataclass(frozen=True)
class Part:
    """A split of the gallery: its layers, what its score is of, and its records with scores."""

    split: str
    layers: Sequence[Layer]
    records: Sequence[Record]
    scores: dict[str, float | None]


def _gallery(run: CurrentRun, images: int, track: Track) -> dict[str, Any]:
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
