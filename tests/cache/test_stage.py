"""Stages, their settings and keys."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from getam.cache import CacheError, ConfigView, DataPart, Stage, Store
from getam.cache.records import checked_run_name
from getam.cache.stage import key_of, leaves, plain, plain_metrics, select

CONFIG = {"maps": {"method": "getam", "blocks": [6, {"deep": 1}]}, "seed": 0, "other": 1}


def view(*reads: str) -> ConfigView:
    return ConfigView("maps", select(CONFIG, Stage("maps", "a:run", reads=reads)))


def test_declared_settings_are_read_by_attribute() -> None:
    config = view("maps", "seed")
    assert (config.seed, config.maps.method, config.maps.blocks[0]) == (0, "getam", 6)
    assert config.maps.blocks[1].deep == 1
    assert dict(**config.maps)["method"] == "getam"
    assert list(config) == ["maps", "seed"]
    assert len(config) == 2


@pytest.mark.parametrize("read", [lambda c: c.other, lambda c: c.maps.blocks, lambda c: c.maps.no])
def test_undeclared_setting_cannot_be_read(read) -> None:
    """A result would depend on it without its key saying so."""
    with pytest.raises(AttributeError, match=r"stage 'maps' has no config .* declare it"):
        read(view("maps.method"))


def test_settings_cannot_be_changed() -> None:
    config = view("maps")
    with pytest.raises(AttributeError, match="read-only"):
        config.maps.method = "cam"
    with pytest.raises(TypeError):
        config.maps.blocks[0] = 1


def test_settings_reach_worker_processes() -> None:
    config = pickle.loads(pickle.dumps(view("maps")))
    assert config.maps.method == "getam"
    with pytest.raises(AttributeError, match="stage 'maps' has no config 'seed'"):
        _ = config.seed


def test_declared_setting_that_does_not_exist_is_an_error() -> None:
    for path in ("nothing", "maps.nothing", "seed.nothing"):
        with pytest.raises(CacheError, match=f"reads config '{path}', which is not"):
            view(path)


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "a.b", "/a", "runs", ".cache", "a\n", "-a", "a" * 65, "é"]
)
def test_stage_name_that_could_leave_or_confuse_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not usable as a folder"):
        Stage(name, "a:run")


@pytest.mark.parametrize("function", ["run", "a.b", "a:b:c", ":run", "a:run()", "../a:run"])
def test_stage_function_must_name_module_and_function(function: str) -> None:
    with pytest.raises(ValueError, match="use 'module:name'"):
        Stage("maps", function)


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", ".hidden", "a\x00", "a" * 101])
def test_run_name_that_could_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(CacheError, match="not usable as a file name"):
        checked_run_name(name)


@pytest.mark.parametrize("key", ["", "..", "../../etc", "G" * 20, "a" * 19, "a" * 21])
def test_key_that_could_leave_the_folder_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(CacheError, match="is not a key"):
        Store(tmp_path).folder("maps", key)


def test_artifacts_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("")
    with pytest.raises(CacheError, match="artifacts is a file"):
        Store(tmp_path / "artifacts")


def test_no_two_configs_have_the_same_leaves() -> None:
    trees = [
        {"a": {"b": 1}},
        {"a.b": 1},
        {"a\\": {"b": 1}},
        {"a": {"b": {}}},
        {"a": {}, "b": 1},
        {"a": [{"b": 1}]},
        {"a": {"b": None}},
        {"a": {"b": True}},
        {"a": {"b": "1"}},
    ]
    assert len({key_of({"config": leaves(tree)}) for tree in trees}) == len(trees)


def test_order_of_settings_does_not_change_the_key() -> None:
    one, other = {"config": {"a": 1, "b": 2}}, {"config": {"b": 2, "a": 1}}
    assert key_of(one) == key_of(other)


def test_order_of_items_does_not_change_the_data_part() -> None:
    one, other = DataPart.of_items({"a": "1", "b": "2"}), DataPart.of_items({"b": "2", "a": "1"})
    assert one.digest == other.digest
    assert one.digest != DataPart.of_items({"a": "2", "b": "1"}).digest


def test_config_value_that_is_no_plain_value_is_named() -> None:
    with pytest.raises(TypeError, match=r"config\.a\.b\[1\] is a PosixPath"):
        plain({"a": {"b": [1, Path("x")]}})
    with pytest.raises(ValueError, match=r"config\.a is inf"):
        plain({"a": float("inf")})


def test_no_stage_is_lost_over_the_numbers_it_returns() -> None:
    class Scalar:
        def item(self) -> float:
            return 0.5

    metrics = {"miou": Scalar(), "classes": {"cat": float("nan")}, "steps": [1, Scalar()]}
    assert plain_metrics("maps", metrics) == {
        "miou": 0.5,
        "classes": {"cat": None},
        "steps": [1, 0.5],
    }
    assert plain_metrics("maps", None) == {}
    with pytest.raises(TypeError, match="'maps' returned a int"):
        plain_metrics("maps", 3)
