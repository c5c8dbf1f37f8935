"""What would fail after hours, or end the process, is refused before the first stage."""

from __future__ import annotations

import pytest

from getam.config.loading import load_config, recorded
from getam.errors import UserError
from tests.conftest import TINY, make_folder, pipeline
from tests.trees import make_coco


@pytest.mark.parametrize(
    "setting",
    [
        *(
            f"{stage}.crf.{name}=0"
            for stage in ("pseudolabels", "predictions")
            for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb")
        ),
        "predictions.crf.bilateral_srgb=1e-9",
        "predictions.crf.gaussian_sxy=-5",
        "predictions.crf.bilateral_compat=-3",
        "pseudolabels.pamr.dilations=[]",
        "seed=-1",
        "seed=99999999999999999999999",
        "data.shapes.seed=-1",
        "compare.methods=[]",
        "compare.refiners=[]",
    ],
)
def test_a_value_that_no_stage_can_take_is_no_setting(setting):
    with pytest.raises(UserError, match=setting.partition("=")[0]):
        load_config((), [setting])


def test_saliency_maps_that_coco_lacks_are_missed_before_the_first_stage(tmp_path):
    root = make_coco(tmp_path / "coco")
    splits = ("data.train=train2014", "data.val=val2014", "pseudolabels.saliency=folder")
    sets = ("data.kind=coco", f"data.root={root}", *TINY, *splits)
    told = pipeline("run", cwd=tmp_path, settings=sets)
    assert told.code == 1
    assert "no saliency map" in told.err
    assert "done in" not in told.err


def test_corrections_that_are_not_below_the_data_folder_are_recorded_with_their_path(
    tmp_path, monkeypatch
):
    make_folder(tmp_path / "photos")
    (tmp_path / "mine").mkdir()
    (tmp_path / "photos" / "below").mkdir()
    (tmp_path / "below").mkdir()  # a folder of the same name that is not meant
    monkeypatch.chdir(tmp_path)
    for name, kept in (("mine", str(tmp_path / "mine")), ("below", "below"), ("none", "none")):
        given = ["data.kind=folder", "data.root=photos", f"data.corrections={name}"]
        assert recorded(load_config((), given))["data"]["corrections"] == kept
