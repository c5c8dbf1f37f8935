"""Refusing saliency maps and models before the first stage, as ``getam.running.preflight`` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from getam.cache import in_threads
from getam.data.images import image_size
from getam.errors import UserError

if TYPE_CHECKING:
    from getam.data.index import Record
    from getam.labels.saliency import Saliency, SaliencyModel

LOOKED_AT = 1000  # saliency maps whose headers are read
READERS = 8  # threads: reading headers waits for the disk


def check_saliency(saliency: Saliency, records: Sequence[Record]) -> None:
    """Saliency maps must have the size of their photos (by the headers of some, at equal
    distances), and a saliency model must give one for a photo.

    Raises:
        UserError: one of these does not hold.
    """
    if "folder" in saliency.sources:
        some = records[:: max(1, len(records) // LOOKED_AT)]
        sizes = in_threads(lambda r: (image_size(r.image), image_size(r.saliency)), some, READERS)
        for record, (photo, found) in zip(some, sizes):
            if photo != found:
                raise UserError(
                    f"{record.saliency}: got a saliency map of {found[1]} x {found[0]} pixels "
                    f"(width x height), expected {photo[1]} x {photo[0]} as its photo has. Make it "
                    f"again at the size of the upright photo."
                )
    if saliency.model is not None:
        _try_model(saliency.model)


def _try_model(model: SaliencyModel) -> None:
    try:
        model(np.zeros((8, 8, 3), np.uint8))
    except UserError:
        raise
    except Exception as error:  # the exceptions of onnxruntime have no narrower base
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"pseudolabels.saliency_model: {model.path} gives no saliency map ({reason}). Expected "
            f"a model with input (1, 3, S, S) and first output (1, 1, S, S), such as U2-Net."
        ) from None
