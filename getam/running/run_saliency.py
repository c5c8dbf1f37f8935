"""The saliency maps of a run.

Apart from ``stages.shared``, so that a change of how saliency is read reruns only what reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from getam.labels.saliency import Saliency, open_saliency

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record

__all__ = ["saliency_of"]


def saliency_of(job: Job, data: DataIndex, records: Sequence[Record]) -> Saliency:
    """The saliency maps of these photos, from the sources that the settings name.

    Raises:
        UserError: as :func:`getam.labels.saliency.open_saliency`.
    """
    settings = job.config.pseudolabels
    return open_saliency(
        settings,
        records,
        job.context.saliency or data.root / "saliency",
        job.context.file("pseudolabels.saliency_model", settings.saliency_model),
        job.inputs.get("foreground"),
    )
