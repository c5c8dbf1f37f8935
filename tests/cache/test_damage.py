"""Broken artifacts are found, set aside and made anew, and never used."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from getam.cache import CacheError, verify
from getam.cache import manifest as manifests
from getam.cache.checked import with_checksum

Damage = Callable[[Path], object]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_unseen(path: Path) -> None:
    """A flipped byte with the mtime set back."""
    stat = path.stat()
    flip(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def edit_manifest(folder: Path, old: str, new: str) -> None:
    path = folder / "manifest.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def forge(folder: Path) -> None:
    """A whole manifest with a good checksum, of other ingredients."""
    found = manifests.read(folder, folder.parent.name, folder.name)
    found.ingredients["stage"]["function"] = "other:run"
    manifests.write(folder, found)


def from_another_version(folder: Path) -> None:
    """A whole manifest with a good checksum, and fields that this program does not know."""
    body = json.dumps({"stage": folder.parent.name, "parts": []}, indent=1)
    (folder / "manifest.json").write_bytes(with_checksum(body))


def escape(folder: Path) -> None:
    found = manifests.read(folder, folder.parent.name, folder.name)
    found.files["../../runs/default.json"] = {"size": 1, "digest": "x"}
    manifests.write(folder, found)


DAMAGE: dict[str, tuple[Damage, str]] = {
    "missing file": (lambda f: (f / "deep/a.txt").unlink(), "deep/a.txt is missing"),
    "missing folder": (lambda f: shutil.rmtree(f / "deep"), "deep/a.txt is missing"),
    "truncated file": (
        lambda f: (f / "deep/a.txt").write_text("a"),
        "deep/a.txt has 1 bytes instead of 7",
    ),
    "flipped byte": (lambda f: flip(f / "deep/a.txt"), "the content of deep/a.txt changed"),
    "flipped byte, mtime set back": (
        lambda f: flip_unseen(f / "deep/a.txt"),
        "the content of deep/a.txt changed",
    ),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "it has no manifest.json"),
    "empty manifest": (
        lambda f: (f / "manifest.json").write_text(""),
        "it has a damaged manifest.json",
    ),
    "flipped manifest": (lambda f: flip(f / "manifest.json"), "it has a damaged manifest.json"),
    "manifest that is no text": (
        lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"),
        "it has a damaged manifest.json",
    ),
    "metric edited by hand": (
        lambda f: edit_manifest(f, '"labels": 2', '"labels": 3'),
        "it has a damaged manifest.json",
    ),
    "forged ingredients": (forge, "it holds the manifest of labels/"),
    "manifest of another version": (
        from_another_version,
        "it has a manifest.json of another version",
    ),
    "file outside the folder": (escape, "it names files outside its folder in manifest.json"),
}


@pytest.mark.parametrize(("damage", "detail"), DAMAGE.values(), ids=DAMAGE)
def test_broken_artifact_is_set_aside_and_made_anew(project, damage, detail) -> None:
    project.run()
    whole = project.outputs()
    folder = project.folder("labels")
    damage(folder)
    assert project.run() == ["labels"]
    assert project.events[1].reason.sentence().startswith(f"artifact is broken: {detail}")
    assert (folder.parent / f"{folder.name}.broken-1").is_dir()
    in_place = {name: text for name, text in project.outputs().items() if ".broken-" not in name}
    assert in_place == whole
    assert verify(project.runner().store) == []


def test_artifact_under_the_name_of_another_is_not_taken_for_it(project) -> None:
    project.run()
    old = project.folder("seeds")
    project.config["seed"] = 2
    new = project.folder("seeds")
    shutil.copytree(old, new)
    assert project.run() == ["seeds", "labels", "figures"]
    assert (new / "seeds.txt").read_text() == "2\n3\n4\n"


def test_flipped_input_is_made_anew_before_a_stage_uses_it(project) -> None:
    project.run()
    whole = project.outputs()
    flip_unseen(project.folder("labels") / "deep" / "a.txt")
    project.config["figures"] = {"title": "new"}
    assert project.run(until="figures") == ["labels", "figures"]
    text = (project.folder("figures") / "figures.txt").read_text()
    assert text == "a1\n2\n3\n|b1\n2\n3\nnew"
    assert whole.items() <= project.outputs().items()


def test_input_that_breaks_between_its_check_and_its_use_is_made_anew(project) -> None:
    project.run(until="labels")
    runner = project.runner()
    plan = runner.plan()
    broken = project.folder("labels")

    def break_labels(event) -> None:
        project.events.append(event)
        if event.kind == "skip" and event.stage == "labels" and len(project.ran()) == 2:
            flip(broken / "deep" / "a.txt")

    runner._report = break_labels
    runner.run(plan)
    assert project.ran()[2:] == ["labels", "figures"]
    assert "a1\n2\n3\n" in (project.folder("figures") / "figures.txt").read_text()


def test_input_replaced_while_a_stage_reads_it_does_not_pass_for_the_planned(project) -> None:
    """Two halves of two inputs would go into one artifact."""
    replace = """
    import json
    from getam.cache import manifest
    folder = job.inputs["labels"]
    found = manifest.read(folder, "labels", folder.name)
    found.files["deep/a.txt"]["digest"] = "other"
    manifest.write(folder, found)
    (job.folder"""
    project.edit("toysteps/figures.py", "\n    (job.folder", replace)
    with pytest.raises(CacheError, match="artifact of 'labels' was replaced while stage 'figures'"):
        project.run()
    assert project.statuses()["figures"] == "failed"


def test_each_broken_artifact_is_kept_for_inspection(project) -> None:
    project.run()
    for number in (1, 2):
        flip(project.folder("figures") / "figures.txt")
        project.run()
        aside = project.folder("figures").with_name(
            f"{project.folder('figures').name}.broken-{number}"
        )
        assert (aside / "figures.txt").exists()


def test_plan_sees_what_costs_no_reading(project) -> None:
    project.run()
    (project.folder("figures") / "figures.txt").write_text("")
    assert project.statuses()["figures"] == "missing"
    assert project.reason("figures").startswith("artifact is broken: figures.txt has 0 bytes")


class TestVerify:
    @pytest.mark.parametrize(("damage", "detail"), DAMAGE.values(), ids=DAMAGE)
    def test_verify_reports_every_kind_of_damage(self, project, damage, detail) -> None:
        project.run()
        damage(project.folder("labels"))
        problems = verify(project.runner().store)
        assert {(p.stage, p.key) for p in problems} == {("labels", project.runner().key("labels"))}
        assert detail.removeprefix("it ") in problems[0].detail

    def test_verify_reports_files_that_do_not_belong(self, project) -> None:
        project.run()
        (project.folder("labels") / "deep" / "c.txt").write_text("")
        (problem,) = verify(project.runner().store)
        assert (problem.file, problem.detail) == ("deep/c.txt", "deep/c.txt is extra")

    def test_verify_of_sound_artifacts_reports_nothing(self, project) -> None:
        assert verify(project.runner().store) == []
        project.run()
        assert verify(project.runner().store) == []

    def test_verify_reads_what_is_remembered(self, project, monkeypatch, settled_at_once) -> None:
        """Bits that rot on the disk change no timestamp; the next run must not use them."""
        monkeypatch.setattr("getam.cache.atomic.identity", lambda stat: f"{stat.st_ino}")
        monkeypatch.setattr("getam.cache.file_digests.identity", lambda stat: f"{stat.st_ino}")
        project.run()
        flip(project.folder("labels") / "deep" / "a.txt")
        assert project.run() == []
        (problem,) = verify(project.runner().store)
        assert problem.file == "deep/a.txt"
        assert project.run() == ["labels"]


def test_artifact_is_json_and_plain_files_only(project) -> None:
    """Nothing that is loaded can execute."""
    project.run()
    for path in project.artifacts.rglob("manifest.json"):
        assert json.loads(path.read_text())["stage"] == path.parent.parent.name
