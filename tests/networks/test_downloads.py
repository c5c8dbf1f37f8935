"""Weights that timm downloads: fetched before the first stage, or refused in one sentence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
from click.testing import CliRunner
from huggingface_hub import constants
from safetensors.torch import save

from getam.errors import UserError
from getam.networks.build import build_classifier
from getam.networks.downloads import pretrained_source
from pipeline import main
from tests.conftest import TINY, Result, make_folder

NOBODY = "http://127.0.0.1:9"  # the port of "discard", where nothing listens
MODEL = "test_vit"  # the smallest ViT of timm that has weights
PRETRAINED = (
    "data.kind=folder",
    *TINY,
    "classifier.weights=timm",
    f"classifier.model={MODEL}",
    "classifier.model_args={}",
    "deeplab.weights=timm",
    f"deeplab.encoder={MODEL}",
    "deeplab.encoder_args={}",
)
Hub = Callable[[str], None]


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Hub:
    """Chooses the address of the hub. Its cache is empty at first."""

    def choose(address: str) -> None:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", address)

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    choose(NOBODY)
    return choose


@pytest.fixture
def place(tmp_path: Path) -> Path:
    make_folder(tmp_path / "data")
    return tmp_path


def run(place: Path, *options: str, settings: tuple[str, ...] = ()) -> Result:
    every = (f"data.root={place / 'data'}", *PRETRAINED, *settings)
    sets = [word for setting in every for word in ("--set", setting)]
    words = ["run", "--workers", "1", "--artifacts", str(place / "artifacts"), *options, *sets]
    done = CliRunner().invoke(main, words)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Result(done.exit_code, done.output, done.output)


def test_a_download_that_fails_is_one_sentence_before_the_first_stage(place, hub, caplog):
    done = run(place)
    assert done.code == 1, done
    last = done.err.splitlines()[-1]
    assert last.startswith("Error: classifier.weights: the pretrained weights of test_vit"), done
    assert f"downloaded from {NOBODY}/timm/test_vit" in last
    assert "set classifier.weights to its path" in last
    assert "Retrying" not in caplog.text  # huggingface_hub alone tries ten times, for a minute
    assert done.stages_run() == []


def test_that_the_encoder_cannot_be_downloaded_is_said_before_the_classifier_trains(place, hub):
    done = run(place, settings=("classifier.weights=none",))
    assert "Error: deeplab.weights: the pretrained" in done.err.splitlines()[-1], done
    assert done.stages_run() == []


def test_a_dry_run_and_the_stages_before_it_need_no_download(place, hub):
    assert run(place, "--dry-run").code == 0
    made = run(place, "--until", "classifier", settings=("classifier.weights=none",))
    assert made.code == 0, made


def test_a_network_that_is_built_without_a_run_ends_with_the_sentence_too(hub):
    with pytest.raises(UserError, match="weights: the pretrained weights of test_vit are not"):
        build_classifier(MODEL, 2, 160, {}, "timm")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("vit_tiny_patch16_224.nonsense", "it has vit_tiny_patch16_224.augreg_in21k"),
        ("vit_base_patch16_18x2_224", "timm has no pretrained weights for this model"),
    ],
)
def test_weights_that_timm_does_not_have_are_refused_without_a_network(place, hub, model, told):
    with pytest.raises(UserError, match=told):
        pretrained_source(model)
    done = run(place, "--dry-run", settings=(f"classifier.model={model}",))
    assert told in done.err.splitlines()[-1], done


@pytest.fixture
def mirror() -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine that has random weights of the model; the paths it was asked for."""
    body = save(timm.create_model(MODEL, num_classes=1000).state_dict())
    asked: list[str] = []

    class Mirror(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(b"")

        def do_GET(self) -> None:
            self._answer(body)

        def _answer(self, sent: bytes) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(200 if self.path.endswith("model.safetensors") else 404)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"0123456789abcdef"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def test_weights_are_downloaded_once_and_then_used_without_a_network(place, hub, mirror):
    address, asked = mirror
    hub(address)
    first = run(place, "--until", "classifier")
    assert first.code == 0, first
    assert f"note: downloading the weights of {MODEL} from {address}/timm/{MODEL}" in first.err
    assert sum(one.startswith("GET") for one in asked) == 1, asked
    hub(NOBODY)
    again = run(place, "--until", "classifier", settings=("seed=1",))
    assert (again.code, again.stages_run()) == (0, ["classifier"]), again
