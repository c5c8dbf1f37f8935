"""PAMR against a loop over pixels, and normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from getam.labels import pamr as pamr_module
from getam.labels.normalise import balance, normalise
from getam.labels.pamr import pamr


def pamr_by_loop(
    image: np.ndarray, mask: np.ndarray, iterations: int, dilations: tuple[int, ...]
) -> np.ndarray:
    """(3, H, W), (C, H, W) -> (C, H, W) in float64, one pixel at a time."""
    _, height, width = image.shape

    def samples(y, x, centre):
        return [
            (min(max(y + dy * d, 0), height - 1), min(max(x + dx * d, 0), width - 1))
            for d in dilations
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if centre or dy or dx
        ]

    weights = {}
    for y in range(height):
        for x in range(width):
            nine = np.array([image[:, j, i] for j, i in samples(y, x, centre=True)])
            eight = np.array([image[:, j, i] for j, i in samples(y, x, centre=False)])
            sigma = nine.std(axis=0, ddof=1)
            exponent = (-np.abs(eight - image[:, y, x]) / (1e-8 + 0.1 * sigma)).mean(axis=1)
            raised = np.exp(exponent - exponent.max())
            weights[y, x] = raised / raised.sum()
    for _ in range(iterations):
        refined = np.empty_like(mask)
        for (y, x), weight in weights.items():
            neighbours = np.array([mask[:, j, i] for j, i in samples(y, x, centre=False)])
            refined[:, y, x] = weight @ neighbours
        mask = refined
    return mask


def random_pair(seed: int, channels: int, height: int, width: int, classes: int):
    """An image with flat parts, edges and noise; a mask."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (channels, 2, 2)).repeat(height, axis=1).repeat(width, axis=2)
    image = image[:, :height, :width] + rng.integers(0, 3, (channels, height, width))
    image = image.clip(0, 255).astype(np.float64)
    image[:, : height // 2, : width // 2] = 200
    return image, rng.random((classes, height, width))


@pytest.mark.parametrize(
    ("shape", "iterations", "dilations"),
    [
        ((3, 7, 11, 2), 3, (1, 2, 4, 8, 12, 24)),
        ((3, 26, 9, 1), 2, (1, 2, 4, 8, 12, 24)),
        ((1, 5, 6, 3), 4, (1, 3)),
        ((3, 1, 8, 1), 1, (2,)),
    ],
)
def test_pamr_equals_the_definition_pixel_by_pixel(shape, iterations, dilations):
    image, mask = random_pair(3, *shape)
    got = pamr(torch.tensor(image)[None], torch.tensor(mask)[None], iterations, dilations)
    expected = pamr_by_loop(image, mask, iterations, dilations)
    np.testing.assert_allclose(got[0].numpy(), expected, rtol=1e-9, atol=0)


def test_float32_keeps_its_digits_where_the_image_is_almost_flat():
    """Bright, with one grey level of noise: sums of squares of raw values would cancel."""
    rng = np.random.default_rng(5)
    image = 250.0 + (rng.random((3, 12, 10)) < 0.05)
    mask = rng.random((2, 12, 10))
    expected = pamr_by_loop(image, mask, 3, (1, 2, 4))
    got = pamr(torch.tensor(image).float()[None], torch.tensor(mask).float()[None], 3, (1, 2, 4))
    np.testing.assert_allclose(got[0].numpy(), expected, rtol=2e-5)


def test_bands_of_rows_leave_no_seams(monkeypatch):
    image, mask = random_pair(8, 3, 23, 10, 2)
    images, masks = torch.tensor(image)[None], torch.tensor(mask)[None]
    whole = pamr(images, masks, 4)
    monkeypatch.setattr(pamr_module, "_BAND_ELEMENTS", 1)
    monkeypatch.setattr(pamr_module, "_BAND_ELEMENTS_ALONE", 1)
    torch.testing.assert_close(pamr(images, masks, 4), whole, rtol=1e-13, atol=0)


def test_images_of_a_batch_do_not_see_each_other():
    pairs = [random_pair(seed, 3, 9, 14, 2) for seed in (1, 2, 3)]
    images = torch.tensor(np.stack([image for image, _ in pairs]))
    masks = torch.tensor(np.stack([mask for _, mask in pairs]))
    together = pamr(images, masks)
    for i in range(3):
        torch.testing.assert_close(together[i], pamr(images[i : i + 1], masks[i : i + 1])[0])


def test_mask_is_resized_bilinearly_between_pixel_centres():
    images = torch.zeros(1, 3, 4, 8)
    masks = torch.tensor([[[[0.0, 1.0]]]])
    got = pamr(images, masks, iterations=0)
    expected = torch.tensor([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]).expand(1, 1, 4, 8)
    torch.testing.assert_close(got, expected)


def test_mask_does_not_smear_over_an_edge_of_the_image():
    images = torch.zeros(1, 3, 16, 16)
    images[..., 8:] = 255
    masks = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    masks[..., 8:] += 1
    refined = pamr(images, masks)[0, 0]
    before = masks[0, 0]
    assert refined[:, :8].max() < before[:, :8].max()
    assert refined[:, 8:].min() > before[:, 8:].min()
    assert refined[:, :8].max() + 0.5 < refined[:, 8:].min()


def test_pamr_neither_changes_nor_shares_its_inputs():
    images, masks = torch.full((1, 3, 6, 5), 9.0), torch.rand(1, 2, 6, 5)
    before = images.clone(), masks.clone()
    for iterations in (0, 1, 2):
        pamr(images, masks, iterations).zero_()
        assert torch.equal(images, before[0])
        assert torch.equal(masks, before[1])


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_pamr_is_the_same_in_every_gradient_mode_and_thread(mode, threads):
    image, mask = random_pair(4, 3, 13, 10, 2)
    images, masks = torch.tensor(image)[None], torch.tensor(mask)[None]
    expected = pamr(images, masks, 2)
    with mode():
        got = pamr(
            images.clone().requires_grad_(mode is not torch.inference_mode),
            masks.clone().requires_grad_(mode is not torch.inference_mode),
            2,
        )
    assert not got.requires_grad
    assert not got.is_inference()
    assert torch.equal(got, expected)


def test_pamr_does_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(pamr_module, "_BAND_ELEMENTS", 50)
    monkeypatch.setattr(pamr_module, "_BAND_ELEMENTS_ALONE", 90)
    image, mask = random_pair(6, 3, 17, 12, 2)
    images, masks = torch.tensor(image)[None].float(), torch.tensor(mask)[None].float()
    before = torch.get_num_threads()
    results = []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        results.append(pamr(images, masks))
    torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.bool, torch.float32),
        (torch.uint8, torch.float32),
    ],
)
def test_pamr_keeps_the_floating_type_of_masks(dtype, expected):
    image, mask = random_pair(2, 3, 8, 8, 1)
    masks = torch.tensor(mask > 0.5)[None].to(dtype)
    got = pamr(torch.tensor(image)[None].to(torch.uint8), masks)
    reference = pamr(torch.tensor(image)[None], masks.double())
    assert got.dtype == expected
    torch.testing.assert_close(got.double(), reference, rtol=1e-2, atol=1e-2)


def test_batch_without_classes_passes_through():
    assert pamr(torch.zeros(2, 3, 6, 7), torch.zeros(2, 0, 3, 4)).shape == (2, 0, 6, 7)
    assert normalise(torch.zeros(2, 0, 3, 4)).shape == (2, 0, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": torch.zeros(3, 4, 4)}, "expected \\(B, 3, H, W\\)"),
        ({"masks": torch.zeros(2, 1, 4, 4)}, "same B"),
        ({"masks": torch.zeros(1, 1, 4, 4, device="meta")}, "one device"),
        ({"iterations": -1}, "0 or more"),
        ({"dilations": ()}, "one or more"),
        ({"dilations": (0, 1)}, ">= 1"),
    ],
)
def test_wrong_input_of_pamr_is_refused(arguments, message):
    good = {"images": torch.zeros(1, 3, 4, 4), "masks": torch.zeros(1, 1, 4, 4)}
    with pytest.raises(ValueError, match=message):
        pamr(**{**good, **arguments})


def test_each_class_is_normalised_by_its_own_maximum():
    maps = torch.tensor([[[[1.0, 4.0]], [[0.0, 0.5]], [[0.0, 0.0]]]])
    expected = torch.stack([maps[0, 0] / 4.00001, maps[0, 1] / 0.50001, maps[0, 2]])[None]
    torch.testing.assert_close(normalise(maps), expected, rtol=1e-6, atol=0)
    assert normalise(maps.half()).dtype == torch.float32
    assert normalise(maps).max() < 1


@pytest.mark.parametrize("bad", [-0.1, float("nan")])
def test_negative_or_missing_values_are_not_normalised(bad):
    with pytest.raises(ValueError, match="clamp"):
        normalise(torch.tensor([[[bad, 1.0]]]))


def test_balanced_maps_of_an_image_do_not_depend_on_their_scales_nor_on_other_images():
    maps = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    scales = torch.tensor([1.0, 0.1, 20.0]).view(3, 1, 1)
    torch.testing.assert_close(balance(maps * scales), balance(maps))
    torch.testing.assert_close(balance(maps)[1], balance(maps[1]))
    assert balance(maps).amax(dim=(1, 2, 3)).tolist() == [1.0, 1.0]


def test_a_map_of_zeros_and_an_image_without_classes_stay_so_when_balanced():
    maps = torch.zeros(2, 4, 4)
    maps[1, 0, 0] = 0.3
    assert balance(maps).flatten(1).sum(1).tolist() == [0.0, 1.0]
    assert balance(torch.zeros(0, 4, 4)).shape == (0, 4, 4)
