"""The checks of the stages of the mode multi-stage, without torch where that is possible.

A stage module imports torch and timm, which takes seconds. Here its ``check`` is only called if it
has something to look at: a network that is not known to fit (``getam.running.known_networks``), or
files that only some settings have. A stage of this mode without a function here refuses nothing.
``endtoend``, ``compare`` and ``agreement`` have at most a ``check`` beside their ``run``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from getam.data.sampling import evenly
from getam.errors import UserError
from getam.running.known_networks import (
    classifier_fits,
    deeplab_fits,
    foreground_fits,
    maps_fit,
)
from getam.running.preflight_data import (
    check_corrections,
    check_masks,
    check_photos,
    check_sample,
    check_splits,
    data_of,
)

if TYPE_CHECKING:
    from getam.cache import Job

MASKS_LOOKED_AT = 200  # train masks checked before a run; one found wrong later reruns only this


def classifier(job: Job) -> None:
    check_splits(job)
    check_photos(job)
    if not classifier_fits(job):
        from stages.classifier import check

        check(job)


def maps(job: Job) -> None:
    if not maps_fit(job):
        from stages.maps import check

        check(job)


def foreground(job: Job) -> None:
    _check_sample_of_foreground(job)
    if not foreground_fits(job):
        from stages.foreground import check

        check(job)


def _check_sample_of_foreground(job: Job) -> None:
    data, count = data_of(job), job.config.foreground.images
    if data is None:
        return
    labelled = data.labelled(job.config.data.train)
    if not any(record.labels for record in evenly(labelled, count)):
        raise UserError(
            f"foreground.images: got {count}, but the photos that the foreground learns from "
            f"({len(evenly(labelled, count))} of {len(labelled)}, at equal distances) show no "
            f"class. Raise it, up to {len(labelled)}."
        )


def pseudolabels(job: Job) -> None:
    index = job.context.index  # of COCO too, before the stage data has read its labels
    if job.config.pseudolabels.saliency in ("none", "features"):
        return
    if index is not None:
        from getam.running.preflight import check_saliency
        from getam.running.run_saliency import saliency_of

        records = index.split(job.config.data.train)
        check_saliency(saliency_of(job, index, records), records)


def deeplab(job: Job) -> None:
    plain = job.config.deeplab.labels == "pseudolabels" and job.context.corrections is None
    if not (plain and deeplab_fits(job)):
        from stages.deeplab import check

        check(job)


def predictions(job: Job) -> None:
    data, names = data_of(job), job.config.data
    for name in (names.train, names.val, names.test) if data is not None else ():
        if name:
            data.split(name)


def evaluation(job: Job) -> None:
    data, names = data_of(job), job.config.data
    check_sample(job)
    check_corrections(job, lambda record: record.in_sample)
    if data is not None:
        check_masks(data, data.split(names.val))
        check_masks(data, data.split(names.train), MASKS_LOOKED_AT)
