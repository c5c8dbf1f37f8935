"""A data set with everything that may go wrong between two programs, and a mask for each photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from getam.data.folder import read_folder
from getam.data.index import DataIndex
from getam.data.masks import read_mask
from getam.errors import UserError
from getam.exchange.batch import Batch, Labelled
from getam.exchange.copies import ORIENTATION
from getam.exchange.importing import Importer, class_names, photos_of

CLASSES = ("zebra", "traffic light", "café", "ant")  # in no order that a tool would choose
PHOTOS = {  # path below images/ -> (H, W) of the upright photo
    "zebra/01.jpg": (37, 53),
    "zebra/deep er/02.png": (40, 31),
    "café/01.jpg": (64, 48),  # turned by its EXIF orientation
    "café/größe.jpg": (1, 7),
    "ant/03.webp": (50, 50),
    "ant/v1.2.jpg": (33, 65),
    "traffic light/01.png": (21, 20),
}
TURNED = "café/01.jpg"


def masks() -> dict[str, np.ndarray]:
    """Photo -> mask: blobs with holes, islands and single pixels of all classes, and ignored."""
    rng, found = np.random.default_rng(0), {}
    for n, (path, size) in enumerate(PHOTOS.items()):
        mask = np.zeros(size, np.uint8)
        mask[size[0] // 5 : -1, size[1] // 4 : -2] = 1 + n % 4
        mask[size[0] // 3 : size[0] // 2, size[1] // 3 : size[1] // 2] = 0
        speckled = rng.random(size)
        mask[speckled > 0.97] = 1 + (n + 1) % 4
        mask[speckled < 0.03] = 255
        found[path] = mask
    found["café/größe.jpg"][0, 2:5] = 3
    found["ant/03.webp"][:] = 0  # background alone
    found["traffic light/01.png"][:] = 255
    return found


class Own:
    """The data set, its masks by id, and ways out of it and into it."""

    def __init__(self, root: Path) -> None:
        rng, self.root = np.random.default_rng(1), root
        for path, (height, width) in PHOTOS.items():
            file = root / "images" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            if path == TURNED:
                exif = Image.Exif()
                exif[ORIENTATION] = 6  # as shot: the file has to be turned by 90 degrees
                image.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)
            else:
                image.save(file)
        (root / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
        self.data: DataIndex = read_folder(root)
        self.masks = {
            path.rpartition(".")[0].replace("/", "_"): mask for path, mask in masks().items()
        }

    def batch(self, **more: object) -> Batch:
        records = photos_of(self.data).records
        photos = [
            Labelled(records[i], lambda i=i: self.masks[i])
            for i in sorted(self.masks, reverse=True)
        ]
        return Batch(self.data.classes, photos, "masks", **more)

    def bring(self, kind: str, file: Path, folder: Path, *renamed: str, **options: object):
        """Import a file; what was done."""
        sample = options.pop("sample", None)
        importer = Importer(self.data, class_names(self.data, renamed), **options)
        return importer.run(kind, file, folder, sample, iter)


@pytest.fixture(scope="session")
def own(tmp_path_factory) -> Own:
    return Own(tmp_path_factory.mktemp("own"))


def assert_same(folder: Path, masks: dict[str, np.ndarray], *, without: tuple[str, ...] = ()):
    """The folder has exactly these masks, pixel by pixel."""
    wanted = {f"{image_id}.png" for image_id in masks} - {f"{i}.png" for i in without}
    assert {p.name for p in folder.glob("*.png")} == wanted
    for name in wanted:
        assert Image.open(folder / name).mode == "P"
        made = read_mask(folder / name)
        assert np.array_equal(made, masks[name[:-4]]), name


def refused(own, kind, file, tmp_path, *parts, **options) -> str:
    """The import fails with one sentence that says all of ``parts``, and leaves no file behind."""
    with pytest.raises(UserError) as caught:
        own.bring(kind, file, tmp_path / "back", **options)
    told = str(caught.value)
    for part in parts:
        assert part in told, (part, told)
    assert "\n" not in told
    assert not [*(tmp_path / "back").glob("*")]
    assert not [*tmp_path.glob(".import-*")]
    return told
