"""How well the classifier behind the maps knows each class, for the tables of ``inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from getam.data.class_names import counted
from getam.metrics.chance import beats_chance, can_beat_chance
from getam.metrics.classification import average_precision, f1, mean_average_precision
from getam.running.commands.current import CurrentRun

FEW = 5  # photos with, or without, a class, with which a good classifier may fail the test


@dataclass(frozen=True)
class Knowledge:
    """The scores (N, C) of the classifier on the photos of a split, and their labels (N, C)."""

    split: str
    classes: Sequence[str]
    scores: np.ndarray
    labels: np.ndarray

    def columns(self) -> list[tuple[float, float]]:
        """For each class its average precision, and that of random scores; nan if it is absent."""
        shares = self.labels.mean(axis=0)
        return list(zip(average_precision(self.scores, self.labels), shares))

    def lines(self, chosen: int | None) -> list[str]:
        """The figures of all classes, and a warning about those that it does not know."""
        number = counted(len(self.labels), "photo", "photos")
        mean = 100 * mean_average_precision(self.scores, self.labels)
        score = f1(self.scores, self.labels).macro
        lines = [f"classifier on {self.split} ({number}): mAP {mean:.1f} %, F1 {score:.3f} (macro)"]
        asked = [c for c in range(len(self.classes)) if chosen in (None, c + 1)]
        beats, can = beats_chance(self.scores, self.labels), can_beat_chance(self.labels)
        few = [self._counts(c) for c in asked if not can[c]]
        if few:
            lines.append(f"too few {self.split} photos to tell from chance: {', '.join(few)}")
        unknown = [c for c in asked if can[c] and not beats[c]]
        if unknown:
            names = ", ".join(self.classes[c] for c in unknown)
            lines.append(
                f"WARNING: on {self.split} the classifier is no better than chance for: {names}. "
                f"Do not trust the maps of these classes, also if none is suspicious. "
                f"docs/symptoms.md, 'One class is wrong in many photos', says what to change."
            )
        if any(self._is_rare(c) for c in unknown):
            lines.append(
                f"With fewer than {FEW} photos of {self.split} that have a class, or that do not "
                f"have it, a good classifier can look like this too: add photos to {self.split}."
            )
        return lines

    def _counts(self, column: int) -> str:
        there = int(self.labels[:, column].sum())
        return f"{self.classes[column]} ({there} with it, {len(self.labels) - there} without)"

    def _is_rare(self, column: int) -> bool:
        there = int(self.labels[:, column].sum())
        return min(there, len(self.labels) - there) < FEW


def knowledge(run: CurrentRun) -> Knowledge | None:
    """What the network that the maps explain knows; None where its artifact is not there."""
    config = run.config
    joint = config.mode == "multi-stage" and config.maps.source == "endtoend"
    stage = "endtoend" if joint else "classifier"
    if not run.has(stage):
        return None
    with np.load(run.folder(stage) / "scores.npz", allow_pickle=False) as saved:
        return Knowledge(config.data.val, run.data.classes, saved["scores"], saved["labels"])
