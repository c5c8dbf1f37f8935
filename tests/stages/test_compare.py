"""The command compare: what it measures with masks and without, and what it marks as no better."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from getam.cache.stage import ConfigView
from getam.config.schema import Config
from getam.data.folder import read_folder
from getam.data.masks import read_mask
from getam.data.palette import write_label_png
from getam.data.shapes import write_shapes
from getam.errors import UserError
from getam.metrics.controls import CONTROLS
from getam.metrics.localisation import inside_mask
from getam.running.context import Context
from stages import compare

SIDE, GRID = 96, (12, 12)
WITHOUT_MASKS = ["insertion", "deletion"]
WITH_MASKS = [*WITHOUT_MASKS, "pointing", "energy"]


class Seer(torch.nn.Module):
    """Knows the mask of each photo: the score of a class is the share of its object that is shown.

    A pixel is shown if it is as in the photo.
    """

    def __init__(self, data) -> None:
        super().__init__()
        self.photos = [(r, *compare_inputs(data, r)) for r in data.split("train") if r.labels]
        self.classes = len(data.classes)
        self.pretrained_cfg = {"mean": (0, 0, 0), "std": (1, 1, 1)}
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.score(image) for image in images])

    def score(self, image: torch.Tensor) -> torch.Tensor:
        same = [(photo == image).all(dim=0) for _, photo, _ in self.photos]
        best = int(np.argmax([float(pixels.float().mean()) for pixels in same]))
        mask, shown = self.photos[best][2], same[best].float()
        objects = [(mask == label).float() for label in range(1, self.classes + 1)]
        return torch.stack([8 * (o * shown).sum() / o.sum().clamp_min(1) - 4 for o in objects])


def compare_inputs(data, record) -> tuple[torch.Tensor, torch.Tensor]:
    """The photo (3, H, W) as the network sees it, and its mask (H, W)."""
    one = SimpleNamespace(device="cpu", readers=1)
    ((_, photos),) = compare.square_batches([record], SIDE, 1, ((0, 0, 0), (1, 1, 1)), one)
    return photos[0], torch.from_numpy(data.read_mask(record).astype(int))


class Explainer:
    """getam is true to the masks, cam is constant, grad_cam shows all but the object."""

    grid = GRID

    def __init__(self, network: Seer, side: int, how, classes: int) -> None:
        self.method = how.method
        self.masks = {record.id: mask for record, _, mask in network.photos}

    def __call__(self, records):
        for record in records:
            yield record.id, np.uint8(record.labels), np.stack([*self.maps(record)])

    def maps(self, record):
        for label in record.labels:
            shown = (self.masks[record.id] == label).float()[None, None]
            shown = torch.nn.functional.adaptive_avg_pool2d(shown, GRID)[0, 0]
            known = {"getam": shown, "cam": torch.ones(GRID), "grad_cam": 1 - shown}
            yield known[self.method].numpy()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Runs the stage on the synthetic shapes, with a network that sees the masks."""
    write_shapes(tmp_path / "data", seed=0, train=12, val=1, size=SIDE)
    (tmp_path / "scratch").mkdir()

    def run(*, masks: bool = True, change=lambda file: None, **settings) -> SimpleNamespace:
        data = read_folder(tmp_path / "data")
        network = Seer(data)
        for file in (tmp_path / "data" / "masks").glob("*.png"):
            change(file) if masks else file.unlink()
        data = read_folder(tmp_path / "data")
        monkeypatch.setattr(compare, "load_classifier", lambda *_: network)
        monkeypatch.setattr(compare, "network_build", lambda *_: {"image_size": SIDE})
        monkeypatch.setattr(compare, "Explainer", Explainer)
        chosen = {"methods": ["getam", "cam", "grad_cam"], "refiners": ["none"], **settings}
        values = Config(compare=chosen).model_dump(mode="json")
        context = Context(root=tmp_path / "data", index=data, wanted_device="cpu", wanted_workers=1)
        pieces = SimpleNamespace(has=lambda path: False, write=lambda path: nullcontext(path))
        job = SimpleNamespace(
            config=ConfigView("compare", values),
            inputs={"classifier": tmp_path},
            context=context,
            folder=tmp_path,
            scratch=tmp_path / "scratch",
            pieces=pieces,
        )
        metrics = compare.run(job)
        report = json.loads((tmp_path / "comparison.json").read_text())
        return SimpleNamespace(
            metrics=metrics,
            report=report,
            rows={row["map"]: row for row in report["maps"]},
            table=(tmp_path / "table.txt").read_text(),
            folder=tmp_path,
        )

    return run


def line(table: str, name: str) -> str:
    return next(row for row in table.splitlines() if row.startswith(f"{name} "))


def test_true_maps_beat_the_controls_and_untrue_ones_are_marked(bench):
    made = bench()
    assert [*made.rows] == ["getam", "cam", "grad_cam", *CONTROLS]
    assert [*made.rows["getam"]["means"]] == WITH_MASKS
    for measure in WITH_MASKS:
        for value, low, high in made.rows["getam"]["against"][measure].values():
            assert 0 < low <= value <= high, measure
        for value, low, _ in made.rows["grad_cam"]["against"][measure].values():
            assert low <= value < 0, measure
    assert made.rows["getam"]["means"]["pointing"] == 1
    assert "*" not in line(made.table, "getam")
    assert line(made.table, "grad_cam").count("*") == 4
    assert "*" not in line(made.table, "random map") + line(made.table, "centre prior")
    told = "  grad_cam: no better than the random map and the centre prior in insertion, deletion, "
    assert told + "pointing, energy" in made.table
    assert "  getam: no better" not in made.table


def test_a_constant_map_is_no_better_than_chance(bench):
    made = bench()
    for measure in WITH_MASKS:
        _, low, _ = made.rows["cam"]["against"][measure]["random map"]
        assert low <= 0, measure
    assert line(made.table, "cam").count("*") == 4


def test_each_control_gives_every_photo_its_own_map(bench):
    made = bench()
    data = read_folder(made.folder / "data")
    for name, control in CONTROLS.items():
        for record in data.split("train"):
            maps = np.stack([control(GRID, record.id)] * len(record.labels))
            told = inside_mask(maps, record.labels, data.read_mask(record))
            energy = made.rows[name]["figures"]["energy"][record.id]
            assert energy == pytest.approx(np.nanmean(told.energy))


def test_means_and_areas_are_those_of_the_photos_and_the_curves(bench):
    made = bench(curve_images=5, images=9)
    assert (made.report["images"], made.report["curve images"]) == (9, 5)
    for row in made.rows.values():
        sizes = {measure: len(by_photo) for measure, by_photo in row["figures"].items()}
        assert sizes == {"insertion": 5, "deletion": 5, "pointing": 9, "energy": 9}
        for measure, mean in row["means"].items():
            assert mean == pytest.approx(np.mean([*row["figures"][measure].values()]))
        curves = made.report["curves"][row["map"]]
        for measure in WITHOUT_MASKS:
            area = np.trapezoid(curves[measure], curves["shares"])
            assert area == pytest.approx(row["means"][measure])


def test_all_maps_are_measured_on_the_same_photos_with_the_same_forward_passes(bench):
    made = bench(curve_steps=4)
    curves = made.report["curves"]
    pairs = sum(len(r.labels) for r in read_folder(made.folder / "data").split("train"))
    assert {curve["forward passes"] for curve in curves.values()} == {2 * 3 * pairs + 2 * 12}
    assert {len(curve["shares"]) for curve in curves.values()} == {5}
    for ends in (0, -1):  # the whole and the empty photo score the same under every map
        assert len({round(curve["insertion"][ends], 6) for curve in curves.values()}) == 1


def test_without_masks_insertion_and_deletion_are_measured(bench):
    made = bench(masks=False)
    assert made.report["rows"] == []
    assert {tuple(row["means"]) for row in made.rows.values()} == {tuple(WITHOUT_MASKS)}
    assert made.table.startswith("No mIoU, pointing or energy: no photo has a mask")
    header = next(row for row in made.table.splitlines() if row.startswith("method"))
    assert header.split() == ["method", *WITHOUT_MASKS]
    assert line(made.table, "grad_cam").count("*") == 2
    assert made.metrics["best"] == "getam"
    assert made.metrics["insertion"] == made.rows["getam"]["means"]["insertion"]
    by_chance = [made.rows[name] for name in ("grad_cam", *CONTROLS)]
    chance = compare._best({"rows": [], "maps": by_chance})
    assert chance == {"best": "none is clearly better than the controls"}
    assert not (made.folder / "curves.png").exists()
    assert (made.folder / "insertion_deletion.png").stat().st_size > 10_000


def test_masks_do_not_change_insertion_and_deletion(bench):
    with_masks = bench()
    without = bench(masks=False)
    for name, row in without.rows.items():
        for measure in WITHOUT_MASKS:
            assert row["figures"][measure] == with_masks.rows[name]["figures"][measure]


def test_no_curves_are_measured_if_none_are_asked_for(bench):
    made = bench(curve_images=0)
    assert made.report["curves"] == {}
    assert {tuple(row["means"]) for row in made.rows.values()} == {("pointing", "energy")}
    assert "insertion" not in made.table
    assert not (made.folder / "insertion_deletion.png").exists()


def test_one_photo_gives_figures_and_no_mark(bench):
    made = bench(images=1)
    assert "*" not in made.table
    assert "One photo gives no interval" in made.table


def empty(file: Path) -> None:
    write_label_png(file, 0 * read_mask(file))


def test_a_comparison_on_masks_without_a_class_is_refused(bench):
    with pytest.raises(UserError, match="masks of 12 photos of train show nothing but background"):
        bench(change=empty)


def test_figures_are_in_the_order_of_the_photos(bench, monkeypatch):
    """Whichever process was first."""
    backwards = lambda _: lambda calls: [f(*a, **k) for f, a, k in reversed([*calls])]  # noqa: E731
    monkeypatch.setattr(compare, "CHUNK", 3)
    made = bench()
    monkeypatch.setattr(compare, "workers", backwards)
    assert json.dumps(bench().report) == json.dumps(made.report)
