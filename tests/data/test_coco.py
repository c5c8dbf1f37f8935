"""A COCO folder: masks and labels made from its annotations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from getam.config.loading import load_config
from getam.data.check import check
from getam.data.coco import read_coco, read_coco_photos, read_instances
from getam.data.coco_outlines import draw_mask
from getam.data.folder import read_folder
from getam.data.palette import voc_palette
from getam.errors import UserError
from getam.running.opening import open_runner
from pipeline import main
from stages.chain import chain
from tests.conftest import TINY
from tests.trees import make_coco

pycocotools = pytest.importorskip("pycocotools.coco")

PERSON, DOG, LIGHT = 1, 3, 2  # by rising category id: 1, 18, 10
SPLITS = ("data.kind=coco", "data.train=train2014", "data.val=val2014")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("coco")
    make_coco(place / "coco")
    return place


@pytest.fixture(scope="module")
def photos(place):
    return read_instances(place / "coco" / "annotations" / "instances_train2014.json")


def settings(root: Path, *more: str) -> tuple[str, ...]:
    return (*SPLITS, f"data.root={root}", "pseudolabels.saliency=none", *TINY, *more)


@pytest.fixture(scope="module")
def made(place) -> Path:
    """What the data stage makes of the annotations; the chain on it is in test_miniatures."""
    sets = [word for setting in settings(place / "coco") for word in ("--set", setting)]
    words = ("run", "--until", "data", "--workers", "1", "--artifacts", str(place / "artifacts"))
    done = CliRunner().invoke(main, [*words, *sets])
    assert done.exit_code == 0, done.output
    return next(p for p in (place / "artifacts" / "data").iterdir() if p.is_dir())


def draw(photos, number: int) -> np.ndarray:
    return draw_mask(photos.photos[number].annotations, photos.photos[number].size, photos.numbers)


def test_masks_equal_the_rendering_of_pycocotools(place, photos):
    """Each annotation as COCO.annToMask fills it, later ones over earlier ones, crowds below."""
    file = place / "coco" / "annotations" / "instances_train2014.json"
    coco = pycocotools.COCO(str(file))
    numbers = {category: n for n, category in enumerate(sorted(coco.getCatIds()), start=1)}
    for n, image_id in enumerate(coco.getImgIds()):
        image = coco.loadImgs(image_id)[0]
        expected = np.zeros((image["height"], image["width"]), np.uint8)
        for crowds in (1, 0):
            for annotation in coco.loadAnns(coco.getAnnIds(image_id, iscrowd=crowds)):
                if annotation["segmentation"]:
                    value = 255 if crowds else numbers[annotation["category_id"]]
                    expected[coco.annToMask(annotation) == 1] = value
        assert (draw(photos, n) == expected).all(), image["file_name"]


def test_classes_follow_the_category_ids(photos):
    assert photos.classes == ("person", "traffic light", "dog")
    assert photos.numbers == {1: PERSON, 10: LIGHT, 18: DOG}


def test_a_later_object_lies_over_an_earlier_one_and_a_crowd_below_all(photos):
    overlap, crowded = draw(photos, 0), draw(photos, 1)
    assert overlap[20, 8] == DOG
    assert overlap[20, 15] == PERSON
    assert crowded[5, 5] == 255
    assert crowded[15, 15] == DOG


def test_labels_count_crowds_and_objects_without_an_outline(photos):
    labels = [*photos.labels().values()]
    assert labels[:5] == [
        ["person", "dog"],
        ["person", "dog"],
        ["dog"],
        [],
        ["person", "traffic light"],
    ]
    assert set(np.unique(draw(photos, 4))) == {0, LIGHT}


def test_what_the_data_stage_makes_is_a_data_folder_without_images(made, place, photos):
    folders = [place / "coco" / name for name in ("train2014", "val2014")]
    index = read_folder(made, images=folders)
    records = index.split("train2014")
    assert [r.id for r in records] == [photo.id for photo in photos.photos]
    assert [r.labels for r in records[:4]] == [(PERSON, DOG), (PERSON, DOG), (DOG,), ()]
    for n, record in enumerate(records):
        assert (index.read_mask(record) == draw(photos, n)).all()


def test_changed_annotations_redo_the_data_and_a_subset_does_not(made, place):
    def keys(*more: str) -> dict[str, str]:
        config = load_config((), settings(place / "coco", *more))
        return {d.stage: d.key for d in open_runner(chain, config, place / "artifacts").plan()}

    before, subset = keys(), keys("data.classes=[dog, traffic light]")
    assert [name for name in before if before[name] == subset[name]] == ["data"]
    file = place / "coco" / "annotations" / "instances_val2014.json"
    content = file.read_text()
    file.write_text(content.replace('"iscrowd": 1', '"iscrowd": 0'))
    assert keys()["data"] != before["data"]
    file.write_text(content)
    assert keys() == before


def test_a_subset_takes_the_other_classes_out_of_masks_and_labels(made, place):
    index = read_folder(made, images=[place / "coco" / n for n in ("train2014", "val2014")]).subset(
        ["dog"]
    )
    first, *_, last = index.split("train2014")[:5]
    assert (first.labels, last.labels) == ((1,), ())
    assert set(np.unique(index.read_mask(first))) == {0, 1, 255}


def change(root: Path, edit, split: str = "train2014") -> Path:
    """The annotation file of a split, its content edited in place."""
    file = root / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    "bad", [[5, 5, 25, 25], [5, 5], [], [1, 2, 3, 4, 5, 6, 7]], ids=lambda b: f"{len(b)} numbers"
)
def test_polygons_of_under_three_points_are_skipped_and_counted(tmp_path, bad):
    """Two points would be filled as a box, x y width height, and so would all that follow."""
    root = make_coco(tmp_path / "coco")

    def add(content):
        for annotation in content["annotations"]:
            if isinstance(annotation["segmentation"], list) and annotation["segmentation"]:
                annotation["segmentation"].insert(0, bad)

    before = read_instances(root / "annotations" / "instances_train2014.json")
    after = read_instances(change(root, add))
    assert (before.skipped(), after.skipped()) == (0, 8)
    for n in range(len(before.photos)):
        assert (draw(after, n) == draw(before, n)).all()
    assert after.labels() == before.labels()
    told = check(read_coco(root), ["train2014", "val2014"])["notes"]
    assert any("instances_train2014.json: 8 polygons" in note for note in told)


def test_more_categories_than_a_mask_has_values_are_refused(tmp_path):
    def add(content):
        content["categories"] += [{"id": 100 + n, "name": f"class {n}"} for n in range(252)]

    file = change(make_coco(tmp_path / "coco"), add)
    with pytest.raises(UserError, match=r"train2014.json: got 255 classes, expected 254 at most"):
        read_instances(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [("background", "got a class called 'background'"), ("dog", "class 'dog' stands there twice")],
)
def test_a_category_that_cannot_be_a_class_is_refused(tmp_path, name, message):
    def add(content):
        content["categories"].append({"id": 99, "name": name})

    file = change(make_coco(tmp_path / "coco"), add)
    with pytest.raises(UserError, match=message):
        read_instances(file)


def test_a_photo_of_one_name_in_two_folders_is_refused(tmp_path):
    """Both would have one mask: that of train."""
    root = make_coco(tmp_path / "coco")
    for split in ("train2014", "val2014"):
        next((root / split).glob("*1.jpg")).rename(root / split / "0001.jpg")
    with pytest.raises(UserError, match="got a second photo '0001'"):
        read_coco_photos(root, splits=["train2014", "val2014"])
    read_coco_photos(root, splits=["train2014"])


def test_two_annotated_photos_of_one_name_are_refused(tmp_path):
    def edit(content):
        content["images"][1]["file_name"] = "other/" + content["images"][0]["file_name"]

    file = change(make_coco(tmp_path / "coco"), edit)
    with pytest.raises(UserError, match="stands there twice"):
        read_instances(file)


@pytest.mark.parametrize("outline", [[5, 5, 25, 5, 25, 25], {"size": [1, 1]}, "polygon"])
def test_an_outline_of_no_known_kind_is_one_sentence(tmp_path, outline):
    def edit(content):
        content["annotations"][0]["segmentation"] = outline

    file = change(make_coco(tmp_path / "coco"), edit)
    with pytest.raises(UserError, match="cannot read these annotations"):
        read_instances(file)


def test_a_crowd_of_another_size_is_one_sentence(tmp_path):
    def edit(content):
        crowds = [a for a in content["annotations"] if a["iscrowd"]]
        crowds[0]["segmentation"]["size"] = [3, 4]

    instances = read_instances(change(make_coco(tmp_path / "coco"), edit))
    with pytest.raises(UserError, match=r"got the size \[3, 4\]"):
        draw(instances, 1)


def test_data_says_which_photos_are_not_annotated(tmp_path):
    def edit(content):
        gone = content["images"].pop()["id"]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != gone]

    root = make_coco(tmp_path / "coco")
    change(root, edit)
    index = read_coco(root)
    assert len(index.split("train2014")) == 6
    assert any("1 of 7 photos is not in instances_train2014.json" in n for n in index.notes)


def broken(root: Path, change) -> str:
    config = load_config((), settings(root))
    change(root)
    with pytest.raises(UserError) as raised:
        open_runner(chain, config, root / "artifacts", device="cpu", workers=1).run(
            open_runner(chain, config, root / "artifacts").plan(until="data")
        )
    return str(raised.value)


def remove_image(root: Path) -> None:
    next((root / "val2014").glob("*3.jpg")).unlink()


def cut_annotations(root: Path) -> None:
    file = root / "annotations" / "instances_train2014.json"
    file.write_text(file.read_text()[:100])


def unknown_category(root: Path) -> None:
    file = root / "annotations" / "instances_train2014.json"
    file.write_text(file.read_text().replace('"category_id": 10', '"category_id": 11'))


def no_annotations(root: Path) -> None:
    for file in (root / "annotations").iterdir():
        file.unlink()


def no_images(root: Path) -> None:
    for file in (root / "val2014").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (remove_image, ("val2014", "1 of 4", "000000000003.jpg", "val2014.zip")),
        (cut_annotations, ("instances_train2014.json", "cannot read")),
        (unknown_category, ("instances_train2014.json", "category 11")),
        (no_annotations, ("annotations", "no instances_*.json", "cocodataset.org")),
        (no_images, ("no split 'val2014'", "val2014.zip")),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_missing_or_broken_is_one_sentence(tmp_path, change, parts):
    message = broken(make_coco(tmp_path / "coco"), change)
    for part in parts:
        assert part in message, message


def test_masks_have_the_voc_palette(made, place):
    with Image.open(next((made / "masks").iterdir())) as mask:
        assert bytes(mask.getpalette()) == voc_palette()
