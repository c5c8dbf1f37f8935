"""Why a stage runs or does not: typed reasons, and the one place that words them."""

from __future__ import annotations

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

        >>> Change("config", "maps.method", "cam", "getam").sentence()
        "config maps.method changed from 'cam' to 'getam'"
        """
        noun = {"inputs": "input", "stage": "stage"}.get(self.group, self.group)
        what = f"{noun} {self.name}"
        if self.items is not None:
            return f"{what}: {self.items.sentence()}"
        if self.old is ABSENT:
            return f"{what} is new ({self._shown(self.new)})"
        if self.new is ABSENT:
            return f"{what} is gone (was {self._shown(self.old)})"
        return f"{what} changed from {self._shown(self.old)} to {self._shown(self.new)}"

    def _shown(self, value: Any) -> str:
        hashed = self.group in ("data", "code") and isinstance(value, str) and len(value) == 64
        return value[:12] if hashed else str(value) if self.group == "inputs" else repr(value)


@dataclass(frozen=True)
class Reason:
    """Why: the kind, what changed since the nearest earlier artifact, what is broken or failed."""

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
            return "; ".join(shown) + (f"; and {more} more" if more else "")
        words = {
            Kind.INTERRUPTED: "interrupted; goes on from what it has",
            Kind.FAILED: f"failed: {self.detail}",
            Kind.BROKEN: f"artifact is broken: {self.detail}",
            Kind.FORCED: "forced although cached",
        }
        return words.get(self.kind, self.kind.value)


def compare(old: Ingredients, new: Ingredients) -> list[Change]:
    """The ingredients that differ, in the order of the groups."""
    changes = []
    for group in ("stage", "config", "inputs", "data", "code"):
        before, now = old.get(group, {}), new.get(group, {})
        for name in sorted(before.keys() | now.keys()):
            change = Change(group, name, before.get(name, ABSENT), now.get(name, ABSENT))
            if _differ(change.old, change.new):
                changes.append(change)
    return changes


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


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
