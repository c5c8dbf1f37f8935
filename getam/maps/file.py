"""``maps.h5``: the maps of a data set on their patch grids, readable by plain h5py.

    maps          (M, h, w) float16   map / peak: one row per image and class, in [0, 1]
    peak          (M,)      float32   largest value of the un-normalised map (maps * peak)
    class_id      (M,)      uint8     1..C
    image_id      (N,)      str
    first         (N + 1,)  int64     rows first[n] to first[n + 1] belong to image n
    attributes    classes, method, settings (JSON), grid (h, w)

The values of un-normalised maps are products of gradients. They are often below 1e-7, too small
for float16. So each row is divided by its peak, and the peak is kept in float32.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from getam.errors import UserError

ROWS = ("maps", "peak", "class_id")
CONTENT = (*ROWS, "image_id", "first")


def open_maps(path: Path) -> h5py.File:
    """Open a file of maps to read it.

    HDF5 can show the content of another file as if it were in this one: through links, through
    raw data kept outside, and through virtual data sets. A file of maps needs none of them.

    Raises:
        UserError: the file cannot be read, a data set is missing, or its content is not in this
            file.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: cannot read these maps ({error}). Make them again.") from None
    for name in CONTENT:
        wrong = _wrong_with(file, name)
        if wrong:
            file.close()
            raise UserError(
                f"{path}: got {wrong} as {name!r}, expected a data set in this file. Make the maps "
                "again."
            )
    return file


def _wrong_with(file: h5py.File, name: str) -> str | None:
    link = file.get(name, getlink=True)
    if link is None:
        return "nothing"
    if not isinstance(link, h5py.HardLink):
        return "a link"
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        return "a group"
    return "data that lie in another file" if data.external or data.is_virtual else None


class MapFile:
    """Reads maps by image id. Opens the file on first use, again in each process it is sent to."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process = 0

    def __repr__(self) -> str:
        return f"MapFile({str(self.path)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_file": None, "_process": 0}

    @property
    def file(self) -> h5py.File:
        if self._file is None or self._process != os.getpid():
            file = open_maps(self.path)
            self._first = file["first"][:]
            self._number = {image_id: n for n, image_id in enumerate(file["image_id"].asstr()[:])}
            # Set these two last, because another thread may be running the same lines.
            self._process, self._file = os.getpid(), file
        return self._file

    @property
    def image_ids(self) -> list[str]:
        return list(self._number) if self.file else []

    @property
    def classes(self) -> list[str]:
        return list(self.file.attrs["classes"])

    def __contains__(self, image_id: str) -> bool:
        return bool(self.file) and image_id in self._number

    def read(self, image_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Class ids (K,) uint8, maps in [0, 1] (K, h, w) and peaks (K,) float32 of one image.

        Un-normalised maps are ``maps * peaks[:, None, None]``.

        Raises:
            UserError: the file has no such image.
        """
        file = self.file
        if image_id not in self._number:
            raise UserError(
                f"{self.path}: there are no maps of the photo {image_id!r} in this file. Use the "
                f"id of a photo of the train split."
            )
        number = self._number[image_id]
        rows = slice(self._first[number], self._first[number + 1])
        return file["class_id"][rows], file["maps"][rows].astype(np.float32), file["peak"][rows]


def write_shard(
    path: Path, images: Iterable[tuple[str, np.ndarray, np.ndarray]], grid: tuple[int, int]
) -> None:
    """Write images as (id, class ids (K,), un-normalised maps (K, h, w)) into one file."""
    images = list(images)
    counts = [len(ids) for _, ids, _ in images]
    maps = np.concatenate([np.zeros((0, *grid), np.float32), *(m for _, _, m in images)])
    class_ids = np.concatenate([np.zeros(0, np.uint8), *(ids for _, ids, _ in images)])
    peak = maps.max(axis=(1, 2), initial=0).astype(np.float32)
    safe = np.where(peak > 0, peak, 1)[:, None, None]
    with h5py.File(path, "w", track_order=True) as file:
        file["maps"] = (maps / safe).astype(np.float16)
        file["peak"] = peak
        file["class_id"] = class_ids.astype(np.uint8)
        file["first"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        file.create_dataset(
            "image_id", data=[i for i, _, _ in images], dtype=h5py.string_dtype("utf-8")
        )


def merge_shards(
    path: Path,
    shards: Sequence[Path],
    grid: tuple[int, int],
    classes: Sequence[str],
    method: str,
    settings: Mapping[str, Any],
) -> None:
    """Join shards into ``maps.h5``, in their order. Only one shard is in memory at a time."""
    with h5py.File(path, "w", track_order=True) as file:
        maps = {"maps": ((0, *grid), np.float16), "peak": ((0,), np.float32)}
        rows = {**maps, "class_id": ((0,), np.uint8)}
        for name, (shape, dtype) in rows.items():
            chunks = (64, *grid) if name == "maps" else (4096,)
            file.create_dataset(name, shape, dtype, maxshape=(None, *shape[1:]), chunks=chunks)
        ids: list[str] = []
        first = [np.zeros(1, np.int64)]
        for shard in shards:
            with open_maps(shard) as part:
                start, count = len(file["peak"]), len(part["peak"])
                for name in ROWS:
                    file[name].resize(start + count, axis=0)
                    file[name][start:] = part[name][:]
                ids += list(part["image_id"].asstr()[:])
                first.append(part["first"][1:] + start)
        file["first"] = np.concatenate(first)
        file.create_dataset("image_id", data=ids, dtype=h5py.string_dtype("utf-8"))
        file.attrs["classes"] = list(classes)
        file.attrs["grid"] = grid
        file.attrs["method"] = method
        file.attrs["settings"] = json.dumps(dict(settings), sort_keys=True)
