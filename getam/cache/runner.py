"""Runs what a plan says, so that no artifact is ever half made or made of something else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from . import faults
from .atomic import disk_errors, disk_full, is_disk_full
from .errors import CacheError
from .manifest import Manifest
from .pieces import Pieces
from .plan import Decision, Planner
from .reasons import Kind, Reason
from .records import Runs, checked_run_name
from .stage import ConfigView, DataPart, Job, Stage, plain, plain_metrics, select
from .store import Presence, Store
from .verdicts import Verdicts, sources_digest

_TOLD = ("UserError", "CacheError")  # their text is a whole sentence


@dataclass(frozen=True)
class Event:
    """Something a run reports. `kind`: skip, start, waiting, done or failed; `detail` says which
    error it failed with, or who is waited for. `seconds` and `metrics` come with done."""

    kind: str
    stage: str
    key: str
    reason: Reason | None = None
    detail: str = ""
    seconds: float | None = None
    metrics: Mapping[str, Any] | None = None


class Runner(Planner):
    """Plans, and brings the artifacts up to date.

    Arguments as for `Planner`; `context` reaches the stages as it is. `info` is asked at the end
    of each stage for what else its manifest should say (library versions, device, seed), and
    `report` is told of each event. `settings` is kept in the record of the run. `call` calls the
    function of a stage with its job, for instance in several processes at once. `recheck` is given
    a stage before and after it runs, and raises if a file that it reads is no longer what its key
    was made of. `circumstances` says what checks depend on beside settings, data and code.
    """

    def __init__(
        self,
        store: Store,
        stages: Sequence[Stage],
        config: Mapping[str, Any],
        data: Mapping[str, DataPart],
        code_root: str | Path,
        context: Any = None,
        *,
        run_name: str = "default",
        settings: Mapping[str, Any] | None = None,
        packages: Sequence[str] = ("stages", "getam"),
        info: Callable[[], Mapping[str, Any]] = dict,
        report: Callable[[Event], None] = lambda event: None,
        call: Callable[[Callable[[Job], Any], Job], Any] = lambda function, job: function(job),
        recheck: Callable[[Stage], None] = lambda stage: None,
        circumstances: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        super().__init__(store, stages, config, data, code_root, packages=packages)
        self.context = context
        self._run_name = checked_run_name(run_name)
        self._settings = plain(settings or {}, "settings")
        self._info = info
        self._report = report
        self._call_function = call
        self._recheck = recheck
        self._circumstances = circumstances
        self._code_root, self._packages = Path(code_root), packages
        self._verdicts = Verdicts(store.hidden / "checks")
        self._read: set[tuple[str, str]] = set()  # artifacts whose content this run made or read
        self._runs = Runs(store.root)

    def check(self, plan: Sequence[Decision]) -> None:
        """Have each stage that would run say what it would refuse, before anything runs.

        A check (see `Stage`) gets a job that has all settings, and the places where inputs will be;
        what it raises comes out. If it found nothing wrong, it is not made again (see `verdicts`).
        """
        running = [self._stages[decision.stage] for decision in plan if decision.runs]
        if not running:
            return
        code = sources_digest(self._code_root, self._packages, self.store.files)
        others = plain(self._circumstances(), "circumstances")
        data = {name: part.digest for name, part in self._data.items()}  # checks read all of it
        for stage in running:
            subject = [list(stage.needs), data, code, others]
            self._verdicts.ask(stage.name, subject, self._config, partial(self._check, stage))

    def _check(self, stage: Stage, config: ConfigView) -> None:
        module, _, name = (stage.check or f"{stage.module}:check").partition(":")
        check = getattr(import_module(module), name, None)
        if check is not None:
            check(self._job(stage, self.store.partial(stage.name, self._keys[stage.name]), config))

    def run(self, plan: Sequence[Decision]) -> dict[str, Path]:
        """Carry out a plan of this runner: stage -> folder of its artifact.

        What the plan has as cached without having checked all content is checked now, and made anew
        if it is broken. An exception of a stage comes out as it is, after the failure was noted;
        CacheError if the disk is full or write-protected. If there is nothing to do, nothing is
        written.
        """
        planned = {decision.stage: decision for decision in plan}
        keys = {name: decision.key for name, decision in planned.items()}
        self.store.check_links()
        self._remember()
        for decision in plan:
            self._bring(decision, planned)
        self._remember()
        with self._writing():
            self._runs.finish(self._run_name, keys, self._settings)
        return {name: self.store.folder(name, key) for name, key in keys.items()}

    def _bring(self, decision: Decision, planned: Mapping[str, Decision]) -> None:
        """Make an artifact, unless it is intact and not forced."""
        stage, key = decision.stage, decision.key
        before = None if decision.checked else self.store.find(stage, key, read=True)
        if not decision.forced and (before is None or before.presence is Presence.COMPLETE):
            self._report(Event("skip", stage, key, Reason(Kind.UP_TO_DATE)))
            return
        before = before or self.store.find(stage, key)
        reason = decision.reason
        if before.presence is Presence.BROKEN:
            reason = Reason(Kind.BROKEN, detail=before.detail)
        with self._writing():
            keys = {name: d.key for name, d in planned.items()}
            self._runs.start(self._run_name, keys, self._settings)
        with self.store.lock(stage, key, lambda: self._report_waiting(stage, key)):
            found = self.store.find(stage, key, read=True)
            if found.presence is Presence.BROKEN:
                self.store.set_aside(stage, key)
            remade = found.manifest != before.manifest
            if found.presence is Presence.COMPLETE and (remade or not decision.forced):
                self._report(Event("skip", stage, key, Reason(Kind.MADE_MEANWHILE)))
            else:
                inputs = [self._input(stage, n, planned) for n in self._stages[stage].needs]
                self._make(self._stages[stage], inputs, reason, decision.forced)

    def _input(self, stage: str, name: str, planned: Mapping[str, Decision]) -> Manifest:
        """An input, and made anew if it is broken. Once in a run all its content is read again: a
        disk may have changed it, without a change of the time or size of a file."""
        key = self._keys[name]
        unread = (name, key) not in self._read
        found = self.store.find(name, key, read=True, reread=unread)
        if found.presence is not Presence.COMPLETE:
            if name not in planned:
                raise self._missing_input(stage, name)
            self._bring(replace(planned[name], checked=False), planned)
            found = self.store.find(name, key, read=True)
        self._read.add((name, key))
        return found.manifest

    def _make(self, stage: Stage, inputs: Sequence[Manifest], reason: Reason, forced: bool) -> None:
        key = self._keys[stage.name]
        if self.store.finish_sealed(stage.name, key) and not forced:
            self._report_done(stage.name, key)
            return
        from socket import gethostname

        self._report(Event("start", stage.name, key, reason))
        with self._writing():
            for part in stage.data:
                self._tables.add(self._data[part])
        former = self.store.note(stage.name, key)
        note = {
            "start": former.get("start") or datetime.now(timezone.utc).isoformat(),
            "attempts": former.get("attempts", 0) + 1,
            "maker": f"process {os.getpid()} on {gethostname()}",
            "ingredients": self._ingredients[stage.name],
        }
        if forced:
            self.store.clear(stage.name, key)
        pieces = self.store.begin(stage.name, key, note)
        started = time.monotonic()
        with self._failures_noted(stage.name, key):
            self._recheck(stage)
            metrics = self._call(stage, pieces)
            self._recheck(stage)
            self._check_inputs(stage, inputs)
            made = Manifest(
                stage=stage.name,
                key=key,
                start=note["start"],
                seconds=round(time.monotonic() - started, 3),
                attempts=note["attempts"],
                metrics=metrics,
                ingredients=self._ingredients[stage.name],
                files={},
                info=plain(self._info(), "info"),
                config=self._config,
            )
            self.store.complete(made)
        self._read.add((stage.name, key))
        self._report_done(stage.name, key)

    def _call(self, stage: Stage, pieces: Pieces) -> dict[str, Any]:
        function = self._import(stage)
        loaded = set(sys.modules)
        config = ConfigView(stage.name, select(self._config, stage))
        job = self._job(stage, pieces.folder, config, pieces)
        faults.point("stage.called")
        metrics = self._call_function(function, job)
        faults.point("stage.returned")
        late = set(self._ingredients[stage.name]["code"]) & set(sys.modules) - loaded
        self._check_code(stage, late)
        return plain_metrics(stage.name, metrics)

    def _job(
        self, stage: Stage, folder: Path, config: ConfigView, pieces: Pieces | None = None
    ) -> Job:
        return Job(
            stage=stage.name,
            key=self._keys[stage.name],
            folder=folder,
            inputs={name: self.store.folder(name, self._keys[name]) for name in stage.needs},
            config=config,
            context=self.context,
            pieces=pieces,
        )

    def _import(self, stage: Stage) -> Callable[[Job], Mapping[str, Any] | None]:
        """The function of `stage`, sure to be the code that the key was made of."""
        module = import_module(stage.module)
        expected = self._code.path(stage.module)
        if not (module.__file__ and expected and os.path.samefile(module.__file__, expected)):
            raise CacheError(
                f"module {stage.module} was imported from {module.__file__}, expected {expected}: "
                "run from the project folder, or remove the other copy"
            )
        self._check_code(stage, self._ingredients[stage.name]["code"])
        return getattr(module, stage.function.partition(":")[2])

    def _check_code(self, stage: Stage, modules: Iterable[str]) -> None:
        """None of `modules`, just imported, may have been edited since the key was made."""
        for name in modules:
            planned = self._ingredients[stage.name]["code"][name]
            if ":" not in name and self._code.parsed(name).digest != planned:
                raise CacheError(
                    f"the code of {name} changed after the run had started, so stage "
                    f"{stage.name!r} would not be what its key says: run again"
                )

    def _check_inputs(self, stage: Stage, inputs: Sequence[Manifest]) -> None:
        """No input may have been replaced or changed while the stage read it."""
        for used in inputs:
            now = self.store.find(used.stage, used.key, read=True)
            if now.presence is not Presence.COMPLETE or now.manifest.files != used.files:
                raise CacheError(
                    f"the artifact of {used.stage!r} was replaced while stage {stage.name!r} read "
                    "it (was it removed, damaged, or forced in another process?): run again"
                )

    @contextmanager
    def _failures_noted(self, stage: str, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            full = is_disk_full(error)
            failure = disk_full(f"running {stage}", self.store.root) if full else error
            told = full or type(error).__name__ in _TOLD
            message = str(failure) if told else f"{type(error).__name__}: {error}"
            with suppress(OSError):  # the disk may be full; the failure itself matters more
                self.store.fail(stage, key, message)
            self._report(Event("failed", stage, key, detail=message))
            if full:
                raise failure from error
            raise

    def _report_waiting(self, stage: str, key: str) -> None:
        maker = self.store.note(stage, key).get("maker", "another process")
        self._report(Event("waiting", stage, key, detail=maker))

    def _report_done(self, stage: str, key: str) -> None:
        made = self.store.manifest(stage, key)
        self._report(Event("done", stage, key, seconds=made.seconds, metrics=made.metrics))

    def _writing(self) -> AbstractContextManager[None]:
        return disk_errors("recording the run", self.store.root)

    def _remember(self) -> None:
        with self._writing():
            self.store.files.save()
            self._code.save()
            self._verdicts.save()
