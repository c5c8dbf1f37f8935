"""Small data folders and networks that the tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TINY_VIT = "{patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}"
TINY = (
    "classifier.weights=none",
    "deeplab.weights=none",
    f"classifier.model_args={TINY_VIT}",
    f"deeplab.encoder_args={TINY_VIT}",
    "classifier.frozen_blocks=0",
    "classifier.patch_drop_rate=0",
    "deeplab.frozen_blocks=0",
    "classifier.image_size=32",
    "deeplab.image_size=32",
    "deeplab.channels=8",
    "classifier.epochs=2",
    "deeplab.epochs=2",
    "classifier.batch_size=4",
    "deeplab.batch_size=4",
    "endtoend.weights=none",
    f"endtoend.model_args={TINY_VIT}",
    "endtoend.image_size=32",
    "endtoend.channels=8",
    "endtoend.classification.epochs=2",
    "endtoend.joint.epochs=2",
    "endtoend.classification.batch_size=4",
    "endtoend.joint.batch_size=4",
    "classifier.precision=fp32",  # auto depends on the machine
    "deeplab.precision=fp32",
    "endtoend.classification.precision=fp32",
    "endtoend.joint.precision=fp32",
    "predictions.precision=fp32",
)
"""Settings of networks so small that a whole run takes seconds."""
EXAMPLE = (
    *TINY,
    "data.shapes.train=8",
    "data.shapes.val=4",
    "data.shapes.size=48",
    "pseudolabels.opening=3",
    "pseudolabels.pamr.dilations=[1, 2]",
)
"""The embedded example on such networks, with a dozen images of its own."""


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts commands in the background so, and the programs that tests start would inherit
    # it: those tests that press Ctrl-C would fail.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder: 8 train and 4 val images of two classes, masks and saliency."""
    return make_folder(tmp_path / "data")


def make_folder(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "saliency", "splits"):
        (root / name).mkdir(parents=True)
    names = ("cat", "dog")
    table, ids = ["image,classes"], [f"photo{n:02}" for n in range(12)]
    for n, image_id in enumerate(ids):
        size = (40, 48) if n % 2 else (48, 40)
        image = rng.integers(0, 80, (*size, 3), dtype=np.uint8)
        mask = np.zeros(size, np.uint8)
        mask[8:30, 10:32] = 1 + n % 2
        image[mask == 1 + n % 2] += np.array([150, 0, 0] if n % 2 else [0, 150, 0], np.uint8)
        Image.fromarray(image).save(root / "images" / f"{image_id}.png")
        Image.fromarray(mask).save(root / "masks" / f"{image_id}.png")
        Image.fromarray((mask > 0).astype(np.uint8) * 255).save(
            root / "saliency" / f"{image_id}.png"
        )
        table.append(f"{image_id},{names[n % 2]}")
    (root / "labels.csv").write_text("\n".join(table) + "\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "splits" / "train.txt").write_text("\n".join(ids[:8]) + "\n")
    (root / "splits" / "val.txt").write_text("\n".join(ids[8:]) + "\n")
    return root


def pipeline(
    *arguments: str, cwd: Path, env: dict | None = None, settings=(), project: Path = ROOT
) -> Result:
    """Run ``python pipeline.py`` as a user would."""
    sets = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, str(project / "pipeline.py"), *arguments, *sets]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    return Result(done.returncode, done.stdout, done.stderr)


def torchrun(*words: str, cwd: Path) -> Result:
    """Run ``torchrun --nproc-per-node 2`` on the CPU."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = [sys.executable, *launcher, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200
    )
    return Result(done.returncode, done.stdout, done.stderr)


class Result:
    """Exit code and output of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def stages_run(self) -> list[str]:
        """The stages that were run, in order."""
        return [line.split()[0] for line in self.err.splitlines() if " runs: " in line]

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"
