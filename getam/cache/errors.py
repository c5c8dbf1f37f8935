"""The one exception of the cache."""

from __future__ import annotations


class CacheError(Exception):
    """One clear sentence: what was got, what was expected and the remedy."""
