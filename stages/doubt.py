"""doubt: orders the photos by how doubtful their final masks and labels are. It reads no masks.

needs   the final masks of the stage predictions, and the network that made them; the labelled
        photos of train and val
makes   doubt.csv: image, split, doubt (0 to 1, the most doubtful photo first), reason
        label_errors.csv: image, split, probability (0 to 1, that an image-level label is wrong or
        missing; the highest first), class (the most likely one), labelled (yes or no)
        summary.json: the agreement of the final masks with readouts that learnt from the final
        masks of other photos (getam/labels/label_agreement.py), and its IoU per class
        agreement.npy: the pixels of each photo that the agreement is made of
costs   one forward pass and 50 D + 32 (C + 1) bytes of memory per photo; while it runs, 2 D h w
        bytes of disk per photo
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from getam.data.ahead import Behind, read_ahead
from getam.data.images import image_size, read_photo
from getam.data.masks import read_mask
from getam.data.transforms import letterbox, normalise_images, on_device, resize_maps
from getam.labels.label_agreement import COUNTS, Agreement
from getam.labels.label_odds import LabelErrors, held_out_expectation, label_errors, pooled
from getam.labels.photo_doubt import Evidence, doubt_of, evidence, joined, label_reason
from getam.labels.readout import FINE, held_out_answers, on_patches, patch_grid
from getam.networks.build import load_network, network_build, normalisation
from getam.networks.encoder_outputs import outputs_of
from getam.networks.precision import autocast
from stages.predictions import FINAL
from stages.shared import batches, multi_hot, open_data, per_class

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record

SHARD = 32  # photos in a file; a killed run loses at most the work of two files

DOUBT = ("image", "split", "doubt", "reason")
LABEL_ERRORS = ("image", "split", "probability", "class", "labelled")


def run(job: Job) -> dict[str, Any]:
    data, names = open_data(job), job.config.data
    split_of = {r.id: split for split in (names.val, names.train) for r in data.split(split)}
    both = {r.id: r for split in (names.train, names.val) for r in data.split(split)}
    records = [record for record in both.values() if record.labels is not None]
    look = Look(job, data, records)
    look.keep_all()

    agreement = Agreement(len(data.classes))
    answers = held_out_answers(look.patches, len(data.classes) + 1)
    doubts, reasons, features = [], [], np.empty((len(records), 0), np.float32)
    for n, (record, seen, answer) in enumerate(zip(records, look.again(), answers)):
        agreement.update(answer.argmax(0), seen.mask, record.labels)
        second = evidence(answer, seen.mask, record.labels, soft=False)
        doubt, reason = doubt_of(record.labels, seen.network, second, data.classes)
        doubts.append(doubt)
        reasons.append(reason)
        if not n:  # one array: many small ones would leave gaps in the memory of the others
            features = np.empty((len(records), len(seen.pooled)), np.float32)
        features[n] = seen.pooled
    labels = multi_hot(records, len(data.classes))
    errors = label_errors(held_out_expectation(features, labels), labels)
    found = [*with_labels(doubts, reasons, errors, labels, data.classes)]
    photos = [(record.id, split_of[record.id]) for record in records]
    worst = [(data.classes[c], "yes" if own[c] else "no") for c, own in zip(errors.worst, labels)]
    _write_table(job.folder / "doubt.csv", DOUBT, photos, found)
    _write_table(
        job.folder / "label_errors.csv",
        LABEL_ERRORS,
        photos,
        [(float(p), *named) for p, named in zip(errors.probability, worst)],
    )
    summary = {
        "agreement": agreement.value(),
        "mean doubt": float(np.mean([doubt for doubt, _ in found])),
        "photos": len(found),
    }
    ious = per_class(("background", *data.classes), agreement.ious())
    text = json.dumps({**summary, "IoU per class": ious}, indent=1)
    (job.folder / "summary.json").write_text(text, encoding="utf-8")
    agreement.save(job.folder / COUNTS)
    return summary


def with_labels(
    doubts: Sequence[float],
    reasons: Sequence[str],
    errors: LabelErrors,
    labels: np.ndarray,
    names: Sequence[str],
) -> Iterator[tuple[float, str]]:
    """The doubt and the reason of each of N photos, with the probability of an error in its labels.

    Args:
        doubts: from the pixels of each photo, with the reasons.
        labels: (N, C) bool.
    """
    for n, (doubt, error) in enumerate(zip(doubts, errors.probability.tolist())):
        worst, reason = errors.worst[n], reasons[n]
        if error > max(doubt, 0.5):
            reason = label_reason(names[worst], present=bool(labels[n, worst]))
        yield joined(doubt, error), reason


def _write_table(
    path: Path,
    header: Sequence[str],
    photos: Sequence[tuple[str, str]],
    values: Sequence[tuple[float, ...]],
) -> None:
    """A line for each photo: its id and split, and its values, the highest first value first."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    order = sorted(zip(photos, values), key=lambda row: (-row[1][0], row[0][0]))
    for photo, (value, *more) in order:
        table.writerow((*photo, f"{value:.4f}", *more))
    path.write_text(text.getvalue(), encoding="utf-8")


class Seen(NamedTuple):
    """A photo: its features (D, h, w), mask (4h, 4w), and the evidence of the network.

    ``pooled`` (4 D,) is made of its features and those of the lower block.
    """

    features: Tensor
    pooled: np.ndarray
    mask: np.ndarray
    network: Evidence


class Boxed(NamedTuple):
    """A photo, letterboxed (3, S, S) uint8, and its size (h, w) in the square."""

    pixels: Tensor
    size: tuple[int, int]


class Look:
    """Runs the network on photos, and keeps what is needed of them on disk until the stage ends."""

    def __init__(self, job: Job, data: DataIndex, records: Sequence[Record]) -> None:
        self.job, self.classes = job, len(data.classes)
        self.photos = [*batches(records, SHARD)]
        folder = job.inputs["deeplab" if "deeplab" in job.inputs else "endtoend"]
        self.network = load_network(folder, job.context.device)
        self.side = network_build(folder)["image_size"]
        self.statistics = normalisation(self.network)

    def keep_all(self) -> None:
        """Run the network on all photos. What an interrupted run kept is not computed again."""
        context, size = self.job.context, self.job.config.predictions.batch_size
        numbers = range(len(self.photos))
        todo = [r for n in numbers if not self._has(n) for r in self.photos[n]]
        read = read_ahead(self._boxed, todo, size, context.readers)
        with Behind() as behind:
            for number in context.track(numbers, unit=f"part of {SHARD} photo"):
                if not self._has(number):
                    photos = islice(read, len(self.photos[number]))
                    found = [seen for some in batches(photos, size) for seen in self._look(some)]
                    behind(self._write, number, found)

    def _has(self, number: int) -> bool:
        return self.job.pieces.has(self._path(number))

    def _write(self, number: int, found: Sequence[Seen]) -> None:
        arrays = {
            f"{what} {n}": value
            for n, (features, over_all, mask, network) in enumerate(found)
            for what, value in zip(KEPT, (features.half().numpy(), over_all, mask, *network))
        }
        path = self._path(number)
        with self.job.pieces.write(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **arrays)

    def again(self) -> Iterator[Seen]:
        """What was kept of the photos, in their order."""
        for number, records in enumerate(self.photos):
            with np.load(self._path(number), allow_pickle=False) as kept:
                for n in range(len(records)):
                    features, over_all, mask, *network = (kept[f"{what} {n}"] for what in KEPT)
                    patches = torch.from_numpy(features).float()
                    yield Seen(patches, over_all, mask, Evidence(*network))

    def patches(self) -> Iterator[tuple[Tensor, np.ndarray]]:
        """The features and the mask of each photo, in their order."""
        return ((seen.features, seen.mask) for seen in self.again())

    def _path(self, number: int) -> Path:
        return self.job.scratch / f"{number:05}.npz"

    def _boxed(self, record: Record) -> Boxed:
        """A photo as the network gets it."""
        pixels, size = letterbox(read_photo(record), self.side, self.network.stride)
        return Boxed(pixels, size)

    def _look(self, photos: Sequence[tuple[Record, Boxed]]) -> Iterator[Seen]:
        device = self.job.context.device
        batch = on_device(torch.stack([photo.pixels for _, photo in photos]), device)
        with autocast(self.job.config.predictions.precision, device):
            found = outputs_of(self.network, normalise_images(batch, self.statistics))
        features = found.features
        both = [features] if found.lower is None else [features, found.lower]
        for n, (record, (_, (h, w))) in enumerate(photos):
            rows, columns = patch_grid((h, w), batch.shape[2] / features.shape[2])
            probabilities = found.probabilities[n : n + 1, :, :h, :w]
            fine = resize_maps(probabilities, (rows * FINE, columns * FINE))
            mask = on_patches(self._mask(record), (rows, columns))
            network = evidence(
                fine[0].cpu().numpy(),
                mask,
                record.labels,
                soft=True,
                present=self.job.config.predictions.known_present,
            )
            whole = [pooled(one[n, :, :rows, :columns].cpu()) for one in both]
            own = features[n, :, :rows, :columns].cpu()
            yield Seen(own, np.concatenate(whole), mask, network)

    def _mask(self, record: Record) -> np.ndarray:
        """The final mask (H, W)."""
        path = self.job.inputs["predictions"] / FINAL / f"{record.id}.png"
        return read_mask(path, image_size(record.image), self.classes)


KEPT = ("features", "pooled", "mask", *Evidence._fields)
