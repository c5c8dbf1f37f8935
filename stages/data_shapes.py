"""data: generates the photos of the embedded example, with exact masks.

needs   nothing
makes   a data folder: images/ masks/ saliency/ splits/ labels.csv classes.txt
costs   seconds
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getam.data.shapes import write_shapes

if TYPE_CHECKING:
    from getam.cache import Job


def run(job: Job) -> dict[str, Any]:
    shapes = job.config.data.shapes
    write_shapes(job.folder, seed=shapes.seed, train=shapes.train, val=shapes.val, size=shapes.size)
    return {"train images": shapes.train, "val images": shapes.val}
