"""Why a stage runs or does not: typed reasons, and the one place that words them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .stage import Ingredients, canonical

_SHOWN = 5  # names in a sentence before "and N more"


class Absent(Enum):
    """The value of an ingredient that is not there (None is a value)."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


class Kind(Enum):
    UP_TO_DATE = "up to date"
    MADE_MEANWHILE = "made meanwhile by another process"
    NEVER_MADE = "no artifact yet"
    CHANGED = "changed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    BROKEN = "broken"
    FORCED = "forced"
    FORCED_ANEW = "forced; starts again from nothing"


@dataclass(frozen=True)
class ItemChanges:
    """Names of the items of a data part that were added, removed or changed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def sentence(self) -> str:
        groups = (("changed", self.changed), ("added", self.added), ("removed", self.removed))
        return ", ".join(f"{len(names)} {verb} ({_some(names)})" for verb, names in groups if names)


@dataclass(frozen=True)
class Change:
    """An ingredient that differs; `old` or `new` is ABSENT where it was, or is, not there.

    `group` is "stage", "config", "inputs", "data" or "code"; `items` is set for data parts of
    which both tables of items are at hand.
    """

    group: str
    name: str
    old: Any
    new: Any
    items: ItemChanges | None = None

    def sentence(self) -> str:
        """What changed, in words.

        >>> Change("config", "classifier.epochs", 10, 12).sentence()
        'classifier.epochs 10 -> 12'
        >>> Change("code", "getam.labels.pamr", "a" * 64, "b" * 64).sentence()
        'the code of getam.labels.pamr changed'
        """
        what = self._noun()
        if self.items is not None:
            return f"{what}: {self.items.sentence()}"
        if self.group == "config":
            return f"{what} {_as_typed(self.old)} -> {_as_typed(self.new)}"
        if self.group == "data" and ABSENT in (self.old, self.new):
            return f"now {'with' if self.old is ABSENT else 'without'} {what}"
        if self.old is ABSENT:
            return f"{what} is used now"
        if self.new is ABSENT:
            return f"{what} is not used any more"
        if self.group in ("code", "data"):
            return f"{what} changed"
        return f"{what} {self.old} -> {self.new}"

    def _noun(self) -> str:
        if self.group == "data":
            return f"the {self.name} of the data"
        nouns = {"inputs": "the artifact of", "code": "the code of"}
        return f"{nouns.get(self.group, '')} {self.name}".strip()


@dataclass(frozen=True)
class Reason:
    """Why: the kind, what changed since the nearest earlier artifact, what is broken or failed.

    Where an artifact before it has another key, the changes are those that gave it this key.
    """

    kind: Kind
    changes: tuple[Change, ...] = ()
    detail: str = ""

    def sentence(self) -> str:
        """The reason in words.

        >>> Reason(Kind.NEVER_MADE).sentence()
        'no artifact yet'
        """
        if self.kind is Kind.CHANGED:
            shown = [change.sentence() for change in self.changes[:_SHOWN]]
            more = len(self.changes) - len(shown)
            if more:  # a first run, or other data, rather than a change of one's own
                return (
                    f"no artifact of these settings yet; the nearest one differs in "
                    f"{len(self.changes)} points: {'; '.join(shown)}; and {more} more"
                )
            return "because " + "; ".join(shown)
        words = {
            Kind.INTERRUPTED: "interrupted; goes on from what it has",
            Kind.FAILED: f"failed: {self.detail}",
            Kind.BROKEN: f"artifact is broken: {self.detail}",
            Kind.FORCED: "forced although cached",
        }
        return words.get(self.kind, self.kind.value)


def compare(old: Ingredients, new: Ingredients) -> list[Change]:
    """The ingredients that differ, in the order of the groups.

    A setting that is read only with a part of the data comes and goes with it, so then only the
    part is named.
    """
    changes = []
    for group in ("stage", "config", "inputs", "data", "code"):
        before, now = old.get(group, {}), new.get(group, {})
        for name in sorted(before.keys() | now.keys()):
            change = Change(group, name, before.get(name, ABSENT), now.get(name, ABSENT))
            if _differ(change.old, change.new):
                changes.append(change)
    of_data = {end for c in changes if c.group == "data" for end in _absent(c)}
    return [c for c in changes if c.group != "config" or of_data.isdisjoint(_absent(c))]


def _absent(change: Change) -> set[str]:
    """At which end the ingredient is not there."""
    return {end for end in ("old", "new") if getattr(change, end) is ABSENT}


def _differ(old: Any, new: Any) -> bool:
    """As text, because to Python 1, 1.0 and True are equal."""
    return old is ABSENT or new is ABSENT or canonical(old) != canonical(new)


def compare_items(old: Mapping[str, str], new: Mapping[str, str]) -> ItemChanges:
    """What changed between two tables item -> digest.

    >>> compare_items({"a": "1", "b": "1"}, {"b": "2", "c": "1"}).sentence()
    '1 changed (b), 1 added (c), 1 removed (a)'
    """
    return ItemChanges(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
    )


def _as_typed(value: Any) -> str:
    """A setting as a config file has it.

    >>> _as_typed("cam"), _as_typed(None), _as_typed([1, 2]), _as_typed(ABSENT)
    ('cam', 'null', '[1, 2]', 'not set')
    """
    if value is ABSENT:
        return "not set"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
