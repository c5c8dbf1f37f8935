"""The kernels of PAMR, run by Triton's interpreter on a CPU, give what the torch version gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from getam.labels import pamr as pamr_module
from tests.conftest import ROOT

pytest.importorskip("triton")
NAME = "getam.labels.pamr_kernels"
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from getam.labels import pamr_kernels as kernels

FLOATS = ("image", "weights", "share", "source", "target")
for kernel in (kernels._weigh, kernels._sum):
    names = kernel.arg_names
    types = {n: "*fp32" if n in FLOATS else "*i32" if n == "distances" else "i32" for n in names}
    sizes = {n: v for n, v in {"SLOTS": 4, "PIXELS": 256}.items() if n in names}
    source = ASTSource(kernel, types | dict.fromkeys(sizes, "constexpr"), sizes)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    print(len(made.asm["cubin"]) > 0, "ld.local" in made.asm["ptx"])
"""


INTERPRETED = """
import json, os, sys
import torch
from getam.labels.pamr import _checked_kernels, pamr
from getam.labels.pamr_kernels import refine_fused

torch.set_num_threads(1)
told = [_checked_kernels("cpu") is refine_fused]
for shape, iterations, dilations in json.loads(sys.argv[1]):
    batch, _, height, width = shape
    torch.manual_seed(0)
    images = (torch.rand(batch, 3, height, width) * 255).round()
    images[:, :, : height // 2, : width // 2] = 200  # flat
    masks = torch.rand(shape)
    before = images.clone(), masks.clone()
    found = refine_fused(images, masks, iterations, dilations).double()
    expected = pamr(images.double(), masks.double(), iterations, dilations)
    same = torch.equal(images, before[0]) and torch.equal(masks, before[1])
    told.append([same, ((found - expected).abs() / expected).max().item()])
print(json.dumps(told))
"""
SHAPES = (
    ((2, 3, 13, 21), 3, (1, 2, 4, 8, 12, 24)),
    ((1, 1, 5, 60), 1, (1, 3)),
    ((1, 6, 9, 40), 2, (1, 2)),  # two groups of maps
    ((3, 2, 1, 7), 2, (4,)),
)


def run(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """In a process of its own, because Triton reads the variables when it is imported."""
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_kernels_give_what_the_torch_version_gives():
    done = run(INTERPRETED, json.dumps(SHAPES), TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    accepted, *cases = json.loads(done.stdout)
    assert accepted
    assert len(cases) == len(SHAPES)
    for unchanged, difference in cases:
        assert unchanged
        assert difference < 1e-5


def test_kernels_compile_for_a_gpu_and_keep_their_values_in_registers():
    done = run(COMPILE, TRITON_INTERPRET="0")
    if done.returncode and "ptxas" in done.stderr:
        pytest.skip("this Triton brings no assembler")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "False"] * 2


def fail(*_):
    raise RuntimeError("no compiler")


def test_kernels_that_fail_or_give_other_values_are_not_used(monkeypatch):
    def kernels(function):
        monkeypatch.setitem(sys.modules, NAME, SimpleNamespace(refine_fused=function))
        pamr_module._checked_kernels.cache_clear()
        return pamr_module._checked_kernels("cpu")

    with pytest.warns(UserWarning, match=r"do not run on cpu \(no compiler\)"):
        assert kernels(fail) is None
    with pytest.warns(UserWarning, match="other values than torch on cpu"):
        assert kernels(lambda image, mask, *_: mask) is None
    monkeypatch.setitem(sys.modules, NAME, None)  # as if Triton were not installed
    pamr_module._checked_kernels.cache_clear()
    assert pamr_module._checked_kernels("cpu") is None
    pamr_module._checked_kernels.cache_clear()
