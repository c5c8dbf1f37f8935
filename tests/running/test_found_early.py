"""What would fail after hours, or end the process, is refused before the first stage."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from getam.config.loading import load_config, recorded
from getam.errors import UserError
from getam.running.opening import open_runner
from stages.chain import chain
from tests.conftest import TINY, make_folder, pipeline
from tests.trees import make_coco


@pytest.mark.parametrize(
    "setting",
    [
        *(
            f"{stage}.crf.{name}=0"
            for stage in ("pseudolabels", "predictions")
            for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb")
        ),
        "predictions.crf.bilateral_srgb=1e-9",
        "predictions.crf.gaussian_sxy=-5",
        "predictions.crf.bilateral_compat=-3",
        "pseudolabels.pamr.dilations=[]",
        "seed=-1",
        "seed=99999999999999999999999",
        "data.shapes.seed=-1",
        "compare.methods=[]",
        "compare.refiners=[]",
    ],
)
def test_a_value_that_no_stage_can_take_is_no_setting(setting):
    with pytest.raises(UserError, match=setting.partition("=")[0]):
        load_config((), [setting])


def test_saliency_maps_that_coco_lacks_are_missed_before_the_first_stage(tmp_path):
    root = make_coco(tmp_path / "coco")
    splits = ("data.train=train2014", "data.val=val2014", "pseudolabels.saliency=folder")
    sets = ("data.kind=coco", f"data.root={root}", *TINY, *splits)
    told = pipeline("run", cwd=tmp_path, settings=sets)
    assert told.code == 1
    assert "no saliency map" in told.err
    assert "done in" not in told.err


def test_corrections_that_are_not_below_the_data_folder_are_recorded_with_their_path(
    tmp_path, monkeypatch
):
    make_folder(tmp_path / "photos")
    (tmp_path / "mine").mkdir()
    (tmp_path / "photos" / "below").mkdir()
    (tmp_path / "below").mkdir()  # a folder of the same name that is not meant
    monkeypatch.chdir(tmp_path)
    for name, kept in (("mine", str(tmp_path / "mine")), ("below", "below"), ("none", "none")):
        given = ["data.kind=folder", "data.root=photos", f"data.corrections={name}"]
        assert recorded(load_config((), given))["data"]["corrections"] == kept


def broken_end(file) -> None:
    """The header stays as it was."""
    file.write_bytes(file.read_bytes()[:-40])


def wrong_value(file) -> None:
    with Image.open(file) as image:
        size = image.size
    Image.new("L", size, 77).save(file)


@pytest.mark.parametrize(
    ("name", "change", "settings", "told"),
    [
        ("masks/photo09.png", wrong_value, ("mode=end-to-end",), "got the value 77 in this mask"),
        ("saliency/photo03.png", broken_end, ("mode=end-to-end",), "cannot read this saliency map"),
        ("masks/photo03.png", wrong_value, ("deeplab.labels=masks",), "got the value 77"),
    ],
)
def test_maps_that_a_training_reads_are_decoded_first(
    folder, tmp_path, name, change, settings, told
):
    """Found in the training, it would be repeated: its key depends on them."""
    photo = np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)
    if name.startswith("saliency"):  # so large that its end is not its header
        with Image.open(folder / name) as image:
            photo = np.resize(photo, image.size[::-1])
        Image.fromarray(photo).save(folder / name)
    change(folder / name)
    sets = ("data.kind=folder", f"data.root={folder}", *TINY, *settings)
    done = pipeline("run", cwd=tmp_path, settings=sets)
    assert done.code == 1
    assert told in done.err.splitlines()[-1]
    assert "done in" not in done.err


@pytest.mark.parametrize("section", ["classifier", "deeplab", "endtoend.joint"])
def test_batches_that_the_processes_of_torchrun_cannot_share_are_found_first(
    folder, tmp_path, monkeypatch, section
):
    """Before the processes are started, a check knows how many there will be."""
    mode = ("mode=end-to-end",) if section.startswith("endtoend") else ()
    sets = ("data.kind=folder", f"data.root={folder}", *TINY, *mode, f"{section}.batch_size=3")
    runner = open_runner(chain, load_config((), sets), tmp_path / "artifacts")
    runner.check(runner.plan())  # one process can, and this verdict is not kept for two
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=rf"{section}.batch_size: got batches of 3 images for 2"):
        runner.check(runner.plan())


def test_a_batch_of_fewer_labelled_photos_is_shared_as_it_is(folder, tmp_path, monkeypatch):
    """Three of the eight photos are labelled, so a batch of four has three of them."""
    table = (folder / "labels.csv").read_text().splitlines()
    left = [row for row in table if not row.startswith(tuple(f"photo0{n}" for n in range(3, 8)))]
    (folder / "labels.csv").write_text("\n".join(left))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"classifier.batch_size: got batches of 3 images for 2"):
        checked(folder, tmp_path)


FIXED = (  # a model that takes photos of its own size alone
    *("classifier.model=beit_base_patch16_224", "endtoend.model=beit_base_patch16_224"),
    *(
        f"{stage}.model_args={{embed_dim: 32, depth: 2, num_heads: 2, global_pool: token}}"
        for stage in ("classifier", "endtoend")
    ),
    *("classifier.image_size=224", "endtoend.image_size=224"),
)


def checked(folder, tmp_path, *settings: str) -> None:
    sets = ("data.kind=folder", f"data.root={folder}", *TINY, *settings)
    runner = open_runner(chain, load_config((), sets), tmp_path / "artifacts")
    runner.check(runner.plan())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("maps.scales=[1.5]",), "maps.scales: got 1.5, .* photos of 336 x 336 pixels"),
        (
            ("maps.scales=[1]", "pseudolabels.saliency=features", "foreground.scale=2"),
            "foreground.scale: got 2.0, .* photos of 448 x 448 .* or the scale 1",
        ),
        (("mode=end-to-end",), "endtoend.model: got beit.* cannot take them"),
    ],
)
def test_scales_that_a_model_of_a_fixed_size_cannot_take(folder, tmp_path, settings, told):
    with pytest.raises(UserError, match=told):
        checked(folder, tmp_path, *FIXED, *settings)


@pytest.mark.parametrize(
    "args",
    [
        *("{num_heads: 0}", "{patch_size: 0}", "{mlp_ratio: x}", "{norm_layer: 3}"),
        *("{class_token: false}", "{global_pool: xx}", "{drop_rate: 7}", "{act_layer: foo}"),
        *("{num_classes: 3}", "{img_size: 7}", "{depth: 100000}", "{in_chans: 1}"),
    ],
)
@pytest.mark.parametrize("stage", ["classifier.model", "deeplab.encoder"])
def test_arguments_that_a_model_refuses_are_a_sentence(folder, tmp_path, args, stage):
    with pytest.raises(UserError) as caught:
        checked(folder, tmp_path, f"{stage}_args={args}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoder", ["vgg11", "hrnet_w18_small", "beit_base_patch16_224"])
def test_encoders_without_a_decoder_are_a_sentence(folder, tmp_path, encoder):
    with pytest.raises(UserError, match=f"cannot use {encoder}"):
        checked(folder, tmp_path, f"deeplab.encoder={encoder}", "deeplab.encoder_args={}")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--device", "cuda:77"), "--device cuda:77: torch cannot use it"),
        (("--device", "mps"), "--device mps: expected cpu, cuda, or cuda: and the number of a GPU"),
        (("--workers", "dask://127.0.0.1:9"), "--workers dask://127.0.0.1:9: there is no Dask"),
    ],
)
def test_a_device_or_cluster_that_is_not_there_is_missed_before_the_first_stage(
    tmp_path, option, told
):
    """Stages before the one that needs it would run."""
    if "dask" in told:
        pytest.importorskip("distributed")
    sets = [word for setting in TINY for word in ("--set", setting)]
    done = pipeline("run", *option, *sets, cwd=tmp_path)
    assert done.code == 1
    assert told in done.err.splitlines()[-1]
    assert "runs:" not in done.err


def test_a_foreground_that_would_learn_from_photos_of_no_class_alone(folder, tmp_path):
    """Known after the classifier and the maps."""
    table = (folder / "labels.csv").read_text().splitlines()
    first = next(n for n, line in enumerate(table) if line.startswith("photo00"))
    table[first] = "photo00,"
    (folder / "labels.csv").write_text("\n".join(table))
    with pytest.raises(UserError, match=r"foreground.images: got 1, .* \(1 of 8, .* up to 8"):
        checked(folder, tmp_path, "pseudolabels.saliency=features", "foreground.images=1")
    checked(folder, tmp_path, "pseudolabels.saliency=features", "foreground.images=8")
