"""predictions: the classes of all pixels of the photos, by the trained network.

needs   deeplab or the end-to-end network; photos and labels of the train and val split, and the
        photos of data.test if it is set; with predictions.pseudo_label_weight the pseudo labels
makes   masks/ID.png: the final masks, of every labelled photo of train and val. The network
        chooses among background and the classes that the photo is labelled with. With
        predictions.known_present the probabilities of a class are raised first if the network is
        sure of it nowhere in the photo. In train, the class of the pseudo label of a pixel gets a
        higher probability too
        missing.csv: labels that got no pixel of the final mask of their photo
        predictions/ID.png: of the val photos (and data.test), chosen among all classes
        predictions_crf/ID.png: the same after dense CRF, with predictions.crf.enabled
        results/: with data.test, the files for the evaluation server of the data set
        All PNG files have the VOC palette: 0 background, 1..C
costs   scales x flips forward passes per photo; dense CRF about half a second per photo and core
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from getam.data.ahead import read_ahead
from getam.data.images import read_photo
from getam.data.masks import read_mask
from getam.data.palette import write_label_png
from getam.data.resizing import Second
from getam.networks.memory import large_arrays_given_back
from getam.networks.tiling import Part, cut, label_parts
from getam.running.processes import process_pool, room_in_process
from getam.training import distributed

if TYPE_CHECKING:
    from getam.cache import Job, Pieces
    from getam.data.index import DataIndex, Record

FINAL, PLAIN, SMOOTHED = "masks", "predictions", "predictions_crf"


def run(job: Job) -> dict[str, Any]:
    from stages.shared import open_data

    data, names = open_data(job), job.config.data
    val, test = data.split(names.val), data.split(names.test) if names.test else []
    labelled = [r for r in (*data.split(names.train), *val) if r.labels is not None]
    kinds = (PLAIN, SMOOTHED) if job.config.predictions.crf.enabled else (PLAIN,)
    wanted = {record.id: list(kinds) for record in (*val, *test)}
    if job.config.predictions.masks:
        for record in labelled:
            wanted.setdefault(record.id, []).append(FINAL)
    known = {record.id: record for record in (*labelled, *val, *test)}
    _predict(job, [known[image_id] for image_id in wanted], wanted)
    if test:
        _write_results(job, data, test)
    distributed.wait()
    if distributed.rank():
        return {}
    readers = job.context.readers
    missing = _missing(job.folder, labelled, readers) if job.config.predictions.masks else []
    _write_missing(job.folder / "missing.csv", missing, data.classes)
    return {
        "images": len(val),
        "final masks": len(labelled) if job.config.predictions.masks else 0,
        "labels without a pixel": len(missing),
    }


def _predict(job: Job, records: Sequence[Record], wanted: Mapping[str, Sequence[str]]) -> None:
    """Write what is wanted of each photo. What an interrupted run wrote is kept.

    What needs torch is imported here, because the processes that write import this module.
    """
    from getam.networks.build import load_network, network_build
    from getam.networks.inference import Segmenter, segment_tiles
    from stages.shared import shared_batches

    settings, context = job.config.predictions, job.context
    folder = job.inputs["deeplab" if "deeplab" in job.inputs else "endtoend"]
    network, side = load_network(folder, context.device), network_build(folder)["image_size"]
    segmenter = Segmenter(network, side, settings.scales, settings.flip, settings.precision)
    pseudo = _pseudo_labels(job) if "pseudolabels" in job.inputs else {}
    write = Writer(job.folder, settings, job.pieces)
    own = shared_batches(records, settings.batch_size)
    todo = [r for r in own if not write.is_done(r.id, wanted[r.id])]
    at_once = segmenter.fitting(settings.batch_size)
    cuts = read_ahead(
        lambda record: cut(read_photo(record), settings.tile),
        todo,
        max(at_once, context.readers),
        context.readers,
    )

    def needed(record: Record) -> Sequence[int] | None:
        """A final mask needs the classes of its photo alone."""
        return record.labels if all(kind == FINAL for kind in wanted[record.id]) else None

    def labelling(found: tuple[Record, tuple[int, int], list[Part]]) -> Labelling:
        record, size, parts = found
        return Labelling(record, wanted[record.id], size, parts, pseudo.get(record.id))

    # Not a generator expression: that would keep its last photo while it waits.
    photos = map(labelling, segment_tiles(segmenter, cuts, at_once, needed))
    done = _written(write, photos, context.workers)
    with large_arrays_given_back():
        for _ in context.track(done, total=len(own), initial=len(own) - len(todo)):
            pass
    distributed.wait()


def _pseudo_labels(job: Job) -> dict[str, Path]:
    """Image id -> pseudo label, of the train photos from whose pseudo label the network learnt."""
    from stages.shared import open_data, teaches

    train = open_data(job).split(job.config.data.train)
    folder = job.inputs["pseudolabels"] / "labels"
    return {r.id: folder / f"{r.id}.png" for r in train if not teaches(job, r)}


def _written(write: Writer, photos: Iterable[Labelling], workers: int) -> Iterator[Any]:
    """Write the photos; with several workers processes do it. Gives a value for each.

    There are as many photos in work as processes. A further one would only wait, in memory.
    """
    if workers == 1:
        yield from map(write, photos)
        return
    with process_pool(workers) as writers:
        running: set[Future[None]] = set()
        for photo in map(Sent, photos):
            running.add(writers.submit(write, photo))
            if len(running) == workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        yield from (one.result() for one in as_completed(running))


def _write_results(job: Job, data: DataIndex, records: Sequence[Record]) -> None:
    """Write the final predictions for the evaluation server: in its mask values and its folder."""
    made = job.folder / (SMOOTHED if job.config.predictions.crf.enabled else PLAIN)
    folder = job.folder / data.results
    folder.mkdir(parents=True, exist_ok=True)
    for record in distributed.share(records):
        labels = read_mask(made / f"{record.id}.png")
        write_label_png(folder / f"{record.id}.png", data.mask_values(labels))


def _missing(folder: Path, records: Sequence[Record], threads: int) -> list[tuple[str, int]]:
    """(id, class id) of each label that got no pixel of the final mask of its photo."""

    def absent(record: Record) -> list[tuple[str, int]]:
        found = read_mask(folder / FINAL / f"{record.id}.png")
        return [(record.id, c) for c in record.labels or () if not (found == c).any()]

    with ThreadPoolExecutor(threads) as pool:
        return [pair for pairs in pool.map(absent, records) for pair in pairs]


def _write_missing(path: Path, missing: Iterable[tuple[str, int]], classes: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "class"))
        rows.writerows((image_id, classes[class_id - 1]) for image_id, class_id in missing)


class Labelling(NamedTuple):
    """A photo of ``size`` (H, W), what is wanted of it, and the probabilities of its parts.

    ``pseudo`` is the file of its pseudo label, if the network learnt from it.
    """

    record: Record
    kinds: Sequence[str]
    size: tuple[int, int]
    parts: list[Part]
    pseudo: Path | None = None


class Sent:
    """A photo for another process. This one forgets it once it is sent.

    An executor keeps the arguments of a task until the task is done, and the probabilities of a
    photo with many classes take tens of megabytes. The task receives the photo itself.
    """

    def __init__(self, photo: Labelling) -> None:
        self._photo: Labelling | None = photo

    def __reduce__(self) -> tuple:
        photo, self._photo = self._photo, None
        return _received, (photo,)


def _received(photo: Labelling) -> Labelling:
    return photo


class Writer:
    """Writes the final mask and the predictions of a photo.

    Is sent to a worker process with every photo, so it has nothing that grows with their number.
    """

    def __init__(self, folder: Path, settings: Any, pieces: Pieces) -> None:
        crf = dict(settings.crf)
        self.smooths = crf.pop("enabled")
        self.folder, self.pieces, self.crf = folder, pieces, crf
        self.weight, self.present = settings.pseudo_label_weight, settings.known_present

    def is_done(self, image_id: str, kinds: Sequence[str]) -> bool:
        """Whether an interrupted run wrote all of the photo."""
        return all(self.pieces.has(self._file(kind, image_id)) for kind in kinds)

    def __call__(self, photo: Labelling) -> None:
        record, kinds, size, parts, pseudo = photo
        for kind in kinds:
            smooth = self.smooths if kind == FINAL else kind == SMOOTHED
            classes = record.labels if kind == FINAL and parts[0].classes is None else None
            crf = self.crf if smooth else None
            second = self._second(pseudo) if kind == FINAL and pseudo else None
            present = kind == FINAL and self.present
            labels = label_parts(parts, size, classes, crf, room_in_process, second, present)
            with self.pieces.write(self._file(kind, record.id)) as temporary:
                write_label_png(temporary, labels)

    def _second(self, pseudo: Path) -> Second:
        """The pseudo label of a photo, and what it adds to the probability of its class."""
        return Second(read_mask(pseudo), self.weight)

    def _file(self, kind: str, image_id: str) -> Path:
        return self.folder / kind / f"{image_id}.png"
