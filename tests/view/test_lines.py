"""Lines about a run: the units and the words of what is printed."""

from __future__ import annotations

import io
from types import SimpleNamespace

from getam.view.lines import Reporter, headline


def test_scores_have_the_unit_of_the_table_at_the_end_of_a_run():
    found = headline({"val mAP": 0.941, "network mIoU": 0.7236, "loss": 0.1764})
    assert found == ["val mAP 94.1 %", "network mIoU 72.4 %", "loss 0.176"]


def test_a_failure_is_not_told_twice():
    stream = io.StringIO()
    event = SimpleNamespace(kind="failed", stage="maps", key="0", detail="UserError: no photo.")
    Reporter(stream)(event)
    assert stream.getvalue() == "maps             failed\n"
