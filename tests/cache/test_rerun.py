"""Exactly the stages that a change concerns run again, and the reason given is the change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from getam.cache.reasons import compare

ALL = ["seeds", "labels", "figures"]


def edit(path: str, old: str, new: str) -> Callable:
    return lambda project: project.edit(path, old, new)


def set_config(section: str, value: object) -> Callable:
    return lambda project: project.config.update({section: value})


def set_items(part: str, items: dict[str, str]) -> Callable:
    return lambda project: project.data.update({part: items})


def touch(project) -> None:
    for path in project.root.glob("toy*/*.py"):
        path.touch()


def add_module(project) -> None:
    (project.root / "toylib" / "new.py").write_text("x = 1")


def declare_more(project) -> None:
    from getam.cache import Stage

    project.stages[2] = Stage(
        "figures", "toysteps.figures:run", needs=("labels",), reads=("figures", "workers")
    )


COLOURS = {"title": "t", "colours": ["red", "blue"]}
CHANGES = {
    "nothing": (lambda project: None, []),
    "times of the code": (touch, []),
    "comment three imports deep": (edit("toylib/arithmetic.py", "# adds", "# sums"), []),
    "docstring": (edit("toysteps/seeds.py", "Counts up", "Counts"), []),
    "formatting": (edit("toylib/writing.py", "(path, text)", "(path,  text)"), []),
    "module that no stage imports": (add_module, []),
    "setting that no stage reads": (set_config("workers", 8), []),
    "lazy export that no stage imports": (edit("toylib/__init__.py", '"other"', '"more"'), []),
    "code of a stage": (edit("toysteps/figures.py", '"|"', '"/"'), ["figures"]),
    "helper three imports deep": (edit("toylib/arithmetic.py", "a + b", "a - b"), ALL),
    "helper that is imported and unused": (edit("toylib/unused.py", "None", "1"), ALL[1:]),
    "helper behind a lazy package": (edit("toylib/writing.py", "(text)", "(text + '.')"), ALL[1:]),
    "setting of the first stage": (set_config("seed", 2), ALL),
    "type of a setting": (set_config("seed", 1.0), ALL),
    "setting of the last stage": (set_config("figures", COLOURS), ["figures"]),
    "declaration": (declare_more, ["figures"]),
    "an image": (set_items("images", {"i1": "d1", "i2": "other"}), ALL),
    "an image more": (set_items("images", {"i1": "d1", "i2": "d2", "i3": "d3"}), ALL),
    "images exchanged": (set_items("images", {"i1": "d2", "i2": "d1"}), ALL),
    "class table": (set_items("classes", {"cat": "2"}), ALL[1:]),
    "order of the items": (set_items("images", {"i2": "d2", "i1": "d1"}), []),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_change_reruns_exactly_the_stages_it_concerns(project, change, expected) -> None:
    assert project.run() == ALL
    change(project)
    assert [d.stage for d in project.runner().plan() if d.runs] == expected
    assert project.run() == expected
    assert project.run() == []


def test_change_that_is_taken_back_reruns_nothing(project) -> None:
    project.run()
    project.config["seed"] = 2
    project.run()
    project.config["seed"] = 1
    assert project.run() == []


def test_moved_project_reruns_nothing(project, tmp_path_factory, monkeypatch) -> None:
    project.run()
    moved = tmp_path_factory.mktemp("elsewhere") / "renamed"
    shutil.copytree(project.root, moved)
    monkeypatch.syspath_prepend(moved)
    project.root = moved
    assert project.run() == []


REASONS = {
    "config": (set_config("seed", 2), "seeds", "seed 1 -> 2"),
    "list": (
        set_config("figures", COLOURS),
        "figures",
        'figures.colours ["red"] -> ["red", "blue"]',
    ),
    "new setting": (
        set_config("figures", {"title": "t", "colours": ["red"], "size": 3}),
        "figures",
        "figures.size not set -> 3",
    ),
    "setting gone": (
        set_config("figures", {"title": "t"}),
        "figures",
        'figures.colours ["red"] -> not set',
    ),
    "setting to none": (
        set_config("figures", {"title": None, "colours": ["red"]}),
        "figures",
        "figures.title t -> null",
    ),
    "items": (
        set_items("images", {"i2": "other", "i3": "d3"}),
        "seeds",
        "the images of the data: 1 changed (i2), 1 added (i3), 1 removed (i1)",
    ),
    "many items": (
        set_items("images", {f"j{n}": "d" for n in range(7)}),
        "seeds",
        "the images of the data: 7 added (j0, j1, j2, j3, j4 and 2 more), 2 removed (i1, i2)",
    ),
}


@pytest.mark.parametrize(("change", "stage", "expected"), REASONS.values(), ids=REASONS)
def test_explanation_names_what_changed_with_old_and_new(project, change, stage, expected) -> None:
    project.run()
    change(project)
    assert [c.sentence() for c in project.runner().explain(stage)] == [expected]
    assert project.reason(stage) == f"because {expected}"


def test_explanation_of_changed_code_names_the_module(project) -> None:
    project.run()
    project.edit("toylib/arithmetic.py", "a + b", "a - b")
    (change,) = project.runner().explain("seeds")
    assert (change.group, change.name) == ("code", "toylib.arithmetic")
    assert change.sentence() == "the code of toylib.arithmetic changed"


def test_explanation_downstream_names_the_root_cause(project) -> None:
    project.run()
    project.config["seed"] = 2
    assert project.reason("labels") == "because seed 1 -> 2"
    assert [c.sentence() for c in project.runner().explain("labels")] == ["seed 1 -> 2"]


def test_explanation_names_each_cause_once_however_it_reaches_the_stage(project) -> None:
    project.run()
    project.config |= {"seed": 2, "figures": {"title": "now", "colours": ["red"]}}
    project.edit("toylib/arithmetic.py", "a + b", "a - b")
    told = [c.sentence() for c in project.runner().explain("figures")]
    assert len(set(told)) == len(told)
    assert {"seed 1 -> 2", "figures.title t -> now"} <= set(told)
    assert "the code of toylib.arithmetic changed" in told


def test_explanation_says_which_input_changed_where_its_former_artifact_is_gone(project) -> None:
    project.run()
    shutil.rmtree(project.artifacts / "seeds")
    project.config["seed"] = 2
    assert project.reason("labels").startswith("because the artifact of seeds ")


def test_explanation_compares_with_the_nearest_artifact_then_the_newest(project) -> None:
    for seed, title in ((1, "far"), (2, "near"), (3, "near")):
        project.config |= {"seed": seed, "figures": {"title": title}}
        project.run()
    project.config |= {"seed": 2, "figures": {"title": "now"}}
    (change,) = project.runner().explain("figures")
    assert (change.old, change.new) == ("near", "now")
    project.config["seed"] = 9
    assert [c.old for c in project.runner().explain("seeds")] == [3]


def test_explanation_without_the_old_items_says_that_the_part_changed(project) -> None:
    project.run()
    shutil.rmtree(project.artifacts / ".cache" / "tables")
    project.data["images"] = {"i1": "d1"}
    assert project.reason("seeds").startswith("because the images of the data changed")


def test_explanation_is_empty_where_nothing_changed(project) -> None:
    assert project.runner().explain("seeds") == []
    project.run()
    assert project.runner().explain("seeds") == []


def test_key_holds_no_path_time_or_worker_count(project) -> None:
    project.run()
    ingredients = json.loads((project.folder("seeds") / "manifest.json").read_text())["ingredients"]
    assert ingredients.pop("code").keys() == {
        "toysteps.seeds",
        "toylib.numbers",
        "toylib.shards",
        "toylib.arithmetic",
    }
    assert ingredients == {
        "stage": {"function": "toysteps.seeds:run"},
        "config": {"seed": 1},
        "inputs": {},
        "data": {"images": project.runner()._data["images"].digest},
    }


def test_a_setting_that_comes_with_a_part_of_the_data_is_no_reason_beside_it() -> None:
    old = {"config": {"a": 1}, "data": {}}
    new = {"config": {"a": 1, "of_part": False}, "data": {"corrections": "0"}}
    (change,) = compare(old, new)
    assert change.sentence() == "now with the corrections of the data"
    (change,) = compare(new, old)
    assert change.sentence() == "now without the corrections of the data"
    assert [c.name for c in compare({"config": {}}, {"config": {"b": 1}})] == ["b"]
