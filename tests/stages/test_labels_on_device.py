"""Labels that a device makes for many photos together are those that a core makes one by one.

The path of the GPU runs here on CPU tensors. ``tests/test_gpu.py`` has the same test on a GPU.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import stages.pseudolabels
from getam.cache.pieces import begin
from getam.config.schema import PseudoLabels
from getam.data.images import write_scores
from getam.data.index import Record
from getam.data.masks import read_mask
from getam.data.transforms import resize_maps
from getam.errors import UserError
from getam.labels.photo_batch import batch_bytes, photo_bytes
from getam.labels.saliency import Saliency
from getam.maps.file import MapFile, merge_shards, write_shard
from getam.running import photo_work
from getam.running.context import Context
from getam.running.photo_work import OneByOne, on_device
from getam.training import distributed
from stages.pseudolabels import Labeller

GRID = (6, 8)
SIZES = ((60, 80), (80, 60), (60, 80), (45, 50), (60, 80), (200, 260), (60, 80), (200, 260))
CLASSES = ((1,), (2, 3), (1, 2, 4), (3,), (), (1, 4), (2,), ())


def smooth(draw: np.random.Generator, size: tuple[int, int], channels: int) -> np.ndarray:
    """(channels, H, W) in [0, 1]: coarse patches, enlarged bilinearly."""
    coarse = torch.from_numpy(draw.random((1, channels, 5, 6), np.float32))
    return resize_maps(coarse, size)[0].numpy()


def make_photos(place: Path) -> list[Record]:
    """Photos of several sizes and numbers of classes, with maps, saliency maps and foreground."""
    draw = np.random.default_rng(0)
    records, maps = [], []
    for folder in ("images", "saliency", "foreground", "classes", "labels"):
        (place / folder).mkdir(parents=True)
    for n, (size, classes) in enumerate(zip(SIZES, CLASSES)):
        name = f"{n}.png"
        colours = (smooth(draw, size, 3) * 6).round() * 36 + draw.integers(0, 30, (3, *size))
        Image.fromarray(colours.astype(np.uint8).transpose(1, 2, 0)).save(place / "images" / name)
        write_scores(place / "saliency" / name, smooth(draw, size, 1)[0])
        write_scores(place / "foreground" / name, smooth(draw, (9, 9), 1)[0])
        if classes:
            stacked = smooth(draw, (9, 9), len(classes)).reshape(-1, 9)
            write_scores(place / "classes" / name, stacked)
        saliency = place / "saliency" / name
        records.append(Record(str(n), place / "images" / name, classes, None, saliency))
        maps.append((str(n), np.array(classes, np.uint8), smooth(draw, GRID, len(classes)) ** 2))
    write_shard(place / "0.h5", maps, GRID)
    merge_shards(place / "maps.h5", [place / "0.h5"], GRID, ["a", "b", "c", "d"], "", {})
    return records


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> tuple[Path, list[Record]]:
    place = tmp_path_factory.mktemp("photos")
    return place, make_photos(place)


def labeller(place: Path, work: Path, sources: str, own_classes: bool, **changed) -> Labeller:
    settings = PseudoLabels(**{"opening": 4, "background_power": 8, **changed})
    saliency = Saliency(sources.split("+"), 0.5, None, place / "foreground")
    made = Labeller(MapFile(place / "maps.h5"), settings, saliency, work / "labels", begin(work))
    made.own_classes = own_classes
    return made


def same_pixels(photos, work: Path, sources: str, own_classes: bool, device: str, **changed):
    """The share of pixels with the same label, and all labels of the cores."""
    place, records = photos
    by_cores = labeller(place, work / "cores", sources, own_classes, **changed)
    assert OneByOne(by_cores)(records) == len(records)
    together = labeller(place, work / "device", sources, own_classes, **changed)
    assert [*on_device(together, records, device, workers=2)] == [1] * len(records)
    pairs = [
        tuple(read_mask(work / who / "labels" / f"{r.id}.png") for who in ("cores", "device"))
        for r in records
    ]
    assert [expected.shape for expected, _ in pairs] == [found.shape for _, found in pairs]
    assert [found.shape for _, found in pairs] == [*SIZES]
    same = np.concatenate([(expected == found).ravel() for expected, found in pairs])
    return same.mean(), pairs


CASES = {
    "a folder of saliency maps": ("folder", False, {}),
    "features": ("features", False, {"balance": True}),
    "features and classes of patches": ("features", True, {"rule": "released"}),
    "folder and features": ("folder+features", False, {"quantile": 0.7, "opening": 0}),
    "no saliency": ("none", False, {"fallback": (0.2, 0.5)}),
    "large photos reduced": ("folder", False, {"longest_side": 100}),
    "no reduction, no PAMR": ("folder", False, {"longest_side": None, "pamr": {"enabled": False}}),
    "dense CRF": ("folder", False, {"crf": {"enabled": True, "steps": 2}, "longest_side": 100}),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_made_together_equal_those_made_one_by_one(photos, tmp_path, case):
    sources, own_classes, changed = CASES[case]
    share, pairs = same_pixels(photos, tmp_path, sources, own_classes, "cpu", **changed)
    assert share >= 0.999
    values = {value for _, found in pairs for value in np.unique(found).tolist()}
    assert {0, 1, 2, 3, 4} <= values, "the case must show all classes"
    assert not any(pairs[n][1].any() for n in (4, 7)), "a photo without a class is background"


def test_a_batch_is_of_one_size_and_within_its_memory(photos, tmp_path, monkeypatch):
    place, records = photos
    made = labeller(place, tmp_path, "folder", False)
    inputs = [made.read(record).inputs for record in records]
    largest = max(photo_bytes(photo, made.settings.pamr.dilations) for photo in inputs)
    monkeypatch.setattr(photo_work, "batch_bytes", lambda device: largest // 2)
    batches, plain = [], made.compute

    def recorded(photos, *arguments, **options):
        batches.append([photo.inputs for photo in photos])
        return plain(photos, *arguments, **options)

    monkeypatch.setattr(made, "compute", recorded)
    assert sum(on_device(made, records * 3, "cpu", workers=2)) == 3 * len(records)
    assert max(map(len, batches)) > 2
    for batch in batches:
        assert len({photo.pixels.shape for photo in batch}) == 1
        costs = [photo_bytes(photo, made.settings.pamr.dilations) for photo in batch]
        assert sum(costs) <= largest // 2 or len(batch) == 1
    assert batch_bytes("cpu") > 0


def test_a_photo_that_cannot_be_read_ends_the_work_with_its_name(photos, tmp_path):
    place, records = photos
    broken = tmp_path / "broken.png"
    broken.write_bytes(records[0].image.read_bytes()[:200])
    wrong = Record("0", broken, (1,), None, records[0].saliency)
    made = labeller(place, tmp_path / "work", "folder", False)
    with pytest.raises(UserError, match=r"broken\.png"):
        [*on_device(made, [*records[1:], wrong], "cpu", workers=2)]


@pytest.mark.parametrize(
    ("device", "cluster", "who"),
    [("cuda:0", None, "gpu"), ("cpu", None, "cores"), ("cuda", "tcp://a:1", "cores")],
)
def test_a_gpu_labels_unless_a_cluster_is_named(
    photos, tmp_path, monkeypatch, device, cluster, who
):
    place, records = photos
    asked = []
    monkeypatch.setattr(photo_work, "on_device", lambda *given: asked.append("gpu") or iter([1]))

    class Cores:
        def __enter__(self):
            return lambda tasks: asked.append("cores") or iter([len([*tasks])])

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(photo_work, "processes", lambda context: Cores())
    context = SimpleNamespace(device=device, cluster=cluster, workers=1)
    made = labeller(place, tmp_path, "folder", False)
    assert [*photo_work.written(made, records, context)]
    assert asked == [who]


def test_the_processes_of_a_team_label_a_share_of_the_photos_each(photos, tmp_path, monkeypatch):
    place, records = photos
    job = SimpleNamespace(
        config=SimpleNamespace(
            pseudolabels=PseudoLabels(saliency="none"), data=SimpleNamespace(train="train")
        ),
        context=Context(wanted_device="cpu", wanted_workers=1),
        inputs={"maps": place},
        folder=tmp_path,
        pieces=begin(tmp_path),
    )
    data = SimpleNamespace(split=lambda name: records)
    monkeypatch.setattr(stages.pseudolabels, "open_data", lambda job: data)
    monkeypatch.setattr(stages.pseudolabels, "saliency_of", lambda *_: Saliency(["none"], 0.5))
    monkeypatch.setattr(distributed, "wait", lambda: None)
    told, written = [], []
    for rank in (1, 0):
        with distributed.together(distributed.Group(rank, 2, None)):
            told.append(stages.pseudolabels.run(job))
        written.append({path.stem for path in (tmp_path / "labels").iterdir()})
    assert written == [set("1357"), set("01234567")]
    assert told == [{}, {"images": 8, "saliency": "none"}]
