"""Links inside the artifacts folder: nothing is written or removed where they lead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from getam.cache import CacheError, gc, verify


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody else."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    return folder


def listing(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def move_out(path: Path, outside: Path) -> None:
    """Put a folder elsewhere, and a link in its place."""
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)


@pytest.mark.parametrize("place", ["seeds", "runs", ".cache", ".cache/tables", ".cache/locks"])
def test_writing_through_a_link_that_leads_out_is_refused(project, outside, place) -> None:
    project.run()
    move_out(project.artifacts / place, outside)
    before = listing(outside)
    project.config["seed"] = 2
    with pytest.raises(CacheError, match=r"is a link to .*outside.*nothing is written through it"):
        project.run()
    assert [name for name in listing(outside) if name not in before] == []
    assert (outside / "mine.txt").read_text() == "mine"


def test_writing_through_a_link_in_the_place_of_a_working_folder_is_refused(
    project, outside
) -> None:
    partial = project.runner().store.partial("seeds", project.runner().key("seeds"))
    partial.parent.mkdir(parents=True)
    partial.symlink_to(outside)
    for force in ([], ["seeds"]):
        with pytest.raises(CacheError, match="nothing is written through it"):
            project.run(force=force)
    assert listing(outside) == ["mine.txt"]


def test_a_lock_file_that_is_a_link_is_not_written_through(project, outside) -> None:
    lock = project.runner().store._lock_file("seeds", project.runner().key("seeds"))
    lock.parent.mkdir(parents=True)
    lock.symlink_to(outside / "mine.txt")
    with pytest.raises(CacheError, match="nothing is written through it"):
        project.run()
    assert (outside / "mine.txt").read_text() == "mine"


def test_a_record_that_is_a_link_is_replaced_not_written_through(project, outside) -> None:
    (project.artifacts / "runs").mkdir(parents=True)
    (project.artifacts / "runs" / "default.json").symlink_to(outside / "mine.txt")
    project.run()
    assert (outside / "mine.txt").read_text() == "mine"
    assert project.run() == []


def test_the_artifacts_folder_itself_may_be_a_link(project, outside) -> None:
    project.artifacts.symlink_to(outside)
    assert project.run() == ["seeds", "labels", "figures"]
    assert project.run() == []
    assert gc(project.runner().store) == []


def test_a_link_that_stays_inside_may_be_written_through(project) -> None:
    (project.artifacts / "moved").mkdir(parents=True)
    (project.artifacts / "seeds").symlink_to("moved")
    assert project.run() == ["seeds", "labels", "figures"]
    assert project.run() == []


def test_an_artifact_that_was_moved_and_linked_is_still_read(project, outside) -> None:
    project.run()
    move_out(project.folder("seeds"), outside)
    assert project.run() == []
    assert verify(project.runner().store) == []


def test_a_forced_rerun_replaces_a_linked_artifact_and_leaves_what_the_link_led_to(
    project, outside
) -> None:
    project.run()
    folder = project.folder("seeds")
    move_out(folder, outside)
    before = listing(outside)
    project.run(force=["seeds"])
    assert not folder.is_symlink()
    assert listing(outside) == before


class TestGc:
    def test_of_a_linked_artifact_only_the_link_goes(self, project, outside) -> None:
        project.run()
        folder = project.folder("seeds")
        move_out(folder, outside)
        project.config["seed"] = 2
        project.run()
        before = listing(outside)
        assert folder in {garbage.path for garbage in gc(project.runner().store)}
        assert not folder.is_symlink()
        assert listing(outside) == before

    def test_a_linked_stage_folder_is_left_as_it_is(self, project, outside) -> None:
        project.run()
        (outside / ("0" * 20)).mkdir()
        (project.artifacts / "extra").symlink_to(outside)
        before = listing(outside)
        assert gc(project.runner().store, dry_run=True) == []
        assert gc(project.runner().store) == []
        assert listing(outside) == before

    @pytest.mark.parametrize("target", ["nowhere", "self", "..", "../outside/mine.txt"])
    @pytest.mark.parametrize("kind", ["", ".partial", ".broken-1", ".dropped", ".replaced"])
    def test_a_link_of_any_kind_stops_nothing(self, project, outside, kind, target) -> None:
        project.run()
        link = project.artifacts / "seeds" / ("0" * 20 + kind)
        link.symlink_to(link.name if target == "self" else target)
        assert [g.path for g in gc(project.runner().store, dry_run=True)] == [link]
        assert [g.path for g in gc(project.runner().store)] == [link]
        assert not os.path.lexists(link)
        assert (outside / "mine.txt").read_text() == "mine"
        assert project.run() == []

    def test_links_inside_a_dropped_artifact_are_not_followed(self, project, outside) -> None:
        project.run()
        folder = project.folder("seeds")
        (folder / "out").symlink_to(outside)
        (folder / "circle").symlink_to("circle")
        project.config["seed"] = 2
        project.run()
        gc(project.runner().store)
        assert not folder.exists()
        assert listing(outside) == ["mine.txt"]

    def test_old_temporary_links_go_as_links(self, project, outside) -> None:
        project.run()
        link = project.artifacts / "runs" / ".tmp-1-00.json"
        link.symlink_to(outside / "mine.txt")
        os.utime(link, (0, 0), follow_symlinks=False)
        assert [g.path for g in gc(project.runner().store)] == [link]
        assert (outside / "mine.txt").read_text() == "mine"

    def test_a_file_in_the_place_of_an_artifact_goes(self, project) -> None:
        project.run()
        file = project.artifacts / "seeds" / ("0" * 20)
        file.write_text("x")
        assert [g.path for g in gc(project.runner().store)] == [file]


def test_a_circle_of_links_in_an_artifact_is_no_error(project) -> None:
    project.run()
    (project.folder("seeds") / "circle").symlink_to("circle")
    assert verify(project.runner().store) == []
    assert project.run() == []
