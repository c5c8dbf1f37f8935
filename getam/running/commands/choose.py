"""Tries short lists of settings, and recommends those whose labels agree clearly best. It reads no
masks.

The lists are tried one after the other. The best value of a list is kept for the lists after it. So
the number of runs is the sum of the lengths of the lists, not their product.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from getam.config.loading import load_config, recorded
from getam.config.schema import Config
from getam.errors import UserError
from getam.running.commands.settings import as_typed
from getam.running.same_run import command_for_this_run
from getam.view.table import text_table

if TYPE_CHECKING:
    from getam.labels.label_agreement import Agreement

FIGURE = "agreement"
CLEAR = 0.95  # of the resamples of the photos; a value that is less surely better is not taken

PHOTOS = (  # settings that decide which photos there are, and which labels they have
    *("data.kind", "data.root", "data.train", "data.val", "data.shapes", "data.classes"),
    "data.review",
)

Measure = Callable[[Config], "Agreement"]


@dataclass(frozen=True)
class SettingList:
    """The values of one setting that are tried.

    >>> SettingList.parse("foreground.rounds=3,10")
    SettingList(setting='foreground.rounds', values=('3', '10'))
    """

    setting: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> SettingList:
        """The list in ``SECTION.FIELD=VALUE,VALUE``.

        Raises:
            UserError: it is not such a list.
        """
        setting, _, values = text.partition("=")
        given = tuple(value for value in map(str.strip, _apart(values)) if value)
        if not setting.strip() or not given:
            raise UserError(
                f"--set-list {text}: expected SECTION.FIELD=VALUE,VALUE, such as "
                f"pseudolabels.saliency_threshold=0.35,0.45,0.55."
            )
        if setting.strip().startswith(PHOTOS):
            raise UserError(
                f"--set-list {text}: got a setting that decides which photos there are. The values "
                f"of a list are compared on the same photos. Leave this list out, and choose the "
                f"data with --set {setting.strip()}=VALUE."
            )
        return cls(setting.strip(), given)


def _apart(values: str) -> list[str]:
    """The parts between commas, except those in brackets: a value may be a list.

    >>> _apart("0.2,0.3"), _apart("[1], [1, 1.5]")
    (['0.2', '0.3'], ['[1]', ' [1, 1.5]'])
    """
    parts, depth = [""], 0
    for sign in values:
        depth += (sign in "[{(") - (sign in ")}]")
        if sign == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


@dataclass(frozen=True)
class Tried:
    """A value that was tried, and the agreement of the labels that were made with it.

    ``better``: the share of the resamples of the photos in which its agreement is higher than that
    of the value that the configuration had; None for this value itself.
    """

    setting: str
    value: str
    agreement: float
    better: float | None = None


def default_lists(config: Config) -> list[SettingList]:
    """The lists that are tried if none are given: those that this configuration reads."""
    texts = ["maps.method=getam,attention_gradient,grad_cam"]
    if "features" in config.pseudolabels.saliency:
        texts += ["foreground.rounds=1,5,10", "foreground.classes=maps,patch_classifier"]
    if config.pseudolabels.saliency == "none":
        texts.append("pseudolabels.background_power=32,100,300")
    else:
        texts.append("pseudolabels.saliency_threshold=0.35,0.45,0.55")
    return [SettingList.parse(text) for text in texts]


def choose(
    config: Config,
    lists: Sequence[SettingList],
    measure: Measure,
    check: Callable[[Config], None] = lambda config: None,
    tell: Callable[[str], None] = lambda told: None,
) -> tuple[Config, list[Tried]]:
    """Try each value of each list, and keep the best value of a list for the next one.

    The value that the configuration has is tried too. It is kept unless another one is clearly
    better: its agreement is higher in at least ``CLEAR`` of the resamples of the photos.

    Args:
        measure: makes the labels of a configuration, and counts their agreement.
        check: refuses a configuration that no stage can run. It is asked for each value, and for
            the configuration itself, before the first one is tried.
        tell: is told before each trial which value of which list it is.

    Returns:
        the best configuration, and what was tried, in this order.
    """
    best, tried = load_config((), (), recorded(config)), []  # with absolute paths, as the others
    check(best)
    for one in lists:  # a mistake in the last list is told before hours are spent on the first
        for value in one.values:
            with_value = load_config((), [f"{one.setting}={value}"], recorded(best))
            try:
                check(with_value)
            except UserError as error:
                raise UserError(f"--set-list {one.setting}: {value}: {error}") from None
    total, count = sum(len(_configs(one, best)) for one in lists), itertools.count(1)
    for one in lists:
        configs, found = _configs(one, best), {}
        for value, config in configs.items():
            tell(f"trial {next(count)} of {total}: {one.setting}={value}")
            found[value] = measure(config)
        given = next(found[value] for value, config in configs.items() if config == best)
        rows = [
            Tried(one.setting, v, its.value(), None if its is given else its.better_than(given))
            for v, its in found.items()
        ]
        clear = [row for row in rows if row.better is not None and row.better >= CLEAR]
        if clear:
            best = configs[max(clear, key=lambda row: row.agreement).value]
        tried += rows
    return best, tried


def _configs(one: SettingList, best: Config) -> dict[str, Config]:
    """Each value of a list -> the configuration with it; also the value of ``best`` itself."""
    configs = {v: load_config((), [f"{one.setting}={v}"], recorded(best)) for v in one.values}
    return configs if best in configs.values() else {_value(best, one.setting): best, **configs}


def _value(config: Config, setting: str) -> str:
    value: Any = config
    for name in setting.split("."):
        value = getattr(value, name)
    return as_typed(value)


def table(tried: Iterable[Tried], best: Config) -> str:
    """One line per value; a star marks the value of each list to keep."""
    rows = [
        [
            one.setting,
            one.value,
            f"{one.agreement:.4f}",
            "-" if one.better is None else f"{math.floor(100 * one.better)}%",
            "*" if _is_in(best, one) else "",
        ]
        for one in tried
    ]
    return text_table(["setting", "value", FIGURE, "better in", "keep"], rows)


def recommended(tried: Sequence[Tried], best: Config) -> int:
    """The position of the value of a list that the best configuration has."""
    return next(n for n, one in enumerate(tried) if _is_in(best, one))


def _is_in(best: Config, one: Tried) -> bool:
    return load_config((), [f"{one.setting}={one.value}"], recorded(best)) == best


def options(tried: Iterable[Tried], best: Config) -> str:
    """The values that are clearly better as options of the command line; empty: there are none."""
    better = [one for one in tried if one.better is not None and _is_in(best, one)]
    kept = dict.fromkeys(f"{one.setting}={one.value}" for one in better)
    return " ".join(f"--set {shlex.quote(text)}" for text in kept)


def advice(tried: Iterable[Tried], best: Config, name: str | None) -> str:
    """What to do now, in a sentence; ``name`` of the run that the settings are of."""
    changes = options(tried, best)
    if not changes:
        return f"No value is clearly better: keep the settings{f' of {name}' if name else ''}."
    command = command_for_this_run()
    return f"Go on with: {command} {changes}" if command else f"Add to the command run: {changes}"
