"""Miniatures of PASCAL VOC and COCO, and the commands about them, given in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from getam.data.coco import read_instances
from getam.data.coco_outlines import draw_mask
from getam.data.masks import read_mask
from pipeline import main
from tests.conftest import TINY, Result
from tests.trees import VOC_OBJECTS, VOC_SETTINGS, VOC_SPLITS, make_coco, make_voc, voc_mask

LEARNING = (  # enough that classes are told apart, and a CRF that leaves them
    *TINY,
    "classifier.epochs=3",
    "deeplab.epochs=8",
    "deeplab.lr_encoder=5e-3",
    "deeplab.lr_head=2e-2",
    "endtoend.classification.epochs=3",
    "endtoend.joint.epochs=8",
    "endtoend.joint.lr_encoder=5e-3",
    "endtoend.joint.lr_head=2e-2",
    "pseudolabels.pamr.iterations=1",
    "predictions.crf={steps: 1, gaussian_compat: 0.1, bilateral_compat: 0.1}",
)
MULTI_STAGE = [
    "classifier",
    "maps",
    "pseudolabels",
    "deeplab",
    "predictions",
    "doubt",
    "evaluation",
]
END_TO_END = ["endtoend", "predictions", "doubt", "evaluation"]
IDS = [*VOC_OBJECTS]
VOC = {name: IDS[start:stop] for name, (start, stop) in VOC_SPLITS.items()}
VOC_VALUES = [0, 12, 8, 15]  # dog, cat, person in the files of VOC


@dataclass
class Miniature:
    """A data set, and the commands about it, given in this process."""

    root: Path
    settings: tuple[str, ...]
    classes: list[str]
    splits: dict[str, list[str]]  # train, val and test: their ids
    names: tuple[str, str]  # of train and val
    made: list[str]  # the stages that make data
    values: list[int]  # of background and each class, in what the server of test takes
    results: str
    truth: Callable[[str], np.ndarray]

    def __call__(self, *arguments: object) -> Result:
        sets = [word for setting in self.settings for word in ("--set", setting)]
        done = CliRunner().invoke(main, [*map(str, arguments), *sets])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Result(done.exit_code, done.output, done.output)

    def about(self, command: str, mode: str, *arguments: object) -> Result:
        """A command about the run of a mode."""
        return self(command, "--mode", mode, "--artifacts", self.artifacts, *arguments)

    def run(self, mode: str) -> list[str]:
        """The stages that a run of this mode, named as the mode, executed."""
        options = ("--workers", 1, "--device", "cpu", "--name", mode)
        done = self.about("run", mode, *options)
        assert done.code == 0, done
        return done.stages_run()

    @property
    def artifacts(self) -> Path:
        return self.root.parent / "artifacts"

    def made_by(self, stage: str, mode: str = "multi-stage") -> Path:
        keys = json.loads((self.artifacts / "runs" / f"{mode}.json").read_text())["keys"]
        return self.artifacts / stage / keys[stage]

    def measured(self, mode: str) -> dict[str, dict]:
        rows = json.loads((self.made_by("evaluation", mode) / "metrics.json").read_text())
        return {row["what"]: row for row in rows}


def voc(place: Path) -> Miniature:
    def truth(image_id: str) -> np.ndarray:
        mask = voc_mask(VOC_OBJECTS[image_id])
        return np.select([mask == v for v in VOC_VALUES], range(4), 255)

    root = make_voc(place / "VOC2012")
    return Miniature(
        root=root,
        settings=(*VOC_SETTINGS, f"data.root={root}", "data.classes=[dog, cat, person]", *LEARNING),
        classes=["dog", "cat", "person"],
        splits={"train": VOC["train_aug"], "val": VOC["val"], "test": VOC["test"]},
        names=("train_aug", "val"),
        made=[],
        values=VOC_VALUES,
        results="results/VOC2012/Segmentation/comp6_test_cls",
        truth=truth,
    )


def coco(place: Path) -> Miniature:
    pytest.importorskip("pycocotools")
    root = make_coco(place / "coco")
    show_objects(root)
    (root / "test2014").mkdir()
    for n, photo in enumerate(sorted((root / "val2014").iterdir())[:2]):
        shutil.copy(photo, root / "test2014" / f"COCO_test2014_{n:012}.jpg")
    names = ("train2014", "val2014", "test2014")
    splits = [sorted(photo.stem for photo in (root / name).iterdir()) for name in names]
    told = [f"data.{split}={name}" for split, name in zip(("train", "val", "test"), names)]
    miniature = Miniature(
        root=root,
        settings=(
            "data.kind=coco",
            f"data.root={root}",
            *told,
            "pseudolabels.saliency=none",
            *LEARNING,
        ),
        classes=["person", "traffic light", "dog"],
        splits=dict(zip(("train", "val", "test"), splits)),
        names=names[:2],
        made=["data"],
        values=[0, 1, 2, 3],
        results="results",
        truth=lambda i: read_mask(miniature.made_by("data") / "masks" / f"{i}.png"),
    )
    return miniature


def show_objects(root: Path) -> None:
    """Give the photos of a COCO miniature, which are noise, something to see."""
    tints = np.array([[0, 0, 0], [150, 0, 0], [0, 150, 0], [0, 0, 150]], np.uint8)
    for split in ("train2014", "val2014"):
        found = read_instances(root / "annotations" / f"instances_{split}.json")
        for photo in found.photos:
            mask = draw_mask(photo.annotations, photo.size, found.numbers)
            noise = np.random.default_rng(0).integers(0, 80, (*mask.shape, 3), dtype=np.uint8)
            seen = noise + tints[np.where(mask == 255, 0, mask)]
            Image.fromarray(seen).save(root / split / f"{photo.id}.jpg", quality=95)
