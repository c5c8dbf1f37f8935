"""What an interrupted stage left: whole pieces are kept, everything else is made again."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from getam.cache import CacheError, verify
from getam.cache.pieces import begin


def interrupt(project, at: str = "shard 2") -> Path:
    """Run until this shard is begun; the working folder that is left."""

    def stop(line: str) -> None:
        if line == at:
            raise KeyboardInterrupt

    project.context = stop
    with pytest.raises(KeyboardInterrupt):
        project.run()
    return next((project.artifacts / "seeds").glob("*.partial"))


def shards(project) -> list[str]:
    """Run to the end: the shards that were made, and those only."""
    lines: list[str] = []
    project.context = lines.append
    project.run()
    return lines


@pytest.fixture
def whole(project) -> dict[str, str]:
    """The outputs of a run that nothing disturbed."""
    project.run()
    outputs = project.outputs()
    shutil.rmtree(project.artifacts)
    return outputs


def flip(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 4
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "file").write_text("x")


def replace_by_link(path: Path) -> None:
    """A link to a file of the same content, elsewhere."""
    elsewhere = path.parents[4] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def replace_by_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


DAMAGES = {
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "a folder": replace_by_folder,
    "a link": replace_by_link,
    "a dangling link": replace_by_dangling_link,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_piece_that_is_not_what_was_written_is_made_again_alone(project, whole, damage) -> None:
    damage(interrupt(project) / "scratch" / "0.txt")
    assert shards(project) == ["shard 0", "shard 2"]
    assert project.outputs() == whole
    assert verify(project.runner().store) == []


def test_whole_pieces_are_not_made_again(project, whole) -> None:
    interrupt(project)
    assert shards(project) == ["shard 2"]
    assert project.outputs() == whole


def test_what_is_no_piece_is_gone_when_the_stage_is_called_again(project, whole, tmp_path) -> None:
    """It may be half of a file, and would be sealed with the others."""
    folder = interrupt(project)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    (folder / "scratch" / "2.txt").write_text("half of a shard")
    (folder / "half.txt").write_text("half of an output")
    (folder / "deep").mkdir()
    (folder / "deep" / "more.txt").write_text("x")
    (folder / "linked").symlink_to(outside)
    assert shards(project) == ["shard 2"]
    assert project.outputs() == whole
    assert (outside / "mine.txt").read_text() == "mine"


def test_a_process_of_an_earlier_attempt_can_place_nothing(tmp_path) -> None:
    """A worker may outlive the run it works for by a moment, and the next run has begun."""
    orphan = begin(tmp_path)
    with orphan.write(tmp_path / "labels" / "a.txt") as temporary:
        temporary.write_text("in time")
    late = orphan.write(tmp_path / "labels" / "b.txt")
    late.__enter__().write_text("late")
    pieces = begin(tmp_path)
    with pytest.raises(CacheError, match="cannot be read"):
        late.__exit__(None, None, None)
    with pytest.raises(FileNotFoundError):
        orphan.write(tmp_path / "c.txt").__enter__().write_text("later")
    assert pieces.has(tmp_path / "labels" / "a.txt")
    assert {p.name for p in tmp_path.rglob("*.txt")} == {"a.txt"}


@pytest.mark.parametrize("step", ["step 1", "step 2"])
def test_a_kill_between_note_and_rename_keeps_the_former_piece(tmp_path, step) -> None:
    """Of a checkpoint it is all the work so far."""
    path = tmp_path / "checkpoint"
    pieces = begin(tmp_path)
    with pieces.write(path, flush=True) as temporary:
        temporary.write_text("step 1")
    with pieces.write(path, flush=True) as temporary:
        temporary.write_text("step 2")
    pieces._note("checkpoint", "0" * 64, flush=True)  # of a step 3 that was not renamed
    path.write_text(step)
    assert begin(tmp_path).has(path)


def test_a_piece_that_changed_before_the_seal_is_not_sealed_and_mended_by_the_next_run(
    project, whole
) -> None:
    """A stage that has made its last piece may run on for hours."""
    flips = """
    (job.scratch / "1.txt").write_text("rot")
    text = "".join"""
    project.edit("toysteps/seeds.py", "\n    text = ''.join".replace("''", '""'), flips)
    with pytest.raises(CacheError, match=r"scratch/1\.txt is not what the stage wrote"):
        project.run()
    assert project.statuses()["seeds"] == "failed"
    assert not project.folder("seeds").exists()


def test_a_piece_that_vanished_before_the_seal_is_not_sealed(project) -> None:
    project.edit("toysteps/seeds.py", "return", '(job.scratch / "1.txt").unlink()\n    return')
    with pytest.raises(CacheError, match=r"scratch/1\.txt is not what the stage wrote"):
        project.run()


def test_force_clears_what_an_interrupted_stage_left(project, whole) -> None:
    interrupt(project)
    lines: list[str] = []
    project.context = lines.append
    project.run(force=["seeds"])
    assert lines == ["shard 0", "shard 1", "shard 2"]
    assert project.outputs() == whole


def test_force_after_an_interrupted_force_starts_from_nothing(project) -> None:
    project.run()
    runner = project.runner()

    def stop(line: str) -> None:
        if line == "shard 2":
            raise KeyboardInterrupt

    runner.context = stop
    with pytest.raises(KeyboardInterrupt):
        runner.run(runner.plan(force=["seeds"]))
    lines: list[str] = []
    project.context = lines.append
    project.run(force=["seeds"])
    assert lines == ["shard 0", "shard 1", "shard 2"]


def test_fifty_damages_of_working_folders_none_sealed_wrong_none_stuck(project, whole) -> None:
    """Any file in it, the notes included, is damaged in any way; the next run mends it."""
    choice = random.Random(0)
    for trial in range(50):
        folder = interrupt(project, at=choice.choice(["shard 1", "shard 2"]))
        for _ in range(choice.randint(1, 3)):
            files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
            name = choice.choice(sorted(DAMAGES.keys() - {"a link"}))
            path = choice.choice(files)
            if name == "flipped":
                flip(path, choice.random()) if path.stat().st_size else None
            else:
                DAMAGES[name](path)
        shards(project)
        assert project.outputs() == whole, trial
        assert verify(project.runner().store) == [], trial
        made = project.runner().store.manifest("seeds", project.runner().key("seeds"))
        assert made.start[:2] == "20", trial
        assert made.attempts in (1, 2), trial
        shutil.rmtree(project.artifacts)


def test_a_folder_in_the_place_of_a_note_stops_nothing(project, whole) -> None:
    folder = interrupt(project)
    for name in ("started.json", "failed.json", "manifest.json"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()
    assert shards(project) == ["shard 2"]
    assert project.outputs() == whole


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_piece_that_cannot_be_read_is_made_again(project, whole) -> None:
    (interrupt(project) / "scratch" / "0.txt").chmod(0)
    assert shards(project) == ["shard 0", "shard 2"]
    assert project.outputs() == whole
