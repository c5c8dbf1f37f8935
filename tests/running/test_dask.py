"""Pseudo labels made by a Dask cluster are those made here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from getam.config.loading import load_config
from getam.errors import UserError
from getam.running.opening import open_runner
from pipeline import main
from stages.chain import chain
from tests.conftest import ROOT, TINY, make_folder

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("place")
    make_folder(place / "data")
    return place


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process of its own that stands in another folder."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{before}"
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
    ) as cluster:
        yield cluster.scheduler_address.replace("tcp://", "dask://")
    os.environ["PYTHONPATH"] = before


def labels(place: Path, artifacts: str, **options) -> dict[str, bytes]:
    settings = ("data.kind=folder", f"data.root={place / 'data'}", *TINY)
    config = load_config((), (*settings, "pseudolabels.crf.enabled=true"))
    runner = open_runner(chain, config, place / artifacts, device="cpu", **options)
    made = runner.run(runner.plan(until="pseudolabels"))
    return {p.name: p.read_bytes() for p in (made["pseudolabels"] / "labels").iterdir()}


def executed(cluster: str) -> int:
    """Tasks that the workers have carried out."""
    with distributed.Client(cluster.replace("dask://", "tcp://")) as client:
        return sum(client.run(lambda dask_worker: dask_worker.state.executed_count).values())


def test_labels_of_two_dask_workers_are_byte_identical(place, cluster, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr("getam.running.photo_work.CHUNK", 2)
    here = labels(place, "artifacts", workers=1)
    assert len(here) == 8
    shutil.copytree(place / "artifacts", place / "copy")
    shutil.rmtree(place / "copy" / "pseudolabels")
    before = executed(cluster)
    assert labels(place, "copy", workers=cluster) == here
    assert executed(cluster) >= before + 4  # by the workers, not here


def test_a_cluster_that_is_not_there_is_one_sentence(place, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match="--workers dask://localhost:1: there is no Dask scheduler"):
        labels(place, "nowhere", workers="dask://localhost:1")


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "dask://", "tcp://localhost:1"])
def test_other_words_are_wrong_usage(wrong):
    result = CliRunner().invoke(main, ["run", "--workers", wrong])
    assert result.exit_code == 2
    assert "dask://host:port" in result.output
