"""The kind of machine that a run is on: a GPU, a CPU, or a CPU that is faster in bfloat16.

Presets choose their settings by it (``getam.config.loading``). Imports no torch, which would take
every command some seconds: a GPU is found by the files of its driver.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from getam.config.base import Machine
from getam.config.loading import load_config, recorded
from getam.config.schema import Config
from getam.networks.processor import fast_in_bf16

NAMES = {"gpu": "a GPU", "cpu": "a CPU", "cpu_bf16": "a CPU with bfloat16"}
_AMD = "dev/kfd"
_WSL = "usr/lib/wsl/lib/libcuda.so.1"  # Linux in Windows has no /dev/nvidia0


class Found(NamedTuple):
    """A kind of machine, and why it is this one."""

    machine: Machine
    why: str


def find_machine(
    device: str | None = None,
    *,
    root: Path = Path("/"),
    environment: Mapping[str, str] | None = None,
    torch: Path | None = None,
) -> Found:
    """The machine that the networks will run on.

    Args:
        device: ``--device``; None: a GPU if there is one.
        root: where ``dev`` and ``proc`` are.
        environment: instead of ``os.environ``.
        torch: the folder of the package torch; None: the installed one.
    """
    if device is not None:
        why = f"--device {device}"
        return Found("gpu" if device.partition(":")[0] != "cpu" else _cpu(root), why)
    gpu = _gpu(root)
    if gpu is None:
        return Found(_cpu(root), "no GPU found")
    visible = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return Found(_cpu(root), "CUDA_VISIBLE_DEVICES hides the GPU")
    if not _torch_for("hip" if gpu == _AMD else "cuda", torch):
        return Found(_cpu(root), f"the installed torch cannot use the GPU of /{gpu}")
    return Found("gpu", f"found /{gpu}")


def chosen_config(
    configs: Iterable[str | Path],
    assignments: Iterable[str],
    base: Mapping[str, Any] | None,
    former: Mapping[str, Any],
    device: str | None = None,
    run: str = "default",
) -> tuple[Config, str | None]:
    """The configuration, and a sentence about the machine that its settings are for, if they are.

    A run keeps its machine: if ``former``, the recorded settings of ``run``, are about the same
    data, their machine counts and not the one that is found. ``device`` and ``--set machine``
    still win.
    """
    found = find_machine(device)
    config = load_config(configs, assignments, base, found.machine)
    if config.machine is None:
        return config, None
    by_hand = [one for one in assignments if one.partition("=")[0].strip() == "machine"]
    kept = former.get("machine")
    if by_hand:
        why = f"--set {by_hand[-1]}"
    elif kept and (not configs or (_same_data(former, config) and _fits(kept, device, found))):
        config = load_config(configs, assignments, base, kept)
        here = "" if kept == found.machine else f"; here: {NAMES[found.machine]}, {found.why}"
        why = f"as in the run {run}{here}"
    else:
        why = found.why
    return config, _note(config, why, "add" if configs else "start anew with --config and")


def _same_data(former: Mapping[str, Any], config: Config) -> bool:
    data = recorded(config).get("data", {})
    return former.get("data", {}).get("root") == data.get("root")


def _fits(kept: str, device: str | None, found: Found) -> bool:
    return device is None or (kept == "gpu") == (found.machine == "gpu")


def _note(config: Config, why: str, how: str) -> str:
    """Which machine the settings are for, why, what the main ones are, and how to change them."""
    other = find_machine("cpu").machine if config.machine == "gpu" else "gpu"
    return (
        f"These are the settings for {NAMES[config.machine]} ({why}): {_sizes(config)}. For those "
        f"for {NAMES[other]} {how} --set machine={other}."
    )


def disagreement(config: Config, device: str, found: Found) -> str | None:
    """What to say if the settings were chosen for another machine than the one torch uses.

    Args:
        device: the device that torch found.
        found: the machine that was found without torch.
    """
    on_gpu = device.partition(":")[0] != "cpu"
    wrong = [(one == "gpu") != on_gpu for one in (config.machine, found.machine)]
    if config.machine is None or not all(wrong):
        return None
    other = "gpu" if on_gpu else find_machine("cpu").machine
    return (
        f"The settings are for {NAMES[config.machine]} ({found.why}), but torch uses the device "
        f"{device}. For the settings for {NAMES[other]} stop this run, and start it with --config "
        f"and --set machine={other}."
    )


def _sizes(config: Config) -> str:
    if config.mode == "end-to-end":
        return f"endtoend at {config.endtoend.image_size} pixels"
    fixed = "a fixed encoder" if config.deeplab.fixed_encoder else "an encoder that learns"
    return (
        f"classifier at {config.classifier.image_size} pixels, deeplab at "
        f"{config.deeplab.image_size} pixels with {fixed}"
    )


def _gpu(root: Path) -> str | None:
    """A file that the driver of a GPU of NVIDIA or AMD made, below ``root``."""
    numbered = [f for f in (root / "dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", f.name)]
    others = [root / _WSL, root / _AMD]
    found = [file for file in (*sorted(numbered), *others) if file.exists()]
    return str(found[0].relative_to(root)) if found else None


def _torch_for(kind: str, folder: Path | None) -> bool:
    """Whether torch was built for GPUs of this kind: ``cuda``, ``hip``. True if nothing says it."""
    if folder is None:
        spec = find_spec("torch")
        folder = Path(spec.origin).parent if spec and spec.origin else Path()
    file = folder / "version.py"
    said = file.read_text("utf-8") if file.is_file() else ""
    return re.search(rf"^{kind}\b.*=\s*None\s*$", said, re.MULTILINE) is None


def _cpu(root: Path) -> Machine:
    return "cpu_bf16" if fast_in_bf16(root) else "cpu"
