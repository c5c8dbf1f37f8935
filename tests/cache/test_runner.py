"""Planning and running: choice of stages, failures, resumption, what is recorded."""

from __future__ import annotations

import json
import sys

import pytest

from getam.cache import CacheError, Runner, Stage, Store
from getam.cache.reasons import Kind

ALL = ["seeds", "labels", "figures"]


def manifest(project, stage: str) -> dict:
    return json.loads((project.folder(stage) / "manifest.json").read_text())


class TestChoice:
    def test_until_leaves_out_what_the_stage_does_not_need(self, project) -> None:
        assert project.run(until="labels") == ALL[:2]
        assert project.run() == ["figures"]

    def test_only_runs_one_stage_from_cached_inputs(self, project) -> None:
        project.run()
        project.config["figures"] = {"title": "new"}
        project.edit("toysteps/labels.py", '"ab"', '"abc"')
        assert project.run(only="labels") == ["labels"]

    def test_only_without_its_input_says_which_command_makes_it(self, project) -> None:
        with pytest.raises(
            CacheError, match=r"needs the artifact of 'seeds'.*same options with --until seeds"
        ):
            project.run(only="labels")
        assert not project.artifacts.exists()

    def test_only_does_not_rebuild_an_input_that_broke(self, project) -> None:
        project.run()
        (project.folder("seeds") / "seeds.txt").write_text("1\n2\n9\n")
        with pytest.raises(CacheError, match="needs the artifact of 'seeds', which is missing or"):
            project.run(only="labels", force=["labels"])

    def test_force_recomputes_and_leaves_downstream_cached(self, project) -> None:
        project.run()
        before = manifest(project, "seeds")
        assert project.run(force=["seeds"]) == ["seeds"]
        after = manifest(project, "seeds")
        assert after["start"] > before["start"]
        assert after["files"] == before["files"]
        assert [p.name for p in (project.artifacts / "seeds").iterdir()] == [after["key"]]

    def test_unknown_stages_are_refused_with_the_known_ones(self, project) -> None:
        for choice in ({"until": "no"}, {"only": "no"}, {"force": ["no"]}):
            with pytest.raises(CacheError, match="no stage 'no' here: choose from seeds, labels"):
                project.runner().plan(**choice)
        with pytest.raises(
            CacheError, match=r"no stage 'figures' here: choose from seeds, labels$"
        ):
            project.runner().plan(until="labels", force=["figures"])

    def test_stage_that_needs_a_later_one_is_refused(self, project) -> None:
        project.stages.reverse()
        with pytest.raises(CacheError, match="'figures' needs 'labels', which is not a stage befo"):
            project.runner()

    def test_data_part_that_does_not_exist_is_refused(self, project) -> None:
        del project.data["classes"]
        with pytest.raises(CacheError, match="reads data part 'classes'; the data set has images"):
            project.runner()


class TestStatus:
    def test_status_follows_the_life_of_a_stage(self, project) -> None:
        assert project.statuses() == dict.fromkeys(ALL, "missing")
        project.run()
        assert project.statuses() == dict.fromkeys(ALL, "cached")
        project.config["figures"] = {"title": "new"}
        assert project.statuses()["figures"] == "stale"

    def test_row_of_a_cached_stage_has_size_time_and_metrics(self, project) -> None:
        project.run()
        row = project.runner().status()[0]
        assert (row.stage, row.size, row.metrics) == ("seeds", 6, {"shards": 3})
        assert row.seconds >= 0
        assert row.reason.kind is Kind.UP_TO_DATE

    def test_row_of_a_missing_stage_has_none(self, project) -> None:
        row = project.runner().status()[0]
        assert (row.size, row.seconds, row.metrics) == (None, None, None)

    def test_status_never_imports_a_stage(self, project) -> None:
        project.edit("toysteps/seeds.py", "from toylib", "raise SystemExit\nfrom toylib")
        assert project.statuses()["seeds"] == "missing"


class TestFailure:
    def test_exception_of_a_stage_comes_out_as_it_is(self, project) -> None:
        project.edit("toysteps/labels.py", "return", "raise LookupError('no cat')\n    return")
        with pytest.raises(LookupError, match="no cat"):
            project.run()
        assert project.statuses() == {"seeds": "cached", "labels": "failed", "figures": "missing"}
        assert project.reason("labels") == "failed: LookupError: no cat"
        assert [e.kind for e in project.events[-2:]] == ["start", "failed"]

    def test_failed_stage_goes_on_from_what_it_has(self, project) -> None:
        lines = []

        def interrupt(line: str) -> None:
            lines.append(line)
            if line == "shard 2" and lines.count(line) == 1:
                raise RuntimeError("power cut")

        project.context = interrupt
        with pytest.raises(RuntimeError, match="power cut"):
            project.run()
        assert project.run() == ALL
        assert lines == ["shard 0", "shard 1", "shard 2", "shard 2"]
        assert manifest(project, "seeds")["attempts"] == 2

    def test_interrupt_leaves_a_partial_artifact(self, project) -> None:
        def interrupt(line: str) -> None:
            raise KeyboardInterrupt

        project.context = interrupt
        with pytest.raises(KeyboardInterrupt):
            project.run()
        assert project.statuses()["seeds"] == "partial"
        assert project.reason("seeds") == "interrupted; goes on from what it has"

    def test_undeclared_setting_fails_the_stage_that_reads_it(self, project) -> None:
        project.edit("toysteps/figures.py", "job.config.figures", "job.config.seed")
        with pytest.raises(AttributeError, match="stage 'figures' has no config 'seed': declare"):
            project.run()

    def test_permission_error_of_a_stage_is_not_taken_for_ours(self, project) -> None:
        project.edit("toysteps/seeds.py", "return", "raise PermissionError(13, 'x')\n    return")
        with pytest.raises(PermissionError):
            project.run()

    def test_stage_may_not_write_the_manifest(self, project) -> None:
        project.edit("toysteps/seeds.py", '"seeds.txt"', '"manifest.json"')
        with pytest.raises(CacheError, match=r"wrote manifest\.json: choose another name"):
            project.run()

    def test_artifact_may_not_hold_a_link(self, project) -> None:
        link = "(job.folder / 'link').symlink_to('/')\n    return"
        project.edit("toysteps/seeds.py", "return", link)
        with pytest.raises(CacheError, match="link is neither a file nor a folder"):
            project.run()


class TestCode:
    def test_code_edited_between_plan_and_run_does_not_pass_for_the_planned(self, project) -> None:
        runner = project.runner()
        plan = runner.plan()
        project.edit("toylib/arithmetic.py", "a + b", "a - b")
        with pytest.raises(CacheError, match=r"code of toylib\.arithmetic changed after"):
            runner.run(plan)
        assert project.run() == ALL

    def test_code_first_imported_after_an_edit_does_not_pass_for_the_planned(self, project) -> None:
        """``toylib.shards`` is imported inside a function, long after the stage has started."""
        path = project.root / "toylib" / "arithmetic.py"
        edit = f"open({str(path)!r}, 'a').write('\\n1')"
        project.edit("toysteps/seeds.py", "for shard", f"{edit}\n    for shard")
        with pytest.raises(CacheError, match=r"code of toylib\.arithmetic changed after"):
            project.run()

    def test_edit_of_code_that_is_already_imported_costs_nothing(self, project) -> None:
        path = project.root / "toylib" / "numbers.py"
        project.edit(
            "toysteps/seeds.py", "return", f"open({str(path)!r}, 'a').write('1')\n    return"
        )
        assert project.run(until="seeds") == ["seeds"]

    def test_module_from_another_place_is_refused(self, project, tmp_path, monkeypatch) -> None:
        """An installed copy would run under the key of the checkout."""
        import shutil

        shutil.copytree(project.root / "toysteps", tmp_path / "other" / "toysteps")
        monkeypatch.syspath_prepend(tmp_path / "other")
        with pytest.raises(CacheError, match=r"module toysteps\.seeds was imported from .*other"):
            project.run()

    def test_nothing_is_imported_for_stages_that_are_cached(self, project) -> None:
        project.run()
        project.run()
        assert not [name for name in sys.modules if name.startswith("toysteps")]


class TestRecords:
    def test_manifest_says_what_an_artifact_was_made_of(self, project) -> None:
        runner = project.runner(info=lambda: {"device": "cpu", "versions": {"a": "1"}})
        runner.run(runner.plan())
        found = manifest(project, "labels")
        assert found["ingredients"]["inputs"] == {"seeds": runner.key("seeds")}
        assert found["ingredients"]["code"].keys() == {
            "toysteps.labels",
            "toylib:write",
            "toylib.writing",
            "toylib.unused",
        }
        assert found["config"] == project.config
        assert found["info"] == {"device": "cpu", "versions": {"a": "1"}}
        assert found["metrics"] == {"labels": 2}
        assert found["files"].keys() == {"deep/a.txt", "deep/b.txt"}

    def test_scratch_and_notes_do_not_stay(self, project) -> None:
        project.run()
        names = {p.name for p in project.folder("seeds").iterdir()}
        assert names == {"manifest.json", "seeds.txt"}

    def test_named_run_lists_the_keys_it_uses(self, project) -> None:
        project.run(run_name="mine")
        record = json.loads((project.artifacts / "runs" / "mine.json").read_text())
        runner = project.runner()
        assert record["keys"] == {stage: runner.key(stage) for stage in ALL}
        assert record["unfinished"] == {}

    def test_failed_run_still_lists_what_it_was_making(self, project) -> None:
        project.edit("toysteps/labels.py", "return", "raise LookupError\n    return")
        with pytest.raises(LookupError):
            project.run()
        record = json.loads((project.artifacts / "runs" / "default.json").read_text())
        assert (record["keys"], set(record["unfinished"])) == ({}, set(ALL))

    def test_shorter_run_keeps_the_note_of_interrupted_work(self, project) -> None:
        project.edit("toysteps/labels.py", "return", "raise LookupError\n    return")
        with pytest.raises(LookupError):
            project.run()
        unfinished = json.loads((project.artifacts / "runs" / "default.json").read_text())
        project.run(until="seeds")
        record = json.loads((project.artifacts / "runs" / "default.json").read_text())
        assert set(record["keys"]) == {"seeds"}
        del unfinished["unfinished"]["seeds"]
        assert record["unfinished"] == unfinished["unfinished"]  # gc keeps them
        project.edit("toysteps/labels.py", "raise LookupError\n    return", "return")
        project.run()
        record = json.loads((project.artifacts / "runs" / "default.json").read_text())
        assert record["unfinished"] == {}

    def test_shorter_run_keeps_the_keys_of_later_stages(self, project) -> None:
        project.run()
        key = project.runner().key("figures")
        project.config["seed"] = 2
        project.run(until="seeds")
        record = json.loads((project.artifacts / "runs" / "default.json").read_text())
        assert record["keys"]["figures"] == key

    def test_events_tell_the_story(self, project) -> None:
        project.run(until="labels")
        story = [(e.kind, e.stage) for e in project.events]
        assert story == [
            ("start", "seeds"),
            ("done", "seeds"),
            ("start", "labels"),
            ("done", "labels"),
        ]
        assert project.events[0].reason.kind is Kind.NEVER_MADE
        assert project.events[1].metrics == {"shards": 3}
        project.run(until="seeds")
        assert [(e.kind, e.reason.kind) for e in project.events] == [("skip", Kind.UP_TO_DATE)]


def test_stage_with_undeclarable_config_is_refused_before_anything_runs(tmp_path) -> None:
    (tmp_path / "toysteps").mkdir()
    (tmp_path / "toysteps" / "a.py").write_text("def run(job): pass")
    stage = Stage("a", "toysteps.a:run")
    with pytest.raises(TypeError, match=r"config\.x is a PosixPath"):
        Runner(Store(tmp_path), [stage], {"x": tmp_path}, {}, tmp_path, packages=("toysteps",))
