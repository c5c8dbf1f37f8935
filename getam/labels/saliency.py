"""Saliency maps of photos, from the sources that ``pseudolabels.saliency`` names.

A saliency map shows where objects are, of any class. A folder of maps and an ONNX model such as
U2-Net are supervision beyond image-level labels. The scores of the stage ``foreground`` are not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from getam.data.images import read_scores
from getam.data.masks import read_saliency
from getam.errors import UserError
from getam.labels.steps import SoftSaliency

if TYPE_CHECKING:
    from getam.data.index import Record

__all__ = ["Saliency", "SaliencyModel", "open_saliency"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_saliency(
    settings: Any, records: Sequence[Record], folder: Path, model: str, foreground: Path | None
) -> Saliency:
    """Check that the sources of ``pseudolabels.saliency`` exist, and open them.

    Args:
        settings: the fields of ``getam.config.schema.PseudoLabels``.
        records: the photos whose saliency will be read.
        folder: the folder of their saliency maps, for the error message.
        model: the local file that ``pseudolabels.saliency_model`` names.
        foreground: the artifact of the stage foreground, if the run has this stage.

    Raises:
        UserError: the source is folder and a photo has no saliency map, or the source is onnx and
            no model is named.
    """
    sources = settings.saliency.split("+")
    if "folder" in sources:
        _check_files(records, folder)
    if "onnx" in sources and not settings.saliency_model:
        raise UserError(
            f"pseudolabels.saliency_model: got none, expected an ONNX file, because "
            f"pseudolabels.saliency is {settings.saliency}. Set pseudolabels.saliency_model to the "
            f"path of a file, or choose another pseudolabels.saliency."
        )
    scores = foreground and foreground.absolute() / "foreground"
    return Saliency(sources, settings.saliency_threshold, model, scores)


def _check_files(records: Sequence[Record], folder: Path) -> None:
    missing = [r.id for r in records if r.saliency is None]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of {len(records)} photos have no saliency map, the first is "
            f"{missing[0]!r}. Expected ID.png for each photo. Add them, or set "
            f"pseudolabels.saliency to onnx, features or none."
        )


class Saliency:
    """Gives the soft saliency maps of a photo. Can be sent to worker processes.

    Args:
        sources: some of ``folder``, ``onnx`` and ``features``; ``none`` stands for no source.
        threshold: ``pseudolabels.saliency_threshold``.
        model: the ONNX file, for ``onnx``.
        foreground: the folder of ``ID.png`` that the stage foreground wrote, for ``features``.
    """

    def __init__(
        self,
        sources: Collection[str],
        threshold: float,
        model: str | None = None,
        foreground: Path | None = None,
    ) -> None:
        self.sources, self.threshold = tuple(sources), threshold
        self.model = SaliencyModel(model) if "onnx" in self.sources else None
        self.foreground = foreground if "features" in self.sources else None

    def of(self, record: Record, image: np.ndarray, size: tuple[int, int]) -> SoftSaliency:
        """The maps of one photo as a batch of one.

        Args:
            image: (H, W, 3), the photo, or the photo reduced; the maps get its size.
            size: (H, W) of the photo itself, which a map in a folder must have.
        """
        on_grid, at_size = [], []
        if self.foreground is not None:
            on_grid.append(read_scores(self.foreground / f"{record.id}.png"))
        if self.model is not None:
            at_size.append(self.model(image))
        if "folder" in self.sources:
            at_size.append(_sized(read_saliency(record.saliency, size), image.shape[:2]))
        return SoftSaliency(_batch_of_one(on_grid), _batch_of_one(at_size), self.threshold)


def _sized(saliency: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if saliency.shape == tuple(size):
        return saliency
    return cv2.resize(saliency, size[::-1], interpolation=cv2.INTER_AREA)


def _batch_of_one(maps: list[np.ndarray]) -> torch.Tensor:
    """(1, S, h, w)."""
    return torch.from_numpy(np.stack(maps))[None] if maps else torch.empty(1, 0, 1, 1)


class SaliencyModel:
    """A saliency model in an ONNX file, with input (1, 3, S, S) and first output (1, 1, S, S).

    Input: RGB, divided by the maximum of the photo, normalised by the mean and standard deviation
    of ImageNet. Output: scaled so that its minimum is 0 and its maximum 1, resized to the photo.
    The file is loaded on first use, in each process.

    Raises:
        UserError: onnxruntime is not installed, or it cannot load the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._session: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_session": None}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (H, W) float32 in [0, 1]."""
        session = self._load()
        entry = session.get_inputs()[0]
        side = entry.shape[2] if isinstance(entry.shape[2], int) else 320
        resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
        pixels = resized.astype(np.float32) / max(int(resized.max()), 1)
        pixels = ((pixels - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]
        soft = session.run(None, {entry.name: pixels})[0][0, 0]
        low, high = soft.min(), soft.max()
        soft = (soft - low) / max(high - low, 1e-8)
        height, width = image.shape[:2]
        soft = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
        return soft.clip(0, 1)

    def _load(self) -> Any:
        if self._session is None:
            try:
                import onnxruntime
            except ImportError:
                raise UserError(
                    "pseudolabels.saliency: onnx needs onnxruntime, which is not installed: "
                    "pip install 'getam[saliency]'."
                ) from None
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # there is already one process per core
            try:
                self._session = onnxruntime.InferenceSession(
                    self.path, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # the exceptions of onnxruntime have no narrower base
                raise UserError(
                    f"{self.path}: cannot load this saliency model ({error}). Expected an ONNX "
                    f"file such as that of U2-Net. Set pseudolabels.saliency_model to such a file."
                ) from None
        return self._session
