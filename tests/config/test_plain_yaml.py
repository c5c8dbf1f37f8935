"""A config file that is no config is one short sentence, in no time, and is never quoted."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from getam.config.loading import load_config
from getam.errors import UserError
from pipeline import main

SECRET = "hunter2-swordfish"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)
TEXTS = {
    "aliases that explode": (BOMB, "more than 10000 values"),
    "merged aliases that explode": (
        BOMB.replace("[", "{<<: [").replace("]", "]}").replace("x, ", ""),
        "repeats a value|more than|not plain YAML",
    ),
    "a value inside itself": ("maps: &a [*a]", "repeats a value inside itself"),
    "a map inside itself": ("maps: &a {b: *a}", "repeats a value inside itself"),
    "deep lists": ("maps: " + "[" * 20_000, "nested more than|not plain YAML"),
    "deep lists that end": ("maps: " + "[" * 60 + "]" * 60, "nested more than 40 deep"),
    "deep maps": ("".join(f"{' ' * n}a:\n" for n in range(200)), "nested more than 40 deep"),
    "a tab": (f"maps:\n\tmethod: {SECRET}\n", r"found character '\\t' .* line 2, column 1"),
    "a name given twice": ("maps: {flip: true}\nmaps: {scales: [1]}\n", "line 2 gives a name"),
    "a tag of Python": (f"maps: !!python/object/apply:os.system [{SECRET}]", "line 1 has a value"),
    "bytes": ("maps: !!binary aGVsbG8=", "line 1 has a value with a tag"),
    "an unknown alias": (f"maps: *{SECRET}", "found undefined alias something else, line 1"),
    "an open quote": (f"maps: '{SECRET}", "found unexpected end of stream, line 1"),
    "two documents": (f"maps: {{}}\n---\n{SECRET}: 1", "not plain YAML"),
    "a number that is none": ("maps: !!int ''", "not of the kind that it says"),
    "a number of many digits": (f"seed: {'9' * 5000}", "not of the kind that it says"),
    "infinity": ("classifier: {lr_head: .inf}", "classifier.lr_head: got inf, .* finite"),
    "no number": ("pseudolabels: {background_power: .nan}", "background_power: got nan"),
    "infinity in arguments": ("classifier: {model_args: {a: [.inf]}}", "finite numbers"),
    "text alone": (SECRET, "got a str, expected sections"),
    "a list": (f"[{SECRET}]", "got a list, expected sections"),
    "extends of a list": (f"extends: [{SECRET}]", "extends: expected the name"),
    "extends of a map": (f"extends: {{a: {SECRET}}}", "extends: expected the name"),
    "extends of no name": ('extends: "a\\0b"', "extends: expected the name"),
    "extends of a name that is too long": (f"extends: {'a' * 5000}", "cannot read|expected the"),
    "extends of itself": ("extends: config.yaml", "leads back to this file"),
    "extends of a folder": ("extends: .", "no regular file"),
    "extends of a device": ("extends: /dev/zero", "no regular file"),
    "extends of nothing": ("extends: nowhere.yaml", "cannot read this config"),
}


def refused(file: Path) -> str:
    """The only line that the command says."""
    start = time.monotonic()
    result = CliRunner().invoke(main, ["config", "--config", str(file)])
    assert time.monotonic() - start < 30
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.output.startswith("Error: "), result.output
    assert len(result.output.splitlines()) == 1
    assert len(result.output) < 6_000
    assert SECRET not in result.output
    return result.output


@pytest.mark.parametrize(("text", "words"), TEXTS.values(), ids=TEXTS)
def test_a_file_that_is_no_config_is_refused_in_a_sentence(tmp_path, text, words):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=words):
        load_config([file])
    refused(file)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00m", bytes(range(256)) * 20, b"\x89PNG\r\n\x1a\n" + os.urandom(2000)],
    ids=["UTF-16", "every byte", "a picture"],
)
def test_a_binary_file_is_refused(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    assert "not UTF-8 text" in refused(tmp_path / "config.yaml")


def test_control_characters_are_refused(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"maps: {method: '\x00\x1b[31m'}")
    assert "a character that is no text" in refused(tmp_path / "config.yaml")


def test_a_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "huge.yaml", "wb") as stream:
        stream.truncate(1 << 40)  # a hole: it takes no disk
    (tmp_path / "config.yaml").write_text("extends: huge.yaml")
    assert "more than 100000 bytes" in refused(tmp_path / "config.yaml")
    assert "more than 100000 bytes" in refused(tmp_path / "huge.yaml")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "config.yaml").write_text("extends: pipe.yaml")
    assert "no regular file" in refused(tmp_path / "config.yaml")
    assert "no regular file" in refused(tmp_path / "pipe.yaml")


def test_files_that_extend_in_a_circle_or_without_end_are_refused(tmp_path):
    for n in range(60):
        (tmp_path / f"{n}.yaml").write_text(f"extends: {n + 1}.yaml")
    assert "more than 20 files extend" in refused(tmp_path / "0.yaml")
    (tmp_path / "59.yaml").write_text("extends: 57.yaml")
    assert "leads back" in refused(tmp_path / "57.yaml")
    (tmp_path / "link.yaml").symlink_to("link.yaml")
    (tmp_path / "0.yaml").write_text("extends: link.yaml")
    assert ".yaml: " in refused(tmp_path / "0.yaml")


@pytest.mark.parametrize(
    "assignment",
    [
        "a" + ".a" * 5000 + "=1",
        "classifier.model_args" + ".a" * 5000 + "=1",
        "classifier.model_args=" + "[" * 60 + "]" * 60,
        "classifier.model_args=&a [*a]",
        "classifier.model_args={a: .nan}",
        "classifier.model_args={1: 2}",
        "classifier.lr_head=.inf",
        "classifier.epochs=" + "9" * 5000,
        "seed=!!python/name:os.system",
    ],
    ids=lambda text: text[:30],
)
def test_an_assignment_of_this_kind_is_refused_too(assignment):
    result = CliRunner().invoke(main, ["config", "--set", assignment])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert len(result.output.splitlines()) == 1
    assert len(result.output) < 6_000


def test_anchors_and_merges_still_work(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "classifier: &c {epochs: 3}\n"
        "deeplab: {<<: *c, batch_size: 5}\n"
        "data: {classes: [2012-09-07]}"
    )
    config = load_config([file])
    assert (config.deeplab.epochs, config.deeplab.batch_size) == (3, 5)
    assert config.data.classes == ("2012-09-07",)


def test_a_class_that_yaml_takes_for_a_truth_value_is_told_to_be_quoted(tmp_path):
    (tmp_path / "config.yaml").write_text("data: {classes: [cat, no]}")
    assert (
        "got ['cat', False], expected a list of at least one: text, or null. Put text in quotes."
        in refused(tmp_path / "config.yaml")
    )
