"""Corrected masks in the joint step: they take the place of the labels that the network makes."""

from __future__ import annotations

import torch
from torch import Tensor

from getam.config.schema import LossWeights
from getam.networks.build import normalisation
from getam.training.joint import JointLoss, objects
from tests.training.test_joint import LABELS, MAPS, SIDE, batch_of, labelled, network, records

__all__ = ["network", "records"]  # fixtures


def corrected_batch(records, statistics, which: list[int], value: int) -> tuple[Tensor, ...]:
    """A batch in which some photos have a corrected mask of one value, ignored at the top."""
    images, targets, saliency = batch_of(records, statistics)
    corrections = torch.full((len(records), SIDE, SIDE), -1, dtype=torch.int16)
    corrections[which] = value
    corrections[which, :4] = 255
    return images, targets, saliency, corrections


def test_corrected_masks_take_the_place_of_labels_and_of_salient_pixels(
    network, records, monkeypatch
):
    batch = corrected_batch(records, normalisation(network), [1, 3], 2)
    network.eval()
    own = labelled(network, batch[:3])
    seen = {}

    def terms(self, scores, logits, targets, labels, saliency, pixels, weights):
        seen.update(labels=labels, saliency=saliency, weights=weights)
        return {"background": logits.sum()}

    monkeypatch.setattr(JointLoss, "terms", terms)
    JointLoss(network.encoder, LossWeights(), MAPS, LABELS, 5.0)(network, batch)
    others = [n for n in range(len(records)) if n not in (1, 3)]
    assert torch.equal(seen["labels"][others], own[others])
    assert seen["labels"].dtype == own.dtype
    assert (seen["labels"][[1, 3], 4:] == 2).all()
    assert (seen["labels"][[1, 3], :4] == 255).all()
    salient = objects(batch[2], batch[1])
    assert torch.equal(seen["saliency"][others], salient[others])
    assert seen["saliency"][[1, 3], 4:].all()
    assert torch.equal(seen["saliency"][[1, 3], :4], salient[[1, 3], :4])  # not known there
    assert seen["weights"].tolist() == [5.0 if n in (1, 3) else 1.0 for n in range(len(records))]


def test_corrected_masks_need_no_saliency(network, records):
    images, targets, _, corrections = corrected_batch(records, normalisation(network), [0], 1)
    network.eval()
    loss = JointLoss(network.encoder, LossWeights(), MAPS, LABELS, 1.0)
    told = loss(network, (images, targets, corrections))
    assert "saliency" not in told
    plain = JointLoss(network.encoder, LossWeights(), MAPS, LABELS)(network, (images, targets))
    assert not torch.isclose(told["foreground"], plain["foreground"])


def test_corrections_of_no_photo_of_a_batch_change_nothing(network, records):
    batch = corrected_batch(records, normalisation(network), [], 1)
    network.eval()
    told = JointLoss(network.encoder, LossWeights(), MAPS, LABELS, 7.0)(network, batch)
    plain = JointLoss(network.encoder, LossWeights(), MAPS, LABELS)(network, batch[:3])
    assert all(torch.allclose(told[name], plain[name]) for name in plain)
