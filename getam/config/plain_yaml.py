"""YAML as plain data. A file may come from anybody: its size, depth and repetitions are bounded.

Messages say where a file is wrong, and never quote it: it may be another file than was meant.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml

from getam.errors import UserError

MOST_BYTES = 100_000
MOST_VALUES = 10_000  # where an alias repeats a value, each repetition counts
DEEPEST = 40

_TAG = "tag:yaml.org,2002:"
_PLAIN = {f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")}
_MERGE = f"{_TAG}merge"
_AS_TEXT = {f"{_TAG}timestamp", f"{_TAG}value"}  # 2012-09-07 is a name like any other
_QUOTED = re.compile(r"'[^'<][^']{4,}'|\"[^\"]{4,}\"")
# What PyYAML raises for a text that is not what its tag says, beside its own kinds.
_WRONG_VALUES = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


class NotYaml(Exception):
    """The text is not YAML; what is wrong with it, and where, without quoting it."""


def read_yaml(file: Path) -> Any:
    """The content of a file.

    Raises:
        UserError: it cannot be read, is no regular file, is too large, or is not plain YAML.
    """
    content = _bytes(file)
    if len(content) > MOST_BYTES:
        raise UserError(
            f"{file}: got more than {MOST_BYTES} bytes, expected a short config file. Is this the "
            f"right file?"
        )
    try:
        return parse_yaml(content.decode("utf-8-sig"), str(file))
    except UnicodeDecodeError:
        raise UserError(f"{file}: not UTF-8 text, expected a YAML file. Save it again.") from None
    except NotYaml as error:
        raise UserError(f"{file}: not plain YAML: {error}. Mend the file.") from None


def _bytes(file: Path) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise UserError(f"{file}: this is no regular file, expected a YAML file.")
        with open(file, "rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{file}: cannot read this config ({error.strerror}).") from None


def parse_yaml(text: str, where: str) -> Any:
    """Maps, lists, text, numbers, booleans and null in ``text``; ``where`` it stands.

    >>> parse_yaml("{a: [1, 2012-09-07]}", "here")
    {'a': [1, '2012-09-07']}

    Raises:
        NotYaml: a mistake of the syntax, or a value that is not what its tag says.
        UserError: values that are nested too deeply, or repeated too often or inside themselves.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, where, {}, ())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise NotYaml(_problem(error)) from None
    except yaml.YAMLError:
        raise NotYaml("it has a character that is no text") from None
    except RecursionError:
        raise UserError(_too_deep(where)) from None
    except _WRONG_VALUES:
        raise NotYaml("it has a value that is not of the kind that it says") from None


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = _QUOTED.sub("something else", error.problem or error.context or "unknown mistake")
    mark = error.problem_mark or error.context_mark
    return f"{problem}, line {mark.line + 1}, column {mark.column + 1}" if mark else problem


def _count(node: yaml.Node, where: str, known: dict[int, int], above: tuple[int, ...]) -> int:
    """The number of values in a node. Refuses what a config never needs."""
    if id(node) in above:
        raise UserError(f"{where}: {_line(node)} repeats a value inside itself. Take it out.")
    if len(above) > DEEPEST:
        raise UserError(_too_deep(where))
    if id(node) in known:
        return known[id(node)]
    if node.tag in _AS_TEXT:
        node.tag = f"{_TAG}str"
    if node.tag not in _PLAIN and node.tag != _MERGE:
        raise UserError(
            f"{where}: {_line(node)} has a value with a tag (!). Expected maps, lists, text, "
            f"numbers, true, false and null only. Take the tag out."
        )
    inside = (*above, id(node))
    known[id(node)] = 1 + sum(_count(child, where, known, inside) for child in _children(node))
    if known[id(node)] > MOST_VALUES:
        raise UserError(
            f"{where}: got more than {MOST_VALUES} values, expected a short config. Write out what "
            f"is repeated with & and *."
        )
    _refuse_twice(node, where)
    return known[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _refuse_twice(node: yaml.Node, where: str) -> None:
    """YAML would keep the last of two fields of one name, without a word."""
    seen: set[str] = set()
    for name, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(name, yaml.ScalarNode):
            if name.value in seen and name.tag != _MERGE:
                raise UserError(
                    f"{where}: {_line(name)} gives a name that this map has above already. Keep "
                    f"one of them."
                )
            seen.add(name.value)


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _too_deep(where: str) -> str:
    return f"{where}: got values nested more than {DEEPEST} deep, expected fewer. Is it a config?"
