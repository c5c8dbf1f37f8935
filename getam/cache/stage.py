"""What a stage declares, what it is given, and the key of what it makes."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CacheError

if TYPE_CHECKING:
    from .pieces import Pieces

KEY_LENGTH = 20
SCRATCH = "scratch"

Ingredients = dict[
    str, dict[str, Any]
]  # group ("config", "inputs", "data", "code") -> name -> value


@dataclass(frozen=True)
class Stage:
    """One step of the chain.

    `function` is "module:name", imported when the stage runs and called with a `Job`; it returns
    a dict of headline metrics. `needs` names the stages whose artifacts it reads, `reads` the
    dotted config paths and `data` the data parts. What is not declared cannot be read. `check` is
    the function, "module:name", that refuses what the stage would refuse; without it a function
    `check` beside `function`, if there is one.

    >>> Stage("maps", "stages.maps:run", needs=("classifier",), reads=("maps", "seed")).name
    'maps'
    """

    name: str
    function: str
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    check: str = ""

    def __post_init__(self) -> None:
        if not is_stage_name(self.name):
            raise ValueError(
                f"stage name {self.name!r} is not usable as a folder: use letters, digits, - and _"
                " after a letter, and not 'runs'"
            )
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.function):
            raise ValueError(
                f"function {self.function!r} of stage {self.name!r}: use 'module:name'"
            )

    @property
    def module(self) -> str:
        return self.function.partition(":")[0]


def is_stage_name(name: str) -> bool:
    """Whether `name` can be the folder of a stage in the artifacts folder."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", name) is not None and name != "runs"


@dataclass(frozen=True)
class DataPart:
    """A part of the data set: its digest, and on demand what it is made of (item -> digest).

    >>> DataPart.of_items({"2007_000032": "ab12"}).digest[:8]
    '950d0745'
    """

    digest: str
    details: Callable[[], Mapping[str, str]]

    @classmethod
    def of_items(cls, items: Mapping[str, str]) -> DataPart:
        """The part made of `items`, e.g. image id -> content digest; their order is no matter."""
        digest = hashlib.sha256(canonical(dict(items)).encode()).hexdigest()
        return cls(digest, lambda: items)


class ConfigView:
    """The declared settings of a stage, by attribute; ``**view`` unpacks a section.

    >>> view = ConfigView("maps", {"maps": {"method": "getam"}})
    >>> view.maps.method, dict(view.maps)
    ('getam', {'method': 'getam'})
    """

    __slots__ = ("_path", "_stage", "_values")

    def __init__(self, stage: str, values: Mapping[str, Any], path: str = "") -> None:
        object.__setattr__(self, "_stage", stage)
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "_path", path)

    def __getitem__(self, name: str) -> Any:
        return self._frozen(self._values[name], f"{self._path}{name}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._values:
            raise AttributeError(
                f"stage {self._stage!r} has no config {self._path + name!r}: declare it in the "
                "reads of the stage, or mend the name"
            )
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"config {self._path + name!r} is read-only: set it before the run")

    def keys(self) -> Iterator[str]:
        return iter(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple:
        return ConfigView, (self._stage, self._values, self._path)

    def __repr__(self) -> str:
        return f"ConfigView({self._values!r})"

    def _frozen(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return ConfigView(self._stage, value, path + ".")
        if isinstance(value, list):
            return tuple(self._frozen(item, path) for item in value)
        return value


@dataclass(frozen=True)
class Job:
    """What a stage function is given.

    Files written into `folder` become the artifact. Those written as `pieces` survive a kill: the
    stage is then called again with the same folder, and goes on from the pieces that it has. All
    other files are removed before. `scratch` is for checkpoints and shards, and is deleted once the
    artifact is complete. `context` is whatever the caller handed to the runner (data set, device,
    workers): nothing of it is in the key.
    """

    stage: str
    key: str
    folder: Path
    inputs: Mapping[str, Path]
    config: ConfigView
    context: Any
    pieces: Pieces | None  # None before the run, when a stage is only asked what it would refuse

    @property
    def scratch(self) -> Path:
        return self.folder / SCRATCH


def select(config: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """The part of `config` that `stage` declares, as plain JSON values.

    Raises CacheError where a declared path is not in `config`.
    """
    selected: dict[str, Any] = {}
    for path in stage.reads:
        *parents, last = path.split(".")
        source, target = config, selected
        for name in parents:
            source = source.get(name) if isinstance(source, Mapping) else None
            target = target.setdefault(name, {})
        if not isinstance(source, Mapping) or last not in source:
            raise CacheError(
                f"stage {stage.name!r} reads config {path!r}, which is not in the configuration: "
                "add the setting, or mend the reads of the stage"
            )
        target[last] = plain(source[last], path)
    return selected


def plain(value: Any, path: str = "config") -> Any:
    """`value` with only what JSON holds; TypeError or ValueError names the place otherwise."""
    if isinstance(value, Mapping):
        return {str(name): plain(item, f"{path}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path} is {value}; a finite number is needed")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"{path} is a {type(value).__name__}; use text, numbers, lists and dicts only")


def plain_metrics(stage: str, metrics: Any) -> dict[str, Any]:
    """What a stage returned, for its manifest. Scalars of numerical libraries become numbers and
    numbers that are not finite None: a stage must not be lost over its headline."""
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        kind = type(metrics).__name__
        raise TypeError(f"stage {stage!r} returned a {kind}; return a dict of metrics, or nothing")

    def simple(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(name): simple(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [simple(item) for item in value]
        value = value.item() if hasattr(value, "item") else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return plain(simple(metrics), f"metrics of {stage}")


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value of each leaf; dots inside a name are escaped, so that no two trees
    have the same leaves.

    >>> leaves({"maps": {"method": "getam"}, "seed": 0})
    {'maps.method': 'getam', 'seed': 0}
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        path = prefix + name.replace("\\", "\\\\").replace(".", "\\.")
        if isinstance(value, dict) and value:
            found |= leaves(value, path + ".")
        else:
            found[path] = value
    return found


def canonical(value: Any) -> str:
    """The one way to write `value` as JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(ingredients: Ingredients) -> str:
    """Content hash of the ingredients: the name of the artifact.

    >>> key_of({"config": {"seed": 0}})
    '573b62b34d0a0462faf1'
    """
    return hashlib.sha256(canonical(ingredients).encode()).hexdigest()[:KEY_LENGTH]
