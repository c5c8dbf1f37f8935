"""Photos of more than 8 bits: one range for all of a data set, measured once or set."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

import getam.data.images
import getam.running.commands.predict
from getam.config.loading import load_config
from getam.config.schema import Config
from getam.data.check import check
from getam.data.folder import read_folder
from getam.data.images import read_image, read_photo
from getam.errors import UserError
from getam.networks.build import build_deeplab, network_build, network_intensities, save_network
from getam.running.commands.predict import find_images, open_segmenter, predict
from getam.running.opening import open_runner
from stages.chain import chain
from tests.conftest import TINY, pipeline

ALL = ("classifier", "maps", "pseudolabels", "deeplab", "predictions", "doubt", "evaluation")


def ramp(top: float, kind: type = np.uint16, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """Values from 0 to ``top``, rising along the rows."""
    return np.linspace(0, top, size[0] * size[1]).reshape(size).astype(kind)


@pytest.fixture(autouse=True)
def nothing_said():
    """Each test says anew what is said once, and leaves nothing said."""
    getam.data.images._said.clear()
    yield
    getam.data.images._said.clear()


@pytest.fixture
def deep(folder) -> Path:
    """The folder with 12 bits in 16: each photo reaches another brightness, the last one 4095."""
    for n in range(12):
        file = folder / "images" / f"photo{n:02}.png"
        size = Image.open(file).size[::-1]
        Image.fromarray(ramp(315 * (n + 2), size=size)).save(file)
    return folder


def runner(root: Path, *more: str):
    settings = ("data.kind=folder", f"data.root={root}", *TINY, *more)
    return open_runner(chain, load_config((), settings), root.parent / "artifacts")


def keys(root: Path, *more: str) -> dict[str, str]:
    return {decision.stage: decision.key for decision in runner(root, *more).plan()}


def photos(root: Path, *more: str) -> dict[str, np.ndarray]:
    index = runner(root, *more).context.index
    return {r.id: read_photo(r) for name in index.splits for r in index.split(name)}


@pytest.mark.filterwarnings("ignore")
def test_all_photos_share_one_range_that_fills_the_grey_levels(deep):
    found = photos(deep)
    brightest = [found[f"photo{n:02}"].max() for n in range(12)]
    assert brightest == sorted(brightest)
    assert brightest[-1] == 255
    assert abs(brightest[4] - 255 * 6 / 13) < 2  # not stretched to its own range
    assert len(np.unique(found["photo11"])) > 200


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_float_and_signed_photos_are_not_stretched_one_by_one(folder, kind):
    for n in range(12):
        file = folder / "images" / f"photo{n:02}.png"
        size = Image.open(file).size[::-1]
        file.unlink()
        Image.fromarray(ramp(100 * (n + 1), kind, size) - 50).save(file.with_suffix(".tif"))
    found = photos(folder)
    assert abs(int(found["photo05"].max()) - 255 * 600 / 1200) < 4
    assert found["photo11"].max() == 255


@pytest.mark.filterwarnings("ignore")
def test_the_range_can_be_set_and_what_is_outside_is_black_or_white(deep):
    found = photos(deep, "data.intensity_range=[1000, 2000]")["photo11"][..., 0]
    values = ramp(4095, size=found.shape)
    assert (found[values <= 1000] == 0).all()
    assert (found[values >= 2000] == 255).all()
    assert len(np.unique(found)) > 200


def test_a_hot_pixel_does_not_make_all_photos_dark(deep):
    file = deep / "images" / "photo03.png"
    values = np.array(Image.open(file))
    values[7, 7] = 65535
    Image.fromarray(values).save(file)
    assert runner(deep).context.intensities[1] < 4200


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colour_photos_of_16_bits_keep_what_lies_below_their_high_bytes(tmp_path, suffix):
    red, green, blue = (ramp(top) for top in (4095, 2000, 1000))
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), np.dstack([blue, green, red]))
    found = read_image(path, (0, 4095))
    assert [found[..., c].max() for c in range(3)] == [255, 125, 62]
    assert len(np.unique(found[..., 0])) == 256


@pytest.mark.filterwarnings("ignore")
def test_alpha_of_a_deep_photo_is_laid_over_white_whatever_the_range(tmp_path):
    values = np.zeros((4, 4, 4), np.uint16)
    values[:2, :, 3] = 65535
    cv2.imwrite(str(tmp_path / "a.png"), values)
    found = read_image(tmp_path / "a.png", (0, 100))
    assert (found[:2] == 0).all()
    assert (found[2:] == 255).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_deep_photo_is_turned_as_one_of_8_bits(tmp_path, orientation):
    values = np.random.default_rng(0).integers(0, 255, (6, 9), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values).save(tmp_path / "shallow.png", exif=exif)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "deep.png", exif=exif)
    expected = read_image(tmp_path / "shallow.png")
    assert (read_image(tmp_path / "deep.png", (0, 255)) == expected).all()


def test_few_grey_levels_are_a_warning_that_says_what_to_set(tmp_path):
    Image.fromarray(ramp(4095)).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"a.png: 17 grey levels remain.*data.intensity_range"):
        read_image(tmp_path / "a.png")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        read_image(tmp_path / "a.png", (0, 4095))
    assert not any("remain" in str(warning.message) for warning in said)


def test_a_float_photo_without_a_range_is_refused(tmp_path):
    Image.fromarray(ramp(1, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a.tif: .*float32.*Set data.intensity_range"):
        read_image(tmp_path / "a.tif")


def test_nan_in_a_photo_is_black_and_does_not_count(tmp_path):
    values = ramp(10, np.float32)
    values[:5] = np.nan
    assert getam.data.intensity.measure(values)[1] > 9
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.warns(UserWarning, match="values from 0 to 10 become 0 to 255"):
        assert (read_image(tmp_path / "a.tif", (0, 10))[:5] == 0).all()


def test_photos_of_8_bits_have_no_range_in_records_keys_or_files(folder, tmp_path):
    opened = runner(folder)
    assert opened.context.intensities is None
    assert opened.context.index.split("train")[0].intensities is None
    details = opened._data["images"].details()
    assert set(details) == {f"photo{n:02}" for n in range(12)}
    file = folder / "images" / "photo00.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (read_image(file, (0, 10)) == np.asarray(Image.open(file))).all()


def test_the_range_is_part_of_the_keys_by_its_value(deep):
    before = keys(deep)
    low, high = runner(deep).context.intensities
    assert keys(deep, f"data.intensity_range=[{low!r}, {high!r}]") == before
    other = keys(deep, f"data.intensity_range=[{low!r}, {high + 100!r}]")
    assert tuple(stage for stage in before if before[stage] != other[stage]) == ALL


@pytest.mark.filterwarnings("ignore")
def test_it_is_measured_once_and_again_only_where_a_photo_changed(deep, monkeypatch):
    measured = []
    values = getam.data.images.photo_values
    monkeypatch.setattr(
        getam.data.images, "photo_values", lambda path: measured.append(path.stem) or values(path)
    )
    assert pipeline_until_classifier(deep) == 0
    first = runner(deep).context.intensities
    assert measured == []
    Image.fromarray(ramp(9000)).save(deep / "images" / "photo02.png")
    assert runner(deep).context.intensities[1] > 2 * first[1]
    assert measured == ["photo02"]


def pipeline_until_classifier(root: Path) -> int:
    settings = ("data.kind=folder", f"data.root={root}", *TINY, "classifier.epochs=1")
    words = ("run", "--workers", "1", "--until", "classifier")
    return pipeline(*words, cwd=root.parent, settings=settings).code


def test_looking_at_a_run_writes_nothing(deep):
    settings = ("data.kind=folder", f"data.root={deep}", *TINY)
    assert pipeline("run", "--dry-run", cwd=deep.parent, settings=settings).code == 0
    assert not (deep.parent / "artifacts").exists()


def test_data_says_which_range_becomes_which_and_where_few_levels_remain(deep, folder):
    Image.fromarray(ramp(60)).save(deep / "images" / "photo01.png")
    notes = check(read_folder(deep), ["train", "val"])["notes"]
    assert any(
        "12 of 12 photos have more than 8 bits, 'photo00' first. Their values from " in note
        and "measured over 12 of them" in note
        for note in notes
    )
    assert any("In 1 of 12 such photos fewer than 32 grey levels remain" in note for note in notes)
    index = read_folder(deep).with_intensities((0, 1000))
    assert any("from 0 to 1000 become 0 to 255" in n for n in check(index, ["train"])["notes"])


@pytest.mark.parametrize("value", ["[5, 5]", "[9, 1]", "[0, .inf]", "[1]", "auto"])
def test_a_range_that_is_none_is_refused(value):
    with pytest.raises(UserError, match=r"data\.intensity_range"):
        load_config((), (f"data.intensity_range={value}",))


@pytest.mark.filterwarnings("ignore")
def test_the_network_keeps_the_range_and_new_photos_are_read_in_it(tmp_path):
    build = {
        **{"encoder": "vit_tiny_patch16_224", "num_classes": 3, "image_size": 32, "channels": 8},
        "args": {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
        "atrous_rates": [1, 2, 3],
    }
    folder = tmp_path / "network"
    folder.mkdir()
    kind = {"kind": "deeplab", **build}
    save_network(folder, build_deeplab(**build), kind, ["cat", "dog"], (0.0, 4095.0))
    assert network_build(folder) == kind
    assert network_intensities(folder) == (0.0, 4095.0)
    *_, intensities = open_segmenter(chain, Config(), folder, tmp_path, "cpu")
    assert intensities == (0.0, 4095.0)
    set_range = load_config((), ("data.intensity_range=[0, 2000]",))
    assert open_segmenter(chain, set_range, folder, tmp_path, "cpu")[2] == (0.0, 2000.0)

    save_network(folder, build_deeplab(**build), kind, ["cat", "dog"])
    assert network_intensities(folder) is None
    assert "intensities" not in json.loads((folder / "network.json").read_text())


@pytest.mark.filterwarnings("ignore")
def test_new_photos_are_predicted_in_the_range_that_is_given(tmp_path, monkeypatch):
    seen = []

    def segment_tiles(segmenter, photos, *_):
        for name, photo in photos:
            seen.append(max(image.max() for _, image in photo.tiles))
            yield name, photo.size, []

    monkeypatch.setattr(getam.running.commands.predict, "segment_tiles", segment_tiles)
    Image.fromarray(ramp(4095)).save(tmp_path / "new.png")
    found = find_images([tmp_path / "new.png"], tmp_path / "out")
    options = {"tile": 64, "batch_size": 1, "crf": None, "say": print}
    for intensities in (None, (0, 4095)):
        how = {**options, "intensities": intensities, "track": lambda items, **_: items}
        predict(SimpleNamespace(fitting=int), ("cat",), found, tmp_path / "out", **how)
    assert seen == [16, 255]
