"""From a configuration to a runner: data fingerprints, weights files, device and workers.

Nothing here imports torch: a run with nothing to do needs none.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from getam import ranks
from getam.cache import DataPart, FileDigests, Runner, Stage, Store, library_versions
from getam.config import Config, Data
from getam.data.index import DataIndex, Record
from getam.errors import UserError
from stages.chain import chain

CODE = Path(__file__).resolve().parents[1]
EXPECTED = {  # settings that may name a local file, and what else they may be
    "classifier.weights": ", timm, shapes or none",
    "deeplab.weights": ", classifier, timm, shapes or none",
    "endtoend.weights": ", timm, shapes or none",
    "pseudolabels.saliency_model": "",
}
SHIPPED = {"shapes": CODE / "getam" / "data" / "vit_shapes.safetensors"}
LIBRARIES = ("getam", "torch", "torchvision", "timm", "numpy", "segmentation-models-pytorch")


@dataclass
class Context:
    """What a run brings along that no result depends on: places, device, workers, progress.

    ``index`` is the user's data set, read once; of COCO only its photos are in it.
    ``files`` maps a setting such as ``classifier.weights`` to the local file it names; the
    setting itself then holds the file's content digest.
    """

    root: Path | None = None
    index: DataIndex | None = None
    saliency: Path | None = None
    wanted_device: str | None = None
    wanted_workers: int | str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    track: Callable[..., Any] = lambda iterable, **_: iterable

    @cached_property
    def device(self) -> str:
        """The device asked for; otherwise a GPU where there is one.

        Raises:
            UserError: torch does not know the device, or cannot use it.
        """
        import torch

        if self.wanted_device is None:
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(1, device=self.wanted_device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"--device {self.wanted_device}: torch cannot use it ({reason}). Use cpu, or "
                f"install a torch for this device."
            ) from None
        return self.wanted_device

    @property
    def workers(self) -> int:
        """Processes for work on the CPU; those of a team on one machine share its cores."""
        wanted = _cores() if self.cluster else self.wanted_workers or _cores()
        return max(1, wanted // ranks.count_here())

    @property
    def cluster(self) -> str | None:
        """The address (``tcp://HOST:PORT``) of the Dask scheduler that labels are made with."""
        if not isinstance(self.wanted_workers, str):
            return None
        return self.wanted_workers.replace("dask://", "tcp://", 1)

    @property
    def loader_workers(self) -> int:
        """Processes that load images while a network trains; on a CPU they would only compete."""
        return 0 if self.device == "cpu" else min(self.workers, 16)

    def file(self, name: str, setting: str) -> str:
        """The file that a setting names, or the setting itself where it names none."""
        return str(self.files.get(name, setting))


def open_runner(
    config: Config,
    artifacts: Path,
    *,
    device: str | None = None,
    workers: int | str | None = None,
    track: Callable[..., Any] = lambda iterable, **_: iterable,
    stages_of: Callable[[Config], list[Stage]] = chain,
    **options: Any,
) -> Runner:
    """The runner of a configuration over an artifacts folder; ``options`` are the runner's.

    Raises:
        UserError: a data folder or weights file that is missing or wrong.
    """
    store = Store(artifacts)
    settings, files = _by_content(config, store.files)
    stages = stages_of(config)
    context = Context(wanted_device=device, wanted_workers=workers, files=files, track=track)
    data = {}
    if config.data.kind != "shapes":
        context.root = _root(config)
        context.saliency = context.root / config.data.saliency
        index = read_data(config, context.root, context.saliency)
        used = {part for stage in stages for part in stage.data}
        data = data_parts(index, config.data, used, store.files)
        context.index = index if config.data.kind == "coco" else index.subset(config.data.classes)

    def info() -> dict[str, Any]:
        versions = {"python": platform.python_version(), **library_versions(LIBRARIES)}
        return {"libraries": versions, "device": context.device, "seed": config.seed}

    return Runner(store, stages, settings, data, CODE, context, info=info, **options)


def read_data(config: Config, root: Path, saliency: Path) -> DataIndex:
    """The user's data set as its files tell it; of COCO the photos alone.

    Raises:
        UserError: what the kind of data expects is missing or wrong.
    """
    data = config.data
    if data.kind == "voc":
        from getam.data.voc import read_voc

        splits = [name for name in (data.train, data.val, data.test) if name]
        return read_voc(root, saliency, splits, data.difficult)
    if data.kind == "coco":
        from getam.data.coco import read_coco_photos

        return read_coco_photos(root, saliency)
    from getam.data.folder import read_folder

    return read_folder(root, saliency)


def check_data(config: Config, deep: bool = False) -> dict[str, Any]:
    """What a data set has and what is wrong with it (see ``getam.data.check``).

    Raises:
        UserError: it cannot be read at all.
    """
    from getam.data.check import check

    data = config.data
    if data.kind == "shapes":
        raise UserError(
            "data.kind: shapes is generated and needs no check. Add --set data.kind=folder, voc or "
            "coco, and data.root."
        )
    root = _root(config)
    expected = {}
    if data.kind == "coco":
        from getam.data.coco import read_coco

        index = read_coco(root, root / data.saliency)
    elif data.kind == "voc":
        from getam.data.voc import SIZES, read_voc

        expected = SIZES
        index = read_voc(root, root / data.saliency, difficult=data.difficult)
    else:
        index = read_data(config, root, root / data.saliency)
    return check(
        index.subset(data.classes),
        [name for name in (data.train, data.val, data.test) if name],
        deep=deep,
        needs_saliency="folder" in config.pseudolabels.saliency,
        expected=expected,
    )


def data_parts(
    index: DataIndex, data: Data, parts: Collection[str], digests: FileDigests
) -> dict[str, DataPart]:
    """Content fingerprints of a data set, apart for what stages read apart.

    images, labels, saliency and masks are those of the train and val split; test are the images
    of the test split, annotations the files that COCO's labels and masks are made from.
    """
    splits = (data.train, data.val)
    records = {record.id: record for name in splits for record in index.split(name)}
    of_splits = records.values()
    tables = {
        "images": lambda: _file_items(of_splits, "image", digests),
        "labels": lambda: _label_items(index, splits, of_splits),
        "saliency": lambda: _file_items(of_splits, "saliency", digests),
        "masks": lambda: _file_items(of_splits, "mask", digests),
        "val_masks": lambda: _file_items(index.split(data.val), "mask", digests),
        "test": lambda: _file_items(index.split(data.test), "image", digests),
        "annotations": lambda: _annotation_items(index, data, digests),
    }
    return {part: DataPart.of_items(tables[part]()) for part in sorted(parts)}


def _annotation_items(index: DataIndex, data: Data, digests: FileDigests) -> dict[str, str]:
    """The annotation file of each split; without one, the ids of its images."""
    from getam.data.coco import annotation_files

    splits = [name for name in (data.train, data.val, data.test) if name]
    files = {name: file for name, file in annotation_files(index.root).items() if name in splits}
    hashed = digests.digest(files.values())
    listed = {n: " ".join(r.id for r in index.split(n)) for n in splits if n not in files}
    return {name: hashed[file] for name, file in files.items()} | listed


def _file_items(records: Iterable[Record], attribute: str, digests: FileDigests) -> dict[str, str]:
    paths = {record.id: getattr(record, attribute) for record in records}
    paths = {image_id: path for image_id, path in paths.items() if path is not None}
    hashed = digests.digest(paths.values())
    return {image_id: hashed[path] for image_id, path in paths.items()}


def _label_items(
    index: DataIndex, splits: Sequence[str], records: Iterable[Record]
) -> dict[str, str]:
    items = {"classes.txt": "\n".join(index.classes)}
    for name in splits:
        items[f"splits/{name}.txt"] = " ".join(record.id for record in index.split(name))
    for record in records:
        labels = record.labels
        named = None if labels is None else ", ".join(index.classes[c - 1] for c in labels)
        items[record.id] = "not labelled" if named is None else f"labelled {named}"
    return items


def _by_content(config: Config, digests: FileDigests) -> tuple[dict[str, Any], dict[str, Path]]:
    """The settings with the content digest of each local file in place of its path."""
    settings = config.model_dump(mode="json")
    files: dict[str, Path] = {}
    for name in EXPECTED:
        section, field_name = name.split(".")
        value = settings[section][field_name]
        if value is None or value in ("timm", "none", "classifier"):
            continue
        file = SHIPPED.get(value, Path(value).expanduser())
        if not file.is_file():
            raise UserError(
                f"{name}: got {value!r}, but there is no such file; expected a local file"
                f"{EXPECTED[name]}."
            )
        files[name] = file
        settings[section][field_name] = f"sha256:{digests.digest([file])[file][:20]}"
    return settings, files


def _root(config: Config) -> Path:
    if config.data.root is None:
        raise UserError(
            "data.root is not set: expected the data folder. Add --set data.root=FOLDER, or "
            "root: FOLDER under data: in the config file."
        )
    return Path(config.data.root).expanduser().absolute()


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)
