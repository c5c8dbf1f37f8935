"""What a setting may be, in words, and what a wrong value should have been."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from pydantic import BaseModel

NUMBERS = {"integer": "whole number", "number": "number"}
KINDS = {"boolean": "true or false", "string": "text", "null": "null", "object": "{name: value}"}


def expected(model: type[BaseModel], setting: str, error: Mapping[str, Any]) -> str:
    """What a setting should have been instead of the value in one of pydantic's errors."""
    if error["type"] == "value_error":  # the settings' own checks say it in their own words
        return str(error["ctx"]["error"]).removeprefix("expected ")
    section, _, name = setting.rpartition(".")
    owner = type(attrgetter(section)(model())) if section else model
    words = allowed(owner.model_json_schema()["properties"][name])
    if error["type"] == "finite_number":
        words += ", finite"
    return f"a {words}" if words.startswith(("whole number", "number", "list")) else words


def allowed(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in words.

    >>> allowed({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]})
    'whole number, 0 or more, or null'
    """
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return ", or ".join(allowed(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        parts = [allowed(part) for part in schema.get("prefixItems", ())]
        some = "list of at least one: " if schema.get("minItems") else "list of: "
        return f"[{', '.join(parts)}]" if parts else some + allowed(schema["items"])
    kind = schema.get("type", "")
    return NUMBERS[kind] + _bounds(schema) if kind in NUMBERS else KINDS.get(kind, "any value")


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        return f" above {_shown(schema['exclusiveMinimum'])}"
    if low is not None and high is not None:
        return f" from {_shown(low)} to {_shown(high)}"
    return "" if low is None else f", {_shown(low)} or more"


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
