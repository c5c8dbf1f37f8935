"""Names that hold control characters do not reach the terminal as they are."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from getam.view.shown import shown
from pipeline import main
from tests.conftest import ROOT, TINY, make_folder, pipeline

EVIL = "ca\x1b[31mt\x07\u202e"


def said(*words: str, settings=()) -> str:
    sets = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(main, [*words, *sets])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


def assert_free(text: str) -> None:
    assert "\\x1b" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text), repr(text)


@pytest.fixture
def evil_classes(folder):
    table = (folder / "labels.csv").read_text().replace("cat", EVIL)
    (folder / "labels.csv").write_text(table)
    (folder / "classes.txt").unlink()
    return folder


def test_class_names_in_reports_and_errors_are_escaped(evil_classes):
    settings = ("data.kind=folder", f"data.root={evil_classes}")
    assert_free(said("data", settings=settings))
    (evil_classes / "classes.txt").write_text("dog\n")
    assert_free(said("data", settings=settings))


def test_file_names_in_reports_are_escaped(folder):
    settings = ("data.kind=folder", f"data.root={folder}")
    (folder / "images" / f"{EVIL}.gif").write_bytes(b"")
    (folder / "masks" / f"{EVIL}.gif").write_bytes(b"")
    assert_free(said("data", settings=settings))
    (folder / "saliency" / f"{EVIL}.png").write_bytes(b"")
    assert_free(said("data", settings=settings))
    (folder / "splits" / f"{EVIL}.txt").write_text("photo00\nphoto99")
    assert_free(said("data", settings=settings))


def test_values_of_settings_are_escaped(tmp_path):
    place = ("--artifacts", str(tmp_path / "artifacts"))
    for setting in (f"data.root=/no{EVIL}", f"data.val={EVIL}", f"classifier.weights={EVIL}"):
        # YAML refuses such characters, so the text stays as it is.
        assert_free(said("config", settings=(setting,)))
    settings = ("data.kind=folder", f"data.root=/no{EVIL}")
    assert_free(said("data", settings=settings))
    assert_free(said("run", "--dry-run", *place, settings=settings))
    assert_free(said("run", "--dry-run", *place, settings=(f"ma{EVIL}ps=1",)))
    assert_free(said("run", "--dry-run", "--config", f"no{EVIL}"))


def test_reasons_of_stages_are_escaped(tmp_path):
    data = make_folder(tmp_path / "data")
    (data / "splits" / "other.txt").write_text((data / "splits/val.txt").read_text())
    (data / "splits" / f"{EVIL}.txt").write_text((data / "splits/val.txt").read_text())
    every = ("data.kind=folder", f"data.root={data}", *TINY)
    place = ("--artifacts", str(tmp_path / "artifacts"))
    said("run", "--until", "classifier", *place, settings=(*every, "data.val=other"))
    assert_free(said("status", *place, settings=(*every, f"data.val={EVIL}")))
    assert_free(said("explain", "classifier", *place, settings=(*every, f"data.val={EVIL}")))
    assert_free(said("run", "--dry-run", *place, settings=(*every, f"data.val={EVIL}")))


def test_names_that_a_terminal_cannot_show_are_no_mistake_of_the_program(folder):
    table = (folder / "labels.csv").read_text().replace("cat", "käfer")
    (folder / "labels.csv").write_text(table)
    (folder / "classes.txt").unlink()
    settings = ("data.kind=folder", f"data.root={folder}")
    env = {"PYTHONIOENCODING": "ascii"}
    result = pipeline("data", cwd=folder.parent, settings=settings, env=env)
    assert "k\\xe4fer" in result.out
    assert "Traceback" not in result.err


def test_letters_of_all_scripts_and_joined_signs_stay():
    for text in ("käfer", "猫", "می‌خواهم", "👩‍🚀", "a\tb\nc"):
        assert shown(text) == text


def test_text_goes_to_the_terminal_by_one_function():
    files = [ROOT / "pipeline.py", *(ROOT / "getam").rglob("*.py")]
    wrong = {
        str(file.relative_to(ROOT))
        for file in files
        if re.search(r"(?<!>>> )(?<!\.\.\.     )\b(click\.echo|print)\(", file.read_text())
    }
    # Lines of a run, progress (figures alone), and a fixed sentence.
    assert wrong == {
        "getam/view/shown.py",
        "getam/view/lines.py",
        "getam/view/progress.py",
        "getam/running/interruption.py",
    }
