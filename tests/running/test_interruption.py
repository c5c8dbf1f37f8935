"""How commands end that are stopped, or that the machine fails: one sentence, and an exit code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from getam.cache import Store, verify
from tests.conftest import ROOT, TINY, Result, make_folder, pipeline

LONG = ("classifier.epochs=100000",)  # a training that ends only when it is stopped


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("interruption") / "data")


def settings(data: Path, *more: str) -> tuple[str, ...]:
    return ("data.kind=folder", f"data.root={data}", *TINY, *more)


def start(place: Path, data: Path, *words: str, sets=(), env=None) -> subprocess.Popen:
    options = [w for s in settings(data, *sets) for w in ("--set", s)]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "pipeline.py"), "run", *words, *options],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(condition, process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def in_training(place: Path) -> bool:
    """Whether the classifier has been trained for a while."""
    return any((place / "artifacts" / "classifier").glob("*.partial/started.json"))


def one_sentence(result: Result) -> bool:
    errors = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    return result.code == 1 and len(errors) == 1 and "Traceback" not in result.err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_stopped_training_saves_a_checkpoint_and_says_how_to_go_on(tmp_path, data, number, code):
    process = start(tmp_path, data, "--until", "classifier", "--workers", "1", sets=LONG)
    until(lambda: in_training(tmp_path), process)
    time.sleep(1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Interrupted: run again to go on." in err
    assert "Traceback" not in err
    assert len(list((tmp_path / "artifacts").rglob("checkpoint.pt"))) == 1
    told = pipeline("status", cwd=tmp_path, settings=settings(data, *LONG))
    assert "partial" in told.out
    assert "interrupted; goes on from what it has" in told.out


def children_of(pid: int) -> set[int]:
    """All processes below a process."""
    table = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split() for line in table]
    parents = {int(p): int(pp) for p, pp, stat in rows if not stat.startswith("Z")}
    found, pending = set(), {pid}
    while pending:
        above = pending.pop()
        below = {p for p, pp in parents.items() if pp == above}
        pending |= below - found
        found |= below
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that are still there, and are no remains that nobody has asked for."""
    table = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,stat="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split() for line in table]
    return pids & {int(pid) for pid, stat in rows if not stat.startswith("Z")}


def in_labels(place: Path) -> bool:
    return any((place / "artifacts" / "pseudolabels").glob("*.partial/labels/*.png"))


SLOW = ("pseudolabels.pamr.iterations=3000",)  # a photo takes seconds


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, data) -> Path:
    """The artifacts up to the maps."""
    place = tmp_path_factory.mktemp("mapped")
    done = pipeline("run", "--until", "maps", "--workers", "1", cwd=place, settings=settings(data))
    assert done.code == 0, done
    return place


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_command_however_it_ends(tmp_path, data, mapped, number):
    shutil.copytree(mapped / "artifacts", tmp_path / "artifacts")
    words = ("--until", "pseudolabels", "--workers", "2")
    process = start(tmp_path, data, *words, sets=SLOW)
    until(lambda: in_labels(tmp_path), process)
    workers = children_of(process.pid)
    assert len(workers) >= 2
    process.send_signal(number)
    process.communicate(timeout=60)
    codes = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
    assert process.returncode == codes[number]
    end = time.monotonic() + 5
    while alive(workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(workers)
    assert verify(Store(tmp_path / "artifacts")) == []


def test_workers_that_wait_for_work_end_with_a_stopped_training(tmp_path, data, mapped):
    """They made the labels, and would wait minutes for more."""
    shutil.copytree(mapped / "artifacts", tmp_path / "artifacts")
    words = ("--until", "deeplab", "--workers", "2")
    process = start(tmp_path, data, *words, sets=("deeplab.epochs=100000",))
    until(lambda: any((tmp_path / "artifacts").glob("deeplab/*.partial/started.json")), process)
    time.sleep(1)
    workers = children_of(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert not alive(workers)


def test_a_killed_worker_is_a_sentence_and_the_next_run_goes_on(tmp_path, data, mapped):
    shutil.copytree(mapped / "artifacts", tmp_path / "artifacts")
    words = ("--until", "pseudolabels", "--workers", "2")
    process = start(tmp_path, data, *words, sets=SLOW)
    until(lambda: in_labels(tmp_path), process)
    table = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    ours = children_of(process.pid)
    loky = [line.split()[0] for line in table if "LokyProcess" in line]
    os.kill(next(int(pid) for pid in loky if int(pid) in ours), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    result = Result(process.returncode, "", err)
    assert one_sentence(result), result
    assert "pseudolabels: A worker process was killed" in err
    told = pipeline("status", cwd=tmp_path, settings=settings(data, *SLOW))
    assert "A worker process was killed" in told.out


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
        "classifier: Out of memory. Close other programs, lower the batch_size",
    ),
    "GPU": (
        "torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')",
        "classifier: The GPU is out of memory. Stop other programs that use the GPU, lower",
    ),
    "cuBLAS": (
        "RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`')",
        "classifier: The GPU is out of memory.",
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
