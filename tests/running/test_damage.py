"""Every file of every stage, truncated, flipped and deleted: named by verify, rebuilt by run."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest

from getam.cache import Runner, Store, verify
from getam.cache.store import Presence
from getam.config.loading import load_config
from getam.running.opening import open_runner
from stages.chain import ORDER, chain, comparison
from tests.conftest import EXAMPLE
from tests.trees import make_coco

ELSEWHERE = ("endtoend", "foreground", "encoder_features")
MULTI_STAGE = [stage for stage in ORDER if stage not in ELSEWHERE]
END_TO_END = ["data", "endtoend", "predictions", "doubt", "evaluation"]
COCO = (  # its data stage is another one, and its predictions stage writes results of a test split
    "mode=end-to-end",
    "data.kind=coco",
    "data.train=train2014",
    "data.val=val2014",
    "data.test=val2014",
    "pseudolabels.saliency=none",
)
CHAINS = {  # settings beside EXAMPLE, and the stages that no chain before it has made
    "multi-stage": ((), MULTI_STAGE),
    "end-to-end": (("mode=end-to-end",), ["endtoend", "predictions", "doubt", "evaluation"]),
    "features": (
        ("pseudolabels.saliency=features",),
        ["foreground", "pseudolabels", "deeplab", "predictions", "doubt", "evaluation"],
    ),
    "fixed-encoder": (
        ("deeplab.fixed_encoder=true",),
        ["encoder_features", "deeplab", "predictions", "doubt", "evaluation"],
    ),
    "compare": (("compare.methods=[cam, getam]", "compare.refiners=[none, pamr]"), ["compare"]),
    "coco": (COCO, END_TO_END),
}
if not find_spec("pycocotools"):
    del CHAINS["coco"]
CASES = [(name, stage) for name, (_, stages) in CHAINS.items() for stage in stages]


def open_chain(name: str, place: Path, **options) -> Runner:
    settings, _ = CHAINS[name]
    stages_of = comparison if name == "compare" else chain
    root = (f"data.root={place / 'coco'}",) if "data.kind=coco" in settings else ()
    config = load_config((), (*EXAMPLE, *settings, *root))
    artifacts = place / "artifacts"
    return open_runner(
        stages_of,
        config,
        artifacts,
        device="cpu",
        workers=1,
        run_name=name,
        **options,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The artifacts of all chains in one folder; whoever damages one restores it."""
    place = tmp_path_factory.mktemp("made")
    make_coco(place / "coco")
    for name in CHAINS:
        runner = open_chain(name, place)
        runner.run(runner.plan())
    return place


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = (truncate, flip, Path.unlink)


def artifact(runner: Runner, stage: str) -> tuple[Path, list[str]]:
    """The folder of a stage's artifact and all files that lie in it."""
    folder = runner.store.folder(stage, runner.key(stage))
    return folder, sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()
    )


def digests(runner: Runner) -> dict[str, dict]:
    """The digests of all files of all stages of a chain."""
    rows = runner.status()
    assert {row.status for row in rows} == {"cached"}
    return {row.stage: runner.store.manifest(row.stage, row.key).files for row in rows}


def test_the_cases_are_all_stages_of_both_modes_and_all_artifacts(made):
    runners = {name: open_chain(name, made) for name in CHAINS}
    stages = {name: [row.stage for row in runner.status()] for name, runner in runners.items()}
    assert stages["multi-stage"] == MULTI_STAGE
    assert stages["end-to-end"] == END_TO_END
    assert {stage for _, stage in CASES} == {*ORDER, "compare"}
    covered = [artifact(runners[name], stage)[0] for name, stage in CASES]
    assert sorted(covered) == sorted(
        p.parent for p in (made / "artifacts").glob("*/*/manifest.json")
    )


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_any_damage_of_any_file_is_named_by_verify_and_seen_by_the_next_run(made, name, stage):
    runner = open_chain(name, made)
    folder, names = artifact(runner, stage)
    key = folder.name
    assert set(names) == {*runner.store.manifest(stage, key).files, "manifest.json"}
    for file, damage in product(names, DAMAGES):
        content = (folder / file).read_bytes()
        damage(folder / file)
        problems = verify(Store(made / "artifacts"))
        assert [(p.stage, p.key, p.file) for p in problems] == [(stage, key, file)], damage
        found = Store(made / "artifacts").find(stage, key, read=True)
        assert found.presence is Presence.BROKEN, (file, damage)
        assert file in found.detail
        (folder / file).write_bytes(content)
    assert verify(runner.store) == []


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_a_damaged_stage_is_rebuilt_alone_and_with_the_same_content(made, tmp_path, name, stage):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    before = digests(open_chain(name, tmp_path))
    folder, names = artifact(open_chain(name, tmp_path), stage)
    for damage, file in zip(DAMAGES, (names[0], names[len(names) // 2], names[-1])):
        damage(folder / file)
        events = []
        runner = open_chain(name, tmp_path, report=events.append)
        runner.run(runner.plan())
        ran = [event.stage for event in events if event.kind == "start"]
        assert ran == [stage], (file, damage)
        assert digests(open_chain(name, tmp_path)) == before
    assert verify(Store(tmp_path / "artifacts")) == []
    assert len([*folder.parent.glob(f"{folder.name}.broken-*")]) == len(DAMAGES)
