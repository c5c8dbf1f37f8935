"""config: every setting with its value, its default, what it may be and what it does."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from getam.config.schema import Config
from getam.errors import UserError
from getam.running.commands.current import suggestion

WIDTH = 100
NUMBERS = {"integer": "whole number", "number": "number"}
KINDS = {"boolean": "true or false", "string": "text", "null": "null", "object": "{name: value}"}


class Setting(NamedTuple):
    """A setting: its name such as ``maps.method``, and everything that can be said of it."""

    name: str
    value: Any
    default: Any
    allowed: str
    about: str


def settings_table(config: Config, section: str | None) -> str:
    """All settings of a section, or all there are: a line each, with what it does below it.

    Raises:
        UserError: no section and no setting has this name; the nearest one is suggested.
    """
    blocks = []
    for title, about, settings in _sections(config, Config(), ""):
        chosen = [one for one in settings if _belongs(one.name, section)]
        if chosen:
            head = f"{title or 'settings'}: {about}"
            blocks.append("\n".join([head, "", *(_lines(one) for one in chosen)]))
    if not blocks:
        raise UserError(f"config {section}: there is no such section. {_hint(config, section)}")
    return "\n\n".join(blocks)


def all_settings(config: Config) -> list[Setting]:
    """Every setting, in the order of the schema."""
    return [one for *_, settings in _sections(config, Config(), "") for one in settings]


def _sections(
    model: BaseModel, usual: BaseModel, path: str
) -> Iterator[tuple[str, str, list[Setting]]]:
    """(name, what it is about, its settings) of a section and then of those in it."""
    own, inner, schemas = [], [], type(model).model_json_schema()["properties"]
    for name, field in type(model).model_fields.items():
        value, default = getattr(model, name), getattr(usual, name)
        where = f"{path}.{name}" if path else name
        if isinstance(value, BaseModel):
            inner.append(_sections(value, default, where))
        else:
            own.append(
                Setting(where, value, default, _allowed(schemas[name]), field.description or "")
            )
    yield path, (type(model).__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " "), own
    for sections in inner:
        yield from sections


def _belongs(name: str, section: str | None) -> bool:
    return section is None or name == section or name.startswith(f"{section}.")


def _lines(setting: Setting) -> str:
    value, default = as_typed(setting.value), as_typed(setting.default)
    changed = "" if value == default else f"   (default: {default})"
    about = f"{setting.about} Allowed: {setting.allowed}."
    return f"  {setting.name} = {value}{changed}\n" + textwrap.fill(
        about, WIDTH, initial_indent="      ", subsequent_indent="      "
    )


def as_typed(value: Any) -> str:
    """A value as a YAML file or ``--set`` has it.

    >>> as_typed(None), as_typed("getam"), as_typed((1.0, 1.5))
    ('null', 'getam', '[1.0, 1.5]')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _allowed(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in words.

    >>> _allowed({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]})
    'whole number, 0 or more, or null'
    """
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return ", or ".join(_allowed(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        parts = [_allowed(part) for part in schema.get("prefixItems", ())]
        return f"[{', '.join(parts)}]" if parts else f"list of: {_allowed(schema['items'])}"
    kind = schema.get("type", "")
    return NUMBERS[kind] + _bounds(schema) if kind in NUMBERS else KINDS.get(kind, "any value")


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']:g}"
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    return "" if low is None else f", {low:g} or more"


def _hint(config: Config, section: str) -> str:
    names = [one.name for one in all_settings(config)]
    sections = {name.rpartition(".")[0] for name in names} - {""}
    return suggestion(section, [*sections, *names], f"There are {', '.join(sorted(sections))}.")
