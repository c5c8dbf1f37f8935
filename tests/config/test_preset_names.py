"""``--config`` takes a file or the name of a preset."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from getam.config.loading import PRESETS, load_config, presets
from getam.errors import UserError
from pipeline import main
from tests.conftest import ROOT, make_folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(name: str) -> str:
    with pytest.raises(UserError) as error:
        load_config([name])
    return str(error.value)


def test_the_presets_are_the_files_of_configs():
    configs = {file.name: file.read_bytes() for file in (ROOT / "configs").iterdir()}
    assert {file.name: file.read_bytes() for file in PRESETS.iterdir()} == configs
    assert {f"{name}.yaml" for name in presets()} == set(configs)


def test_git_keeps_one_copy_of_the_presets():
    listed = ["git", "ls-files", "-s", "getam/config/presets"]
    told = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True).stdout
    if not told:
        pytest.skip("not a clone")
    assert told.startswith("120000 "), "expected a link to configs/"


@pytest.mark.parametrize("name", ["folder", "voc12", "coco14", "bf16", "voc12_vit"])
def test_a_name_means_the_preset_in_an_empty_folder(here, name):
    assert load_config([name]) == load_config([ROOT / "configs" / f"{name}.yaml"])


def test_a_folder_of_the_same_name_is_not_in_the_way(here):
    make_folder(here / "folder")
    words = ["data", "--config", "folder", "--set", "data.root=folder"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "photo" in done.output or "train" in done.output


def test_a_file_of_the_same_name_wins(here):
    (here / "folder").write_text("seed: 7\n")
    assert load_config(["folder"]).seed == 7


def test_a_preset_extends_the_file_beside_it_and_not_one_of_the_working_directory(here):
    (here / "voc12.yaml").write_text("seed: 7\n")
    config = load_config(["voc12_vit"])
    assert (config.seed, config.data.train) == (0, "train_aug")


def test_a_later_preset_wins_over_an_earlier_one_and_a_file_over_both(here):
    (here / "mine.yaml").write_text("maps: {precision: fp32}\n")
    config = load_config(["voc6", "bf16", "mine.yaml"])
    assert config.classifier.precision == "bf16"
    assert config.maps.precision == "fp32"
    assert config.deeplab.image_size == load_config(["voc6"]).deeplab.image_size


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("foldr", "folder"),
        ("VOC12", "voc12"),
        ("folder.yaml", "folder"),
        ("configs/coco14.yml", "coco14"),
        ("./bf16", "bf16"),
    ],
)
def test_neither_file_nor_preset_lists_the_presets_and_suggests_the_nearest(here, name, nearest):
    told = refusal(name)
    assert told.startswith(f"--config {name}: ")
    assert "No such file or preset" in told
    assert all(known in told for known in presets())
    assert told.endswith(f"Did you mean {nearest}?")


def test_nothing_is_suggested_where_nothing_is_near(here):
    assert "Did you mean" not in refusal("holiday.jpeg")


@pytest.mark.parametrize("name", ["photos", "photos/", "/dev/null", "name\0zero", "n" * 300, ""])
def test_what_is_no_file_is_one_sentence_and_not_read(here, name):
    (here / "photos").mkdir()
    assert "the name of a preset: bf16, " in refusal(name)


def test_help_and_errors_of_the_command_tell_the_presets(here):
    for command in ("run", "status", "data", "report"):
        told = " ".join(CliRunner().invoke(main, [command, "--help"]).output.split())
        assert all(name in told for name in presets()), command
    done = CliRunner().invoke(main, ["status", "--config", "foldr"])
    assert done.exit_code == 1
    assert "Did you mean folder?" in done.output
