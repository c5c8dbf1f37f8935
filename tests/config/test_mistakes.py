"""A wrong setting: the message says what was expected in our words, not in those of pydantic."""

from __future__ import annotations

import pytest

from getam.config.loading import load_config
from getam.errors import UserError

WRONG = {
    "classifier.epochs=abc": "classifier.epochs: got 'abc', expected a whole number above 0.",
    "classifier.epochs=0": "classifier.epochs: got 0, expected a whole number above 0.",
    "seed=1.5": "seed: got 1.5, expected a whole number from 0 to 4294967295.",
    "pseudolabels.quantile=2": "pseudolabels.quantile: got 2, expected a number from 0 to 1.",
    "pseudolabels.pamr.enabled=perhaps": "pseudolabels.pamr.enabled: got 'perhaps', expected true",
    "maps.method=x": "maps.method: got 'x', expected getam | getam_paper | ",
    "maps.scales=[]": "maps.scales: got [], expected a list of at least one: number above 0.",
    "maps.scales=[1, 0]": "maps.scales: got [1, 0], expected a list of at least one: number above",
    "maps.start_block=-1": "maps.start_block: got -1, expected a whole number, 0 or more, or null.",
    "classifier.crop_scale=[1]": "expected [number from 0 to 1, number from 0 to 1].",
    "classifier.crop_scale=[1, 0.5]": "expected [smallest, largest], above 0, the smallest first.",
    "classifier.model_args=7": "classifier.model_args: got 7, expected {name: value}.",
    "predictions.crf.steps=[1]": "predictions.crf.steps: got [1], expected a whole number above 0.",
}
PYDANTIC = ("Input should", "Value error", "valid integer", "unable to parse")


@pytest.mark.parametrize(("assignment", "told"), WRONG.items(), ids=WRONG)
def test_a_wrong_value_is_told_in_our_words(assignment, told):
    with pytest.raises(UserError) as caught:
        load_config((), [assignment])
    assert told in str(caught.value)
    assert not any(word in str(caught.value) for word in PYDANTIC)


def test_the_beginning_of_a_name_is_enough_to_suggest_the_settings_that_begin_so():
    with pytest.raises(UserError, match=r"deeplab.lr_encoder or deeplab.lr_head\?"):
        load_config((), ["deeplab.lr=0.1"])


def test_a_wrong_value_names_the_file_that_set_it(tmp_path):
    files = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    files[0].write_text("classifier: {epochs: many, batch_size: 4}\n")
    files[1].write_text("classifier: {batch_size: -1}\n")
    with pytest.raises(UserError, match=rf"^{files[0]}: classifier.epochs: got 'many', expected"):
        load_config([files[0]])
    with pytest.raises(UserError, match=rf"^{files[1]}: classifier.batch_size: got -1, expected"):
        load_config(files, ["classifier.epochs=1"])
    with pytest.raises(UserError, match=r"^classifier.epochs: got 'few', expected"):
        load_config(files, ["classifier.epochs=few"])


def test_a_wrong_value_names_the_file_that_is_extended_and_the_part(tmp_path):
    base, over = tmp_path / "base.yaml", tmp_path / "over.yaml"
    base.write_text("classifier: {epochs: many}\n")
    over.write_text("extends: base.yaml\ndeeplab: {epochs: 3}\n")
    with pytest.raises(UserError, match=rf"^{base}: classifier.epochs: got 'many'"):
        load_config([over])
    over.write_text("on_gpu: {deeplab: {epochs: few}}\non_cpu: {extends: base.yaml}\n")
    with pytest.raises(UserError, match=rf"^{over}: on_gpu: deeplab.epochs: got 'few'"):
        load_config([over], machine="gpu")
    with pytest.raises(UserError, match=rf"^{base}: classifier.epochs: got 'many'"):
        load_config([over], machine="cpu")
