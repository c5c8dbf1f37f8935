"""The artifacts of a configuration as they are on the disk now. Nothing here runs a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from getam.cache import Presence, StatusRow
from getam.config.nearest import did_you_mean, nearest
from getam.config.schema import Config, Data
from getam.data.class_names import clean_name
from getam.data.files import clean_id
from getam.data.index import DataIndex, Record
from getam.errors import UserError
from getam.maps.file import MapFile
from getam.running.datasets import open_index
from getam.running.opening import Chain, open_runner
from getam.running.same_run import command_about_this_run, command_for_this_run
from getam.view.program import program


class Labels(NamedTuple):
    """Label images ``FOLDER/ID.png`` in the artifact of a stage."""

    stage: str
    folder: str
    caption: str


LABELS = {
    "pseudolabels": Labels("pseudolabels", "labels", "pseudo label"),
    "predictions": Labels("predictions", "predictions", "prediction"),
    "predictions_crf": Labels("predictions", "predictions_crf", "prediction + CRF"),
    "masks": Labels("predictions", "masks", "final mask"),
}


class CurrentRun:
    """What is cached of the stages of a configuration, and the data they are about.

    ``rows`` maps each stage, in the order they run, to its status row. Only reads.
    """

    def __init__(self, chain: Chain, config: Config, artifacts: Path, **options: Any) -> None:
        self.config, self.artifacts = config, artifacts
        self.runner = open_runner(chain, config, artifacts, **options)
        self.rows: dict[str, StatusRow] = {row.stage: row for row in self.runner.status()}
        self._whole: set[str] = set()  # stages whose artifacts are as they were made

    def has(self, stage: str) -> bool:
        """Whether the stage is part of this run and its artifact is there."""
        return stage in self.rows and self.rows[stage].status == "cached"

    def folder(self, stage: str) -> Path:
        """The artifact of a stage.

        Raises:
            UserError: it has none for these settings, or its files are not as they were made.
        """
        if stage not in self.rows:
            known = ", ".join(self.rows)
            raise UserError(f"{stage}: a run with these settings has no such stage (only {known}).")
        row = self.rows[stage]
        if row.status != "cached":
            raise UserError(
                f"{stage}: got no artifact of these settings in {self.artifacts} ({row.status}: "
                f"{row.reason.sentence()}). Make it with {self._how(stage)}."
            )
        if stage not in self._whole:
            self._check_whole(stage, row.key)
        return self.runner.store.folder(stage, row.key)

    def _check_whole(self, stage: str, key: str) -> None:
        """Whether the files of an artifact are as their stage made them."""
        found = self.runner.store.find(stage, key, read=True)
        if found.presence is not Presence.COMPLETE:
            raise UserError(
                f"{stage}: the files of its artifact are not as the stage made them "
                f"({found.detail}). Set it aside, and make it anew, with {self._how(stage)}. To "
                f"correct masks by hand, export them and import them again."
            )
        self._whole.add(stage)

    def _how(self, stage: str) -> str:
        """The command that makes the artifact of a stage."""
        command = command_for_this_run("--until", stage)
        if command:
            return f"'{command}'"
        return f"'{program()} run --until {stage}' and the same options"

    def network(self) -> Path:
        """The segmentation network of this run.

        Raises:
            UserError: there is none for these settings.
        """
        return self.folder("endtoend" if self.config.mode == "end-to-end" else "deeplab")

    @cached_property
    def data(self) -> DataIndex:
        """The data set: the user's, or what the data stage made."""
        made = self.folder("data") if "data" in self.rows else None
        return open_index(self.runner.context, made, self.config.data.classes)

    @property
    def verdicts(self) -> Mapping[str, str]:
        """Image id -> ``accepted`` or ``rejected``, as the file of ``data.review`` says."""
        review = self.runner.context.review
        return review.verdicts if review else {}

    @cached_property
    def corrected(self) -> dict[str, Record]:
        """Image id -> record of the photos that have a corrected mask (``data.corrections``)."""
        if self.runner.context.corrections is None:
            return {}
        splits = (self.config.data.train, self.config.data.val)
        return {r.id: r for name in splits for r in self.data.split(name) if r.correction}

    @cached_property
    def maps(self) -> MapFile:
        """The maps of the train split.

        Raises:
            UserError: there are none for these settings.
        """
        return MapFile(self.folder("maps") / "maps.h5")

    def split(self, stage: str) -> str:
        """The split that a stage's maps or labels are of."""
        return (
            self.config.data.val
            if stage in ("predictions", "evaluation")
            else self.config.data.train
        )

    def label_file(self, labels: Labels, record: Record) -> Path | None:
        """The label image of a record; None where there is none."""
        if not self.has(labels.stage):
            return None
        file = self.folder(labels.stage) / labels.folder / f"{record.id}.png"
        return file if file.exists() else None

    def records(self, split: str, ids: Iterable[str] = ()) -> list[Record]:
        """The images of a split; with ``ids`` (or file names) those alone, in that order.

        Raises:
            UserError: an id that is not in the split; the nearest one is suggested.
        """
        known = {record.id: record for record in self.data.split(split)}
        wanted = [i if i in known else Path(i).stem for i in map(clean_id, ids)]
        for name, image_id in zip(ids, wanted):
            if image_id not in known:
                raise UserError(self._not_in(split, name, image_id, known))
        return [known[i] for i in wanted] if wanted else list(known.values())

    def _not_in(self, split: str, name: str, image_id: str, known: Iterable[str]) -> str:
        """Why there is no such photo in a split; where it is in the other one, what shows it."""
        for other, stages in (
            (self.config.data.train, "maps"),
            (self.config.data.val, "predictions"),
        ):
            if other != split and image_id in {r.id for r in self.data.split(other)}:
                command = command_about_this_run("inspect", stages, image_id)
                return (
                    f"{name}: this photo is in split {other!r}, and this is about the photos of "
                    f"split {split!r}. '{command}' shows it."
                )
        hint = suggestion(name, known, f"Look into splits/{split}.txt.")
        review = self.runner.context.review
        if review and not review.keeps(split, image_id):
            hint = "It is rejected in the file that data.review names."
        return f"{name}: there is no such photo in split {split!r}. {hint}"

    def class_id(self, name: str) -> int:
        """The label value of a class.

        Raises:
            UserError: no class has this name; the nearest one is suggested.
        """
        classes, name = self.data.classes, clean_name(name)
        if name not in classes:
            hint = suggestion(name, classes, f"Known are {', '.join(classes)}.")
            raise UserError(f"--class {name}: there is no such class. {hint}")
        return classes.index(name) + 1

    def truth(self, record: Record) -> np.ndarray | None:
        """The mask (H, W) of an image; None where it has none."""
        if record.mask is None:
            return None
        return self.data.read_mask(record)


def suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    """The nearest known names as a question, or ``otherwise``."""
    return did_you_mean(repr(one) for one in nearest(name, known)) or otherwise


def output_file(path: Path, artifacts: Path, data: Data | None = None) -> Path:
    """``path``, with its folder created where it is missing.

    Args:
        data: of the settings; None: nothing reads photos.

    Raises:
        UserError: it cannot be, or it is among the artifacts or the photos.
    """
    for photos in _photo_folders(data):
        if path.resolve().is_relative_to(photos.resolve()):
            raise UserError(
                f"{path}: got a place among the photos, in {photos}, where a run may read it as a "
                f"photo or as a class. Choose another one with -o."
            )
    if path.resolve().is_relative_to(artifacts.resolve()):
        raise UserError(
            f"{path}: got a place among the artifacts, which hold only what stages made. Choose "
            f"another one with -o."
        )
    with writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _photo_folders(data: Data | None) -> list[Path]:
    if data is None or data.root is None:
        return []
    names = {"folder": ["images"], "voc": ["JPEGImages"]}.get(data.kind, [data.train, data.val])
    return [Path(data.root).expanduser() / name for name in names]


def page_file(path: Path, artifacts: Path, example: str) -> Path:
    """``path`` of an HTML page such as ``example``, with its folder created where it is missing.

    Raises:
        UserError: as :func:`output_file`; or the name is not that of a page, so that it may be the
            file of something else, such as the decisions of a review.
    """
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        what = "a folder" if path.is_dir() else repr(path.name)
        raise UserError(f"{path}: got {what}, expected the name of an HTML file such as {example}.")
    return output_file(path, artifacts)


@contextmanager
def writes(path: Path) -> Iterator[None]:
    """A block that writes to ``path``: if it cannot, one sentence."""
    try:
        yield
    except OSError as error:
        place = error.filename2 or error.filename or path  # the first of a copy is its source
        raise UserError(
            f"{place}: cannot be written ({error.strerror or error}). Choose another place with "
            f"-o, or give write permission."
        ) from None


Track = Callable[..., Iterator[Any]]
