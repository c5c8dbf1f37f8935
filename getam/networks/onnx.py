"""Exports a segmentation network as one ONNX file, from RGB to class probabilities."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from getam.cache import atomic_write
from getam.errors import UserError
from getam.networks.build import normalisation

TOLERANCE = 1e-4  # between probabilities of torch and onnxruntime
INPUT, OUTPUT = "images", "probabilities"


class Deployed(nn.Module):
    """RGB in [0, 1] (B, 3, H, W), not normalised -> class probabilities (B, K, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(s).view(1, 3, 1, 1) for s in normalisation(network))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std).softmax(1)


def export_onnx(
    path: Path, network: nn.Module, image_size: int, classes: Sequence[str]
) -> tuple[str, float]:
    """Write a network as ONNX, and compare the output of onnxruntime with that of torch.

    The file takes any batch size, and any height and width that are multiples of the network's
    ``stride``. With a hybrid ViT it takes one square size only, because the exporter cannot follow
    the padding of its stem. The metadata of the file are ``classes``, ``stride`` and
    ``image_size``, the long side in training.

    Returns:
        The sizes that the file takes, in words, and the largest difference of a probability.

    Raises:
        UserError: onnx, onnxscript or onnxruntime is not installed; torch cannot export this
            network; or the probabilities differ by more than ``TOLERANCE``.
    """
    import_onnx()
    deployed = Deployed(network.cpu()).eval()
    stride, fixed = network.stride, _is_hybrid(network)
    side = -(-image_size // stride) * stride
    shapes = [(2, 3, side, side), (1, 3, side, side)]
    if not fixed:
        shapes = [(2, 3, side, side + stride), (1, 3, side + 2 * stride, side)]
    program = _program(deployed, shapes[0], fixed)
    details = {"classes": json.dumps(list(classes)), "image_size": str(image_size)}
    program.model.metadata_props.update({**details, "stride": str(stride)})
    with atomic_write(path) as temporary:
        program.save(str(temporary))
        difference = max(_difference(temporary, deployed, shape) for shape in shapes)
        if not difference <= TOLERANCE:
            raise UserError(
                f"{path}: the probabilities of the exported network differ from those of torch by "
                f"{difference:.2g}, expected at most {TOLERANCE:g}. The file was not written. Try "
                f"another version of torch."
            )
    return f"H = W = {side}" if fixed else f"H and W multiples of {stride}", difference


def _is_hybrid(network: nn.Module) -> bool:
    embedding = getattr(getattr(network, "encoder", network), "patch_embed", None)
    return hasattr(embedding, "backbone")


def _program(deployed: nn.Module, shape: tuple[int, ...], fixed: bool) -> torch.onnx.ONNXProgram:
    dimension = torch.export.Dim
    sides = {} if fixed else {2: dimension.AUTO, 3: dimension.AUTO}
    free = {0: dimension("batch"), **sides}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own deprecations
        try:
            return torch.onnx.export(
                deployed,
                (torch.rand(shape),),
                dynamo=True,
                dynamic_shapes={"images": free},
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"torch cannot export this network as ONNX ({reason}). Try another version of "
                f"torch."
            ) from None


def _difference(path: Path, deployed: nn.Module, shape: tuple[int, ...]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = deployed(images).numpy()
    return float(np.abs(session.run([OUTPUT], {INPUT: images.numpy()})[0] - expected).max())


def import_onnx() -> None:
    """Import the packages that the export needs.

    Raises:
        UserError: a package is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"This export needs {error.name}, which is not installed: pip install 'getam[export]'."
        ) from None
