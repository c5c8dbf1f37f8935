"""Where objects of any class are in a photo: the sources that ``pseudolabels.saliency`` names.

A folder of maps and an ONNX model (U2-Net and its kin) are supervision beyond image-level labels;
the foreground that the ``foreground`` stage finds is not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from getam.data.images import read_saliency, read_scores
from getam.errors import UserError
from getam.labels.steps import SoftSaliency

if TYPE_CHECKING:
    from getam.data.index import Record

__all__ = ["Saliency", "SaliencyModel", "open_saliency"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_saliency(
    settings: Any, records: Sequence[Record], folder: Path, model: str, foreground: Path | None
) -> Saliency:
    """The sources that ``pseudolabels.saliency`` asks for, once they are known to be there.

    Args:
        settings: the fields of ``getam.config.schema.PseudoLabels``.
        records: the photos that will be asked about.
        folder: where their saliency maps are expected.
        model: the local file that ``pseudolabels.saliency_model`` names.
        foreground: the artifact of the foreground stage, where the run has one.

    Raises:
        UserError: a photo has no saliency map, or no model is named, where they are asked for.
    """
    sources = settings.saliency.split("+")
    if "folder" in sources:
        _check_files(records, folder)
    if "onnx" in sources and not settings.saliency_model:
        raise UserError(
            f"pseudolabels.saliency_model: got none, expected an ONNX file, as "
            f"pseudolabels.saliency is {settings.saliency}. Set it to the path of one."
        )
    scores = foreground and foreground.absolute() / "foreground"
    return Saliency(sources, settings.saliency_threshold, model, scores)


def _check_files(records: Sequence[Record], folder: Path) -> None:
    missing = [r.id for r in records if r.saliency is None]
    if missing:
        raise UserError(
            f"{folder}: got no saliency map for {len(missing)} of {len(records)} "
            f"images, {missing[0]!r} first; expected ID.png for each. Add them, or set "
            f"pseudolabels.saliency to onnx, features or none."
        )


class Saliency:
    """The soft saliency maps of single photos, from one source or several. Travels to processes.

    Args:
        sources: of ``folder``, ``onnx`` and ``features``; ``none`` is no source.
        threshold: ``pseudolabels.saliency_threshold``.
        model: the ONNX file, for ``onnx``.
        foreground: the folder of ``ID.png`` that the foreground stage wrote, for ``features``.
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

    def of(self, record: Record, image: np.ndarray) -> SoftSaliency:
        """The maps of one photo ``image`` (H, W, 3), as a batch of one."""
        on_grid, at_size = [], []
        if self.foreground is not None:
            on_grid.append(read_scores(self.foreground / f"{record.id}.png"))
        if self.model is not None:
            at_size.append(self.model(image))
        if "folder" in self.sources:
            at_size.append(read_saliency(record.saliency, image.shape[:2]))
        return SoftSaliency(_batch_of_one(on_grid), _batch_of_one(at_size), self.threshold)


def _batch_of_one(maps: list[np.ndarray]) -> torch.Tensor:
    """(1, S, h, w)."""
    return torch.from_numpy(np.stack(maps))[None] if maps else torch.empty(1, 0, 1, 1)


class SaliencyModel:
    """An ONNX file with input (1, 3, S, S) and a first output (1, 1, S, S).

    Input: RGB divided by the image's maximum, ImageNet mean and standard deviation. Output:
    min-max normalised, resized to the image. Loaded on first use, anew in each process.

    Raises:
        UserError: onnxruntime is not installed, or the file is no such model.
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
            options.intra_op_num_threads = 1  # one process per core already
            try:
                self._session = onnxruntime.InferenceSession(
                    self.path, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime's own kinds derive from Exception alone
                raise UserError(
                    f"{self.path}: cannot load this saliency model ({error}). Expected an ONNX "
                    f"file such as U2-Net's; set pseudolabels.saliency_model."
                ) from None
        return self._session
