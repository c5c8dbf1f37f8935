"""Where commands may write: never among the photos."""

from __future__ import annotations

import pytest

from getam.config.schema import Data
from getam.errors import UserError
from getam.running.commands.current import output_file
from tests.running.commands.conftest import assert_one_sentence


@pytest.mark.parametrize("place", ["images", "images/new", "images/cat/more"])
@pytest.mark.parametrize(
    "words",
    [
        ("predict", "IMAGES"),
        ("export", "--format", "voc", "--what", "predictions"),
        ("inspect", "predictions", "photo09"),
    ],
)
def test_nothing_is_written_among_the_photos(micro, words, place):
    """With a folder for each class, what is there would be classes of the next run."""
    before = sorted(micro.data.rglob("*"))
    words = [str(micro.data / "images") if word == "IMAGES" else word for word in words]
    done = micro(*words, "-o", micro.data / place)
    assert_one_sentence(done)
    assert "got a place among the photos" in done.err
    assert sorted(micro.data.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "folder"),
    [("folder", "images"), ("voc", "JPEGImages"), ("coco", "train2014"), ("coco", "val2014")],
)
def test_the_photos_are_where_the_data_set_has_them(tmp_path, kind, folder):
    data = Data(kind=kind, root=str(tmp_path), train="train2014", val="val2014")
    with pytest.raises(UserError, match="among the photos"):
        output_file(tmp_path / folder / "new" / "x.png", tmp_path / "artifacts", data)
    assert not (tmp_path / folder).exists()
    free = output_file(tmp_path / "other" / "x.png", tmp_path / "artifacts", data)
    assert free.parent.is_dir()
