"""review: the photos of a run, most doubtful first, as a table or as JSON. Reads no photo.

The doubt is about masks and labels together, or about the labels alone.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from getam.data.index import DataIndex, Record
from getam.data.review import Review
from getam.errors import UserError
from getam.labels.photo_doubt import label_reason
from getam.running.commands.current import CurrentRun
from getam.running.datasets import unreviewed_index
from getam.view.table import text_table

CORRECTED = "Corrected mask: it takes the place of the final mask."
NO_REVIEW = Review("", {}, {})


class Doubt(NamedTuple):
    """A photo of the queue: ``doubt`` is from 0 to 1, ``reason`` says it in words."""

    image: str
    split: str
    doubt: float
    reason: str


class Queue:
    """The photos to review, most doubtful first, those with a corrected mask last.

    With ``labels`` the doubt is the probability that the image-level labels have an error.

    ``review`` is what ``data.review`` says, ``photos`` are the photos of the queue and those that
    the review rejected, as they are on the disk, with all classes of the data set.
    """

    def __init__(
        self,
        run: CurrentRun,
        split: str | None = None,
        limit: int | None = None,
        *,
        labels: bool = False,
    ) -> None:
        doubts = read_label_errors(label_file(run)) if labels else read_doubts(doubt_file(run))
        self.order = "most likely wrong labels first" if labels else "most doubtful first"
        known = {doubt.split for doubt in doubts}
        if split is not None and split not in known:
            raise UserError(
                f"--split {split}: there is no photo of this split in the queue. Choose one of "
                f"{', '.join(sorted(known))}."
            )
        self.corrected = run.corrected
        chosen = [doubt for doubt in doubts if split in (None, doubt.split)]
        chosen.sort(key=lambda doubt: doubt.image in self.corrected)  # they are decided: the last
        self.total, self.doubts = len(chosen), chosen[:limit]
        self.review = run.runner.context.review or NO_REVIEW
        made = run.folder("data") if "data" in run.rows else None
        self.index: DataIndex = unreviewed_index(run.runner.context, made)
        self.photos: Mapping[str, tuple[str, Record]] = {
            record.id: (name, record) for name in _splits(run) for record in self.index.split(name)
        }

    def rejected(self) -> list[tuple[str, Record]]:
        """Split and record of the photos that left the train split by the review."""
        return [
            (name, record)
            for name, record in self.photos.values()
            if not self.review.keeps(name, record.id)
        ]

    def labels(self, image_id: str) -> list[str] | None:
        """The classes of a photo in the label table; None: it is not labelled."""
        labels = self.photos[image_id][1].labels
        return None if labels is None else [self.index.classes[c - 1] for c in labels]

    def rows(self) -> list[dict[str, Any]]:
        """What there is to say of each photo, as JSON values."""
        return [
            {
                "image": one.image,
                "split": one.split,
                "doubt": one.doubt,
                "reason": CORRECTED if one.image in self.corrected else one.reason,
                "classes": self._classes(one.image),
                "verdict": self.review.verdicts.get(one.image, ""),
            }
            for one in self.doubts
        ]

    def _classes(self, image_id: str) -> list[str] | None:
        corrected = self.review.classes.get(image_id)
        return self.labels(image_id) if corrected is None else list(corrected)


def _splits(run: CurrentRun) -> list[str]:
    return [run.config.data.train, run.config.data.val]


def doubt_file(run: CurrentRun) -> Path:
    """The table of doubt of a run.

    Raises:
        UserError: the stage doubt has no artifact of these settings.
    """
    return run.folder("doubt") / "doubt.csv"


def label_file(run: CurrentRun) -> Path:
    """The table of the errors in labels of a run.

    Raises:
        UserError: as :func:`doubt_file`.
    """
    return run.folder("doubt") / "label_errors.csv"


def read_doubts(file: Path) -> list[Doubt]:
    """The lines of ``doubt.csv``, most doubtful first."""
    with open(file, newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        return [Doubt(r["image"], r["split"], float(r["doubt"]), r["reason"]) for r in rows]


def read_label_errors(file: Path) -> list[Doubt]:
    """The lines of ``label_errors.csv``, the most likely error first."""
    with open(file, newline="", encoding="utf-8") as stream:
        return [
            Doubt(
                row["image"],
                row["split"],
                float(row["probability"]),
                label_reason(row["class"], present=row["labelled"] == "yes"),
            )
            for row in csv.DictReader(stream)
        ]


def queue_table(queue: Queue) -> str:
    """The queue as a table for people."""
    body = [_cells(row) for row in queue.rows()]
    header = ["doubt", "image", "split", "classes", "verdict", "reason"]
    more = f"{len(body)} of {queue.total} photos, {queue.order}."
    return "\n".join([text_table(header, body, left=(1, 2, 3, 4, 5)), more])


def _cells(row: Mapping[str, Any]) -> Sequence[str]:
    classes = "not labelled" if row["classes"] is None else ", ".join(row["classes"])
    return (
        f"{row['doubt']:.2f}",
        row["image"],
        row["split"],
        classes or "no class",
        row["verdict"],
        row["reason"],
    )
