"""A data folder: ``images/``, a label table, and optional ``masks/ saliency/ splits/``.

images/ID.jpg|.jpeg|.png|...    the photos; ID is the file name without its suffix
labels.csv                      header ``image,classes`` (see ``getam.data.label_table``)
labels.json                     or this instead: {"ID": ["class name", ...], ...}
images/CLASS/.../NAME.jpg|...   or this: no table, one class per image, the name of the first
                                folder below images/; ID is the path with _ for /, and masks/
                                and saliency/ may have sub-folders as well
classes.txt                     one class name a line, ids 1..C in this order
                                (without it: the names in the table, in their natural order:
                                9 before 10)
splits/NAME.txt                 one ID a line (without the folder: every image is in
                                ``train`` or, on average every fifth, in ``val``; see
                                ``getam.data.splits``)
masks/ID.png                    palette or grey PNG, 0 background, 1..C, 255 ignore
saliency/ID.png                 grey, 0..255

Files and folders whose names begin with . or @ are passed over. Names and ids are compared in
Unicode form NFC.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from getam.data.class_names import (
    SEPARATORS,
    check_classes,
    check_name,
    clean_name,
    ordered,
    refuse_joined,
    refuse_truths,
)
from getam.data.files import IMAGES, MASKS, SALIENCY, clean_id, find_files, is_hidden, printable
from getam.data.index import DataIndex, Record
from getam.data.label_table import LabelTable, read_table
from getam.data.photo_lists import read_lines
from getam.data.splits import default_splits, default_splits_note, read_splits
from getam.data.unread import find_matching, left_out_note, unread_notes
from getam.errors import UserError, collected, raise_first

# Folders that divide photos, in the layouts of other projects. Where all are called so, none is a
# class; among other classes "train" is one.
PARTS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))

NUMBERED = (  # an id before a name, or after it
    re.compile(r"(?P<id>\d+)[\W_]+(?P<name>.+)"),
    re.compile(r"(?P<name>.+?)[\W_]+(?P<id>\d+)"),
)
NAMES = ("images", "labels.csv", "labels.json", "classes.txt", "splits", "masks", "saliency")


def read_folder(
    root: Path,
    saliency: Path | None = None,
    images: Sequence[Path] | None = None,
    problems: list[str] | None = None,
) -> DataIndex:
    """Index a data folder; opens no image.

    Args:
        saliency: folder of the saliency maps, instead of ``saliency/``.
        images: folders of the photos, instead of ``images/``.
        problems: gets each mistake in a line of the table or of a list, which is then left out.
            None: the first one is raised.

    Raises:
        UserError: a missing folder or table, a name in other case, an unknown class, a label or a
            split line for a photo that is not there, an id that leaves the folder.
    """
    root = Path(root)
    mistakes: list[str] = []
    _refuse_other_case(root)
    tables = [root / name for name in ("labels.csv", "labels.json") if (root / name).is_file()]
    if len(tables) == 2:
        raise UserError(f"{root}: got labels.csv and labels.json, expected one. Remove the other.")
    nested = not tables and _has_folders(root / "images")
    photos, notes, elsewhere = _photos(root, images, nested)
    masks, more = find_matching(root / "masks", MASKS, nested, photos, "masks")
    salient, other = find_matching(
        saliency or root / "saliency", SALIENCY, nested, photos, "saliency maps"
    )
    file = root / "images" if nested else tables[0] if tables else root / "labels.csv"
    listed = _read_class_list(root / "classes.txt")
    table = (
        _table_of_folders(file, photos)
        if nested
        else read_table(file, photos, listed, elsewhere, mistakes)
    )
    classes = listed or _classes_of(table, file, mistakes)
    if listed:
        _refuse_unknown(table, classes, file, mistakes)
    numbers = {name: number for number, name in enumerate(classes, start=1)}

    def record(image_id: str) -> Record:
        names = table.names.get(image_id)
        ids = {numbers[name] for name in names or () if name in numbers}
        labels = None if names is None else tuple(sorted(ids))
        return Record(
            image_id, photos[image_id], labels, masks.get(image_id), salient.get(image_id)
        )

    lists = read_splits(root / "splits", photos, mistakes)
    if lists is None:
        lists = default_splits(photos, table.names)
        notes += default_splits_note(lists)
    if problems is None:
        raise_first(mistakes)
    else:
        problems += mistakes
    splits = {name: [*map(record, ids)] for name, ids in lists.items()}
    used = {image_id for ids in lists.values() for image_id in ids}
    notes += [*more, *other, *table.notes, *left_out_note([*photos], used, "splits/")]
    return DataIndex(root, classes, splits, notes=tuple(notes))


def _refuse_other_case(root: Path) -> None:
    """A file such as ``Labels.CSV`` would be passed over without a word.

    Raises:
        UserError: there is one.
    """
    for name in sorted(os.listdir(root)) if root.is_dir() else ():
        wanted = name.lower()
        if wanted in NAMES and name != wanted and not (root / wanted).exists():
            raise UserError(f"{root}: {name} is there, expected {wanted}. Rename it to {wanted}.")


def _has_folders(folder: Path) -> bool:
    """Whether there are folders of photos in it."""
    return folder.is_dir() and any(
        entry.is_dir() for entry in os.scandir(folder) if not is_hidden(entry.name)
    )


def _photos(
    root: Path, folders: Sequence[Path] | None, nested: bool
) -> tuple[dict[str, Path], list[str], dict[str, str]]:
    """Id -> photo; what is not read; and id -> path of each photo in a folder that is not read."""
    found: dict[str, Path] = {}
    notes: list[str] = []
    elsewhere: dict[str, str] = {}
    for folder in folders or [root / "images"]:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: this folder is missing. Expected a data folder with {folder.name}/ and "
                f"labels.csv; set data.root to it."
            )
        unread: list[str] = []
        found |= find_files(folder, IMAGES, nested, unread)
        notes += unread_notes(folder, unread, IMAGES, nested)
        if not found and not folders:
            raise UserError(" ".join([f"{folder}: got no photos, expected some.", *notes]))
        deeper = [path for path in unread if "/" in path]
        elsewhere |= {clean_id(Path(path).stem): f"{folder.name}/{path}" for path in deeper}
    return found, notes, elsewhere


def _table_of_folders(images: Path, photos: Mapping[str, Path]) -> LabelTable:
    """The class of each photo: the first folder below ``images``."""
    paths = {image_id: path.relative_to(images).parts for image_id, path in photos.items()}
    loose = [parts[0] for parts in paths.values() if len(parts) == 1]
    if loose:
        raise UserError(
            f"{images}: got {len(loose)} photos beside folders, {printable(loose[0])!r} first, and "
            f"no labels.csv; expected every photo in the folder of its class. Move them there. Or "
            f"put all photos into images/ itself, and write their classes into a labels.csv."
        )
    names = {image_id: clean_name(parts[0]) for image_id, parts in paths.items()}
    if all(name.casefold() in PARTS for name in names.values()):
        raise UserError(
            f"{images}: its folders are {', '.join(sorted({*names.values()}))}, which are no "
            f"classes; without a labels.csv expected a folder of each class. Put the folders of "
            f"the classes into images/ itself. To keep the division, list the photos as "
            f"CLASS/NAME.jpg in splits/train.txt and splits/val.txt."
        )
    used = {parts[0] for parts in paths.values()}
    folders = (e.name for e in os.scandir(images) if e.is_dir() and not is_hidden(e.name))
    notes = [
        f"{images.name}/: the folder {printable(name)!r} has no photo that is read, so it is no "
        f"class."
        for name in sorted(set(folders) - used)
    ]
    return LabelTable({image_id: [name] for image_id, name in names.items()}, notes)


def _read_class_list(file: Path) -> tuple[str, ...]:
    """The lines of ``classes.txt``; none without it."""
    if not file.is_file():
        return ()
    return check_classes([clean_name(name) for _, name in read_lines(file)], file)


def _classes_of(table: LabelTable, file: Path, problems: list[str]) -> tuple[str, ...]:
    """The classes in the table, without those that no class may be called."""
    names = ordered({name for some in table.names.values() for name in some})
    if file.is_file():
        with collected(problems):
            refuse_truths(names, file)
        with collected(problems):
            refuse_joined(names, file)
    fit = []
    for name in names:
        with collected(problems):
            check_name(name, file)
            fit.append(name)
    return check_classes(fit, file) if fit or not problems else ()


def _refuse_unknown(
    table: LabelTable, classes: Sequence[str], file: Path, problems: list[str]
) -> None:
    """Each name in the table that is no class is a problem, at the first photo that has it."""
    first: dict[str, str] = {}
    for image_id, names in table.names.items():
        for name in names:
            first.setdefault(name, image_id)
    unknown = [name for name in first if name not in classes]
    if not {*_without_ids(classes)}.isdisjoint(unknown):
        with collected(problems):
            raise UserError(
                f"{file.parent / 'classes.txt'}: got {classes[0]!r} and so on, while the label "
                f"table has the class {unknown[0]!r}; expected the names alone. Sort the lines by "
                f"their numbers, and delete the numbers: the first line has the id 1."
            )
        return
    for name in unknown:
        with collected(problems):
            raise UserError(_unknown_class(file, first[name], name, classes))


def _without_ids(classes: Sequence[str]) -> list[str]:
    """The names in lines that each have an id, counted from 0 or 1; none if they are others.

    >>> _without_ids(["1 cat", "2 dog"]), _without_ids(["dog,1", "cat,0"])
    (['cat', 'dog'], ['dog', 'cat'])
    >>> _without_ids(["route 66", "route 67"]), _without_ids(["part 1", "part 2"])
    ([], [])
    """
    for pattern in NUMBERED:
        found = [match for name in classes if (match := pattern.fullmatch(name))]
        ids, names = [int(match["id"]) for match in found], {match["name"] for match in found}
        counted = ids and sorted(ids) in ([*range(len(classes))], [*range(1, len(classes) + 1)])
        if counted and len(names) == len(classes):
            return [match["name"] for match in found]
    return []


def _unknown_class(file: Path, image_id: str, name: str, classes: Sequence[str]) -> str:
    joined = classes[0]
    if len(classes) == 1 and name in map(clean_name, SEPARATORS.split(joined)):
        return (
            f"{file.parent / 'classes.txt'}: got {joined!r} as one class, while the label table "
            f"has the class {name!r}; expected one class a line. Write each name in a line of "
            f"its own."
        )
    near = difflib.get_close_matches(name, classes, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "Add it to classes.txt or mend the table."
    return (
        f"{file}: photo {image_id!r} has the class {name!r}, expected one of classes.txt "
        f"({', '.join(classes)}). {hint}"
    )
