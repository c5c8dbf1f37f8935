"""export and import together: final masks, corrections, doubt, and a mask's way back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from getam.cache.reasons import Kind, Reason
from getam.data.folder import read_folder
from getam.data.masks import read_mask
from getam.data.palette import write_label_png
from getam.errors import UserError
from getam.running.commands.export import batch_of, default_labels
from getam.running.commands.import_masks import unchanged
from tests.running.commands.conftest import assert_one_sentence

PSEUDO = ("--what", "pseudolabels")


class FakeRun:
    """A run whose stages predictions and doubt have artifacts with what they promise."""

    def __init__(self, root: Path, corrected: dict[str, Path]) -> None:
        self.root, self.data = root, read_folder(root)
        names = SimpleNamespace(train="train", val="val")
        self.config = SimpleNamespace(data=names)
        self.corrected, self.verdicts = corrected, {}
        (root / "predictions" / "masks").mkdir(parents=True)
        (root / "doubt").mkdir()
        for n, record in enumerate(self.records("train") + self.records("val")):
            size = Image.open(record.image).size[::-1]
            write_label_png(
                root / "predictions" / "masks" / f"{record.id}.png", np.full(size, n % 3, np.uint8)
            )

    def folder(self, stage: str) -> Path:
        return self.root / stage

    def split(self, stage: str) -> str:
        return {"predictions": "val"}.get(stage, "train")

    def records(self, split: str) -> list:
        def with_correction(record):
            return replace(record, correction=self.corrected.get(record.id))

        return [with_correction(record) for record in self.data.split(split)]


@pytest.fixture
def run(folder) -> FakeRun:
    made = FakeRun(folder, {})
    lines = [f"photo{n:02},train,{1 - n / 12:.3f},why" for n in (7, 2, 11, 0, 5)]
    text = "image,split,doubt,reason\n" + "\n".join(lines) + "\n"
    (folder / "doubt" / "doubt.csv").write_text(text)
    return made


def test_final_masks_of_both_splits_are_exported(run, folder):
    batch = batch_of(run, "masks", iter)
    assert [photo.record.id for photo in batch.photos] == [f"photo{n:02}" for n in range(12)]
    assert batch.told == "masks of train and val"
    for n, photo in enumerate(batch.photos):
        assert (photo.read() == n % 3).all()


def test_final_masks_are_what_is_exported_if_nothing_else_is_named(micro, tmp_path):
    done = micro("export", "--format", "voc", "--no-photos", "-o", tmp_path / "out")
    assert done.code == 0, done
    assert "note" not in done.err
    masks = {p.name: p for p in (micro.artifact("predictions") / "masks").iterdir()}
    assert len(masks) == 12
    for file in (tmp_path / "out" / "SegmentationClass").iterdir():
        assert np.array_equal(read_mask(file), read_mask(masks.pop(file.name)))
    assert not masks


def test_photo_without_final_mask_is_left_out(run, folder):
    (folder / "predictions" / "masks" / "photo03.png").unlink()
    ids = [photo.record.id for photo in batch_of(run, "masks", iter).photos]
    assert ids == [f"photo{n:02}" for n in range(12) if n != 3]


def test_correction_takes_the_place_of_a_final_mask_only(run, folder, tmp_path):
    run.corrected["photo09"] = tmp_path / "photo09.png"
    corrected = np.full((40, 48), 2, np.uint8)
    run.data = SimpleNamespace(
        classes=run.data.classes, split=run.data.split, read_correction=lambda record: corrected
    )
    read = {p.record.id: p.read() for p in batch_of(run, "masks", iter).photos}
    assert (read["photo09"] == 2).all()
    assert (read["photo10"] == 1).all()
    (folder / "predictions" / "predictions").mkdir()
    write_label_png(folder / "predictions" / "predictions" / "photo09.png", corrected * 0)
    read = {p.record.id: p for p in batch_of(run, "predictions", iter).photos}
    assert (read["photo09"].read() == 0).all()


def test_most_doubtful_come_in_their_order_without_those_that_are_corrected(run):
    ids = [p.record.id for p in batch_of(run, "masks", iter, doubtful=3).photos]
    assert ids == ["photo07", "photo02", "photo11"]
    run.corrected["photo02"] = Path("photo02.png")
    run.data = SimpleNamespace(
        classes=run.data.classes, split=run.data.split, read_correction=print
    )
    ids = [p.record.id for p in batch_of(run, "masks", iter, doubtful=3).photos]
    assert ids == ["photo07", "photo11", "photo00"]


def test_photos_that_the_review_decided_are_not_sent_to_be_corrected(run):
    run.verdicts = {"photo07": "accepted", "photo02": "rejected"}
    with pytest.warns(UserWarning, match="data.review") as told:
        ids = [p.record.id for p in batch_of(run, "masks", iter, doubtful=9).photos]
    assert ids == ["photo11", "photo00", "photo05"]
    assert [str(one.message) for one in told] == [
        "1 photo that data.review rejects left out.",
        "1 photo decided in data.review left out.",
        "only 3 of the 9 photos asked for exist.",
    ]
    with pytest.warns(UserWarning, match="only 11 of the 50 photos asked for exist"):
        ids = [p.record.id for p in batch_of(run, "masks", iter, sample=50).photos]
    assert len(ids) == 11
    assert "photo02" not in ids


@pytest.mark.parametrize("kind", ["coco", "voc", "cvat", "label-studio"])
def test_exported_labels_come_back_by_the_command_line(micro, tmp_path, kind):
    place = tmp_path / "out"
    done = micro("export", "--format", kind, *PSEUDO, "--sample", "6", "-o", place)
    assert done.code == 0, done
    assert len((place / "sample.txt").read_text().split()) == 6
    file = {"cvat": place / "annotations.zip"}.get(kind, place)
    if kind == "label-studio":
        file = place / "submitted.json"
        submit(place / "tasks.json", file)
    done = micro("import", file, "--format", kind, "-o", tmp_path / "back")
    assert done.code == 0, done
    listed = (tmp_path / "back" / "sample.txt").read_text()
    assert listed == (place / "sample.txt").read_text()
    for image_id in listed.split():
        ours = read_mask(micro.artifact("pseudolabels") / "labels" / f"{image_id}.png")
        assert np.array_equal(read_mask(tmp_path / "back" / f"{image_id}.png"), ours)
    assert "6 masks; 6 of the random sample" in done.out


def submit(tasks: Path, file: Path) -> None:
    """What Label Studio exports after someone has submitted each task as it was shown."""
    content = json.loads(tasks.read_text())
    done = [{"data": t["data"], "annotations": t["predictions"]} for t in content]
    file.write_text(json.dumps(done))


def test_second_import_replaces_masks_and_keeps_the_others(micro, tmp_path):
    for name in ("a", "b"):
        words = ("--format", "voc", "--no-photos", "--sample", "5", "--seed", str(ord(name)))
        assert micro("export", *words, *PSEUDO, "-o", tmp_path / name).code == 0
    lists = [(tmp_path / n / "sample.txt").read_text().split() for n in ("a", "b")]
    for name in ("a", "b"):
        done = micro("import", tmp_path / name, "--format", "voc", "-o", tmp_path / "back")
        assert done.code == 0, done
    both = set(lists[0]) & set(lists[1])
    assert f"{len(both)} of them replaced earlier ones" in done.out
    whole = list(dict.fromkeys(lists[0] + lists[1]))
    assert (tmp_path / "back" / "sample.txt").read_text().split() == whole
    assert {p.stem for p in (tmp_path / "back").glob("*.png")} == set(whole)


def test_only_some_photos_are_imported(micro, tmp_path):
    words = ("export", "--format", "voc", "--no-photos", *PSEUDO, "-o", tmp_path / "out")
    assert micro(*words).code == 0
    (tmp_path / "list.txt").write_text("photo03\nphoto05\nphoto09\n")
    words = ("import", tmp_path / "out", "--format", "voc", "-o", tmp_path / "back", "--only")
    done = micro(*words, tmp_path / "list.txt")
    assert {p.stem for p in (tmp_path / "back").glob("*.png")} == {"photo03", "photo05"}
    assert "1 photo of --only has no mask, 'photo09' first" in done.err
    (tmp_path / "list.txt").write_text("photo99\n")
    assert_one_sentence(micro(*words, tmp_path / "list.txt"), "photo99", "list.txt")


def test_import_refuses_a_place_among_the_artifacts(micro, tmp_path):
    words = ("--format", "voc", "-o", micro.artifacts / "x")
    assert_one_sentence(micro("import", tmp_path, *words), "among the artifacts")


def test_without_final_masks_export_takes_no_other_labels_that_nobody_asked_for(micro, tmp_path):
    words = ("export", "--format", "voc", "--no-photos", "-o", tmp_path / "out")
    told = micro(*words, more=("predictions.flip=true",))
    wanted = ("no final masks", "predictions.flip", "run --until predictions --set data.kind")
    assert_one_sentence(told, *wanted, "--what pseudolabels")
    assert not (tmp_path / "out").exists()
    assert micro(*words, *PSEUDO, more=("predictions.flip=true",)).code == 0
    assert len([*(tmp_path / "out" / "SegmentationClass").iterdir()]) == 8


def test_a_run_that_ended_before_the_predictions_exports_its_pseudo_labels():
    row = SimpleNamespace(status="missing", reason=Reason(Kind.NEVER_MADE))
    run = SimpleNamespace(rows={"predictions": row}, has=lambda stage: stage == "pseudolabels")
    with pytest.warns(UserWarning, match="predictions has not run; the pseudo labels"):
        assert default_labels(run) == "pseudolabels"


@pytest.mark.parametrize("kind", ["coco", "voc", "cvat", "label-studio"])
def test_export_that_fails_leaves_no_half_folder(micro, tmp_path, monkeypatch, kind):
    words = ("export", "--format", kind, *PSEUDO, "-o", tmp_path / "out")
    monkeypatch.setattr(
        "getam.exchange.copies.read_image", lambda *_: (_ for _ in ()).throw(UserError("broken"))
    )
    assert_one_sentence(micro(*words), "broken")
    assert not [*(tmp_path / "out").iterdir()]
    monkeypatch.undo()
    assert micro(*words).code == 0


def test_masks_that_nobody_changed_are_counted(micro, tmp_path):
    place = tmp_path / "out"
    assert micro("export", "--format", "voc", "--no-photos", "-o", place).code == 0
    file = place / "SegmentationClass" / "photo04.png"
    write_label_png(file, np.full_like(read_mask(file), 2))
    words = ("import", place, "--format", "voc", "-o", tmp_path / "back")
    done = micro(*words)
    assert "11 of 12 masks are the same as the final masks" in done.err
    assert "random sample" not in done.out
    (tmp_path / "checked.txt").write_text("photo04\n")
    words = ("import", place, "--format", "voc", "-o", tmp_path / "some", "--only")
    assert "the same as" not in micro(*words, tmp_path / "checked.txt").err


def test_the_rest_of_a_sample_can_be_exported_and_imported(micro, tmp_path):
    """A sample that is half corrected stops a run, and not what completes it."""
    place, back = tmp_path / "out", tmp_path / "back"
    words = ("export", "--format", "voc", "--no-photos", "--sample", "4")
    assert micro(*words, "-o", place).code == 0
    one, *others = (place / "sample.txt").read_text().split()
    (tmp_path / "one.txt").write_text(f"{one}\n")
    (tmp_path / "others.txt").write_text("\n".join(others))
    again = ("import", place, "--format", "voc", "-o", back, "--only")
    corrected = (f"data.corrections={back}",)
    assert micro(*again, tmp_path / "one.txt").code == 0
    assert_one_sentence(micro("run", more=corrected), "3 of 4 photos have no corrected mask")
    labels = ("--what", "pseudolabels", "-o", tmp_path / "more")
    done = micro("export", "--format", "voc", *labels, more=corrected)
    assert done.code == 0, done
    done = micro(*again, tmp_path / "others.txt", more=corrected)
    assert done.code == 0, done
    assert {p.stem for p in back.glob("*.png")} == {one, *others}


def test_masks_that_nobody_changed_are_counted_with_some_of_the_classes(micro, tmp_path):
    """The final masks have the class ids of the run, the imported ones the values of the data."""
    run = SimpleNamespace(
        data=read_folder(micro.data).subset(["dog"]),
        has=lambda stage: True,
        folder=lambda stage: tmp_path,
    )
    (tmp_path / "masks").mkdir()
    size = Image.open(micro.data / "images" / "photo00.png").size[::-1]
    for place, value in (("masks", 1), ("back", 2)):
        (tmp_path / place).mkdir(exist_ok=True)
        write_label_png(tmp_path / place / "photo00.png", np.full(size, value, np.uint8))
    assert unchanged(run, tmp_path / "back", ["photo00"]) == ["photo00"]
    write_label_png(tmp_path / "back" / "photo00.png", np.full(size, 1, np.uint8))
    assert unchanged(run, tmp_path / "back", ["photo00"]) == []


def test_masks_of_a_rejected_photo_are_imported_and_called_rejected(micro, tmp_path):
    place = tmp_path / "out"
    assert micro("export", "--format", "voc", "--no-photos", *PSEUDO, "-o", place).code == 0
    (tmp_path / "review.csv").write_text("image,verdict,classes\nphoto03,rejected,\n")
    (tmp_path / "list.txt").write_text("photo03\n")
    words = ("import", place, "--format", "voc", "-o", tmp_path / "back")
    review = (f"data.review={tmp_path / 'review.csv'}",)
    for more in ((), ("--only", tmp_path / "list.txt")):
        done = micro(*words, *more, more=review)
        assert done.code == 0, done
        assert "1 mask is of photos that data.review rejects, 'photo03' first" in done.err
