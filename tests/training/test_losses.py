"""The losses of the end-to-end mode: dense-CRF energy, saliency, balance."""

from __future__ import annotations

import math

import pytest
import torch

from getam.training import distributed
from getam.training.crf_loss import dense_energy
from getam.training.losses import (
    background_cross_entropy,
    balanced_cross_entropy,
    class_balanced_cross_entropy,
    cross_entropy,
    foreground_cross_entropy,
    saliency_loss,
)


def by_pairs(p, images, gate, sigma_rgb, sigma_xy):
    """The definition, pair by pair."""
    total = p.new_zeros(())
    _, labels, height, width = p.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    for b in range(len(p)):
        for i in pixels:
            for j in pixels:
                colour = (images[b, :, i[0], i[1]] - images[b, :, j[0], j[1]]).square().sum()
                place = (i[0] - j[0]) ** 2 + (i[1] - j[1]) ** 2
                w = math.exp(-colour / (2 * sigma_rgb**2) - place / (2 * sigma_xy**2))
                for k in range(labels):
                    total = total + gate[b, i[0], i[1]] * w * p[b, k, i[0], i[1]] * (
                        1 - p[b, k, j[0], j[1]]
                    )
    return total / len(p)


@pytest.fixture(scope="module")
def case():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=draw, dtype=torch.float64)
    images = torch.rand(2, 3, 4, 5, generator=draw, dtype=torch.float64) * 60
    gate = torch.rand(2, 4, 5, generator=draw, dtype=torch.float64)
    gate[0, gate[0] < 0.6] = 0  # images with unequally many gated pixels
    p = logits.softmax(1).requires_grad_()
    value = by_pairs(p, images, gate, 15, 3)
    (gradient,) = torch.autograd.grad(value, p)
    return p, images, gate, value, gradient


@pytest.mark.parametrize("chunk", [1, 40, 120, 1 << 22])
def test_energy_and_its_gradient_equal_a_loop_over_pixel_pairs(case, chunk):
    p, images, gate, value, gradient = case
    found = dense_energy(p, images, gate, sigma_rgb=15, sigma_xy=3, chunk=chunk)
    assert torch.allclose(found, value, rtol=1e-12)
    assert torch.allclose(torch.autograd.grad(3 * found, p)[0], 3 * gradient, rtol=1e-10)


def test_energy_in_float32_is_close_to_that_in_float64(case):
    _, images, _, _, _ = case
    p, gate = torch.rand(2, 3, 4, 5).softmax(1), torch.ones(2, 4, 5)
    images = images.round()
    single = dense_energy(p, images.float(), gate, sigma_xy=3)
    assert single.dtype == torch.float32
    double = dense_energy(p.double(), images, gate, sigma_xy=3)
    assert single.item() == pytest.approx(double.item(), rel=1e-4)


def test_energy_without_an_uncertain_pixel_is_zero_and_so_is_its_gradient():
    p = torch.rand(2, 3, 4, 5).softmax(1).requires_grad_()
    energy = dense_energy(p, torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5))
    assert energy.item() == 0
    assert torch.autograd.grad(energy, p)[0].abs().max() == 0


def test_energy_falls_when_alike_pixels_get_the_same_label():
    images = torch.zeros(1, 3, 4, 4)
    images[..., 2:] = 200
    gate = torch.ones(1, 4, 4)
    along, across = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    along[:, 1, :, 2:] = across[:, 1, 2:] = 1
    along[:, 0], across[:, 0] = 1 - along[:, 1], 1 - across[:, 1]
    assert dense_energy(along, images, gate) < 0.01 * dense_energy(across, images, gate)


def test_saliency_loss_falls_when_background_moves_to_pixels_that_are_not_salient():
    """The released code inverts its target on salient pixels."""
    saliency = torch.zeros(1, 4, 4, dtype=torch.bool)
    saliency[:, :, :2] = True
    on_salient, elsewhere = torch.zeros(2, 1, 3, 4, 4)
    on_salient[:, 0][saliency] = 5
    elsewhere[:, 0][~saliency] = 5
    assert saliency_loss(elsewhere, saliency) < saliency_loss(on_salient, saliency)
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(saliency_loss(logits, saliency), logits)
    assert (gradient[:, 0][saliency] > 0).all()
    assert (gradient[:, 0][~saliency] < 0).all()


def test_saliency_loss_is_the_cross_entropy_of_the_background_probability():
    logits = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    saliency = torch.rand(2, 3, 3) < 0.5
    background = logits.softmax(1)[:, 0]
    likelihood = torch.where(saliency, 1 - background, background)
    assert torch.allclose(saliency_loss(logits, saliency), -likelihood.log().mean())
    sure = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1)
    assert saliency_loss(sure, torch.ones(1, 1, 1, dtype=torch.bool)).isfinite()


def test_background_and_foreground_losses_are_the_parts_of_the_balanced_one():
    logits = torch.randn(1, 3, 2, 4)
    labels = torch.tensor([[[0, 1, 2, 255], [0, 0, 0, 255]]])
    parts = background_cross_entropy(logits, labels) + foreground_cross_entropy(logits, labels)
    assert torch.equal(parts, balanced_cross_entropy(logits, labels))
    changed = logits.clone()
    changed[..., 0, 1:] += torch.randn(1, 3, 3)
    before = background_cross_entropy(logits, labels)
    assert torch.equal(before, background_cross_entropy(changed, labels))


def draw_labelled(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (2, 4, 5, 6) and labels: much background, little of 1 and 3, no 2, some ignored."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 5, 6, generator=draw, dtype=torch.float64)
    labels = torch.zeros(2, 5, 6, dtype=torch.uint8)
    labels[0, 0, :5], labels[1, 1, :2], labels[:, 4] = 1, 3, 255
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("foreground", [False, True])
def test_class_balanced_loss_is_the_mean_of_the_classes_own_means(foreground):
    logits, labels = draw_labelled()
    each = -logits.log_softmax(1).gather(1, labels.clamp(max=3).long()[:, None])[:, 0]
    classes = (1, 3) if foreground else (0, 1, 3)
    expected = sum(each[labels == c].mean() for c in classes) / len(classes)
    found = (
        foreground_cross_entropy(logits, labels, by_class=True)
        if foreground
        else class_balanced_cross_entropy(logits, labels)
    )
    assert torch.allclose(found, expected, rtol=1e-6)
    given, wanted = (torch.autograd.grad(loss, logits)[0] for loss in (found, expected))
    assert torch.allclose(given, wanted, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("value", [0, 255])
def test_class_balanced_loss_of_no_labelled_pixel_is_zero_and_so_is_its_gradient(value):
    logits, labels = draw_labelled()
    loss = foreground_cross_entropy(logits, torch.full_like(labels, value), by_class=True)
    assert loss.item() == 0
    assert torch.autograd.grad(loss, logits)[0].abs().max() == 0


@pytest.mark.parametrize("loss", [cross_entropy, class_balanced_cross_entropy])
def test_mean_loss_of_processes_is_that_of_all_their_pixels(loss, monkeypatch):
    logits, labels = draw_labelled()
    whole, halves = loss(logits, labels), [(logits[n : n + 1], labels[n : n + 1]) for n in (0, 1)]
    counts: list[torch.Tensor] = []
    monkeypatch.setattr(distributed, "mean", lambda count: counts.append(count) or count)
    for half in halves:
        loss(*half)
    monkeypatch.setattr(distributed, "mean", lambda _: sum(counts) / 2)
    assert torch.allclose(sum(loss(*half) for half in halves) / 2, whole)


LOSSES = {
    "cross entropy": cross_entropy,
    "balanced": balanced_cross_entropy,
    "class balanced": class_balanced_cross_entropy,
    "foreground by class": lambda logits, labels, weights=None: foreground_cross_entropy(
        logits, labels, True, weights
    ),
}


@pytest.fixture
def labelled():
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, 5, 6, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, 4, (3, 5, 6), generator=draw)
    labels[torch.rand(3, 5, 6, generator=draw) < 0.2] = 255
    return logits, labels


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_an_image_of_weight_n_counts_as_n_images_of_weight_1(labelled, loss):
    logits, labels = labelled
    found = loss(logits, labels, torch.tensor([3.0, 1.0, 2.0]))
    repeated = [0, 0, 0, 1, 2, 2]
    assert torch.isclose(found, loss(logits[repeated], labels[repeated]))
    assert not torch.isclose(found, loss(logits, labels))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_equal_weights_change_nothing_however_small_they_are(labelled, loss):
    logits, labels = labelled
    for weight in (1e-4, 1.0, 50.0):
        assert torch.isclose(loss(logits, labels, torch.full((3,), weight)), loss(logits, labels))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_weighted_images_without_a_label_give_no_loss_and_no_gradient(labelled, loss):
    logits = labelled[0].requires_grad_()
    value = loss(logits, torch.full((3, 5, 6), 255), torch.tensor([3.0, 1.0, 2.0]))
    value.backward()
    assert value == 0
    assert not logits.grad.any()
