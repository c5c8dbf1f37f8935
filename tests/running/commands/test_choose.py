"""The command choose: lists of settings are tried, and the best ones are recommended."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from getam.cache import Runs, Store, gc
from getam.config.loading import load_config
from getam.config.schema import Config
from getam.errors import UserError
from getam.labels.label_agreement import Agreement
from getam.running.commands.choose import (
    SettingList,
    advice,
    choose,
    default_lists,
    options,
    recommended,
    table,
)
from getam.running.same_run import name_of_this_run
from pipeline import main
from tests.conftest import TINY, make_folder

THRESHOLD, ROUNDS = "pseudolabels.saliency_threshold", "foreground.rounds"


def counted(*shares: float) -> Agreement:
    """The agreement of photos of 100 pixels, of which these shares of the object are found."""
    found = Agreement(1)
    for share in shares:
        labels = np.repeat([0, 1], 50)[None]
        found.update(labels * (np.arange(100) < 50 + 50 * share), labels.astype(np.uint8), [1])
    return found


def agreement_of(figures: dict[tuple[float, int], float], asked: list[tuple[float, int]]):
    def measure(config: Config) -> Agreement:
        asked.append((config.pseudolabels.saliency_threshold, config.foreground.rounds))
        return counted(*[figures.get(asked[-1], 0.1)] * 20)

    return measure


def test_the_best_value_of_a_list_is_kept_for_the_next_list():
    asked = []
    lists = [SettingList.parse(f"{THRESHOLD}=0.2,0.3"), SettingList.parse(f"{ROUNDS}=1,5")]
    measure = agreement_of({(0.3, 3): 0.6, (0.3, 5): 0.7}, asked)
    best, tried = choose(load_config(), lists, measure)
    assert asked == [(0.5, 3), (0.2, 3), (0.3, 3), (0.3, 3), (0.3, 1), (0.3, 5)]
    assert (best.pseudolabels.saliency_threshold, best.foreground.rounds) == (0.3, 5)
    assert options(tried, best) == f"--set {THRESHOLD}=0.3 --set {ROUNDS}=5"
    stars = [line.split()[1] for line in table(tried, best).splitlines() if line.endswith("*")]
    assert stars == ["0.3", "5"]


def test_the_given_value_stays_unless_another_is_better():
    lists = [SettingList.parse(f"{THRESHOLD}=0.2,0.5,0.8")]
    best, _ = choose(load_config(), lists, lambda config: counted(0.4))
    assert best == load_config()


@pytest.mark.parametrize(
    ("setting", "values", "given"),
    [
        ("foreground.block", "0,1", "null"),
        ("maps.scales", "[2.0]", "[1.0]"),
        ("pseudolabels.pamr.dilations", "[1]", "[1, 2, 4, 8, 12, 24]"),
        ("pseudolabels.pamr.enabled", "false", "true"),
    ],
)
def test_the_given_value_may_be_of_any_kind(setting, values, given):
    config, lists = load_config(), [SettingList.parse(f"{setting}={values}")]
    best, tried = choose(config, lists, lambda config: counted(0.4))
    assert best == config
    assert tried[0].value == given
    assert options(tried, best) == ""
    assert load_config((), [f"{setting}={tried[recommended(tried, best)].value}"]) == config


@pytest.mark.parametrize("values", ["0.5,0.2", "0.2"])
def test_a_path_that_is_relative_is_that_of_the_same_run(tmp_path, monkeypatch, values):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    config = load_config((), ["data.kind=folder", "data.root=photos"])
    lists = [SettingList.parse(f"{THRESHOLD}={values}")]
    best, tried = choose(config, lists, lambda config: counted(0.4))
    assert best.pseudolabels.saliency_threshold == 0.5
    assert recommended(tried, best) == 0
    assert table(tried, best).count("*") == 1
    assert options(tried, best) == ""


def test_a_mistake_in_the_last_list_is_told_before_the_first_is_tried():
    lists = [SettingList.parse(f"{THRESHOLD}=0.2"), SettingList.parse("maps.method=getam,camm")]
    asked = []
    with pytest.raises(UserError, match=r"maps.method: got 'camm'"):
        choose(load_config(), lists, asked.append)
    assert not asked


def test_the_given_value_stays_if_another_is_better_by_chance():
    """One of 40 photos makes the other value better; without it there is no difference."""
    figures = {0.5: counted(*[0.5] * 40), 0.2: counted(0.9, *[0.5] * 39)}
    lists = [SettingList.parse(f"{THRESHOLD}=0.2")]
    best, tried = choose(
        load_config(), lists, lambda config: figures[config.pseudolabels.saliency_threshold]
    )
    assert tried[1].agreement > tried[0].agreement
    assert 0.5 < tried[1].better < 0.8  # 1 - (39 / 40) ** 40 = 0.64
    assert best == load_config()


def test_a_value_that_is_a_little_better_in_all_photos_is_taken():
    figures = {0.5: counted(*[0.5] * 40), 0.2: counted(*[0.52] * 40)}
    lists = [SettingList.parse(f"{THRESHOLD}=0.2")]
    best, tried = choose(
        load_config(), lists, lambda config: figures[config.pseudolabels.saliency_threshold]
    )
    assert [one.better for one in tried] == [None, 1.0]
    assert best.pseudolabels.saliency_threshold == 0.2


def test_the_default_lists_are_those_that_the_settings_read():
    def names(*settings: str) -> list[str]:
        return [one.setting for one in default_lists(load_config((), settings))]

    assert THRESHOLD in names()
    assert ROUNDS not in names()
    assert {THRESHOLD, ROUNDS} <= set(names("pseudolabels.saliency=features"))
    assert THRESHOLD not in names("pseudolabels.saliency=none")
    for settings in ((), ("pseudolabels.saliency=features",), ("pseudolabels.saliency=none",)):
        for one in default_lists(load_config((), settings)):
            for value in one.values:
                load_config((), (*settings, f"{one.setting}={value}"))


@pytest.mark.parametrize("text", ["maps.method", "maps.method=", "=1,2", "maps.method= , "])
def test_a_list_that_is_none_is_refused(text):
    with pytest.raises(UserError, match=r"expected SECTION\.FIELD=VALUE,VALUE"):
        SettingList.parse(text)


@pytest.mark.parametrize("text", ["data.train=a,b", " data.root = a , b", "data.shapes.train=9,8"])
def test_a_list_with_other_photos_is_refused(text):
    with pytest.raises(UserError, match=r"compared on the same photos.*choose the data with --set"):
        SettingList.parse(text)


def test_other_saliency_maps_of_the_same_photos_can_be_tried():
    assert SettingList.parse("data.saliency=one,two").values == ("one", "two")


def command(place: Path, values: str, *settings: str) -> list[str]:
    """The words of the command on a folder without masks, with values of the threshold to try."""
    root = make_folder(place / "data")
    for mask in (root / "masks").iterdir():
        mask.unlink()
    words = ["choose", "--artifacts", str(place / "artifacts"), "--workers", "1"]
    for setting in ("data.kind=folder", f"data.root={root}", *TINY, *settings):
        words += ["--set", setting]
    return [*words, "--set-list", f"{THRESHOLD}={values}"]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """The command, twice."""
    words = command(tmp_path_factory.mktemp("choose"), "0.3,0.7")
    return [*(CliRunner().invoke(main, words) for _ in range(2)), Path(words[2])]


def test_the_end_to_end_mode_compares_final_masks(tmp_path):
    done = CliRunner().invoke(main, command(tmp_path, "0.3", "mode=end-to-end"))
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[1] for line in lines[1:3]] == ["0.5", "0.3"]
    assert lines[1][3] == "-"
    assert lines[2][3].endswith("%")


def test_the_command_prints_a_table_and_the_options_to_go_on_with(chosen):
    assert chosen[0].exit_code == 0, chosen[0].output
    lines = chosen[0].stdout.splitlines()
    assert lines[0].split() == ["setting", "value", "agreement", "better", "in", "keep"]
    assert [line.split()[1] for line in lines[1:4]] == ["0.5", "0.3", "0.7"]
    assert sum(line.endswith("*") for line in lines) == 1
    kept = next(line.split()[1] for line in lines if line.endswith("*"))
    if kept == "0.5":  # the value that the settings have
        assert lines[-1] == "No value is clearly better: keep the settings."
    else:
        assert lines[-1].startswith("Go on with: ")
        assert lines[-1].endswith(f"--artifacts {chosen[2]} --set {THRESHOLD}={kept}")
    trials = [line for line in chosen[0].stderr.splitlines() if line.startswith("note: trial")]
    values = ("0.5", "0.3", "0.7")
    assert trials == [f"note: trial {n} of 3: {THRESHOLD}={v}" for n, v in enumerate(values, 1)]


def test_the_advice_can_be_pasted(tmp_path):
    given, other = counted(*[0.5] * 40), counted(*[0.52] * 40)
    lists = [SettingList.parse(f"{THRESHOLD}=0.2"), SettingList.parse(f"{ROUNDS}=1,3")]

    def measure(config: Config) -> Agreement:
        return given if config.pseudolabels.saliency_threshold == 0.5 else other

    best, tried = choose(load_config(), lists, measure)
    params = {"name": "mine", "artifacts": tmp_path}
    context = click.Context(click.Command("choose"), info_name="choose")
    context.params = params
    with context:
        told = advice(tried, best, name_of_this_run())
        none = advice(tried[:1], load_config(), name_of_this_run())
    assert told.startswith("Go on with: ")
    assert told.endswith(f" run --name mine --artifacts {tmp_path} --set {THRESHOLD}=0.2")
    assert none == "No value is clearly better: keep the settings of mine."


def test_a_finished_choice_leaves_no_runs_and_an_interrupted_one_what_it_needs(chosen):
    assert Runs(chosen[2]).names() == []
    assert {path.parent.name for path in map(Path, removed(chosen[2]))} >= {"maps", "agreement"}


def removed(artifacts: Path) -> list[str]:
    """What gc would remove."""
    return [str(item.path) for item in gc(Store(artifacts), dry_run=True)]


def test_only_the_labels_are_made_for_each_value_and_nothing_twice(chosen):
    ran = [
        [line.split()[0] for line in done.stderr.splitlines() if " runs: " in line]
        for done in chosen[:2]
    ]
    once = ["classifier", "maps", "pseudolabels", "encoder_features", "agreement"]
    assert ran == [once + 2 * ["pseudolabels", "agreement"], []]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("deeplab.encoder=resnet18", "deeplab.encoder_args={}"), "got resnet18, but choose needs"),
        (("deeplab.blocks=[9]",), "deeplab.blocks: got 9"),
    ],
)
def test_an_encoder_that_it_cannot_use_is_refused_before_the_first_stage(tmp_path, settings, told):
    done = CliRunner().invoke(main, command(tmp_path, "0.3", *settings))
    assert done.exit_code == 1
    assert told in done.stderr
    assert "done in" not in done.stderr


def test_a_value_that_no_stage_can_run_is_told_before_the_first_is_tried(tmp_path):
    """The table of hours would be lost."""
    make_folder(tmp_path / "data")
    sets = ("data.kind=folder", f"data.root={tmp_path / 'data'}", *TINY)
    words = ["choose", "--artifacts", str(tmp_path / "artifacts"), "--workers", "1"]
    words += [word for setting in sets for word in ("--set", setting)]
    lists = (f"{THRESHOLD}=0.2", "pseudolabels.saliency=folder,features", "foreground.block=1,7")
    words += [word for one in lists for word in ("--set-list", one)]
    told = CliRunner().invoke(main, [*words, "--set", "pseudolabels.saliency=features"])
    assert told.exit_code == 1
    assert "--set-list foreground.block: 7: foreground.block: got 7, expected 0 to 1" in told.output
    assert "done in" not in told.output


def test_a_value_may_be_a_list():
    parsed = SettingList.parse("maps.scales=[1], [1, 1.5]")
    assert parsed.values == ("[1]", "[1, 1.5]")
    asked = []
    choose(load_config(), [parsed], lambda config: (asked.append(config), counted(0.4))[1])
    assert {tuple(config.maps.scales) for config in asked} >= {(1.0,), (1.0, 1.5)}
