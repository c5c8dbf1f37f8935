"""The final masks of train: the network and the pseudo labels together."""

from __future__ import annotations

import pickle
import shutil
import weakref
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from getam.cache.pieces import begin
from getam.config.loading import load_config
from getam.data.index import Record
from getam.data.masks import read_mask
from getam.networks.tiling import Part, tiles
from stages.chain import chain
from stages.predictions import FINAL, Labelling, Writer, _written
from stages.predictions import PLAIN as ALL_CLASSES
from tests.conftest import TINY, make_folder
from tests.data.test_corrections import correct
from tests.stages.test_corrections import DOG, run

PLAIN = "predictions.crf.enabled=false"
TRAIN, VAL = [f"photo{n:02}" for n in range(8)], [f"photo{n:02}" for n in range(8, 12)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("weight")
    make_folder(place / "data")
    return place


def masks(made, ids):
    return [read_mask(made["predictions"] / "masks" / f"{image_id}.png") for image_id in ids]


def test_heavy_pseudo_labels_are_the_final_masks_of_train_but_not_of_corrected_photos(place):
    network, _ = run(place, PLAIN, "predictions.pseudo_label_weight=0", until="predictions")
    both, ran = run(place, PLAIN, "predictions.pseudo_label_weight=10", until="predictions")
    assert ran == ["predictions"]
    labels = [read_mask(both["pseudolabels"] / "labels" / f"{i}.png") for i in TRAIN]
    for label, mask, alone in zip(labels, masks(both, TRAIN), masks(network, TRAIN)):
        assert (mask == np.where(label == 255, alone, label)).all()
    assert any((one != other).any() for one, other in zip(labels, masks(network, TRAIN)))
    for one, other in zip(masks(both, VAL), masks(network, VAL)):
        assert (one == other).all()

    correct(place / "data", {TRAIN[0]: DOG})
    corrected = ("data.corrections=corrections", PLAIN)
    network, _ = run(place, *corrected, "predictions.pseudo_label_weight=0", until="predictions")
    both, _ = run(place, *corrected, "predictions.pseudo_label_weight=10", until="predictions")
    taught, *others = TRAIN
    assert (masks(both, [taught])[0] == masks(network, [taught])[0]).all()
    for label, mask in zip(labels[1:], masks(both, others)):
        assert (mask == label)[label != 255].all()


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ((), ("deeplab", "pseudolabels")),
        (("predictions.pseudo_label_weight=0",), ("deeplab",)),
        (("predictions.masks=false",), ("deeplab",)),
        (("deeplab.labels=masks",), ("deeplab",)),  # a network that knows better
        (("mode=end-to-end",), ("endtoend",)),
    ],
)
def test_predictions_need_pseudo_labels_only_for_final_masks_of_a_network_that_learnt_from_them(
    settings, needs
):
    stages = {
        stage.name: stage
        for stage in chain(load_config((), ("data.kind=folder", *TINY, *settings)))
    }
    assert stages["predictions"].needs == needs


@pytest.mark.parametrize(("known", "hats"), [(True, 32), (False, 0)])
def test_known_present_decides_about_final_masks_alone(tmp_path, known, hats):
    """A photo in which the network is nowhere sure of a hat: 0.3 in its left half."""
    size = (8, 8)
    grid = np.zeros((2, *size), np.float32)
    grid[1, :, :4] = 0.3
    grid[0] = 1 - grid[1]
    (tile,) = tiles(size, 100)
    part = Part(tile, np.full((*size, 3), 128, np.uint8), [grid])
    settings = load_config((), (PLAIN, f"predictions.known_present={known}")).predictions
    pieces = begin(tmp_path)
    write = Writer(pieces.folder, settings, pieces)
    for kind in (FINAL, ALL_CLASSES):
        (pieces.folder / kind).mkdir()
    record = Record("a", tmp_path / "a.jpg", labels=(1,))
    write(Labelling(record, (FINAL, ALL_CLASSES), size, [part]))
    found = {kind: read_mask(pieces.folder / kind / "a.png") for kind in (FINAL, ALL_CLASSES)}
    assert (found[FINAL] == 1).sum() == hats
    assert not found[ALL_CLASSES].any()


class Recorded(Executor):
    """Does each task at once, and notes the bytes that a process would get for it."""

    def __init__(self):
        self.sizes = []

    def submit(self, task, *arguments):
        sent = pickle.dumps((task, arguments))
        self.sizes.append(len(sent))
        task, arguments = pickle.loads(sent)
        done = Future()
        done.set_result(task(*arguments))
        return done


def test_what_a_process_gets_for_a_photo_does_not_grow_with_their_number(tmp_path, monkeypatch):
    largest = []
    for more in (0, 40):
        data = make_folder(tmp_path / str(more) / "data")
        lines, train = (data / "labels.csv").read_text(), [*TRAIN]
        for n in range(more):
            copy = f"copy_{n:02}"
            shutil.copy(data / "images" / f"{TRAIN[0]}.png", data / "images" / f"{copy}.png")
            shutil.copy(data / "saliency" / f"{TRAIN[0]}.png", data / "saliency" / f"{copy}.png")
            lines, train = f"{lines}{copy},cat\n", [*train, copy]
        (data / "labels.csv").write_text(lines)
        (data / "splits" / "train.txt").write_text("\n".join(train) + "\n")
        pool = Recorded()
        monkeypatch.setattr(
            "stages.predictions.process_pool", lambda count, pool=pool: nullcontext(pool)
        )
        run(data.parent, PLAIN, until="predictions", workers=2)
        assert len(pool.sizes) == 12 + more
        largest.append(max(pool.sizes))
    assert largest[1] - largest[0] < 100


class Never(Recorded):
    """Does each task at once, but tells of none that it is done before the last one is sent."""

    def __init__(self, count):
        super().__init__()
        self.count, self.waiting = count, []

    def submit(self, task, *arguments):
        super().submit(task, *arguments)
        self.waiting.append(Future())
        if len(self.waiting) == self.count:
            for one in self.waiting:
                one.set_result(None)
        return self.waiting[-1]


def test_the_probabilities_of_a_photo_are_not_kept_while_a_process_works_on_them(monkeypatch):
    """They take 40 MB for 20 classes at 384 px and two scales."""
    count, alive = 5, []
    monkeypatch.setattr("stages.predictions.process_pool", lambda _: nullcontext(Never(count)))

    def photos():
        for n in range(count):
            grid = np.zeros((2, 3, 3), np.float32)
            part = Part(tiles((3, 3), 3)[0], np.zeros((3, 3, 3), np.uint8), [grid])
            kept.append(weakref.ref(grid))
            alive.append(sum(one() is not None for one in kept))
            yield Labelling(Record(str(n), Path("a.jpg"), labels=(1,)), (FINAL,), (3, 3), [part])
            del grid, part

    kept = []
    assert len([*_written(number_of, photos(), workers=count)]) == count
    assert max(alive) <= 2, alive  # one that is made, and the one before it


def number_of(photo):
    return int(photo.record.id)
