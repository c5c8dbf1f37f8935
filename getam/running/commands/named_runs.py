"""runs: what the records of the named runs say, and what is there of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from getam.cache import Runs, Store
from getam.config.loading import REPLACED_WHOLE, load_config, presets, recorded
from getam.config.schema import Config
from getam.running.commands.settings import as_typed
from getam.running.same_run import command_to_continue, is_side_run
from getam.view.table import text_table

SHOWN = 3  # settings in a line


def named_runs(artifacts: Path, order: Sequence[str]) -> list[dict[str, Any]]:
    """A record per run: name, time, settings, stages that are done or not, bytes on the disk."""
    store, runs = Store(artifacts), Runs(artifacts)
    found = []
    for name in runs.names():
        record = runs.read(name)
        keys = record["keys"] | record["unfinished"]
        made = {s: store.manifest(s, key) for s, key in sorted(keys.items(), key=_by(order))}
        found.append(
            {
                "name": name,
                "time": record.get("time", ""),
                "settings": dict(_flat(record["settings"])),
                "damaged": "time" not in record,
                "done": [stage for stage, manifest in made.items() if manifest],
                "not done": [stage for stage, manifest in made.items() if not manifest],
                "bytes": sum(manifest.size for manifest in made.values() if manifest),
            }
        )
    return found


def runs_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """A line per run."""
    if not runs:
        return "There is no named run here yet. The command run makes one."
    body = []
    for run in runs:
        told = told_shortly(run["settings"])
        more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        stages = f"{len(run['done'])} of {len(run['done']) + len(run['not done'])}"
        last = run["done"][-1] if run["done"] else "-"
        size = f"{run['bytes'] / 1e6:.1f} MB"
        time = run["time"].replace("T", " ")[:16]
        settings = (", ".join(told[:SHOWN]) + more) or "the embedded example"
        if is_side_run(run["name"]):
            settings = f"work of the command {run['name'].partition('-')[0]}: {settings}"
        if run["damaged"]:
            settings = f"the record runs/{run['name']}.json is damaged"
        body.append([run["name"], time, stages, last, size, settings])
    header = ["run", "last change (UTC)", "stages done", "last one", "size", "settings"]
    return text_table(header, body, left=(0, 1, 3, 5))


def copying_command(run: Mapping[str, Any], artifacts: Path) -> str:
    """``run`` with all settings of a run, for a copy under another name."""
    settings = run["settings"]
    options = [one for one in told_shortly(settings) if not one.startswith("machine=")]
    options += [f"machine={settings['machine']}"] if settings.get("machine") else []
    words = [w for one in options for w in (one.split() if one[:2] == "--" else ("--set", one))]
    return command_to_continue("NEW", artifacts, *words)


def told_shortly(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options: the preset that is nearest to them, then what differs from it.

    >>> told_shortly({"seed": 3})
    ['seed=3']
    """
    usual = dict(_flat(Config().model_dump(mode="json")))
    best = told = [f"{name}={as_typed(value)}" for name, value in settings.items()]
    for preset in presets():
        own = dict(_flat(recorded(load_config([preset], machine=settings.get("machine", "gpu")))))
        changed = {name: usual.get(name) for name in own.keys() - settings.keys()}
        changed |= {name: value for name, value in settings.items() if own.get(name, ...) != value}
        told = [f"{name}={as_typed(value)}" for name, value in sorted(changed.items())]
        if len(told) + 1 < len(best):
            first = [one for one in told if one.startswith("data.")]
            best = [f"--config {preset}", *first, *(one for one in told if one not in first)]
    return best


def _by(order: Sequence[str]) -> Any:
    """Stages in the order they run; unknown ones last."""
    return lambda item: order.index(item[0]) if item[0] in order else len(order)


def _flat(settings: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and name not in REPLACED_WHOLE:
            yield from _flat(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", value
