"""Times the pseudo labels of many photos on a device, and beside them on one core.

    python benchmarks/label_stage.py [--device cuda] [--photos 600] [--json FILE]

Generated photos of 500 x 375 pixels in three shapes, with saliency maps and 1.5 classes on average;
each twentieth has no class. It writes them once, and then makes their labels with the functions of
the stage pseudolabels, files included. The share of equal pixels compares the two ways.

    device   the photos of one size together on the device; threads read and write (``on_device``)
    core     photo by photo, on one core, for the first --core-photos photos
    steps    the device's part alone; read, write: the threads' parts alone
    pamr     PAMR alone for a batch of 16, beside the time of its memory traffic: the weights are
             written once and read in ten iterations
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from labels import photo
from PIL import Image
from rounds import copy_bandwidth, peak_mib, wait

from getam.cache.pieces import begin
from getam.config.schema import PseudoLabels
from getam.data.alike import groups_of_alike
from getam.data.images import write_scores
from getam.data.index import Record
from getam.data.masks import read_mask
from getam.labels.pamr import DILATIONS, pamr
from getam.labels.photo_batch import Photo, batch_bytes, photo_bytes
from getam.labels.saliency import Saliency
from getam.maps.file import MapFile, merge_shards, write_shard
from getam.running.photo_work import OneByOne, on_device
from stages.pseudolabels import Labeller

GRID = (24, 24)
SHAPES = ((375, 500), (375, 500), (500, 375), (333, 500))  # H, W of each fourth photo
CLASSES = ((1,), (2,), (3, 5), (1, 4), (2,), (1, 3), (4,), (2, 5), (3,), (1, 2, 4))
DIFFERENT = 24  # photos with pixels of their own; the others repeat them


def make_photos(place: Path, count: int, scale: float) -> list[Record]:
    """Photos, saliency maps and ``maps.h5``; ``scale`` shrinks the photos for a quick run."""
    records, maps = [], []
    for n in range(count):
        height, width = (max(48, round(side * scale)) for side in SHAPES[n % 4])
        classes = () if n % 20 == 19 else CLASSES[n % len(CLASSES)]
        first = place / f"{n % DIFFERENT}.jpg"
        if n < DIFFERENT:
            image, found = photo(height, width, 3, seed=n)
            Image.fromarray(image).save(first, quality=90)
            write_scores(place / f"{n}.png", found.amax(0).numpy())
        _, own = photo(*GRID, max(1, len(classes)), seed=n)
        maps.append((str(n), np.array(classes, np.uint8), own.numpy()[: len(classes)]))
        saliency = place / f"{n % DIFFERENT}.png"
        records.append(Record(str(n), first, classes, None, saliency))
    write_shard(place / "0.h5", maps, GRID)
    merge_shards(place / "maps.h5", [place / "0.h5"], GRID, [*"abcde"], "", {})
    return records


def labeller(place: Path, name: str) -> Labeller:
    settings = PseudoLabels(opening=10)
    folder = place / name
    maps, saliency = MapFile(place / "maps.h5"), Saliency(["folder"], 0.5)
    return Labeller(maps, settings, saliency, folder / "labels", begin(folder))


def seconds(function: Callable[[], Any], device: str) -> float:
    wait(device)
    start = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - start


def exhaust(items: Iterable[Any]) -> None:
    for _ in items:
        pass


def measure(place: Path, records: list[Record], core: int, device: str, workers: int) -> dict:
    """Photos per second of both ways and of each part, and the share of equal pixels."""
    warm = labeller(place, "warm")  # libraries load and kernels compile on first use
    exhaust(on_device(warm, records[:40], device, workers))
    found: dict[str, Any] = {}
    together, alone = labeller(place, "together"), labeller(place, "alone")
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    whole = seconds(lambda: exhaust(on_device(together, records, device, workers)), device)
    found["peak GPU MiB"] = peak_mib(device)
    one = seconds(lambda: OneByOne(alone)(records[:core]), device)
    speeds = {"device": len(records) / whole, "core": core / one}
    speeds |= parts(together, records, device, workers)
    slowest = min(speeds[part] for part in ("steps", "read", "write"))
    ratios = {
        "device / core": speeds["device"] / speeds["core"],
        "device / its slowest part": speeds["device"] / slowest,
        "share of equal pixels": equal_pixels(place, records[:core]),
    }
    return {"ratios": ratios, "photos/s": speeds, **found}


def parts(made: Labeller, records: list[Record], device: str, workers: int) -> dict[str, float]:
    """Photos per second of the device's steps alone, of reading and of writing by all threads."""
    some = records[: max(40, 8 * workers)]
    with ThreadPoolExecutor(workers) as threads:
        photos: list[Photo] = []
        read = seconds(lambda: photos.extend(threads.map(made.read, some)), device)
        limit = batch_bytes(device)
        groups = [
            *groups_of_alike(
                photos,
                lambda photo: photo.inputs.kind,
                lambda photo: photo_bytes(photo.inputs, DILATIONS),
                limit,
                len(photos) * limit,
            )
        ]

        def steps() -> list:
            return [made.compute(group, device, at_once=True) for group in groups]

        labelled = [one for group in steps() for one in group]
        on_its_own = seconds(steps, device)
        write = seconds(lambda: exhaust(threads.map(made.write, labelled)), device)
    return {
        name: len(some) / t
        for name, t in zip(("steps", "read", "write"), (on_its_own, read, write))
    }


def equal_pixels(place: Path, records: list[Record]) -> float:
    same = []
    for record in records:
        ways = (place / way / "labels" / f"{record.id}.png" for way in ("alone", "together"))
        one, other = (read_mask(path) for path in ways)
        same.append((one == other).ravel())
    return float(np.concatenate(same).mean())


def measure_pamr(size: tuple[int, int], device: str, batch: int = 16, classes: int = 3) -> dict:
    """Milliseconds of PAMR per photo, and of its memory traffic at the speed of a copy."""
    image, maps = photo(*size, classes)
    images = torch.from_numpy(image).permute(2, 0, 1)[None].float().expand(batch, -1, -1, -1)
    inputs = images.contiguous().to(device), maps[None].expand(batch, -1, -1, -1).to(device)
    pamr(*inputs)
    best = min(seconds(lambda: pamr(*inputs), device) for _ in range(5))
    bandwidth = copy_bandwidth(device)
    traffic = 11 * 8 * len(DILATIONS) * size[0] * size[1] * 4
    return {
        "ms per photo": 1e3 * best / batch,
        "ms of its memory traffic": 1e3 * traffic / bandwidth,
        "copy GB/s, read and written": bandwidth / 1e9,
        "PAMR / its memory traffic": best / batch * bandwidth / traffic,
    }


@click.command(help=__doc__.partition("\n")[0])
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--photos", default=600, show_default=True)
@click.option("--core-photos", default=24, show_default=True, help="Photos labelled on one core.")
@click.option("--workers", default=os.cpu_count(), show_default=True, help="Threads of each kind.")
@click.option("--scale", default=1.0, show_default=True, help="Shrinks the photos.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(device, photos, core_photos, workers, scale, json_file) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        records = make_photos(place, photos, scale)
        found = measure(place, records, min(core_photos, photos), device, workers)
    size = tuple(max(48, round(side * scale)) for side in SHAPES[0])
    found["pamr"] = measure_pamr(size, device, 16 if device.startswith("cuda") else 1)
    found["settings"] = {
        "device": device,
        "photos": photos,
        "core photos": core_photos,
        "workers": workers,
        "scale": scale,
        "torch": torch.__version__,
    }
    for name, value in [*found["ratios"].items(), *found["pamr"].items()]:
        click.echo(f"{name:36} {value:10.4g}")
    for name, speed in found["photos/s"].items():
        click.echo(f"{name:36} {speed:10.4g} photos/s")
    if json_file:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
