"""``data`` says what a data set has, what is wrong with it and what to do about it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from getam.data.palette import write_label_png
from getam.data.voc import LISTS
from pipeline import main
from tests.conftest import ROOT, pipeline
from tests.trees import VOC_SETTINGS, make_coco, make_voc


def data(*settings: str, arguments=()) -> tuple[int, str]:
    sets = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(main, ["data", *arguments, *sets])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def found(*settings: str, arguments=()) -> dict:
    _, out = data(*settings, arguments=("--json", *arguments))
    return json.loads(out[: out.rindex("}") + 1])


@pytest.fixture
def voc(tmp_path) -> Path:
    return make_voc(tmp_path / "VOC2012")


def on(root: Path, *more: str) -> tuple[str, ...]:
    return (*VOC_SETTINGS, f"data.root={root}", *more)


def test_a_whole_tree_has_counts_per_split_and_class_and_no_problem(voc):
    told = found(*on(voc, "data.classes=[cat, dog, person]"), arguments=["--deep"])
    assert told["problems"] == []
    assert told["splits"]["train_aug"] == {
        "used": True,
        "images": 6,
        "labelled": 6,
        "background only": 0,
        "masks": 6,
        "saliency": 6,
    }
    assert told["splits"]["test"]["labelled"] == 0
    assert told["splits"]["train"]["used"] is False
    images = {row["name"]: row["images"]["train_aug"] for row in told["classes"]}
    assert images == {"cat": 3, "dog": 3, "person": 2}
    assert told["sizes"]["median"] == [52, 40]
    assert told["masks"] == {"colours": {"VOC palette": 7, "grey": 2}, "values": [0, 1, 2, 3, 255]}
    assert "train_aug has 6 photos, officially 10582." in told["notes"]


def test_classes_without_an_image_are_a_problem(voc):
    code, out = data(*on(voc))
    assert code == 1
    assert "train_aug has no photo of aeroplane, bicycle" in out
    assert "leave these classes out: --set data.classes='[cat, dog, person]'" in out


def test_missing_list_missing_saliency_and_overlap_are_named(voc):
    (voc / LISTS / "train_aug.txt").unlink()
    (voc / "saliency" / "2007_000001.png").unlink()
    (voc / LISTS / "val.txt").write_text("2007_000001\n2009_000001\n")
    problems = found(*on(voc, "data.train=train"))["problems"]
    text = "\n".join(problems)
    assert "1 photo is in train and in val, '2007_000001' first" in text
    assert "no saliency map for 1 of 4 photos, '2007_000001' first" in text
    without = found(*on(voc, "data.train=train", "pseudolabels.saliency=none"))["problems"]
    assert not any("saliency map" in problem for problem in without)
    assert "10,582 ids" in "\n".join(found(*on(voc))["problems"])


def test_unreadable_files_and_pairs_that_do_not_fit_are_named_without_decoding(voc):
    (voc / "JPEGImages" / "2007_000002.jpg").write_bytes(b"no image")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(voc / "saliency" / "2007_000003.png")
    mask = voc / "SegmentationClass" / "2007_000004.png"
    Image.fromarray(np.zeros((40, 52, 3), np.uint8)).save(mask)
    problems = "\n".join(found(*on(voc))["problems"])
    assert "2007_000002.jpg: cannot read this photo" in problems
    assert "saliency/2007_000003.png: got 9 x 9, expected 52 x 40" in problems
    assert "SegmentationClass/2007_000004.png: got a mask in mode RGB" in problems


def test_deep_finds_unknown_values(voc):
    values = np.full((40, 52), 77, np.uint8)
    Image.fromarray(values).save(voc / "SegmentationClass" / "2007_000003.png")
    classes = "data.classes=[cat, dog, person]"
    assert found(*on(voc, classes))["problems"] == []
    problems = "\n".join(found(*on(voc, classes), arguments=["--deep"])["problems"])
    assert "got the value 77" in problems


def write_labels(root: Path, *cells: str) -> tuple[str, ...]:
    """A table whose cells are given to the photos in turn; the settings of the folder."""
    lines = [f"photo{n:02},{cells[n % len(cells)]}" for n in range(12)]
    (root / "labels.csv").write_text("\n".join(["image,classes", *lines]))
    return "data.kind=folder", f"data.root={root}"


def test_a_class_in_every_photo_is_a_problem_that_says_what_to_add(folder):
    problems = found(*write_labels(folder, "cat dog", "cat"))["problems"]
    assert len(problems) == 1
    assert "train: all 8 labelled photos show cat" in problems[0]
    assert "leave their cell in the label table empty" in problems[0]
    assert found(*write_labels(folder, "cat dog", "cat", ""))["problems"] == []


def test_two_classes_that_are_always_together_are_a_problem(folder):
    problems = found(*write_labels(folder, "cat dog", ""))["problems"]
    assert len(problems) == 1
    assert "train: cat and dog are always labelled together (in 4 photos)" in problems[0]
    assert "If they are the words of one class name, list that name in classes.txt." in problems[0]
    assert "Add photos that show one without the other" in problems[0]


def test_a_class_that_is_never_without_another_is_a_note(folder):
    told = found(*write_labels(folder, "cat dog", "dog", ""))
    assert told["problems"] == []
    assert any("together with another one: cat (always with dog)" in n for n in told["notes"])
    apart = found(*write_labels(folder, "cat dog", "dog", "cat", ""))
    assert not any("together" in note for note in apart["notes"])


@pytest.mark.parametrize(("lines", "split"), [(9, "val"), (1, "train")])
def test_a_split_without_a_label_is_a_problem(folder, lines, split):
    table = (folder / "labels.csv").read_text().splitlines()
    kept = table[:lines] if split == "val" else [table[0], *table[9:]]
    (folder / "labels.csv").write_text("\n".join(kept))
    problems = found("data.kind=folder", f"data.root={folder}")["problems"]
    assert any(p.startswith(f"{split}: no photo is labelled. Give each") for p in problems)


def test_coco_labels_are_counted_from_the_annotations(tmp_path):
    pytest.importorskip("pycocotools")
    root = make_coco(tmp_path / "coco")
    told = found(
        "data.kind=coco",
        f"data.root={root}",
        "data.train=train2014",
        "data.val=val2014",
        "pseudolabels.saliency=none",
    )
    assert told["problems"] == []
    images = {row["name"]: row["images"]["train2014"] for row in told["classes"]}
    assert images == {"person": 5, "traffic light": 1, "dog": 5}
    assert told["splits"]["train2014"]["background only"] == 1
    assert not [note for note in told["notes"] if "no masks" in note]  # a run draws them


def test_the_report_of_a_folder_is_readable_text(folder):
    code, out = data("data.kind=folder", f"data.root={folder}")
    assert code == 0, out
    lines = [line.split() for line in out.splitlines()]
    assert ["train", "8", "8", "0", "8", "8", "yes"] in lines
    assert ["2", "dog", "4", "2"] in lines


def test_a_photo_that_is_gone_is_a_problem_and_the_rest_is_still_checked(folder):
    (folder / "images" / "photo02.png").unlink()
    result = pipeline(
        "data", cwd=folder, settings=("data.kind=folder", f"data.root={folder}"), project=ROOT
    )
    assert result.code == 1
    assert "labels.csv, line 4" in result.out
    assert "Error: 2 problems" in result.err
    assert "Traceback" not in result.err


def test_generated_data_need_no_check():
    code, out = data()
    assert code == 1
    assert "needs no check" in out


def test_it_needs_no_torch(folder):
    import subprocess

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pipeline\n"
        "pipeline.main(sys.argv[2:], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    words = ["data", "--set", "data.kind=folder", "--set", f"data.root={folder}"]
    subprocess.run([sys.executable, "-c", code, str(ROOT), *words], check=True, cwd=folder)


def test_a_table_with_many_mistakes_is_told_in_one_call(folder):
    rows = [f"gone_{n},cat" for n in range(40)]
    with (folder / "labels.csv").open("a") as table:
        table.write("\n".join([*rows, "photo03,dog,cat", "photo04,"]))
    (folder / "splits" / "val.txt").write_text("photo08\nphoto99\n")
    code, out = data("data.kind=folder", f"data.root={folder}")
    assert code == 1
    assert "40 lines name photos that images/ does not have: line 14 'gone_0'" in out
    assert "'gone_19' and 20 more" in out
    assert "line 54: got 3 columns" in out
    assert "val.txt, line 2: got 'photo99'" in out
    assert "photo 'photo04' has classes in one line and none in another" in out
    assert "Error: 4 problems with this data set." in out


def test_a_folder_without_a_problem_says_so_and_what_comes_next(folder):
    code, out = data("data.kind=folder", f"data.root={folder}", arguments=["--config", "folder"])
    assert code == 0
    last = out.splitlines()[-1]
    assert last.startswith("No problems. Next: ")
    options = f"--config folder --set data.kind=folder --set data.root={folder}"
    assert last.endswith(f" run --name NAME {options}")


def test_the_next_command_has_all_options_of_this_one(folder, tmp_path):
    words = ["--config", "folder", "--mode", "end-to-end", "--artifacts", str(tmp_path / "kept")]
    code, out = data(f"data.root={folder}", arguments=words)
    assert code == 0
    last = out.splitlines()[-1]
    assert last.endswith(f"--mode end-to-end --artifacts {tmp_path / 'kept'}"), last


def test_the_data_of_a_named_run_are_checked_by_its_name(folder, tmp_path):
    (tmp_path / "runs").mkdir()
    settings = {"data": {"kind": "folder", "root": str(folder)}}
    record = {"settings": settings, "keys": {}, "unfinished": {}}
    (tmp_path / "runs" / "mine.json").write_text(json.dumps(record))
    out = data(arguments=["--name", "mine", "--artifacts", str(tmp_path)])[1]
    assert str(folder) in out
    assert "run --name mine" in out
    (tmp_path / "runs" / "mine.json").rename(tmp_path / "runs" / "default.json")
    out = data(arguments=["--artifacts", str(tmp_path)])[1]  # the run without a name
    assert str(folder) in out
    assert "run --name default" in out


def test_one_problem_is_one_problem(folder):
    (folder / "images" / "photo02.png").write_bytes(b"no photo")
    code, out = data("data.kind=folder", f"data.root={folder}")
    assert code == 1
    assert out.splitlines()[-1] == "Error: 1 problem with this data set."


def test_a_photo_of_many_megapixels_is_noted(folder):
    settings = ("data.kind=folder", f"data.root={folder}", "pseudolabels.saliency=none")
    assert not any("megapixels" in note for note in found(*settings)["notes"])
    for name in ("masks", "saliency"):
        (folder / name / "photo02.png").unlink()
    Image.new("RGB", (4000, 3000)).save(folder / "images" / "photo02.png")
    told = "\n".join(found(*settings)["notes"])
    assert "1 of 12 photos has more than 4 megapixels, 'photo02' first" in told


def test_without_any_mask_one_note_says_what_is_measured(folder):
    for file in (folder / "masks").iterdir():
        file.unlink()
    told = found("data.kind=folder", f"data.root={folder}")["notes"]
    assert [note for note in told if "mask" in note] == [
        "There are no masks, so no figure will measure the labels of pixels: the table of a run "
        "has only the row of the classifier."
    ]
    out = data("data.kind=folder", f"data.root={folder}", arguments=["--deep"])[1]
    assert "values in masks" not in out
    (folder / "corrections").mkdir()
    write_label_png(folder / "corrections" / "photo01.png", np.zeros((40, 52), np.uint8))
    (folder / "corrections" / "sample.txt").write_text("photo01\n")
    told = found("data.kind=folder", f"data.root={folder}", "data.corrections=corrections")["notes"]
    assert [note for note in told if "There are no masks" in note] == [
        "There are no masks/. The corrected masks of the sample (1 photo) measure the final masks."
    ]


def test_a_class_that_val_does_not_show_is_noted(folder):
    (folder / "splits" / "val.txt").write_text("photo08\nphoto10\n")
    told = found("data.kind=folder", f"data.root={folder}")["notes"]
    assert "val has no photo of dog, so nothing can be measured for this class." in told


def test_a_warning_is_a_note_without_a_place_in_the_code(folder):
    with Image.open(folder / "images" / "photo02.png") as photo:
        grey = photo.convert("LA")
    grey.save(folder / "images" / "photo02.png")
    settings = ("data.kind=folder", f"data.root={folder}")
    result = pipeline("data", "--deep", cwd=folder, settings=settings)
    assert "UserWarning" not in result.err
    (note,) = result.err.splitlines()
    assert note.startswith("note: ")
    assert "converted from mode LA to RGB" in note
