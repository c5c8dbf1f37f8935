"""The names of the settings: which there are, what kind of value each takes, and wrong ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from getam.config.mistakes import allowed
from getam.config.nearest import did_you_mean, nearest
from getam.config.schema import Config
from getam.errors import UserError

RENAMED = {
    f"evaluation.{name}": f"predictions.{name}"
    for name in ("scales", "flip", "batch_size", "precision", "crf")
}
RENAMED_VALUES = {("foreground.classes", "features"): "patch_classifier"}
MOST_PLACES = 3  # sections that are named where a setting is said to be


def check_names(
    model: type[BaseModel], values: Mapping[str, Any], at: tuple[str, ...] = ()
) -> None:
    """Refuse what no section of ``model`` has, and true or false where no such value is meant.

    Raises:
        UserError: an unknown or former name, a value in place of a section, true for a number.
    """
    for name, value in values.items():
        here = ".".join((*at, str(name)))
        _check_renamed(here, value)
        if name not in model.model_fields:
            raise UserError(_unknown(here, str(name), model, at))
        section = section_of(model, str(name))
        if section is not None:
            if not isinstance(value, Mapping):
                raise UserError(f"{here} is a section: set one of its fields, got {value!r:.200}.")
            check_names(section, value, (*at, str(name)))
        elif isinstance(value, bool) and not {bool, dict, Any} & {*_kinds(model, str(name))}:
            words = allowed(model.model_json_schema()["properties"][name])
            raise UserError(f"{here}: got {str(value).lower()}, expected {words}.")


def section_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The class of the section ``name``; None if it is a single setting, or unknown."""
    found = [kind for kind in _kinds(model, name) if _is_section(kind)]
    return found[0] if found else None


def takes_text_only(model: type[BaseModel], names: tuple[str, ...]) -> bool:
    """Whether the setting is free text, as a path is, or null."""
    for name in names[:-1]:
        section = section_of(model, name)
        if section is None:
            return False
        model = section
    return {str} <= {*_kinds(model, names[-1])} <= {str, type(None)}


def without_empty_sections(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without sections that have no field: ``maps:`` with nothing below it."""
    kept = {}
    for name, value in values.items():
        section = section_of(model, str(name))
        if section is not None and value is None:
            continue
        inner = section is not None and isinstance(value, Mapping)
        kept[name] = without_empty_sections(section, value) if inner else value
    return kept


def _kinds(model: type[BaseModel], name: str) -> list[Any]:
    """The types that a field allows; none for an unknown name."""
    field = model.model_fields.get(name)
    return [*_flat(field.annotation)] if field else []


def _flat(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _flat(get_args(annotation)[0])
    elif origin is Union or type(annotation).__name__ == "UnionType":
        for option in get_args(annotation):
            yield from _flat(option)
    elif origin is Literal:
        yield from (Literal[value] for value in get_args(annotation))
    else:
        yield origin or annotation


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _check_renamed(here: str, value: Any) -> None:
    if here in RENAMED:
        raise UserError(f"The setting {here} has a new name: use {RENAMED[here]}.")
    new = RENAMED_VALUES.get((here, value)) if isinstance(value, str) else None
    if new:
        raise UserError(f"{here}: the value {value!r} has a new name: use {new!r}.")


def _unknown(here: str, name: str, model: type[BaseModel], at: tuple[str, ...]) -> str:
    section, dot, field = name.partition(".")
    if dot and not at:
        return (
            f"Unknown setting {here}. In a file write '{section}:', and in the next line '  "
            f"{field}: ...', with two spaces before it."
        )
    near = [".".join((*at, one)) for one in nearest(name.lower(), model.model_fields)]
    known = name.lower() in model.model_fields
    elsewhere = [place for place in all_settings(Config) if place.rpartition(".")[2] == name]
    near = near if known else elsewhere[:MOST_PLACES] or near
    hint = did_you_mean(near) or f"Known here: {', '.join(model.model_fields)}."
    return f"Unknown setting {here}. {hint}"


@cache
def all_settings(model: type[BaseModel], at: str = "") -> tuple[str, ...]:
    """The full names of all settings: ``seed``, ``maps.method``."""
    found: list[str] = []
    for name in model.model_fields:
        section = section_of(model, name)
        found += all_settings(section, f"{at}{name}.") if section else [f"{at}{name}"]
    return tuple(found)
