"""What gc removes, and above all what it does not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from getam.cache import CacheError, Runs, faults, gc, verify
from getam.cache.records import former_name

ALL = ["seeds", "labels", "figures"]


def listing(project) -> set[str]:
    return {str(p.relative_to(project.artifacts)) for p in project.artifacts.rglob("*")}


def collect(project, **options) -> set[Path]:
    return {garbage.path for garbage in gc(project.runner().store, **options)}


def test_artifacts_of_the_named_runs_stay(project) -> None:
    project.run(run_name="one")
    project.config["seed"] = 2
    project.run(run_name="two")
    before = listing(project)
    assert collect(project) == set()
    assert listing(project) == before


def test_artifacts_that_no_run_uses_go(project) -> None:
    project.run()
    old = [project.folder(stage) for stage in ALL]
    project.config["seed"] = 2
    project.run()
    project.data["images"] = {"i1": "new"}
    project.run()
    freed = gc(project.runner().store)
    assert set(old) < {garbage.path for garbage in freed}
    assert len(freed) == 2 * 3 + 1  # two former runs, and the table of the former images
    assert all(garbage.size > 0 for garbage in freed)
    assert not any(path.exists() for path in old)
    assert project.run() == []
    assert collect(project) == set()


def test_dry_run_lists_the_same_and_changes_nothing(project) -> None:
    project.run()
    project.config["seed"] = 2
    project.run()
    before = listing(project)
    listed = collect(project, dry_run=True)
    assert len(listed) == 3
    assert listing(project) == before
    assert collect(project) == listed


def test_upstream_of_a_kept_artifact_stays(project) -> None:
    """A shorter run moved on; the run's last figures still need what they were made of."""
    project.run()
    used = [project.folder(stage) for stage in ALL]
    project.config["seed"] = 2
    project.run(until="labels")
    assert not set(used) & collect(project)


def test_work_of_an_interrupted_run_stays(project) -> None:
    def interrupt(line: str) -> None:
        if line == "shard 2":
            raise KeyboardInterrupt

    project.context = interrupt
    with pytest.raises(KeyboardInterrupt):
        project.run()
    assert collect(project) == set()
    lines = []
    project.context = lines.append
    project.run()
    assert lines == ["shard 2"]


def test_leftovers_go(project) -> None:
    project.run()
    key = project.runner().key("seeds")
    leftovers = [
        project.artifacts / "seeds" / f"{key}.broken-1",
        project.artifacts / "seeds" / f"{key}.broken-1.dropped",
        project.artifacts / "seeds" / f"{key}.replaced",
        project.artifacts / "seeds" / f"{'0' * 20}.partial",
    ]
    for path in leftovers:
        path.mkdir()
        (path / "file").write_text("x")
    old = project.artifacts / "runs" / ".tmp-1-00"
    new = project.artifacts / "runs" / ".tmp-2-00"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, time.time() - 7200))
    assert collect(project) == {*leftovers, old}
    assert new.exists()  # it may be being written
    assert project.run() == []


def test_files_of_others_stay(project) -> None:
    project.run()
    mine = [project.artifacts / "README.md", project.artifacts / "seeds" / "notes.txt"]
    for path in mine:
        path.write_text("mine")
    (project.artifacts / "exports").mkdir()
    assert collect(project) == set()


def test_former_artifact_stays_until_the_new_one_is_in_place(project) -> None:
    project.run()
    folder = project.folder("seeds")
    folder.rename(folder.with_name(folder.name + ".replaced"))
    assert collect(project) == set()


def test_what_a_process_is_making_and_its_inputs_stay(project) -> None:
    project.run(run_name="other")
    project.config["figures"] = {"title": "new"}
    runner = project.runner()
    key, store = runner.key("figures"), runner.store
    ingredients = {"inputs": {"labels": runner.key("labels")}}
    partial = store.begin("figures", key, {"ingredients": ingredients}).folder
    (project.artifacts / "runs" / "other.json").unlink()
    with store.lock("figures", key):
        gone = collect(project)
    assert partial.is_dir()
    assert {path.parent.name for path in gone} == {"figures"}
    assert partial in {path.absolute() for path in collect(project)}


@pytest.mark.parametrize(
    "content",
    ["{", "[" * 100_000, '{"keys": []}', '{"keys": {"seeds": 3}}', '{"settings": 1}', "null"],
    ids=lambda content: content[:24],
)
def test_damaged_record_of_a_run_stops_it(project, content) -> None:
    """What that run uses is unknown, so anything might be."""
    project.run()
    (project.artifacts / "runs" / "default.json").write_text(content)
    before = listing(project)
    with pytest.raises(CacheError, match=r"default\.json is damaged, so what its run uses"):
        gc(project.runner().store)
    assert listing(project) == before


@pytest.mark.parametrize("content", [b"", b'{"name": "def', b"{}"])
def test_what_a_kill_left_of_a_record_does_not_stop_it(project, content) -> None:
    """The temporary file of a record ends in .json too."""
    project.run()
    project.config["seed"] = 2
    project.run()
    left = project.artifacts / "runs" / ".tmp-123-0a0b0c0d.json"
    left.write_bytes(content)
    assert len(collect(project)) == 3
    assert left.exists()  # it may be being written
    assert Runs(project.artifacts).names() == ["default"]
    os.utime(left, (0, time.time() - 7200))
    assert collect(project) == {left}


def test_a_folder_among_the_records_does_not_stop_it(project) -> None:
    project.run()
    (project.artifacts / "runs" / "folder.json").mkdir()
    assert collect(project) == set()


class TestFormerSettings:
    """A name that is used again with other settings: what it stood for before stays."""

    def run(self, project, seed: int, **options) -> Path:
        project.config["seed"] = seed
        runner = project.runner(settings={"seed": seed}, **options)
        runner.run(runner.plan())
        return project.folder("seeds")

    def test_no_experiment_goes_because_another_followed_it(self, project) -> None:
        folders = [self.run(project, seed) for seed in (1, 2, 3)]
        assert collect(project) == set()
        assert all(folder.exists() for folder in folders)

    def test_the_former_record_has_a_name_of_its_own_and_tells_its_settings(self, project) -> None:
        self.run(project, 1)
        self.run(project, 2)
        runs = Runs(project.artifacts)
        former, current = (runs.read(name) for name in (runs.names()[1], "default"))
        assert former["settings"] == {"seed": 1}
        assert former["name"] == runs.names()[1] == former_name("default", {"seed": 1})
        assert current["settings"] == {"seed": 2}
        assert former["keys"].keys() == current["keys"].keys() == set(ALL)

    def test_settings_that_come_back_are_one_run(self, project) -> None:
        for seed in (1, 2, 1, 2, 1):
            self.run(project, seed)
        assert len(Runs(project.artifacts).names()) == 2
        assert Runs(project.artifacts).read("default")["settings"] == {"seed": 1}
        assert collect(project) == set()

    def test_a_shorter_run_with_settings_that_come_back_keeps_the_later_keys(self, project) -> None:
        self.run(project, 1)
        key = project.runner().key("figures")
        self.run(project, 2)
        project.config["seed"] = 1
        runner = project.runner(settings={"seed": 1})
        runner.run(runner.plan(until="seeds"))
        assert Runs(project.artifacts).read("default")["keys"]["figures"] == key
        assert collect(project) == set()

    def test_other_code_with_the_same_settings_is_the_same_run(self, project) -> None:
        old = self.run(project, 1)
        project.edit("toylib/arithmetic.py", "a + b", "a + b + 0")
        self.run(project, 1)
        assert old in collect(project)

    def test_a_run_that_is_let_go_of_goes(self, project) -> None:
        old = self.run(project, 1)
        self.run(project, 2)
        (project.artifacts / "runs" / f"{former_name('default', {'seed': 1})}.json").unlink()
        assert old in collect(project)

    def test_an_interrupted_run_is_kept_too(self, project) -> None:
        def interrupt(line: str) -> None:
            raise KeyboardInterrupt

        project.context = interrupt
        with pytest.raises(KeyboardInterrupt):
            self.run(project, 1)
        project.context = None
        self.run(project, 2)
        assert collect(project) == set()

    def test_a_long_name_has_room(self, project) -> None:
        name = "a" * 100
        self.run(project, 1, run_name=name)
        self.run(project, 2, run_name=name)
        assert len(Runs(project.artifacts).names()) == 2


@pytest.mark.parametrize("point", ["gc.found", "gc.renamed", "gc.removed"])
def test_a_killed_gc_leaves_nothing_that_the_next_one_does_not_remove(project, point) -> None:
    project.run()
    project.config["seed"] = 2
    project.run()
    child = os.fork()
    if not child:
        faults._ORDER = f"{point}:2"
        try:
            gc(project.runner().store)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert verify(project.runner().store) == []
    assert project.run() == []
    gc(project.runner().store)
    assert len([*project.artifacts.glob("*/????????????????????*")]) == 3


def test_empty_store_has_no_garbage(project) -> None:
    assert collect(project) == set()
    assert collect(project, dry_run=True) == set()
    assert not project.artifacts.exists()
