"""Stages whose results are kept under a content hash of everything they were made from.

Names are loaded on first use: what needs only one of them pays, and is keyed, for that one alone.

What is kept
    stage         what a stage declares, what it is given, and the key of what it makes
    store         the artifacts on the disk
    manifest      what an artifact was made from
    pieces        the finished files of a stage that is still being made
    records       named runs, and what each data part was made of

Keys
    file_digests  content digests of files
    code_digests  digests of a stage's code; syntax says what code means

Running
    plan          which stages must run; reasons says why
    runner        runs what a plan says
    verdicts      which checks found nothing wrong
    upkeep        what is broken, and what nothing needs any more

Files and processes
    atomic        writing files whole
    checked       files with a checksum
    folders       flushing and removing folders
    locks         locks between processes
    workers       processes that end with another one
    faults        dying at a chosen moment, for tests
    errors        the exception of the cache
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
