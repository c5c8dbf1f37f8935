"""The folder of corrected masks that an import fills: looked at before, and written at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from getam.cache import atomic_write_bytes
from getam.data.corrections import CLASSES, SAMPLE, check_meaning, listed_classes
from getam.data.files import MASKS, find_files
from getam.data.index import DataIndex, Record
from getam.data.photo_lists import read_ids
from getam.errors import UserError


class Target:
    """A folder of masks ``ID.png``; ``masks`` are those that it has, ``sample`` its random sample.

    Args:
        photos: image id -> photo, of the whole data set.

    Raises:
        UserError: a file, the folder of the photos, or a list in it that does not fit.
    """

    def __init__(self, folder: Path, data: DataIndex, photos: Mapping[str, Record]) -> None:
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: got a file, expected a folder. Choose another one with -o.")
        self._refuse_photos(photos.values())
        self._classes, before = data.mask_classes or data.classes, listed_classes(folder)
        check_meaning(folder, before, self._classes)
        self.masks = find_files(folder, MASKS, nested=True)
        self._is_told = bool(before) or not self.masks
        listed = folder / SAMPLE
        self.sample = read_ids(listed, photos, "the data set") if listed.is_file() else []

    def _refuse_photos(self, photos: Iterable[Record]) -> None:
        """Refuse a folder that has photos of the data set, which masks would replace."""
        place = self.folder.resolve()
        for parent in {record.image.parent for record in photos}:
            if parent.resolve().is_relative_to(place):
                raise UserError(
                    f"{self.folder}: got the folder of the photos, where masks would replace them. "
                    f"Choose another one with -o, such as corrections."
                )

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """A hidden folder for masks, on the disk of the target. What fails leaves no new folder."""
        is_new = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".import-") as place:
                yield Path(place)
        finally:
            if is_new and not any(self.folder.iterdir()):
                self.folder.rmdir()

    def fill(self, made: Path, ids: Collection[str], sample: Iterable[str]) -> None:
        """Put masks into the folder; those that are in sub-folders stay there.

        The lists come first. A mask that an interrupted import leaves has its meaning, and no
        network learns from it if it is to measure.
        """
        self.sample = list(dict.fromkeys((*self.sample, *sample)))
        if self.sample:
            self._write(SAMPLE, self.sample)
        if self._is_told:  # else it has masks of which nobody wrote down what they mean
            self._write(CLASSES, self._classes)
        for image_id in ids:
            target = self.masks.get(image_id, self.folder / f"{image_id}.png")
            os.replace(made / f"{image_id}.png", target)

    def _write(self, name: str, lines: Iterable[str]) -> None:
        atomic_write_bytes(self.folder / name, "".join(f"{line}\n" for line in lines).encode())
