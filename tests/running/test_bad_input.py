"""Each mistake in the input is one clear sentence, exit code 1, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from getam.data import images
from getam.data.images import read_image
from getam.data.masks import read_mask
from getam.errors import UserError
from tests.conftest import TINY, pipeline


def run(data: Path, *more: str, arguments=("run",), env=None):
    settings = ("data.kind=folder", f"data.root={data}", *TINY, *more)
    arguments = (*arguments, "--workers", "1") if arguments[0] == "run" else arguments
    return pipeline(*arguments, cwd=data.parent, settings=settings, env=env)


def assert_one_sentence(result, *parts: str) -> None:
    assert result.code == 1, result
    message = result.err.splitlines()[-1]
    assert message.startswith("Error: "), result
    assert "Traceback" not in result.err
    for part in parts:
        assert part in message, (part, message)


def drop_line(file: Path, start: str) -> None:
    file.write_text("".join(line for line in file.open() if not line.startswith(start)))


def test_missing_image(folder):
    (folder / "images" / "photo02.png").unlink()
    assert_one_sentence(
        run(folder), "labels.csv, line 4", "photo02", "Add each photo, or remove its line"
    )


def test_image_of_a_split_is_missing(folder):
    (folder / "images" / "photo02.png").unlink()
    drop_line(folder / "labels.csv", "photo02")
    assert_one_sentence(run(folder), "train.txt, line 3", "photo02")


def test_truncated_jpeg_is_named_and_earlier_artifacts_stay(folder):
    Image.open(folder / "images" / "photo09.png").save(folder / "images" / "photo09.jpg")
    (folder / "images" / "photo09.png").unlink()
    whole = (folder / "images" / "photo09.jpg").read_bytes()
    assert run(folder, arguments=("run", "--until", "classifier")).code == 0
    (folder / "images" / "photo09.jpg").write_bytes(whole[: len(whole) // 2])
    assert_one_sentence(run(folder), "photo09.jpg", "truncated", "Replace the file")
    (folder / "images" / "photo09.jpg").write_bytes(whole)
    again = run(folder, arguments=("run", "--until", "classifier"))
    assert again.stages_run() == [], again


def test_unknown_class_in_the_table_suggests_the_nearest(folder):
    with (folder / "labels.csv").open("a") as table:
        drop_line(folder / "labels.csv", "photo11")
        table.write("photo11,dgo\n")
    assert_one_sentence(run(folder), "labels.csv", "'dgo'", "cat, dog", "Did you mean 'dog'?")


def test_label_for_an_image_that_is_not_there(folder):
    with (folder / "labels.csv").open("a") as table:
        table.write("nowhere,cat\n")
    assert_one_sentence(run(folder), "labels.csv, line 14", "'nowhere'")


def test_mask_of_another_size(folder):
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(folder / "masks" / "photo01.png")
    assert_one_sentence(run(folder), "masks/photo01.png", "10 x 10", "48 x 40")


def test_mask_in_colours_or_with_an_unknown_value(folder, tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    with pytest.raises(UserError, match="palette or grey PNG"):
        read_mask(path)
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(path)
    with pytest.raises(UserError, match="got the value 9"):
        read_mask(path, classes=2)


def test_saliency_of_another_size_or_missing(folder):
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(folder / "saliency" / "photo01.png")
    assert_one_sentence(run(folder), "saliency/photo01.png", "10 x 10")
    (folder / "saliency" / "photo01.png").unlink()
    assert_one_sentence(run(folder), "1 of 8", "photo01", "onnx, features or none")


def test_empty_and_missing_split(folder):
    (folder / "splits" / "val.txt").write_text("\n")
    assert_one_sentence(run(folder), "split 'val' is empty")
    assert_one_sentence(run(folder, "data.val=test"), "no split 'test'", "train, val")


def test_grey_16_bit_palette_and_alpha_images_are_converted_and_said_once(tmp_path):
    images._said.clear()  # by other tests in this process
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    rgba = np.zeros((16, 16, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    with pytest.warns(UserWarning, match="grey.png: converted from mode L"):
        assert (read_image(tmp_path / "grey.png")[..., 0] == grey).all()
    with pytest.warns(UserWarning, match="said once"):
        deep = read_image(tmp_path / "deep.png")
    assert abs(deep[..., 0].astype(int) - grey).max() <= 1
    with pytest.warns(UserWarning, match="RGBA"):
        assert (read_image(tmp_path / "alpha.png") == 255).all()  # transparent over white
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "grey.png")


def test_exif_orientation_turns_the_image_upright(tmp_path):
    image = Image.fromarray(np.zeros((10, 20, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (20, 10, 3)


def test_unknown_config_key_in_file_and_option(folder):
    config = folder.parent / "mine.yaml"
    config.write_text("maps:\n  metod: cam\n")
    result = run(folder, arguments=("run", "--config", str(config)))
    assert_one_sentence(result, "maps.metod", "Did you mean maps.method?")
    assert_one_sentence(run(folder, "pseudolabel.rule=paper"), "Did you mean pseudolabels?")
    assert_one_sentence(
        run(folder, "maps.method=gradcam"), "maps.method: got 'gradcam'", "| grad_cam |"
    )


def test_config_file_that_is_missing_not_yaml_or_has_a_python_tag(folder):
    config = folder.parent / "mine.yaml"
    arguments = ("run", "--config", str(config))
    assert_one_sentence(run(folder, arguments=arguments), "mine.yaml", "No such file")
    config.write_text("maps: [")
    assert_one_sentence(run(folder, arguments=arguments), "not plain YAML")
    config.write_text("maps: !!python/object/apply:os.system [true]")
    assert_one_sentence(run(folder, arguments=arguments), "a tag (!)")


@pytest.mark.parametrize("word", ["classifier", "deeplab"])
def test_a_word_that_another_setting_takes_for_weights_is_no_weights_here(folder, word):
    said = run(folder, f"classifier.weights={word}")
    assert_one_sentence(said, f"got '{word}', but there is no such file", "timm, none, shapes")


def test_weights_missing_unreadable_or_of_another_architecture(folder):
    weights = folder.parent / "weights.safetensors"
    setting = f"classifier.weights={weights}"
    assert_one_sentence(run(folder, setting), "classifier.weights", "no such file")
    weights.write_bytes(b"not a tensor in here")
    assert_one_sentence(run(folder, setting), "cannot load these weights")
    save_file({"conv1.weight": torch.zeros(3)}, weights)
    assert_one_sentence(run(folder, setting), "do not belong to vit_tiny_patch16_224", "missing")


def test_unknown_model_or_one_without_class_token(folder):
    assert_one_sentence(run(folder, "classifier.model=vit_tiny_patch16_24"), "did you mean vit_")
    result = run(folder, "classifier.model=resnet18", "classifier.model_args={}")
    assert_one_sentence(result, "resnet18", "class token")


def test_data_root_not_set_or_not_there(folder):
    result = pipeline("run", cwd=folder.parent, settings=("data.kind=folder", *TINY))
    assert_one_sentence(result, "data.root is not set")
    assert_one_sentence(run(folder / "nowhere"), "images", "missing", "data.root")


def test_unknown_device(folder):
    result = run(folder, arguments=("run", "--device", "cuda:7"))
    assert_one_sentence(result, "--device cuda:7", "Use cpu")


def test_link_that_leaves_the_data_folder(folder):
    outside = folder.parent / "outside.png"
    (folder / "images" / "photo00.png").rename(outside)
    (folder / "images" / "photo00.png").symlink_to(outside)
    assert_one_sentence(run(folder), "photo00.png", "this link leads out of")


@pytest.mark.parametrize("bad", ["../outside", "/etc/passwd"])
def test_image_id_cannot_leave_the_data_folder(folder, bad):
    with (folder / "labels.csv").open("a") as table:
        table.write(f"{bad},cat\n")
    assert_one_sentence(run(folder), bad)


def test_no_disk_space_left_loses_nothing(folder):
    """A full disk from the maps stage on: one sentence, and the next run goes on."""
    assert run(folder, arguments=("run", "--until", "classifier")).code == 0
    full = run(folder, env={"GETAM_FAULT": "enospc@write.filled:1"})
    assert_one_sentence(full, "No space left")
    again = run(folder)
    assert again.code == 0, again
    assert again.stages_run() == [
        "maps",
        "pseudolabels",
        "deeplab",
        "predictions",
        "doubt",
        "evaluation",
    ]
