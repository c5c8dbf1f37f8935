"""``maps.h5``: what is written comes back, and nothing is read from another file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from getam.errors import UserError
from getam.maps.file import CONTENT, MapFile, merge_shards, write_shard

GRID = (2, 3)
MAPS = np.arange(12, dtype=np.float32).reshape(2, *GRID)


@pytest.fixture
def shard(tmp_path) -> Path:
    images = [("cat", np.array([1, 2], np.uint8), MAPS), ("none", np.zeros(0, np.uint8), MAPS[:0])]
    write_shard(tmp_path / "0.h5", images, GRID)
    return tmp_path / "0.h5"


def merge(folder: Path, shard: Path) -> Path:
    merge_shards(folder / "maps.h5", [shard], GRID, ["a", "b"], "getam", {})
    return folder / "maps.h5"


def test_maps_come_back_by_image(tmp_path, shard):
    file = MapFile(merge(tmp_path, shard))
    ids, maps, peaks = file.read("cat")
    assert ids.tolist() == [1, 2]
    np.testing.assert_allclose(maps * peaks[:, None, None], MAPS, atol=0.01)
    assert len(file.read("none")[0]) == 0
    assert file.classes == ["a", "b"]


def other_file(folder: Path, content: np.ndarray) -> Path:
    """Somebody's file, which must not be read."""
    with h5py.File(folder / "secret.h5", "w") as file:
        file["secret"] = content
    (folder / "secret.raw").write_bytes(np.ascontiguousarray(content).tobytes())
    return folder / "secret.h5"


def by_external_link(file: h5py.File, name: str, secret: Path, content: np.ndarray) -> None:
    file[name] = h5py.ExternalLink(str(secret), "/secret")


def by_soft_link(file: h5py.File, name: str, secret: Path, content: np.ndarray) -> None:
    """Inside the file, to a link that leads out of it."""
    file["way/out"] = h5py.ExternalLink(str(secret), "/secret")
    file[name] = h5py.SoftLink("/way/out")


def by_raw_data(file: h5py.File, name: str, secret: Path, content: np.ndarray) -> None:
    raw = [(str(secret.with_suffix(".raw")), 0, content.nbytes)]
    file.create_dataset(name, content.shape, content.dtype, external=raw)


def by_virtual_data(file: h5py.File, name: str, secret: Path, content: np.ndarray) -> None:
    layout = h5py.VirtualLayout(content.shape, content.dtype)
    layout[:] = h5py.VirtualSource(str(secret), "secret", content.shape)
    file.create_virtual_dataset(name, layout)


WAYS_OUT = {
    by_external_link: "got a link as",
    by_soft_link: "got a link as",
    by_raw_data: "got data that lie in another file as",
    by_virtual_data: "got data that lie in another file as",
}


@pytest.mark.parametrize("name", [name for name in CONTENT if name != "image_id"])
@pytest.mark.parametrize("leave", WAYS_OUT)
def test_maps_that_lie_in_another_file_are_refused(leave, name, tmp_path, shard):
    path = merge(tmp_path, shard)
    with h5py.File(path, "r+") as file:
        content = file[name][:]
        del file[name]
        leave(file, name, other_file(tmp_path, content), content)
    with h5py.File(path) as file:  # the other file is read where nobody looks
        np.testing.assert_array_equal(file[name][:], content)
    complaint = rf"maps\.h5: {WAYS_OUT[leave]} '{name}', expected a data set in this file"
    with pytest.raises(UserError, match=complaint):
        MapFile(path).read("cat")


def test_shards_that_lie_in_another_file_are_refused(tmp_path, shard):
    with h5py.File(shard, "r+") as file:
        content = file["maps"][:]
        del file["maps"]
        by_external_link(file, "maps", other_file(tmp_path, content), content)
    with pytest.raises(UserError, match=r"0\.h5: got a link as 'maps'"):
        merge(tmp_path, shard)


@pytest.mark.parametrize("name", CONTENT)
def test_missing_maps_are_one_sentence(name, tmp_path, shard):
    path = merge(tmp_path, shard)
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(UserError, match=f"got nothing as '{name}'"):
        MapFile(path).read("cat")


def test_a_file_that_is_no_hdf5_is_one_sentence(tmp_path):
    (tmp_path / "maps.h5").write_bytes(b"not maps")
    with pytest.raises(UserError, match=r"maps\.h5: cannot read these maps"):
        MapFile(tmp_path / "maps.h5").read("cat")
