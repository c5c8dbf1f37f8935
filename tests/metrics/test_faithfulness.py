"""Insertion and deletion on models whose truth is known: the score is the brightness of a region.

Photos are white, and a removed patch is black, so that all areas can be worked out by hand.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from getam.metrics.controls import centre_prior, random_map
from getam.metrics.faithfulness import Curves, PhotoCurves, insertion_deletion

GRID, PATCH = (4, 6), 2  # 24 patches in photos of 8 x 12 pixels
CELLS = GRID[0] * GRID[1]
REGIONS = torch.zeros(2, *GRID)
REGIONS[0, 0, :4] = 1  # 4 patches at the upper border
REGIONS[1, 2:, 5] = 1  # 2 patches at the right border


class Brightness(nn.Module):
    """The score of class c is the mean of the pixels in region c."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        pixels = REGIONS.repeat_interleave(PATCH, -2).repeat_interleave(PATCH, -1)
        shown = images.mean(dim=1)[:, None] * pixels
        return shown.sum(dim=(2, 3)) / pixels.sum(dim=(1, 2))


def measure(maps: Tensor, targets: Tensor | None = None, **options) -> Curves:
    images = torch.ones(len(maps), 3, GRID[0] * PATCH, GRID[1] * PATCH)
    targets = torch.ones(maps.shape[:2]) if targets is None else targets
    known = {"steps": CELLS, "replacement": torch.zeros(1), "score": lambda output: output}
    return insertion_deletion(Brightness().eval(), images, maps, targets, **known | options)


def everywhere(cells: np.ndarray) -> Tensor:
    """A map of one photo, the same for both classes."""
    return torch.from_numpy(cells).expand(1, 2, *GRID)


def test_a_perfect_map_has_the_areas_that_its_region_gives():
    curves = measure(REGIONS[None])
    assert curves.classes.tolist() == [0, 1]
    steps = torch.arange(CELLS + 1)
    for size, insertion, deletion in zip((4, 2), curves.insertion, curves.deletion):
        torch.testing.assert_close(insertion, (steps / size).clamp(max=1))
        torch.testing.assert_close(deletion, 1 - (steps / size).clamp(max=1))
    lost = torch.tensor([4.0, 2.0], dtype=torch.float64) / (2 * CELLS)
    torch.testing.assert_close(curves.deletion_area, lost)
    torch.testing.assert_close(curves.insertion_area, 1 - lost)


def test_the_opposite_of_a_perfect_map_has_the_opposite_areas():
    best, worst = measure(REGIONS[None]), measure(1 - REGIONS[None])
    torch.testing.assert_close(worst.insertion_area, best.deletion_area)
    torch.testing.assert_close(worst.deletion_area, best.insertion_area)


def test_a_perfect_map_beats_the_centre_and_chance_and_these_are_as_expected():
    perfect = measure(REGIONS[None])
    centre = measure(everywhere(centre_prior(GRID)))
    for curves in (centre, measure(everywhere(random_map(GRID, "photo")))):
        assert (perfect.insertion_area > curves.insertion_area + 0.2).all()
        assert (perfect.deletion_area < curves.deletion_area - 0.2).all()
    assert (centre.insertion_area < 0.45).all()  # both regions lie at the border
    many = measure(torch.cat([everywhere(random_map(GRID, str(n))) for n in range(300)]))
    assert many.insertion_area.mean() == pytest.approx(0.5, abs=0.02)


def test_a_constant_map_is_a_random_one_not_one_that_prefers_a_corner():
    constant = measure(torch.ones(1, 2, *GRID))
    torch.testing.assert_close(constant.insertion, 1 - constant.deletion)
    order = torch.arange(CELLS, 0, -1.0).view(GRID).expand(1, 2, *GRID)
    by_row = measure(order)
    assert by_row.insertion_area[0] > 0.9  # region 0 is the first in reading order
    assert constant.insertion_area[0] < 0.75


def test_only_the_order_of_the_values_counts():
    maps = torch.rand(2, 2, *GRID, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(measure(maps).insertion, measure(100 * maps**3).insertion)


@pytest.mark.parametrize("steps", [1, 2, 5, CELLS, 1000])
def test_the_curves_begin_and_end_with_the_whole_and_the_empty_photo(steps):
    curves = measure(REGIONS[None], steps=steps)
    assert len(curves.shares) == min(steps, CELLS) + 1
    assert (curves.shares[0], curves.shares[-1]) == (0, 1)
    assert (curves.insertion[:, 0] == 0).all()
    assert (curves.insertion[:, -1] == 1).all()
    assert (curves.deletion[:, 0] == 1).all()
    assert (curves.deletion[:, -1] == 0).all()


def test_a_step_shows_as_many_patches_as_its_share():
    whole = torch.ones(1, 1, *GRID)
    images = torch.ones(1, 3, 8, 12)
    seen: list[Tensor] = []

    def model(copies: Tensor) -> Tensor:
        seen.append(copies)
        return copies.mean(dim=(1, 2, 3))[:, None]

    options = {"replacement": torch.zeros(1), "score": lambda output: output, "steps": 5}
    curves = insertion_deletion(model, images, whole, torch.ones(1, 1), **options)
    assert (curves.shares * CELLS).tolist() == [0, 5, 10, 14, 19, 24]
    torch.testing.assert_close(curves.insertion[0].double(), curves.shares)
    torch.testing.assert_close(curves.deletion[0].double(), 1 - curves.shares)
    for copies in seen:  # each patch is removed as a whole
        cells = copies.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)
        assert (cells.amax(dim=(-2, -1)) == cells.amin(dim=(-2, -1))).all()


def test_a_batch_gives_what_its_photos_give_alone():
    random = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 8, 12, generator=random)
    maps = torch.rand(3, 2, *GRID, generator=random).round(decimals=1)  # with ties
    targets = torch.tensor([[1, 1], [0, 0], [0, 1]])
    together = insertion_deletion(Brightness().eval(), images, maps, targets, batch_size=5)
    assert together.photos.tolist() == [0, 0, 2]
    assert together.classes.tolist() == [0, 1, 1]
    alone = []
    for n in (0, 2):
        one = [part[n : n + 1] for part in (images, maps, targets)]
        alone.append(insertion_deletion(Brightness().eval(), *one))
    torch.testing.assert_close(together.insertion, torch.cat([one.insertion for one in alone]))
    torch.testing.assert_close(together.deletion, torch.cat([one.deletion for one in alone]))
    assert together.passes == sum(one.passes for one in alone)


def test_forward_passes_are_counted_and_batches_are_no_larger_than_asked():
    model, images = Brightness().eval(), torch.ones(3, 3, 8, 12)
    targets = torch.tensor([[1, 1], [0, 0], [0, 1]])
    maps = torch.rand(3, 2, *GRID)
    curves = insertion_deletion(model, images, maps, targets, steps=4, batch_size=7)
    assert curves.passes == sum(model.sizes) == 2 * 3 * 3 + 2 * 2
    assert max(model.sizes) == 7


def test_a_removed_patch_has_the_mean_colour_of_its_own_photo():
    images = torch.stack([torch.full((3, 8, 12), 0.2), torch.full((3, 8, 12), 0.8)])
    images[0, 0] = 0.5
    given = {"steps": 3, "score": lambda output: output}
    targets = torch.tensor([[1, 0], [1, 0]])
    curves = insertion_deletion(
        Brightness().eval(), images, torch.rand(2, 2, *GRID), targets, **given
    )
    for row, mean in zip(curves.insertion, (0.3, 0.8)):  # photos of one colour do not change
        torch.testing.assert_close(row, torch.full_like(row, mean))


def test_a_photo_has_the_mean_of_its_classes_and_batches_add_up():
    maps, both = REGIONS[None].repeat(2, 1, 1, 1), torch.tensor([[1, 1], [0, 1]])
    together = PhotoCurves()
    together.update(["a", "b"], measure(maps, both))
    parts = PhotoCurves()
    parts.update(["a"], measure(maps[:1], both[:1]))
    parts.update(["b"], measure(maps[1:], both[1:]))
    for found in (together, parts):
        lost = {"a": (4 + 2) / 2 / (2 * CELLS), "b": 2 / (2 * CELLS)}
        assert found.areas()["deletion"] == pytest.approx(lost)
        kept = {name: 1 - area for name, area in lost.items()}
        assert found.areas()["insertion"] == pytest.approx(kept)
        assert found.means()["insertion"][2] == pytest.approx(((0.5 + 1) / 2 + 1) / 2)
        assert found.passes == found.means()["forward passes"] == 3 * 2 * (CELLS - 1) + 2 * 2
    assert PhotoCurves().areas() == PhotoCurves().means() == {}


def test_scores_are_probabilities_unless_the_caller_says_otherwise():
    plain = measure(REGIONS[None]).insertion
    as_probabilities = measure(REGIONS[None], score=torch.sigmoid).insertion
    torch.testing.assert_close(as_probabilities, plain.sigmoid())
    images = torch.ones(1, 3, 8, 12)
    default = insertion_deletion(Brightness().eval(), images, REGIONS[None], torch.ones(1, 2))
    assert (default.insertion[:, -1] == torch.tensor(1.0).sigmoid()).all()


def test_maps_of_other_sizes_than_the_patches_are_measured_cell_by_cell():
    """5 x 7 cells in 8 x 12 pixels: each pixel belongs to the cell that its centre is in."""
    maps = torch.zeros(1, 2, 5, 7)
    maps[:, :, 0, 0] = 1
    curves = measure(maps, torch.tensor([[1, 0]]), steps=35)
    assert curves.insertion[0, 1] == pytest.approx(2 * 2 / 16)  # rows 0, 1 and columns 0, 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"maps": torch.zeros(1, 3, *GRID)}, "expected"),
        ({"maps": torch.full((1, 2, *GRID), float("nan"))}, "NaN"),
        ({"maps": torch.zeros(1, 2, 9, 12)}, "no more cells than pixels"),
        ({"targets": torch.zeros(1, 2)}, "without a class"),
        ({"maps": torch.zeros(1, 3, *GRID), "targets": torch.ones(1, 3)}, "one for each class"),
        ({"model": Brightness()}, "training mode"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_reason(change, words):
    given = {
        "model": Brightness().eval(),
        "images": torch.ones(1, 3, 8, 12),
        "maps": torch.zeros(1, 2, *GRID),
        "targets": torch.ones(1, 2),
    }
    with pytest.raises(ValueError, match=words):
        insertion_deletion(**given | change)
