"""What the machine fails: memory, outputs, rights. One sentence each, and exit code 1."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from getam.config.loading import load_config
from getam.running.failures import sentence
from stages.chain import ORDER
from tests.conftest import ROOT, Result, make_folder, pipeline
from tests.running.test_interruption import one_sentence, settings


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("failures") / "data")


def test_a_diverged_training_is_a_sentence_and_saves_no_checkpoint_of_it(tmp_path, data):
    rates = ("classifier.lr_encoder=1e30", "classifier.lr_head=1e30", "classifier.epochs=3")
    words = ("run", "--until", "classifier", "--workers", "1")
    always = {"GETAM_CHECKPOINT_SECONDS": "0"}
    done = pipeline(*words, cwd=tmp_path, settings=settings(data, *rates), env=always)
    assert one_sentence(done), done
    assert "Training diverged" in done.err
    again = pipeline(*words, cwd=tmp_path, settings=settings(data, *rates), env=always)
    assert again.err.splitlines()[-1] == done.err.splitlines()[-1]


ERRORS = {
    "memory": ("MemoryError()", "classifier: Out of memory. Close"),
    "CPU": (
        "RuntimeError(\"[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
        'allocate memory: you tried to allocate 99 bytes. Error code 12 (Cannot allocate memory)")',
        "classifier: Out of memory. Close other programs, lower classifier.batch_size or",
    ),
    "GPU": (
        "torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')",
        "classifier: The GPU is out of memory. Stop other programs that use the GPU, lower",
    ),
    "cuBLAS": (
        "RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`')",
        "classifier: The GPU is out of memory.",
    ),
    "refused": (
        "ValueError('Got maps with values down to nan, expected none below 0.')",
        "classifier: Got maps with values down to nan, expected none below 0. No check",
    ),
}


@pytest.mark.parametrize(("error", "told"), ERRORS.values(), ids=ERRORS)
def test_out_of_memory_is_a_sentence_with_the_stage(tmp_path, data, error, told):
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import stages.classifier, torch
def fail(*_, **__):
    raise {error}
stages.classifier.multi_label_soft_margin = fail
from pipeline import main
main()
"""
    (tmp_path / "command.py").write_text(code)
    options = [w for s in settings(data) for w in ("--set", s)]
    words = [sys.executable, "command.py", "run", "--until", "classifier", "--workers", "1"]
    done = subprocess.run([*words, *options], cwd=tmp_path, capture_output=True, text=True)
    result = Result(done.returncode, done.stdout, done.stderr)
    assert one_sentence(result), result
    assert f"Error: {told}" in result.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_an_output_that_is_full_is_a_sentence(tmp_path):
    command = [sys.executable, str(ROOT / "pipeline.py"), "config"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=-1, text=True)
    assert one_sentence(Result(done.returncode, "", done.stderr)), done
    assert "Error: The output cannot be written (No space left on device)" in done.stderr
    assert "Exception ignored" not in done.stderr


def test_an_output_that_is_closed_is_a_sentence(tmp_path):
    command = [sys.executable, str(ROOT / "pipeline.py"), "config"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=tmp_path, stdout=write, stderr=-1, text=True)
    os.close(write)
    assert one_sentence(Result(done.returncode, "", done.stderr)), done
    assert "Error: The program that reads the output ended" in done.stderr
    assert "Exception ignored" not in done.stderr


def _drop_rights() -> None:
    """Before a command begins: root may then read only what the mode of a file allows."""
    import ctypes

    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def with_rights_of_a_user(*words: str, cwd: Path, settings=()) -> Result:
    sets = [w for s in settings for w in ("--set", s)]
    command = [sys.executable, str(ROOT / "pipeline.py"), *words, *sets]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    is_root = os.geteuid() == 0
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=_drop_rights if is_root else None,
    )
    return Result(done.returncode, done.stdout, done.stderr)


needs_rights = pytest.mark.skipif(
    os.geteuid() == 0 and sys.platform != "linux", reason="root reads everything here"
)


@needs_rights
@pytest.mark.parametrize(
    "name", ["labels.csv", "labels.json", "classes.txt", "splits", "images", "images/photo01.png"]
)
def test_data_that_may_not_be_read_is_a_sentence_with_its_name(tmp_path, data, name):
    shutil.copytree(data, tmp_path / "data")
    path = tmp_path / "data" / name
    if name == "labels.json":
        (tmp_path / "data" / "labels.csv").unlink()
        path.write_text('{"photo00": ["cat"]}')
    mode = path.stat().st_mode
    path.chmod(0)
    done = with_rights_of_a_user(
        "run", "--dry-run", cwd=tmp_path, settings=settings(tmp_path / "data")
    )
    path.chmod(mode)
    assert one_sentence(done), done
    assert str(path) in done.err
    assert "Permission denied" in done.err


@needs_rights
def test_a_manifest_that_may_not_be_read_is_a_sentence_to_every_command(tmp_path, data):
    words = ("run", "--until", "classifier", "--workers", "1")
    assert pipeline(*words, cwd=tmp_path, settings=settings(data)).code == 0
    (manifest,) = (tmp_path / "artifacts").glob("classifier/*/manifest.json")
    manifest.chmod(0)
    for command in (words, ("status",), ("gc",), ("verify",)):
        sets = settings(data) if command[0] in ("run", "status") else ()
        done = with_rights_of_a_user(*command, cwd=tmp_path, settings=sets)
        assert done.code == 1, (command, done)
        assert "manifest.json cannot be read (Permission denied)" in done.out + done.err
        assert "Traceback" not in done.err
    manifest.chmod(0o600)
    assert pipeline("verify", cwd=tmp_path).code == 0
    assert [*(tmp_path / "artifacts" / "classifier").glob("*.broken-*")] == []


@pytest.mark.parametrize("stage", [*ORDER, "compare", "agreement"])
def test_out_of_memory_names_settings_that_the_stage_has(stage):
    told = sentence(MemoryError(), stage)
    lower = re.search(r", lower (.*?), or use fewer", told)
    assert bool(lower) == (stage not in ("data", "evaluation")), told
    for setting in lower[1].split(" or ") if lower else ():
        load_config((), [f"{setting}=224"])  # there is such a setting, of a number
