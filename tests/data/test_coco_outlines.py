"""Annotations that are not sound are refused: pycocotools would end the process on some of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from getam.config.loading import load_config
from getam.data.coco import read_coco, read_instances
from getam.data.coco_outlines import draw_mask
from getam.errors import UserError
from getam.running.opening import open_runner
from stages.chain import chain
from tests.data.test_coco import settings
from tests.trees import make_coco

pytest.importorskip("pycocotools.coco")

SQUARE = [1, 1, 20, 1, 20, 20, 1, 20]
OUTLINES = {
    "text": [["a"] * 8],
    "no number": [[float("nan"), *SQUARE[1:]]],
    "infinity": [[float("inf"), *SQUARE[1:]]],
    "a point far away": [[1e12, *SQUARE[1:]]],
    "runs that are too short": {"size": [40, 50], "counts": [5]},
    "runs that are too long": {"size": [40, 50], "counts": [5, 10**6]},
    "a negative run": {"size": [40, 50], "counts": [-5, 2005]},
    "half a run": {"size": [40, 50], "counts": [0.5, 1999.5]},
    "signs that are no run": {"size": [40, 50], "counts": "garbage!!~~"},
    "runs in text that are too long": {"size": [40, 50], "counts": "PPPPPPPPPP"},
    "no runs": {"size": [40, 50], "counts": None},
    "no size": {"size": None, "counts": [2000]},
    "another size": {"size": [50, 40], "counts": [2000]},
}


@pytest.mark.parametrize("outline", OUTLINES.values(), ids=OUTLINES)
def test_an_outline_that_pycocotools_would_trust_is_refused(outline):
    """It would end the process, or draw something else, or raise."""
    annotation = {"id": 7, "image_id": 3, "category_id": 1, "segmentation": outline}
    with pytest.raises(UserError, match="outline of annotation 7 of image 3 cannot be filled"):
        draw_mask([annotation], (40, 50), {1: 1})


def test_a_compressed_outline_of_any_kind_is_filled_as_it_was_packed():
    from pycocotools import mask as coco

    rng = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.3, 0.99, 1.0):
        shape = rng.random((40, 50)) < share
        packed = coco.encode(np.asfortranarray(shape.astype(np.uint8)))
        outline = {"size": [40, 50], "counts": packed["counts"].decode()}
        annotation = {"category_id": 1, "segmentation": outline}
        assert ((draw_mask([annotation], (40, 50), {1: 1}) == 1) == shape).all()


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("images", "height", float("inf")),
        ("images", "height", -5),
        ("images", "height", 0),
        ("images", "width", 10**9),
        ("images", "width", 40.5),
        ("images", "width", None),
        ("categories", "id", "1"),
        ("categories", "id", None),
        ("categories", "id", [1]),
    ],
)
def test_a_size_or_a_category_that_is_none_is_refused(tmp_path, where, name, value):
    def put(content):
        content[where][0][name] = value

    file = change(make_coco(tmp_path / "coco"), put)
    with pytest.raises(UserError, match="cannot read these annotations"):
        read_instances(file)


def change(root: Path, edit) -> Path:
    """The annotation file of the train split, its content edited in place."""
    file = root / "annotations" / "instances_train2014.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    return file


def test_a_photo_of_another_size_than_its_annotations_is_found_first(tmp_path):
    """Its mask would not fit, which the last stage found."""
    make_coco(tmp_path / "coco")
    file = sorted((tmp_path / "coco" / "train2014").iterdir())[1]
    with Image.open(file) as image:
        image.resize((30, 20)).save(file)
    with pytest.raises(UserError, match=r"got a photo of 30 x 20 pixels .* annotations are for"):
        read_coco(tmp_path / "coco")
    runner = open_runner(chain, load_config((), settings(tmp_path / "coco")), tmp_path / "a")
    with pytest.raises(UserError, match=r"got a photo of 30 x 20"):
        runner.run(runner.plan(until="data"))
