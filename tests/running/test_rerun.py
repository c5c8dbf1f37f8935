"""Exactly the right stages rerun after each kind of change, and going back reruns nothing.

Keys alone are compared here, so every setting can be tried; ``test_pipeline`` executes some.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from getam.config.schema import Config
from stages.chain import ONLINE_LABELS
from tests.conftest import make_folder
from tests.running.reruns import ALL, END_TO_END, FROM, differing, keys

# Settings that reach fewer or other stages than those from their own section on.
OTHER = {
    "seed": ALL,
    "data.root": (),
    "data.kind": None,  # another chain: tried by the embedded example
    "data.train": None,  # another split: tried below
    "data.val": None,
    "data.test": None,  # in test_voc
    "data.classes": None,  # tried below
    "data.saliency": None,
    "data.review": None,  # a file: in test_rerun_review
    "data.corrections": None,  # a folder: in test_rerun_corrections
    "data.learn_from_sample": (),  # with corrections
    "data.intensity_range": (),  # of photos of more than 8 bits: in test_intensity
    "data.difficult": (),  # of voc alone
    "mode": None,  # other chains: tried below
    "machine": None,  # only with a file that has settings for it: in test_machine
    "maps.source": None,
    "endtoend.weights": None,
    "endtoend": (),
    "compare": (),
    "foreground": (),  # another chain: tried below
    "data.shapes": (),
    "pseudolabels.saliency_model": (),  # a file: tried below
    "classifier.weights": None,
    "deeplab.weights": None,
}


def leaves(model: type[BaseModel] | BaseModel, at: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", value


def changed(path: str, value: Any) -> str:
    """Another valid value for a setting."""
    named = {
        "optimizer": "sgd",
        "schedule": "poly",
        "precision": "bf16",
        "method": "cam",
        "saliency": "none",
        "rule": "released",
        "fallback": "0.3",
        "labels": "masks",
        "loss": "balanced",
        "crop_scale": "[0.5, 0.9]",
        "saliency_model": "null",
        "start_block": "1",
        "methods": "[cam]",
        "refiners": "[none]",
        "classes": "patch_classifier",
        "blocks": "[0]",
        "intensity_range": "[0, 100]",
    }
    last = path.rpartition(".")[2]
    if last in named and not isinstance(value, float):
        return named[last]
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int):
        return str(value + 1)
    if isinstance(value, float):
        return str(value / 2)
    if isinstance(value, str):
        return "vit_small_patch16_224"
    if isinstance(value, dict):
        return "{depth: 3}"
    return "null" if value is None else str([v + 1 for v in value])


def expected(path: str) -> tuple[str, ...] | None:
    for prefix, stages in OTHER.items():
        if path == prefix or path.startswith(prefix + "."):
            return stages
    return FROM[path.partition(".")[0]]


SETTINGS = [(p, changed(p, v)) for p, v in leaves(Config()) if expected(p) is not None]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("rerun")
    make_folder(place / "data")
    return place


@pytest.fixture(scope="module")
def baseline(place) -> dict[str, str]:
    return keys(place)


@pytest.fixture(scope="module")
def end_to_end(place) -> dict[str, str]:
    return keys(place, "mode=end-to-end")


def test_the_same_settings_give_the_same_keys_again(place, baseline):
    assert keys(place) == baseline


@pytest.mark.parametrize(("path", "value"), SETTINGS, ids=[path for path, _ in SETTINGS])
def test_each_setting_reruns_the_stages_that_depend_on_it(place, baseline, path, value):
    if path == "data.root":
        shutil.copytree(place / "data", place / "elsewhere", dirs_exist_ok=True)
        value = str(place / "elsewhere")
    assert differing(baseline, keys(place, f"{path}={value}")) == expected(path)


def in_end_to_end_mode(path: str) -> tuple[str, ...]:
    """The stages that depend on a setting there; other sections count for nothing."""
    section = path.partition(".")[0]
    if section in ("seed", "endtoend") or path.startswith(ONLINE_LABELS):
        return END_TO_END
    return END_TO_END[END_TO_END.index(section) :] if section in END_TO_END else ()


END_TO_END_SETTINGS = [
    *((p, v) for p, v in SETTINGS if p not in ("data.root", "pseudolabels.saliency_model")),
    ("maps.source", "endtoend"),
    ("data.train", None),
    ("data.val", None),
]


@pytest.mark.parametrize(
    ("path", "value"), END_TO_END_SETTINGS, ids=[path for path, _ in END_TO_END_SETTINGS]
)
def test_each_setting_reruns_what_depends_on_it_in_end_to_end_mode(place, end_to_end, path, value):
    if value is None:
        shutil.copy(place / "data/splits/val.txt", place / "data/splits/other.txt")
        value, expected = "other", END_TO_END
    else:
        expected = in_end_to_end_mode(path)
    assert tuple(end_to_end) == END_TO_END
    assert differing(end_to_end, keys(place, "mode=end-to-end", f"{path}={value}")) == expected


def test_maps_of_the_end_to_end_network_put_it_in_the_place_of_the_classifier(
    place, baseline, end_to_end
):
    other = keys(place, "maps.source=endtoend")
    assert tuple(other) == ("endtoend", *FROM["maps"])
    assert other["endtoend"] == end_to_end["endtoend"]
    assert all(other[stage] != baseline[stage] for stage in FROM["maps"])


def test_the_foreground_stage_is_there_for_the_saliency_that_it_makes(place, baseline):
    features = "pseudolabels.saliency=features"
    own = keys(place, features)
    assert tuple(own) == ("classifier", "maps", "foreground", *FROM["pseudolabels"])
    assert differing(baseline, own) == FROM["pseudolabels"]
    for path, value in leaves(Config().foreground, "foreground."):
        other = keys(place, features, f"{path}={changed(path, value) if value else 1}")
        assert differing(own, other) == ("foreground", *FROM["pseudolabels"]), path
    other = keys(place, features, "maps.method=cam")
    assert differing(own, other) == ("maps", "foreground", *FROM["pseudolabels"])


def test_the_foreground_of_a_classifier_comes_before_the_end_to_end_network(place, end_to_end):
    features = "pseudolabels.saliency=features"
    multi_stage = keys(place, features)
    before = ("classifier", "maps", "foreground")
    own = keys(place, "mode=end-to-end", features)
    assert tuple(own) == (*before, *END_TO_END)
    assert all(own[stage] == multi_stage[stage] for stage in before)  # made once for both modes
    assert all(own[stage] != end_to_end[stage] for stage in END_TO_END)
    other = keys(place, "mode=end-to-end", features, "foreground.rounds=1")
    assert differing(own, other) == ("foreground", *END_TO_END)
    other = keys(place, "mode=end-to-end", features, "endtoend.channels=24")
    assert differing(own, other) == END_TO_END


def test_the_features_stage_is_there_for_an_encoder_that_stays_as_it_is(place):
    fixed = ("deeplab.fixed_encoder=true", "deeplab.weights=classifier")
    own = keys(place, *fixed)
    assert tuple(own) == (
        "classifier",
        "maps",
        "pseudolabels",
        "encoder_features",
        *FROM["deeplab"],
    )
    remade = {"encoder", "encoder_args", "weights", "image_size", "blocks", "precision"}
    for path, value in leaves(Config().deeplab, "deeplab."):
        name = path.removeprefix("deeplab.")
        if name not in ("fixed_encoder", "labels"):
            other = keys(
                place, *fixed, f"{path}={'none' if name == 'weights' else changed(path, value)}"
            )
            stages = ("encoder_features", *FROM["deeplab"]) if name in remade else FROM["deeplab"]
            assert differing(own, other) == stages, path
    other = keys(place, *fixed, "pseudolabels.quantile=0.5")
    assert differing(own, other) == FROM["pseudolabels"]


def test_device_workers_and_run_name_are_in_no_key(place, baseline):
    assert baseline == keys(place, device="cuda:3", workers=7, run_name="other")


def test_local_weights_count_by_their_content_not_their_name(place, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"one")
    (tmp_path / "b.bin").write_bytes(b"one")
    (tmp_path / "c.bin").write_bytes(b"two")
    a, b, c = (keys(place, f"deeplab.weights={tmp_path / n}") for n in ("a.bin", "b.bin", "c.bin"))
    assert a == b
    assert differing(a, c) == FROM["deeplab"]
