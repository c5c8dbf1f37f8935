"""Models of Hugging Face transformers, named in the settings, are the same networks in timm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from getam.config.loading import load_config, recorded
from getam.errors import UserError
from getam.maps.compute import compute_maps
from getam.networks.build import build_classifier, build_deeplab, normalisation
from getam.running.opening import open_runner
from stages.chain import chain
from tests.conftest import EXAMPLE
from tests.other_models import _SIZE

MODELS = {
    "vit": ("ViTConfig", "ViTForImageClassification", {}),
    "vit_without_head": ("ViTConfig", "ViTModel", {}),
    "deit": ("DeiTConfig", "DeiTForImageClassificationWithTeacher", {}),
    "dinov2": ("Dinov2Config", "Dinov2ForImageClassification", {"mlp_ratio": 2}),
    "registers": ("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", {"mlp_ratio": 2}),
}


def save(folder: Path, name: str, **more) -> torch.nn.Module:
    """A tiny model of transformers, its weights drawn at random, and its folder."""
    library = pytest.importorskip("transformers")
    config, model, own = MODELS[name]
    torch.manual_seed(0)
    model = getattr(library, model)(getattr(library, config)(**{**_SIZE, **own, **more}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model.eval()


def settings(folder: Path, *more: str):
    return load_config((), (f"classifier.model=hf:{folder}", *more))


@pytest.mark.parametrize("name", MODELS)
def test_the_network_has_the_tokens_of_the_model(name, tmp_path):
    theirs = save(tmp_path, name)
    found = settings(tmp_path).classifier
    assert found.weights == str(tmp_path / "model.safetensors")
    network = build_classifier(found.model, 3, 32, found.model_args, found.weights).eval()
    images = torch.randn(2, 3, 32, 32)
    inner = getattr(theirs, theirs.base_model_prefix, theirs)
    with torch.no_grad():
        expected = inner(images).last_hidden_state
        tokens = network.forward_features(images)
    # The epsilon of layer norms is 1e-6 in timm, 1e-12 in some of these models.
    torch.testing.assert_close(tokens, expected, rtol=1e-3, atol=1e-4)
    assert compute_maps(network, images, torch.eye(2, 3)).shape == (2, 3, 4, 4)


def test_the_encoder_of_deeplab_may_be_such_a_model(tmp_path):
    theirs = save(tmp_path, "dinov2")
    given = (f"deeplab.encoder=hf:{tmp_path}", "deeplab.weights=timm")
    found = load_config((), given).deeplab
    network = build_deeplab(found.encoder, 3, 32, found.encoder_args, 8, (1, 2, 3), found.weights)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = network.eval().features(images).flatten(2).mT
        expected = theirs.dinov2(images).last_hidden_state[:, 1:]
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)


def test_what_the_user_sets_beside_the_name_stays(tmp_path):
    save(tmp_path, "vit")
    more = ("classifier.weights=none", "classifier.model_args={drop_path_rate: 0.1}")
    found = settings(tmp_path, *more).classifier
    assert found.weights == "none"
    assert found.model_args["drop_path_rate"] == 0.1
    assert found.model_args["embed_dim"] == 32


def test_a_recorded_run_needs_no_translation(tmp_path):
    save(tmp_path, "vit")
    config = settings(tmp_path)
    assert load_config(base=recorded(config)) == config


@pytest.mark.parametrize(
    ("mean", "expected"), [([0.5] * 3, 0.5), ([0.485, 0.456, 0.406], 0.485), (None, 0.5)]
)
def test_photos_are_normalised_as_the_model_expects(mean, expected, tmp_path):
    save(tmp_path, "vit")
    if mean:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean}))
    found = settings(tmp_path).classifier
    network = build_classifier(found.model, 3, 32, found.model_args, found.weights)
    assert normalisation(network)[0][0] == expected


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "bert"}, "model_type 'bert', expected one of vit, deit, dinov2"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'.*activation gelu"),
        ({"num_attention_heads": None, "hidden_size": 0}, "does not describe a ViT"),
    ],
)
def test_a_model_of_another_kind_is_refused(change, complaint, tmp_path):
    config = {"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 1, "patch_size": 8}
    config |= {"intermediate_size": 8, "num_attention_heads": 1, **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=rf"classifier\.model: .*{complaint}"):
        settings(tmp_path)


def test_a_folder_that_is_missing_damaged_or_empty_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"classifier\.model: got hf:.*there is no folder"):
        settings(tmp_path / "missing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*config\.json"):
        settings(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match=r"no file of weights, expected model\.safetensors"):
        settings(tmp_path)


def test_a_repository_that_cannot_be_reached_is_one_sentence(monkeypatch):
    import huggingface_hub

    def refuse(name, **wanted):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=r"hf:google/vit-tiny is not on this machine.*no network"):
        load_config((), ["classifier.model=hf:google/vit-tiny"])


def test_a_repository_in_the_cache_is_used_without_the_network(monkeypatch, tmp_path):
    import huggingface_hub

    save(tmp_path, "vit")

    def cached(name, local_files_only=False, **wanted):
        assert local_files_only
        assert (name, wanted["revision"]) == ("google/vit-tiny", "main")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    found = load_config((), ["classifier.model=hf:google/vit-tiny@main"]).classifier
    assert found.weights == str(tmp_path / "model.safetensors")


def test_the_chain_runs_and_its_key_is_made_of_the_content_and_not_of_the_folder(tmp_path):
    import shutil

    save(tmp_path / "one", "vit")
    shutil.copytree(tmp_path / "one", tmp_path / "two")

    def runner(folder: str):
        name = f"hf:{tmp_path / folder}"
        given = (f"classifier.model={name}", f"deeplab.encoder={name}", "classifier.image_size=32")
        usual = ("classifier.weights=timm", "classifier.model_args={}", "deeplab.encoder_args={}")
        config = load_config((), (*EXAMPLE, *given, *usual))
        assert config.classifier.model_args["embed_dim"] == 32
        return open_runner(chain, config, tmp_path / "artifacts", device="cpu", workers=1)

    first = runner("one")
    first.run(first.plan(until="maps"))
    assert (first.store.folder("maps", first.key("maps")) / "maps.h5").is_file()
    described = first.store.folder("classifier", first.key("classifier")) / "network.json"
    assert str(tmp_path) not in described.read_text()
    assert runner("two").key("deeplab") == first.key("deeplab")
    (tmp_path / "two" / "model.safetensors").unlink()
    save(tmp_path / "two", "vit", num_hidden_layers=3)
    assert runner("two").key("classifier") != first.key("classifier")
