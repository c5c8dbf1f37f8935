"""On a GPU comes out what comes out on a CPU: the joint step with all its parts, the foreground,
PAMR, the pseudo labels and a chain of stages. (Maps have a test of their own in test_maps.py.)"""

from __future__ import annotations

import copy
import json

import pytest
import torch

from getam.config.schema import LossWeights, Maps, Pamr, PseudoLabels
from getam.data.transforms import image_pixels
from getam.labels import pamr as pamr_module
from getam.labels.patch_classes import fit_classes
from getam.labels.patch_foreground import fit_foreground
from getam.networks.build import build_endtoend, normalisation
from getam.training.crf_loss import dense_energy
from getam.training.joint import JointLoss, online_labels
from tests.conftest import TINY, make_folder, pipeline
from tests.stages.test_labels_on_device import CASES, make_photos, same_pixels

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SIDE = 64
ARGS = {"patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2}
MAPS = Maps(flip=False, scales=(1.0,))
LABELS = PseudoLabels(
    opening=3, background_power=8, balance=True, quantile=0.7, pamr=Pamr(dilations=(1, 2, 4))
)


@pytest.fixture
def full_float32():
    """Without TF32, whose products keep ten bits."""
    found = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = found


def test_joint_step(full_float32):
    torch.manual_seed(0)
    network = build_endtoend("vit_tiny_patch16_224", 3, SIDE, ARGS, channels=8).eval()
    targets = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]]).float()
    batch = torch.randn(4, 3, SIDE, SIDE), targets, torch.rand(4, SIDE, SIDE) > 0.4
    weights = LossWeights(energy=1e-4, class_balanced=True)

    def step(device: str):
        own = copy.deepcopy(network).to(device)  # gradients would move along
        images, targets, salient = (part.to(device) for part in batch)
        pixels = image_pixels(images, normalisation(own))
        labels = online_labels(own.encoder, images, pixels, targets, salient, MAPS, LABELS)
        figures = JointLoss(own.encoder, weights, MAPS, LABELS)(own, (images, targets, salient))
        figures["loss"].backward()
        gradients = [p.grad for p in own.parameters() if p.grad is not None]
        assert {part.device.type for part in (labels, *figures.values(), *gradients)} == {device}
        return labels.cpu(), {n: f.cpu() for n, f in figures.items()}, [g.cpu() for g in gradients]

    labels, figures, gradients = step("cpu")
    found_labels, found_figures, found_gradients = step("cuda")
    assert (labels == 255).any()  # some pixels have an energy
    assert (labels == found_labels).float().mean() >= 0.999
    assert figures.keys() == found_figures.keys()
    for name, figure in figures.items():
        assert torch.allclose(figure, found_figures[name], rtol=0.01, atol=1e-3), name
    flat, found_flat = (torch.cat([g.flatten() for g in g_]) for g_ in (gradients, found_gradients))
    assert (flat - found_flat).norm() <= 0.02 * flat.norm()


def test_energy_and_its_gradient():
    torch.manual_seed(0)
    p = torch.rand(3, 4, 9, 11).double().softmax(dim=1)
    images, gate = torch.rand(3, 3, 9, 11).double() * 255, (torch.rand(3, 9, 11) > 0.5).double()

    def energy(device: str):
        probabilities = p.to(device, copy=True).requires_grad_()
        value = dense_energy(probabilities, images.to(device), gate.to(device), sigma_xy=3)
        value.backward()
        return value.item(), probabilities.grad.cpu()

    (value, gradient), (found, found_gradient) = energy("cpu"), energy("cuda")
    assert found == pytest.approx(value, rel=1e-12)
    assert torch.allclose(found_gradient, gradient, rtol=1e-10, atol=1e-14)


def test_foreground_and_its_classes():
    torch.manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(4000, 16), dim=1)
    features[:1200, 0] += 1.5
    peaks, classes = torch.zeros(4000, dtype=torch.bool), torch.randint(0, 3, (4000,))
    peaks[:300] = True

    def scores(device: str):
        own = features.to(device)
        foreground = fit_foreground(own, peaks.to(device), rounds=5, threshold=0.55)
        found = fit_classes(own, classes.to(device), 3)
        assert foreground.weight.device.type == found.weight.device.type == device
        return foreground(own).cpu(), found(own).cpu()

    for expected, found in zip(scores("cpu"), scores("cuda")):
        assert torch.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(5, 1, 120, 90), (2, 6, 375, 500), (3, 3, 97, 131)])
def test_pamr_by_kernels_and_by_torch(shape, monkeypatch):
    torch.manual_seed(0)
    batch, _, height, width = shape
    images = (torch.rand(batch, 3, height // 8, width // 8) * 255).round()
    images = torch.nn.functional.interpolate(images, (height, width))
    masks = torch.rand(shape)
    expected = pamr_module.pamr(images, masks)
    assert pamr_module._checked_kernels("cuda:0") is not None
    on_gpu = images.to("cuda:0"), masks.to("cuda:0")
    assert torch.allclose(pamr_module.pamr(*on_gpu).cpu(), expected, rtol=1e-4)
    monkeypatch.setattr(pamr_module, "_fused_for", lambda image: None)
    assert torch.allclose(pamr_module.pamr(*on_gpu).cpu(), expected, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_pseudo_labels_made_together_equal_those_of_a_core(tmp_path, case):
    photos = tmp_path / "photos", make_photos(tmp_path / "photos")
    sources, own_classes, changed = CASES[case]
    assert same_pixels(photos, tmp_path, sources, own_classes, "cuda", **changed)[0] >= 0.999


@pytest.mark.parametrize("mode", ["multi-stage", "end-to-end"])
def test_a_chain_made_on_a_gpu_is_used_on_a_cpu(tmp_path, mode):
    make_folder(tmp_path / "data")
    settings = (
        *TINY,
        "data.kind=folder",
        "data.root=data",
        f"mode={mode}",
        "pseudolabels.saliency=features",
    )
    done = pipeline("run", cwd=tmp_path, settings=settings)
    assert done.code == 0, done
    manifests = [*(tmp_path / "artifacts").glob("*/*/manifest.json")]
    assert manifests
    assert {json.loads(file.read_text())["info"]["device"] for file in manifests} == {"cuda"}

    again = pipeline("run", "--device", "cpu", cwd=tmp_path, settings=settings)
    assert again.code == 0, again
    assert not again.stages_run()
