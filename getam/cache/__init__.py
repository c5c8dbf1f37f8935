"""Stages whose results are kept under a content hash of everything they were made from.

Names are loaded on first use: what needs only one of them pays, and is keyed, for that one alone.
"""

from __future__ import annotations

from importlib import import_module

_EXPORTS = {
    "CacheError": "getam.cache.errors",
    "ConfigView": "getam.cache.stage",
    "DataPart": "getam.cache.stage",
    "Decision": "getam.cache.plan",
    "Event": "getam.cache.runner",
    "FileDigests": "getam.cache.file_digests",
    "Job": "getam.cache.stage",
    "Pieces": "getam.cache.pieces",
    "Presence": "getam.cache.store",
    "Runner": "getam.cache.runner",
    "Runs": "getam.cache.records",
    "Stage": "getam.cache.stage",
    "StatusRow": "getam.cache.plan",
    "Store": "getam.cache.store",
    "atomic_write": "getam.cache.atomic",
    "atomic_write_bytes": "getam.cache.atomic",
    "atomic_write_json": "getam.cache.atomic",
    "end_with_parent": "getam.cache.workers",
    "gc": "getam.cache.upkeep",
    "in_threads": "getam.cache.atomic",
    "library_versions": "getam.cache.manifest",
    "verify": "getam.cache.upkeep",
    "watch_parent": "getam.cache.workers",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'getam.cache' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
