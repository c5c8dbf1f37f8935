"""Refined maps are measured against masks at the size of the photo, whatever size they have."""

from __future__ import annotations

import numpy as np
import pytest

from getam.config.schema import PseudoLabels
from getam.data.folder import read_folder
from getam.labels import refined_maps
from getam.labels.refined_maps import Refine
from tests.conftest import make_folder


@pytest.fixture
def data(tmp_path):
    return read_folder(make_folder(tmp_path / "data"))


def of_masks(data, records):
    """Maps that are the masks of the photos."""
    for record in records:
        mask = data.read_mask(record)
        ids = np.uint8(record.labels)
        yield record.id, ids, np.stack([np.float32(mask == i) for i in ids])


@pytest.mark.parametrize("refiner", ["none", "pamr", "crf"])
def test_large_photos_are_refined_at_the_size_of_the_pseudo_labels(data, monkeypatch, refiner):
    """PAMR needs 200 bytes for each pixel of a photo."""
    sizes = []

    def seen(name, size_of):
        refined = getattr(refined_maps, name)

        def call(image, *arguments, **more):
            sizes.append(size_of(image))
            return refined(image, *arguments, **more)

        monkeypatch.setattr(refined_maps, name, call)

    seen("pamr", lambda image: image.shape[-2:])
    seen("dense_crf", lambda image: image.shape[:2])
    records = [r for r in data.split("train") if r.labels]
    found = {}
    for longest in (None, 24):
        settings = PseudoLabels(longest_side=longest).model_dump()
        settings["pamr"].update(iterations=1, dilations=(1, 2))
        refine = Refine([refiner], settings, np.array([0.5]), data)
        sizes.clear()
        ((sweep,), _) = refine(records, [*of_masks(data, records)])
        assert all(max(size) == longest for size in sizes) or longest is None
        assert bool(sizes) == (refiner != "none")
        found[longest] = sweep.miou()[0]
    assert found[24] == pytest.approx(found[None], abs=0.25)
    assert found[None] > 0.6
