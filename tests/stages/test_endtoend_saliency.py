"""Saliency that a model makes for the end-to-end mode: once, by all processes, as for labels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

import getam.labels.saliency
import stages.endtoend
from getam.cache.pieces import begin
from getam.config.schema import Pamr, PseudoLabels
from getam.data.folder import read_folder
from getam.data.images import read_photo, write_scores
from getam.data.index import Record
from getam.data.masks import read_saliency
from getam.data.resizing import reduced
from getam.data.transforms import resize_maps, to_tensor
from getam.labels.pamr import pamr
from getam.labels.saliency import Saliency
from getam.labels.salient_photos import SalientPhotos
from getam.running.context import Context
from getam.running.photo_work import on_device
from getam.training import distributed
from tests.conftest import make_folder


class Brightness:
    """Stands in for an ONNX file: finds what is bright. ``seen`` are the images it was given."""

    seen: ClassVar[list[np.ndarray]] = []

    def __init__(self, path: str) -> None:
        assert path == "model.onnx"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(image)
        return (image.max(2) / 255).astype(np.float32)


@pytest.fixture
def brightness(monkeypatch) -> list[np.ndarray]:
    monkeypatch.setattr(getam.labels.saliency, "SaliencyModel", Brightness)
    monkeypatch.setattr(Brightness, "seen", [])
    return Brightness.seen


def saliency_of_a_model(place: Path, workers: int = 1) -> list[Record]:
    data = read_folder(place / "data")
    labels = PseudoLabels(saliency="onnx", saliency_model="model.onnx", saliency_threshold=0.35)
    config = SimpleNamespace(pseudolabels=labels, data=SimpleNamespace(train="train"))
    job = SimpleNamespace(config=config, context=Context(wanted_workers=workers), inputs={})
    job.pieces = begin(place / "work")
    job.scratch = job.pieces.folder / "scratch"
    return stages.endtoend._with_saliency(job, data)


def test_saliency_of_a_model_is_made_once_and_decides_as_in_the_label_stage(tmp_path, brightness):
    make_folder(tmp_path / "data")
    for _ in range(2):  # the second time as after a kill
        records = saliency_of_a_model(tmp_path)
    assert len(brightness) == len(records) == 8
    for record, image in zip(records, brightness):
        kept = read_saliency(record.saliency, image.shape[:2]) > 0.35
        np.testing.assert_array_equal(kept, image.max(2) / 255 > 0.35)
        assert 0 < kept.mean() < 1


def test_each_process_makes_its_share_of_the_saliency(tmp_path, brightness, monkeypatch):
    monkeypatch.setattr(distributed, "wait", lambda: None)  # here they run one after the other
    make_folder(tmp_path / "data")
    for rank in range(3):
        with distributed.together(distributed.Group(rank, 3, None)):
            records = saliency_of_a_model(tmp_path)
    assert len(brightness) == len(records) == 8
    assert all(record.saliency.is_file() for record in records)


def test_processes_share_the_photos(tmp_path, brightness):
    """Of a whole data set one process would need hours, beside idle cores."""
    make_folder(tmp_path / "data")
    records = saliency_of_a_model(tmp_path, workers=2)
    assert all(record.saliency.is_file() for record in records)
    assert brightness == []  # none was made by this process


@pytest.mark.parametrize("longest", [None, 12])
def test_saliency_of_the_foreground_is_refined_as_in_the_label_stage(tmp_path, longest):
    make_folder(tmp_path / "data")
    record = read_folder(tmp_path / "data").split("train")[0]
    scores = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    write_scores(tmp_path / "scores.png", scores)
    (tmp_path / "foreground").mkdir()
    (tmp_path / "scores.png").rename(tmp_path / "foreground" / f"{record.id}.png")
    saliency = Saliency(["features"], 0.35, foreground=tmp_path / "foreground")
    photo = read_photo(record)
    image = photo if longest is None else reduced(photo, longest)
    whole = resize_maps(torch.from_numpy(scores)[None, None], image.shape[:2])
    settings = Pamr(iterations=3, dilations=(1, 2))
    refined = pamr(to_tensor(image)[None].float(), whole, 3, (1, 2))[0, 0].numpy() > 0.35

    files = {record.id: tmp_path / "work" / "salient.png"}
    labels = PseudoLabels(longest_side=longest, pamr=settings)
    work = SalientPhotos(saliency, labels, files, begin(tmp_path / "work"))
    assert [*on_device(work, [record], "cpu", workers=1)] == [1]
    found = read_saliency(files[record.id], photo.shape[:2])
    assert {*np.unique(found)} == {0, 1}
    assert found.shape == photo.shape[:2]
    if longest is None:
        assert (found == refined).mean() > 0.97  # the scores were kept in 8 bits
        assert (found != (whole[0, 0].numpy() > 0.35)).any()
    assert found.mean() == pytest.approx(refined.mean(), abs=0.05)
