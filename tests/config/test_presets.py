"""The shipped configs: they fit their data sets, their models exist and go through every stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
from click.testing import CliRunner, Result

from getam.config.loading import load_config
from getam.errors import UserError
from pipeline import main
from tests.conftest import ROOT, make_folder
from tests.trees import make_coco, make_voc

CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))
OVERLAYS = {  # not alone: on top of another
    "paper_sgd.yaml": "folder.yaml",
    "endtoend_paper.yaml": "voc12.yaml",
    "bf16.yaml": "voc6.yaml",
}
BACKBONES = ("voc12.yaml", "voc12_vit.yaml", "voc12_deit.yaml", "voc12_deit_distilled.yaml")
MICRO = (
    "classifier.weights=none",
    "classifier.model_args={embed_dim: 16, depth: 2, num_heads: 2}",
    "classifier.image_size=32",
    "classifier.batch_size=6",
    "classifier.epochs=1",
    "deeplab.weights=none",
    "deeplab.encoder=test_convnext",
    "deeplab.atrous_rates=[1, 2, 3]",
    "deeplab.channels=8",
    "deeplab.image_size=64",
    "deeplab.batch_size=6",
    "deeplab.epochs=1",
    "endtoend.weights=none",
    "endtoend.model_args={embed_dim: 16, depth: 2, num_heads: 2}",
    "endtoend.image_size=32",
    "endtoend.channels=8",
    "endtoend.classification={epochs: 1, batch_size: 6}",
    "endtoend.joint={epochs: 1, batch_size: 6}",
    "predictions.scales=[1.0]",
    "predictions.crf.steps=1",
)


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("roots")
    return {
        "voc": make_voc(place / "voc"),
        "coco": make_coco(place / "coco"),
        "folder": make_folder(place / "folder"),
    }


def files(name: str) -> list[Path]:
    names = [OVERLAYS[name], name] if name in OVERLAYS else [name]
    return [ROOT / "configs" / name for name in names]


def run(configs: list[Path], artifacts: Path, *settings: str, options=()) -> Result:
    words = [word for file in configs for word in ("--config", str(file))]
    sets = [word for setting in settings for word in ("--set", setting)]
    place = ("--artifacts", str(artifacts), "--device", "cpu", "--workers", "1")
    return CliRunner().invoke(main, ["run", *words, *sets, *place, *options])


def run_all(configs: list[Path], artifacts: Path, *settings: str) -> dict[str, Path]:
    """The artifact of each stage."""
    result = run(configs, artifacts, *settings)
    assert result.exit_code == 0, result.output
    keys = json.loads((artifacts / "runs" / "default.json").read_text())["keys"]
    return {stage: artifacts / stage / key for stage, key in keys.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_dry_run_resolves_on_a_miniature_of_its_data(name, roots, tmp_path):
    config = load_config(files(name), machine="cpu")  # as run is called here: --device cpu
    settings = [f"data.root={roots[config.data.kind]}"]
    if config.data.kind == "coco":  # the miniature has no saliency maps
        settings.append("pseudolabels.saliency=none")
    result = run(files(name), tmp_path / "artifacts", *settings, options=["--dry-run"])
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if "would run" in line]
    stages = 4 if config.mode == "end-to-end" else 7 + config.deeplab.fixed_encoder
    stages += "features" in config.pseudolabels.saliency
    assert len(lines) == stages + (config.data.kind == "coco")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_model_exists_and_has_weights_in_timm(name):
    config = load_config(files(name))
    explained = config.endtoend if config.mode == "end-to-end" else config.classifier
    for model in (explained.model, config.deeplab.encoder):
        assert timm.is_model(model), model
        assert timm.get_pretrained_cfg(model).has_weights, model


@pytest.mark.parametrize("name", BACKBONES)
def test_each_published_backbone_goes_through_one_step_of_every_stage(name, roots, tmp_path):
    """The real architecture at random weights, as narrow and shallow as it can be."""
    config, root = ROOT / "configs" / name, f"data.root={roots['voc']}"
    made = run_all([config], tmp_path / "artifacts", root, *MICRO)
    build = json.loads((made["classifier"] / "network.json").read_text())
    assert build["model"] == load_config([config]).classifier.model
    history = json.loads((made["deeplab"] / "history.json").read_text())
    assert len(history) == 1
    assert len(list((made["pseudolabels"] / "labels").iterdir())) == 6
    assert "network + CRF" in (made["evaluation"] / "table.txt").read_text()


@pytest.mark.parametrize("name", BACKBONES)
def test_each_published_backbone_goes_through_one_step_end_to_end(name, roots, tmp_path):
    model = load_config([ROOT / "configs" / name]).classifier.model
    settings = (f"data.root={roots['voc']}", *MICRO, f"endtoend.model={model}")
    overlaid = [ROOT / "configs" / name, ROOT / "configs" / "endtoend_paper.yaml"]
    made = run_all(overlaid, tmp_path / "artifacts", *settings)
    assert [*made] == ["endtoend", "predictions", "doubt", "evaluation"]
    assert json.loads((made["endtoend"] / "network.json").read_text())["model"] == model
    assert "network + CRF" in (made["evaluation"] / "table.txt").read_text()


def test_bf16_reaches_every_network():
    config = load_config(files("bf16.yaml"))
    inner = (config.endtoend.classification, config.endtoend.joint)
    sections = (config.classifier, config.maps, config.foreground, config.deeplab, *inner)
    assert {s.precision for s in (*sections, config.predictions)} == {"bf16"}
    assert config.deeplab.image_size == load_config(files("voc6.yaml")).deeplab.image_size


def test_a_file_extends_another_and_wins_over_it(tmp_path):
    (tmp_path / "base.yaml").write_text("seed: 3\nmaps: {method: cam, flip: false}\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nmaps: {method: attention}\n")
    config = load_config([tmp_path / "mine.yaml"])
    assert (config.seed, config.maps.method, config.maps.flip) == (3, "attention", False)


def test_files_that_extend_each_other_are_an_error(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(UserError, match="leads back to this file"):
        load_config([tmp_path / "a.yaml"])
    (tmp_path / "a.yaml").write_text("extends: gone.yaml\n")
    with pytest.raises(UserError, match=r"gone.yaml: cannot read"):
        load_config([tmp_path / "a.yaml"])


@pytest.mark.parametrize("machine", ["gpu", "cpu"])
@pytest.mark.parametrize("name", ["coco14", "folder", "voc12", "voc12_dinov2", "voc6"])
def test_what_makes_the_example_fast_does_not_reach_a_preset_for_photos(name, machine):
    config = load_config([name], machine=machine)
    assert config.predictions.flip
    assert config.classifier.patch_drop_rate == 0
    assert config.deeplab.frozen_blocks == (4 if name == "voc12_dinov2" else 0)
    assert config.classifier.frozen_blocks != load_config().classifier.frozen_blocks
