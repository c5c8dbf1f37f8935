"""Small photos and their labels are read once per training, not once per epoch."""

from __future__ import annotations

from collections import Counter

import pytest

from getam.config.loading import load_config
from getam.running.opening import open_runner
from getam.training import joint_items
from stages import classifier, deeplab
from stages.chain import chain
from tests.conftest import EXAMPLE


@pytest.mark.parametrize(
    ("stage", "module", "epochs", "mode"),
    [
        ("classifier", classifier, "classifier.epochs=3", "multi-stage"),
        ("deeplab", deeplab, "deeplab.epochs=3", "multi-stage"),
        ("endtoend", joint_items, "endtoend.joint.epochs=3", "end-to-end"),
    ],
)
def test_each_small_photo_is_read_once(stage, module, epochs, mode, tmp_path, monkeypatch):
    config = load_config((), (*EXAMPLE, epochs, f"mode={mode}"))
    runner = open_runner(chain, config, tmp_path / "artifacts", device="cpu", workers=1)
    plan = runner.plan(until=stage)
    read, counted = module.read_photo, Counter()

    def counting(record, *others):
        counted[record.id] += 1
        return read(record, *others)

    monkeypatch.setattr(module, "read_photo", counting)
    runner.run(plan)
    assert set(counted.values()) == {1} if stage != "endtoend" else max(counted.values()) <= 2
