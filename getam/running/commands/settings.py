"""config: every setting with its value, its default, what it may be and what it does."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from getam.config.loading import load_config
from getam.config.mistakes import allowed
from getam.config.schema import Config
from getam.errors import UserError
from getam.running.commands.current import suggestion
from getam.running.opening import Chain

WIDTH = 100


class Setting(NamedTuple):
    """A setting: its name such as ``maps.method``, and everything that can be said of it."""

    name: str
    value: Any
    default: Any
    allowed: str
    about: str


def settings_table(
    config: Config, section: str | None, readers: Mapping[str, Sequence[str]] | None = None
) -> str:
    """All settings of a section, or all there are: a line each, with what it does below it.

    ``readers`` are the stages that read each setting.

    Raises:
        UserError: no section and no setting has this name; the nearest one is suggested.
    """
    blocks, read = [], readers or {}
    for title, about, settings in _sections(config, Config(), ""):
        chosen = [one for one in settings if _belongs(one.name, section)]
        if chosen:
            head = f"{title or 'settings'}: {about}"
            lines = [_lines(one, read.get(one.name, ())) for one in chosen]
            blocks.append("\n".join([head, "", *lines]))
    if not blocks:
        raise UserError(
            f"config {section}: there is no such section or setting. {_hint(config, section)}"
        )
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
                Setting(where, value, default, allowed(schemas[name]), field.description or "")
            )
    yield path, (type(model).__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " "), own
    for sections in inner:
        yield from sections


def _belongs(name: str, section: str | None) -> bool:
    return section is None or name == section or name.startswith(f"{section}.")


def stage_readers(*chains: Chain) -> dict[str, list[str]]:
    """Name of each setting -> the stages that read it, in any kind of run, in their order."""
    features = ("pseudolabels.saliency=features", "deeplab.fixed_encoder=true")
    configs = [load_config((), features), load_config((), ("mode=end-to-end",))]
    stages = [stage for config in configs for chain in chains for stage in chain(config)]

    def of(name: str) -> list[str]:
        found = [s.name for s in stages if any(_covers(path, name) for path in s.reads)]
        return list(dict.fromkeys(found))

    return {one.name: of(one.name) for one in all_settings(Config())}


def _covers(path: str, name: str) -> bool:
    return name == path or name.startswith(f"{path}.")


def _lines(setting: Setting, readers: Sequence[str]) -> str:
    value, default = as_typed(setting.value), as_typed(setting.default)
    changed = "" if value == default else f"   (default: {default})"
    about = f"{setting.about} Allowed: {setting.allowed}."
    if readers:
        about += f" A change reruns {', '.join(readers)}, and what uses their results."
    return f"  {setting.name} = {value}{changed}\n" + textwrap.fill(
        about, WIDTH, initial_indent="      ", subsequent_indent="      "
    )


def as_typed(value: Any) -> str:
    """A value as a YAML file or ``--set`` has it.

    >>> as_typed(None), as_typed("getam"), as_typed((1.0, 1.5))
    ('null', 'getam', '[1.0, 1.5]')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _hint(config: Config, section: str) -> str:
    names = [one.name for one in all_settings(config)]
    sections = {name.rpartition(".")[0] for name in names} - {""}
    inner = section.rpartition(".")[0] in sections
    known = names if inner else [*sections, *names]
    return suggestion(section, known, f"There are {', '.join(sorted(sections))}.")
