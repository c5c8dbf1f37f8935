"""The one exception for mistakes that the user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the input: one sentence with file, got, expected and the remedy.

    The command line prints it and exits with 1, without a traceback.
    """
