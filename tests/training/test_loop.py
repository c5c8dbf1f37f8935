"""The training loop: resumable at any step, independent of workers, with the right rates."""

from __future__ import annotations

import pickle
import re

import pytest
import torch
from torch import nn

from getam.cache.pieces import begin
from getam.config.schema import Training
from getam.networks.threads import fewer_threads
from getam.running.context import Context
from getam.training.loop import Batches, SeededItems, make_optimizer, schedule, train
from getam.training.losses import balanced_cross_entropy, cross_entropy


class Net(nn.Module):
    """Dropout and batch normalisation: both would show a lost random state or a lost buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.encoder(x))


def item(index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An 'image' with random augmentation."""
    x = torch.full((3,), float(index)) + torch.randn(3)
    return x, x.sum(0, keepdim=True)


def loss(network, batch):
    return (network(batch[0]) - batch[1]).square().mean()


def figures(network, batch):
    """A loss among other figures, one of them a vector."""
    value = loss(network, batch)
    return {"loss": value, "size": value.detach().sqrt(), "mean input": batch[0].mean(0)}


def fit(
    scratch,
    workers=0,
    track=lambda iterable, **_: iterable,
    random_state=0,
    loss=loss,
    measure=lambda network: {},
    **settings,
):
    torch.manual_seed(0)
    network = Net()
    torch.manual_seed(random_state)
    settings = Training(epochs=3, batch_size=4, lr_encoder=0.01, lr_head=0.02, **settings)
    history = train(
        network,
        10,
        item,
        loss,
        settings,
        seed=5,
        pieces=begin(scratch),
        scratch=scratch,
        device="cpu",
        workers=workers,
        track=track,
        measure=lambda: measure(network),
    )
    return network.state_dict(), history.epochs


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("loss", [loss, figures])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_killed_and_resumed_training_ends_in_the_same_weights_and_curves(
    tmp_path, monkeypatch, stop_after, optimizer, loss
):
    whole, curve = fit(tmp_path / "whole", optimizer=optimizer, loss=loss)
    monkeypatch.setenv("GETAM_CHECKPOINT_SECONDS", "0")

    class Killed(Exception):
        pass

    def kill(iterable, **_):
        for n, step in enumerate(iterable):
            if n == stop_after:
                raise Killed
            yield step

    with pytest.raises(Killed):
        fit(tmp_path / "cut", track=kill, optimizer=optimizer, loss=loss)
    taken = []

    def count(iterable, total, initial, **_):
        taken.append((initial, total))
        return iterable

    resumed, resumed_curve = fit(tmp_path / "cut", track=count, optimizer=optimizer, loss=loss)
    assert taken == [(stop_after, 6)]
    assert_same(whole, resumed)
    assert curve == resumed_curve


def test_curves_hold_the_mean_of_every_figure_of_an_epoch(tmp_path):
    _, curve = fit(tmp_path, loss=figures)
    _, plain = fit(tmp_path / "plain")
    assert [row["loss"] for row in curve] == [row["loss"] for row in plain]
    assert len(curve) == 3
    for row in curve:
        assert 0 < row["size"] < row["loss"] ** 0.5 + 1e-6  # of a mean of squares
        assert row["mean input"] == pytest.approx([4.5] * 3, abs=1.2)


def test_measurements_are_made_once_an_epoch_in_eval_mode_and_change_nothing(tmp_path):
    def measure(network):
        assert not network.training
        return {"bias": network.head.bias.item()}

    weights, curve = fit(tmp_path / "a", measure=measure)
    assert_same(weights, fit(tmp_path / "b")[0])
    assert len({row["bias"] for row in curve}) == 3
    assert curve[-1]["bias"] == weights["head.bias"].item()


def test_training_that_is_done_is_only_loaded_again(tmp_path):
    whole, curve = fit(tmp_path)
    steps = []

    def count(iterable, **_):
        for step in iterable:
            steps.append(step)
            yield step

    again, again_curve = fit(tmp_path, track=count)
    assert steps == []
    assert_same(whole, again)
    assert curve == again_curve


def test_number_of_loader_workers_changes_nothing(tmp_path):
    assert_same(fit(tmp_path / "a")[0], fit(tmp_path / "b", workers=2)[0])


def test_torch_leaves_cores_to_the_processes_that_load():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for count, left in ((0, 3), (1, 2), (3, 1), (8, 1)):
            with fewer_threads(count):
                assert torch.get_num_threads() == left
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "count"), [(1, 0), (2, 0), (4, 1), (16, 4)])
def test_on_a_cpu_a_quarter_of_the_cores_loads_photos(cores, count):
    assert Context(wanted_device="cpu", wanted_workers=cores).loader_workers == count


def test_crops_and_dropout_do_not_depend_on_the_global_random_state(tmp_path):
    """The unseeded crops of the released code made every run another one."""
    one = fit(tmp_path / "a", random_state=1)[0]
    assert_same(one, fit(tmp_path / "b", random_state=2)[0])


def test_each_epoch_is_another_permutation_of_full_batches():
    batches = list(Batches(10, 4, 3, seed=1))
    assert [len(b) for b in batches] == [4] * 6
    epochs = [[i for b in batches[e * 2 : e * 2 + 2] for _, i in b] for e in range(3)]
    assert all(len(set(e)) == 8 for e in epochs)
    assert epochs[0] != epochs[1]
    assert list(Batches(10, 4, 3, seed=1, start=4)) == batches[4:]


def test_weight_decay_is_not_taken_for_momentum():
    """The released code passes the weight decay as momentum and trains with neither."""
    settings = Training(optimizer="sgd", weight_decay=0.01, momentum=0.9)
    groups = make_optimizer(Net(), settings).param_groups
    assert {g["momentum"] for g in groups} == {0.9}
    assert {g["weight_decay"] for g in groups} == {0.01, 0.0}


def test_encoder_and_head_have_their_own_rates_and_vectors_no_decay():
    settings = Training(lr_encoder=1e-5, lr_head=1e-3, weight_decay=0.1)
    network = Net()
    rates = {
        id(p): (g["lr"], g["weight_decay"])
        for g in make_optimizer(network, settings).param_groups
        for p in g["params"]
    }
    assert rates[id(network.encoder[0].weight)] == (1e-5, 0.1)
    assert rates[id(network.encoder[0].bias)] == (1e-5, 0.0)
    assert rates[id(network.head.weight)] == (1e-3, 0.1)


@pytest.mark.parametrize("kind", ["cosine", "poly"])
def test_schedule_warms_up_and_decays_to_nothing(kind):
    settings = Training(schedule=kind, warmup=0.1)
    factors = [schedule(step, 100, settings) for step in range(100)]
    assert factors[0] < factors[5] < factors[9] < 1
    assert factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.02


def test_cross_entropy_ignores_255_and_survives_an_image_without_labels():
    logits = torch.zeros(1, 3, 2, 2, requires_grad=True)
    labels = torch.full((1, 2, 2), 255)
    assert cross_entropy(logits, labels).item() == 0
    labels[0, 0, 0] = 1
    assert cross_entropy(logits, labels).item() == pytest.approx(torch.log(torch.tensor(3.0)))


def test_balanced_loss_weighs_background_and_foreground_alike():
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 1, 0, 0] = 2.0
    labels = torch.tensor([[[0, 0, 0, 1]]])
    background = cross_entropy(logits[..., :3], labels[..., :3])
    foreground = cross_entropy(logits[..., 3:], labels[..., 3:])
    assert torch.isclose(balanced_cross_entropy(logits, labels), background + foreground)


def test_progress_of_a_training_shows_the_mean_loss_of_the_epoch_so_far(tmp_path):
    shown = []

    def watch(iterable, figure, **_):
        for batch in iterable:
            yield batch
            shown.append(figure())

    _, curve = fit(tmp_path, track=watch)
    assert len(shown) == 6  # two steps in each of three epochs
    assert shown[1::2] == [f"loss {row['loss']:.3f}" for row in curve]
    assert all(re.fullmatch(r"loss \d+\.\d{3}", text) for text in shown)


def test_an_item_is_seeded_on_the_cpu_alone(monkeypatch):
    """torch.manual_seed notes a stack trace for each kind of device that is not there."""
    items = SeededItems(4, lambda index: (torch.rand(2) + index,), seed=0)
    monkeypatch.setattr(torch, "manual_seed", None)
    before = torch.random.get_rng_state()
    (first,), (again,), (other,) = items[0, 1], items[0, 1], items[1, 1]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_items_can_be_sent_to_processes_that_are_started_anew():
    """As on macOS and Windows. Stages define what makes an item inside of other functions."""
    items = SeededItems(3, lambda index: (torch.rand(2) + index,), seed=1)
    sent = pickle.loads(pickle.dumps(items))
    assert torch.equal(sent[0, 2][0], items[0, 2][0])
