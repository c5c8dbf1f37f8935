"""The joint step of the end-to-end mode: its labels, and what making them must not touch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from getam.cache.pieces import begin
from getam.config.schema import LossWeights, Maps, Pamr, PseudoLabels
from getam.data.folder import read_folder
from getam.data.images import read_image
from getam.data.masks import read_saliency
from getam.data.transforms import image_pixels, normalise_images, to_square, to_tensor
from getam.labels.saliency import open_saliency
from getam.labels.steps import SoftSaliency, label_images
from getam.maps.compute import compute_maps
from getam.maps.file import MapFile, merge_shards, write_shard
from getam.networks.build import build_endtoend, normalisation
from getam.training.joint import JointLoss, label_shares, objects, online_labels
from getam.training.losses import foreground_cross_entropy
from stages.maps import Explainer
from stages.pseudolabels import Labeller
from stages.shared import multi_hot
from tests.conftest import make_folder

SIDE = 64
ARGS = {"patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2}
MAPS = Maps(flip=False, scales=(1.0,))
LABELS = PseudoLabels(opening=3, background_power=8, pamr=Pamr(dilations=(1, 2, 4)))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = build_endtoend("vit_tiny_patch16_224", 2, SIDE, ARGS, channels=8)
    network.head.head[3].p = 0.5  # dropout: it would show in what it must not reach
    for block in network.encoder.blocks:
        block.drop_path1 = torch.nn.Dropout(0.3)
    return network.train()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Photos of SIDE x SIDE, where stages and training see the same pixels; two have 2 classes, one
    none."""
    root = make_folder(tmp_path_factory.mktemp("online") / "data")
    table = (root / "labels.csv").read_text()
    for name in ("photo01,dog", "photo04,cat"):
        table = table.replace(name, name.partition(",")[0] + ",cat dog")
    table = table.replace("photo06,cat", "photo06,")  # labelled as empty, and salient
    (root / "labels.csv").write_text(table)
    for folder in ("images", "saliency"):
        for file in (root / folder).iterdir():
            Image.open(file).resize((SIDE, SIDE)).save(file)
    return read_folder(root).split("train")


def batch_of(records, statistics) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised images, image-level labels and salient pixels."""
    images = [read_image(record.image) for record in records]
    salient = [read_saliency(r.saliency, (SIDE, SIDE)) > 0.5 for r in records]
    batch = normalise_images(torch.stack([to_tensor(image) for image in images]), statistics)
    return (
        batch,
        torch.from_numpy(multi_hot(records, 2)).float(),
        torch.from_numpy(np.stack(salient)),
    )


def labelled(network, batch, **changed) -> Tensor:
    images, targets, saliency = batch
    pixels = image_pixels(images, normalisation(network))
    settings = LABELS.model_copy(update=changed)
    saliency = None if settings.saliency == "none" else saliency
    return online_labels(network.encoder, images, pixels, targets, saliency, MAPS, settings)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"rule": "released"},
        {"balance": True},
        {"saliency": "none"},
        {"saliency": "none", "fallback": 0.3},
    ],
    ids=str,
)
def test_labels_of_a_batch_equal_those_the_stages_make_from_the_same_weights(
    network, records, tmp_path, changed
):
    explain = Explainer(network.encoder, SIDE, MAPS, classes=2)
    write_shard(tmp_path / "0.h5", explain(records), explain.grid)
    merge_shards(tmp_path / "maps.h5", [tmp_path / "0.h5"], explain.grid, ["cat", "dog"], "", {})
    file = MapFile(tmp_path / "maps.h5")
    settings = LABELS.model_copy(update=changed)
    saliency = open_saliency(settings, records, Path(), "", None)
    label = Labeller(file, settings, saliency, tmp_path, begin(tmp_path / "work"))
    expected = np.stack([label.label(record) for record in records])
    assert len(np.unique(expected)) >= 3

    batch = batch_of(records, normalisation(network))
    found = labelled(network, batch, **changed).numpy()
    # The stages keep maps in float16: a pixel at a threshold may fall on its other side.
    assert (found == expected).mean() > 0.995

    # From the very maps that the stages keep, every pixel is the same.
    slots, ids = (
        torch.zeros(len(records), 2, *explain.grid),
        torch.zeros(len(records), 2, dtype=int),
    )
    for n, record in enumerate(records):
        class_ids, maps, _ = file.read(record.id)
        slots[n, : len(maps)] = torch.from_numpy(maps)
        ids[n, : len(maps)] = torch.from_numpy(class_ids)
    pixels = torch.stack([to_square(read_image(r.image), SIDE) for r in records]).float()
    nothing = torch.empty(len(records), 0, 1, 1)
    given = nothing if settings.saliency == "none" else batch[2][:, None].float()
    soft = SoftSaliency(nothing, given, 0.5)
    np.testing.assert_array_equal(label_images(slots, ids, pixels, soft, settings), expected)


def test_images_of_a_batch_do_not_influence_each_others_maps_and_labels(network, records):
    batch = batch_of(records, normalisation(network))
    images, targets, _ = batch
    maps, labels = compute_maps(network.encoder, images, targets), labelled(network, batch)
    for n in range(len(records)):
        alone = tuple(part[n : n + 1] for part in batch)
        own = compute_maps(network.encoder, *alone[:2])
        assert torch.allclose(maps[n : n + 1], own, rtol=1e-3, atol=1e-6 * own.max().item())
        assert (labels[n : n + 1] == labelled(network, alone)).float().mean() > 0.999


def test_the_map_pass_leaves_gradients_weights_buffers_mode_and_random_state(network, records):
    batch = batch_of(records, normalisation(network))
    network.scores_and_logits(batch[0])[1].square().mean().backward()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    gradients = {n: None if p.grad is None else p.grad.clone() for n, p in _named(network)}
    random_state = torch.get_rng_state()
    labelled(network, batch)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in network.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    for name, parameter in _named(network):
        assert parameter.requires_grad
        expected = gradients[name]
        assert parameter.grad is expected or torch.equal(parameter.grad, expected), name


def test_gradients_of_the_joint_step_are_those_of_its_loss_on_ready_made_labels(network, records):
    """The released code accumulates the gradients of its map passes into the weights' own."""
    statistics = normalisation(network)
    batch = batch_of(records, statistics)
    loss = JointLoss(network.encoder, LossWeights(), MAPS, LABELS)
    labels, pixels = labelled(network, batch), image_pixels(batch[0], statistics)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    torch.manual_seed(1)
    loss(network, batch)["loss"].backward()
    joint = {name: p.grad for name, p in _named(network) if p.grad is not None}
    network.zero_grad(set_to_none=True)
    network.load_state_dict(state)
    torch.manual_seed(1)
    scores, logits = network.scores_and_logits(batch[0])
    terms = loss.terms(scores, logits, batch[1], labels, objects(batch[2], batch[1]), pixels)
    sum(getattr(loss.weights, name) * term for name, term in terms.items()).backward()
    ready = {name: p.grad for name, p in _named(network) if p.grad is not None}
    assert joint.keys() == ready.keys()
    assert all(torch.equal(joint[name], ready[name]) for name in joint)


def test_each_weight_scales_its_term_and_every_term_is_told(network, records):
    statistics = normalisation(network)
    batch = batch_of(records, statistics)
    network.eval()
    terms = {"background", "foreground", "classification", "saliency", "energy"}

    def figures(**weights: float) -> dict[str, float]:
        none = dict.fromkeys(terms, 0.0)
        loss = JointLoss(network.encoder, LossWeights(**{**none, **weights}), MAPS, LABELS)
        return loss(network, batch)

    everything = figures(**dict.fromkeys(terms, 1.0))
    assert set(everything) == terms | {"loss", "label share"}
    for name in terms:
        alone = figures(**{name: 2.0})
        assert torch.isclose(alone["loss"], 2 * everything[name]), name
    share = everything["label share"]
    assert share.shape == (4,)
    assert share.sum().item() == pytest.approx(1)


def test_without_saliency_there_is_no_saliency_term(network, records):
    statistics = normalisation(network)
    images, targets, _ = batch_of(records, statistics)
    loss = JointLoss(network.encoder, LossWeights(), MAPS, LABELS)
    assert "saliency" not in loss(network, (images, targets))


def test_the_foreground_may_be_the_mean_of_its_classes(network, records):
    statistics = normalisation(network)
    batch = batch_of(records, statistics)
    network.eval()
    scores, logits = network.scores_and_logits(batch[0])
    labels, pixels = labelled(network, batch), image_pixels(batch[0], statistics)
    by_pixel, by_class = (
        JointLoss(network.encoder, LossWeights(class_balanced=way), MAPS, LABELS).terms(
            scores, logits, batch[1], labels, batch[2], pixels
        )
        for way in (False, True)
    )
    expected = foreground_cross_entropy(logits, labels, by_class=True)
    assert torch.equal(by_class["foreground"], expected)
    assert not torch.isclose(by_class["foreground"], by_pixel["foreground"])
    others = by_pixel.keys() - {"foreground"}
    assert all(torch.equal(by_class[name], by_pixel[name]) for name in others)


def test_images_without_a_class_are_background_also_where_they_are_salient(network, records):
    images, targets, saliency = batch_of(records, normalisation(network))
    targets[::2] = 0
    labels = labelled(network, (images, targets, saliency))
    assert saliency[::2].any()
    assert (labels[::2] == 0).all()
    assert (labels[1::2] != 0).any()


def test_saliency_of_an_image_without_a_class_is_no_object_in_the_loss(network, records):
    images, targets, saliency = batch_of(records, normalisation(network))
    network.eval()
    targets[0] = 0
    loss = JointLoss(network.encoder, LossWeights(), MAPS, LABELS)
    told = loss(network, (images, targets, saliency))
    saliency[0] = False
    expected = loss(network, (images, targets, saliency))
    assert saliency.any()
    assert told.keys() == expected.keys()
    assert all(torch.equal(told[name], expected[name]) for name in told)


def test_pixels_come_back_from_normalised_images():
    pixels = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8)
    statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.equal(
        image_pixels(normalise_images(pixels, statistics), statistics), pixels.float()
    )


def test_label_shares_count_ignored_pixels_last():
    labels = torch.tensor([[0, 0, 0, 2], [3, 255, 255, 0]], dtype=torch.uint8)
    assert label_shares(labels, 3).tolist() == [0.5, 0, 0.125, 0.125, 0.25]


def _named(network):
    return list(network.named_parameters())


def test_shares_decide_between_classes_that_the_maps_confuse(network, records):
    """Where the stage foreground finds no dog, no pixel becomes dog, whatever the maps say."""
    batch = batch_of(records, normalisation(network))
    images, targets, saliency = batch
    pixels = image_pixels(images, normalisation(network))
    both = targets.all(dim=1)
    shares = torch.zeros(len(images), 2, SIDE // 8, SIDE // 8)
    shares[:, 0, :, :4] = 1  # cat left
    shares[:, 1, :, 4:] = 1  # dog right
    batch = (images, pixels, targets, torch.ones_like(saliency))
    found = online_labels(network.encoder, *batch, MAPS, LABELS, shares)[both]
    left, right = found[..., : SIDE // 2 - 16], found[..., SIDE // 2 + 16 :]  # PAMR blurs the edge
    assert len(found) >= 2
    assert not (left == 2).any()
    assert not (right == 1).any()
    assert (left == 1).any()
    assert (right == 2).any()
    shares[:, 0], shares[:, 1] = 0.9, 0.05  # at the peak of its own map, too, there is no dog
    found = online_labels(network.encoder, *batch, MAPS, LABELS, shares)[both]
    assert not (found == 2).any()


def test_loss_takes_the_shares_of_its_batch(network, records):
    images, targets, saliency = batch_of(records, normalisation(network))
    shares = torch.zeros(len(images), 2, 8, 8)
    shares[:, 0] = 1
    both = targets.all(dim=1)
    batch = (images[both], targets[both], saliency[both])
    loss = JointLoss(network.encoder, LossWeights(), MAPS, LABELS, with_shares=True)
    with_cat_alone = loss(network, (*batch, shares[both]))["label share"]
    without = JointLoss(network.encoder, LossWeights(), MAPS, LABELS)(network, batch)["label share"]
    assert not with_cat_alone[2]
    assert without[2] > 0
