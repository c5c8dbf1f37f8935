"""The command line of settings, data, named runs and the artifacts folder. Imports no torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from getam.config.schema import Config
from getam.data.class_names import counted
from getam.errors import UserError
from getam.running.commands.options import (
    artifacts_option,
    device_option,
    exits_cleanly,
    json_option,
    no_such_run,
    with_config,
    workers_option,
)
from getam.running.method import current_method
from getam.running.same_run import CHOICE, COMPARISON, command_to_run, name_of_this_run
from getam.view.lines import Reporter
from getam.view.progress import track
from getam.view.shown import say

if TYPE_CHECKING:
    from getam.cache import Runner


@click.command("config", short_help="Print all settings, with what they do.")
@with_config
@click.argument("section", required=False)
def config_command(config: Config, artifacts: Path, section: str | None) -> None:
    """Print every setting: its value, its default if that is another, and what it does.

    It also says what a setting may be, and which stages run again if you change it.

    SECTION prints only one section, such as maps, or one setting, such as maps.method.
    """
    from getam.running.commands.settings import settings_table, stage_readers

    method = current_method()
    readers = stage_readers(method.chain, method.comparison)
    say(settings_table(config, section, readers))


@click.command("data", short_help="Check a data folder.")
@with_config
@click.option(
    "--deep", is_flag=True, help="Also decode every file, and look at all values of the masks."
)
@click.option(
    "--write-splits",
    is_flag=True,
    help="If the folder has no splits/, write the lists splits/train.txt and splits/val.txt as the "
    "photos are divided now. Then you can change them.",
)
@json_option
def data_command(
    config: Config, artifacts: Path, deep: bool, write_splits: bool, as_json: bool
) -> None:
    """Check the data folder: counts, missing files, sizes, unreadable files, the label table.

    It says what to correct, and exits with 1 if something is wrong.
    """
    from getam.running.checking import check_data, write_lists
    from getam.view.data_report import data_report

    if write_splits:
        for file in write_lists(config):
            say(f"written: {file}", err=True)
    found = check_data(config, deep)
    say(json.dumps(found, indent=1) if as_json else data_report(found, command_to_run()))
    if found["problems"]:
        count = counted(len(found["problems"]), "problem", "problems")
        raise UserError(f"{count} with this data set.")


@click.command(short_help="Compare map methods, and say whether their maps are true.")
@with_config
@device_option
@workers_option
def compare(config: Config, artifacts: Path, device: str | None, workers: int | str | None) -> None:
    """Compare map methods, refinements and thresholds on the classifier of a run.

    It prints a table and writes plots. Insertion and deletion say whether the class score depends
    on the patches that a map shows; they need no masks. With masks of train photos the table also
    has the mIoU at the best threshold, the pointing game and the energy inside the mask. A random
    map and a centre prior are measured the same way: a star marks figures that are no better. The
    section compare of the settings says what is compared.
    """
    from getam.running.opening import open_runner
    from getam.running.pretrained import fetch_needed

    reporter = Reporter(sys.stderr)
    runner = open_runner(
        current_method().comparison,
        config,
        artifacts,
        device=device,
        workers=workers,
        track=track,
        run_name=COMPARISON,
        report=reporter,
    )
    plan = runner.plan()
    runner.check(plan)
    fetch_needed(config, [decision.stage for decision in plan if decision.runs], reporter.note)
    made = runner.run(plan)
    say((made["compare"] / "table.txt").read_text(), nl=False)
    for what, name in (
        ("Threshold curves", "curves.png"),
        ("Insertion and deletion curves", "insertion_deletion.png"),
    ):
        if (made["compare"] / name).is_file():
            say(f"{what}: {made['compare'] / name}")


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
    exactly. The value that the run has is kept unless another one is clearly better: in at least
    95 % of random resamples of the photos. The column "better in" has this share, a star in the
    column "keep" marks the value of each list to keep. At the end it prints the command that runs
    with the better values. What only the trials made is removed by the next gc.
    """
    from getam.cache import Runs
    from getam.config.loading import recorded
    from getam.labels.label_agreement import COUNTS, Agreement
    from getam.running.commands import choose as command
    from getam.running.opening import open_runner
    from getam.running.pretrained import fetch_needed

    stages, reporter = current_method().choice, Reporter(sys.stderr)
    trials: list[Config] = []

    def opened(tried: Config) -> Runner:
        return open_runner(
            stages,
            tried,
            artifacts,
            device=device,
            workers=workers,
            track=track,
            run_name=CHOICE,
            report=reporter,
        )

    def check(tried: Config) -> None:
        runner = opened(tried)
        runner.check(runner.plan())

    def agreement(tried: Config) -> Agreement:
        trials.append(tried)
        runner = opened(tried)
        plan = runner.plan()
        runner.check(plan)
        fetch_needed(tried, [d.stage for d in plan if d.runs], reporter.note)
        folders = runner.run(plan)
        return Agreement.load(folders[plan[-1].stage] / COUNTS)

    wanted = [*map(command.SettingList.parse, lists)] or command.default_lists(config)
    best, tried = command.choose(config, wanted, agreement, check, reporter.note)
    for trial in trials:
        Runs(artifacts).forget(CHOICE, recorded(trial))
    say(command.table(tried, best))
    say(command.advice(tried, best, name_of_this_run()))


@click.command("runs", short_help="List the named runs.")
@artifacts_option
@click.option(
    "--name",
    help="List only this run, and print the command that runs with all its settings under another "
    "name.  [default: all runs]",
)
@json_option
@exits_cleanly
def runs_command(artifacts: Path, name: str | None, as_json: bool) -> None:
    """List the named runs: when, with which settings, how far, and how much disk space each uses.

    A run is named by run --name; without it the name is default. If you use a name again with other
    settings, the former run stays in this list, as NAME-XXXXXXXX. The command gc keeps the
    artifacts of every run listed here. To give up a run, delete the file artifacts/runs/NAME.json.
    """
    from getam.cache import Runs
    from getam.running.commands.named_runs import copying_command, named_runs, runs_table

    found = named_runs(artifacts, current_method().names)
    if name is not None:
        found = [run for run in found if run["name"] == name]
        if not found:
            raise UserError(no_such_run(name, Runs(artifacts), artifacts))
    say(json.dumps(found, indent=1) if as_json else runs_table(found))
    if name is not None and not as_json:
        say(f"\nThe same settings under another name:\n{copying_command(found[0], artifacts)}")


@click.command("verify", short_help="Check all artifacts for damage.")
@artifacts_option
@exits_cleanly
def verify_command(artifacts: Path) -> None:
    """Read every artifact again and compare it with its manifest; exit with 1 if one differs."""
    from getam.cache import Store, verify

    problems = verify(Store(_existing(artifacts)))
    for problem in problems:
        say(f"{problem.stage}/{problem.key}: {problem.detail}")
    if problems:
        count = counted(len(problems), "problem", "problems")
        raise UserError(
            f"{count}. The next run sets the damaged artifacts aside and makes them again."
        )
    say("All artifacts are as their manifests say.")


@click.command("gc", short_help="Free disk space.")
@artifacts_option
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@exits_cleanly
def gc_command(artifacts: Path, dry_run: bool) -> None:
    """Free disk space: remove every artifact that no named run uses. This cannot be undone.

    The command runs lists the named runs: one for each set of settings that you ran. Of each run,
    gc keeps the artifacts that it used last. gc removes artifacts that only former code or former
    data of a run used, damaged artifacts, and unfinished work that belongs to no named run. Use
    --dry-run first. To remove the artifacts of a run too, first delete the file
    artifacts/runs/NAME.json.
    """
    from getam.cache import Store, gc

    garbage = gc(Store(_existing(artifacts)), dry_run=dry_run)
    for item in garbage:
        say(f"{item.path}  {item.size / 1e6:.1f} MB")
    verb = "would be removed" if dry_run else "removed"
    size = sum(item.size for item in garbage) / 1e6
    say(f"{counted(len(garbage), 'item', 'items')}, {size:.1f} MB {verb}.")


def _existing(artifacts: Path) -> Path:
    """The folder, which must be there.

    Raises:
        UserError: it is not.
    """
    if not artifacts.is_dir():
        raise UserError(
            f"--artifacts {artifacts}: there is no such folder. Start the command in the folder in "
            f"which you started the runs, or give the path of their artifacts."
        )
    return artifacts


COMMANDS = (
    config_command,
    data_command,
    compare,
    choose,
    runs_command,
    verify_command,
    gc_command,
)
