"""Training on a part of the patches."""

from __future__ import annotations

import pytest
import timm
import torch

from getam.config.loading import load_config
from getam.errors import UserError
from getam.networks.build import build_classifier, load_network
from getam.networks.patch_dropout import drop_patches
from getam.running.opening import open_runner
from stages.chain import chain
from tests.conftest import EXAMPLE

SMALL = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize(
    ("model", "prefix"),
    [("vit_tiny_patch16_224", 1), ("deit_tiny_distilled_patch16_224", 2)],
)
def test_training_sees_some_patches_and_all_prefix_tokens(model, prefix):
    network = build_classifier(model, 3, 32, SMALL)
    images, seen = torch.rand(2, 3, 32, 32), []
    with torch.no_grad():
        before = network.eval()(images)
    drop_patches(network, 0.5)
    network.blocks[0].register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    network.train()(images)
    with torch.no_grad():
        after = network.eval()(images)
    assert seen == [prefix + 8, prefix + 16]
    torch.testing.assert_close(after, before)


def test_each_step_leaves_out_others():
    network = build_classifier("vit_tiny_patch16_224", 3, 32, SMALL)
    drop_patches(network, 0.5)
    seen = []
    network.blocks[0].register_forward_hook(lambda _, given, __: seen.append(given[0].detach()))
    images = torch.rand(1, 3, 32, 32)
    network.train()
    for _ in range(4):
        network(images)
    assert len({tuple(tokens[0, 1:, 0].tolist()) for tokens in seen}) > 1


def test_a_network_that_takes_all_patches_is_refused():
    network = timm.create_model("eva02_tiny_patch14_224", depth=1)
    with pytest.raises(UserError, match=r"patch_drop_rate: got 0.5, .* Set .* to 0"):
        drop_patches(network, 0.5)
    drop_patches(network, 0)


def test_the_stage_trains_so_and_its_network_takes_all_patches(tmp_path):
    keys = []
    for rate in (0, 0.5):
        config = load_config((), (*EXAMPLE, f"classifier.patch_drop_rate={rate}"))
        runner = open_runner(chain, config, tmp_path, device="cpu", workers=1)
        runner.run(runner.plan(until="classifier"))
        keys.append(runner.store.folder("classifier", runner.key("classifier")))
    whole, part = (load_network(folder).state_dict() for folder in keys)
    assert whole.keys() == part.keys()
    assert any(not torch.equal(whole[name], part[name]) for name in whole)
