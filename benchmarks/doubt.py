"""Judges by masks what is made without masks: doubt, and the settings that choose recommends.

    python benchmarks/doubt.py queue  --config ... --set data.root=FOLDER --artifacts DIR
    python benchmarks/doubt.py labels --copies DIR --draws 6 --config ... --set data.root=FOLDER
    python benchmarks/doubt.py plant  COPY --root FOLDER
    python benchmarks/doubt.py queue  --planted COPY/planted.csv --masks FOLDER \
        --set data.root=COPY ...
    python benchmarks/doubt.py choice --set-list KEY=V1,V2 ... --config ... --set ...

queue: runs the chain up to the stage doubt. It prints the rank correlation (Spearman) of the doubt
with 1 - IoU of the final mask, and how many of the worst tenth of the photos are in the first tenth
of the queue, compared with chance. The IoU of a photo is the mean over the classes that its mask or
its final mask shows; 1 if neither shows one. With --planted it also prints the share of the planted
tag errors in the first fifth of the queue, and of the order by the labels alone (review --labels).

labels: makes copies of the data folder with errors in their tags (plant), with the random seeds 0,
1, ..., and trains a classifier on each. It prints the share of the errors in the first fifth of the
order by the labels alone (review --labels), for each copy and in the mean. With a fixed encoder
this order depends on the classifier alone, so the stages between it and doubt are left out.

plant: copies a data folder without its masks, with links to its photos, and makes an error in the
tags of a tenth of the photos: a third each wrong (one tag exchanged), missing and extra.

choice: makes the pseudo labels for each value of the lists, starting from the given settings each
time. It prints what the command choose prints, the mIoU of the labels, and what the recommended
value loses in mIoU.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from getam.config.loading import load_config  # noqa: E402
from getam.config.schema import Config  # noqa: E402
from getam.data.ahead import batches  # noqa: E402
from getam.data.folder import read_folder  # noqa: E402
from getam.data.images import read_photo  # noqa: E402
from getam.data.index import DataIndex, Record  # noqa: E402
from getam.data.label_values import IGNORE  # noqa: E402
from getam.data.masks import read_mask  # noqa: E402
from getam.data.transforms import letterbox, normalise_images  # noqa: E402
from getam.labels.label_agreement import COUNTS, Agreement  # noqa: E402
from getam.labels.label_odds import held_out_expectation, label_errors, pooled  # noqa: E402
from getam.labels.readout import patch_grid  # noqa: E402
from getam.metrics.segmentation import ConfusionMatrix  # noqa: E402
from getam.networks.build import build_deeplab, normalisation  # noqa: E402
from getam.networks.encoder_outputs import outputs_of  # noqa: E402
from getam.networks.precision import autocast  # noqa: E402
from getam.running.commands.choose import SettingList, choose, recommended, table  # noqa: E402
from getam.running.opening import Chain, open_runner  # noqa: E402
from getam.view.lines import Reporter  # noqa: E402
from getam.view.table import percent  # noqa: E402
from stages.chain import chain, choice  # noqa: E402
from stages.shared import multi_hot  # noqa: E402

FIRST, FIFTH, BATCH = 0.1, 0.2, 8
KINDS = ("wrong", "missing", "extra")
TOLD = (("wrong",), ("missing",), ("extra",), ("wrong", "missing"), KINDS)
config_options = [
    click.option("--config", "configs", multiple=True, help="As of the command run."),
    click.option("--set", "assignments", multiple=True, help="As of the command run."),
    click.option("--artifacts", default="artifacts", type=click.Path(path_type=Path)),
    click.option("--workers", type=int, default=1, show_default=True),
]


def with_config(command):
    for option in config_options:
        command = option(command)
    return command


@click.group(help=__doc__.partition("\n\n")[0])
def main() -> None:
    pass


def made(stages: Chain, config: Config, artifacts: Path, workers: int) -> dict[str, Path]:
    """Run the stages; the folder of each."""
    report = Reporter(sys.stderr)
    options = {"workers": workers, "run_name": "benchmark", "report": report}
    runner = open_runner(stages, config, artifacts, **options)
    return runner.run(runner.plan())


def opened(config: Config) -> DataIndex:
    root = Path(config.data.root)
    return read_folder(root, root / config.data.saliency)


def loss_of(data: DataIndex, record: Record, final: np.ndarray) -> float:
    """1 - the mean IoU of the final mask of a photo."""
    mask = data.read_mask(record)
    final = np.where(mask == IGNORE, IGNORE, final)
    ious = []
    for label in range(1, len(data.classes) + 1):
        one, other = mask == label, final == label
        if one.any() or other.any():
            ious.append((one & other).sum() / (one | other).sum())
    return 1 - float(np.mean(ious)) if ious else 0.0


@main.command()
@with_config
@click.option("--planted", type=click.Path(path_type=Path), help="planted.csv of a planted copy.")
@click.option("--masks", type=click.Path(path_type=Path), help="Data folder that has the masks.")
def queue(configs, assignments, artifacts, workers, planted, masks) -> None:
    """Judge the order of doubt.csv by masks, and by planted tag errors."""
    config = load_config(configs, assignments)
    folders = made(chain, config, artifacts, workers)
    data = opened(load_config(base={"data": {"root": str(masks or config.data.root)}}))
    records = {r.id: r for split in data.splits.values() for r in split}
    rows = _read(folders["doubt"] / "doubt.csv")
    judged = [row for row in rows if records[row["image"]].mask is not None]
    finals = folders["predictions"] / "masks"
    losses = [
        loss_of(data, records[row["image"]], read_mask(finals / f"{row['image']}.png"))
        for row in judged
    ]
    if judged:
        _print_order([float(row["doubt"]) for row in judged], losses)
    if planted:
        by_labels = _read(folders["doubt"] / "label_errors.csv")
        kinds = {row["image"]: row["kind"] for row in _read(planted)}
        for order, of in ((rows, "the queue"), (by_labels, "the order by the labels alone")):
            _print_planted([row["image"] for row in order], kinds, of)


def _print_order(doubts: Sequence[float], losses: Sequence[float]) -> None:
    """Both in the order of the queue."""
    count = round(len(losses) * FIRST)
    worst = set(np.argsort(-np.array(losses), kind="stable")[:count])
    hits = len(worst & set(range(count)))
    click.echo(f"photos with a mask: {len(losses)}; mean 1 - IoU: {np.mean(losses):.3f}")
    click.echo(f"Spearman of doubt and 1 - IoU: {spearmanr(doubts, losses)[0]:.3f}")
    click.echo(f"worst tenth in the first tenth: {hits / count:.0%}, {hits / count / FIRST:.1f}x")


def _print_planted(order: Sequence[str], kinds: Mapping[str, str], of: str) -> None:
    for chosen in TOLD:
        count = sum(kind in chosen for kind in kinds.values())
        found = f"{_found(order, kinds, chosen):.0%} of {count}"
        click.echo(f"planted {' and '.join(chosen)}: {found} in the first fifth of {of}")


def _found(order: Sequence[str], kinds: Mapping[str, str], chosen: Sequence[str]) -> float:
    """The share of the photos with an error of the chosen kinds that are in the first fifth."""
    first = set(order[: round(len(order) * FIFTH)])
    images = [image for image, kind in kinds.items() if kind in chosen]
    return sum(image in first for image in images) / max(len(images), 1)


def _read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


@main.command()
@with_config
@click.option("--copies", required=True, type=click.Path(path_type=Path), help="Folder for them.")
@click.option("--draws", default=6, show_default=True)
def labels(configs, assignments, artifacts, workers, copies, draws) -> None:
    """Judge the order by the labels alone, by errors planted several times."""
    config = load_config(configs, assignments)
    if not config.deeplab.fixed_encoder or config.deeplab.weights != "classifier":
        raise click.UsageError("expected deeplab.fixed_encoder and the encoder of the classifier")
    shares = []
    for draw in range(draws):
        copy = copies / f"draw-{draw}"
        if not copy.exists():
            plant_errors(copy, Path(config.data.root), draw)
        here = load_config(configs, (*assignments, f"data.root={copy}"))
        classifier = made(lambda one: chain(one)[:1], here, artifacts, workers)["classifier"]
        kinds = {row["image"]: row["kind"] for row in _read(copy / "planted.csv")}
        order = order_by_labels(here, classifier)
        shares.append([_found(order, kinds, one) for one in TOLD])
        _print_shares(f"draw {draw}", shares[-1])
    _print_shares(f"mean of {draws}", np.mean(shares, axis=0))


def order_by_labels(config: Config, classifier: Path) -> list[str]:
    """The labelled photos in the order of label_errors.csv, as the stage doubt makes it."""
    data, settings = opened(config), config.deeplab
    both = {r.id: r for split in (config.data.train, config.data.val) for r in data.split(split)}
    records = [record for record in both.values() if record.labels is not None]
    network = build_deeplab(
        settings.encoder,
        1,
        settings.image_size,
        settings.encoder_args,
        channels=1,
        atrous_rates=(1, 1, 1),
        weights=str(classifier / "network.safetensors"),
    )
    side, statistics = settings.image_size, normalisation(network.eval())
    features = []
    for photos in batches(records, BATCH):
        boxed = [letterbox(read_photo(record), side, network.stride) for record in photos]
        squares = normalise_images(torch.stack([pixels for pixels, _ in boxed]), statistics)
        with autocast(config.predictions.precision, squares.device):
            found = outputs_of(network, squares)
        for n, (_, size) in enumerate(boxed):
            rows, columns = patch_grid(size, side / found.features.shape[2])
            both_blocks = (found.features, found.lower)
            features.append([pooled(one[n, :, :rows, :columns]) for one in both_blocks])
    tags = multi_hot(records, len(data.classes))
    inputs = np.stack([np.concatenate(one) for one in features])
    errors = label_errors(held_out_expectation(inputs, tags), tags).probability
    order = sorted(zip(records, errors), key=lambda pair: (-round(pair[1], 4), pair[0].id))
    return [record.id for record, _ in order]


def _print_shares(name: str, shares: Sequence[float]) -> None:
    told = (f"{' and '.join(kinds)} {share:.0%}" for kinds, share in zip(TOLD, shares))
    click.echo(f"{name}, planted errors in the first fifth: {', '.join(told)}")


@main.command()
@click.argument("copy", type=click.Path(path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--seed", default=0, show_default=True)
def plant(copy: Path, root: Path, seed: int) -> None:
    """Make COPY of the data folder --root, without masks and with errors in its tags."""
    plant_errors(copy, root, seed)


def plant_errors(copy: Path, root: Path, seed: int) -> None:
    copy.mkdir(parents=True)
    for name in ("images", "splits", "saliency", "classes.txt"):
        if (root / name).exists():
            (copy / name).symlink_to((root / name).absolute())
    index = read_folder(root)
    records = sorted((*index.labelled("train"), *index.labelled("val")), key=lambda one: one.id)
    classes = index.classes
    tags = {record.id: [classes[c - 1] for c in record.labels] for record in records}
    draw, errors = random.Random(seed), []
    for image in sorted(draw.sample([*tags], round(len(tags) / 10))):
        kind = draw.choice(KINDS) if tags[image] else "extra"
        absent = [name for name in classes if name not in tags[image]]
        if not absent:
            kind = "missing"
        if kind != "extra":
            tags[image].remove(draw.choice(tags[image]))
        if kind != "missing":
            tags[image].append(draw.choice(absent))
        errors.append((image, kind))
    _write(copy / "labels.csv", ("image", "classes"), ((i, ";".join(t)) for i, t in tags.items()))
    _write(copy / "planted.csv", ("image", "kind"), errors)
    click.echo(f"{copy}: {len(errors)} photos with an error in their tags")


def _write(path: Path, header: Sequence[str], rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@main.command()
@with_config
@click.option("--set-list", "lists", multiple=True, required=True, help="As of choose.")
def choice_by_masks(configs, assignments, artifacts, workers, lists) -> None:
    """Compare the agreement of settings with the mIoU of their pseudo labels."""
    config = load_config(configs, assignments)
    data = opened(config)
    records = [r for r in data.split(config.data.train) if r.mask is not None]
    mious: list[float] = []

    def measure(tried: Config) -> Agreement:
        folders = made(choice, tried, artifacts, workers)
        confusion = ConfusionMatrix(len(data.classes) + 1)
        for record in records:
            labels = read_mask(folders["pseudolabels"] / "labels" / f"{record.id}.png")
            confusion.update(labels, data.read_mask(record))
        mious.append(confusion.miou())
        return Agreement.load(folders["agreement"] / COUNTS)

    for one in map(SettingList.parse, lists):
        mious.clear()
        best, tried = choose(config, [one], measure)
        click.echo(table(tried, best))
        click.echo(f"mIoU of their pseudo labels: {', '.join(map(percent, mious))}")
        kept = mious[recommended(tried, best)]
        click.echo(f"the recommended one loses {percent(max(mious) - kept)}\n")


main.add_command(choice_by_masks, "choice")

if __name__ == "__main__":
    main()
