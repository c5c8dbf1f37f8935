"""Lines of text about a run: its progress, its plan, its status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from getam.view.progress import duration
from getam.view.shown import shown_line
from getam.view.table import text_table


class Reporter:
    """Prints each event of a run as a line. Counts the stages that ran, and their seconds."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.ran, self.seconds = stream, 0, 0.0

    def __call__(self, event: Any) -> None:
        if event.kind == "done":
            self.ran += 1
            self.seconds += event.seconds or 0
        self._say(f"{event.stage:<17}{self._words(event)}")

    def warning(self, message: Warning | str, *_: Any) -> None:
        self.note(str(message))

    def note(self, message: str) -> None:
        """Print what is no event of a stage."""
        self._say(f"note: {message}")

    def _words(self, event: Any) -> str:
        if event.kind == "skip":
            return f"cached ({event.key})"
        if event.kind == "start":
            return f"runs: {event.reason.sentence()}"
        if event.kind == "done":
            figures = "; ".join(headline(event.metrics or {}))
            return f"done in {duration(event.seconds or 0)}" + (f": {figures}" if figures else "")
        if event.kind == "failed":
            return "failed"  # the command ends with the error itself
        return f"{event.kind}: {event.detail}"

    def _say(self, line: str) -> None:
        print(shown_line(line), file=self.stream, flush=True)


def headline(metrics: Mapping[str, Any]) -> list[str]:
    """The single values and the curves among the metrics, as text. Scores are in percent.

    >>> headline({"val mAP": 0.91234, "images": 900, "val AP": {"cat": 0.9}})
    ['val mAP 91.2 %', 'images 900']
    >>> headline({"loss per epoch": [0.61234, 0.5]})
    ['loss per epoch 0.612 0.500']
    """
    shown = []
    for name, value in metrics.items():
        if isinstance(value, list) and value and all(isinstance(v, float) for v in value):
            shown.append(" ".join([name, *(f"{v:.3f}" for v in value)]))
        elif isinstance(value, float):
            shown.append(f"{name} {_number(name, value)}")
        elif isinstance(value, (int, str)):
            shown.append(f"{name} {value}")
    return shown


def _number(name: str, value: float) -> str:
    """As in the table of the stage evaluation: scores in percent."""
    return f"{100 * value:.1f} %" if name.endswith(("mAP", "mIoU")) else f"{value:.3f}"


def plan_lines(plan: Sequence[Any]) -> list[str]:
    """One line per stage of a plan: whether it would run, and why.

    A reason that is that of the stage before is not repeated.
    """
    lines, before = [], None
    for decision in plan:
        verb = "would run" if decision.runs else "cached"
        reason = decision.reason.sentence()
        if decision.runs and before and before.reason.changes == decision.reason.changes != ():
            reason = "for the same reason"
        why = f": {reason}" if decision.runs else f" ({decision.key})"
        lines.append(f"{decision.stage:<17}{verb}{why}")
        before = decision if decision.runs else None
    return lines


def status_table(rows: Sequence[Any]) -> str:
    """One line per stage: status, key, size, time, metrics; or the reason why it is not cached."""
    body = []
    for row in rows:
        size = "" if row.size is None else f"{row.size / 1e6:.1f} MB"
        seconds = "" if row.seconds is None else duration(row.seconds)
        told = "; ".join(headline(row.metrics or {})) or row.reason.sentence()
        body.append([row.stage, row.status, row.key, size, seconds, told])
    return text_table(["stage", "status", "key", "size", "time", "figures"], body, left=(0, 1, 5))
