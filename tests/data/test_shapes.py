"""The embedded example: its pictures, its labels, and the weights that ship with it."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from getam.config.schema import SHAPES_VIT
from getam.data import shapes
from getam.data.folder import read_folder
from getam.data.images import read_image
from getam.data.masks import read_mask, read_saliency
from getam.data.palette import voc_palette, write_label_png
from getam.errors import UserError
from getam.networks.build import build_classifier

REPOSITORY = Path(__file__).parents[2]
WEIGHTS = REPOSITORY / "getam" / "data" / "vit_shapes.safetensors"
MODEL = "vit_tiny_patch16_224"
MIN_PIXELS = 40  # of a labelled class, and of a cap: fewer would teach a classifier noise


@pytest.fixture(scope="module")
def tool():
    """``tools/pretrain_shapes.py`` as a module."""
    spec = importlib.util.spec_from_file_location(
        "pretrain_shapes", REPOSITORY / "tools" / "pretrain_shapes.py"
    )
    sys.path.insert(0, str(REPOSITORY / "tools"))  # for the textures beside it
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its worker processes to find
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scenes():
    return [shapes.draw_image(0, "train", number) for number in range(300)]


@pytest.fixture(scope="module")
def val_scenes():
    return [shapes.draw_image(0, "val", number) for number in range(150)]


def presence(scenes: list[shapes.Scene]) -> np.ndarray:
    """Image-level labels (N, 5), 0 or 1."""
    return np.array([[(s.labels == i).any() for i in range(1, 6)] for s in scenes]).astype(int)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    shapes.write_shapes(root, train=4, val=2)
    return root


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_gives_the_same_bytes(folder, tmp_path):
    shapes.write_shapes(tmp_path, train=4, val=2)
    assert digests(tmp_path) == digests(folder)


def test_another_seed_gives_other_pictures(folder, tmp_path):
    shapes.write_shapes(tmp_path, seed=1, train=4, val=2)
    mine, theirs = digests(tmp_path), digests(folder)
    pictures = [name for name in mine if name.startswith("images")]
    assert len(pictures) == 6
    assert all(mine[name] != theirs[name] for name in pictures)


def test_an_image_does_not_depend_on_how_many_are_made(folder, tmp_path):
    shapes.write_shapes(tmp_path, train=2, val=1)
    few, many = digests(tmp_path), digests(folder)
    pictures = [name for name in few if name.endswith(".png")]
    assert len(pictures) == 9
    assert all(few[name] == many[name] for name in pictures)


def test_no_image_is_in_both_splits(folder):
    found = [hashlib.sha256(p.read_bytes()).digest() for p in (folder / "images").iterdir()]
    assert len(set(found)) == len(found) == 6


def test_the_folder_reads_back_complete_and_labels_agree_with_masks(folder):
    data = read_folder(folder)
    assert data.classes == shapes.CLASSES
    assert {name: len(records) for name, records in data.splits.items()} == {"train": 4, "val": 2}
    for record in (*data.split("train"), *data.split("val")):
        assert read_image(record.image).shape == (96, 96, 3)
        assert read_saliency(record.saliency, (96, 96)).max() <= 1
        mask = read_mask(record.mask, (96, 96), len(data.classes))
        assert tuple(np.unique(mask[mask > 0])) == record.labels


def test_size_sets_the_room_and_not_the_things():
    small, large = (shapes.draw_image(0, "val", 0, size).image.shape for size in (64, 128))
    assert small == (64, 64, 3)
    assert large == (128, 128, 3)
    areas = [
        [np.mean([(shapes.draw_image(0, "val", n, size).labels > 0).sum() for n in range(20)])]
        for size in (96, 128)
    ]
    assert areas[1][0] < 1.3 * areas[0][0]


@pytest.mark.parametrize("wrong", [{"train": 0}, {"val": 0}, {"size": 16}])
def test_a_data_set_that_cannot_be_drawn_is_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(UserError, match=r"expected .*Set data\.shapes"):
        shapes.write_shapes(tmp_path / "new", **{"train": 1, "val": 1, **wrong})
    assert not (tmp_path / "new").exists()


def test_every_label_is_seen_whole_enough_to_learn(scenes):
    for scene in scenes:
        ids, pixels = np.unique(scene.labels[scene.labels > 0], return_counts=True)
        assert len(ids)
        assert ids.max() <= len(shapes.CLASSES)
        assert pixels.min() >= MIN_PIXELS
        assert all(scene.cap[scene.labels == i].sum() >= MIN_PIXELS for i in ids)


def test_images_hold_several_classes_and_no_class_is_rare(scenes):
    counts = [len(shapes.class_names(scene)) for scene in scenes]
    assert np.mean(np.array(counts) > 1) > 0.3
    share = [np.mean([(s.labels == i).any() for s in scenes]) for i in range(1, 6)]
    assert min(share) > 0.2


def test_half_of_a_thing_is_plain_so_that_activation_stays_partial(scenes):
    share = sum(s.cap.sum() for s in scenes) / sum((s.labels > 0).sum() for s in scenes)
    assert 0.35 < share < 0.6
    assert not any((s.cap & (s.labels == 0)).any() for s in scenes)


def test_saliency_is_useful_but_imperfect(scenes):
    lit = np.stack([s.saliency for s in scenes]) > 127
    things = np.stack([s.labels for s in scenes]) > 0
    assert 0.65 < (lit & things).sum() / (lit | things).sum() < 0.9
    soft = np.mean([((s.saliency > 25) & (s.saliency < 230)).mean() for s in scenes])
    assert 0.02 < soft < 0.3
    assert 0.03 < (things & ~lit).sum() / things.sum() < 0.25, "some things are to be missed"
    assert 0.005 < (lit & ~things).sum() / (~things).sum() < 0.1, "some pebbles are to be lit"


def histograms(scenes: list[shapes.Scene]) -> np.ndarray:
    """Joint 4 x 4 x 4 and single 16-bin RGB histograms of images, as square roots of shares."""
    features = []
    for pixels in (scene.image.reshape(-1, 3).astype(int) for scene in scenes):
        joint = np.bincount(pixels // 64 @ [16, 4, 1], minlength=64)
        single = [np.bincount(channel // 16, minlength=16) for channel in pixels.T]
        features.append(np.sqrt(np.concatenate([joint, *single]) / len(pixels)))
    return np.stack(features)


def linear_readout(x: np.ndarray, y: np.ndarray, x_val: np.ndarray) -> np.ndarray:
    """Class probabilities on val of one logistic regression per class."""
    scaler = StandardScaler().fit(x)
    classifier = OneVsRestClassifier(LogisticRegression(C=0.1, max_iter=500))
    classifier.fit(scaler.transform(x), y)
    return classifier.predict_proba(scaler.transform(x_val))


def test_colours_alone_do_not_tell_the_classes(scenes, val_scenes):
    wanted = presence(val_scenes)
    scores = linear_readout(histograms(scenes), presence(scenes), histograms(val_scenes))
    assert f1_score(wanted, scores > 0.5, average="macro", zero_division=0) < 0.45
    precision = average_precision_score(wanted, scores)
    assert precision < wanted.mean() + 0.12, "hardly above knowing how often each class occurs"


def test_weights_are_small_finite_half_precision():
    assert WEIGHTS.stat().st_size <= 3_000_000
    state = load_file(WEIGHTS)
    assert all(t.dtype == torch.float16 and t.isfinite().all() for t in state.values())


def test_weights_fit_the_encoder_key_by_key_and_bring_no_head():
    state = load_file(WEIGHTS)
    encoder = timm.create_model(MODEL, img_size=96, num_classes=0, **SHAPES_VIT).state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in encoder.items()}


def test_timm_and_our_builder_load_the_same_encoder():
    ours = build_classifier(MODEL, 5, 96, SHAPES_VIT, weights=str(WEIGHTS)).state_dict()
    theirs = timm.create_model(
        MODEL,
        img_size=96,
        num_classes=5,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(WEIGHTS), "num_classes": 0},
        **SHAPES_VIT,
    ).state_dict()
    assert ours.keys() == theirs.keys()
    encoder = [key for key in ours if not key.startswith("head.")]
    assert all(torch.equal(ours[key], theirs[key]) for key in encoder)


def class_tokens(weights: str, scenes: list[shapes.Scene]) -> np.ndarray:
    torch.manual_seed(0)
    network = build_classifier(MODEL, 5, 96, SHAPES_VIT, weights=weights).eval()
    images = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        tokens = [network.forward_features(b / 127.5 - 1)[:, 0] for b in images.split(32)]
    return torch.cat(tokens).numpy()


def test_weights_describe_patterns_they_never_saw(scenes, val_scenes):
    """A linear readout of the class token, trained on 300 images, against an untrained ViT."""
    wanted, precision = presence(val_scenes), {}
    for weights in (str(WEIGHTS), "none"):
        x, x_val = class_tokens(weights, scenes), class_tokens(weights, val_scenes)
        scores = linear_readout(x, presence(scenes), x_val)
        precision[weights] = average_precision_score(wanted, scores)
    assert precision[str(WEIGHTS)] > precision["none"] + 0.2


def test_pretraining_shares_no_texture_and_no_outline_with_the_example(tool):
    assert not set(tool.TEXTURES) & set(shapes.TEXTURES)
    assert not set(tool.OUTLINES) & set(shapes.OUTLINES)
    v, u = np.mgrid[-3:3:80j, -3:3:80j] + 1e-3
    patterns = [{k: f(u, v, 0.5) for k, f in m.TEXTURES.items()} for m in (shapes, tool)]
    for (ours, one), (theirs, other) in product(*(p.items() for p in patterns)):
        assert 0.1 < (one == other).mean() < 0.9, f"{ours} is {theirs}, or its negative"


def test_pretraining_targets_add_up(tool):
    image, textures = tool.draw(0, 0)
    assert image.shape == (96, 96, 3)
    assert textures.max() <= tool.PLAIN
    shares, present = tool.targets(torch.from_numpy(textures)[None])
    assert shares.shape == (1, 144, tool.PLAIN + 1)
    torch.testing.assert_close(shares.sum(-1), torch.ones(1, 144))
    pixels = np.bincount(textures.ravel(), minlength=tool.PLAIN + 1)[1 : tool.PLAIN]
    assert present[0].tolist() == (pixels >= tool.MIN_PIXELS).tolist()
    torch.testing.assert_close(shares.sum(1)[0, 1 : tool.PLAIN] * 64, torch.tensor(pixels).float())


def test_pretraining_script_writes_weights_that_load(tool, tmp_path):
    out = tmp_path / "vit.safetensors"
    short = "--scenes 8 --held-out 4 --workers 1 --phase 32 4 2 --phase 96 2 1"
    result = CliRunner().invoke(tool.main, ["--out", str(out), *short.split()])
    assert result.exit_code == 0, result.output
    build_classifier(MODEL, 5, 96, SHAPES_VIT, weights=str(out))
    assert load_file(out).keys() == load_file(WEIGHTS).keys()


def test_label_image_keeps_labels_and_shows_the_voc_colours(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_label_png(tmp_path / "a.part", labels)
    with Image.open(tmp_path / "a.part") as image:
        assert (image.format, image.mode) == ("PNG", "P")
        assert np.array_equal(np.asarray(image), labels)
        colours = np.asarray(image.convert("RGB")).reshape(256, 3)
    known = {1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {i: tuple(colours[i]) for i in known} == known
    assert colours.tobytes() == voc_palette()


@pytest.mark.parametrize("labels", [np.zeros((2, 2), int), np.zeros((2, 2, 3), np.uint8)])
def test_label_image_refuses_what_it_would_garble(tmp_path, labels):
    with pytest.raises(ValueError, match="expected \\(H, W\\) of uint8"):
        write_label_png(tmp_path / "a.png", labels)
    assert not (tmp_path / "a.png").exists()
