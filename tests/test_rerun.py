"""Exactly the right stages rerun after each kind of change, and going back reruns nothing.

Keys alone are compared here, so every setting can be tried; ``test_pipeline`` executes some.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from getam.config import Config
from getam.config_files import load_config
from stages import workspace
from stages.chain import ONLINE_LABELS
from stages.workspace import open_runner
from tests.conftest import ROOT, TINY, make_folder

ALL = ("classifier", "maps", "pseudolabels", "deeplab", "evaluation")
FROM = {stage: ALL[n:] for n, stage in enumerate(ALL)}
END_TO_END = ("endtoend", "evaluation")

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
    "data.difficult": (),  # of voc alone
    "mode": None,  # other chains: tried below
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
        "classes": "features",
        "blocks": "[0]",
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


def keys(place: Path, *more: str, **options: Any) -> dict[str, str]:
    settings = ("data.kind=folder", f"data.root={place / 'data'}", *TINY, *more)
    runner = open_runner(load_config((), settings), place / "artifacts", **options)
    return {decision.stage: decision.key for decision in runner.plan()}


def differing(one: dict[str, str], other: dict[str, str]) -> tuple[str, ...]:
    return tuple(stage for stage in one if one[stage] != other[stage])


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
    return ("evaluation",) if section == "evaluation" else ()


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
    assert tuple(own) == ("classifier", "maps", "pseudolabels", "features", *FROM["deeplab"])
    remade = {"encoder", "encoder_args", "weights", "image_size", "blocks", "precision"}
    for path, value in leaves(Config().deeplab, "deeplab."):
        name = path.removeprefix("deeplab.")
        if name not in ("fixed_encoder", "labels"):
            other = keys(
                place, *fixed, f"{path}={'none' if name == 'weights' else changed(path, value)}"
            )
            stages = ("features", *FROM["deeplab"]) if name in remade else FROM["deeplab"]
            assert differing(own, other) == stages, path
    other = keys(place, *fixed, "pseudolabels.quantile=0.5")
    assert differing(own, other) == FROM["pseudolabels"]


@pytest.mark.parametrize("saliency", ["folder", "none"])
def test_data_that_the_end_to_end_network_reads(tmp_path, saliency):
    """Its validation curve reads the masks of val, but nothing reads those of train."""
    make_folder(tmp_path / "data")
    settings = ("mode=end-to-end", f"pseudolabels.saliency={saliency}")
    before = keys(tmp_path, *settings)
    mask_changed(tmp_path / "data")
    after_train_mask = keys(tmp_path, *settings)
    assert differing(before, after_train_mask) == ("evaluation",)
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(tmp_path / "data/masks/photo08.png")
    after_val_mask = keys(tmp_path, *settings)
    assert differing(after_train_mask, after_val_mask) == END_TO_END
    saliency_changed(tmp_path / "data")
    expected = END_TO_END if saliency == "folder" else ()
    assert differing(after_val_mask, keys(tmp_path, *settings)) == expected


def test_device_workers_and_run_name_are_in_no_key(place, baseline):
    assert baseline == keys(place, device="cuda:3", workers=7, run_name="other")


def image_changed(data: Path) -> None:
    Image.fromarray(np.zeros((48, 40, 3), np.uint8)).save(data / "images" / "photo00.png")


def label_changed(data: Path) -> None:
    table = (data / "labels.csv").read_text()
    (data / "labels.csv").write_text(table.replace("photo00,cat", "photo00,cat dog"))


def rows_in_another_order(data: Path) -> None:
    header, *rows = (data / "labels.csv").read_text().splitlines()
    (data / "labels.csv").write_text("\n".join([header, *reversed(rows)]))


def class_list_reordered(data: Path) -> None:
    (data / "classes.txt").write_text("dog\ncat\n")


def mask_changed(data: Path) -> None:
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(data / "masks" / "photo00.png")


def saliency_changed(data: Path) -> None:
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(data / "saliency" / "photo00.png")


def split_changed(data: Path) -> None:
    (data / "splits" / "val.txt").write_text("photo08\n")


def image_renamed_in_place(data: Path) -> None:
    """Rewritten with the same bytes: another inode, the same content."""
    content = (data / "images" / "photo00.png").read_bytes()
    (data / "images" / "photo00.png").unlink()
    (data / "images" / "photo00.png").write_bytes(content)


def unused_file_added(data: Path) -> None:
    (data / "images" / "notes.txt").write_text("not an image")


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        (image_changed, ALL),
        (label_changed, ALL),
        (rows_in_another_order, ()),
        (class_list_reordered, ALL),
        (split_changed, ALL),
        (mask_changed, ("evaluation",)),
        (saliency_changed, FROM["pseudolabels"]),
        (image_renamed_in_place, ()),
        (unused_file_added, ()),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_change_of_the_data_reruns_the_stages_that_read_it(tmp_path, change, stages):
    make_folder(tmp_path / "data")
    before = keys(tmp_path)
    shutil.copytree(tmp_path / "data", tmp_path / "kept")
    change(tmp_path / "data")
    assert differing(before, keys(tmp_path)) == stages
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "kept", tmp_path / "data")
    assert keys(tmp_path) == before


def test_a_subset_of_classes_reruns_all_and_another_place_of_saliency_nothing(place, baseline):
    assert differing(baseline, keys(place, "data.classes=[dog]")) == ALL
    shutil.copytree(place / "data" / "saliency", place / "salient", dirs_exist_ok=True)
    assert keys(place, f"data.saliency={place / 'salient'}") == baseline
    assert differing(baseline, keys(place, "data.saliency=nowhere")) == FROM["pseudolabels"]


def test_masks_count_for_the_supervised_line(tmp_path):
    make_folder(tmp_path / "data")
    before = keys(tmp_path, "deeplab.labels=masks")
    mask_changed(tmp_path / "data")
    after = keys(tmp_path, "deeplab.labels=masks")
    assert differing(before, after) == ("deeplab", "evaluation")


def test_local_weights_count_by_their_content_not_their_name(place, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"one")
    (tmp_path / "b.bin").write_bytes(b"one")
    (tmp_path / "c.bin").write_bytes(b"two")
    a, b, c = (keys(place, f"deeplab.weights={tmp_path / n}") for n in ("a.bin", "b.bin", "c.bin"))
    assert a == b
    assert differing(a, c) == FROM["deeplab"]


@pytest.fixture
def code(tmp_path, monkeypatch) -> Path:
    """A copy of the project's code that may be edited."""
    root = tmp_path / "code"
    for package in ("stages", "getam"):
        shutil.copytree(ROOT / package, root / package)
    monkeypatch.setattr(workspace, "CODE", root)
    return root


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("stages/maps.py", "SHARD = 64", "SHARD = 32", FROM["maps"]),
        ("stages/maps.py", "SHARD = 64", "SHARD = 64  # images", ()),
        ("stages/maps.py", '"""maps: where each class is', '"""maps: where every class is', ()),
        # stages.pseudolabels -> getam.completion: one import deep
        ("getam/completion.py", "IGNORE = 255", "IGNORE = 254", FROM["pseudolabels"]),
        # stages.maps -> getam.maps -> getam.attention -> getam.probe: three imports deep
        ("getam/probe.py", "import torch\n", "import torch\n\nUNUSED = 1\n", FROM["maps"]),
        ("getam/config.py", "epochs: Positive = 10", "epochs: Positive = 11", ()),
        ("getam/losses.py", "IGNORE = 255", "IGNORE = 254", ALL),
        ("getam/energy.py", "CHUNK = 1 << 22", "CHUNK = 1 << 21", ()),
    ],
)
def test_each_change_of_the_code_reruns_the_stages_that_import_it(
    place, code, file, old, new, stages
):
    before = keys(place)
    edit(code / file, old, new)
    assert differing(before, keys(place)) == stages
    edit(code / file, new, old)
    assert keys(place) == before


def test_moved_code_and_artifacts_have_the_same_keys(place, code, tmp_path):
    before = keys(place)
    shutil.copytree(place, tmp_path / "moved")
    assert keys(tmp_path / "moved") == before
