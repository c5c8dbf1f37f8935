"""Command lines about the run of the present command, for messages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from getam.cache import Runs
from getam.view.program import program

UNNAMED = "default"  # the name of a run that was started without one
CHOICE, COMPARISON = "choose", "compare"  # the names under which these commands keep their work
# Options of run that the record of a run may not have yet, or never has.
CHANGING = ("configs", "assignments", "mode", "force", "until", "only")


def is_side_run(name: str) -> bool:
    """Whether a name is of the work of ``choose`` or ``compare``, not of a run.

    >>> is_side_run("choose"), is_side_run("choose-0c46e6f9"), is_side_run("mine")
    (True, True, False)
    """
    return re.fullmatch(rf"({CHOICE}|{COMPARISON})(-[0-9a-f]{{8}})?", name) is not None


def command_about_this_run(*words: str) -> str:
    """A command such as ``inspect maps ID`` with the options of the present one."""
    context = click.get_current_context(silent=True)
    given = context.params if context and "artifacts" in context.params else {}
    return shlex.join([*shlex.split(program()), *words, *(_options(given) if given else ())])


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


def name_of_this_run() -> str | None:
    """The name of the run that the present command looks at; None: no run, but options."""
    context = click.get_current_context(silent=True)
    given = context.params if context else {}
    return given.get("name") or (UNNAMED if given and _is_unnamed(given) else None)


def command_to_go_on() -> str | None:
    """What continues the run that was interrupted; None if it has no name or no record yet."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "run" or not context.params.get("name"):
        return None
    given, artifacts = context.params, context.params["artifacts"]
    name = given["name"]
    if name not in Runs(artifacts).names() or any(given.get(option) for option in CHANGING):
        return None
    return command_to_continue(name, artifacts)


def command_to_continue(name: str, artifacts: Path, *words: str) -> str:
    """``run`` of the run of a name, with its own settings and ``words``."""
    known = {"name": name, "artifacts": artifacts}
    return shlex.join([*shlex.split(program()), "run", *_options(known), *words])


def command_to_run() -> str:
    """``run`` with the options of the present command; where they are of no run, the name NAME."""
    given = click.get_current_context().params
    unnamed = UNNAMED if _is_unnamed(given) else "NAME"
    named = {**given, "name": given.get("name") or unnamed}
    return shlex.join([*shlex.split(program()), "run", *_options(named)])


def next_steps(masks: Path) -> str:
    """What to look at after a run, in a line: the folder of its final masks, if it has one."""
    context = click.get_current_context()
    known = {"name": context.params.get("name"), "artifacts": context.params["artifacts"]}
    looks = [
        shlex.join([*shlex.split(program()), command, *_options(known), "-o", f"{command}.html"])
        for command in ("review", "report")
    ]
    where = f"Final masks: {masks}. " if masks.is_dir() else ""
    return f"{where}Next: {looks[0]} or {looks[1]}"


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
