"""Names of settings that are not there, sections without a field, and values of another kind."""

from __future__ import annotations

import pytest

from getam.config.loading import load_config, presets
from getam.config.names import all_settings
from getam.config.schema import Config
from getam.errors import UserError


def refused(*configs, sets=()) -> str:
    with pytest.raises(UserError) as caught:
        load_config(configs, sets)
    return str(caught.value)


@pytest.fixture
def written(tmp_path):
    def write(text: str) -> str:
        (tmp_path / "my.yaml").write_text(text)
        return str(tmp_path / "my.yaml")

    return write


@pytest.mark.parametrize("text", ["data:\n  # root: x\n", "data:\nmaps:\n", "data: {}\n"])
@pytest.mark.parametrize("sets", [(), ("data.root=photos", "foreground.threshold=0.5")])
def test_a_section_without_a_field_changes_nothing(written, text, sets):
    assert load_config(["folder", written(text)], sets) == load_config(["folder"], sets)


def test_the_same_holds_for_a_part_and_for_a_section_in_a_section(written):
    file = written("endtoend:\n  joint:\non_cpu:\non_gpu:\n  foreground:\n    # rounds: 3\n")
    kept = ("endtoend.joint.epochs=3", "foreground.images=9")
    found = load_config(["folder", file], kept)
    assert found == load_config(["folder"], kept)
    assert found.foreground.rounds == 5


def test_an_unknown_setting_names_its_file(written):
    file = written("maps: {methd: cam}\n")
    assert f"{file}: Unknown setting maps.methd. Did you mean maps.method?" in refused(file)
    file = written("on_cpu:\n  maps: {methd: cam}\n")
    assert f"{file}: on_cpu: Unknown setting maps.methd." in refused(file)
    base = presets()["folder"]
    assert "my.yaml: Unknown setting" in refused(base, written("maps: {methd: cam}\n"))


def test_a_name_with_a_dot_in_a_file_is_told_the_form_of_a_file(written):
    told = refused(written("maps.method: cam\n"))
    assert "Unknown setting maps.method. In a file write 'maps:', and in the next line" in told


@pytest.mark.parametrize(
    ("assignment", "near"),
    [
        ("method=cam", "Did you mean maps.method?"),
        ("deeplab.quantile=0.9", "Did you mean pseudolabels.quantile?"),
        ("maps.rounds=3", "Did you mean foreground.rounds?"),
        ("maps.methd=cam", "Did you mean maps.method?"),
        ("maps.METHOD=cam", "Did you mean maps.method?"),
        ("maps.epochs=3", "Did you mean classifier.epochs or deeplab.epochs or endtoend"),
        ("sead=1", "Did you mean seed?"),
    ],
)
def test_a_setting_of_another_section_is_suggested_with_its_section(assignment, near):
    assert near in refused(sets=[assignment])


@pytest.mark.parametrize("text", ["photos #2", "2024", "yes", "1e3", "[a]", "a: b", "*x", "007"])
@pytest.mark.parametrize("name", ["data.root", "classifier.weights", "pseudolabels.saliency_model"])
def test_a_path_on_the_command_line_is_taken_as_it_stands(name, text):
    """YAML would make a comment of ``#2``, a number of 2024, and true of yes."""
    section, field = name.split(".")
    assert getattr(getattr(load_config((), [f"{name}={text}"]), section), field) == text


def test_a_path_may_be_null_or_in_quotes(written):
    base = ("data.kind=folder", "data.review=r.csv")
    for null in ("null", "Null", "~"):
        assert load_config((), [*base, f"data.review={null}"]).data.review is None
    for quoted in ("'photos #2'", '"photos #2"'):
        assert load_config((), [f"data.root={quoted}"]).data.root == "photos #2"
    told = refused(written("data: {root: 2024}\n"))
    assert "data.root: got 2024, expected text, or null. Put text in quotes." in told


@pytest.mark.parametrize("name", ["classifier.epochs", "foreground.threshold", "seed", "data.root"])
def test_true_is_no_number_and_no_text(name, written):
    section, _, field = name.rpartition(".")
    text = f"{section}:\n  {field}: true\n" if section else f"{field}: true\n"
    assert f"{name}: got true, expected " in refused(written(text))
    if name != "data.root":
        assert f"{name}: got true, expected " in refused(sets=[f"{name}=true"])


def test_null_and_true_and_false_are_taken_where_they_are_the_default():
    usual = Config()
    for name in all_settings(Config):
        value = usual
        for part in name.split("."):
            value = getattr(value, part)
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else ""
        if text and name != "machine":
            assert load_config((), [f"{name}={text}"]) == usual, name
