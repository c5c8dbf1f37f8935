"""The command line: ``python pipeline.py run``, or ``getam run`` once installed."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import click

from getam.cache import Store, gc, verify
from getam.config.loading import load_config
from getam.errors import UserError
from getam.running.commands import cli
from getam.running.commands.options import (
    artifacts_option,
    config_option,
    device_option,
    exits_cleanly,
    set_option,
    with_config,
    workers_option,
)
from getam.running.method import Method
from getam.running.opening import open_runner
from getam.running.team import open_team
from getam.view.lines import Reporter, plan_lines, status_table
from getam.view.progress import duration, track
from stages.chain import ORDER, TOGETHER, chain, comparison


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="getam")
@click.pass_context
def main(context: click.Context) -> None:
    """Segmentation masks, and a network, from photos and image-level labels (GETAM)."""
    context.obj = Method(ORDER, TOGETHER, chain, comparison)


for command in cli.COMMANDS:
    main.add_command(command)


stage_name = click.Choice(ORDER)


@main.command()
@with_config
@click.option("--until", type=stage_name, help="Stop after this stage.")
@click.option("--only", type=stage_name, help="This stage alone, from cached inputs.")
@click.option("--force", type=stage_name, multiple=True, help="Make this stage anew.")
@device_option
@workers_option
@click.option("--name", default="default", show_default=True, help="Name of this run.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
def run(
    configs: tuple[Path, ...],
    assignments: tuple[str, ...],
    artifacts: Path,
    until: str | None,
    only: str | None,
    force: tuple[str, ...],
    device: str | None,
    workers: int | str | None,
    name: str,
    dry_run: bool,
) -> None:
    """Bring every stage up to date; without options: the embedded example, whole."""
    with open_team(device, TOGETHER) as team:
        if not team.leads:
            team.help()
            return
        reporter = Reporter(sys.stderr)
        runner = open_runner(
            chain,
            load_config(configs, assignments),
            artifacts,
            device=team.device,
            workers=workers,
            track=track,
            run_name=name,
            report=reporter,
            call=team.call,
        )
        plan = runner.plan(until=until, only=only, force=force)
        if dry_run:
            click.echo("\n".join(plan_lines(plan)))
            return
        with warnings.catch_warnings():
            warnings.showwarning = reporter.warning
            made = runner.run(plan)
    click.echo(f"{reporter.ran} stages run in {duration(reporter.seconds)}.", err=True)
    if "evaluation" in made:
        click.echo((made["evaluation"] / "table.txt").read_text(), nl=False)


@main.command()
@with_config
@click.option("--json", "as_json", is_flag=True, help="Only JSON on standard output.")
def status(
    configs: tuple[Path, ...], assignments: tuple[str, ...], artifacts: Path, as_json: bool
) -> None:
    """A line per stage: cached, partial, stale, missing or failed."""
    rows = open_runner(chain, load_config(configs, assignments), artifacts).status()
    if as_json:
        fields = ("stage", "status", "key", "size", "seconds", "metrics")
        listed = [{f: getattr(row, f) for f in fields} for row in rows]
        for entry, row in zip(listed, rows):
            entry["reason"] = row.reason.sentence()
        click.echo(json.dumps(listed, indent=1))
    else:
        click.echo(status_table(rows))


@main.command("data")
@config_option
@set_option
@click.option("--deep", is_flag=True, help="Decode every file and look at all mask values.")
@click.option("--json", "as_json", is_flag=True, help="Only JSON on standard output.")
@exits_cleanly
def data_command(
    configs: tuple[Path, ...], assignments: tuple[str, ...], deep: bool, as_json: bool
) -> None:
    """Check a data set: counts, pairs, sizes, unreadable files; exit 1 if something is wrong."""
    from getam.running.opening import check_data
    from getam.view.data_report import data_report

    found = check_data(load_config(configs, assignments), deep)
    click.echo(json.dumps(found, indent=1) if as_json else data_report(found))
    if found["problems"]:
        raise UserError(f"{len(found['problems'])} problems with this data set.")


@main.command()
@with_config
@click.argument("stage", type=stage_name)
def explain(
    configs: tuple[Path, ...], assignments: tuple[str, ...], artifacts: Path, stage: str
) -> None:
    """Which ingredients of a stage changed against its nearest earlier artifact."""
    runner = open_runner(chain, load_config(configs, assignments), artifacts)
    rows = {row.stage: row for row in runner.status()}
    if stage not in rows:
        raise UserError(f"explain {stage}: this run has no such stage, only {', '.join(rows)}.")
    row = rows[stage]
    click.echo(f"{stage} {row.key}: {row.status}")
    changes = runner.explain(stage)
    for change in changes:
        click.echo(f"  {change.sentence()}")
    if not changes and row.status != "cached":
        click.echo(f"  {row.reason.sentence()}")


@main.command()
@with_config
@device_option
@workers_option
def compare(
    configs: tuple[Path, ...],
    assignments: tuple[str, ...],
    artifacts: Path,
    device: str | None,
    workers: int | None,
) -> None:
    """Map methods x refiners x thresholds on one classifier: a table and a plot.

    What is compared is set under compare: in the config.
    """
    runner = open_runner(
        comparison,
        load_config(configs, assignments),
        artifacts,
        device=device,
        workers=workers,
        track=track,
        run_name="compare",
        report=Reporter(sys.stderr),
    )
    made = runner.run(runner.plan())
    click.echo((made["compare"] / "table.txt").read_text(), nl=False)
    click.echo(f"Threshold curves: {made['compare'] / 'curves.png'}")


@main.command("verify")
@artifacts_option
@exits_cleanly
def verify_command(artifacts: Path) -> None:
    """Read every artifact again and compare it with its manifest; exit 1 if one differs."""
    problems = verify(Store(artifacts))
    for problem in problems:
        click.echo(f"{problem.stage}/{problem.key}: {problem.detail}")
    if problems:
        raise UserError(
            f"{len(problems)} problems; the next run sets these artifacts aside and rebuilds them."
        )
    click.echo("All artifacts are as their manifests say.")


@main.command("gc")
@artifacts_option
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@exits_cleanly
def gc_command(artifacts: Path, dry_run: bool) -> None:
    """Remove what no named run uses: other keys, broken artifacts, remains of writes."""
    garbage = gc(Store(artifacts), dry_run=dry_run)
    for item in garbage:
        click.echo(f"{item.path}  {item.size / 1e6:.1f} MB")
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{len(garbage)} items, {sum(i.size for i in garbage) / 1e6:.1f} MB {verb}.")


if __name__ == "__main__":
    main(prog_name="pipeline.py")
