"""report: one HTML file about a run, with whatever stages it has.

Reads artifacts and the data alone, no network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from getam.cache import atomic_write_bytes
from getam.config.schema import Config
from getam.data.class_names import counted
from getam.data.label_values import IGNORE
from getam.data.palette import class_colour
from getam.running.commands.current import CurrentRun, Track, page_file, writes
from getam.running.commands.figures import metric_rows, seed_threshold
from getam.running.commands.gallery import gallery
from getam.view.lines import headline
from getam.view.page import render
from getam.view.progress import duration


def write_report(run: CurrentRun, path: Path, images: int, track: Track) -> int:
    """Write the report of a run with at most ``images`` images; its size in bytes.

    Raises:
        UserError: nothing of the run is cached, or the file cannot be written.
    """
    if not any(run.has(stage) for stage in run.rows if stage != "data"):
        run.folder(list(run.rows)[-1])  # says what is missing and what makes it
    page_file(path, run.artifacts, "report.html")
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
        "ignore": {"name": "ignore", "colour": class_colour(IGNORE)},
        "threshold": seed_threshold(run),
        "stages": [_stage(row) for row in run.rows.values()],
        "settings": _changed(run.config),
        "rows": rows,
        "charts": [*_threshold_charts(rows), *_training_charts(run)],
        "gallery": gallery(run, images, track),
    }


def _name(config: Config) -> str:
    return "embedded example" if config.data.root is None else Path(config.data.root).name


def _about(run: CurrentRun) -> str:
    data = run.config.data
    splits = [
        counted(len(run.data.split(name)), f"{name} image", f"{name} images")
        for name in (data.train, data.val)
    ]
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    classes = counted(len(run.data.classes), "class", "classes")
    return f"{classes} · {' · '.join(splits)} · written {made}"


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
    """The settings that differ from the defaults; of a place on this machine its name alone."""
    own, usual = (_leaves(c.model_dump(mode="json")) for c in (config, Config()))
    return [f"{name} = {_plain(own[name])}" for name in own if own[name] != usual.get(name)]


def _plain(value: Any) -> Any:
    is_place = isinstance(value, str) and Path(value).expanduser().is_absolute()
    return Path(value).name if is_place else value


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
    if isinstance(value, (list, tuple)):
        return [*map(_finite, value)]
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
