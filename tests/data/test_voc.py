"""A VOC tree: what is read from it, and the whole chain on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from getam.config.loading import load_config
from getam.data.masks import read_mask
from getam.data.palette import voc_palette, write_label_png
from getam.data.voc import CLASSES, LISTS, read_voc
from getam.errors import UserError
from getam.running.opening import open_runner
from stages.chain import chain
from stages.predictions import _write_results
from tests.conftest import TINY, pipeline
from tests.trees import VOC_OBJECTS, VOC_SETTINGS, VOC_SPLITS, make_voc, voc_mask, voc_xml


@pytest.fixture
def tree(tmp_path) -> Path:
    return make_voc(tmp_path / "VOC2012")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("voc")
    make_voc(place / "VOC2012")
    return place


def names(record, index) -> list[str]:
    return [index.classes[label - 1] for label in record.labels]


def test_labels_come_from_the_objects_and_test_images_have_none(tree):
    index = read_voc(tree)
    assert len(index.classes) == 20
    assert [len(index.split(name)) for name in VOC_SPLITS] == [4, 6, 3, 2]
    for split in ("train_aug", "val"):
        for record in index.split(split):
            assert set(names(record, index)) == {name for name, _ in VOC_OBJECTS[record.id]}
            assert (index.read_mask(record) == voc_mask(VOC_OBJECTS[record.id])).all()
    assert [record.labels for record in index.split("test")] == [None, None]


def test_difficult_objects_are_a_setting(tree):
    lenient, strict = (read_voc(tree, difficult=d).split("train")[2] for d in (True, False))
    assert lenient.labels == (8, 12)
    assert strict.labels == (8,)


def test_lists_of_paths_and_with_columns_are_read(tree):
    ids = ["2007_000001", "2008_000001"]
    paths = [f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png" for i in ids]
    (tree / LISTS / "pairs.txt").write_text("\n".join(paths))
    (tree / LISTS / "columns.txt").write_text("\n".join(f"{i}  1" for i in ids))
    index = read_voc(tree)
    assert [r.id for r in index.split("pairs")] == ids
    assert [r.id for r in index.split("columns")] == ids


def test_an_official_mask_goes_before_one_of_sbd(tree):
    other = np.zeros((40, 52), np.uint8)
    Image.fromarray(other).save(tree / "SegmentationClassAug" / "2007_000002.png")
    record = read_voc(tree).split("train_aug")[1]
    assert record.mask.parent.name == "SegmentationClass"


def test_missing_augmented_list_says_where_to_get_it(tree):
    (tree / LISTS / "train_aug.txt").unlink()
    with pytest.raises(UserError, match=r"no split 'train_aug'.*10,582 ids.*SBD"):
        read_voc(tree).split("train_aug")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (voc_xml([("cat", 0)])[:40], "cannot read this annotation"),
        (voc_xml([("unicorn", 0)]), "class 'unicorn'"),
        ('<!DOCTYPE a [<!ENTITY e "cat">]><annotation/>', "document type"),
        ('<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>', "document type"),
    ],
)
def test_a_bad_annotation_is_named(tree, xml, message):
    (tree / "Annotations" / "2007_000002.xml").write_text(xml)
    with pytest.raises(UserError, match=message) as raised:
        read_voc(tree)
    assert "2007_000002.xml" in str(raised.value)


def test_an_id_cannot_leave_the_tree(tree):
    (tree.parent / "secret.jpg").write_bytes(b"")
    (tree / LISTS / "train.txt").write_text("../../secret\n")
    with pytest.raises(UserError, match=r"train.txt, line 1: got 'secret'"):
        read_voc(tree)


def test_a_folder_that_is_no_tree_says_what_to_set(tmp_path):
    with pytest.raises(UserError, match=r"data.root to the folder VOC2012"):
        read_voc(tmp_path)


def settings(root: Path, *more: str) -> tuple[str, ...]:
    return (*VOC_SETTINGS, f"data.root={root}", *TINY, *more)


@pytest.fixture(scope="module")
def whole(place):
    """One run of the chain, with train_aug, val and test."""
    arguments = ("run", "--workers", "1")
    return pipeline(*arguments, cwd=place, settings=settings(place / "VOC2012"))


def artifact(place: Path, stage: str) -> Path:
    return next(p for p in (place / "artifacts" / stage).iterdir() if p.is_dir())


def test_the_whole_chain_runs_on_a_tree(whole, place):
    assert whole.code == 0, whole
    rows = json.loads((artifact(place, "evaluation") / "metrics.json").read_text())
    measured = [(row["what"], row["split"], row["images"]) for row in rows]
    assert measured == [
        ("classifier", "val", 3),
        ("seeds", "train_aug", 6),
        ("pseudo labels", "train_aug", 6),
        ("network", "val", 3),
        ("network + CRF", "val", 3),
        ("final masks, train_aug", "train_aug", 6),
        ("final masks, val", "val", 3),
    ]


def test_test_predictions_are_as_the_server_takes_them(whole, place):
    folder = artifact(place, "predictions") / "results/VOC2012/Segmentation/comp6_test_cls"
    assert sorted(p.name for p in folder.iterdir()) == ["2010_000001.png", "2010_000002.png"]
    for path in folder.iterdir():
        image = Image.open(path)
        assert (image.mode, image.size) == ("P", (52, 40))
        assert bytes(image.getpalette()) == voc_palette()
        assert np.asarray(image).max() <= 20


def test_another_test_split_redoes_predictions_and_evaluation(whole, place):
    root = place / "VOC2012"
    made = open_runner(chain, load_config((), settings(root)), place / "artifacts").plan()
    other = open_runner(
        chain, load_config((), settings(root, "data.test=val")), place / "artifacts"
    )
    changed = [a.stage for a, b in zip(made, other.plan()) if a.key != b.key]
    assert changed == ["predictions", "doubt", "evaluation"]


def run_here(artifacts: Path, root: Path, *more: str) -> dict[str, Path]:
    config = load_config((), settings(root, "predictions.crf.steps=2", *more))
    runner = open_runner(chain, config, artifacts, device="cpu", workers=1)
    return runner.run(runner.plan())


def relabel(root: Path, keep: tuple[str, ...]) -> None:
    """By hand what data.classes does: other objects out of the XML, other values to 255."""
    for image_id, objects in VOC_OBJECTS.items():
        if objects is None:
            continue
        kept = [thing for thing in objects if thing[0] in keep]
        (root / "Annotations" / f"{image_id}.xml").write_text(voc_xml(kept))
        for folder in ("SegmentationClass", "SegmentationClassAug"):
            path = root / folder / f"{image_id}.png"
            if path.is_file():
                mask = voc_mask(objects)
                known = [0, *(CLASSES.index(name) + 1 for name in keep)]
                Image.fromarray(np.where(np.isin(mask, known), mask, 255)).save(path)


def test_a_subset_gives_the_same_numbers_as_relabelling_by_hand(place):
    """The relabelled tree is made a data folder whose only classes are those of the subset."""
    keep = ("dog", "cat")
    shutil.copytree(place / "VOC2012", place / "by_hand")
    relabel(place / "by_hand", keep)
    folder = as_folder(place / "by_hand", place / "folder", keep)
    short = ("classifier.epochs=1", "deeplab.epochs=1", "deeplab.labels=masks")
    chosen = run_here(place / "a", place / "VOC2012", f"data.classes={list(keep)}", *short)
    by_hand = run_here(
        place / "b", folder, "data.kind=folder", "data.train=train_aug", "data.test=null", *short
    )
    one, other = map(metrics, (chosen, by_hand))
    assert one == other
    assert [*one[1]["per class"]] == ["background", "dog", "cat"]
    labels = [m["pseudolabels"] / "labels" / "2007_000004.png" for m in (chosen, by_hand)]
    assert (read_mask(labels[0]) == read_mask(labels[1])).all()
    assert set(np.unique(read_mask(labels[0]))) <= {0, 255}  # a person: background, or unknown


def test_results_of_a_subset_have_the_values_that_the_server_knows(tree, tmp_path):
    index = read_voc(tree).subset(["dog", "cat"])
    made = tmp_path / "predictions"
    made.mkdir()
    for name in ("2010_000001", "2010_000002"):
        write_label_png(made / f"{name}.png", np.array([[0, 1, 2]], np.uint8))
    predictions = SimpleNamespace(crf=SimpleNamespace(enabled=False))
    job = SimpleNamespace(folder=tmp_path, config=SimpleNamespace(predictions=predictions))
    _write_results(job, index, index.split("test"))
    paths = [*(tmp_path / "results/VOC2012/Segmentation/comp6_test_cls").iterdir()]
    assert [read_mask(path).tolist() for path in paths] == [[[0, 12, 8]]] * 2


def metrics(made: dict[str, Path]) -> list[dict]:
    return json.loads((made["evaluation"] / "metrics.json").read_text())


def as_folder(tree: Path, root: Path, classes: tuple[str, ...]) -> Path:
    """A relabelled tree as a data folder; masks with the class ids 1.. of ``classes``."""
    index = read_voc(tree)
    for name in ("images", "masks", "splits"):
        (root / name).mkdir(parents=True)
    shutil.copytree(tree / "saliency", root / "saliency")
    (root / "classes.txt").write_text("\n".join(classes))
    table = {}
    for split in ("train_aug", "val"):
        records = index.split(split)
        (root / "splits" / f"{split}.txt").write_text("\n".join(r.id for r in records))
        for record in records:
            table[record.id] = names(record, index)
            shutil.copy(record.image, root / "images")
            mask = np.asarray(Image.open(record.mask))
            values = np.full(256, 255, np.uint8)
            values[[0, *(CLASSES.index(name) + 1 for name in classes)]] = range(len(classes) + 1)
            Image.fromarray(values[mask]).save(root / "masks" / f"{record.id}.png")
    (root / "labels.json").write_text(json.dumps(table))
    return root


def test_an_unknown_class_of_a_subset_suggests_the_nearest(place):
    config = load_config((), settings(place / "VOC2012", "data.classes=[cat, doog]"))
    with pytest.raises(UserError, match=r"no class 'doog'. Did you mean 'dog'\?"):
        open_runner(chain, config, place / "artifacts")
