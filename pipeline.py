"""The command line: ``python pipeline.py run``, or ``getam run`` once installed."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import click

from getam import __version__
from getam.config.schema import Config
from getam.data.class_names import counted
from getam.errors import UserError
from getam.running.commands import cli_exchange, cli_keep, cli_look, cli_review
from getam.running.commands.options import (
    device_option,
    json_option,
    with_config,
    with_new_config,
    workers_option,
)
from getam.running.hints import hints, label_hints
from getam.running.machine import disagreement, find_machine
from getam.running.method import Method
from getam.running.opening import open_runner
from getam.running.pretrained import fetch_needed
from getam.running.same_run import next_steps
from getam.running.team import open_team
from getam.view.lines import Reporter, plan_lines, status_table
from getam.view.program import program
from getam.view.progress import duration, track
from getam.view.shown import say
from stages.chain import ORDER, TOGETHER, chain, choice, comparison


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="getam")
@click.pass_context
def main(context: click.Context) -> None:
    """Pseudo labels, and a trained segmentation network, from photos and image-level labels.

    For your own photos, give --config, --set and --name NAME to run. The other commands that are
    about this run then need only --name NAME. Without these options run is about the embedded
    example, and the other commands are about the last run without a name. runs, verify and gc are
    about all runs.
    """
    context.obj = Method(ORDER, TOGETHER, chain, comparison, choice)


stage_name = click.Choice(ORDER)


@main.command(short_help="Run the stages that are not up to date.")
@with_new_config
@click.option("--until", type=stage_name, metavar="STAGE", help="Stop after this stage.")
@click.option(
    "--only",
    type=stage_name,
    metavar="STAGE",
    help="Run only this stage. The stages before it must be cached.",
)
@click.option(
    "--force",
    type=stage_name,
    metavar="STAGE",
    multiple=True,
    help="Run this stage even if it is cached. You can give it several times.",
)
@device_option
@workers_option
@click.option(
    "--name",
    help="Name of this run. Other commands find its settings by this name, and gc keeps its "
    "artifacts. The name of an earlier run alone continues that run with its own settings; --set "
    "and --mode change them. With --config, the settings of the earlier run do not count. A new "
    "name needs --config, or --set data.kind=shapes for the embedded example.  [default: default]",
)
@click.option(
    "--dry-run", is_flag=True, help="Only say which stages would run, and why. Write nothing."
)
def run(
    config: Config,
    artifacts: Path,
    until: str | None,
    only: str | None,
    force: tuple[str, ...],
    device: str | None,
    workers: int | str | None,
    name: str | None,
    dry_run: bool,
) -> None:
    """Run all stages that are not up to date, and print the table of results.

    A stage is skipped if its artifact is cached: made from the same settings, data and code. After
    Ctrl-C or a kill, the same command continues the interrupted stage. Pretrained weights are
    downloaded before the first stage.

    Stages of the mode multi-stage: classifier, maps, pseudolabels, deeplab, predictions,
    doubt, evaluation. Some settings add foreground or encoder_features; the embedded example and
    COCO begin with data. Stages of the mode end-to-end: endtoend, predictions, doubt, evaluation.
    If pseudolabels.saliency contains features, classifier, maps and foreground run before endtoend.
    With endtoend.weights=deeplab the stages of the mode multi-stage up to deeplab run before it.
    """
    if until and only:
        raise click.UsageError("Give --until or --only, not both: --only runs a single stage.")
    with open_team(device, TOGETHER) as team:
        if not team.leads:
            team.help()
            return
        reporter = Reporter(sys.stderr)
        runner = open_runner(
            chain,
            config,
            artifacts,
            device=team.device,
            workers=workers,
            track=track,
            run_name=name or "default",
            report=reporter,
            call=team.call,
        )
        plan = runner.plan(until=until, only=only, force=force)
        runner.check(plan)
        running = [decision.stage for decision in plan if decision.runs]
        if index := runner.context.index:
            for hint in label_hints(index, config.data.train, running):
                reporter.note(hint)
        if dry_run:
            say("\n".join(plan_lines(plan)))
            return
        found = runner.context.device if running and device is None else None
        if found and (told := disagreement(config, found, find_machine())):
            reporter.note(told)
        for hint in hints(config, running, found):
            reporter.note(hint)
        fetch_needed(config, running, reporter.note)
        with warnings.catch_warnings():
            warnings.showwarning = reporter.warning
            made = runner.run(plan)
    count = counted(reporter.ran, "stage", "stages")
    say(f"{count} run in {duration(reporter.seconds)}.", err=True)
    if "evaluation" in made:
        say((made["evaluation"] / "table.txt").read_text("utf-8"), nl=False)
    if "predictions" in made and config.data.kind != "shapes":
        say(next_steps(made["predictions"] / "masks"), err=True)


@main.command(short_help="One line per stage: state, key, size, figures.")
@with_config
@json_option
def status(config: Config, artifacts: Path, as_json: bool) -> None:
    """Print one line per stage: its state, key, size, time and figures.

    cached: up to date. partial: interrupted, the next run continues it. stale: settings, data or
    code changed. missing: not made yet. failed: the last attempt failed.
    """
    rows = open_runner(chain, config, artifacts).status()
    if as_json:
        fields = ("stage", "status", "key", "size", "seconds", "metrics")
        listed = [{f: getattr(row, f) for f in fields} for row in rows]
        for entry, row in zip(listed, rows):
            entry["reason"] = row.reason.sentence()
        say(json.dumps(listed, indent=1))
    else:
        say(status_table(rows))


@main.command(short_help="Why a stage would run again.")
@with_config
@click.argument("stage", type=stage_name, metavar="STAGE")
def explain(config: Config, artifacts: Path, stage: str) -> None:
    """Say why STAGE would run: what changed since its nearest earlier artifact.

    It names the setting, data or code that changed, with its old and new value, also if it belongs
    to a stage before STAGE.
    """
    runner = open_runner(chain, config, artifacts)
    rows = {row.stage: row for row in runner.status()}
    if stage not in rows:
        raise UserError(f"explain {stage}: this run has no such stage, only {', '.join(rows)}.")
    row = rows[stage]
    say(f"{stage} {row.key}: {row.status}")
    changes = runner.explain(stage)
    for change in changes:
        say(f"  {change.sentence()}")
    if not changes and row.status != "cached":
        say(f"  {row.reason.sentence()}")


for module in (cli_look, cli_review, cli_exchange, cli_keep):
    for command in module.COMMANDS:
        main.add_command(command)


if __name__ == "__main__":
    main(prog_name=program())
