"""Known names that are near to one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The names that begin with ``name``, else the one that looks most like it, if any does.

    >>> nearest("lr", ["epochs", "lr_encoder", "lr_head"])
    ['lr_encoder', 'lr_head']
    >>> nearest("epoch", ["epochs", "lr_head"]), nearest("xyz", ["epochs"])
    (['epochs'], [])
    """
    known = list(known)
    if name in known:  # as where another case was typed
        return [name]
    begun = [one for one in known if name and one.startswith(name)]
    return begun[:most] or difflib.get_close_matches(name, known, n=1, cutoff=0.5)


def did_you_mean(near: Iterable[str]) -> str:
    """A question that names them; empty without any.

    >>> did_you_mean(["deeplab.lr_encoder", "deeplab.lr_head"])
    'Did you mean deeplab.lr_encoder or deeplab.lr_head?'
    """
    names = " or ".join(near)
    return f"Did you mean {names}?" if names else ""
