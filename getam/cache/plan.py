"""Plans which stages must run, and why. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .code_digests import CodeDigests
from .errors import CacheError
from .manifest import Manifest
from .reasons import ABSENT, Change, Kind, Reason, compare, compare_items
from .records import Tables
from .stage import DataPart, Ingredients, Stage, key_of, leaves, plain, select
from .store import Found, Presence, Store


@dataclass(frozen=True)
class Decision:
    """What is to be done about a stage. `status`: cached, partial, stale, missing or failed.

    The stage runs if it is not cached. If `forced` it runs anyway, from nothing. `checked`: it is
    cached, and the content of its artifact was known to be unchanged.
    """

    stage: str
    key: str
    status: str
    reason: Reason
    forced: bool = False
    checked: bool = False

    @property
    def runs(self) -> bool:
        return self.forced or self.status != "cached"


@dataclass(frozen=True)
class StatusRow:
    """A line of the status table; what only an artifact has is None without one.

    `size` is in bytes, `seconds` is how long the stage took.
    """

    stage: str
    status: str
    key: str
    reason: Reason
    size: int | None = None
    seconds: float | None = None
    metrics: Mapping[str, Any] | None = None


class Planner:
    """Knows the key of each stage and what is on the disk for it.

    `stages` come in the order they run, each after those it needs. `config` is a plain nested
    dict, `data` the parts that stages declare. Modules of the stages are looked for under
    `code_root` in the top `packages`. Raises CacheError if a stage declares what does not exist.
    """

    def __init__(
        self,
        store: Store,
        stages: Sequence[Stage],
        config: Mapping[str, Any],
        data: Mapping[str, DataPart],
        code_root: str | Path,
        *,
        packages: Sequence[str] = ("stages", "getam"),
    ) -> None:
        self.store = store
        self._config = plain(config)
        self._data = data
        self._code = CodeDigests(Path(code_root), packages, store.hidden / "code")
        self._tables = Tables(store.hidden)
        self.former: Mapping[str, str] = {}  # stage -> key of the last artifact of the same run
        self._stages: dict[str, Stage] = {}
        self._ingredients: dict[str, Ingredients] = {}
        self._keys: dict[str, str] = {}
        for stage in stages:
            self._ingredients[stage.name] = self._ingredients_of(stage)
            self._keys[stage.name] = key_of(self._ingredients[stage.name])
            self._stages[stage.name] = stage

    def key(self, stage: str) -> str:
        """The key of a stage under the present config, data and code."""
        self._check_names([stage], self._stages)
        return self._keys[stage]

    def plan(
        self, until: str | None = None, only: str | None = None, force: Sequence[str] = ()
    ) -> list[Decision]:
        """What a run would do about each stage, in order, and why.

        `until` leaves out what that stage does not need, `only` all but that stage; `force` names
        stages to run although cached. Raises CacheError for a name that is not among them, and
        if `only` would run without its inputs.
        """
        self._check_names([name for name in (until, only) if name], self._stages)
        chosen = {only} if only else self._needed(until) if until else set(self._stages)
        self._check_names(force, [name for name in self._stages if name in chosen])
        plan = [self._decide(name, name in force) for name in self._stages if name in chosen]
        if only and plan[0].runs:
            for name in self._stages[only].needs:
                if self.store.find(name, self._keys[name]).presence is not Presence.COMPLETE:
                    raise self._missing_input(only, name)
        return plan

    def status(self) -> list[StatusRow]:
        """A row per stage."""
        rows = []
        for decision in self.plan():
            row = StatusRow(decision.stage, decision.status, decision.key, decision.reason)
            made = self.store.manifest(decision.stage, decision.key)
            if made and decision.status == "cached":
                row = replace(row, size=made.size, seconds=made.seconds, metrics=made.metrics)
            rows.append(row)
        return rows

    def explain(self, stage: str) -> list[Change]:
        """The ingredients that differ from those of the nearest earlier artifact of `stage`.

        The nearest is the last one of the same run (`former`), if it is known and there; else the
        one with the fewest differing ingredients, the newest of several. In the place of an input
        with another key stand the ingredients of that input that differ, and so on up the chain.
        Empty if the stage is cached or has no earlier artifact: the status tells which.
        """
        key = self.key(stage)
        if self.store.find(stage, key).presence is Presence.COMPLETE:
            return []
        return self._changes(stage)

    def _ingredients_of(self, stage: Stage) -> Ingredients:
        for name in stage.needs:
            if name not in self._keys:
                raise CacheError(
                    f"stage {stage.name!r} needs {name!r}, which is not a stage before it "
                    f"({', '.join(self._keys) or 'there is none'}): mend the table of stages"
                )
        for name in stage.data:
            if name not in self._data:
                raise CacheError(
                    f"stage {stage.name!r} reads data part {name!r}; the data set has "
                    f"{', '.join(self._data) or 'none'}: mend the table of stages"
                )
        return {
            "stage": {"function": stage.function},
            "config": leaves(select(self._config, stage)),
            "inputs": {name: self._keys[name] for name in stage.needs},
            "data": {name: self._data[name].digest for name in stage.data},
            "code": self._code.of(stage.module),
        }

    def _check_names(self, names: Iterable[str], known: Iterable[str]) -> None:
        for name in names:
            if name not in known:
                raise CacheError(f"no stage {name!r} here: choose from {', '.join(known)}")

    def _missing_input(self, stage: str, needed: str) -> CacheError:
        return CacheError(
            f"stage {stage!r} needs the artifact of {needed!r}, which is missing or broken: give "
            f"the same options with --until {needed} to make it, or with --until {stage} in place "
            f"of --only {stage} to make both"
        )

    def _needed(self, stage: str) -> set[str]:
        return {stage}.union(*(self._needed(name) for name in self._stages[stage].needs))

    def _decide(self, stage: str, forced: bool) -> Decision:
        key = self._keys[stage]
        found = self.store.find(stage, key)
        if found.presence is Presence.COMPLETE:
            reason = Reason(Kind.FORCED if forced else Kind.UP_TO_DATE)
            return Decision(stage, key, "cached", reason, forced, found.checked)
        status, reason = self._why_not(stage, found)
        if forced and status in ("partial", "failed"):
            reason = Reason(Kind.FORCED_ANEW)
        return Decision(stage, key, status, reason, forced)

    def _why_not(self, stage: str, found: Found) -> tuple[str, Reason]:
        """Status and reason of a stage that is not cached."""
        if found.presence is Presence.FAILED:
            return "failed", Reason(Kind.FAILED, detail=found.detail)
        if found.presence is Presence.PARTIAL:
            return "partial", Reason(Kind.INTERRUPTED)
        if found.presence is Presence.BROKEN:
            return "missing", Reason(Kind.BROKEN, detail=found.detail)
        changes = self._changes(stage)
        if changes:
            return "stale", Reason(Kind.CHANGED, tuple(changes))
        return "missing", Reason(Kind.NEVER_MADE)

    def _changes(self, stage: str) -> list[Change]:
        """Against the nearest earlier artifact; empty without one."""
        last = self.former.get(stage, self._keys[stage])
        if last != self._keys[stage] and (found := self._former(stage, last)):
            return self._roots(compare(found.ingredients, self._ingredients[stage]))
        best: tuple[list[Change], Manifest] | None = None
        for key in self.store.keys(stage):
            found = None if key == self._keys[stage] else self._former(stage, key)
            if found is None:
                continue
            changes = compare(found.ingredients, self._ingredients[stage])
            if best is None or (len(changes), best[1].start) < (len(best[0]), found.start):
                best = changes, found
        return self._roots(best[0]) if best else []

    def _former(self, stage: str, key: str) -> Manifest | None:
        """An earlier artifact; None if it is broken or cannot be read: then others explain more."""
        try:
            return self.store.manifest(stage, key)
        except CacheError:
            return None

    def _roots(self, changes: Iterable[Change]) -> list[Change]:
        """The changes, each changed input replaced by what changed in it, none of them twice."""
        roots: list[Change] = []
        for change in changes:
            behind = self._behind(change) if change.group == "inputs" else []
            for root in behind or [self._with_items(change)]:
                if root not in roots:
                    roots.append(root)
        return roots

    def _behind(self, change: Change) -> list[Change]:
        """What changed in an input; empty where what it was made of is no longer known."""
        if ABSENT in (change.old, change.new):
            return []
        before = self.store.ingredients(change.name, change.old)
        return self._roots(compare(before, self._ingredients[change.name])) if before else []

    def _with_items(self, change: Change) -> Change:
        """A change of a data part, with the items that differ where they are at hand."""
        if change.group != "data" or ABSENT in (change.old, change.new):
            return change
        old = self._tables.get(change.old)
        new = self._data[change.name].details()
        return change if old is None else replace(change, items=compare_items(old, new))
