"""The chain of stages: what each needs and which settings and data it depends on.

This table is all that decides what reruns; a stage is imported only when it runs. A stage sees
no other settings than those named here, and ``data.classes``, which every stage over data reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from getam.cache import Stage

if TYPE_CHECKING:
    from getam.config import Config

ORDER = ("data", "classifier", "maps", "pseudolabels", "deeplab", "evaluation")
SPLITS = ("data.train", "data.val")


def chain(config: Config) -> list[Stage]:
    """The stages of a configuration, in the order they run."""
    return _over_data(config, _stages(config))


def _stages(config: Config) -> list[Stage]:
    supervised = config.deeplab.labels == "masks"
    saliency = config.pseudolabels.saliency == "folder"
    deeplab_needs = [] if supervised else ["pseudolabels"]
    if config.deeplab.weights == "classifier":
        deeplab_needs.insert(0, "classifier")
    return [
        Stage(
            name="classifier",
            function="stages.classifier:run",
            reads=("seed", *SPLITS, "classifier"),
            data=("images", "labels"),
        ),
        Stage(
            name="maps",
            function="stages.maps:run",
            needs=("classifier",),
            reads=("data.train", "maps"),
            data=("images", "labels"),
        ),
        Stage(
            name="pseudolabels",
            function="stages.pseudolabels:run",
            needs=("maps",),
            reads=("data.train", "pseudolabels"),
            data=("images", "labels", *(["saliency"] if saliency else [])),
        ),
        Stage(
            name="deeplab",
            function="stages.deeplab:run",
            needs=tuple(deeplab_needs),
            reads=("seed", "data.train", "deeplab"),
            data=("images", "labels", *(["masks"] if supervised else [])),
        ),
        Stage(
            name="evaluation",
            function="stages.evaluation:run",
            needs=("classifier", "maps", "pseudolabels", "deeplab"),
            reads=(*SPLITS, "data.test", "evaluation", "deeplab.labels", "deeplab.image_size"),
            data=("images", "labels", "masks", *(["test"] if config.data.test else [])),
        ),
    ]


def comparison(config: Config) -> list[Stage]:
    """The classifier, and map methods x refiners x thresholds on it."""
    classifier = next(stage for stage in _stages(config) if stage.name == "classifier")
    compare = Stage(
        name="compare",
        function="stages.compare:run",
        needs=("classifier",),
        reads=("data.train", "maps", "pseudolabels.pamr", "pseudolabels.crf", "compare"),
        data=("images", "labels", "masks"),
    )
    return _over_data(config, [classifier, compare])


def _over_data(config: Config, stages: list[Stage]) -> list[Stage]:
    """The stages over a kind of data, before them the one that makes it where there is one."""
    kind = config.data.kind
    if kind == "shapes":
        made = Stage(name="data", function="stages.data:run", reads=("data.shapes",))
        return [made, *(_on(stage, "data") for stage in stages)]
    if kind == "coco":
        reads = (*SPLITS, "data.test")
        made = Stage(name="data", function="stages.coco:run", reads=reads, data=("annotations",))
        files = ("images", "saliency", "test")
        return [made, *(_on(stage, "data", files=files) for stage in stages)]
    return [_on(stage, files=stage.data) for stage in stages]


def _on(stage: Stage, *needs: str, files: Sequence[str] = ()) -> Stage:
    """A stage over data made by ``needs``: of files it depends on those parts in ``files``."""
    return Stage(
        name=stage.name,
        function=stage.function,
        needs=(*needs, *stage.needs),
        reads=(*stage.reads, "data.classes"),
        data=tuple(part for part in stage.data if part in files),
    )
