"""CVAT's library: what we write it reads, what it writes we read, exact to the pixel."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from getam.exchange.coco_json import write_coco
from getam.exchange.voc_masks import write_cvat, write_voc
from tests.exchange.conftest import CLASSES, assert_same

datumaro = pytest.importorskip("datumaro", reason="no datumaro: pip install 'getam[annotation]'")
EMPTY = "ant_03"  # background alone
IGNORED = 255


def categories(dataset) -> list[str]:
    return [item.name for item in dataset.categories()[datumaro.AnnotationType.label].items]


def values_of(dataset) -> dict[int, int]:
    """Label of datumaro -> value in our masks, by the names of the classes."""
    ours = {"background": 0, "ignored": IGNORED, **{c: n for n, c in enumerate(CLASSES, 1)}}
    return {label: ours[name] for label, name in enumerate(categories(dataset))}


def drawn(item, values, size) -> np.ndarray:
    """The masks and polygons of an item in our values."""
    mask = np.zeros(size, np.uint8)
    for annotation in item.annotations:
        if annotation.type == datumaro.AnnotationType.mask:
            mask[np.asarray(annotation.image).astype(bool)] = values[annotation.label]
        elif annotation.type == datumaro.AnnotationType.polygon:
            coco = pytest.importorskip("pycocotools.mask")
            filled = coco.decode(coco.frPyObjects([list(annotation.points)], *size))[..., 0]
            mask[filled.astype(bool)] = values[annotation.label]
    return mask


def assert_read(dataset, masks, name_of=str):
    """datumaro has every photo, with our masks."""
    items, values = {item.id: item for item in dataset}, values_of(dataset)
    assert {name_of(name) for name in items} == set(masks)
    for name, item in items.items():
        ours = masks[name_of(name)]
        assert np.array_equal(drawn(item, values, ours.shape), ours), name


def test_datumaro_reads_our_voc_folder(own, tmp_path):
    write_voc(own.batch(), tmp_path / "voc")
    dataset = datumaro.Dataset.import_from(str(tmp_path / "voc"), "voc_segmentation")
    assert_read(dataset, own.masks)
    assert categories(dataset) == ["background", *CLASSES, "ignored"]
    for item in dataset:
        assert tuple(item.media.size) == own.masks[item.id].shape


def test_datumaro_reads_our_archive_for_cvat_without_a_shape_of_background(own, tmp_path):
    """CVAT refuses shapes of a class that its task has not, and no task has background."""
    (tmp_path / "cvat").mkdir()
    write_cvat(own.batch(), tmp_path / "cvat")
    with zipfile.ZipFile(tmp_path / "cvat" / "annotations.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    dataset = datumaro.Dataset.import_from(str(tmp_path / "unpacked"), "voc_segmentation")
    assert_read(dataset, own.masks)
    known = {label["name"] for label in json.loads((tmp_path / "cvat/labels.json").read_text())}
    names = categories(dataset)
    used = {names[a.label] for item in dataset for a in item.annotations}
    assert used == known


@pytest.mark.parametrize("tolerance", [None, 0])
def test_datumaro_reads_our_coco_folder(own, tmp_path, tolerance):
    write_coco(own.batch(), tmp_path / "coco", tolerance)
    dataset = datumaro.Dataset.import_from(str(tmp_path / "coco"), "coco_instances")
    assert_read(dataset, own.masks)


def their_dataset(own, names, order):
    """The masks as a data set of datumaro, its labels in another order, as in a task of CVAT."""
    labels = {name: n for n, name in enumerate(names)}
    ours = {0: "background", IGNORED: "ignored", **dict(enumerate(CLASSES, 1))}
    items = []
    for image_id in order:
        mask = own.masks[image_id]
        annotations = [
            datumaro.Mask(mask == value, label=labels[ours[value]], group=n, id=n)
            for n, value in enumerate(np.unique(mask[mask > 0]).tolist(), start=1)
        ]
        blank = np.zeros((*mask.shape, 3), np.uint8)
        media = datumaro.Image.from_numpy(data=blank, size=mask.shape)
        items.append(datumaro.DatasetItem(image_id, media=media, annotations=annotations))
    return datumaro.Dataset.from_iterable(items, categories=names)


REORDERED = ["ignored", "café", "background", "zebra", "ant", "person", "traffic light"]


@pytest.fixture
def by_cvat(tmp_path) -> str:
    """The label map of a task: CVAT puts background first and gives each label its own colour."""
    lines = [f"{name}:{40 * n},{250 - n},3::" for n, name in enumerate(REORDERED)]
    lines.insert(0, lines.pop(REORDERED.index("background")).split(":")[0] + ":0,0,0::")
    (tmp_path / "map.txt").write_text("\n".join(lines), encoding="utf-8")
    return str(tmp_path / "map.txt")


@pytest.mark.parametrize("own_colours", [False, True])
def test_we_read_the_voc_folder_of_datumaro(own, tmp_path, by_cvat, own_colours):
    names = REORDERED if own_colours else ["background", "ant", "café", *CLASSES[:2], "ignored"]
    dataset = their_dataset(own, names, own.masks)
    label_map = by_cvat if own_colours else "source"
    made = tmp_path / "made"
    dataset.export(str(made), "voc_segmentation", save_media=True, label_map=label_map)
    assert ("zebra:120,247,3::" in (made / "labelmap.txt").read_text()) == own_colours
    done = own.bring("cvat", made, tmp_path / "back")
    assert_same(tmp_path / "back", own.masks, without=(EMPTY,))
    assert any("1 photo is not annotated, 'ant_03' first" in note for note in done.notes)


def test_we_read_the_coco_file_of_datumaro_whose_masks_are_all_crowds(own, tmp_path):
    """CVAT marks each mask of its brush as a crowd. Read as COCO means it, all would be ignored."""
    dataset = their_dataset(own, REORDERED, reversed(own.masks))
    dataset.export(str(tmp_path / "made"), "coco_instances", save_media=False)
    (file,) = (tmp_path / "made" / "annotations").glob("*.json")
    assert {a["iscrowd"] for a in json.loads(file.read_text())["annotations"]} == {1}
    own.bring("coco", tmp_path / "made", tmp_path / "back")
    assert_same(tmp_path / "back", own.masks, without=(EMPTY,))


def test_sub_folders_of_a_task_become_ids_again(own, tmp_path, by_cvat):
    """A task that was made from the photos' own folders has their paths as names."""
    paths = {
        record.id: record.image.relative_to(own.root / "images").with_suffix("").as_posix()
        for records in own.data.splits.values()
        for record in records
    }
    dataset = their_dataset(own, REORDERED, own.masks)
    items = [item.wrap(id=paths[item.id]) for item in dataset]
    moved = datumaro.Dataset.from_iterable(items, categories=REORDERED)
    colours = {"cvat": {"label_map": by_cvat}, "coco": {}}
    for kind, name in (("cvat", "voc_segmentation"), ("coco", "coco_instances")):
        moved.export(str(tmp_path / kind), name, save_media=True, **colours[kind])
        own.bring(kind, tmp_path / kind, tmp_path / f"{kind}-back")
        assert_same(tmp_path / f"{kind}-back", own.masks, without=(EMPTY,))


@pytest.mark.parametrize("kind", ["cvat", "coco"])
def test_there_and_back_through_datumaro(own, tmp_path, kind):
    """Our export, read and written again by datumaro, as by a task in which nothing changes."""
    name = {"cvat": "voc_segmentation", "coco": "coco_instances"}[kind]
    if kind == "cvat":
        write_voc(own.batch(), tmp_path / "ours")
    else:
        write_coco(own.batch(), tmp_path / "ours")
    dataset = datumaro.Dataset.import_from(str(tmp_path / "ours"), name)
    exact = {"segmentation_mode": "mask"} if kind == "coco" else {}  # without it: rough polygons
    dataset.export(str(tmp_path / "theirs"), name, save_media=False, **exact)
    own.bring(kind, tmp_path / "theirs", tmp_path / "back")
    assert_same(tmp_path / "back", own.masks, without=(EMPTY,))
