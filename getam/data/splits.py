"""The splits of a data folder: the lists in ``splits/``, or without them a stable division.

Without lists, the side of a photo depends on a hash of its id. So it keeps its side when other
photos come or go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from getam.data.files import is_hidden
from getam.data.index import Record
from getam.data.photo_lists import read_ids
from getam.errors import UserError, collected

IN_VAL = 0.2  # of the photos


def read_splits(
    folder: Path, photos: Mapping[str, Path], problems: list[str] | None = None
) -> dict[str, list[str]] | None:
    """Name -> image ids of each list in ``splits/``; None without the folder.

    Args:
        problems: gets each mistake in a list, whose line is then left out; None: it is raised.
    """
    if not folder.is_dir():
        return None
    files = sorted(f for f in folder.iterdir() if f.suffix == ".txt" and not is_hidden(f.name))
    lists = {}
    for file in files:
        with collected(problems):
            lists[file.stem] = read_ids(file, photos, "images/", problems=problems)
    return lists


def default_splits(
    photos: Iterable[str], labels: Mapping[str, Collection[str]]
) -> dict[str, list[str]]:
    """train and val: on average every fifth photo is in val, chosen by a hash of its id.

    A class of which no photo would be in train gets the one with the highest hash there. A class of
    which no photo would be in val gets the one with the lowest hash there, if train keeps a photo
    of each class without it.

    Args:
        labels: image id -> its class names; photos without labels may be missing.

    >>> {name: len(ids) for name, ids in default_splits(map(str, range(1000)), {}).items()}
    {'train': 788, 'val': 212}
    """
    places = {image_id: _place(image_id) for image_id in photos}
    val = {image_id for image_id, place in places.items() if place < IN_VAL}
    shown = _photos_by_class(places, labels)
    for ids in shown.values():
        if val.issuperset(ids):
            val.remove(max(ids, key=places.__getitem__))
    for ids in shown.values():
        if val.isdisjoint(ids):
            free = [i for i in ids if all(_keeps(shown[name], val, i) for name in labels[i])]
            if free:
                val.add(min(free, key=places.__getitem__))
    return {"train": [i for i in places if i not in val], "val": [i for i in places if i in val]}


def default_splits_note(lists: Mapping[str, Collection[str]]) -> list[str]:
    """What ``data`` says of a division that no list wrote down."""
    return [
        f"There is no folder splits/, so {len(lists['train'])} photos are in train and "
        f"{len(lists['val'])} in val, chosen by a hash of the id. A photo keeps its side "
        f"when others come or go. To write the lists down and change them yourself, add "
        f"--write-splits to this command."
    ]


def _photos_by_class(
    photos: Iterable[str], labels: Mapping[str, Collection[str]]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for image_id in photos:
        for name in sorted(set(labels.get(image_id, ()))):
            found.setdefault(name, []).append(image_id)
    return dict(sorted(found.items()))


def _keeps(ids: Iterable[str], val: Collection[str], image_id: str) -> bool:
    """Whether train keeps one of these photos without the photo ``image_id``."""
    return any(i != image_id and i not in val for i in ids)


def _place(image_id: str) -> float:
    """A number from 0 to 1 that is the same for this id on every machine."""
    digest = hashlib.sha256(image_id.encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def write_splits(root: Path, splits: Mapping[str, Iterable[Record]]) -> list[Path]:
    """Write ``splits/NAME.txt`` of each split of a data folder; returns the files.

    Raises:
        UserError: the folder ``splits`` exists, or cannot be written.
    """
    folder = root / "splits"
    files = {folder / f"{name}.txt": records for name, records in splits.items()}
    try:
        folder.mkdir()
        for file, records in files.items():
            file.write_text("".join(f"{record.id}\n" for record in records), encoding="utf-8")
    except FileExistsError:
        raise UserError(
            f"{folder}: this folder exists already, and --write-splits replaces no list. Remove "
            f"the folder first if you do not need its lists."
        ) from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}).") from None
    return [*files]
