"""Two processes under torchrun make what one makes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from getam.errors import UserError
from getam.training import distributed
from getam.training.batchnorm import join_batchnorm
from getam.training.loop import Batches
from tests.conftest import ROOT, TINY, Result, pipeline, torchrun

pytest.importorskip("accelerate")

SETTINGS = (
    *TINY,
    "data.shapes={train: 132, val: 10, size: 48}",  # three shards of maps
    "classifier.batch_size=12",
    "deeplab.batch_size=12",
    "predictions.crf.steps=1",
    "predictions.batch_size=3",
    "pseudolabels.pamr.iterations=1",
)


def run_by_two(cwd: Path, *settings: str, arguments: tuple[str, ...] = ()) -> Result:
    sets = [word for setting in settings for word in ("--set", setting)]
    return torchrun(str(ROOT / "pipeline.py"), "run", "--workers", "1", *arguments, *sets, cwd=cwd)


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> tuple[Path, Path]:
    """The same run by one process and by two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    alone = pipeline("run", "--workers", "1", cwd=one, settings=SETTINGS)
    assert alone.code == 0, alone
    both = run_by_two(two, *SETTINGS)
    assert both.code == 0, both
    assert both.out.count("classifier") == 1, both  # one table, from the leader alone
    return one, two


def artifact(place: Path, stage: str) -> Path:
    return next(p for p in (place / "artifacts" / stage).iterdir() if p.is_dir())


def both(places, stage: str, name: str) -> tuple:
    return tuple(json.loads((artifact(p, stage) / name).read_text()) for p in places)


def test_all_keys_are_the_same(places):
    keys = [
        {stage.name: [p.name for p in stage.iterdir() if p.is_dir()] for stage in place.iterdir()}
        for place in (p / "artifacts" for p in places)
    ]
    assert keys[0] == keys[1]


def test_loss_curves_agree(places):
    one, two = both(places, "classifier", "history.json")
    assert [e["loss"] for e in two] == pytest.approx([e["loss"] for e in one], rel=1e-5)
    one, two = both(places, "deeplab", "history.json")  # with dropout, which differs
    assert [e["loss"] for e in two] == pytest.approx([e["loss"] for e in one], rel=0.1)


def test_features_of_a_fixed_encoder_are_the_same(places):
    one, two = places
    fixed = (*SETTINGS, "deeplab.fixed_encoder=true")
    alone = pipeline("run", "--workers", "1", "--until", "deeplab", cwd=one, settings=fixed)
    assert alone.code == 0, alone
    together = run_by_two(two, *fixed, arguments=("--until", "deeplab"))
    assert together.code == 0, together
    assert "encoder_features" in together.out + together.err
    of_one, of_two = (sorted(artifact(p, "encoder_features").glob("*.npy")) for p in places)
    assert len(of_one) == 3
    for mine, other in zip(of_one, of_two, strict=True):
        np.testing.assert_array_equal(np.load(mine), np.load(other))


def test_foreground_of_two_processes_is_that_of_one(places, tmp_path):
    two = tmp_path / "two"
    shutil.copytree(places[0] / "artifacts", two / "artifacts")
    wanted = (*SETTINGS, "pseudolabels.saliency=features")
    until = ("--until", "foreground")
    alone = pipeline("run", "--workers", "1", *until, cwd=places[0], settings=wanted)
    assert alone.code == 0, alone
    together = run_by_two(two, *wanted, arguments=until)
    assert together.code == 0, together
    assert together.stages_run() == ["foreground"]
    of_one, of_two = (
        sorted((artifact(p, "foreground") / "foreground").iterdir()) for p in (places[0], two)
    )
    assert len(of_one) == 132
    for mine, other in zip(of_one, of_two, strict=True):
        assert mine.read_bytes() == other.read_bytes()


def test_scores_of_the_classifier_agree(places):
    one, two = (np.load(artifact(p, "classifier") / "scores.npz") for p in places)
    assert (one["ids"] == two["ids"]).all()
    np.testing.assert_allclose(one["scores"], two["scores"], atol=1e-5)


@pytest.fixture(scope="module")
def remade(places, tmp_path_factory) -> tuple[Path, Path]:
    """Maps and evaluation made anew by two processes, from what one process made before."""
    place = tmp_path_factory.mktemp("remade")
    shutil.copytree(places[0] / "artifacts", place / "artifacts")
    made = run_by_two(place, *SETTINGS, arguments=("--force", "maps", "--force", "predictions"))
    assert made.code == 0, made
    assert made.stages_run() == ["maps", "predictions"]
    return places[0], place


def test_maps_are_the_same_bit_for_bit(remade):
    one, two = (h5py.File(artifact(p, "maps") / "maps.h5") for p in remade)
    assert len(one["maps"]) > 132
    for name in ("maps", "peak", "class_id", "image_id", "first"):
        assert (one[name][:] == two[name][:]).all(), name


def test_pseudo_labels_of_two_processes_are_the_same(places, tmp_path):
    shutil.copytree(places[0] / "artifacts", tmp_path / "artifacts")
    made = run_by_two(
        tmp_path, *SETTINGS, arguments=("--until", "pseudolabels", "--force", "pseudolabels")
    )
    assert made.code == 0, made
    assert made.stages_run() == ["pseudolabels"]
    one, two = (artifact(place, "pseudolabels") / "labels" for place in (places[0], tmp_path))
    names = sorted(path.name for path in one.iterdir())
    assert len(names) == 132
    assert names == sorted(path.name for path in two.iterdir())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_evaluation_and_predictions_are_the_same(remade):
    one, two = both(remade, "evaluation", "metrics.json")
    assert one == two
    assert one[1]["images"] == 132
    predictions = [artifact(p, "predictions") / "predictions_crf" for p in remade]
    names = sorted(p.name for p in predictions[0].iterdir())
    assert len(names) == 10
    for name in names:
        assert (predictions[0] / name).read_bytes() == (predictions[1] / name).read_bytes()


def test_a_batch_that_cannot_be_shared_is_a_mistake():
    with (
        distributed.together(distributed.Group(0, 2, None)),
        pytest.raises(UserError, match="5 images for 2"),
    ):
        Batches(items=20, batch_size=5, epochs=1, seed=0)


def norms(rank: int, file: str, whole: torch.Tensor, results: dict) -> None:
    """In a process: a batch normalisation trained on this process's half of a batch."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=2
    )
    network = join_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    network.load_state_dict(results["start"])
    part = whole[rank::2].clone().requires_grad_()
    network(part).pow(3).sum().backward()
    results[rank] = {
        "gradient": part.grad,
        "weight": network[0].weight.grad,
        **{k: v.clone() for k, v in network.state_dict().items()},
    }
    torch.distributed.destroy_process_group()


def test_batch_normalisation_of_two_processes_is_that_of_one(tmp_path):
    torch.manual_seed(0)
    whole = torch.randn(6, 3, 5, 4) * 2 + 1
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict(start={k: v.clone() for k, v in network.state_dict().items()})
        torch.multiprocessing.spawn(norms, (str(tmp_path / "meet"), whole, results), nprocs=2)
        one, two = results[0], results[1]
    batch = whole.clone().requires_grad_()
    network(batch).pow(3).sum().backward()
    torch.testing.assert_close(one["gradient"], batch.grad[0::2])
    torch.testing.assert_close(two["gradient"], batch.grad[1::2])
    both = one["weight"] + two["weight"]
    torch.testing.assert_close(both, network[0].weight.grad, rtol=1e-3, atol=1e-4)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(one[name], value)
        torch.testing.assert_close(two[name], value)


def test_batch_normalisation_of_processes_takes_bf16_and_keeps_float32_statistics(tmp_path):
    features = torch.randn(6, 4, 5, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    joint, plain = join_batchnorm(nn.Sequential(nn.BatchNorm2d(4))), nn.BatchNorm2d(4)
    meet = f"file://{tmp_path / 'meet'}"
    torch.distributed.init_process_group("gloo", init_method=meet, rank=0, world_size=1)
    try:
        found = joint(features)
    finally:
        torch.distributed.destroy_process_group()
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), plain(features.float()), atol=0.02, rtol=0.02)
    torch.testing.assert_close(joint[0].running_mean, plain.running_mean)


def test_shares_are_disjoint_and_gathered_in_order():
    items = list(range(7))
    shared = []
    for rank in range(3):
        with distributed.together(distributed.Group(rank, 3, None)):
            shared += distributed.share(items)
    assert sorted(shared) == items
    assert (distributed.share(items), distributed.gather(items), distributed.count()) == (
        items,
        items,
        1,
    )
