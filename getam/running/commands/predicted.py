"""What predict writes of each photo. Imports no torch, as processes that write import this."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from getam.cache import atomic_write
from getam.data.ahead import read_ahead
from getam.data.palette import write_label_png
from getam.networks.tiling import label_parts
from getam.running.processes import process_pool, room_in_process
from getam.view.overlay import paint

if TYPE_CHECKING:
    from getam.networks.tiling import Part

WAITING = 2  # photos in work, for each thread or process


@dataclass(frozen=True)
class Finish:
    """Labels the pixels of a photo, and writes ``predictions/NAME.png`` and ``overlays/NAME.jpg``.

    Args:
        output: the folder.
        classes: the names of the classes, without the background.
        crf: arguments of the dense CRF; None: the labels are not smoothed.
    """

    output: Path
    classes: Sequence[str]
    crf: Mapping[str, Any] | None

    def __call__(
        self, photo: tuple[tuple[str, np.ndarray], tuple[int, int], list[Part]]
    ) -> dict[str, Any]:
        """The areas of the classes in a photo: its name and pixels as drawn, size (H, W), parts."""
        (name, shown), size, parts = photo
        labels = label_parts(parts, size, crf=self.crf, room=room_in_process)
        places = {kind: self.output / kind / name for kind in ("predictions", "overlays")}
        for place in places.values():
            place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(_with_suffix(places["predictions"], ".png")) as temporary:
            write_label_png(temporary, labels)
        with atomic_write(_with_suffix(places["overlays"], ".jpg")) as temporary:
            Image.fromarray(paint(shown, labels)).save(temporary, quality=90)
        return {"name": name, **_areas(labels, self.classes)}


def finished(finish: Finish, photos: Iterable[Any], workers: int) -> Iterator[dict[str, Any]]:
    """``finish`` of each photo, in their order, while the network computes the next ones.

    Threads do it; with the dense CRF, which holds Python's lock, processes.
    """
    if finish.crf is None or workers == 1:
        yield from (areas for _, areas in read_ahead(finish, photos, WAITING * workers, workers))
        return
    with process_pool(workers) as pool:
        yield from (areas for _, areas in read_ahead(finish, photos, WAITING * workers, pool))


def _with_suffix(place: Path, suffix: str) -> Path:
    return place.with_name(place.name + suffix)  # a name may have dots of its own


def _areas(labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Size of a label image, pixels and share of each class in it."""
    counts = np.bincount(labels.ravel(), minlength=len(classes) + 1)
    named = zip(("background", *classes), counts.tolist())
    areas = {name: {"pixels": n, "share": n / labels.size} for name, n in named if n}
    height, width = labels.shape
    return {"width": width, "height": height, "areas": areas}
