"""Saliency maps from an ONNX model (U2-Net and its kin): supervision beyond image labels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from getam.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
