"""Weights and descriptions of networks are data: nothing in them runs, reads or loads more."""

from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from getam.errors import UserError
from getam.networks.build import (
    build_classifier,
    build_deeplab,
    build_endtoend,
    load_network,
    network_build,
    network_classes,
    save_network,
)
from getam.networks.weights import only_weights
from tests.conftest import ROOT

VIT = "vit_tiny_patch16_224"
ARGS = {"patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
BUILD = {"model": VIT, "num_classes": 2, "image_size": 32, "args": ARGS}


class RunsWhenLoaded:
    """Code in a pickle, which leaves a file behind when it runs."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture
def trace(tmp_path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture
def hostile(tmp_path, trace) -> Path:
    state = timm.create_model(VIT, img_size=32, **ARGS).state_dict()
    torch.save({"state_dict": state, "extra": RunsWhenLoaded(trace)}, tmp_path / "hostile.pth")
    return tmp_path / "hostile.pth"


@pytest.fixture
def timm_that_runs_code(monkeypatch):
    """An older timm, whose functions load with ``weights_only=False`` unless told not to."""
    from timm.models import _helpers

    for function in (_helpers.load_checkpoint, _helpers.load_state_dict):
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        assert names[-1] == "weights_only"
        monkeypatch.setattr(function, "__defaults__", (*function.__defaults__[:-1], False))


def test_the_hostile_file_runs_where_it_is_trusted(hostile, trace):
    torch.load(hostile, weights_only=False)
    assert trace.exists()


@pytest.mark.usefixtures("timm_that_runs_code")
@pytest.mark.parametrize("kind", ["classifier", "deeplab", "convolutional", "endtoend"])
def test_weights_that_hold_code_are_refused_and_not_run(kind, hostile, trace):
    builders = {
        "classifier": lambda: build_classifier(VIT, 2, 32, ARGS, str(hostile)),
        "deeplab": lambda: build_deeplab(VIT, 3, 32, ARGS, 8, (1, 2, 3), str(hostile)),
        "convolutional": lambda: build_deeplab(
            "test_convnext", 3, 32, {}, 8, (1, 2, 3), str(hostile)
        ),
        "endtoend": lambda: build_endtoend(VIT, 2, 32, ARGS, 8, str(hostile)),
    }
    with pytest.raises(UserError, match=r"hostile\.pth.*holds Python objects beside tensors"):
        builders[kind]()
    assert not trace.exists()


def test_original_vit_weights_that_hold_code_are_refused_and_not_run(tmp_path, trace):
    array = np.array([RunsWhenLoaded(trace)], dtype=object)
    names = ("embedding/kernel", "Transformer/posembed_input/pos_embedding", "cls")
    np.savez(tmp_path / "hostile.npz", **dict.fromkeys(names, array))
    with pytest.raises(UserError, match=r"hostile\.npz: cannot load these weights"):
        build_classifier(VIT, 2, 32, ARGS, str(tmp_path / "hostile.npz"))
    assert not trace.exists()


def test_a_damaged_pytorch_file_is_one_sentence(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"not weights at all")
    with pytest.raises(UserError, match=r"w\.pth: cannot load these weights.*damaged"):
        build_classifier(VIT, 2, 32, ARGS, str(tmp_path / "w.pth"))


def test_plain_pytorch_weights_are_loaded(tmp_path):
    source = timm.create_model(VIT, img_size=32, **ARGS)
    torch.save({"state_dict": source.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    network = build_classifier(VIT, 2, 32, ARGS, str(tmp_path / "w.pth"))
    assert torch.equal(network.blocks[1].mlp.fc1.weight, source.blocks[1].mlp.fc1.weight)


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg_overlay", "pretrained_cfg"])
@pytest.mark.parametrize("encoder", [VIT, "test_convnext"])
def test_arguments_that_make_timm_load_a_file_are_refused(name, encoder, hostile, trace):
    value = str(hostile) if name == "checkpoint_path" else {"file": str(hostile)}
    with pytest.raises(UserError, match=f"got {name}.*setting weights"):
        build_deeplab(encoder, 3, 32, {name: value}, 8, (1, 2, 3))
    assert not trace.exists()


@pytest.mark.parametrize("forced", [None, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_no_code_runs_whoever_calls_torch_load(forced, hostile, trace, monkeypatch):
    if forced:
        monkeypatch.setenv(forced, "1")
    with only_weights(), pytest.raises(pickle.UnpicklingError):
        torch.load(hostile, weights_only=False)
    assert not trace.exists()


def saved(folder: Path, **changes) -> Path:
    network = build_classifier(**BUILD)
    save_network(folder, network, {"kind": "classifier", **BUILD}, ["a", "b"])
    file = folder / "network.json"
    described = {**json.loads(file.read_text()), **changes}
    described = {key: value for key, value in described.items() if value != "remove"}
    file.write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"weights": "/home/somebody/weights.pth"}, "unknown key 'weights', expected only kind"),
        ({"channels": 8}, "unknown key 'channels'"),
        ({"args": {"checkpoint_path": "/home/somebody/w.pth"}}, "args: got checkpoint_path"),
        ({"args": {"pretrained": True}}, "args: got pretrained"),
        ({"args": [1]}, "args: got a list, expected arguments by name"),
        ({"model": 3}, "model: got 3, expected a name"),
        ({"num_classes": "2"}, "num_classes: got '2', expected a whole number above 0"),
        ({"num_classes": True}, "num_classes: got True"),
        ({"image_size": 0}, "image_size: got 0"),
        ({"image_size": "remove"}, "the key 'image_size' is missing"),
        ({"classes": ["a", 1]}, "classes: got a list, expected a list of names"),
        ({"classes": "ab"}, "classes: got 'ab', expected a list of names"),
        ({"kind": "detector"}, "kind 'detector', expected one of classifier, deeplab, endtoend"),
        ({"kind": ["classifier"]}, "got the kind"),
        ({"kind": "deeplab"}, "unknown key 'model'"),
    ],
)
def test_a_description_of_other_keys_or_types_is_one_sentence(changes, complaint, tmp_path):
    folder = saved(tmp_path, **changes)
    for read in (load_network, network_build, network_classes):
        with pytest.raises(UserError, match=rf"network\.json.*{complaint}"):
            read(folder)


@pytest.mark.parametrize("text", ["", "[1]", "null", '{"kind"', "[" * 100_000, "\ud800"])
def test_a_damaged_description_is_one_sentence(text, tmp_path):
    (tmp_path / "network.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=r"network\.json: (cannot read how|got the kind None)"):
        network_build(tmp_path)


def test_weights_of_another_network_than_described_are_one_sentence(tmp_path):
    folder = saved(tmp_path, args={**ARGS, "depth": 2})
    with pytest.raises(UserError, match=r"network\.safetensors: these weights do not fit"):
        load_network(folder)
    save_file({}, folder / "network.safetensors")
    with pytest.raises(UserError, match=r"network\.safetensors: these weights do not fit"):
        load_network(folder)
    (folder / "network.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"network\.safetensors: these weights do not fit"):
        load_network(folder)


@pytest.mark.parametrize("model", ["xcit_nano_12_p16_224", "tnt_s_legacy_patch16_224"])
def test_a_classifier_whose_attention_cannot_be_read_is_refused_before_it_learns(model):
    with pytest.raises(UserError, match=r"attention of another kind.*expected a timm ViT"):
        build_classifier(model, 2, 224, {})


SAFE = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
NEVER = ("yaml.load", "yaml.unsafe_load", "eval", "exec", "joblib.load", "torch.jit.load")


@pytest.mark.parametrize("folder", ["getam", "stages", "tools", "benchmarks"])
def test_every_load_in_the_project_says_that_it_runs_no_code(folder):
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in NEVER, f"{file}:{node.lineno}"
            if called in SAFE:
                name, value = SAFE[called]
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get(name) == str(value), f"{file}:{node.lineno}: {called}"
