"""GETAM: segmentation masks from image-level labels (arXiv 2112.02841).

maps      class maps from the attention of a ViT
labels    from class maps to one label per pixel, and how far to trust it
networks  the networks: building, saving, loading and running them
training  one training loop, and the losses
metrics   what the results are measured by
data      data sets: one file per kind, all read through the same index
exchange  masks on the way to annotation tools and back
config    settings: what can be set, and how it is read
cache     stages whose results are kept under a hash of what they were made from
running   runs the stages; its folder commands has the commands that look at a run
view      output for people
errors    the exception that becomes one sentence

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
