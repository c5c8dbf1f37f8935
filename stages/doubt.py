"""doubt: orders the photos by how doubtful their final masks and labels are. It reads no masks.

needs   the final masks of the stage predictions, and the network that made them; the labelled
        photos of train and val
makes   doubt.csv: image, split, doubt (0 to 1, the most doubtful photo first), reason
        summary.json: the agreement of the final masks with readouts that learnt from the final
        masks of other photos (getam/labels/label_agreement.py), and its IoU per class
costs   one forward pass per photo; while it runs, 2 D h w bytes of disk per photo
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from getam.data.images import image_size, read_mask, read_photo
from getam.data.transforms import letterbox, normalise_images, resize_maps
from getam.labels.label_agreement import Agreement
from getam.labels.photo_doubt import Evidence, doubt_of, evidence
from getam.labels.readout import FINE, held_out_answers, on_patches, patch_grid
from getam.networks.build import load_network, network_build, normalisation
from getam.networks.encoder_outputs import features_and_probabilities
from getam.networks.precision import autocast
from stages.predictions import FINAL
from stages.shared import batches, open_data, per_class

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record

SHARD = 32  # photos in a file; a killed run loses at most the work of one file

Row = tuple[str, str, float, str]  # id, split, doubt, reason


def run(job: Job) -> dict[str, Any]:
    data, names = open_data(job), job.config.data
    split_of = {r.id: split for split in (names.val, names.train) for r in data.split(split)}
    both = {r.id: r for split in (names.train, names.val) for r in data.split(split)}
    records = [record for record in both.values() if record.labels is not None]
    look = Look(job, data, records)
    for number in job.context.track(look.parts, unit=f"part of {SHARD} photo"):
        look.keep(number)

    agreement = Agreement(len(data.classes))
    rows: list[Row] = []
    answers = held_out_answers(look.patches, len(data.classes) + 1)
    for record, seen, answer in zip(records, look.again(), answers):
        agreement.update(answer.argmax(0), seen.mask, record.labels)
        second = evidence(answer, seen.mask, soft=False)
        doubt, reason = doubt_of(record.labels, seen.network, second, data.classes)
        rows.append((record.id, split_of[record.id], doubt, reason))
    _write_table(job.folder / "doubt.csv", rows)
    summary = {
        "agreement": agreement.value(),
        "mean doubt": float(np.mean([row[2] for row in rows])),
        "photos": len(rows),
    }
    ious = per_class(("background", *data.classes), agreement.ious())
    text = json.dumps({**summary, "IoU per class": ious}, indent=1)
    (job.folder / "summary.json").write_text(text, encoding="utf-8")
    return summary


def _write_table(path: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("image", "split", "doubt", "reason"))
    for image, split, doubt, reason in sorted(rows, key=lambda row: (-row[2], row[0])):
        table.writerow((image, split, f"{doubt:.4f}", reason))
    path.write_text(text.getvalue(), encoding="utf-8")


class Seen(NamedTuple):
    """A photo: its features (D, h, w), its mask (4h, 4w), and the evidence of the network."""

    features: Tensor
    mask: np.ndarray
    network: Evidence


class Look:
    """Runs the network on photos, and keeps what is needed of them on disk until the stage ends."""

    def __init__(self, job: Job, data: DataIndex, records: Sequence[Record]) -> None:
        self.job, self.classes = job, len(data.classes)
        self.photos = [*batches(records, SHARD)]
        folder = job.inputs["deeplab" if "deeplab" in job.inputs else "endtoend"]
        self.network = load_network(folder, job.context.device)
        self.side = network_build(folder)["image_size"]
        self.statistics = normalisation(self.network)

    @property
    def parts(self) -> range:
        """The numbers of the parts that the photos are kept in."""
        return range(len(self.photos))

    def keep(self, number: int) -> None:
        """Run the network on the photos of a part, if an interrupted run has not done so."""
        path = self._path(number)
        if self.job.pieces.has(path):
            return
        size = self.job.config.predictions.batch_size
        found = [seen for batch in batches(self.photos[number], size) for seen in self._look(batch)]
        arrays = {
            f"{what} {n}": value
            for n, (features, mask, network) in enumerate(found)
            for what, value in zip(KEPT, (features.half().numpy(), mask, *network))
        }
        with self.job.pieces.write(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **arrays)

    def again(self) -> Iterator[Seen]:
        """What was kept of the photos, in their order."""
        for number, records in enumerate(self.photos):
            with np.load(self._path(number), allow_pickle=False) as kept:
                for n in range(len(records)):
                    features, mask, *network = (kept[f"{what} {n}"] for what in KEPT)
                    yield Seen(torch.from_numpy(features).float(), mask, Evidence(*network))

    def patches(self) -> Iterator[tuple[Tensor, np.ndarray]]:
        """The features and the mask of each photo, in their order."""
        return ((seen.features, seen.mask) for seen in self.again())

    def _path(self, number: int) -> Path:
        return self.job.scratch / f"{number:05}.npz"

    def _look(self, records: Sequence[Record]) -> Iterator[Seen]:
        device, stride = self.job.context.device, self.network.stride
        boxed = [letterbox(read_photo(record), self.side, stride) for record in records]
        batch = torch.stack([pixels for pixels, _ in boxed]).to(device)
        with autocast(self.job.config.predictions.precision, device):
            features, probabilities = features_and_probabilities(
                self.network, normalise_images(batch, self.statistics)
            )
        for n, (record, (_, (h, w))) in enumerate(zip(records, boxed)):
            rows, columns = patch_grid((h, w), batch.shape[2] / features.shape[2])
            fine = resize_maps(probabilities[n : n + 1, :, :h, :w], (rows * FINE, columns * FINE))
            mask = on_patches(self._mask(record), (rows, columns))
            network = evidence(fine[0].cpu().numpy(), mask, soft=True)
            yield Seen(features[n, :, :rows, :columns].cpu(), mask, network)

    def _mask(self, record: Record) -> np.ndarray:
        """The final mask (H, W)."""
        path = self.job.inputs["predictions"] / FINAL / f"{record.id}.png"
        return read_mask(path, image_size(record.image), self.classes)


KEPT = ("features", "mask", *Evidence._fields)
