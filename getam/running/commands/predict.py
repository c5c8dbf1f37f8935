"""predict: label images of new photos, with the network of a run or of a folder.

Photos are turned upright by their EXIF orientation, and so are their predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from getam.cache import atomic_write_json
from getam.config.schema import Config
from getam.data.ahead import read_ahead
from getam.data.files import IMAGES, is_hidden
from getam.data.images import read_image
from getam.data.intensity import Range
from getam.data.unread import unread_notes
from getam.errors import UserError
from getam.networks.build import load_network, network_build, network_classes, network_intensities
from getam.networks.inference import Segmenter, segment_tiles
from getam.networks.tiling import cut
from getam.running.commands.current import CurrentRun, Track, writes
from getam.running.commands.predicted import Finish, finished
from getam.running.context import Context
from getam.running.opening import Chain
from getam.view.overlay import fit

OVERLAY_SIDE = 1600  # pixels, at most


class Shown(NamedTuple):
    """The name of a photo, and its pixels as they are drawn under the labels."""

    name: str
    image: np.ndarray


def find_images(inputs: Sequence[Path], output: Path) -> dict[str, Path]:
    """Name -> file of every photo among files and folders (with their sub-folders).

    The name is that of the file without its suffix, in a folder with the path inside it. Earlier
    predictions under ``output`` are no input.

    Raises:
        UserError: nothing there, no photo in a folder, two photos of the same name.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for name, file in _photos(given, output):
            if name in found:
                raise UserError(
                    f"{file}: got the name {name!r} twice, {found[name]} has it too, and one "
                    f"prediction would replace the other. Rename one, or predict into two folders."
                )
            found[name] = file
    return found


def unread_files(inputs: Sequence[Path], output: Path) -> list[str]:
    """Notes about the files in the folders among ``inputs`` whose names do not end as photos do."""
    notes = []
    for folder in filter(Path.is_dir, inputs):
        others = [
            file.relative_to(folder).as_posix()
            for file in sorted(folder.rglob("*"))
            if file.suffix.lower() not in IMAGES
            and file.is_file()
            and not any(map(is_hidden, file.relative_to(folder).parts))
            and not file.resolve().is_relative_to(output.resolve())
        ]
        notes += unread_notes(folder.resolve(), others, IMAGES, nested=True)
    return notes


def _photos(given: Path, output: Path) -> list[tuple[str, Path]]:
    if not given.is_dir():
        if not given.exists():
            raise UserError(f"{given}: there is no such file or folder, expected photos.")
        if _is_ours(given, output):
            raise UserError(f"{given}: this photo is where predictions go. Choose another -o.")
        return [(given.stem, given)]
    files = (f for f in sorted(given.rglob("*")) if f.suffix.lower() in IMAGES and f.is_file())
    photos = [
        (file.relative_to(given).with_suffix("").as_posix(), file)
        for file in files
        if not any(map(is_hidden, file.relative_to(given).parts)) and not _is_ours(file, output)
    ]
    if not photos:
        raise UserError(f"{given}: got no photo in this folder, expected {', '.join(IMAGES)}.")
    return photos


def _is_ours(file: Path, output: Path) -> bool:
    """Whether the file is where predictions into ``output`` go."""
    folders = (output.resolve() / kind for kind in ("predictions", "overlays"))
    return any(file.resolve().is_relative_to(folder) for folder in folders)


def open_segmenter(
    chain: Chain, config: Config, network: Path | None, artifacts: Path, device: str | None
) -> tuple[Segmenter, tuple[str, ...], Range | None]:
    """The network of ``network``, or of the run of ``config``, its class names, and the intensity
    range of its photos: that of ``config`` before its own.

    Raises:
        UserError: the run has none yet, or the folder holds none.
    """
    folder = CurrentRun(chain, config, artifacts).network() if network is None else network
    if not (folder / "network.json").is_file() or not (folder / "network.safetensors").is_file():
        raise UserError(
            f"{folder}: got no network here, expected a folder with network.json and "
            f"network.safetensors such as artifacts/deeplab/KEY."
        )
    build = network_build(folder)
    if build["kind"] == "classifier":
        raise UserError(f"{folder}: got a classifier, expected a segmentation network.")
    settings = config.predictions
    loaded = load_network(folder, Context(wanted_device=device).device)
    segmenter = Segmenter(
        loaded, build["image_size"], settings.scales, settings.flip, settings.precision
    )
    intensities = config.data.intensity_range or network_intensities(folder)
    return segmenter, network_classes(folder), intensities


def predict(
    segmenter: Segmenter,
    classes: Sequence[str],
    photos: Mapping[str, Path],
    output: Path,
    *,
    tile: int,
    batch_size: int,
    crf: Mapping[str, Any] | None,
    intensities: Range | None = None,
    workers: int = 1,
    track: Track,
    say: Callable[[str], None],
) -> int:
    """Write ``predictions/NAME.png``, ``overlays/NAME.jpg`` and ``areas.json``; how many photos.

    A photo that cannot be read is said and left out; the others are still done. Threads read the
    next photos and write the last ones while the network computes; ``workers`` is how many.

    Raises:
        UserError: a photo could not be read, after all others; a place that cannot be written.
    """
    with writes(output):
        output.mkdir(parents=True, exist_ok=True)
    unread: list[str] = []
    readable = _readable(photos, intensities, unread, say, min(workers, batch_size))
    cuts = ((_shown(name, image), cut(image, tile)) for name, image in readable)
    found = segment_tiles(segmenter, cuts, segmenter.fitting(batch_size))
    done = finished(Finish(output, classes, crf), found, min(workers, len(photos)))
    with writes(output):
        tracked = track(done, total=len(photos))
        areas = [{"file": str(photos[told["name"]]), **told} for told in tracked]
        atomic_write_json(output / "areas.json", {"classes": list(classes), "images": areas})
    if unread:
        raise UserError(
            f"{len(unread)} of {len(photos)} photos could not be read, {unread[0]} first; the "
            f"others are in {output}."
        )
    return len(areas)


def _readable(
    photos: Mapping[str, Path],
    intensities: Range | None,
    unread: list[str],
    say: Callable[[str], None],
    readers: int,
) -> Iterator[tuple[str, np.ndarray]]:
    def read(name: str) -> np.ndarray | UserError:
        try:
            return read_image(photos[name], intensities)
        except UserError as error:
            return error

    for name, image in read_ahead(read, photos, readers, readers):
        if isinstance(image, UserError):
            say(str(image))
            unread.append(str(photos[name]))
        else:
            yield name, image


def _shown(name: str, image: np.ndarray) -> Shown:
    return Shown(name, fit(image, 1, OVERLAY_SIDE))
