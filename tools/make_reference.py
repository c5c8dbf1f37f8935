"""The reference pages of the documentation, made from the code.

    python tools/make_reference.py           # writes docs/settings.md and docs/commands.md

The settings are those of ``getam.config.schema``, the commands those of ``pipeline.py``. A test
compares both pages with what this script makes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # python tools/make_reference.py also without an installation

from getam.config.schema import Config  # noqa: E402
from pipeline import main as command_line  # noqa: E402
from stages.chain import ORDER, chain, comparison  # noqa: E402

SETTINGS = """\
# Settings

This page is made from the code: `python tools/make_reference.py` writes it.

`default` is the value of the embedded example, which `python pipeline.py run` uses. A preset
replaces some of the defaults: read `configs/folder.yaml` for your own photos. To change a setting,
add `--set NAME=VALUE` to the command, or write it into a YAML file for `--config`:

```yaml
pseudolabels:
  quantile: 0.95
```

`reruns` names the stages that read the setting. If you change it, these stages run again, and so do
the stages after them: {order}. A stage that is not part of your run is skipped. A dash means that no
stage reads the setting itself: it says where files are, and a stage runs again only if their content
differs. `python pipeline.py run --dry-run` lists what would run for your change.
"""
COMMANDS = """\
# Commands

This page is made from the code: `python tools/make_reference.py` writes it.

In a clone, run `python pipeline.py COMMAND`. After `pip install`, `getam COMMAND` does the same.
`COMMAND --help` shows the text of this page. The exit code is 0 if the command is done, 1 if it
failed (it prints one sentence that says why), and 2 if the command line is wrong.
"""


@click.command(help=__doc__.partition("\n")[0])
@click.option("-o", "output", type=click.Path(path_type=Path), default=ROOT / "docs")
def main(output: Path) -> None:
    for name, page in pages().items():
        (output / name).write_text(page, encoding="utf-8")
        click.echo(output / name)


def pages() -> dict[str, str]:
    """File name -> text of each reference page."""
    return {"settings.md": settings_page(), "commands.md": commands_page()}


class Setting(NamedTuple):
    """One setting: its full name, the default, the allowed values, the stages that read it."""

    name: str
    default: Any
    values: str
    readers: Sequence[str]
    meaning: str


def settings_page() -> str:
    """A table of settings per section, in the order of the schema."""
    blocks = [SETTINGS.format(order=", ".join(ORDER))]
    for title, model, settings in sections(Config(), "", stage_readers()):
        if title:
            blocks.append(f"{'#' * (2 + title.count('.'))} {title}\n\n{_about(model)}\n")
        rows = [
            [f"`{s.name}`", f"`{_yaml(s.default)}`", s.values, _join(s.readers), s.meaning]
            for s in settings
        ]
        if rows:
            blocks.append(_table(["setting", "default", "values", "reruns", "meaning"], rows))
    return "\n".join(blocks)


def sections(
    model: BaseModel, at: str, readers: Mapping[str, set[str]]
) -> Iterator[tuple[str, BaseModel, list[Setting]]]:
    """Each section with the settings that lie directly in it, outer ones first."""
    schema = type(model).model_json_schema()["properties"]
    settings, inner = [], []
    for name, field in type(model).model_fields.items():
        here, value = f"{at}.{name}".lstrip("."), getattr(model, name)
        if isinstance(value, BaseModel):
            inner.append((here, value))
            continue
        reading = {
            stage for path, stages in readers.items() if _covers(path, here) for stage in stages
        }
        order = [stage for stage in (*ORDER, "compare") if stage in reading]
        settings.append(Setting(here, value, _values(schema[name]), order, field.description or ""))
    yield at, model, settings
    for here, value in inner:
        yield from sections(value, here, readers)


def stage_readers() -> dict[str, set[str]]:
    """Path of a setting or a section -> the stages that read it, over all kinds of runs."""
    default = Config()
    features = default.pseudolabels.model_copy(update={"saliency": "features"})
    fixed = default.deeplab.model_copy(update={"fixed_encoder": True})
    runs = [
        default.model_copy(update={"pseudolabels": features, "deeplab": fixed}),
        default.model_copy(update={"mode": "end-to-end"}),
    ]
    found: dict[str, set[str]] = {}
    for stage in [stage for run in runs for stage in (*chain(run), *comparison(run))]:
        for path in stage.reads:
            found.setdefault(path, set()).add(stage.name)
    return found


def _covers(path: str, name: str) -> bool:
    return name == path or name.startswith(f"{path}.")


def _values(schema: Mapping[str, Any]) -> str:
    """The values that a setting takes, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_values(option) for option in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return _array(schema)
    return _NAMES[schema["type"]] + _range(schema)


_NAMES = {
    "boolean": "`true`, `false`",
    "integer": "whole number",
    "null": "`null`",
    "number": "number",
    "object": "mapping",
    "string": "text",
}


def _array(schema: Mapping[str, Any]) -> str:
    parts = schema.get("prefixItems")
    if parts:
        return f"list of {len(parts)}: {_values(parts[0])}"
    return f"list of: {_values(schema['items'])}"


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" {low} to {high}"
    if low is not None:
        return f" ≥ {low}"
    above = schema.get("exclusiveMinimum")
    return "" if above is None else f" > {above}"


def _about(model: BaseModel) -> str:
    return " ".join(inspect.getdoc(type(model)).replace("``", "`").split())


def _yaml(value: Any) -> str:
    """A value as a config file has it, on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("...\n").strip()


def _join(names: Sequence[str]) -> str:
    return ", ".join(names) or "-"


def commands_page() -> str:
    """Each command with its usage, help and options, as click knows them."""
    group = click.Context(command_line, info_name="python pipeline.py")
    commands = {name: command_line.get_command(group, name) for name in _names(group)}
    rows = [[f"[{n}](#{n})", c.get_short_help_str(200)] for n, c in commands.items()]
    blocks = [COMMANDS, _table(["command", "what it does"], rows)]
    blocks += [_command(group, name, command) for name, command in commands.items()]
    return "\n".join(blocks)


def _names(group: click.Context) -> list[str]:
    return command_line.list_commands(group)


def _command(group: click.Context, name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, parent=group, show_default=True)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    records = [p.get_help_record(context) for p in command.get_params(context)]
    rows = [[f"`{record[0]}`", record[1]] for record in records if record]
    help_text = inspect.cleandoc(command.help or "").partition("\f")[0]
    return f"## {name}\n\n    {usage}\n\n{help_text}\n\n{_table(['option', 'what it does'], rows)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
