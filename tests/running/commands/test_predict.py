"""predict: every form of photo, any size, and each mistake."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from getam.data.masks import read_mask
from getam.data.resizing import enlarged_argmax
from getam.data.transforms import resize_maps
from getam.networks.inference import segment_tiles
from getam.networks.tiling import WORKING, cut, label_parts, tiles
from tests.running.commands.conftest import assert_one_sentence


@pytest.fixture
def photo(micro, tmp_path) -> Path:
    """A val image of the run, 40 high and 48 wide, in a folder of its own."""
    (tmp_path / "photos").mkdir()
    return Path(shutil.copy(micro.data / "images" / "photo09.png", tmp_path / "photos"))


def predict(micro, *inputs, to, options=(), more=()):
    return micro("predict", *inputs, "-o", to, "--device", "cpu", *options, more=more)


def labels(folder: Path, name: str) -> np.ndarray:
    return read_mask(folder / "predictions" / f"{name}.png")


@pytest.mark.parametrize(
    ("options", "name"), [((), "predictions"), (("--crf",), "predictions_crf")]
)
def test_predictions_are_those_of_the_evaluation(micro, tmp_path, options, name):
    done = predict(micro, micro.data / "images", to=tmp_path, options=options)
    assert done.code == 0, done
    files = [*(micro.artifact("predictions") / name).glob("*.png")]
    assert len(files) == 4
    for file in files:
        assert (labels(tmp_path, file.stem) == read_mask(file)).all()


def test_areas_add_up_and_overlays_have_the_size_of_the_photo(micro, tmp_path):
    predict(micro, micro.data / "images", to=tmp_path)
    told = json.loads((tmp_path / "areas.json").read_text())
    assert told["classes"] == ["cat", "dog"]
    assert [one["name"] for one in told["images"]] == [f"photo{n:02}" for n in range(12)]
    for one in told["images"]:
        made = labels(tmp_path, one["name"])
        assert made.shape == (one["height"], one["width"])
        pixels = [
            one["areas"].get(n, {"pixels": 0})["pixels"] for n in ("background", "cat", "dog")
        ]
        assert pixels == np.bincount(made.ravel(), minlength=3).tolist()
        assert sum(area["share"] for area in one["areas"].values()) == pytest.approx(1)
        overlay = Image.open(tmp_path / "overlays" / f"{one['name']}.jpg")
        assert overlay.size == (one["width"], one["height"])


def test_every_kind_of_photo_gives_the_prediction_of_its_upright_rgb(micro, photo, tmp_path):
    image = Image.open(photo)
    kinds = {"rgba": image.convert("RGBA"), "grey": image.convert("L")}
    kinds["palette"] = image.quantize(256)
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    kinds["deep"] = Image.fromarray(deep)
    for name, one in kinds.items():
        one.save(photo.with_name(f"{name}.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to show
    image.transpose(Image.Transpose.ROTATE_90).save(photo.with_name("turned.png"), exif=exif)
    image.convert("L").convert("RGB").save(photo.with_name("greyrgb.png"))
    image.save(photo.with_name("t.tiff"))

    done = predict(micro, photo.parent, to=tmp_path / "out")
    assert done.code == 0, done
    assert "note: " in done.err
    assert "converted from mode" in done.err
    upright = labels(tmp_path / "out", "photo09")
    assert upright.shape == (40, 48)
    for name in ("rgba", "turned", "t"):
        assert (labels(tmp_path / "out", name) == upright).all(), name
    grey = labels(tmp_path / "out", "greyrgb")
    for name in ("grey", "deep"):
        assert (labels(tmp_path / "out", name) == grey).all(), name


def test_folders_keep_their_sub_folders_and_own_outputs_are_no_inputs(micro, photo):
    (photo.parent / "trip").mkdir()
    shutil.copy(photo, photo.parent / "trip" / "a.b.png")
    (photo.parent / "notes.txt").write_text("no photo")
    out = photo.parent / "out"
    for _ in range(2):
        done = predict(micro, photo.parent, to=out)
        assert "\n2 photos" in done.out, done
    made = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*"))
    assert made == [
        "areas.json",
        "overlays/photo09.jpg",
        "overlays/trip/a.b.jpg",
        "predictions/photo09.png",
        "predictions/trip/a.b.png",
    ]


def test_network_folder_needs_no_run(micro, photo, tmp_path):
    options = ("--network", micro.artifact("deeplab"))
    done = predict(micro, photo, to=tmp_path / "out", options=options, more=("seed=99",))
    assert done.code == 0, done
    expected = read_mask(micro.artifact("predictions") / "predictions" / "photo09.png")
    assert (labels(tmp_path / "out", "photo09") == expected).all()


def test_huge_photos_are_tiled(micro, photo, tmp_path):
    large = Image.open(photo).resize((500, 300))
    large.save(photo.with_name("large.png"))
    done = predict(micro, photo.with_name("large.png"), to=tmp_path, options=("--tile", "128"))
    assert done.code == 0, done
    assert labels(tmp_path, "large").shape == (300, 500)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(16, 100))
def test_cores_of_tiles_cover_each_pixel_once_inside_their_windows(height, width, side):
    seen = np.zeros((height, width), int)
    for tile in tiles((height, width), side):
        seen[tile.core] += 1
        for core, window, length in zip(tile.core, tile.window, (height, width)):
            assert window.start <= core.start < core.stop <= window.stop <= length
            assert window.stop - window.start == min(side, length)
            margin = side // 8 - 1
            assert core.start == 0 or core.start - window.start >= margin
            assert core.stop == length or window.stop - core.stop >= margin
    assert (seen == 1).all()


def labelled(segmenter, pairs, side, batch_size, **options):
    """(name, size, labels) of each image."""
    photos = ((name, cut(image, side)) for name, image in pairs)
    for name, size, parts in segment_tiles(segmenter, photos, batch_size):
        yield name, size, label_parts(parts, size, **options)


def test_tiles_meet_without_a_seam():
    """A network that sees each pixel alone gives the same labels with tiles as without."""
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    pairs = [("a", image), ("b", image[:50])]
    done = list(labelled(Brightness(), pairs, side=40, batch_size=3))
    assert [name for name, *_ in done] == ["a", "b"]
    for (_, whole), (_, size, made) in zip(pairs, done):
        assert size == whole.shape[:2]
        assert (made == (whole[..., 0] > 100)).all()


class Brightness:
    lanes = 1

    def coarse(self, images, classes):
        red = [image[..., 0].astype(np.float32) / 256 for image in images]
        return [[np.stack([np.full_like(one, 100.5 / 256), one])] for one in red]


def test_only_the_classes_that_a_photo_may_have_win():
    class Third:
        lanes = 1

        def coarse(self, images, classes):
            return [[np.array([0.1, 0.2, 0.6, 0.1], np.float32)[:, None, None]] for _ in images]

    image = np.zeros((9, 7, 3), np.uint8)
    for classes, winner in ((None, 2), ((1, 3), 1), ((3,), 3), ((), 0), ((2,), 2)):
        for crf in (None, {"steps": 1}):
            ((*_, made),) = labelled(
                Third(), [("a", image)], side=64, batch_size=1, classes=classes, crf=crf
            )
            assert (made == winner).all(), (classes, crf)


def test_no_array_has_all_classes_at_full_size(monkeypatch):
    """Neither of the photo nor of what the network gets: 30 classes of it are 180 MB here."""
    shapes, coarse = [], np.full((30, 64, 128), 1 / 30, np.float32)

    class Watched:
        lanes = 1

        def coarse(self, images, classes):
            shapes.extend(image.shape for image in images)
            return [[coarse] for _ in images]

    image = np.zeros((1500, 3000, 3), np.uint8)
    tracemalloc.start()
    ((_, _, made),) = labelled(Watched(), [("a", image)], side=4000, batch_size=1)
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()
    assert made.shape == (1500, 3000)
    assert shapes == [(WORKING // 2, WORKING, 3)]


def test_enlarged_argmax_is_that_of_enlarged_probabilities():
    draw = np.random.default_rng(1)
    grids = [draw.random((7, *size), dtype=np.float32) for size in ((6, 9), (12, 18))]
    wholes = [resize_maps(torch.from_numpy(grid)[None], (31, 50))[0].numpy() for grid in grids]
    made = enlarged_argmax(grids, (31, 50))
    mean = (wholes[0] + wholes[1]) / 2
    top = np.sort(mean, axis=0)
    sure = top[-1] - top[-2] > 1e-5
    assert sure.mean() > 0.99
    assert (made == mean.argmax(0))[sure].all()
    assert (enlarged_argmax(grids[:1], (6, 9)) == grids[0].argmax(0)).all()


def test_the_artifacts_are_no_place_for_predictions(micro, photo):
    before = {*micro.artifacts.rglob("*")}
    result = predict(micro, photo, to=next(micro.artifacts.glob("predictions/*")))
    assert_one_sentence(result, "among the artifacts", "-o")
    assert {*micro.artifacts.rglob("*")} == before


def test_two_photos_of_one_name_are_refused_before_anything_is_written(micro, photo, tmp_path):
    Image.open(photo).save(photo.with_suffix(".jpg"))
    result = predict(micro, photo.parent, to=tmp_path / "out")
    assert_one_sentence(result, "'photo09' twice", "photo09.jpg", "photo09.png")
    assert not (tmp_path / "out").exists()


def test_unreadable_photo_is_named_and_the_others_are_done(micro, photo, tmp_path):
    photo.with_name("broken.jpg").write_text("not a photo")
    result = predict(micro, photo.parent, to=tmp_path / "out")
    assert_one_sentence(result, "1 of 2 photos could not be read", "broken.jpg")
    assert "broken.jpg: cannot read this photo" in result.err
    assert labels(tmp_path / "out", "photo09").shape == (40, 48)


def test_missing_file_and_folder_without_photos(micro, tmp_path):
    (tmp_path / "empty").mkdir()
    result = predict(micro, tmp_path / "empty", to=tmp_path / "out")
    assert_one_sentence(result, "empty", "no photo in this folder", ".jpg")
    result = predict(micro, tmp_path / "nowhere.jpg", to=tmp_path / "out")
    assert_one_sentence(result, "nowhere.jpg", "no such file or folder")


def test_output_that_cannot_be_written_or_holds_the_photo(micro, photo, tmp_path):
    (tmp_path / "file").touch()
    assert_one_sentence(predict(micro, photo, to=tmp_path / "file"), "file", "cannot be written")
    (tmp_path / "predictions").mkdir()
    inside = Path(shutil.copy(photo, tmp_path / "predictions"))
    assert_one_sentence(predict(micro, inside, to=tmp_path), "where predictions go")
    assert inside.read_bytes() == photo.read_bytes()


def test_run_without_a_network_says_what_makes_it(micro, photo, tmp_path):
    result = predict(micro, photo, to=tmp_path / "out", more=("deeplab.epochs=3",))
    assert_one_sentence(result, "deeplab", "stale", "run --until deeplab")


def test_network_folder_that_holds_none(micro, photo, tmp_path):
    for folder, word in (
        (tmp_path, "no network here"),
        (micro.artifact("classifier"), "classifier"),
    ):
        result = predict(micro, photo, to=tmp_path / "out", options=("--network", folder))
        assert_one_sentence(result, str(folder), word, "network")


def test_files_that_are_not_read_are_told(micro, photo, tmp_path):
    shutil.copy(photo, photo.parent / "other.avif")
    (photo.parent / ".hidden").write_text("x")
    done = predict(micro, photo.parent, to=tmp_path / "out")
    assert done.code == 0, done
    assert "note: photos/: 1 file is not read, 'other.avif' first (1 .avif)" in done.err
    assert "sub-folders" not in done.err
    assert "not read" not in predict(micro, photo, to=tmp_path / "out2").err
