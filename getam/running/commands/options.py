"""Options that several commands share, and how a command ends. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from getam.cache import CacheError
from getam.errors import UserError


def exits_cleanly(command: Callable) -> Callable:
    """The user's mistakes become one sentence and exit code 1."""

    @wraps(command)
    def guarded(**options: Any) -> None:
        try:
            command(**options)
        except (UserError, CacheError) as error:
            raise click.ClickException(str(error)) from None

    return guarded


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


artifacts_option = click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    default="artifacts",
    show_default=True,
    help="Folder of everything that is made.",
)
set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="A.B=V",
    help="Set one config key; wins over the files. May be given several times.",
)
config_option = click.option(
    "--config",
    "configs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML with what differs from the defaults; later files win over earlier ones.",
)
mode_option = click.option(
    "--mode",
    type=click.Choice(["multi-stage", "end-to-end"]),
    help="As --set mode=...: one network per stage, or one that labels what it learns from.",
)
device_option = click.option(
    "--device", help="Such as cuda:1 or cpu; by default a GPU where there is one."
)
workers_option = click.option(
    "--workers",
    type=Workers(),
    help="Processes; by default one per core. A Dask scheduler makes the pseudo labels with its "
    "workers.",
)


def sets_mode(command: Callable) -> Callable:
    """--mode is the last of the assignments."""

    @wraps(command)
    def with_mode(mode: str | None, assignments: tuple[str, ...], **options: Any) -> None:
        chosen = () if mode is None else (f"mode={mode}",)
        command(assignments=(*assignments, *chosen), **options)

    return with_mode


def with_config(command: Callable) -> Callable:
    """The options that say which run a command is about."""
    guarded = exits_cleanly(sets_mode(command))
    return config_option(set_option(mode_option(artifacts_option(guarded))))
