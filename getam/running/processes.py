"""Work on many photos at a time, by processes of this machine or by a Dask cluster."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import joblib

from getam.cache import end_with_parent
from getam.errors import UserError

if TYPE_CHECKING:
    from getam.running.context import Context


def workers(count: int) -> joblib.Parallel:
    """A ``joblib.Parallel`` of processes of this machine, whose results come as they are done.

    They end with this process, also when it is killed.
    """
    return joblib.Parallel(
        n_jobs=count,
        return_as="generator_unordered",
        initializer=end_with_parent,
        initargs=(os.getpid(),),
    )


def process_pool(count: int) -> Executor:
    """Processes of this machine for single tasks, with one thread each: a context manager.

    They end with the context, and with this process, also when it is killed. They are not the
    processes that joblib keeps and gives to its next user: those must be made by joblib.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    return ProcessPoolExecutor(
        count,
        initializer=end_with_parent,
        initargs=(os.getpid(),),
        env={"OMP_NUM_THREADS": "1"},
    )


@contextmanager
def processes(context: Context) -> Iterator[joblib.Parallel]:
    """A ``joblib.Parallel`` that gives each result as soon as it is done.

    Raises:
        UserError: the cluster that ``--workers`` names cannot be reached, or Dask is missing.
    """
    if context.cluster is None:
        yield workers(context.workers)
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
            f"--workers {context.wanted_workers}: there is no Dask scheduler at this address "
            f"({str(error) or type(error).__name__}). Start one with 'dask scheduler', and start "
            f"'dask worker' on each machine."
        ) from None
    with client, joblib.parallel_config(backend="dask"):
        yield joblib.Parallel(n_jobs=-1, return_as="generator_unordered")


class OncePerProcess:
    """Wraps a function with a state, such as open files, so that a process receives it only once.

    joblib sends the function with each task. Without this wrapper each task would open the files
    and read their indices again.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._token = uuid4().hex
        self._pickled = pickle.dumps(function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __reduce__(self) -> tuple:
        return _here, (self._token, self._pickled)


_received: dict[str, Callable[..., Any]] = {}


def _here(token: str, pickled: bytes) -> Callable[..., Any]:
    """Return the function received under a token, and forget the functions of other tokens."""
    function = _received.get(token)
    if function is None:
        function = pickle.loads(pickled)
        _received.clear()
        _received[token] = function
    return function
