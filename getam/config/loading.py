"""From YAML files and assignments on the command line to a typed configuration.

A YAML file contains only the settings that differ from the defaults in ``getam.config.schema``, or
from the file that its line ``extends: OTHER.yaml`` names. A preset is such a file that comes with
the package and is called by its name. ``--set section.field=value`` changes one setting and wins
over the files. An unknown name is an error that suggests the nearest known name.

A file may have parts with settings for one kind of machine: ``on_gpu:``, ``on_cpu:`` and
``on_cpu_bf16:``. The parts for the machine are laid over the rest of this file, and the setting
``machine`` records which they were. A part may have a line ``extends: OTHER.yaml`` too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from getam.config.base import Machine
from getam.config.hub_models import arguments_of_others, in_terms_of_timm
from getam.config.mistakes import expected
from getam.config.names import check_names, section_of, takes_text_only, without_empty_sections
from getam.config.nearest import did_you_mean, nearest
from getam.config.origin import PARTS, has, origin
from getam.config.plain_yaml import DEEPEST, NotYaml, parse_yaml, read_yaml
from getam.config.schema import Config
from getam.errors import UserError

PRESETS = Path(__file__).resolve().parent / "presets"  # in a clone a link to configs/
REPLACED_WHOLE = ("model_args", "encoder_args")  # not merged name by name
PATHS = (
    "data.root",
    "data.review",
    "data.corrections",  # but see recorded
    "classifier.weights",
    "deeplab.weights",
    "endtoend.weights",
    "pseudolabels.saliency_model",
)
LONGEST_VALUE = 200  # characters of a value in a message
LONGEST_CHAIN = 20  # files that extend one another


def load_config(
    configs: Iterable[str | Path] = (),
    assignments: Iterable[str] = (),
    base: Mapping[str, Any] | None = None,
    machine: Machine = "gpu",
) -> Config:
    """Defaults, then ``base``, then each YAML file or preset, then each ``section.field=value``.

    What comes later wins. ``configs`` are paths of files or names of presets. ``base``
    is what :func:`recorded` made of another configuration. ``machine`` decides which parts of the
    files are taken, unless an assignment sets it.

    Raises:
        UserError: a file that is missing or not YAML, an unknown name, a value of a wrong kind.
    """
    merged: dict[str, Any] = dict(base or {})
    changes = reduce(_merge, map(_parse_assignment, assignments), {})
    wanted = changes.pop("machine", None)
    files = [*map(config_file, configs)]
    for file in files:
        merged = _merge(merged, _read_config(file, (file.resolve(),), wanted or machine))
    if wanted is not None and merged.get("machine") != wanted:
        raise UserError(_no_choice(wanted))
    merged = _merge(merged, changes)
    check_names(Config, merged)
    # Sections are filled over the defaults of Config, not over those of their own class.
    usual = Config().model_dump(mode="json")
    values = _merge(_merge(usual, arguments_of_others(merged, usual)), merged)
    try:
        config = Config.model_validate(values)
        return Config.model_validate(in_terms_of_timm(config.model_dump(mode="json")))
    except ValidationError as error:
        where, explained = _explain(error, values)
        by_file = [] if has(changes, where) else reversed(files)
        found = filter(None, (origin(file, where, wanted or machine) for file in by_file))
        raise UserError("".join(f"{file}: " for file in islice(found, 1)) + explained) from None


def presets() -> dict[str, Path]:
    """The configs that come with the package: name -> file, in the order of the names."""
    return {file.stem: file for file in sorted(PRESETS.glob("*.yaml"))}


def config_file(name: str | Path) -> Path:
    """The file that ``--config`` means: the file of this path, else the preset of this name.

    Raises:
        UserError: there is neither; the presets are listed and the nearest one is suggested.
    """
    if os.path.isfile(name):
        return Path(name)
    known = presets()
    if str(name) in known:
        return known[str(name)]
    why = "This is no regular file" if os.path.exists(name) else "No such file or preset"
    hint = did_you_mean(nearest(Path(name).stem.lower(), known))
    raise UserError(
        f"--config {name}: {why}. Give a YAML file, or the name of a preset: {', '.join(known)}. "
        f"{hint}".strip()
    )


def recorded(config: Config) -> dict[str, Any]:
    """The settings that differ from the defaults, nested, with absolute paths.

    ``load_config(base=...)`` makes the same configuration of them, in whatever folder.
    """
    values, usual = config.model_dump(mode="json"), Config().model_dump(mode="json")
    found = _differing(values, usual, "")
    for section, of_others in arguments_of_others(found, usual).items():
        for arguments in of_others:  # also if they are those of the default network
            found[section][arguments] = values[section][arguments]
    root, corrections = config.data.root, config.data.corrections
    if root and corrections and (Path(root).expanduser() / corrections).is_dir():
        found["data"]["corrections"] = corrections  # a folder of this name elsewhere is not meant
    return found


def _differing(values: Mapping[str, Any], usual: Mapping[str, Any], at: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        section = isinstance(value, Mapping) and name not in REPLACED_WHOLE
        inner = _differing(value, usual[name], f"{at}{name}.") if section else value
        if inner if section else value != usual[name]:
            found[name] = _absolute(f"{at}{name}", inner)
    return found


def _absolute(name: str, value: Any) -> Any:
    """The value; of a setting that names a file or folder that is there, its absolute path."""
    if name in PATHS and isinstance(value, str) and Path(value).expanduser().exists():
        return str(Path(value).expanduser().absolute())
    return value


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        keep = both and name not in REPLACED_WHOLE
        merged[name] = _merge(merged[name], value) if keep else value
    return merged


def _no_choice(wanted: Any) -> str:
    known = get_args(Machine)
    if wanted not in known:
        return f"machine: got {_short(wanted)}, expected {' | '.join(known)}, or null."
    return (
        f"machine={wanted}: no --config of this command has settings for a machine of its own. Add "
        f"--config folder, or leave machine out."
    )


def _read_config(
    file: Path, extending: tuple[Path, ...] = (), machine: Machine = "gpu"
) -> dict[str, Any]:
    content = read_yaml(file)
    if content is None:
        return {}
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise UserError(f"{file}: got a {kind}, expected sections such as 'maps:' with fields.")
    parts = {name: content.pop(name) for name in [*content] if str(name).startswith("on_")}
    merged = _over_base(content, file, str(file), extending, machine)
    for name in (*PARTS, *parts):
        if name in parts:
            part = _part(name, parts.pop(name), file, extending, machine)
            merged = _merge(merged, part if machine in PARTS[name] else {}) | {"machine": machine}
    return merged


def _part(
    name: str, content: Any, file: Path, extending: tuple[Path, ...], machine: Machine
) -> dict[str, Any]:
    """The settings of a part of a file, with those of the file that it extends."""
    if name not in PARTS:
        raise UserError(f"{file}: {name}: expected one of {', '.join(PARTS)}.")
    if not isinstance(content, (dict, type(None))):
        raise UserError(f"{file}: {name}: expected sections such as 'maps:' with fields.")
    return _over_base(content or {}, file, f"{file}: {name}", extending, machine)


def _over_base(
    content: dict[str, Any], file: Path, where: str, extending: tuple[Path, ...], machine: Machine
) -> dict[str, Any]:
    """A file may name another beside it, ``extends: OTHER.yaml``, that it differs from.

    ``where`` the content stands. A section without a field changes nothing.
    """
    if "machine" in content:
        raise UserError(f"{file}: machine: a file cannot set it. Use --set machine=... instead.")
    base = content.pop("extends", None)
    content = without_empty_sections(Config, content)
    try:
        check_names(Config, content)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if base is None:
        return content
    try:
        other = (file.parent / base).resolve()
    except (TypeError, ValueError, OSError, RuntimeError):
        raise UserError(f"{file}: extends: expected the name of a YAML file beside it.") from None
    if other in extending:
        raise UserError(f"{file}: extends: {base} leads back to this file. Take one of them out.")
    if len(extending) > LONGEST_CHAIN:
        raise UserError(
            f"{file}: more than {LONGEST_CHAIN} files extend one another. Put the settings of "
            f"several files into one."
        )
    return _merge(_read_config(other, (*extending, other), machine), content)


def _parse_assignment(text: str) -> dict[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UserError(f"--set {text}: expected section.field=value, such as maps.method=cam.")
    names = path.strip().split(".")
    if len(names) > DEEPEST:
        raise UserError(f"--set {path:.40}...: got {len(names)} names, expected section.field.")
    nested: Any = _value(path, value.strip(), tuple(names))
    for name in reversed(names):
        nested = {name: nested}
    return nested


def _value(path: str, text: str, names: tuple[str, ...]) -> Any:
    """A value is YAML. A path or a name is taken as it stands, unless it is null or in quotes."""
    if takes_text_only(Config, names) and text[:1] not in ("'", '"'):
        return None if text.lower() in ("null", "~") else text
    try:
        return parse_yaml(text, f"--set {path}") if text else ""
    except NotYaml:
        return text


def _explain(error: ValidationError, values: Mapping[str, Any]) -> tuple[str, str]:
    """The setting that is wrong, and the sentence about it."""
    first = error.errors()[0]
    where = _setting_at(first["loc"])
    got = reduce(lambda section, name: section[name], where.split("."), values)
    remedy = " Put text in quotes." if first["type"] == "string_type" else ""
    text = f"{where}: got {_short(got)}, expected {expected(Config, where, first)}.{remedy}"
    return where, text


def _setting_at(places: Iterable[Any]) -> str:
    """The setting that an error is about: without the place in its list and the kind of value."""
    model: type[BaseModel] | None = Config
    names = []
    for place in places:
        if model is None or place not in model.model_fields:
            break
        names.append(str(place))
        model = section_of(model, place)
    return ".".join(names)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
