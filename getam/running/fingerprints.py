"""Content digests of everything that a run reads: photos, labels, masks, files in settings.

Does not import torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from getam.cache import DataPart, FileDigests
from getam.config.schema import Config, Data
from getam.data.index import DataIndex, Record
from getam.errors import UserError

EXPECTED = {  # settings that may name a local file, and their other values
    "classifier.weights": ", timm, shapes or none",
    "deeplab.weights": ", classifier, timm, shapes or none",
    "endtoend.weights": ", timm, shapes or none",
    "pseudolabels.saliency_model": "",
}
SHIPPED = {"shapes": Path(__file__).resolve().parents[1] / "data" / "vit_shapes.safetensors"}


def photo_digests(index: DataIndex, data: Data, digests: FileDigests) -> dict[str, str]:
    """Image id -> content digest of each photo of the train and val split."""
    return _file_items(_used(index, data).values(), "image", digests)


def _used(index: DataIndex, data: Data) -> dict[str, Record]:
    return {record.id: record for n in (data.train, data.val) for record in index.split(n)}


def data_parts(
    index: DataIndex,
    data: Data,
    parts: Collection[str],
    digests: FileDigests,
    photos: Mapping[str, str],
) -> dict[str, DataPart]:
    """Content digests of a data set, in the ``parts`` that stages read.

    ``images`` (``photos`` are their :func:`photo_digests`), ``labels``, ``saliency`` and ``masks``
    belong to the photos of the train and val split, ``val_masks`` to the val split alone;
    ``splits`` are the lists of ids. ``test`` are the photos of the test split. ``annotations`` are
    the files that the labels and masks of COCO are made from.
    """
    splits = (data.train, data.val)
    of_splits = _used(index, data).values()
    tables = {
        "images": lambda: _photo_items(index, photos),
        "labels": lambda: _label_items(index, splits, of_splits),
        "splits": lambda: _split_items(index, splits),
        "saliency": lambda: _file_items(of_splits, "saliency", digests),
        "masks": lambda: _file_items(of_splits, "mask", digests),
        "val_masks": lambda: _file_items(index.split(data.val), "mask", digests),
        "test": lambda: _file_items(index.split(data.test), "image", digests),
        "annotations": lambda: _annotation_items(index, data, digests),
    }
    return {part: DataPart.of_items(tables[part]()) for part in sorted(parts)}


def _annotation_items(index: DataIndex, data: Data, digests: FileDigests) -> dict[str, str]:
    """The annotation file of each split, or the image ids of a split without such a file."""
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


def _photo_items(index: DataIndex, photos: Mapping[str, str]) -> Mapping[str, str]:
    """With the range of photos of more than 8 bits, where there are any."""
    if index.intensities is None:
        return photos
    return {**photos, "data.intensity_range": "{:g} {:g}".format(*index.intensities)}


def _split_items(index: DataIndex, splits: Sequence[str]) -> dict[str, str]:
    return {f"splits/{n}.txt": " ".join(r.id for r in index.split(n)) for n in splits}


def _label_items(
    index: DataIndex, splits: Sequence[str], records: Iterable[Record]
) -> dict[str, str]:
    items = {"classes.txt": "\n".join(index.classes)} | _split_items(index, splits)
    for record in records:
        labels = record.labels
        named = None if labels is None else ", ".join(index.classes[c - 1] for c in labels)
        items[record.id] = "not labelled" if named is None else f"labelled {named}"
    return items


def by_content(config: Config, digests: FileDigests) -> tuple[dict[str, Any], dict[str, Path]]:
    """The settings, with content digests in place of the paths of local files; and these paths."""
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
                f"{name}: got {value!r}, but there is no such file. Expected the path of a local "
                f"file{EXPECTED[name]}."
            )
        files[name] = file
        settings[section][field_name] = f"sha256:{digests.digest([file])[file][:20]}"
    return settings, files
