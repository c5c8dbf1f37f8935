"""Checks of the data of a run, before its first stage: photos, splits, masks, saliency maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from getam.cache import in_threads
from getam.data.broken_off import check_whole
from getam.data.class_names import counted
from getam.data.images import image_size, turned_hint
from getam.data.label_values import IGNORE, MOST_CLASSES
from getam.data.masks import check_saliency_header, check_saliency_values, read_mask, read_saliency
from getam.data.sample_check import check_sample_masks, check_sample_photos
from getam.data.sampling import evenly
from getam.errors import UserError
from getam.running.example import drawn_index

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record
    from getam.labels.saliency import Saliency, SaliencyModel

SALIENCY_LOOKED_AT = 1000  # saliency maps whose headers are read before a run


def data_of(job: Job) -> DataIndex | None:
    """The user's data set; None where the stage ``data`` makes it."""
    return None if "data" in job.inputs else job.context.index


def check_photos(job: Job) -> None:
    """No photo of the user's may break off: by the end of its file, and if in doubt decoded.

    Raises:
        UserError: one does.
    """
    index, names = job.context.index, job.config.data
    if index is not None:
        used = [name for name in (names.train, names.val, names.test) if name]
        check_whole(record.image for name in used for record in index.split(name))


def check_splits(job: Job) -> None:
    """Train and val must be there, have image-level labels, and share no photo.

    Raises:
        UserError: one of these does not hold.
    """
    data, names = data_of(job), job.config.data
    if data is None:
        return
    train, val = data.labelled(names.train), data.labelled(names.val)
    both = {record.id for record in train} & {record.id for record in val}
    if both:
        raise UserError(
            f"{data.root}: {counted(len(both), 'photo is', 'photos are')} in train and in val, "
            f"{min(both)!r} first; expected none. Figures on photos that the network learnt from "
            f"say nothing: take them out of one of {data.lists}/{names.train}.txt and "
            f"{data.lists}/{names.val}.txt."
        )


def check_masks(
    data: DataIndex, records: Sequence[Record], most: int | None = None, decoded: bool = False
) -> None:
    """Masks must have the size of their photos (by the headers), and one of them a labelled pixel.

    Args:
        most: only so many masks are looked at, at equal distances.
        decoded: all pixels are looked at. For masks that a training reads, which is repeated if
            one has to be mended later.

    Raises:
        UserError: a mask of another size, or masks that are 255 everywhere; ``decoded``, also what
            :meth:`getam.data.index.DataIndex.read_mask` refuses.
    """
    measured = [record for record in records if record.mask is not None]
    measured = evenly(measured, most) if most else measured
    remedy = "Draw it at the size of the upright photo, or remove it."
    _check_sizes("mask", {record.image: record.mask for record in measured}, remedy)
    if decoded:
        in_threads(lambda record: data.read_mask(record).size, measured)
    if measured and all((data.read_mask(record) == IGNORE).all() for record in measured):
        raise UserError(
            f"{data.root}: all {len(measured)} masks of this split are 255 (ignore) everywhere, so "
            f"nothing can be measured. Set their pixels to class ids, or remove the masks."
        )


def _check_sizes(what: str, files: Mapping[Path, Path], remedy: str) -> None:
    """Each photo -> its mask or saliency map must have one size, by their headers."""

    def sizes_of(pair: tuple[Path, Path]) -> tuple[tuple[int, int], tuple[int, int]]:
        return image_size(pair[0]), image_size(pair[1], what)

    sizes = in_threads(sizes_of, [*files.items()])
    for file, (photo, found) in zip(files.values(), sizes):
        if photo != found:
            raise UserError(
                f"{file}: got a {what} of {found[1]} x {found[0]} pixels (width x height), "
                f"expected {photo[1]} x {photo[0]} as its photo has.{turned_hint(found, photo)} "
                f"{remedy}"
            )


def check_corrections(job: Job, which: Callable[[Record], bool]) -> None:
    """The corrected masks of the photos ``which`` must have their size, and ids of classes.

    Raises:
        UserError: one cannot be read, has another size, or a value that is no class.
    """
    corrections, data = job.context.corrections, job.context.index
    if corrections is None:
        return
    drawn = data is None
    data = data or drawn_index(job.config.data.shapes).with_corrections(corrections)
    splits = (job.config.data.train, job.config.data.val)
    records = {r.id: r for name in splits for r in data.split(name) if r.correction and which(r)}
    side = job.config.data.shapes.size
    classes = len(data.mask_classes or data.classes) or MOST_CLASSES  # of COCO: not known yet

    def read(record: Record) -> None:
        size = (side, side) if drawn else image_size(record.image)
        read_mask(record.correction, size, classes)

    in_threads(read, [*records.values()])


def check_sample(job: Job) -> None:
    """The photos of the sample must have corrected masks, and get final masks.

    Raises:
        UserError: one does not.
    """
    data, corrections = data_of(job), job.context.corrections
    if corrections is None:
        return
    check_sample_masks(corrections)
    if data is not None:
        names = (job.config.data.train, job.config.data.val)
        check_sample_photos(corrections, data, names, job.context.review)


def check_saliency(saliency: Saliency, records: Sequence[Record], decoded: bool = False) -> None:
    """Saliency maps must have the size of their photos (by the headers of some, at equal
    distances), no transparency and values above 1; a saliency model must give one for a photo.

    With ``decoded`` all pixels of all maps are looked at, as for :func:`check_masks`.

    Raises:
        UserError: one of these does not hold.
    """
    if "folder" in saliency.sources:
        some = evenly(records, SALIENCY_LOOKED_AT)
        remedy = "Make it again at the size of the upright photo."
        _check_sizes("saliency map", {record.image: record.saliency for record in some}, remedy)
        maps = [record.saliency for record in some]
        in_threads(check_saliency_header, maps)
        check_saliency_values(maps)
        if decoded:
            in_threads(_decode_saliency, records)
    if saliency.model is not None:
        _try_model(saliency.model)


def _decode_saliency(record: Record) -> None:
    read_saliency(record.saliency, image_size(record.image))


def _try_model(model: SaliencyModel) -> None:
    try:
        model(np.zeros((8, 8, 3), np.uint8))
    except UserError:
        raise
    except Exception as error:  # the exceptions of onnxruntime have no narrower base
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"pseudolabels.saliency_model: {model.path} gives no saliency map ({reason}). Expected "
            f"a model with input (1, 3, S, S) and first output (1, 1, S, S), such as U2-Net."
        ) from None
