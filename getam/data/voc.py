"""PASCAL VOC 2012: the official tree, and SBD's further masks.

JPEGImages/ID.jpg                       the photos
Annotations/ID.xml                      objects with their class: the image-level labels
ImageSets/Segmentation/NAME.txt         train, val, trainval, test; train_aug is put there
SegmentationClass/ID.png                masks, palette PNG
SegmentationClassAug/ID.png             masks made from SBD, for train_aug

A mask of SegmentationClass goes before one of SegmentationClassAug. An image without an
annotation (the test images) is not labelled. Of a list with several columns the first counts,
and of a path in it the file name without its suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from getam.cache import in_threads
from getam.data.files import MASKS, SALIENCY, find_files, is_hidden
from getam.data.index import DataIndex, Record
from getam.data.photo_lists import read_ids
from getam.data.unread import find_matching, unread_notes
from getam.errors import UserError

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
SIZES = {"train": 1464, "train_aug": 10582, "val": 1449, "trainval": 2913, "test": 1456}
LISTS = "ImageSets/Segmentation"
RESULTS = "results/VOC2012/Segmentation/comp6_test_cls"  # in the archive for the server

_NUMBERS = {name: number for number, name in enumerate(CLASSES, start=1)}
_OFFICIAL = "It is in VOCtrainval_11-May-2012.tar (host.robots.ox.ac.uk/pascal/VOC/voc2012)."
_HINTS = {
    "train": _OFFICIAL,
    "val": _OFFICIAL,
    "trainval": _OFFICIAL,
    "test": "It is in the VOC 2012 test archive, which the evaluation server "
    "(host.robots.ox.ac.uk:8080) gives to registered users.",
    "train_aug": f"The 10,582 ids are no part of VOC: they are those of SegmentationClassAug/ "
    f"(SBD's masks as PNG, shared with most DeepLab code; SBD itself: "
    f"torchvision.datasets.SBDataset) without those of val. Put them into {LISTS}/train_aug.txt, "
    f"one a line, or set data.train: train.",
}


def read_voc(
    root: Path,
    saliency: Path | None = None,
    splits: Sequence[str] | None = None,
    difficult: bool = True,
) -> DataIndex:
    """Index a VOC tree; opens no image.

    Args:
        root: the folder that has ``JPEGImages`` (``VOCdevkit/VOC2012``).
        saliency: folder of saliency maps ID.png; without it ``root/saliency``.
        splits: the lists to read; without it all that are there.
        difficult: whether an object marked as difficult counts as a label.

    Raises:
        UserError: a missing folder or image, or an annotation that is not as VOC's.
    """
    root = Path(root)
    unread: list[str] = []
    photos = find_files(root / "JPEGImages", (".jpg",), unread=unread)
    if not photos:
        raise UserError(
            f"{root / 'JPEGImages'}: there are no images. Set data.root to the folder VOC2012 of "
            f"the unpacked VOCtrainval_11-May-2012.tar."
        )
    notes = unread_notes(root / "JPEGImages", unread, (".jpg",))
    masks: dict[str, Path] = {}
    for name in ("SegmentationClassAug", "SegmentationClass"):
        some, more = find_matching(root / name, MASKS, False, photos, "masks")
        masks, notes = masks | some, notes + more
    salient, more = find_matching(
        saliency or root / "saliency", SALIENCY, False, photos, "saliency maps"
    )
    annotations = find_files(root / "Annotations", (".xml",))
    lists = {
        file.stem: read_ids(file, photos, "JPEGImages", _id)
        for file in sorted((root / LISTS).glob("*.txt"))
        if not is_hidden(file.name) and (splits is None or file.stem in splits)
    }
    used = list(dict.fromkeys(image_id for ids in lists.values() for image_id in ids))
    found = [image_id for image_id in used if image_id in annotations]
    read = in_threads(lambda i: _labels(annotations[i], difficult), found)
    labels = dict(zip(found, read))

    def record(i: str) -> Record:
        return Record(i, photos[i], labels.get(i), masks.get(i), salient.get(i))

    records = {name: [*map(record, ids)] for name, ids in lists.items()}
    return DataIndex(
        root,
        CLASSES,
        records,
        lists=LISTS,
        results=RESULTS,
        hints=_HINTS,
        notes=(*notes, *more),
    )


def _id(line: str) -> str:
    return PurePosixPath(line.split()[0]).stem


def _labels(file: Path, difficult: bool) -> tuple[int, ...]:
    """The class ids of an annotation. Parts of an object (a person's head) are no objects."""
    names = set()
    for thing in _parse(file).iterfind("object"):
        if difficult or (thing.findtext("difficult") or "0").strip() == "0":
            names.add((thing.findtext("name") or "").strip())
    unknown = sorted(names - _NUMBERS.keys())
    if unknown:
        raise UserError(
            f"{file}: got an object of class {unknown[0]!r}, expected one of VOC's "
            f"({', '.join(CLASSES)})."
        )
    return tuple(sorted(_NUMBERS[name] for name in names))


def _parse(file: Path) -> ElementTree.Element:
    """An XML file that declares nothing: without a document type there are no entities."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if "<!DOCTYPE" in text:
            raise UserError(f"{file}: got a document type, expected a plain VOC annotation.")
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file}: cannot read this annotation ({error}). Unpack it again from the archive."
        ) from None
