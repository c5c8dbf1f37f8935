"""Named runs: listed with settings and size, and found again by their name alone."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from getam.config.loading import load_config, recorded
from getam.running.commands.named_runs import _flat, told_shortly
from tests.conftest import ROOT, TINY, make_folder, pipeline
from tests.running.commands.conftest import MicroRun

STAGES = ("classifier", "maps", "pseudolabels")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two runs over one folder, the second with another quantile and up to its labels."""
    place = tmp_path_factory.mktemp("named")
    make_folder(place / "data")
    settings = ("data.kind=folder", "data.root=data", *TINY)
    words = ("run", "--workers", "1", "--until", "pseudolabels", "--name")
    first = pipeline(*words, "first", cwd=place, settings=settings)
    second = pipeline(
        *words, "second", cwd=place, settings=(*settings, "pseudolabels.quantile=0.5")
    )
    assert (first.code, second.code) == (0, 0), (first, second)
    assert second.stages_run() == ["pseudolabels"]
    return place


def test_runs_are_listed_with_their_settings_stages_and_size(place):
    listed = pipeline("runs", "--json", cwd=place)
    first, second = json.loads(listed.out)
    assert (first["name"], second["name"]) == ("first", "second")
    assert first["done"] == second["done"] == [*STAGES]
    assert first["not done"] == []
    assert second["settings"]["pseudolabels.quantile"] == 0.5
    assert "pseudolabels.quantile" not in first["settings"]
    assert first["bytes"] > 1000
    table = pipeline("runs", cwd=place).out.splitlines()
    assert table[1].startswith("first ")
    assert "3 of 3" in table[1]


@pytest.mark.parametrize(("name", "quantile"), [("first", "0.9"), ("second", "0.5")])
def test_a_name_stands_for_all_options_of_its_run(place, name, quantile):
    told = pipeline("status", "--json", "--name", name, cwd=place)
    rows = {row["stage"]: row["status"] for row in json.loads(told.out)}
    assert [rows[stage] for stage in STAGES] == ["cached"] * 3
    shown = pipeline("config", "pseudolabels.quantile", "--name", name, cwd=place)
    assert f"pseudolabels.quantile = {quantile}" in shown.out
    assert pipeline("inspect", "maps", "--name", name, cwd=place).code == 0


def test_without_a_name_a_command_looks_at_the_run_without_a_name(place, tmp_path):
    folder = ("--artifacts", str(tmp_path / "artifacts"))
    shown = ("config", "pseudolabels.quantile", *folder)
    assert "pseudolabels.quantile = 0.9" in pipeline(*shown, cwd=place).out  # the example
    settings = ("data.kind=folder", "data.root=data", *TINY, "pseudolabels.quantile=0.7")
    words = ("run", "--workers", "1", "--only", "classifier", *folder)
    assert pipeline(*words, cwd=place, settings=settings).code == 0
    assert "pseudolabels.quantile = 0.7" in pipeline(*shown, cwd=place).out
    told = pipeline("status", "--json", *folder, cwd=place)
    assert json.loads(told.out)[0]["status"] == "cached", told
    missing = pipeline("inspect", "maps", *folder, cwd=place).err
    assert "run --until maps --name default --artifacts" in missing  # run alone: the example
    for given in (("--set", "seed=1"), ("--mode", "multi-stage"), ("--config", "bf16")):
        assert "pseudolabels.quantile = 0.9" in pipeline(*shown, *given, cwd=place).out
    example = pipeline("run", "--dry-run", *folder, cwd=place, settings=("seed=1",))
    assert "about the embedded example" in example.err, example  # and not about the folder
    assert "run --name default-" in example.err
    chosen = pipeline("run", "--dry-run", *folder, cwd=place, settings=("data.kind=shapes",))
    assert "about the embedded example" not in chosen.err, chosen  # the user said so


@pytest.mark.parametrize("name", [(), ("--name", "default")])
def test_a_run_of_a_version_with_other_settings_says_so(tmp_path, name):
    runs = tmp_path / "artifacts" / "runs"
    runs.mkdir(parents=True)
    record = {"name": "default", "keys": {}, "settings": {"maps": {"old": 3}}, "unfinished": {}}
    (runs / "default.json").write_text(json.dumps(record))
    told = pipeline("config", "maps.method", *name, cwd=tmp_path)
    assert told.code == 1
    assert "The run default was started by another version of this project" in told.err
    assert "Unknown setting maps.old" in told.err
    anew = ("config", "maps.method", *name, "--config", "voc6")
    assert pipeline(*anew, cwd=tmp_path).code == (1 if name else 0)


def test_a_name_holds_in_another_working_folder(place, tmp_path):
    words = ("status", "--json", "--name", "first", "--artifacts", str(place / "artifacts"))
    told = pipeline(*words, cwd=tmp_path)
    assert told.code == 0, told
    assert json.loads(told.out)[0]["status"] == "cached"


def test_options_change_what_a_name_stands_for(place):
    told = pipeline("status", "--json", "--name", "first", "--set", "maps.method=cam", cwd=place)
    rows = {row["stage"]: row["status"] for row in json.loads(told.out)}
    assert (rows["classifier"], rows["maps"]) == ("cached", "stale")


def test_an_unknown_name_lists_the_known_ones(place):
    told = pipeline("status", "--name", "third", cwd=place)
    assert told.code == 1
    assert "there is no run of this name" in told.err
    assert "first, second" in told.err


LATER = ("--set", "pseudolabels.quantile=0.4")
PLAN = ("run", "--dry-run", "--until", "pseudolabels", "--name")


def test_a_run_is_continued_by_its_name_alone(place):
    alone = pipeline(*PLAN, "second", cwd=place)
    assert alone.code == 0, alone
    assert "would run" not in alone.out, alone


def test_a_setting_beside_a_known_name_changes_that_run_alone(place):
    changed = pipeline(*PLAN, "second", cwd=place, settings=("maps.method=cam",))
    assert "maps             would run: because maps.method getam -> cam" in changed.out, changed
    assert "pseudolabels     would run: for the same reason" in changed.out, changed
    assert "quantile" not in changed.out  # it is still that of the run
    other = pipeline(*PLAN, "first", cwd=place, settings=("pseudolabels.quantile=0.5",))
    assert "would run" not in other.out, other  # now the labels of the run second


def test_a_reason_names_what_changed_in_this_run_not_in_a_nearer_one(place):
    """The nearest earlier labels may be those of a trial."""
    changed = pipeline(*PLAN, "first", cwd=place, settings=("pseudolabels.quantile=0.4",))
    assert "pseudolabels.quantile 0.9 -> 0.4" in changed.out, changed
    told = pipeline("explain", "pseudolabels", "--name", "first", *LATER, cwd=place)
    assert "pseudolabels.quantile 0.9 -> 0.4" in told.out, told


def test_a_config_beside_a_known_name_starts_anew(place):
    (place / "own.yaml").write_text("data: {kind: folder, root: data}\n")
    anew = pipeline(*PLAN, "second", "--config", "own.yaml", cwd=place, settings=TINY)
    assert "pseudolabels     cached" in anew.out, anew  # those of first: the quantile is 0.9


@pytest.mark.parametrize("settings", [(), ("seed=1",), ("mode=end-to-end",)])
def test_a_name_that_is_not_known_is_an_error_and_no_run_of_the_example(place, settings):
    told = pipeline(*PLAN, "secnd", cwd=place, settings=settings)
    assert (told.code, told.out) == (1, ""), told
    for part in (
        "no run of this name",
        "There are first, second.",
        "Did you mean second?",
        "--config folder --set data.root=FOLDER",
        "--set data.kind=shapes",
    ):
        assert part in told.err, (part, told)


def test_a_new_name_is_fine_where_the_data_is_named_or_a_config_given(place):
    example = pipeline(*PLAN, "new", cwd=place, settings=("data.kind=shapes",))
    assert "data " in example.out, example
    photos = ("--config", "folder", "--set", "data.root=data")
    folder = pipeline(*PLAN, "new", *photos, cwd=place)
    assert "foreground " in folder.out, folder


@pytest.mark.parametrize("content", ["", "[1]", '{"settings": 3}'])
@pytest.mark.parametrize("command", ["run", "status", "config"])
def test_a_damaged_record_of_a_run_does_not_become_the_example(tmp_path, content, command):
    (tmp_path / "artifacts" / "runs").mkdir(parents=True)
    (tmp_path / "artifacts" / "runs" / "mine.json").write_text(content)
    plan = ("--dry-run",) if command == "run" else ()
    told = pipeline(command, *plan, "--name", "mine", cwd=tmp_path)
    assert told.code == 1, told
    assert "mine.json is damaged" in told.err
    assert "is damaged" in pipeline("runs", cwd=tmp_path).out
    anew = pipeline("run", "--dry-run", "--name", "mine", "--config", "bf16", cwd=tmp_path)
    assert anew.code == 0, anew


def test_a_folder_without_runs_says_so(tmp_path):
    told = pipeline("runs", cwd=tmp_path)
    assert (told.code, told.out.count("no named run")) == (0, 1)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_run_is_listed_as_not_done(micro: MicroRun, tmp_path):
    records = tmp_path / "artifacts" / "runs"
    records.mkdir(parents=True)
    record = {"name": "x", "keys": {}, "unfinished": {"maps": "0" * 20}, "settings": {}}
    (records / "x.json").write_text(json.dumps(record))
    (found,) = json.loads(pipeline("runs", "--json", cwd=tmp_path).out)
    assert (found["done"], found["not done"], found["bytes"]) == ([], ["maps"], 0)


def test_what_is_missing_is_made_with_the_name_that_was_given(place):
    told = pipeline("inspect", "predictions", "--name", "first", cwd=place)
    pipeline_py = str(ROOT / "pipeline.py")
    how = f"'python {pipeline_py} run --until predictions --name first'"
    assert f"Make it with {how}." in told.err, told
    sets = pipeline("inspect", "predictions", "--name", "first", "--set", "seed=3", cwd=place)
    assert "--until predictions --name first --set seed=3'" in sets.err, sets


@pytest.mark.parametrize(
    "words",
    [("status",), ("review",), ("report",), ("inspect", "maps"), ("explain", "maps"), ("choose",)],
)
def test_a_command_without_a_name_does_not_take_the_example_for_a_named_run(place, words):
    told = pipeline(*words, cwd=place)
    assert (told.code, told.out) == (1, ""), told
    wanted = "There is no run without a name here. Named runs: first, second. Add --name NAME."
    assert told.err.splitlines()[-1] == f"Error: {wanted}"
    assert pipeline("config", "seed", cwd=place).code == 0  # what a setting does, of no run


def test_work_of_choose_and_compare_is_no_run_to_name(tmp_path):
    records = tmp_path / "artifacts" / "runs"
    records.mkdir(parents=True)
    for name in ("choose", "choose-0c46e6f9", "compare", "mine"):
        (records / f"{name}.json").write_text(json.dumps({"name": name, "settings": {}}))
    told = pipeline("status", cwd=tmp_path)
    assert "Named runs: mine. Add --name mine." in told.err, told


def test_a_photo_of_the_other_split_is_shown_by_a_command_with_the_given_name(place):
    told = pipeline("inspect", "maps", "photo10", "--name", "second", cwd=place)
    assert "inspect predictions photo10 --name second' shows it" in told.err, told


@pytest.mark.parametrize("command", ["verify", "gc"])
def test_a_folder_of_artifacts_that_is_not_there_is_an_error_and_not_a_clean_bill(
    command, tmp_path
):
    told = pipeline(command, "--artifacts", "artefacts", cwd=tmp_path)
    assert (told.code, told.out) == (1, ""), told
    assert "--artifacts artefacts: there is no such folder" in told.err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("preset", ["folder", "voc6", "voc12_deit"])
def test_settings_of_a_preset_are_told_by_its_name(preset):
    config = load_config([preset], ["data.root=photos", "seed=3"])
    told = told_shortly(dict(_flat(recorded(config))))
    assert told == [f"--config {preset}", "data.root=photos", "seed=3"]


def test_a_setting_of_a_preset_that_is_the_default_again_is_told_too():
    config = load_config(["folder"], ["data.root=photos", "deeplab.epochs=30", "maps.flip=false"])
    told = told_shortly(dict(_flat(recorded(config))))
    assert told[:2] == ["--config folder", "data.root=photos"]
    assert sorted(told[2:]) == ["deeplab.epochs=30", "maps.flip=false"]


def test_the_settings_of_a_run_can_be_pasted_to_copy_it(place):
    told = pipeline("runs", "--name", "second", cwd=place).out.splitlines()
    assert len([line for line in told if line.startswith(("first ", "second "))]) == 1
    words = shlex.split(told[-1])
    assert words[2:5] == ["run", "--name", "NEW"]
    copied = pipeline(*words[2:], "--until", "pseudolabels", "--dry-run", cwd=place)
    assert "would run" not in copied.out, copied
    unknown = pipeline("runs", "--name", "secnd", cwd=place)
    assert (unknown.code, unknown.out) == (1, "")
    assert "There are first, second. Did you mean second?" in unknown.err


@pytest.mark.parametrize(
    "setting", ["data.root=data", "data.classes=[cat]", "data.review=review.csv", "seed=1"]
)
def test_a_mistyped_name_never_starts_the_embedded_example(place, setting):
    """Only data.kind or --config says which data a run of a new name is about."""
    refused = pipeline(*PLAN, "frist", cwd=place, settings=(setting,))
    assert refused.code == 1
    assert "there is no run of this name" in refused.err
    assert "Did you mean first?" in refused.err


@pytest.mark.parametrize("command", [["run", "--dry-run"], ["status"], ["report"]])
def test_a_folder_beside_the_embedded_example_is_refused(place, command):
    refused = pipeline(*command, cwd=place, settings=("data.root=data",))
    assert refused.code == 1
    assert "about the embedded example (data.kind is shapes), which reads no folder" in refused.err
