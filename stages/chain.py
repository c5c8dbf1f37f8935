"""The chain of stages: what each needs and which settings and data it depends on.

This table is all that decides what reruns; a stage is imported only when it runs. A stage sees
no other settings than those named here.
"""

from __future__ import annotations

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
            reads=(*SPLITS, "evaluation", "deeplab.labels", "deeplab.image_size"),
            data=("images", "labels", "masks"),
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
    return stages if config.data.kind == "folder" else [_generated(), *map(_on_generated, stages)]


def _generated() -> Stage:
    return Stage(name="data", function="stages.data:run", reads=("data.shapes",))


def _on_generated(stage: Stage) -> Stage:
    """The same stage over the generated data: it depends on how that is made, not on files."""
    return Stage(
        name=stage.name,
        function=stage.function,
        needs=("data", *stage.needs),
        reads=stage.reads,
        data=(),
    )
