"""The command line of review. Imports no torch at first."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from getam.config.schema import Config
from getam.data.class_names import counted
from getam.running.commands.options import json_option, with_config
from getam.running.method import current_method
from getam.view.progress import track
from getam.view.shown import say

PAGE, TABLE = 500, 20  # photos of a page, lines of a table, without --limit


@click.command(short_help="Look at the most doubtful photos, and decide about them.")
@with_config
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path),
    help="HTML file to write, such as review.html. Without this option a table is printed.",
)
@click.option("--split", help="Only the photos of this split.  [default: all splits]")
@click.option(
    "--limit",
    type=click.IntRange(1),
    help=f"Number of photos, at most, the most doubtful ones.  [default: {PAGE} on a page, {TABLE} "
    f"in a table, all with --json]",
)
@click.option(
    "--labels",
    is_flag=True,
    help="Doubt the labels alone: the photos whose classes are most likely wrong or incomplete "
    "come first.  [default: masks and labels together]",
)
@json_option
def review(
    config: Config,
    artifacts: Path,
    output: Path | None,
    split: str | None,
    limit: int | None,
    labels: bool,
    as_json: bool,
) -> None:
    """List the photos of a run, the most doubtful first, or write a page to decide about them.

    The page is one HTML file with photos, final masks and maps. Open it in a browser, accept a
    mask, correct the classes of a photo or reject the photo, and save review.csv. To use it, add
    --set data.review=review.csv to the command run.
    """
    from getam.running.commands.current import CurrentRun
    from getam.running.commands.review_queue import Queue, queue_table

    if output and as_json:
        raise click.UsageError("Give -o or --json, not both.")
    run = CurrentRun(current_method().chain, config, artifacts)
    queue = partial(Queue, run, split, labels=labels)
    if output:
        from getam.running.commands.review_entries import write_page

        count, size = write_page(run, queue(limit or PAGE), output, track)
        say(f"{output}  {counted(count, 'photo', 'photos')}, {size / 1e6:.1f} MB")
    elif as_json:
        say(json.dumps(queue(limit).rows(), indent=1))
    else:
        say(queue_table(queue(limit or TABLE)))


COMMANDS = (review,)
