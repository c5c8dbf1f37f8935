"""The chain of stages: which stages a stage needs, and which settings and data it reads.

This table alone decides what reruns. A stage is imported only when it runs. It sees only the
settings that are named here, and ``data.classes``, which every stage except data reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from getam.cache import Stage
from getam.errors import UserError

if TYPE_CHECKING:
    from getam.config.schema import Config

ORDER = (
    "data",
    "classifier",
    "endtoend",
    "maps",
    "foreground",
    "pseudolabels",
    "encoder_features",
    "deeplab",
    "predictions",
    "evaluation",
)
TOGETHER = (
    "classifier",
    "endtoend",
    "maps",
    "encoder_features",
    "deeplab",
    "predictions",
    "evaluation",
)
SPLITS = ("data.train", "data.val")
ONLINE_LABELS = (
    "maps.method",
    "maps.start_block",
    "pseudolabels.saliency",
    "pseudolabels.saliency_model",
    "pseudolabels.saliency_threshold",
    "pseudolabels.pamr",
    "pseudolabels.balance",
    "pseudolabels.completion",
    "pseudolabels.rule",
    "pseudolabels.quantile",
    "pseudolabels.background_power",
    "pseudolabels.opening",
    "pseudolabels.fallback",
)

ENCODER = (
    "seed",
    "deeplab.encoder",
    "deeplab.encoder_args",
    "deeplab.weights",
    "deeplab.image_size",
    "deeplab.blocks",
    "deeplab.precision",
)


def chain(config: Config) -> list[Stage]:
    """The stages of a configuration, in the order they run."""
    return _over_data(config, _stages(config))


def _stages(config: Config) -> list[Stage]:
    to_network = _to_network(config)
    explained = to_network[-1].name
    if config.mode == "end-to-end":
        predictions = _predictions(config, "endtoend")
        return [*to_network, predictions, _evaluation(config, explained, "predictions")]
    supervised = config.deeplab.labels == "masks"
    encoder = [explained] if config.deeplab.weights == "classifier" else []
    fixed = ["encoder_features"] if config.deeplab.fixed_encoder else []
    deeplab_needs = [*encoder, *([] if supervised else ["pseudolabels"]), *fixed]
    own = ["foreground"] if _own_saliency(config) else []
    encoder_features = Stage(
        name="encoder_features",
        function="stages.encoder_features:run",
        needs=tuple(encoder),
        reads=("data.train", *ENCODER),
        data=("images", "splits"),
    )
    return [
        *to_network,
        _maps(explained),
        *([_foreground(explained)] if own else []),
        Stage(
            name="pseudolabels",
            function="stages.pseudolabels:run",
            needs=("maps", *own),
            reads=("data.train", "pseudolabels"),
            data=("images", "labels", *_saliency(config)),
        ),
        *([encoder_features] if fixed else []),
        Stage(
            name="deeplab",
            function="stages.deeplab:run",
            needs=tuple(deeplab_needs),
            reads=("seed", "data.train", "deeplab"),
            data=("images", "labels", *(["masks"] if supervised else [])),
        ),
        _predictions(config, "deeplab"),
        _evaluation(
            config,
            *(explained, "maps", *own, "pseudolabels", "predictions"),
            reads=("deeplab.labels",),
        ),
    ]


def _to_network(config: Config) -> list[Stage]:
    """The stages up to the one that trains the network whose scores the maps explain."""
    classifier = Stage(
        name="classifier",
        function="stages.classifier:run",
        reads=("seed", *SPLITS, "classifier"),
        data=("images", "labels"),
    )
    if config.mode == "multi-stage" and config.maps.source == "classifier":
        return [classifier]
    own = _own_saliency(config)
    if own and config.mode == "multi-stage":
        raise UserError(
            f"pseudolabels.saliency: got {config.pseudolabels.saliency} with maps.source=endtoend, "
            "but the source features needs the maps of a classifier. Set pseudolabels.saliency to "
            "folder, onnx or none, or set maps.source=classifier."
        )
    endtoend = Stage(
        name="endtoend",
        function="stages.endtoend:run",
        needs=("foreground",) if own else (),
        reads=("seed", *SPLITS, "endtoend", *ONLINE_LABELS),
        data=("images", "labels", "val_masks", *_saliency(config)),
    )
    before = [classifier, _maps("classifier"), _foreground("classifier")] if own else []
    return [*before, endtoend]


def _maps(explained: str) -> Stage:
    return Stage(
        name="maps",
        function="stages.maps:run",
        needs=(explained,),
        reads=("data.train", "maps"),
        data=("images", "labels"),
    )


def _foreground(explained: str) -> Stage:
    return Stage(
        name="foreground",
        function="stages.foreground:run",
        needs=(explained, "maps"),
        reads=("data.train", "foreground"),
        data=("images", "labels"),
    )


def _predictions(config: Config, network: str) -> Stage:
    return Stage(
        name="predictions",
        function="stages.predictions:run",
        needs=(network,),
        reads=(*SPLITS, "data.test", "predictions"),
        data=("images", "labels", *(["test"] if config.data.test else [])),
    )


def _evaluation(config: Config, *needs: str, reads: tuple[str, ...] = ()) -> Stage:
    return Stage(
        name="evaluation",
        function="stages.evaluation:run",
        needs=needs,
        reads=("mode", *SPLITS, "evaluation", *reads),
        data=("images", "labels", "masks"),
    )


def _own_saliency(config: Config) -> bool:
    return "features" in config.pseudolabels.saliency


def _saliency(config: Config) -> tuple[str, ...]:
    """The data that saliency is read from: the folder of saliency maps, or none."""
    return ("saliency",) if "folder" in config.pseudolabels.saliency else ()


def comparison(config: Config) -> list[Stage]:
    """The stages of the command compare: the network, then the measurement of map methods on it."""
    to_network = _to_network(config)
    compare = Stage(
        name="compare",
        function="stages.compare:run",
        needs=(to_network[-1].name,),
        reads=("data.train", "maps", "pseudolabels.pamr", "pseudolabels.crf", "compare"),
        data=("images", "labels", "masks"),
    )
    return _over_data(config, [*to_network, compare])


def _over_data(config: Config, stages: list[Stage]) -> list[Stage]:
    """The stages for the kind of data that is set, after the data stage if this kind has one."""
    kind = config.data.kind
    if kind == "shapes":
        made = Stage(name="data", function="stages.data_shapes:run", reads=("data.shapes",))
        return [made, *(_on(stage, "data") for stage in stages)]
    if kind == "coco":
        reads = (*SPLITS, "data.test")
        made = Stage(
            name="data", function="stages.data_coco:run", reads=reads, data=("annotations",)
        )
        files = ("images", "saliency", "test")
        return [made, *(_on(stage, "data", files=files) for stage in stages)]
    return [_on(stage, files=stage.data) for stage in stages]


def _on(stage: Stage, *needs: str, files: Sequence[str] = ()) -> Stage:
    """A copy of the stage that also needs ``needs``, and reads of its data only ``files``."""
    return Stage(
        name=stage.name,
        function=stage.function,
        needs=(*needs, *stage.needs),
        reads=(*stage.reads, "data.classes"),
        data=tuple(part for part in stage.data if part in files),
    )
