"""review: the photos, masks and maps of the page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from getam.cache import atomic_write_bytes
from getam.data.class_names import counted
from getam.data.images import read_photo
from getam.data.index import Record
from getam.data.masks import read_mask
from getam.data.palette import class_colour
from getam.running.commands.current import (
    LABELS,
    CurrentRun,
    Track,
    page_file,
    writes,
)
from getam.running.commands.review_queue import CORRECTED, Doubt, Queue
from getam.view.page import label_uri, map_uri
from getam.view.review_page import LONG_SIDE, photo_uri, render

LAYERS = [LABELS[name] for name in ("masks", "pseudolabels", "predictions")]
THREADS = 4  # encoding a photo is work for a core; a few photos are in memory at a time
REJECTED_BEFORE = "Rejected by data.review, so nothing was learnt from it."


def write_page(run: CurrentRun, queue: Queue, path: Path, track: Track) -> tuple[int, int]:
    """Write the review page; how many photos it has, and its size in bytes.

    Raises:
        UserError: nothing to review, or the file cannot be written.
    """
    page_file(path, run.artifacts, "review.html")
    data = page_data(run, queue, track)
    text = render(f"Review: {data['name']}", data).encode()
    with writes(path):
        atomic_write_bytes(path, text)
    return len(data["entries"]), len(text)


def page_data(run: CurrentRun, queue: Queue, track: Track) -> dict[str, Any]:
    """What the page's script expects."""
    listed = {doubt.image for doubt in queue.doubts}
    before = [Doubt(r.id, s, 0, REJECTED_BEFORE) for s, r in queue.rejected() if r.id not in listed]
    photos = [*queue.doubts, *before]
    with ThreadPoolExecutor(THREADS) as threads:
        made = threads.map(lambda doubt: _entry(run, queue, doubt), photos)
        entries = list(track(made, total=len(photos)))
    names = run.data.classes
    review = _lines(queue)
    return {
        "name": "embedded example" if run.config.data.root is None else queue.index.root.name,
        "about": _about(queue),
        "store": _store(photos, review, names),
        "classes": [{"name": n, "colour": class_colour(c)} for c, n in enumerate(names, start=1)],
        "known": queue.index.classes,
        "review": review,
        "entries": entries,
    }


def _about(queue: Queue) -> str:
    shown, made = len(queue.doubts), datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    photos = counted(queue.total, "photo", "photos")
    which = photos if shown == queue.total else f"{shown} of {photos}"
    return f"{which}, {queue.order} · written {made}"


def _lines(queue: Queue) -> dict[str, dict[str, Any]]:
    """Image id -> the verdict and the corrected classes that ``data.review`` has of it."""
    verdicts, classes = queue.review.verdicts, queue.review.classes
    return {
        image_id: {
            "verdict": verdicts.get(image_id, ""),
            "classes": list(classes[image_id]) if image_id in classes else None,
        }
        for image_id in sorted({*verdicts, *classes})
    }


def _store(photos: list[Doubt], review: Mapping[str, Any], classes: tuple[str, ...]) -> str:
    """The name under which a browser keeps the decisions: the same for the same queue and review.

    A page of another run begins with what ``data.review`` says, not with decisions about former
    masks.
    """
    content = json.dumps([photos, review, classes], sort_keys=True)
    return f"getam-review-{hashlib.sha256(content.encode()).hexdigest()[:20]}"


def _entry(run: CurrentRun, queue: Queue, doubt: Doubt) -> dict[str, Any]:
    """A photo of the page. Class ids are those of the run."""
    record = queue.photos[doubt.image][1]
    image = read_photo(record)
    height, width = image.shape[:2]
    scale = min(1, LONG_SIDE / max(height, width))
    return {
        "id": record.id,
        "split": doubt.split,
        "doubt": None if doubt.reason == REJECTED_BEFORE else doubt.doubt,
        "reason": CORRECTED if record.id in queue.corrected else doubt.reason,
        "labels": queue.labels(record.id),
        "size": [max(1, round(width * scale)), max(1, round(height * scale))],
        "photo": photo_uri(image),
        "layers": [*_corrected(run, queue, record), *_layers(run, record)],
        "maps": _maps(run, record),
    }


def _layers(run: CurrentRun, record: Record) -> list[dict[str, Any]]:
    """The final mask first, then the others."""
    files = {labels.caption: run.label_file(labels, record) for labels in LAYERS}
    return [
        _layer(run, caption, read_mask(file, classes=len(run.data.classes)))
        for caption, file in files.items()
        if file is not None
    ]


def _corrected(run: CurrentRun, queue: Queue, record: Record) -> list[dict[str, Any]]:
    """The corrected mask of a photo, if it has one."""
    found = queue.corrected.get(record.id)
    return [_layer(run, "corrected mask", run.data.read_correction(found))] if found else []


def _layer(run: CurrentRun, caption: str, image: np.ndarray) -> dict[str, Any]:
    """A label image (H, W); ``classes`` are those that have a pixel."""
    found = np.unique(image)
    classes = found[(found > 0) & (found <= len(run.data.classes))].tolist()
    return {"caption": caption, "classes": classes, "uri": label_uri(image, LONG_SIDE)}


def _maps(run: CurrentRun, record: Record) -> list[dict[str, Any]]:
    if not run.has("maps") or record.id not in run.maps:
        return []
    class_ids, maps, _ = run.maps.read(record.id)
    return [{"class": int(c), "uri": map_uri(m)} for c, m in zip(class_ids, maps)]
