"""Content digests: each byte read once, and never a stale answer."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from getam.cache import CacheError, FileDigests
from getam.cache import file_digests as module


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read, in order."""
    names: list[str] = []
    original = module._hash

    def counting(path: Path):
        names.append(Path(path).name)
        return original(path)

    monkeypatch.setattr(module, "_hash", counting)
    return names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    return path


def test_digests_are_those_of_the_content_in_the_order_asked(tmp_path: Path) -> None:
    contents = {tmp_path / f"{i}": bytes([i]) * (i * 400_000) for i in (3, 0, 7, 1)}
    for path, content in contents.items():
        path.write_bytes(content)
    digests = FileDigests(None).digest(contents)
    assert list(digests) == list(contents)
    assert digests == {p: hashlib.sha256(c).hexdigest() for p, c in contents.items()}


@pytest.mark.usefixtures("settled_at_once")
class TestMemory:
    def test_unchanged_file_is_read_once(self, file: Path, tmp_path: Path, reads: list) -> None:
        first = FileDigests(tmp_path / "memory")
        expected = first.digest([file])
        assert first.digest([file]) == expected
        first.save()
        assert FileDigests(tmp_path / "memory").digest([file]) == expected
        assert reads == ["a.bin"]

    def test_moved_folder_is_not_read_again(self, file: Path, tmp_path: Path, reads: list) -> None:
        first = FileDigests(tmp_path / "memory")
        first.digest([file])
        file.parent.rename(tmp_path / "moved")
        first.digest([tmp_path / "moved" / "a.bin"])
        assert reads == ["a.bin"]

    def test_same_size_edit_with_the_mtime_set_back_is_seen(self, file: Path, reads: list) -> None:
        digests = FileDigests(None)
        before, stat = digests.digest([file]), file.stat()
        file.write_bytes(b"abd")
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert digests.digest([file]) != before
        assert len(reads) == 2

    def test_file_replaced_by_one_of_the_same_size_and_mtime_is_seen(self, file: Path) -> None:
        digests = FileDigests(None)
        before, stat = digests.digest([file]), file.stat()
        other = file.with_name("b.bin")
        other.write_bytes(b"xyz")
        os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        other.replace(file)
        assert digests.digest([file]) != before

    def test_reread_reads_whatever_is_remembered(self, file: Path, reads: list) -> None:
        digests = FileDigests(None)
        digests.digest([file])
        digests.digest([file], reread=True)
        assert len(reads) == 2

    @pytest.mark.parametrize("damage", ["cut", "flip", "empty", "junk"])
    def test_damaged_memory_is_rebuilt(self, file: Path, tmp_path: Path, damage: str) -> None:
        memory = tmp_path / "memory"
        first = FileDigests(memory)
        expected = first.digest([file])
        first.save()
        whole = memory.read_bytes()
        flipped = whole[:-1] + bytes([whole[-1] ^ 1])
        memory.write_bytes(
            {"cut": whole[:-9], "flip": flipped, "empty": b"", "junk": b"\xff\x00"}[damage]
        )
        again = FileDigests(memory)
        assert again.digest([file]) == expected
        again.save()
        assert memory.read_bytes() == whole

    def test_memory_does_not_grow_without_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_REMEMBERED", 3)
        for number in range(8):
            path = tmp_path / f"{number}"
            path.write_bytes(b"x")
            digests = FileDigests(tmp_path / "memory")
            digests.digest([path])
            digests.save()
        lines = (tmp_path / "memory").read_text().splitlines()
        assert len(lines) == 1 + 3 + 1  # checksum, former files, the file in use

    def test_nothing_learnt_writes_nothing(self, file: Path, tmp_path: Path) -> None:
        first = FileDigests(tmp_path / "memory")
        first.digest([file])
        first.save()
        (tmp_path / "memory").chmod(0o444)
        before = (tmp_path / "memory").stat()
        again = FileDigests(tmp_path / "memory")
        again.digest([file])
        again.save()
        assert (tmp_path / "memory").stat() == before


def test_file_that_may_still_change_unseen_is_not_remembered(file: Path, reads: list) -> None:
    """Two edits within one tick of the clock leave the same timestamps."""
    digests = FileDigests(None)
    digests.digest([file])
    digests.digest([file])
    assert len(reads) == 2


def test_file_that_changes_while_it_is_read_is_an_error(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.identity
    names = iter(["before", "after"])
    monkeypatch.setattr(module, "identity", lambda stat: original(stat) + next(names, ""))
    with pytest.raises(CacheError, match=r"a\.bin changed while it was read"):
        FileDigests(None).digest([file], reread=True)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"gone\.png cannot be read \(No such file"):
        FileDigests(None).digest([tmp_path / "gone.png"])


def test_save_leaves_a_write_protected_folder_alone(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled_at_once: None
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    digests = FileDigests(tmp_path / "new" / "memory")
    digests.digest([file])
    digests.save()
    assert not (tmp_path / "new").exists()
