"""Work on many images at once: by processes of this machine, or by a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import joblib

from getam.errors import UserError

if TYPE_CHECKING:
    from stages.workspace import Context


@contextmanager
def processes(context: Context) -> Iterator[joblib.Parallel]:
    """A ``joblib.Parallel`` whose results come as they are done.

    Raises:
        UserError: the cluster that ``--workers`` names cannot be reached, or Dask is missing.
    """
    if context.cluster is None:
        yield joblib.Parallel(n_jobs=context.workers, return_as="generator_unordered")
        return
    try:
        from distributed import Client
    except ImportError:
        raise UserError(
            "--workers dask://... needs Dask, which is not installed: pip install 'getam[dask]'."
        ) from None
    try:
        client = Client(context.cluster, timeout=10)
    except OSError as error:
        raise UserError(
            f"--workers {context.wanted_workers}: there is no Dask scheduler "
            f"({str(error) or type(error).__name__}). Start one with 'dask scheduler', and "
            f"'dask worker' on each machine."
        ) from None
    with client, joblib.parallel_config(backend="dask"):
        yield joblib.Parallel(n_jobs=-1, return_as="generator_unordered")
