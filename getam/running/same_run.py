"""Command lines about the run of the present command, for messages."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from getam.cache import Runs
from getam.view.program import program

UNNAMED = "default"  # the name of a run that was started without one
# Options of run that the record of a run may not have yet, or never has.
CHANGING = ("configs", "assignments", "mode", "force", "until", "only")


def command_for_this_run(*words: str) -> str | None:
    """``run`` with ``words``, and with the options that say which run it is.

    None where the options of this command mean something else for ``run``, or outside a command.
    """
    context = click.get_current_context(silent=True)
    if context is None or "artifacts" not in context.params:
        return None
    given = context.params
    if given.get("name") and given.get("configs"):
        return None  # run would start anew with --config
    if context.info_name != "run" and _is_unnamed(given):
        given = {**given, "name": UNNAMED}  # what the command looks at; run alone would be another
    return shlex.join([*shlex.split(program()), "run", *words, *_options(given)])


def command_to_go_on() -> str | None:
    """What continues the run that was interrupted; None if it has no name or no record yet."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "run" or not context.params.get("name"):
        return None
    given, artifacts = context.params, context.params["artifacts"]
    name = given["name"]
    if name not in Runs(artifacts).names() or any(given.get(option) for option in CHANGING):
        return None
    known = {"name": name, "artifacts": artifacts}
    return shlex.join([*shlex.split(program()), "run", *_options(known)])


def _is_unnamed(given: dict) -> bool:
    """Whether the options name no run, and there is one that was started without a name."""
    options = ("name", "configs", "assignments", "mode")
    return not any(map(given.get, options)) and UNNAMED in Runs(given["artifacts"]).names()


def _options(given: dict) -> Iterator[str]:
    if given.get("name"):
        yield from ("--name", given["name"])
    for config in given.get("configs", ()):
        yield from ("--config", str(config))
    for assignment in given.get("assignments", ()):
        yield from ("--set", assignment)
    if given.get("mode"):
        yield from ("--mode", given["mode"])
    if given["artifacts"] != Path("artifacts"):
        yield from ("--artifacts", str(given["artifacts"]))
