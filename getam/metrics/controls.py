"""Maps that know nothing of the photo, to compare class maps with, and who beats whom.

A class map that is no better than these says nothing about the photo that a guess would not say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from getam.metrics.bootstrap import Interval, mean_interval

__all__ = ["CONTROLS", "advantage", "as_good", "beside_controls", "centre_prior", "random_map"]

LESS_IS_BETTER = ("deletion",)
SPREAD = 0.25  # standard deviation of the centre prior, as a share of the height and the width


def random_map(grid: tuple[int, int], name: str) -> np.ndarray:
    """(h, w) float32: independent uniform values from 0 to 1, the same for the same name.

    Args:
        grid: (h, w), in patches.
        name: of the photo, such as its id. It is the seed.

    >>> bool((random_map((2, 3), "a") == random_map((2, 3), "a")).all())
    True
    """
    return np.random.default_rng([*name.encode()]).random(grid, dtype=np.float32)


def centre_prior(grid: tuple[int, int], name: str = "") -> np.ndarray:
    """(h, w) float32: a Gaussian around the centre of the photo, from 0 to 1.

    `exp(-(y^2 + x^2) / (2 SPREAD^2))`, where y and x are the distances of the patch's centre from
    the centre of the photo, as shares of its height and width.

    Args:
        grid: (h, w), in patches.
        name: not used; all photos have the same prior.

    >>> centre_prior((1, 3)).round(2)
    array([[0.41, 1.  , 0.41]], dtype=float32)
    """
    y, x = (((np.arange(length) + 0.5) / length - 0.5) ** 2 for length in grid)
    return np.exp(-(y[:, None] + x) / (2 * SPREAD**2)).astype(np.float32)


CONTROLS: dict[str, Callable[[tuple[int, int], str], np.ndarray]] = {
    "random map": random_map,
    "centre prior": centre_prior,
}
"""Functions of a grid (h, w) and the name of a photo."""


def advantage(
    own: Mapping[str, float], control: Mapping[str, float], *, less_is_better: bool = False
) -> Interval:
    """The mean difference between a method and a control over photos, and its 95 % interval.

    Both are measured on the same photos, so the differences are taken photo by photo. The method
    is better than the control if the lower end is above 0.

    Args:
        own: of each photo, by its id, the figure of the method.
        control: the same of the control.
        less_is_better: the difference is control minus method, as for deletion.

    Raises:
        ValueError: fewer than two photos, or not the same photos.

    >>> told = advantage({"a": 0.5, "b": 0.7, "c": 0.9}, {"a": 0.1, "b": 0.3, "c": 0.5})
    >>> [round(number, 2) for number in told]
    [0.4, 0.4, 0.4]
    """
    if own.keys() != control.keys():
        raise ValueError("Got figures of different photos, expected the same for both.")
    sign = -1 if less_is_better else 1
    return mean_interval(np.array([sign * (own[name] - control[name]) for name in own]))


def beside_controls(
    figures: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> list[dict[str, Any]]:
    """Of each map its means over the photos, and of each method its advantage over the controls.

    Args:
        figures: of each map (method or control) and measure, the figure of each photo by its id.

    Returns:
        Rows with ``map`` (the name), ``means`` (by measure), ``against`` (by measure and control,
        `advantage` as [mean difference, low, high]; not of controls, and not of a measure of fewer
        than two photos, which give no interval) and ``figures`` (as given).

    >>> own, control = {"pointing": {"a": 1, "b": 1}}, {"pointing": {"a": 0, "b": 1}}
    >>> row = beside_controls({"cam": own, "random map": control, "centre prior": own})[0]
    >>> row["map"], row["means"], row["against"]["pointing"]["centre prior"]
    ('cam', {'pointing': 1.0}, [0.0, 0.0, 0.0])
    """
    return [
        {
            "map": name,
            "means": {m: float(np.mean([*by_photo.values()])) for m, by_photo in own.items()},
            "against": {} if name in CONTROLS else _against(figures, own),
            "figures": own,
        }
        for name, own in figures.items()
    ]


def as_good(row: Mapping[str, Any], measure: str) -> list[str]:
    """The controls that a method is not better than, by a row of :func:`beside_controls`.

    >>> against = {"energy": {"random map": [0.2, 0.1, 0.3], "centre prior": [0.1, -0.1, 0.3]}}
    >>> as_good({"against": against}, "energy")
    ['centre prior']
    """
    intervals = row["against"].get(measure, {})
    return [control for control, (_, low, _) in intervals.items() if low <= 0]


def _against(
    figures: Mapping[str, Mapping[str, Mapping[str, float]]], own: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, list[float]]]:
    def interval(measure: str, control: str) -> list[float]:
        less = measure in LESS_IS_BETTER
        return [*advantage(own[measure], figures[control][measure], less_is_better=less)]

    measured = [measure for measure, by_photo in own.items() if len(by_photo) > 1]
    return {m: {control: interval(m, control) for control in CONTROLS} for m in measured}
