"""The precision that a setting names is the one that networks compute in."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from getam.config.loading import load_config
from getam.networks import precision as getam_precision
from getam.networks.inference import Segmenter
from getam.networks.precision import autocast, gradient_scaler
from getam.networks.processor import fast_in_bf16
from getam.running.opening import open_runner
from stages.chain import chain
from tests.conftest import EXAMPLE

AMD, INTEL, ARM = "AuthenticAMD", "GenuineIntel", None
CPUS = [  # vendor, flags, faster in bf16
    (AMD, "avx2 avx512_bf16", True),
    (AMD, "avx2", False),
    (AMD, "avx512_bf16_other", False),
    (INTEL, "avx512_bf16 amx_tile amx_bf16", True),
    (INTEL, "avx512_bf16 avx512_fp16", False),  # a virtual machine hides AMX
    (ARM, "bf16", None),  # not measured
]


@pytest.mark.parametrize(("vendor", "flags", "fast"), CPUS)
def test_a_cpu_is_told_by_its_vendor_and_its_instructions(tmp_path, vendor, flags, fast):
    told = f"vendor_id\t: {vendor}\nflags\t\t: {flags}\n" if vendor else f"Features\t: {flags}\n"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(told)
    assert fast_in_bf16(tmp_path) is fast
    assert fast_in_bf16(tmp_path / "another system") is None


@pytest.fixture
def is_fast(monkeypatch):
    return lambda fast: monkeypatch.setattr(getam_precision, "_cpu_is_fast", lambda: fast)


@pytest.mark.parametrize(
    ("precision", "fast", "dtype"),
    [
        ("fp32", True, torch.float32),
        ("bf16", True, torch.bfloat16),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
        ("auto", None, torch.float32),
    ],
)
def test_a_cpu_computes_in_the_precision_that_is_named(is_fast, precision, fast, dtype):
    is_fast(fast)
    with autocast(precision, "cpu"):
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


def attention_in_bf16(queries, **options):
    with autocast("bf16", "cpu"):
        return functional.scaled_dot_product_attention(queries, queries, queries, **options)


def test_trained_attention_in_bf16_has_the_values_and_gradients_of_the_fused_one(calls):
    queries = torch.randn(2, 3, 10, 8, generator=torch.Generator().manual_seed(0))
    exact, found = queries.clone().requires_grad_(), queries.clone().requires_grad_()
    right = functional.scaled_dot_product_attention(exact, exact, exact)
    made = attention_in_bf16(found)
    assert calls.fused == 1  # that in fp32
    (right**2).sum().backward()
    (made.float() ** 2).sum().backward()
    torch.testing.assert_close(made.float(), right, atol=0.02, rtol=0.02)
    torch.testing.assert_close(found.grad, exact.grad, atol=0.1, rtol=0.05)


def test_attention_stays_fused_where_it_is_not_trained_or_takes_much_memory(calls, monkeypatch):
    queries = torch.randn(2, 3, 10, 8)
    attention_in_bf16(queries)
    attention_in_bf16(queries.requires_grad_(), dropout_p=0.1)
    attention_in_bf16(queries, attn_mask=torch.ones(10, 10, dtype=torch.bool))
    assert calls.fused == 3
    monkeypatch.setattr(getam_precision, "LARGEST_PRODUCT", 2 * 3 * 10 * 10 - 1)
    attention_in_bf16(queries)
    assert calls.fused == 4


class Calls(TorchFunctionMode):
    """Counts the calls of the fused attention that reach torch."""

    def __init__(self):
        super().__init__()
        self.fused = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.fused += function is functional.scaled_dot_product_attention
        return function(*args, **(kwargs or {}))


@pytest.fixture
def calls():
    with Calls() as calls:
        yield calls


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "auto"])
def test_gradients_are_scaled_for_fp16_on_a_gpu_alone(precision):
    assert not gradient_scaler(precision, "cpu").is_enabled()
    if torch.cuda.is_available():
        assert gradient_scaler(precision, "cuda").is_enabled() == (precision == "fp16")


@pytest.mark.parametrize(
    ("capability", "hip", "in_fp16"),
    [
        ((7, 0), None, True),
        ((7, 5), None, True),
        ((8, 0), None, False),
        ((12, 0), None, False),
        ((7, 5), "6.2", False),
    ],
)
def test_a_gpu_that_only_emulates_bf16_computes_in_fp16(monkeypatch, capability, hip, in_fp16):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability
    )
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.amp, "GradScaler", lambda kind, enabled: enabled)
    assert gradient_scaler("auto", "cuda:1") is in_fp16
    assert not gradient_scaler("bf16", "cuda:1")
    assert asked == ([] if hip else [torch.device("cuda:1")])


@pytest.mark.parametrize(
    ("fast", "precision", "warned"),
    [
        (False, "bf16", 1),
        (True, "bf16", 0),
        (None, "bf16", 0),
        (False, "fp32", 0),
        (False, "auto", 0),
    ],
)
def test_bf16_on_a_cpu_that_is_slower_in_it_is_warned_of_once(is_fast, fast, precision, warned):
    is_fast(fast)
    getam_precision._warn_of_slow_bf16.cache_clear()
    with warnings.catch_warnings(record=True) as got:
        warnings.simplefilter("always")
        for _ in range(2):
            with autocast(precision, "cpu"):
                pass
    getam_precision._warn_of_slow_bf16.cache_clear()
    assert len([w for w in got if "bf16 on a CPU that is slower in it" in str(w.message)]) == warned


class Witness(nn.Module):
    """Remembers the precision it was called in."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1)
        self.seen: set[torch.dtype] = set()

    def forward(self, images):
        logits = self.head(images)
        self.seen.add(logits.dtype)
        return logits


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_a_segmenter_computes_in_its_precision_and_answers_in_float32(precision, dtype):
    network = Witness()
    image = np.full((20, 30, 3), 200, np.uint8)
    ((result,),) = Segmenter(network, 32, precision=precision).coarse([image])
    assert network.seen == {getattr(torch, dtype)}
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.sum(0), 1, atol=1e-5)


def run(place: Path, *settings: str, until: str) -> Path:
    config = load_config((), (*EXAMPLE, "pseudolabels.saliency=features", *settings))
    runner = open_runner(chain, config, place / "artifacts", device="cpu", workers=1)
    runner.run(runner.plan(until=until))
    return runner.store.folder(until, runner.key(until))


def read_maps(folder: Path) -> np.ndarray:
    with h5py.File(folder / "maps.h5") as file:
        return file["maps"][:] * file["peak"][:].reshape(-1, 1, 1)


def test_maps_in_bf16_are_nearly_those_in_fp32(tmp_path):
    exact = read_maps(run(tmp_path, until="maps"))
    rounded = read_maps(run(tmp_path, "maps.precision=bf16", until="maps"))
    assert (exact != rounded).any()
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.99


def test_the_foreground_is_computed_in_its_precision(tmp_path, monkeypatch):
    from stages import foreground

    seen, plain = set(), foreground.patch_features

    def watched(*arguments):
        seen.add(torch.is_autocast_enabled("cpu"))
        return plain(*arguments)

    monkeypatch.setattr(foreground, "patch_features", watched)
    run(tmp_path, until="foreground")
    assert seen == {False}
    run(tmp_path, "foreground.precision=bf16", until="foreground")
    assert seen == {False, True}
