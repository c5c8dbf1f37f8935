"""The stages that the command line runs. It passes them to the library, which imports no stage."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from getam.running.opening import Chain


@dataclass(frozen=True)
class Method:
    """The stages of the command line.

    Attributes:
        names: all stages, in their order.
        together: the stages that several processes run together.
        chain: gives the stages of a configuration.
        comparison: gives the stages of the command compare.
        choice: gives the stages of the command choose.
    """

    names: tuple[str, ...]
    together: Collection[str]
    chain: Chain
    comparison: Chain
    choice: Chain


def current_method() -> Method:
    """The stages of the command line that is running."""
    return click.get_current_context().find_object(Method)
