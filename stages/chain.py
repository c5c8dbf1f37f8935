"""The chain of stages: which stages a stage needs, and which settings and data it reads.

This table alone decides what reruns. A stage is imported only when it runs, and sees only the
settings named here, and ``data.classes``, which every stage except data reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
    "doubt",
    "evaluation",
)
TOGETHER = tuple(stage for stage in ORDER if stage not in ("data", "doubt"))
CHECKED = set(ORDER) - {"endtoend"}  # by stages.checks
SPLITS = ("data.train", "data.val")
CORRECTED = ("corrections", "sample")
OF_THE_USER = ("labels", "splits", *CORRECTED)  # what a review and corrections change in any data
ONLINE_LABELS = (
    "maps.method",
    "maps.start_block",
    "pseudolabels.saliency",
    "pseudolabels.saliency_model",
    "pseudolabels.saliency_threshold",
    "pseudolabels.longest_side",
    "pseudolabels.pamr",
    "pseudolabels.balance",
    "pseudolabels.completion",
    "pseudolabels.rule",
    "pseudolabels.quantile",
    "pseudolabels.background_power",
    "pseudolabels.opening",
    "pseudolabels.fallback",
)
REFINERS = tuple(f"pseudolabels.{name}" for name in ("pamr", "crf", "longest_side"))
DOUBT = ("batch_size", "precision", "known_present")  # what doubt reads of predictions
OF_ENCODER = ("encoder", "encoder_args", "weights", "image_size", "blocks", "precision")
ENCODER = ("seed", *(f"deeplab.{name}" for name in OF_ENCODER))


def chain(config: Config) -> list[Stage]:
    """The stages of a configuration, in the order they run."""
    return _over_data(config, _stages(config))


def _stages(config: Config) -> list[Stage]:
    to_network = _to_network(config)
    explained = to_network[-1].name
    if config.mode == "end-to-end":
        evaluation = _evaluation(config, explained, "predictions")
        return [*to_network, *_predictions(config, "endtoend"), evaluation]
    return [
        *_to_deeplab(config, to_network),
        *_predictions(config, "deeplab"),
        _evaluation(
            config,
            *(explained, "maps", *_own(config), "pseudolabels", "predictions"),
            reads=("deeplab.labels",),
        ),
    ]


def _to_deeplab(config: Config, to_network: list[Stage]) -> list[Stage]:
    """The stages up to the segmentation network, in the mode multi-stage."""
    explained = to_network[-1].name
    supervised = config.deeplab.labels == "masks"
    encoder = [explained] if config.deeplab.weights == "classifier" else []
    fixed = ["encoder_features"] if config.deeplab.fixed_encoder else []
    deeplab_needs = [*encoder, *([] if supervised else ["pseudolabels"]), *fixed]
    return [
        *_to_pseudolabels(config, to_network),
        *([_encoder_features(config, explained)] if fixed else []),
        Stage(
            name="deeplab",
            function="stages.deeplab:run",
            needs=tuple(deeplab_needs),
            reads=("seed", "data.train", "deeplab", *(() if supervised else _learning(config))),
            data=("images", "labels", *(["masks"] if supervised else _taught(config))),
        ),
    ]


def _to_pseudolabels(config: Config, to_network: list[Stage]) -> list[Stage]:
    """The stages up to the pseudo labels, in the mode multi-stage."""
    explained, own = to_network[-1].name, _own(config)
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
    ]


def _encoder_features(config: Config, explained: str) -> Stage:
    return Stage(
        name="encoder_features",
        function="stages.encoder_features:run",
        needs=(explained,) if config.deeplab.weights == "classifier" else (),
        reads=("data.train", *ENCODER),
        data=("images", "splits"),
    )


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
    if (own := _own(config)) and config.mode == "multi-stage":
        raise UserError(
            f"pseudolabels.saliency: got {config.pseudolabels.saliency} with maps.source=endtoend, "
            "but the source features needs the maps of a classifier. Set pseudolabels.saliency to "
            "folder, onnx or none, or set maps.source=classifier."
        )
    if (weights := config.endtoend.weights) == "deeplab" and config.mode == "multi-stage":
        raise UserError(
            "endtoend.weights: got deeplab with maps.source=endtoend, but this DeepLab learns from "
            "the pseudo labels of these maps. Set endtoend.weights to classifier, or "
            "maps.source=classifier."
        )
    starts = {"classifier": ("classifier",), "deeplab": ("classifier", "deeplab")}.get(weights, ())
    endtoend = Stage(
        name="endtoend",
        function="stages.endtoend:run",
        needs=(*starts, *own),
        reads=("seed", *SPLITS, "endtoend", *ONLINE_LABELS, *_learning(config)),
        data=("images", "labels", "val_masks", *_saliency(config), *_taught(config)),
    )
    if weights == "deeplab":
        return [*_to_deeplab(config, [classifier]), endtoend]
    finds = [_maps("classifier"), _foreground("classifier")] if own else []
    return [*([classifier] if own or starts else []), *finds, endtoend]


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


def _predictions(config: Config, network: str) -> list[Stage]:
    """predictions, and doubt about the final masks if there are any."""
    final = config.predictions.masks and config.predictions.pseudo_label_weight > 0
    made = network == "deeplab" or config.endtoend.weights == "deeplab"
    both = final and made and config.deeplab.labels == "pseudolabels"
    test = ["test"] if config.data.test else []
    predictions = Stage(
        name="predictions",
        function="stages.predictions:run",
        needs=(network, "pseudolabels") if both else (network,),
        reads=(*SPLITS, "data.test", "predictions", *(_learning(config) if both else ())),
        data=("images", "labels", *test, *(_taught(config) if both else ())),
    )
    doubt = Stage(
        name="doubt",
        function="stages.doubt:run",
        needs=(network, "predictions"),
        reads=(*SPLITS, *(f"predictions.{name}" for name in DOUBT)),
        data=("images", "labels"),
    )
    return [predictions, doubt] if config.predictions.masks else [predictions]


def _evaluation(config: Config, *needs: str, reads: tuple[str, ...] = ()) -> Stage:
    return Stage(
        name="evaluation",
        function="stages.evaluation:run",
        needs=needs,
        reads=("mode", *SPLITS, "evaluation", *reads, *_learning(config)),
        data=("images", "labels", "masks", *_measured(config)),
    )


def _learning(config: Config) -> tuple[str, ...]:
    """The setting that says which corrections are learnt from, if there are corrections."""
    return () if config.data.corrections is None else ("data.learn_from_sample",)


def _taught(config: Config) -> tuple[str, ...]:
    """The data of the corrections that a network learns from."""
    if config.data.corrections is None:
        return ()
    return CORRECTED if config.data.learn_from_sample else ("corrections",)


def _measured(config: Config) -> tuple[str, ...]:
    """The data of the corrections that measure."""
    return () if config.data.corrections is None else ("sample",)


def _own(config: Config) -> list[str]:
    """The stage that finds the objects by the encoder's own features, if the run has it."""
    return ["foreground"] if "features" in config.pseudolabels.saliency else []


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
        reads=("data.train", "maps", *REFINERS, "compare"),
        data=("images", "labels", "masks"),
    )
    return _over_data(config, [*to_network, compare])


def choice(config: Config) -> list[Stage]:
    """The stages of the command choose: up to the figure that ranks settings without masks."""
    if config.mode == "end-to-end":
        stages = _stages(config)
        if not config.predictions.masks:
            raise UserError(
                "predictions.masks: got false, but choose needs the final masks in the mode "
                "end-to-end. Set predictions.masks to true."
            )
        return _over_data(config, stages[:-1])
    to_network = _to_network(config)
    features = _encoder_features(config, to_network[-1].name)
    agreement = Stage(
        name="agreement",
        function="stages.agreement:run",
        needs=(*features.needs, "pseudolabels", "encoder_features"),
        reads=("data.train", *ENCODER),
        data=("images", "labels"),
    )
    return _over_data(config, [*_to_pseudolabels(config, to_network), features, agreement])


def _over_data(config: Config, stages: list[Stage]) -> list[Stage]:
    """The stages for the kind of data that is set, after the data stage if this kind has one."""
    kind = config.data.kind
    if kind == "shapes":
        made = Stage(name="data", function="stages.data_shapes:run", reads=("data.shapes",))
        return [made, *(_on(stage, "data", files=OF_THE_USER) for stage in stages)]
    if kind == "coco":
        reads = (*SPLITS, "data.test")
        made = Stage(
            name="data", function="stages.data_coco:run", reads=reads, data=("annotations",)
        )
        files = ("images", "saliency", "test", *OF_THE_USER)
        return [made, *(_on(stage, "data", files=files) for stage in stages)]
    return [_on(stage, files=stage.data) for stage in stages]


def _on(stage: Stage, *needs: str, files: Sequence[str] = ()) -> Stage:
    """The stage as it also needs ``needs``, and reads of its data only ``files``."""
    check = f"stages.checks:{stage.name}" if stage.name in CHECKED else ""
    data = tuple(part for part in stage.data if part in files)
    all_needs, reads = (*needs, *stage.needs), (*stage.reads, "data.classes")
    return replace(stage, check=check, needs=all_needs, reads=reads, data=data)
