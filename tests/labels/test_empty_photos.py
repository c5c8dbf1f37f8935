"""A photo that is labelled as empty is background from edge to edge in every label that we make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from getam.cache.pieces import begin
from getam.config.schema import Crf, Pamr, PseudoLabels
from getam.data.folder import read_folder
from getam.data.masks import read_mask
from getam.labels.patch_finder import Finder
from getam.labels.saliency import Saliency
from getam.labels.steps import SoftSaliency, label_images
from getam.maps.file import MapFile, merge_shards, write_shard
from getam.training.joint import objects
from stages.pseudolabels import Labeller
from tests.conftest import TINY, make_folder, pipeline

SIZE, GRID = (24, 32), (6, 8)
SETTINGS = PseudoLabels(opening=3, background_power=8, pamr=Pamr(dilations=(1, 2)))


def batch(*ids: tuple[int, ...], seed: int = 0) -> tuple:
    """Maps, class ids, pixels and saliency that is high everywhere, of an image for each of ids."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(len(ids), 2, *GRID, generator=generator)
    maps = maps / maps.amax(dim=(2, 3), keepdim=True) * (torch.tensor(ids) > 0)[..., None, None]
    pixels = torch.rand(len(ids), 3, *SIZE, generator=generator) * 255
    salient = torch.ones(len(ids), 1, *SIZE)
    soft = SoftSaliency(torch.empty(len(ids), 0, 1, 1), salient, 0.5)
    return maps, torch.tensor(ids), pixels, soft


@pytest.mark.parametrize("changed", [{}, {"rule": "released"}, {"balance": True}, {"opening": 0}])
def test_a_row_without_a_class_is_background_and_changes_no_other(changed):
    settings = SETTINGS.model_copy(update=changed)
    maps, ids, pixels, soft = batch((1, 3), (0, 0), (2, 0))
    labels = label_images(maps, ids, pixels, soft, settings)
    assert (labels[1] == 0).all()
    assert set(labels[0].unique().tolist()) & {1, 3, 255}
    for n in (0, 2):
        alone = SoftSaliency(soft.on_grid[n : n + 1], soft.at_size[n : n + 1], 0.5)
        one = label_images(maps[n : n + 1], ids[n : n + 1], pixels[n : n + 1], alone, settings)
        assert torch.equal(one[0], labels[n])


@pytest.mark.parametrize("slots", [0, 2])
def test_a_batch_of_empty_photos_is_background(slots):
    maps, ids, pixels, soft = batch((0, 0), (0, 0))
    labels = label_images(maps[:, :slots], ids[:, :slots], pixels, soft, SETTINGS)
    assert labels.dtype == torch.uint8
    assert labels.shape == (2, *SIZE)
    assert not labels.any()


def test_labels_of_the_whole_batch_at_once_equal_those_of_one_after_the_other():
    """What a GPU does, here on a CPU."""
    given = batch((1, 3), (0, 0), (2, 0), (0, 0))
    slow = label_images(*given, SETTINGS, at_once=False)
    assert torch.equal(label_images(*given, SETTINGS, at_once=True), slow)


@pytest.mark.parametrize("crf", [False, True])
def test_the_label_stage_makes_background_of_an_empty_photo_also_with_crf(tmp_path, crf):
    root = make_folder(tmp_path / "data")
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace("photo00,cat", "photo00,"))
    records = read_folder(root).split("train")[:2]
    rng = np.random.default_rng(0)
    images = [
        (r.id, np.array(r.labels, np.uint8), rng.random((len(r.labels), *GRID), np.float32))
        for r in records
    ]
    write_shard(tmp_path / "0.h5", images, GRID)
    merge_shards(tmp_path / "maps.h5", [tmp_path / "0.h5"], GRID, ["cat", "dog"], "", {})
    settings = SETTINGS.model_copy(update={"crf": Crf(enabled=crf)})
    pieces = begin(tmp_path / "work")
    saliency = Saliency(["folder"], 0.5)
    label = Labeller(MapFile(tmp_path / "maps.h5"), settings, saliency, tmp_path, pieces)
    empty, other = map(label.label, records)
    assert records[0].labels == ()
    assert not empty.any()
    assert other.any()


def test_what_stands_out_in_an_empty_photo_is_no_object_of_the_saliency_loss():
    salient = torch.ones(2, 3, 3)
    found = objects(salient, torch.tensor([[0, 0], [0, 1]]))
    assert found.tolist() == [[[False] * 3] * 3, [[True] * 3] * 3]


def test_an_empty_photo_has_no_foreground():
    find = Finder(lambda features: features[..., 0], None)
    features = torch.ones(*GRID, 4)
    assert not dict(find(features, np.array([], np.uint8)))["foreground"].any()
    assert dict(find(features, np.array([2], np.uint8)))["foreground"].all()


def emptied(root: Path, *numbers: int) -> tuple[str, ...]:
    """Settings of a folder whose photos ``numbers`` are labelled as empty, and salient all over."""
    table = (root / "labels.csv").read_text()
    for n in numbers:
        table = table.replace(f"photo{n:02},{('cat', 'dog')[n % 2]}", f"photo{n:02},")
        file = root / "saliency" / f"photo{n:02}.png"
        Image.new("L", Image.open(file).size, 255).save(file)
    (root / "labels.csv").write_text(table)
    return (*TINY, "data.kind=folder", f"data.root={root}")


def test_a_run_labels_empty_photos_as_background(tmp_path):
    settings = emptied(make_folder(tmp_path / "data"), 0, 2, 4, 6)
    words = ("run", "--workers", "1", "--until", "pseudolabels")
    result = pipeline(*words, cwd=tmp_path, settings=settings)
    assert result.code == 0, result
    (labels,) = (tmp_path / "artifacts" / "pseudolabels").glob("*/labels")
    assert not any(read_mask(labels / f"photo{n:02}.png").any() for n in (0, 2, 4, 6))
    assert any(read_mask(labels / f"photo{n:02}.png").any() for n in (1, 3, 5, 7))


def test_an_end_to_end_run_learns_nothing_but_background_from_empty_photos(tmp_path):
    settings = emptied(make_folder(tmp_path / "data"), *range(8))
    words = ("run", "--workers", "1", "--until", "endtoend")
    result = pipeline(*words, cwd=tmp_path, settings=(*settings, "mode=end-to-end"))
    assert result.code == 0, result
    (history,) = (tmp_path / "artifacts" / "endtoend").glob("*/history.json")
    shares = [row["label share"] for row in json.loads(history.read_text()) if "label share" in row]
    assert len(shares) == 2
    assert all(share["background"] == 1 for share in shares)
