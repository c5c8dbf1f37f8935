"""Checkpoints: saved when a signal ends a training, never of weights that are no numbers."""

from __future__ import annotations

import signal

import pytest
import torch

from getam.cache.pieces import begin
from getam.config.schema import LossWeights, Training
from getam.errors import UserError
from getam.networks.build import build_endtoend
from getam.training.checkpoint import Checkpoint, History
from getam.training.joint import JointLoss
from getam.training.loop import train
from tests.training.test_joint import ARGS, LABELS, MAPS, SIDE
from tests.training.test_loop import Net, assert_same, fit, item, loss


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    settings = Training(epochs=1, batch_size=4)
    with pytest.raises(UserError, match=r"Training diverged: the loss .* at step 2\. Lower lr_enc"):
        train(
            Net(),
            8,
            item,
            lambda network, batch: loss(network, batch) * float("nan"),
            settings,
            seed=0,
            pieces=begin(tmp_path),
            scratch=tmp_path,
            device="cpu",
        )


def test_a_diverged_training_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    """One of weights that are no numbers would be gone on from for ever."""
    monkeypatch.setenv("GETAM_CHECKPOINT_SECONDS", "0")

    def diverges(network, batch, at=[0]):  # noqa: B006
        at[0] += 1
        return loss(network, batch) * (float("inf") if at[0] == 4 else 1)

    with pytest.raises(UserError, match=r"Training diverged: .* step 4"):
        fit(tmp_path, loss=diverges)
    taken = []

    def count(iterable, total, initial, **_):
        taken.append(initial)
        return iterable

    resumed, _ = fit(tmp_path, track=count)
    assert taken == [3]
    assert all(torch.isfinite(weights).all() for weights in resumed.values())


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    """The loss of the last step was finite: it came before the weights changed."""
    network, pieces = Net(), begin(tmp_path)
    state = Checkpoint(tmp_path / "checkpoint.pt", pieces, network, None, None)
    with torch.no_grad():
        network.head.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"the weight head.weight is no longer a finite"):
        state.save(1, History(), {"loss": torch.ones(())})
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(("then", "now"), [(False, True), (True, False), (True, True)])
def test_a_training_goes_on_in_another_precision(tmp_path, then, now):
    """auto may mean another one on the machine that goes on. Only fp16 has a state of a scaler."""
    network, file = Net(), tmp_path / "checkpoint.pt"
    optimizer = torch.optim.AdamW(network.parameters())
    scaler = torch.amp.GradScaler("cpu", enabled=then, init_scale=8)
    saved = Checkpoint(file, begin(tmp_path), network, optimizer, scaler)
    saved.save(3, History(), {"loss": torch.ones(1)})
    scaler = torch.amp.GradScaler("cpu", enabled=now, init_scale=4)
    step, _ = Checkpoint(file, begin(tmp_path), network, optimizer, scaler).load()
    assert step == 3
    assert scaler.get_scale() == (8 if then and now else 4 if now else 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_step_and_a_checkpoint(tmp_path, number):
    class Stopped(BaseException):
        pass

    def stop(*_):
        raise Stopped

    former = signal.signal(number, stop)
    whole, curve = fit(tmp_path / "whole")
    steps = []

    def signalled(network, batch):
        steps.append(len(steps))
        if len(steps) == 3:
            signal.raise_signal(number)
        return loss(network, batch)

    try:
        with pytest.raises(Stopped):
            fit(tmp_path / "cut", loss=signalled)
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, former)
    assert len(steps) == 3
    taken = []

    def count(iterable, total, initial, **_):
        taken.append(initial)
        return iterable

    resumed, resumed_curve = fit(tmp_path / "cut", track=count)
    assert taken == [3]
    assert_same(whole, resumed)
    assert curve == resumed_curve


def test_a_second_signal_stops_a_step_at_once(tmp_path):
    def twice(network, batch):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the step went on")

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, loss=twice)


@pytest.mark.parametrize("weight", [float("nan"), 0.0], ids=["no number", "zero"])
def test_a_joint_step_of_a_network_without_maps_has_diverged(weight):
    torch.manual_seed(0)
    network = build_endtoend("vit_tiny_patch16_224", 2, SIDE, ARGS, channels=8)
    network.encoder.head.weight.data.fill_(weight)
    batch = torch.rand(2, 3, SIDE, SIDE), torch.ones(2, 2)
    with pytest.raises(UserError, match="Training diverged: the network has no class maps any"):
        JointLoss(network.encoder, LossWeights(), MAPS, LABELS)(network, batch)
