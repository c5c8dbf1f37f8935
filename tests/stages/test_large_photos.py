"""Photos larger than the longest side are labelled reduced; their labels have the photo's size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from getam.cache.pieces import begin
from getam.config.schema import PseudoLabels
from getam.data.folder import read_folder
from getam.data.images import read_image
from getam.data.resizing import reduced
from getam.data.transforms import enlarged_labels
from getam.errors import UserError
from getam.labels.saliency import Saliency
from getam.maps.file import MapFile, merge_shards, write_shard
from stages.pseudolabels import Labeller
from tests.conftest import make_folder

GRID, TIMES = (6, 8), 5


@pytest.fixture
def records(tmp_path) -> list:
    """The train photos of a folder, five times as large as the folder has them."""
    root = make_folder(tmp_path / "data")
    for kind in ("images", "masks", "saliency"):
        for file in (root / kind).iterdir():
            with Image.open(file) as image:
                size = tuple(TIMES * side for side in image.size)
                image.resize(size, Image.Resampling.NEAREST).save(file)
    records = read_folder(root).split("train")
    draw = np.random.default_rng(0)
    maps = [
        (r.id, np.array(r.labels, np.uint8), draw.random((len(r.labels), *GRID), np.float32))
        for r in records
    ]
    write_shard(tmp_path / "0.h5", maps, GRID)
    merge_shards(tmp_path / "maps.h5", [tmp_path / "0.h5"], GRID, ["cat", "dog"], "", {})
    return records


def labeller(tmp_path: Path, **changed: object) -> Labeller:
    settings, pieces = PseudoLabels(opening=0, **changed), begin(tmp_path / "work")
    return Labeller(
        MapFile(tmp_path / "maps.h5"), settings, Saliency(["folder"], 0.5), tmp_path, pieces
    )


@pytest.mark.parametrize("crf", [False, True])
def test_a_reduced_photo_gives_a_label_of_the_size_of_the_photo(records, tmp_path, crf):
    whole = labeller(tmp_path, longest_side=None, crf={"enabled": crf})
    small = labeller(tmp_path, longest_side=60, crf={"enabled": crf})
    for record in records:
        expected, found = whole.label(record), small.label(record)
        assert found.shape == expected.shape == read_image(record.image).shape[:2]
        assert max(found.shape) > 60
        assert {*np.unique(found)} - {255} <= {0, *record.labels}
        assert (found == expected).mean() > 0.8


def test_a_photo_within_the_longest_side_is_labelled_as_it_is(records, tmp_path):
    side = max(read_image(records[0].image).shape)
    for record in records:
        expected = labeller(tmp_path, longest_side=None).label(record)
        assert (labeller(tmp_path, longest_side=side).label(record) == expected).all()


def test_a_saliency_map_must_have_the_size_of_the_photo_not_of_the_reduced_photo(records, tmp_path):
    with Image.open(records[0].saliency) as image:
        image.resize((60, 50)).save(records[0].saliency)
    with pytest.raises(UserError, match="60 x 50"):
        labeller(tmp_path, longest_side=60).label(records[0])


def test_enlarged_labels_are_smoother_than_the_nearest_and_have_no_new_value():
    rows, columns = np.mgrid[:40, :40]
    small = np.where((rows - 20) ** 2 + (columns - 20) ** 2 < 144, 3, 0).astype(np.uint8)
    small[:3] = 255
    large = enlarged_labels(small, (200, 200))
    assert {*np.unique(large)} == {0, 3, 255}
    y, x = (np.mgrid[:200, :200] + 0.5) / 5 - 0.5
    disc = (y - 20) ** 2 + (x - 20) ** 2 < 144
    nearest = cv2.resize(small, (200, 200), interpolation=cv2.INTER_NEAREST)
    assert ((large == 3) != disc).sum() < 0.9 * ((nearest == 3) != disc).sum()
    assert enlarged_labels(small, (40, 40)) is small


def test_a_reduced_image_keeps_its_aspect():
    image = np.zeros((300, 400, 3), np.uint8)
    assert reduced(image, 100).shape == (75, 100, 3)
    assert reduced(image, 400) is image
