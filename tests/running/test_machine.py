"""The preset folder has settings for every machine: which are taken, told, recorded and kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner

from getam.config.loading import load_config, recorded
from getam.config.schema import Config
from getam.errors import UserError
from getam.running import machine
from getam.running.commands.named_runs import _flat, told_shortly
from getam.running.machine import Found, chosen_config, disagreement, find_machine
from pipeline import main
from tests.conftest import ROOT, make_folder

FEATURES = ("pseudolabels.saliency=features",)
GPU, CPU, BF16 = Found("gpu", "found /dev/nvidia0"), Found("cpu", "none"), Found("cpu_bf16", "none")


def without(config: Config) -> Config:
    return config.model_copy(update={"machine": None})


def a_machine(root: Path, *files: str, flags: str = "avx2", cuda: str = "'13.0'") -> dict:
    """The folders of a machine: files of drivers, instructions of its CPU, and its torch."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text(
        f"vendor_id\t: AuthenticAMD\nflags\t\t: fpu {flags} sse\n"
    )
    (root / "torch").mkdir()
    said = f"cuda: Optional[str] = {cuda}\nhip: Optional[str] = None\n"
    (root / "torch" / "version.py").write_text(said)
    return {"root": root, "torch": root / "torch"}


@pytest.mark.parametrize(
    ("files", "flags", "cuda", "environment", "device", "expected"),
    [
        (["dev/nvidia0"], "avx2", "'13.0'", {}, None, ("gpu", "found /dev/nvidia0")),
        (["dev/nvidia3"], "avx2", "'13.0'", {}, None, ("gpu", "found /dev/nvidia3")),
        (["usr/lib/wsl/lib/libcuda.so.1"], "avx2", "'13.0'", {}, None, ("gpu", "/wsl/")),
        (["dev/nvidiactl"], "avx2", "'13.0'", {}, None, ("cpu", "no GPU found")),
        ([], "avx2", "'13.0'", {}, None, ("cpu", "no GPU found")),
        ([], "avx512_bf16", "'13.0'", {}, None, ("cpu_bf16", "no GPU found")),
        ([], "amx_bf16", "'13.0'", {}, None, ("cpu_bf16", "no GPU found")),
        ([], "avx512_bf16_other", "'13.0'", {}, None, ("cpu", "no GPU found")),
        (["dev/nvidia0"], "avx2", "None", {}, None, ("cpu", "torch cannot use the GPU")),
        (["dev/kfd"], "avx2", "None", {}, None, ("cpu", "torch cannot use the GPU of /dev/kfd")),
        (["dev/nvidia0"], "avx2", "'13.0'", {"": "0"}, None, ("gpu", "found")),
        (["dev/nvidia0"], "avx2", "'13.0'", {"": ""}, None, ("cpu", "hides the GPU")),
        (["dev/nvidia0"], "avx2", "'13.0'", {"": "-1"}, None, ("cpu", "hides the GPU")),
        (["dev/nvidia0"], "amx_bf16", "'13.0'", {}, "cpu", ("cpu_bf16", "--device cpu")),
        ([], "avx2", "'13.0'", {}, "cuda:1", ("gpu", "--device cuda:1")),
    ],
)
def test_a_machine_is_found_by_its_files(
    tmp_path, files, flags, cuda, environment, device, expected
):
    environment = {f"CUDA_VISIBLE_DEVICES{name}": value for name, value in environment.items()}
    places = a_machine(tmp_path, *files, flags=flags, cuda=cuda)
    found = find_machine(device, environment=environment, **places)
    assert (found.machine, found.why) == (expected[0], found.why)
    assert expected[1] in found.why


def test_the_machine_that_is_found_is_the_one_that_torch_uses():
    assert (find_machine().machine == "gpu") == torch.cuda.is_available()


def test_finding_it_imports_no_torch():
    code = "from getam.running import machine as m; m.find_machine(); import sys; "
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_on_a_cpu_folder_is_voc6_without_saliency_maps():
    on_cpu = load_config(["folder"], machine="cpu")
    assert on_cpu.machine == "cpu"
    assert without(on_cpu) == load_config(["voc6"], FEATURES)
    with_bf16 = load_config(["folder"], machine="cpu_bf16")
    assert without(with_bf16) == load_config(["voc6", "bf16"], FEATURES)


def test_features_are_the_saliency_of_folder_on_every_machine():
    for name in ("gpu", "cpu", "cpu_bf16"):
        assert load_config(["folder"], machine=name).pseudolabels.saliency == "features"


def test_a_preset_that_has_no_choice_records_no_machine():
    assert load_config(["voc6"], machine="cpu").machine is None
    assert load_config(["voc12"], machine="gpu").machine is None


def test_settings_and_later_files_win_over_the_choice(tmp_path):
    (tmp_path / "mine.yaml").write_text("deeplab: {image_size: 280}\n")
    files = ["folder", tmp_path / "mine.yaml"]
    config = load_config(files, ["classifier.image_size=140"], machine="cpu")
    assert (config.deeplab.image_size, config.classifier.image_size) == (280, 140)
    assert config.deeplab.fixed_encoder


def test_a_file_that_extends_one_with_a_choice_wins_over_it(tmp_path):
    (tmp_path / "base.yaml").write_text("on_cpu: {seed: 1}\non_gpu: {seed: 2}\nmode: multi-stage\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nmode: end-to-end\n")
    mine = [tmp_path / "mine.yaml"]
    assert [load_config(mine, machine=m).seed for m in ("gpu", "cpu", "cpu_bf16")] == [2, 1, 1]
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nseed: 5\n")
    assert load_config(mine, machine="cpu").seed == 5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("on_cpu: {classifer: {epochs: 1}}", "on_cpu: Unknown setting classifer. Did you mean"),
        ("on_cpu: {maps: {methd: cam}}", "on_cpu: Unknown setting maps.methd. Did you mean"),
        ("on_cpu_bf16: {on_cpu: {seed: 1}}", "on_cpu_bf16: Unknown setting on_cpu."),
        ("on_cpu: 3", "on_cpu: expected sections"),
        ("on_tpu: {seed: 1}", "on_tpu: expected one of on_gpu, on_cpu, on_cpu_bf16."),
        ("machine: cpu", "machine: a file cannot set it. Use --set machine=... instead."),
        ("on_cpu: {machine: cpu}", "machine: a file cannot set it."),
        ("on_cpu: {extends: mine.yaml}", "leads back to this file"),
    ],
)
def test_a_mistake_in_a_part_is_told_on_every_machine(tmp_path, text, told):
    file = tmp_path / "mine.yaml"
    file.write_text(f"{text}\n")
    with pytest.raises(UserError) as error:
        load_config([file], machine="gpu")
    assert str(error.value).startswith(f"{file}: ")
    assert told in str(error.value)


def test_a_machine_without_a_file_that_has_settings_for_it_is_an_error():
    for configs in ((), ["voc6"]):
        with pytest.raises(UserError, match="Add --config folder, or leave machine out"):
            load_config(configs, ["machine=cpu"])
    with pytest.raises(UserError, match="got 'tpu', expected gpu"):
        load_config(["folder"], ["machine=tpu"])
    assert load_config(["folder"], ["machine=null"], machine="cpu").machine == "cpu"


def chosen(monkeypatch, found: Found, *, former=None, device=None, sets=(), alone=False):
    """What the command makes of --config folder, or of the name of a run alone."""
    monkeypatch.setattr(machine, "find_machine", lambda device=None: found)
    configs, sets = (() if alone else ("folder",)), (*sets, *(() if alone else DATA))
    return chosen_config(configs, sets, former if alone else None, former or {}, device, "mine")


DATA = ("data.root=photos",)


def test_the_command_says_what_it_chose_and_why(monkeypatch):
    config, note = chosen(monkeypatch, Found("cpu_bf16", "no GPU found"))
    assert config.machine == "cpu_bf16"
    assert note == (
        "These are the settings for a CPU with bfloat16 (no GPU found): classifier at 196 pixels, "
        "deeplab at 336 pixels with a fixed encoder. For those for a GPU add --set machine=gpu."
    )
    config, note = chosen(monkeypatch, GPU)
    assert config.machine == "gpu"
    assert "settings for a GPU (found /dev/nvidia0): classifier at 336 pixels" in note
    assert chosen(monkeypatch, GPU, sets=("mode=end-to-end",))[1].count("endtoend at 336") == 1
    assert chosen_config(("voc6",), (), None, {})[1] is None


def of_run(name: str) -> dict:
    return recorded(load_config(["folder"], DATA, machine=name))


@pytest.mark.parametrize("alone", [True, False], ids=["by its name", "by the same options"])
@pytest.mark.parametrize(("kept", "found"), [("cpu", GPU), ("gpu", CPU), ("cpu_bf16", CPU)])
def test_a_run_keeps_its_settings_on_another_machine_and_says_so(monkeypatch, kept, found, alone):
    config, note = chosen(monkeypatch, found, former=of_run(kept), alone=alone)
    assert config == load_config(["folder"], DATA, machine=kept)
    assert f"as in the run mine; here: {machine.NAMES[found.machine]}, {found.why}" in note
    assert ("start anew with --config and --set machine=" in note) == alone


def test_the_device_and_the_setting_win_over_the_machine_of_the_run(monkeypatch):
    by_device, note = chosen(monkeypatch, GPU, former=of_run("cpu"), device="cuda")
    assert by_device.machine == "gpu"
    assert "found /dev/nvidia0" in note
    by_hand, note = chosen(monkeypatch, GPU, former=of_run("gpu"), sets=("machine=cpu",))
    assert by_hand == load_config(["folder"], DATA, machine="cpu")
    assert "(--set machine=cpu)" in note
    same_kind, _ = chosen(monkeypatch, CPU, former=of_run("cpu_bf16"), device="cpu")
    assert same_kind.machine == "cpu_bf16"


def test_a_run_of_other_data_does_not_decide(monkeypatch):
    former = of_run("cpu") | {"data": {"kind": "folder", "root": "/elsewhere"}}
    assert chosen(monkeypatch, GPU, former=former)[0].machine == "gpu"


def test_what_is_recorded_makes_the_same_configuration_again():
    config = load_config(["folder"], DATA, machine="cpu_bf16")
    again = load_config(base=yaml.safe_load(yaml.safe_dump(recorded(config))), machine="gpu")
    assert again == config


def test_the_list_of_runs_names_the_preset_of_every_machine():
    for name in ("gpu", "cpu", "cpu_bf16"):
        config = load_config(["folder"], (*DATA, "seed=3"), machine=name)
        told = told_shortly(dict(_flat(recorded(config))))
        assert told == ["--config folder", "data.root=photos", "seed=3"]


def test_a_torch_that_uses_another_device_is_told_in_one_sentence():
    on_gpu, on_cpu = (load_config(["folder"], machine=m) for m in ("gpu", "cpu"))
    told = disagreement(on_gpu, "cpu", GPU)
    assert "settings are for a GPU (found /dev/nvidia0), but torch uses the device cpu" in told
    assert "--set machine=gpu" in disagreement(on_cpu, "cuda:0", CPU)
    assert disagreement(on_gpu, "cuda", GPU) is None
    assert disagreement(on_cpu, "cpu", BF16) is None
    assert disagreement(on_cpu, "cuda", GPU) is None  # chosen by hand, or kept: it was told
    assert disagreement(load_config(["voc6"]), "cuda", CPU) is None


def test_a_run_is_told_recorded_and_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos")
    options = (
        "--config",
        "folder",
        "--set",
        "data.root=photos",
        "--set",
        "classifier.weights=none",
    )
    small = ("--set", "classifier.model_args={embed_dim: 12, depth: 7, num_heads: 2}")
    quick = ("--set", "classifier.epochs=1", "--until", "classifier", "--workers", "1")

    def told(*words: str) -> str:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        return done.output

    start = told("run", *options, *small, *quick, "--device", "cpu")
    assert start.count("(--device cpu): classifier at 196 pixels") == 1
    settings = json.loads((tmp_path / "artifacts/runs/default.json").read_text())["settings"]
    assert settings["machine"] in ("cpu", "cpu_bf16")
    assert settings["classifier"]["image_size"] == 196
    monkeypatch.setattr(machine, "find_machine", lambda device=None: GPU)
    for words in (
        ("run", "--name", "default"),
        ("run", *options, *small, "--set=classifier.epochs=1"),
    ):
        again = told(*words, "--dry-run", "--until", "classifier")
        assert "as in the run default; here: a GPU" in again
        assert "classifier       cached" in again
    assert "classifier" in told("status", "--name", "default")
    assert "note:" not in told("status", "--name", "default")
