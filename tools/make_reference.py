"""The reference pages of the documentation, made from the code.

    python tools/make_reference.py           # writes docs/settings.md and docs/commands.md

The settings are those of ``getam.config.schema``, the commands those of ``pipeline.py``. A test
compares both pages with what this script makes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # python tools/make_reference.py also works without an installation

from getam.config.loading import load_config  # noqa: E402
from getam.config.schema import Config  # noqa: E402
from getam.running.commands.settings import (  # noqa: E402
    Setting,
    all_settings,
    as_typed,
    stage_readers,
)
from pipeline import main as command_line  # noqa: E402
from stages.chain import ORDER, chain, comparison  # noqa: E402

SETTINGS = """\
# Settings

This page is made from the code by `python tools/make_reference.py`. The command
`python pipeline.py config` prints the same in a terminal, with the values of your run.

To change a setting, add `--set NAME=VALUE` to a command, or write it into a YAML file and add
`--config FILE`:

```yaml
pseudolabels:
  quantile: 0.95
```

The columns of the tables:

* **default**: the value without any option. The defaults are those of the embedded example.
* **folder, GPU** and **folder, CPU**: the value with `--config folder`, the preset for your own
  photos, on a GPU and on a CPU. Empty: the default. On a CPU that is faster in bfloat16, every
  `precision` is `bf16`.
* **values**: what you can set.
* **reruns**: the stages that read the setting. If you change it, these stages run again, and all
  stages that use their results. Empty: the setting says which data are used. The stages that read
  these data run again if the data differ.

The order of the stages:

{orders}

The embedded example and COCO begin with `data`. `deeplab.fixed_encoder=true` adds
`encoder_features` before `deeplab`. To see what a change would run, add `--dry-run` to the command
`run`.
"""
ON_FOLDER = ("data.kind=folder", "data.root=photos")
OTHER_STAGES = {
    "mode": "a run of the other mode has other stages",
    "machine": "those whose settings differ between the machines",
}
COMMANDS = """\
# Commands

This page is made from the code by `python tools/make_reference.py`. `COMMAND --help` prints the
same in a terminal.

In a clone, type `python pipeline.py COMMAND`. After `pip install`, `getam COMMAND` does the same.
The exit code is 0 if the command did its work, 1 if it failed (it prints one sentence that says
why), 2 if the command line is wrong, 130 if Ctrl-C stopped it, and 143 if SIGTERM (`kill PID`)
stopped it.
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


def settings_page() -> str:
    """A table per section, in the order of the schema."""
    readers, blocks = stage_readers(chain, comparison), [SETTINGS.format(orders=_orders())]
    file = ROOT / "configs" / "folder.yaml"
    presets = [all_settings(load_config([file], machine=machine)) for machine in ("gpu", "cpu")]
    header = ["setting", "default", "folder, GPU", "folder, CPU", "values", "meaning", "reruns"]
    for section, group in groupby(zip(*presets), lambda pair: pair[0].name.rpartition(".")[0]):
        if section:
            blocks.append(f"{'#' * (2 + section.count('.'))} {section}\n\n{_about(section)}\n")
        rows = [_setting_row(pair, readers) for pair in group]
        blocks.append(_table(header, rows))
    return "\n".join(blocks)


def _orders() -> str:
    """A line per kind of run: its stages, in the order they run."""
    lines = []
    for mode in ("multi-stage", "end-to-end"):
        for saliency in ("folder", "features"):
            chosen = (f"mode={mode}", f"pseudolabels.saliency={saliency}", *ON_FOLDER)
            names = ", ".join(stage.name for stage in chain(load_config((), chosen)))
            lines.append(f"* {mode}, `pseudolabels.saliency={saliency}`: {names}")
    return "\n".join(lines)


def _about(section: str) -> str:
    """The docstring of the class of a section."""
    text = inspect.getdoc(type(attrgetter(section)(Config()))) or ""
    return " ".join(text.replace("``", "`").split())


def _setting_row(pair: Sequence[Setting], readers: Mapping[str, Sequence[str]]) -> list[str]:
    """``pair`` is a setting as a preset has it on a GPU, and on a CPU."""
    setting = pair[0]
    own = ["" if one.value == one.default else f"`{as_typed(one.value)}`" for one in pair]
    order = [stage for stage in (*ORDER, "compare") if stage in readers[setting.name]]
    default = f"`{as_typed(setting.default)}`"
    reruns = OTHER_STAGES.get(setting.name, ", ".join(order))
    return [f"`{setting.name}`", default, *own, setting.allowed, setting.about, reruns]


def commands_page() -> str:
    """Each command with its usage, help and options, as click knows them."""
    settings = command_line.context_settings
    group = click.Context(command_line, info_name="python pipeline.py", **settings)
    names = command_line.list_commands(group)
    commands = {name: command_line.get_command(group, name) for name in names}
    rows = [[f"[{n}](#{n})", c.get_short_help_str(200)] for n, c in commands.items()]
    blocks = [COMMANDS, _table(["command", "what it does"], rows)]
    return "\n".join([*blocks, *(_command(group, *pair) for pair in commands.items())])


def _command(group: click.Context, name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, parent=group, show_default=True)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [[f"`{option}`", text] for option, text in filter(None, records) if text]
    help_text = inspect.cleandoc(command.help or "")
    return f"## {name}\n\n    {usage}\n\n{help_text}\n\n{_table(['option', 'what it does'], rows)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
