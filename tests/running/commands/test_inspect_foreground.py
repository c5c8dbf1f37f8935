"""inspect foreground: the table of its thresholds, and its overlay."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from getam.data.images import read_scores
from getam.data.masks import read_mask
from getam.view.overlay import enlarge
from tests.conftest import make_folder, pipeline
from tests.running.commands.conftest import MicroRun, assert_one_sentence
from tests.running.commands.test_inspect import columns


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> MicroRun:
    """A run with its own foreground, up to there."""
    run = MicroRun(tmp_path_factory.mktemp("own"), "pseudolabels.saliency=features")
    make_folder(run.data)
    words = ("run", "--until", "foreground", "--workers", "1")
    made = pipeline(*words, cwd=run.place, settings=run.settings)
    assert made.code == 0, made
    return run


def test_table_of_the_foreground_measures_each_threshold(own):
    told = own("inspect", "foreground", more=("pseudolabels.saliency_threshold=0.35",))
    assert told.code == 0, told
    shares, hits, union = [], 0, 0
    for n in range(8):
        mask = read_mask(own.data / "masks" / f"photo{n:02}.png")
        scores = read_scores(own.artifact("foreground") / "foreground" / f"photo{n:02}.png")
        found = enlarge(scores, mask.shape) > 0.35
        shares.append(100 * found.mean())
        hits += np.count_nonzero(found & (mask > 0) & (mask < 255))
        union += np.count_nonzero((found | (mask > 0)) & (mask < 255))
    row = columns(told.out, "0.35")
    assert row[1] == "(saliency_threshold)"
    assert row[2:] == [
        f"{np.median(shares):.1f}",
        str(sum(share == 0 for share in shares)),
        f"{100 * hits / union:.1f}",
    ]
    assert [line.split()[0] for line in told.out.splitlines()[2:9]] == [
        *("0.2", "0.3", "0.35", "0.4", "0.5", "0.6", "0.7")
    ]


def test_overlay_of_the_foreground_draws_its_line(own, tmp_path):
    drawn = {}
    for threshold in ("0.01", "0.5"):
        words = ("inspect", "foreground", "photo00", "--threshold", threshold)
        assert own(*words, "-o", tmp_path / threshold).code == 0
        file = tmp_path / threshold / "foreground" / "photo00.png"
        drawn[threshold] = np.asarray(Image.open(file))[40:140]  # without the captions
    assert (drawn["0.01"] != drawn["0.5"]).any()


def test_a_run_without_a_foreground_says_so(micro):
    assert_one_sentence(micro("inspect", "foreground"), "no such stage")
