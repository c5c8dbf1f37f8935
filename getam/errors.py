"""The one exception for mistakes that the user can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake in the input: one sentence with file, got, expected and the remedy.

    The command line prints it and exits with 1, without a traceback.
    """


@contextmanager
def collected(problems: list[str] | None) -> Iterator[None]:
    """A block whose mistake goes to the end of ``problems``; None: it is raised.

    >>> problems = []
    >>> with collected(problems):
    ...     raise UserError("labels.csv: no such class.")
    >>> problems
    ['labels.csv: no such class.']
    """
    try:
        yield
    except UserError as error:
        if problems is None:
            raise
        problems.append(str(error))


def raise_first(problems: list[str]) -> None:
    """Refuse with the first of some problems, and say how many more there are.

    Raises:
        UserError: there is one.
    """
    if problems:
        more = len(problems) - 1
        also = f" There {'is' if more == 1 else 'are'} {more} more: the command data lists all."
        raise UserError(problems[0] + (also if more else ""))
