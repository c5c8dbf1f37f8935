"""Measures what corrected masks teach, and how often the interval of a sample covers the truth.

    python benchmarks/corrections.py --artifacts FOLDER --name RUN -o FOLDER

RUN is a finished run with deeplab.fixed_encoder on a data set that has masks. The masks stand for
corrections: of the photos most in doubt, or of photos drawn at random. For each number of them and
each seed the decoder is trained on the stored encoder features, and its answers on val are
measured, without mirrored photos and without dense CRF. The artifacts are only read. Lines that
FOLDER/lines.json has already are not measured again.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from getam.cache import ConfigView, Job  # noqa: E402
from getam.cache.pieces import begin  # noqa: E402
from getam.config.loading import load_config  # noqa: E402
from getam.data.ahead import batches  # noqa: E402
from getam.data.corrections import Corrections  # noqa: E402
from getam.data.images import image_size  # noqa: E402
from getam.data.masks import read_mask  # noqa: E402
from getam.data.transforms import letterbox_size, resize_maps  # noqa: E402
from getam.labels.own_classes import among  # noqa: E402
from getam.metrics.bootstrap import class_areas, miou_interval  # noqa: E402
from getam.metrics.segmentation import ConfusionMatrix  # noqa: E402
from getam.networks.build import load_network, network_build  # noqa: E402
from getam.networks.decoders import FixedEncoderDeepLab  # noqa: E402
from getam.running.datasets import open_index  # noqa: E402
from getam.running.opening import open_runner  # noqa: E402
from getam.view.table import text_table  # noqa: E402
from stages import deeplab  # noqa: E402
from stages.chain import chain  # noqa: E402
from stages.encoder_features import boxed, look, read_features  # noqa: E402

DRAWN, DRAWS = 50, 20  # photos of a sample, and samples


class Base(NamedTuple):
    """A finished run: its settings, its artifacts by stage, its data set, and where to work."""

    config: Any
    inputs: dict[str, Path]
    context: Any
    out: Path

    @property
    def data(self):
        return open_index(self.context, self.inputs.get("data"), self.config.data.classes)

    def split(self, name: str) -> list:
        return list(self.data.split(getattr(self.config.data, name)))


def open_base(artifacts: Path, name: str, out: Path) -> Base:
    told = json.loads((artifacts / "runs" / f"{name}.json").read_text())
    config = load_config(base=told["settings"])
    inputs = {stage: artifacts / stage / key for stage, key in told["keys"].items()}
    context = open_runner(chain, config, out / "artifacts", device="cpu", workers=1).context
    if "encoder_features" not in inputs:
        raise SystemExit(f"{name}: got a run without encoder_features; set deeplab.fixed_encoder.")
    return Base(config, inputs, context, out)


def train(base: Base, corrected: Sequence[str], seed: int, weight: float) -> tuple[Any, float]:
    """A network whose decoder learnt from masks of these photos, and its seconds of CPU."""
    masks = {record.id: record.mask for record in base.split("train")}
    base.context.corrections = Corrections(base.out, {i: masks[i] for i in corrected})
    index = base.context.index
    if index is not None:
        base.context.index = index.with_corrections(base.context.corrections)
    settings = base.config.model_dump(mode="json")
    settings["seed"], settings["deeplab"]["correction_weight"] = seed, weight
    folder = base.out / "network"
    shutil.rmtree(folder, ignore_errors=True)
    view = ConfigView("deeplab", settings)
    job = Job("deeplab", "", folder, base.inputs, view, base.context, begin(folder))
    started = time.process_time()
    deeplab.run(job)
    return load_network(folder), time.process_time() - started


def val_features(base: Base, network: Any) -> np.ndarray:
    """Encoder features of val, made once: the encoder is the same in all networks."""
    file = base.out / "val_features.npy"
    if not file.exists():
        settings, records = base.config.deeplab, base.split("val")
        photos = (boxed(network, record, settings) for record in records)
        parts = batches(photos, 8)
        np.save(file, np.concatenate([look(network, part, settings) for part in parts]))
    return np.load(file, mmap_mode="r", allow_pickle=False)


@torch.inference_mode()
def answers(base: Base, network: Any, split: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Each photo of a split, and its probabilities (K, H, W)."""
    side = network_build(base.inputs["deeplab"])["image_size"]
    decoder = FixedEncoderDeepLab(network).eval()
    of_val = val_features(base, network) if split == "val" else None
    for number, record in enumerate(base.split(split)):
        if of_val is None:
            features = read_features(base.inputs["encoder_features"], number)
        else:
            features = torch.from_numpy(of_val[number].astype(np.float32))
        size = image_size(record.image)
        square, (h, w) = letterbox_size(size, side, network.stride)
        soft = resize_maps(decoder(features[None]), (square, square)).softmax(1)
        yield record, resize_maps(soft[..., :h, :w], size)[0].numpy()


def final_mask(record: Any, probabilities: np.ndarray) -> np.ndarray:
    """The answer among background and the labels of the photo, without its pseudo label."""
    return among(probabilities, np.array([0, *(record.labels or ())])).argmax(0).astype(np.uint8)


def measure(base: Base, network: Any) -> dict[str, float]:
    """mIoU on val: of the network without labels, and of final masks."""
    free, final = (ConfusionMatrix(len(base.data.classes) + 1) for _ in range(2))
    for record, soft in answers(base, network, "val"):
        if record.mask is not None:
            mask = base.data.read_mask(record)
            free.update(soft.argmax(0).astype(np.uint8), mask)
            final.update(final_mask(record, soft), mask)
    return {"network": free.miou(), "final masks": final.miou()}


def doubtful(base: Base, network: Any, file: Path | None) -> list[str]:
    """The train photos, most doubtful first: of doubt.csv, or by a plain measure of doubt.

    The plain one is 1 - mIoU of final mask and pseudo label, which no true mask is in.
    """
    train = {record.id for record in base.split("train")}
    if file is not None:
        with open(file, newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["image"] in train]
        return [r["image"] for r in sorted(rows, key=lambda row: -float(row["doubt"]))]
    found = {}
    for record, soft in answers(base, network, "train"):
        both = ConfusionMatrix(len(base.data.classes) + 1)
        label = read_mask(base.inputs["pseudolabels"] / "labels" / f"{record.id}.png")
        both.update(final_mask(record, soft), label)
        found[record.id] = 1 - both.miou()
    return sorted(found, key=lambda i: -found[i])


def coverage(base: Base, network: Any, draws: int) -> dict[str, float]:
    """How often the interval of a random sample of final masks covers the mIoU of all of them."""
    areas = []
    for split in ("train", "val"):
        for record, soft in answers(base, network, split):
            if record.mask is not None:
                one = ConfusionMatrix(len(base.data.classes) + 1)
                one.update(final_mask(record, soft), base.data.read_mask(record))
                areas.append(class_areas(one))
    areas = np.stack(areas)
    truth, random = miou_interval(areas).value, np.random.default_rng(0)
    found = [
        miou_interval(areas[random.choice(len(areas), DRAWN, replace=False)]) for _ in range(draws)
    ]
    inside = [one.low <= truth <= one.high for one in found]
    width = float(np.mean([one.high - one.low for one in found]))
    return {"photos": len(areas), "truth": truth, "inside": sum(inside), "width": width}


def spread(values: Sequence[float]) -> str:
    half = 50 * (max(values) - min(values))
    return f"{100 * np.mean(values):.1f}" + (f" +- {half:.1f}" if len(values) > 1 else "")


def table(lines: dict[str, dict[str, float]]) -> str:
    """A row per choice of photos and weight, with the mean over the seeds."""
    groups: dict[str, list[dict[str, float]]] = {}
    for name, line in lines.items():
        groups.setdefault(name.rpartition(", ")[0], []).append(line)
    header = ["corrected photos", "network", "final masks", "CPU seconds", "seeds"]
    rows = [
        [
            name,
            *(spread([line[figure] for line in some]) for figure in ("network", "final masks")),
            f"{np.mean([line['seconds'] for line in some]):.0f}",
            str(len(some)),
        ]
        for name, some in groups.items()
    ]
    return text_table(header, rows)


def numbers(_: Any, __: Any, text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


@click.command(help=__doc__.partition("\n")[0])
@click.option("--artifacts", type=click.Path(path_type=Path), default="artifacts")
@click.option("--name", default="default", show_default=True, help="Name of the finished run.")
@click.option("-o", "out", type=click.Path(path_type=Path), required=True, help="Working folder.")
@click.option("--counts", default="0,10,50,200", show_default=True, callback=numbers)
@click.option("--seeds", default="0,1,2", show_default=True, callback=numbers)
@click.option("--weights", default="1", show_default=True, callback=numbers)
@click.option("--choices", default="doubtful,random", show_default=True)
@click.option("--doubt", type=click.Path(exists=True, path_type=Path), help="A doubt.csv.")
@click.option("--draws", default=DRAWS, show_default=True, help="Samples of 50 photos; 0: none.")
@click.option("--threads", default=1, show_default=True)
def main(artifacts, name, out, counts, seeds, weights, choices, doubt, draws, threads) -> None:
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    base = open_base(artifacts, name, out.absolute())
    file = out / "lines.json"
    lines = json.loads(file.read_text()) if file.exists() else {}
    orders: dict[str, list[str]] = {}

    def line(label: str, corrected: Sequence[str], seed: int, weight: float) -> None:
        key = f"{label}, seed {seed}"
        if key not in lines:
            network, seconds = train(base, corrected, seed, weight)
            lines[key] = {**measure(base, network), "seconds": seconds}
            file.write_text(json.dumps(lines, indent=1))
            click.echo(f"{key}: {lines[key]}", err=True)

    ids = sorted(record.id for record in base.split("train") if record.mask is not None)
    for seed in map(int, seeds):
        orders["random"] = np.random.default_rng(seed).permutation(ids).tolist()
        if "doubtful" in choices and "doubtful" not in orders:
            orders["doubtful"] = doubtful(base, load_network(base.inputs["deeplab"]), doubt)
        for count in map(int, counts):
            if not count:
                line("0", [], seed, 1)
                continue
            for choice in choices.split(","):
                for weight in weights:
                    label = f"{count} {choice}, weight {weight:g}"
                    line(label, orders[choice][:count], seed, weight)
    click.echo(table(lines))
    if draws:
        found = coverage(base, load_network(base.inputs["deeplab"]), draws)
        click.echo(
            f"interval of {DRAWN} photos: {found['inside']} of {draws} draws cover the mIoU of all "
            f"{found['photos']} final masks ({100 * found['truth']:.1f}); mean width "
            f"{100 * found['width']:.1f}"
        )


if __name__ == "__main__":
    main()
