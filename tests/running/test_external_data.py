"""ONNX files whose weights are in other files: these are part of what the key is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from getam.config.loading import load_config
from getam.errors import UserError
from getam.running.external_data import external_files
from getam.running.opening import open_runner
from stages.chain import chain
from tests.conftest import TINY, make_folder

SIDE = 32


def external(name: str, location: str, values: np.ndarray) -> TensorProto:
    """A tensor whose numbers are said to be in a file."""
    tensor = numpy_helper.from_array(values.astype(np.float32), name)
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def image(name: str, channels: int):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, channels, SIDE, SIDE))


def saliency_model(path: Path, weights: np.ndarray) -> None:
    """The weighted sum of the colours; the weights are in ``path.data``."""
    kernel = external("kernel", f"{path.name}.data", weights.reshape(1, 3, 1, 1))
    node = helper.make_node("Conv", ["image", "kernel"], ["map"])
    graph = helper.make_graph([node], "saliency", [image("image", 3)], [image("map", 1)], [kernel])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    path.with_name(f"{path.name}.data").write_bytes(weights.astype(np.float32).tobytes())


def model_with_tensors_everywhere() -> onnx.ModelProto:
    """External tensors in every place that a model may have one."""
    value = np.zeros(2)

    def constant(location: str):
        return helper.make_node("Constant", [], [location], value=external("", location, value))

    branch = helper.make_graph(
        [constant("in_subgraph")], "branch", [], [], [external("x", "of_subgraph", value)]
    )
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    several = helper.make_node("Op", [], ["z"], domain="own")
    several.attribute.append(
        helper.make_attribute("list", [external("", "in_a_list", value), TensorProto()])
    )
    sparse = onnx.SparseTensorProto()
    sparse.values.CopyFrom(external("s", "sparse_values", value))
    sparse.indices.CopyFrom(external("", "sparse_indices", value))
    graph = helper.make_graph(
        [constant("in_a_constant"), choice, several],
        "graph",
        [],
        [],
        [external("a", "folder/of_graph", value), numpy_helper.from_array(np.ones(3), "inside")],
    )
    graph.sparse_initializer.append(sparse)
    model = helper.make_model(graph)
    function = onnx.FunctionProto(name="f", domain="own")
    function.node.append(constant("in_a_function"))
    model.functions.append(function)
    training = model.training_info.add()
    training.algorithm.CopyFrom(
        helper.make_graph([], "t", [], [], [external("t", "of_training", value)])
    )
    return model


def test_every_file_that_a_model_names_is_found(tmp_path):
    names = [
        "folder/of_graph",
        *("in_a_constant", "in_a_function", "in_a_list", "in_subgraph", "of_subgraph"),
        *("of_training", "sparse_indices", "sparse_values"),
    ]
    (tmp_path / "folder").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "model.onnx").write_bytes(model_with_tensors_everywhere().SerializeToString())
    assert external_files(tmp_path / "model.onnx") == [tmp_path / name for name in names]


def test_files_that_torch_exports_are_found(tmp_path):
    network = torch.nn.Linear(64, 64).eval()  # smaller weights stay inside
    example = (torch.zeros(1, 64),)
    path = tmp_path / "model.onnx"
    torch.onnx.export(network, example, path, dynamo=True, external_data=True, verbose=False)
    assert external_files(path) == [tmp_path / "model.onnx.data"]


@pytest.mark.parametrize("content", [b"", b"\x0f", b"no model at all", b"\xff" * 100, b":\xff\xff"])
def test_a_file_that_is_no_onnx_names_no_other(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    assert external_files(tmp_path / "model.onnx") == []


def test_a_model_cut_off_anywhere_is_looked_at_without_an_error(tmp_path):
    whole = model_with_tensors_everywhere().SerializeToString()
    for size in range(0, len(whole), 7):
        (tmp_path / "model.onnx").write_bytes(whole[:size])
        try:
            external_files(tmp_path / "model.onnx")
        except UserError as error:
            assert "which is missing" in str(error)  # noqa: PT017


@pytest.mark.parametrize("name", ["../weights", "/etc/passwd", "a/../../weights"])
def test_a_file_outside_the_folder_of_the_model_is_refused(tmp_path, name):
    graph = helper.make_graph([], "g", [], [], [external("a", name, np.zeros(2))])
    path = tmp_path / "inside" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(helper.make_model(graph).SerializeToString())
    (tmp_path / "weights").write_bytes(b"x")
    with pytest.raises(UserError, match="expected one in the same folder"):
        external_files(path)


def open_chain(place: Path):
    sets = (
        *TINY,
        "data.kind=folder",
        f"data.root={place / 'data'}",
        "pseudolabels.saliency=onnx",
        f"pseudolabels.saliency_model={place / 'model.onnx'}",
    )
    config = load_config((), sets)
    return open_runner(chain, config, place / "artifacts", device="cpu", workers=1)


def test_other_weights_beside_a_model_are_another_key(tmp_path):
    make_folder(tmp_path / "data")
    saliency_model(tmp_path / "model.onnx", np.array([1, 0, 0]))
    before = open_chain(tmp_path)
    before.run(before.plan(until="pseudolabels"))
    (tmp_path / "model.onnx.data").write_bytes(np.array([0, 1, 0], np.float32).tobytes())
    after = open_chain(tmp_path)
    assert after.key("maps") == before.key("maps")
    assert after.key("pseudolabels") != before.key("pseudolabels")
    after.run(after.plan(until="pseudolabels"))
    labels = [r.store.manifest("pseudolabels", r.key("pseudolabels")) for r in (before, after)]
    assert labels[0].files != labels[1].files


def test_weights_that_are_missing_beside_a_model_are_said_before_anything_runs(tmp_path):
    make_folder(tmp_path / "data")
    saliency_model(tmp_path / "model.onnx", np.array([1, 0, 0]))
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(UserError, match=r"weights are in model.onnx.data, which is missing"):
        open_chain(tmp_path)
