"""The command line of settings, data, named runs and the artifacts folder. Imports no torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from getam.config.loading import load_config
from getam.config.schema import Config
from getam.errors import UserError
from getam.running.commands.options import (
    artifacts_option,
    config_option,
    device_option,
    exits_cleanly,
    json_option,
    set_option,
    with_config,
    workers_option,
)
from getam.running.method import current_method
from getam.view.lines import Reporter
from getam.view.progress import track
from getam.view.shown import say


@click.command("config", short_help="Print all settings, with what they do.")
@with_config
@click.argument("section", required=False)
def config_command(config: Config, artifacts: Path, section: str | None) -> None:
    """Print every setting: its value, its default, what it does, what it may be.

    SECTION prints only one section, such as maps, or one setting, such as maps.method.
    """
    from getam.running.commands.settings import settings_table

    say(settings_table(config, section))


@click.command("data", short_help="Check a data folder.")
@config_option
@set_option
@click.option(
    "--deep", is_flag=True, help="Also decode every file, and look at all values of the masks."
)
@json_option
@exits_cleanly
def data_command(
    configs: tuple[str, ...], assignments: tuple[str, ...], deep: bool, as_json: bool
) -> None:
    """Check the data folder: counts, missing files, sizes, unreadable files, the label table.

    It says what to mend, and exits with 1 if something is wrong.
    """
    from getam.running.opening import check_data
    from getam.view.data_report import data_report

    found = check_data(load_config(configs, assignments), deep)
    say(json.dumps(found, indent=1) if as_json else data_report(found))
    if found["problems"]:
        raise UserError(f"{len(found['problems'])} problems with this data set.")


@click.command(short_help="Compare map methods against masks.")
@with_config
@device_option
@workers_option
def compare(config: Config, artifacts: Path, device: str | None, workers: int | str | None) -> None:
    """Compare map methods, refinements and thresholds on the classifier of a run.

    It needs masks of train photos, to measure against. It prints a table and writes a plot. The
    section compare of the settings says what is compared.
    """
    from getam.running.opening import open_runner

    runner = open_runner(
        current_method().comparison,
        config,
        artifacts,
        device=device,
        workers=workers,
        track=track,
        run_name="compare",
        report=Reporter(sys.stderr),
    )
    plan = runner.plan()
    runner.check(plan)
    made = runner.run(plan)
    say((made["compare"] / "table.txt").read_text(), nl=False)
    say(f"Threshold curves: {made['compare'] / 'curves.png'}")


@click.command(short_help="Recommend settings without masks.")
@with_config
@click.option(
    "--set-list",
    "lists",
    multiple=True,
    metavar="SECTION.FIELD=VALUE,VALUE",
    help="Try these values of a setting. You can give it several times; the best value of a list "
    "is kept for the next list.  [default: short lists of maps.method, of the section foreground "
    "if it is used, and of the threshold]",
)
@device_option
@workers_option
def choose(
    config: Config,
    artifacts: Path,
    lists: tuple[str, ...],
    device: str | None,
    workers: int | str | None,
) -> None:
    """Try short lists of settings, and recommend the best ones. It uses no masks.

    For each value the stages up to the pseudo labels run (in the mode end-to-end, up to the stage
    doubt); what is cached is not made again. The figure that decides is the agreement: how well
    the pseudo labels of a photo can be predicted from those of other photos. 0: not at all; 1:
    exactly. At the end it prints the options to add to the command run.
    """
    from getam.running.commands import choose as command
    from getam.running.opening import open_runner

    stages = current_method().choice

    def agreement(tried: Config) -> float:
        runner = open_runner(
            stages,
            tried,
            artifacts,
            device=device,
            workers=workers,
            track=track,
            run_name="choose",
            report=Reporter(sys.stderr),
        )
        plan = runner.plan()
        runner.check(plan)
        runner.run(plan)
        return runner.status()[-1].metrics["agreement"]

    wanted = [*map(command.SettingList.parse, lists)] or command.default_lists(config)
    best, tried = command.choose(config, wanted, agreement)
    say(command.table(tried, best))
    say(f"Go on with the same command line and: run {command.options(tried, best)}")


@click.command("runs", short_help="List the named runs.")
@artifacts_option
@json_option
@exits_cleanly
def runs_command(artifacts: Path, as_json: bool) -> None:
    """List the named runs: when, with which settings, how far, and how much disk space each uses.

    A run is named by run --name; without it the name is default. If you use a name again with other
    settings, the former run stays in this list, as NAME-XXXXXXXX. The command gc keeps the
    artifacts of every run listed here. To give up a run, delete the file artifacts/runs/NAME.json.
    """
    from getam.running.commands.named_runs import named_runs, runs_table

    found = named_runs(artifacts, current_method().names)
    say(json.dumps(found, indent=1) if as_json else runs_table(found))


@click.command("verify", short_help="Check all artifacts for damage.")
@artifacts_option
@exits_cleanly
def verify_command(artifacts: Path) -> None:
    """Read every artifact again and compare it with its manifest; exit with 1 if one differs."""
    from getam.cache import Store, verify

    problems = verify(Store(artifacts))
    for problem in problems:
        say(f"{problem.stage}/{problem.key}: {problem.detail}")
    if problems:
        raise UserError(
            f"{len(problems)} problems. The next run sets these artifacts aside and makes them "
            f"again."
        )
    say("All artifacts are as their manifests say.")


@click.command("gc", short_help="Free disk space.")
@artifacts_option
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@exits_cleanly
def gc_command(artifacts: Path, dry_run: bool) -> None:
    """Free disk space: remove every artifact that no named run uses.

    The command runs lists the named runs: one for each set of settings that you ran. gc removes
    artifacts that only former code or data used, damaged artifacts, and unfinished work that
    belongs to no named run. To remove the artifacts of a run too, first delete the file
    artifacts/runs/NAME.json.
    """
    from getam.cache import Store, gc

    garbage = gc(Store(artifacts), dry_run=dry_run)
    for item in garbage:
        say(f"{item.path}  {item.size / 1e6:.1f} MB")
    verb = "would be removed" if dry_run else "removed"
    say(f"{len(garbage)} items, {sum(i.size for i in garbage) / 1e6:.1f} MB {verb}.")


COMMANDS = (
    config_command,
    data_command,
    compare,
    choose,
    runs_command,
    verify_command,
    gc_command,
)
