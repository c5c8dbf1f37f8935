"""Options that several commands share, and how a command ends. Imports no torch."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from getam.cache import CacheError, Runs
from getam.cache.records import former_name
from getam.config.loading import load_config, presets
from getam.config.nearest import nearest
from getam.errors import UserError
from getam.running.failures import sentence
from getam.running.interruption import interruptible
from getam.running.machine import chosen_config
from getam.running.same_run import UNNAMED, command_to_continue, is_side_run
from getam.view.shown import say, shown_line


def exits_cleanly(command: Callable) -> Callable:
    """What is no mistake of the program becomes one sentence and exit code 1.

    A warning becomes a line ``note: ...`` without the place in the code.

    A command that is stopped ends with 130 (Ctrl-C) or 143 (SIGTERM).
    """

    @wraps(command)
    def guarded(**options: Any) -> None:
        with interruptible(), warnings.catch_warnings():
            warnings.showwarning = _note
            try:
                command(**options)
            except (UserError, CacheError) as error:
                raise click.ClickException(shown_line(str(error))) from None
            except Exception as error:
                told = sentence(error)
                if told is None:
                    raise
                raise click.ClickException(shown_line(told)) from error

    return guarded


def _note(message: Warning | str, *_: Any) -> None:
    say(f"note: {message}", err=True)


class Workers(click.ParamType):
    """A number of processes, or the address of a Dask scheduler."""

    name = "N or dask://host:port"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        text = str(value)
        if re.fullmatch(r"dask://[^/\s]+:\d+", text):
            return text
        if text.isdecimal() and int(text) > 0:
            return int(text)
        self.fail(f"got {text!r}, expected a number from 1 on, or dask://host:port.", param, ctx)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output."
)
artifacts_option = click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    default="artifacts",
    show_default=True,
    help="Folder for everything that the stages make.",
)
set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Change one setting, such as maps.method=cam. It wins over --config. You can give it "
    "several times. The command config lists all settings.",
)
config_option = click.option(
    "--config",
    "configs",
    multiple=True,
    metavar="FILE_OR_PRESET",
    help="YAML file with the settings that differ from the defaults, or the name of a preset that "
    f"comes with the package: {', '.join(presets())}. You can give several; a later one wins over "
    "an earlier one.",
)
mode_option = click.option(
    "--mode",
    type=click.Choice(["multi-stage", "end-to-end"]),
    help="The same as --set mode=... multi-stage: a classifier, then pseudo labels, then a "
    "segmentation network. end-to-end: one network that is trained on the pseudo labels it makes "
    "itself.  [default: that of the run of --name, else multi-stage]",
)
name_option = click.option(
    "--name",
    help="Use the settings of the run of this name (see the command runs). --config and --set "
    "change them.  [default: without --config, --set and --mode too, the run default, which is the "
    "last one that was started without a name]",
)
device_option = click.option(
    "--device",
    help="Device for the networks, such as cuda:1 or cpu.  [default: a GPU if there is one]",
)
workers_option = click.option(
    "--workers",
    type=Workers(),
    help="Number of processes for work on the CPU, or the address of a Dask scheduler, whose "
    "workers then make the pseudo labels.  [default: one process per core]",
)


def with_new_config(command: Callable) -> Callable:
    """The options that settings are made of; the command gets ``config`` and ``artifacts``."""
    return _with_settings(command, _of_continued_run)


def with_config(command: Callable) -> Callable:
    """The same for a command that looks at a run: its settings may be those of a named run."""
    return name_option(_with_settings(command, _of_named_run))


def _with_settings(command: Callable, base_of: Callable) -> Callable:
    guarded = exits_cleanly(_loads(command, base_of))
    return config_option(set_option(mode_option(artifacts_option(guarded))))


def _loads(command: Callable, base_of: Callable) -> Callable:
    @wraps(command)
    def loaded(
        configs: tuple[str, ...],
        assignments: tuple[str, ...],
        mode: str | None,
        artifacts: Path,
        **options: Any,
    ) -> None:
        chosen = (*assignments, *(() if mode is None else (f"mode={mode}",)))
        name, device = options.get("name"), options.get("device")
        base = base_of(options, artifacts, configs, chosen)
        _check_known(base, name or UNNAMED)
        former = Runs(artifacts).read(name or UNNAMED)["settings"]
        config, note = chosen_config(configs, chosen, base, former, device, name or UNNAMED)
        if note and (configs or base_of is _of_continued_run):
            _say_once(note)
        says_which = name or configs or any(word.startswith("data.") for word in chosen)
        if base_of is _of_continued_run and not says_which:
            _tell_other_data(former, artifacts)
        command(config=config, artifacts=artifacts, **options)

    return loaded


def _tell_other_data(former: dict[str, Any], artifacts: Path) -> None:
    """Say so if ``run`` begins the embedded example where the unnamed run was about photos."""
    data = former.get("data", {})
    if data.get("kind", "shapes") != "shapes":
        command = command_to_continue(former_name(UNNAMED, former), artifacts)
        _say_once(
            f"This run is about the embedded example, because run has neither --name nor --config. "
            f"The run without a name was about {data.get('root')} so far. Once this run has begun, "
            f"'{command}' goes on with that one."
        )


def _check_known(settings: dict[str, Any] | None, name: str) -> None:
    """Refuse recorded settings of a version of this project that had others.

    Raises:
        UserError: this version does not know a setting or its value.
    """
    try:
        load_config((), (), settings)
    except UserError as error:
        raise UserError(
            f"The run {name} was started by another version of this project, and its settings are "
            f"not those of this version: {error} Start it anew: run --name {name} with --config "
            f"and all its --set."
        ) from None


def _say_once(note: str) -> None:
    """Of the processes of torchrun, the first one says it."""
    if os.environ.get("RANK", "0") == "0":
        say(f"note: {note}", err=True)


def _of_continued_run(
    options: dict[str, Any], artifacts: Path, configs: Sequence[str], assignments: Sequence[str]
) -> dict[str, Any] | None:
    """For ``run``: the settings of the run of this name, unless ``--config`` starts anew.

    Raises:
        UserError: there is no such run, and nothing says which data a new one is about.
    """
    name, runs = options["name"], Runs(artifacts)
    if name is None or configs:
        return None
    if name in runs.names():
        return runs.settings(name)
    if any(assignment.partition("=")[0].strip() == "data.kind" for assignment in assignments):
        return None
    raise UserError(
        f"{no_such_run(name, runs, artifacts)} To start a new run of this name, also say which "
        f"data it is about: --config folder --set data.root=FOLDER for your own photos, or --set "
        f"data.kind=shapes for the embedded example."
    )


def _of_named_run(
    options: dict[str, Any], artifacts: Path, configs: Sequence[str], assignments: Sequence[str]
) -> dict[str, Any] | None:
    """For a command that looks at a run: the settings that the named run was started with.

    If nothing says which run, it is the one that was started without a name, if there is one.
    """
    name, runs = options.pop("name"), Runs(artifacts)
    if name is None and not configs and not assignments:
        if UNNAMED not in runs.names():
            _refuse_unnamed(options, runs)
            return None
        name = UNNAMED
    if name is None:
        return None
    if name not in runs.names():
        raise UserError(no_such_run(name, runs, artifacts))
    return runs.settings(name)


def _refuse_unnamed(options: dict[str, Any], runs: Runs) -> None:
    """Do not take the embedded example for a run that was started with a name.

    Raises:
        UserError: there are only such runs, and the command is about a run.
    """
    names = [name for name in runs.names() if not is_side_run(name)]
    is_about_none = click.get_current_context().info_name == "config" or options.get("network")
    if names and not is_about_none:
        raise UserError(
            f"There is no run without a name here. Named runs: {', '.join(names)}. Add --name "
            f"{names[0] if len(names) == 1 else 'NAME'}."
        )


def no_such_run(name: str, runs: Runs, artifacts: Path) -> str:
    """That no run has this name, and which there are."""
    known = runs.names()
    there = (
        f"There {'is' if len(known) == 1 else 'are'} {', '.join(known)}"
        if known
        else ("There is no run at all")
    )
    near = nearest(name, known)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"--name {name}: there is no run of this name in {artifacts}. {there}.{hint}"
