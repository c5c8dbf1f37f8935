"""Notes before the first stage about settings that people often did not mean."""

from __future__ import annotations

from getam.config.loading import load_config, presets
from getam.running.hints import hints
from tests.conftest import TINY, make_folder, pipeline

STAGES = ("classifier", "maps", "deeplab")
BASE = "vit_base_patch14_dinov2"


def told(*assignments: str, config: str = "folder", stages=STAGES, device="cpu") -> str:
    return "\n".join(hints(load_config([config], assignments), stages, device))


def test_another_vit_for_one_of_the_two_networks_is_noted():
    assert f"classifier.model is {BASE}" in told(f"classifier.model={BASE}", device="cuda")
    assert f"deeplab.encoder is {BASE}" in told(f"deeplab.encoder={BASE}", device="cuda")
    both = (f"classifier.model={BASE}", f"deeplab.encoder={BASE}")
    assert told(*both, device="cuda") == ""
    assert told("deeplab.encoder=resnet50", device="cuda") == ""


def test_no_preset_asks_for_two_vits_itself():
    assert [name for name in presets() if "set both" in told(config=name)] == []


def test_training_whole_networks_without_a_gpu_is_noted():
    note = told()
    assert "torch finds no GPU" in note
    assert "classifier at 336 pixels, deeplab at 448 pixels" in note
    assert "--config folder --device cpu" in note
    assert told(config="voc6") == told(config="voc6", stages=("endtoend",)) == ""
    assert "endtoend at 336 pixels" in told(stages=("endtoend",))
    assert told(device="cuda") == told(device=None) == told(stages=("maps",)) == ""
    assert told(config="bf16") == ""  # the embedded example


def test_a_joint_phase_for_trained_networks_that_starts_from_others_is_noted():
    endtoend = {"config": "voc6", "stages": ("endtoend",)}
    for weights in ("classifier", "timm", "none"):
        note = told(f"endtoend.weights={weights}", **endtoend)
        assert f"endtoend.weights={weights} the decoder begins with random weights" in note
        assert "epochs=1 with lr_head=0.0001" in note
        longer = "endtoend.joint.epochs=4"
        assert "random weights" in told(f"endtoend.weights={weights}", longer, **endtoend)
        faster = "endtoend.joint.lr_head=1e-3"
        assert told(f"endtoend.weights={weights}", longer, faster, **endtoend) == ""
        assert told(f"endtoend.weights={weights}", config="voc6") == ""
    assert [n for n in presets() if "random" in told(config=n, stages=("endtoend",))] == []


def test_a_run_prints_the_note_before_its_first_stage(tmp_path):
    make_folder(tmp_path / "data")
    settings = ("data.kind=folder", "data.root=data", *TINY, "deeplab.image_size=224")
    words = ("run", "--workers", "1", "--only", "classifier")
    large = (*settings, "classifier.image_size=224", "classifier.epochs=1")
    done = pipeline(*words, cwd=tmp_path, settings=large, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.code == 0, done
    assert done.err.splitlines()[0].startswith("note: torch finds no GPU."), done
    assert "classifier at 224 pixels" in done.err


def test_photos_with_the_weights_of_the_embedded_example_are_noted():
    """An end-to-end training on photos would learn for hours from weights for textures."""
    joint = {"config": "voc12", "stages": ("endtoend",), "device": "cuda"}
    assert "endtoend.weights: got shapes" in told("mode=end-to-end", **joint)
    assert "--config endtoend_paper" in told("mode=end-to-end", **joint)
    assert told("mode=end-to-end", "endtoend.weights=none", **joint) == ""
    every = {"config": "bf16", "stages": ("classifier", "deeplab"), "device": "cuda"}
    assert "classifier.weights: got shapes" in told("data.kind=folder", **every)
    assert told(**every) == ""


def test_labels_that_teach_nothing_are_noted_before_a_run_and_in_a_dry_run(tmp_path):
    """The command ``data`` calls them problems; a run says so too, before hours are spent."""
    table = make_folder(tmp_path / "data") / "labels.csv"
    first, *lines = table.read_text().splitlines()
    table.write_text("\n".join([first, *(f"{line};dog" for line in lines)]))
    settings = ("data.kind=folder", "data.root=data", *TINY, "classifier.epochs=1")
    dry = pipeline("run", "--dry-run", cwd=tmp_path, settings=settings)
    assert dry.code == 0, dry
    assert "note: train: all 8 labelled photos show dog, so nothing teaches" in dry.err
    words = ("run", "--workers", "1", "--until", "maps")
    done = pipeline(*words, cwd=tmp_path, settings=settings)
    assert done.code == 0, done
    assert done.err.index("all 8 labelled photos show dog") < done.err.index("classifier")
    again = pipeline(*words, cwd=tmp_path, settings=settings)
    assert again.code == 0, again
    assert "labelled photos" not in again.err


def test_a_run_says_how_it_read_the_label_table(tmp_path):
    table = make_folder(tmp_path / "data") / "labels.csv"
    lines = [f"photo{n:02},{1 - n % 2},{n % 2}" for n in range(12)]
    table.write_text("\n".join(["image,cat,dog", *lines]))
    settings = ("data.kind=folder", "data.root=data", *TINY)
    dry = pipeline("run", "--dry-run", cwd=tmp_path, settings=settings)
    assert dry.code == 0, dry
    assert "note: labels.csv: read as a table with a column for each class: 'cat', 'dog'" in dry.err
