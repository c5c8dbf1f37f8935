"""Content digests of everything that a run reads: photos, labels, masks, files in settings.

Does not import torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from getam.cache import DataPart, FileDigests, Stage
from getam.config.schema import Config, Data
from getam.data.index import DataIndex, Record
from getam.data.review import Review
from getam.errors import UserError
from getam.running.external_data import external_files

OTHERS = {  # settings that may name a local file, and their other values
    "classifier.weights": ("timm", "none"),
    "deeplab.weights": ("classifier", "timm", "none"),
    "endtoend.weights": ("classifier", "deeplab", "timm", "none"),
    "pseudolabels.saliency_model": (),
}
SHIPPED = {"shapes": Path(__file__).resolve().parents[1] / "data" / "vit_shapes.safetensors"}


class Sources:
    """The files that stages read, with the content that the keys are made of.

    Each file belongs to a part of the data, such as ``images``, or to the setting that names it.
    """

    def __init__(self, digests: FileDigests) -> None:
        self._digests = digests
        self._known: dict[str, dict[Path, str]] = {}

    def digest(self, owner: str, paths: Iterable[Path]) -> dict[Path, str]:
        """Path -> digest of files of a data part or a setting."""
        digests = self._digests.digest(paths)
        self._known.setdefault(owner, {}).update(digests)
        return digests

    def recheck(self, stage: Stage) -> None:
        """Compare the files that a stage reads with what its key was made of.

        A file whose size, times and place on the disk are as before is not read again.

        Raises:
            UserError: a file has another content.
            CacheError: a file cannot be read.
        """
        for owner, known in self._known.items():
            read = owner in stage.data or any(f"{owner}.".startswith(f"{r}.") for r in stage.reads)
            now = self._digests.digest(known) if read else {}
            for path, digest in now.items():
                if digest != known[path]:
                    raise UserError(
                        f"{path} changed after the run had started, so stage {stage.name!r} would "
                        f"not be what its key says. Run again when the file is as it should be."
                    )


def photo_digests(index: DataIndex, data: Data, sources: Sources) -> dict[str, str]:
    """Image id -> content digest of each photo of the train and val split."""
    return _file_items("images", _used(index, data).values(), "image", sources)


def _used(index: DataIndex, data: Data) -> dict[str, Record]:
    return {record.id: record for n in (data.train, data.val) for record in index.split(n)}


def data_parts(
    index: DataIndex,
    data: Data,
    parts: Collection[str],
    sources: Sources,
    photos: Mapping[str, str],
) -> dict[str, DataPart]:
    """Content digests of a data set, in the ``parts`` that stages read.

    ``images`` (``photos`` are their :func:`photo_digests`), ``labels``, ``saliency`` and ``masks``
    belong to the photos of the train and val split, ``val_masks`` to the val split alone;
    ``splits`` are the lists of ids. ``test`` are the photos of the test split. ``annotations`` are
    the files that the labels and masks of COCO are made from. ``corrections`` are the corrected
    masks of train photos outside the sample, ``sample`` those of the sample.
    """
    splits = (data.train, data.val)
    of_splits = _used(index, data).values()
    sample = [record for record in of_splits if record.in_sample]
    tables = {
        "images": lambda: _photo_items(index, photos),
        "labels": lambda: _label_items(index, splits, of_splits),
        "splits": lambda: _split_items(index, splits),
        "saliency": lambda: _file_items("saliency", of_splits, "saliency", sources),
        "masks": lambda: _file_items("masks", of_splits, "mask", sources),
        "val_masks": lambda: _file_items("val_masks", index.split(data.val), "mask", sources),
        "test": lambda: _file_items("test", index.split(data.test), "image", sources),
        "annotations": lambda: _annotation_items(index, data, sources),
        "corrections": lambda: _correction_items(index, data, sources),
        "sample": lambda: _sample_items(sample, sources),
    }
    lists = [index.root / index.lists / f"{name}.txt" for name in splits]
    for part, named in (("labels", [*lists, *label_files(index, of_splits)]), ("splits", lists)):
        if part in parts:
            sources.digest(part, [file for file in named if file.is_file()])
    return {part: DataPart.of_items(tables[part]()) for part in sorted(parts)}


def review_parts(index: DataIndex, data: Data, review: Review | None) -> dict[str, DataPart]:
    """What a review changes in the labels and splits that the stage ``data`` makes.

    The labels themselves count through the key of that stage. A line with classes counts as a
    change even if it says what the annotations say, which are not read here.

    Args:
        index: the photos before the review.
    """
    if review is None:
        return {"labels": DataPart.of_items({}), "splits": DataPart.of_items({})}
    train, val = ({r.id for r in index.splits.get(n, ())} for n in (data.train, data.val))
    rejected = {i: review.verdicts[i] for i in train if not review.keeps(data.train, i)}
    corrected = {
        image_id: f"labelled {', '.join(names)}"
        for image_id, names in review.classes.items()
        if image_id in train | val
    }
    labels = DataPart.of_items(corrected | rejected)
    return {"labels": labels, "splits": DataPart.of_items(rejected)}


def label_files(index: DataIndex, records: Iterable[Record]) -> list[Path]:
    """Where image-level labels may come from: the tables of a data folder, VOC's annotations."""
    tables = [index.root / name for name in ("labels.csv", "labels.json", "classes.txt")]
    annotations = index.root / "Annotations"
    of_voc = [annotations / f"{r.id}.xml" for r in records] if annotations.is_dir() else []
    return [*tables, *of_voc]


def _annotation_items(index: DataIndex, data: Data, sources: Sources) -> dict[str, str]:
    """The annotation file of each split, or the image ids of a split without such a file."""
    from getam.data.coco import annotation_files

    splits = [name for name in (data.train, data.val, data.test) if name]
    files = {name: file for name, file in annotation_files(index.root).items() if name in splits}
    hashed = sources.digest("annotations", files.values())
    listed = {n: " ".join(r.id for r in index.split(n)) for n in splits if n not in files}
    return {name: hashed[file] for name, file in files.items()} | listed


def _file_items(
    part: str, records: Iterable[Record], attribute: str, sources: Sources
) -> dict[str, str]:
    paths = {record.id: getattr(record, attribute) for record in records}
    paths = {image_id: path for image_id, path in paths.items() if path is not None}
    hashed = sources.digest(part, paths.values())
    return {image_id: hashed[path] for image_id, path in paths.items()}


def _correction_items(index: DataIndex, data: Data, sources: Sources) -> dict[str, str]:
    records = [record for record in index.split(data.train) if not record.in_sample]
    return _file_items("corrections", records, "correction", sources)


def _sample_items(sample: Collection[Record], sources: Sources) -> dict[str, str]:
    """A photo without a mask counts too: else a sample that grew would seem to be measured."""
    missing = {record.id: "no mask" for record in sample if record.correction is None}
    return missing | _file_items("sample", sample, "correction", sources)


def _photo_items(index: DataIndex, photos: Mapping[str, str]) -> Mapping[str, str]:
    """With the range of photos of more than 8 bits, where there are any."""
    if index.intensities is None:
        return photos
    return {**photos, "data.intensity_range": "{:.17g} {:.17g}".format(*index.intensities)}


def _split_items(index: DataIndex, splits: Sequence[str]) -> dict[str, str]:
    return {f"split {n}": " ".join(r.id for r in index.split(n)) for n in splits}


def _label_items(
    index: DataIndex, splits: Sequence[str], records: Iterable[Record]
) -> dict[str, str]:
    items = {"classes.txt": "\n".join(index.classes)} | _split_items(index, splits)
    for record in records:
        labels = record.labels
        named = None if labels is None else ", ".join(index.classes[c - 1] for c in labels)
        items[record.id] = "not labelled" if named is None else f"labelled {named}"
    return items


def by_content(config: Config, sources: Sources) -> tuple[dict[str, Any], dict[str, Path]]:
    """The settings, with content digests in place of the paths of local files; and these paths."""
    settings = config.model_dump(mode="json")
    files: dict[str, Path] = {}
    for name, others in OTHERS.items():
        section, field_name = name.split(".")
        value = settings[section][field_name]
        if value is None or value in others:
            continue
        file = SHIPPED.get(value, Path(value).expanduser())
        if not file.is_file():
            words = f", or one of {', '.join(others)}, shapes" if others else ""
            raise UserError(
                f"{name}: got {value!r}, but there is no such file. Expected the path of a local "
                f"file{words}."
            )
        files[name] = file
        settings[section][field_name] = f"sha256:{_digest(name, file, sources)[:20]}"
    return settings, files


def _digest(name: str, file: Path, sources: Sources) -> str:
    """That of a file that a setting names, and of the files that belong to it."""
    if name != "pseudolabels.saliency_model":
        return sources.digest(name, [file])[file]
    others = external_files(file)
    digests = sources.digest(name, [file, *others])
    if not others:
        return digests[file]
    listed = "".join(f"{path.relative_to(file.parent)} {digests[path]}\n" for path in others)
    return hashlib.sha256(f"{digests[file]}\n{listed}".encode()).hexdigest()
