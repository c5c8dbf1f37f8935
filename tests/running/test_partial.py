"""Work in progress of the real chain, killed and then damaged: none sealed wrong, none stuck.

GETAM_TRIALS sets the number of trials for each chain (6): ``GETAM_TRIALS=17 pytest -n 0 -rP
tests/running/test_partial.py | grep trials`` says what was done.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from getam.cache import Store, verify
from tests.conftest import EXAMPLE
from tests.running.test_kill import attempt, digests

CHAINS = {
    "multi-stage": (),
    "features": (
        "pseudolabels.saliency=features",
        "deeplab.fixed_encoder=true",
        "predictions.crf.enabled=true",
    ),
    "end-to-end": ("mode=end-to-end",),
}
TRIALS = int(os.environ.get("GETAM_TRIALS", "6"))  # damaged working folders, for each chain


def flip(path: Path, choice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[choice.randrange(len(content))] ^= 1 << choice.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, choice: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: choice.randrange(len(content) + 1)])


def remove(path: Path, _: random.Random) -> None:
    path.unlink()


def replace_by_folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


def swap(path: Path, choice: random.Random) -> None:
    """The content of another file of the same working folder."""
    others = [p for p in path.parent.iterdir() if p.is_file() and p != path]
    if others:
        other = choice.choice(sorted(others))
        content = path.read_bytes()
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)


def add_foreign(path: Path, choice: random.Random) -> None:
    """Files that no attempt wrote, under names like those of pieces."""
    names = (f"copy-{path.name}", "00000.h5", "zzz.png", "manifest.json", "network.safetensors")
    foreign = path.with_name(choice.choice(names))
    if not foreign.exists():
        foreign.write_bytes(path.read_bytes())


def fill_with_nan(path: Path, _: random.Random) -> None:
    """A checkpoint whose weights are all NaN, or a file of as many bytes that all are 255."""
    if path.suffix != ".pt":
        path.write_bytes(b"\xff" * path.stat().st_size)
        return
    try:
        state = torch.load(path, weights_only=True)
    except Exception:  # damaged by an earlier trial
        return
    torch.save(_nan(state), path)


def _nan(value: object) -> object:
    if isinstance(value, dict):
        return {name: _nan(inner) for name, inner in value.items()}
    is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
    return torch.full_like(value, float("nan")) if is_float else value


DAMAGES = (
    *(flip, flip, truncate, remove, replace_by_folder, replace_by_link),
    *(swap, add_foreign, fill_with_nan),
)


def damaged(place: Path, choice: random.Random) -> str:
    """Damage one to four files of the working folder; what was done, empty if there is none."""
    files = [p for p in (place / "artifacts").glob("*/*.partial/**/*") if p.is_file()]
    chosen = choice.sample(sorted(files), min(len(files), choice.randint(1, 4)))
    told = []
    for path in chosen:
        damage = choice.choice(DAMAGES)
        if not path.is_file():  # swapped or replaced just before
            continue
        damage(path, choice)
        told.append(f"{damage.__name__} {path.relative_to(place / 'artifacts')}")
    return ", ".join(told)


@pytest.mark.parametrize("name", CHAINS)
def test_no_damage_of_work_in_progress_is_sealed_or_stops_a_later_run(tmp_path, name):
    settings, choice = (*EXAMPLE, *CHAINS[name]), random.Random(name)
    (tmp_path / "whole").mkdir()
    assert attempt(tmp_path / "whole", settings=settings) == 0
    whole = digests(tmp_path / "whole")
    place, trials, stages = tmp_path / "damaged", [], set()
    while len(trials) < TRIALS:
        place.mkdir(exist_ok=True)
        # Up to this many points further than the kill before: a few kills and damages in each run.
        outcome = attempt(place, f"*:{choice.randint(5, 60)}", settings=settings)
        if outcome == "killed":
            if told := damaged(place, choice):
                trials.append(told)
                stages.add(told.split()[1].split("/")[0])
            continue
        assert outcome == 0, trials
        assert digests(place) == whole, trials
        assert verify(Store(place / "artifacts")) == []
        shutil.rmtree(place)
    assert attempt(place, settings=settings) == 0, trials
    assert digests(place) == whole, trials
    print(f"trials: {len(trials)} working folders of {len(stages)} stages of {name} damaged")
