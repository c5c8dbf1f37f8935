"""GETAM: segmentation masks from image-level labels (arXiv 2112.02841).

Names are loaded on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_EXPORTS = {
    "compute_maps": "getam.maps.compute",
    "Adapter": "getam.maps.adapter",
    "complete_labels": "getam.labels.completion",
    "pamr": "getam.labels.pamr",
    "dense_crf": "getam.labels.crf",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'getam' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
