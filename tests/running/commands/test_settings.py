"""config: every setting is listed, with a value that can be typed and a meaning."""

from __future__ import annotations

import yaml

from getam.config.loading import load_config, recorded
from getam.config.schema import Config
from getam.running.commands.settings import all_settings, as_typed, settings_table
from tests.running.commands.conftest import assert_one_sentence
from tests.running.test_rerun import leaves


def test_every_setting_is_listed_once_and_says_what_it_does():
    listed = all_settings(Config())
    assert sorted(one.name for one in listed) == sorted(name for name, _ in leaves(Config()))
    for one in listed:
        assert one.about[:1].isupper() or one.about.split(":")[0] in one.allowed, one.name
        assert one.about.endswith("."), one.name
        assert one.allowed != "any value", one.name


def test_a_value_as_listed_can_be_set_again():
    for one in all_settings(Config()):
        assignment = f"{one.name}={as_typed(one.value)}"
        assert load_config((), [assignment]) == Config(), assignment


def test_a_changed_value_stands_beside_its_default(micro):
    told = micro("config", "classifier.epochs", more=("classifier.epochs=3",)).out
    assert "classifier.epochs = 3   (default: 10)" in told
    assert "Passes over the train photos." in told
    assert "maps.method" not in told


def test_config_says_which_stages_run_again_after_a_change(micro):
    told = " ".join(micro("config", "pseudolabels.quantile").out.split())
    assert "A change reruns pseudolabels" in told
    assert "classifier" not in told
    assert "A change reruns" not in micro("config", "data.root").out  # only a place


def test_the_beginning_of_a_setting_suggests_those_that_begin_so(micro):
    told = micro("config", "classifier.lr")
    assert_one_sentence(told, "'classifier.lr_encoder' or 'classifier.lr_head'")


def test_a_section_is_listed_whole_and_alone():
    told = settings_table(Config(), "pseudolabels")
    assert "pseudolabels.pamr.iterations = 10" in told
    assert "maps." not in told.replace("class maps.", "")


def test_an_unknown_section_suggests_the_nearest(micro):
    assert_one_sentence(micro("config", "pseudolabel"), "no such section", "'pseudolabels'")
    assert_one_sentence(micro("config", "maps.methd"), "Did you mean 'maps.method'?")


def test_recorded_settings_make_the_same_configuration_again():
    files = ["configs/folder.yaml"]
    config = load_config(files, ["seed=3", "maps.scales=[1.0, 1.5]", "classifier.model_args={}"])
    again = load_config(base=yaml.safe_load(yaml.safe_dump(recorded(config))))
    assert again == config
    assert recorded(Config()) == {}
