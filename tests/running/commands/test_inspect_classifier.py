"""inspect maps: what the classifier knows stands beside its maps."""

from __future__ import annotations

import json

import numpy as np
import pytest

from getam.running.commands.classifier_figures import Knowledge
from tests.running.commands.test_inspect import columns


@pytest.fixture
def scored(micro, monkeypatch):
    """Gives the classifier of the micro run other scores on val, of which half show a cat."""

    def give(scores: list[tuple[float, float]]) -> None:
        labels = np.array([(n % 2 == 0, n % 2 == 1) for n in range(len(scores))])
        saved = Knowledge("val", ("cat", "dog"), np.array(scores), labels)
        monkeypatch.setattr("getam.running.commands.inspect.knowledge", lambda run: saved)

    return give


def test_maps_of_a_classifier_that_learned_nothing_come_with_a_warning(micro, scored):
    scored([(0.01, 0.01)] * 20)
    told = micro("inspect", "maps").out
    assert columns(told, "cat")[-3:] == ["0", "50.0", "50.0"]  # suspicious, AP, chance
    assert "classifier on val (20 photos): mAP 50.0 %, F1 0.000 (macro)" in told
    assert "no better than chance for: cat, dog." in told
    assert "add photos to val" not in told
    assert "for: dog." in micro("inspect", "maps", "--class", "dog").out


def test_maps_of_a_class_that_the_classifier_knows_come_without_a_warning(micro, scored):
    scored([(0.9, 0.5), (0.2, 0.5)] * 10)
    told = micro("inspect", "maps").out
    assert columns(told, "cat")[-2:] == ["100.0", "50.0"]
    assert "no better than chance for: dog." in told
    assert "WARNING" not in micro("inspect", "maps", "--class", "cat").out


def test_with_few_photos_of_val_the_warning_says_that_it_can_be_bad_luck(micro, scored):
    scored([(0.1, 0.1)] * 8)
    assert "a good classifier can look like this too: add photos to val" in (
        micro("inspect", "maps").out
    )


def test_a_class_with_so_few_photos_that_no_order_tells_is_not_called_unknown(micro, scored):
    scored([(0.9, 0.1), (0.2, 0.8)])  # a perfect order
    told = micro("inspect", "maps").out
    few = "cat (1 with it, 1 without), dog (1 with it, 1 without)"
    assert f"too few val photos to tell from chance: {few}" in told
    assert "WARNING" not in told


def test_the_figures_beside_the_maps_are_those_of_the_table(micro):
    told = micro("inspect", "maps").out
    history = json.loads((micro.artifact("classifier") / "manifest.json").read_text())["metrics"]
    assert f"mAP {100 * history['val mAP']:.1f} %" in told
    assert columns(told, "cat")[-2:] == [f"{100 * history['val AP']['cat']:.1f}", "50.0"]
