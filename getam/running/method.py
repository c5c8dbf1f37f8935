"""The stages that a command line runs. The library is handed them, and knows none by import."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from getam.running.opening import Chain


@dataclass(frozen=True)
class Method:
    """``names`` of all stages in their order; which of them several processes run ``together``;
    the ``chain`` of a configuration, and the ``comparison`` of map methods on it."""

    names: tuple[str, ...]
    together: Collection[str]
    chain: Chain
    comparison: Chain


def current_method() -> Method:
    """The method of the command line that is running."""
    return click.get_current_context().find_object(Method)
