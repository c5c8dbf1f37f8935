"""Opens the runner for a configuration and its stages. torch is imported when a stage runs."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from getam.cache import Event, Runner, Runs, Stage, Store, library_versions
from getam.config.loading import recorded
from getam.config.schema import Config, Data
from getam.data.corrections import Corrections, read_corrections
from getam.data.heic import check_readable
from getam.data.index import DataIndex
from getam.data.review import Review, reviewed
from getam.data.review_table import read_review
from getam.errors import UserError
from getam.running.context import Context
from getam.running.example import drawn_index
from getam.running.failures import in_a_sentence
from getam.running.fingerprints import (
    Sources,
    by_content,
    data_parts,
    photo_digests,
    review_parts,
)
from getam.running.intensities import Measured, intensity_range
from getam.running.processes import check_machines
from getam.running.same_run import name_of_this_run
from getam.training import distributed

CODE = Path(__file__).resolve().parents[2]  # the folder of the project's packages
LIBRARIES = ("getam", "torch", "torchvision", "timm", "numpy", "segmentation-models-pytorch")

Chain = Callable[[Config], list[Stage]]


def open_runner(
    chain: Chain,
    config: Config,
    artifacts: Path,
    *,
    device: str | None = None,
    workers: int | str | None = None,
    track: Callable[..., Any] = lambda iterable, **_: iterable,
    **options: Any,
) -> Runner:
    """The runner for the stages that ``chain`` gives for ``config``.

    Args:
        options: further arguments of ``getam.cache.Runner``.

    Raises:
        UserError: a data folder or a file of weights is missing or wrong.
    """
    store = Store(artifacts)
    sources = Sources(store.files)
    settings, files = by_content(config, sources)
    stages = chain(config)
    context = Context(wanted_device=device, wanted_workers=workers, files=files, track=track)
    used = {part for stage in stages for part in stage.data}
    if config.data.kind == "shapes":
        _refuse_root(config)
        index = drawn_index(config.data.shapes)
        context.review = review_of(config.data, index)
        context.corrections = corrections_of(config.data, Path(), index)
        made = review_parts(index, config.data, context.review)
        index = reviewed(index, context.review).with_corrections(context.corrections)
        data = data_parts(index, config.data, used - made.keys(), sources, {}) | made
    else:
        context.root = root_of(config)
        context.saliency = context.root / config.data.saliency
        on_disk = read_data(config, context.root, context.saliency)
        context.review = review_of(config.data, on_disk)
        index = reviewed(on_disk, context.review)
        named = used_splits(config.data)
        check_readable(r.image for name in named for r in index.splits.get(name, ()))
        photos = photo_digests(index, config.data, sources)
        measured = Measured(store.hidden / "intensities")
        context.intensities = intensity_range(index, config.data, photos, measured, track)
        context.on_disk = on_disk.with_intensities(context.intensities)
        context.corrections = corrections_of(config.data, context.root, on_disk)
        index = index.with_intensities(context.intensities).with_corrections(context.corrections)
        options["report"] = _saving(measured, options.get("report"))
        made = {}
        if config.data.kind == "coco":
            made = review_parts(on_disk, config.data, context.review)
        data = data_parts(index, config.data, used - made.keys(), sources, photos) | made
        context.index = index if config.data.kind == "coco" else index.subset(config.data.classes)

    @cache
    def versions() -> dict[str, str | None]:
        return {"python": platform.python_version(), **library_versions(LIBRARIES)}

    def info() -> dict[str, Any]:
        return {"libraries": versions(), "device": context.device, "seed": config.seed}

    def circumstances() -> dict[str, Any]:  # asked for before checks, if a stage will run
        check_machines(context)
        sample = sorted(context.corrections.sample) if context.corrections else []
        return {"libraries": versions(), "processes": distributed.planned(), "sample": sample}

    call = options.pop("call", lambda function, job: function(job))
    options["call"] = in_a_sentence(call)
    known = {
        "info": info,
        "settings": recorded(config),
        "recheck": sources.recheck,
        "circumstances": circumstances,
    }
    runner = Runner(store, stages, settings, data, CODE, context, **{**known, **options})
    if name := name_of_this_run() or options.get("run_name"):
        runner.former = Runs(artifacts).read(name)["keys"]
    return runner


def _saving(measured: Measured, report: Callable[[Event], None] | None) -> Callable[[Event], None]:
    """Report the events of a run; at the first one, what was measured for it is kept."""

    def tell(event: Event) -> None:
        measured.save()
        if report:
            report(event)

    return tell


def read_data(
    config: Config, root: Path, saliency: Path, problems: list[str] | None = None
) -> DataIndex:
    """Read the user's data set; for COCO only the photos, and the classes if a review names some.

    Args:
        problems: of a folder, gets the mistakes in its table and lists; None: they are raised.

    Raises:
        UserError: a file that ``data.kind`` expects is missing or wrong.
    """
    data = config.data
    splits = used_splits(data)
    if data.kind == "voc":
        from getam.data.voc import read_voc

        return read_voc(root, saliency, splits, data.difficult)
    if data.kind == "coco":
        from getam.data.coco import read_coco_photos
        from getam.data.coco_classes import coco_classes

        photos = read_coco_photos(root, saliency, splits)
        return replace(photos, classes=coco_classes(root, splits)) if data.review else photos
    from getam.data.folder import read_folder

    return read_folder(root, saliency, problems=problems)


def review_of(data: Data, index: DataIndex) -> Review | None:
    """The review of the photos that ``data.review`` names; ``index`` has all classes."""
    if data.review is None:
        return None
    return read_review(Path(data.review).expanduser(), index, data.train)


def corrections_of(data: Data, root: Path, index: DataIndex) -> Corrections | None:
    """The masks of ``data.corrections``, if it is set; ``index`` has all photos."""
    if data.corrections is None:
        return None
    given = Path(data.corrections).expanduser()
    photos = {record.id for records in index.splits.values() for record in records}
    return read_corrections(root / given if (root / given).is_dir() else given, photos)


def used_splits(data: Data) -> list[str]:
    """The splits that a run uses."""
    return [name for name in (data.train, data.val, data.test) if name]


def _refuse_root(config: Config) -> None:
    """The embedded example must not be taken for the photos of a folder.

    Raises:
        UserError: ``data.root`` is set beside it.
    """
    if config.data.root is not None:
        raise UserError(
            f"data.root: got {config.data.root}, but these settings are about the embedded example "
            f"(data.kind is shapes), which reads no folder. For your own photos add --config "
            f"folder (or voc12, coco14), before any --config of your own; for the example add "
            f"--set data.root=null."
        )


def root_of(config: Config) -> Path:
    if config.data.root is None:
        raise UserError(
            "data.root is not set, expected the path of the data folder. Add --set "
            "data.root=FOLDER, or root: FOLDER under data: in the config file."
        )
    return Path(config.data.root).expanduser().absolute()
