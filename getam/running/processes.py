"""Work on many photos at a time, by processes of this machine or by a Dask cluster."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import joblib

from getam.cache import end_with_parent
from getam.errors import UserError

if TYPE_CHECKING:
    from getam.running.context import Context

VALUES = 500_000  # in a part of the room for large arrays
PARTS = 21  # of a process: the dense CRF of 5 classes at 1024 x 768 pixels

# One thread; and glibc gives arrays above 1 MB back to the system as soon as they are freed.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "1000000"}

_room: Room | None = None  # of this process, if it is one of a pool


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


@contextmanager
def process_pool(count: int) -> Iterator[Executor]:
    """Processes of this machine for single tasks, with one thread each.

    They end with the context, after an error at once, and with this process, also when it is
    killed. They are not the processes that joblib keeps and gives to its next user: those must be
    made by joblib. Their tasks may use ``room_in_process``.
    """
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.backend import get_context

    context = get_context("loky")
    parts = PARTS * max(1, count - 1)  # the main process has arrays too
    pool = ProcessPoolExecutor(
        count,
        context=context,
        initializer=_begin,
        initargs=(os.getpid(), parts, context.Lock(), context.Semaphore(parts)),
        env=ENVIRONMENT,
    )
    try:
        yield pool
    except BaseException:
        pool.shutdown(kill_workers=True)
        raise
    pool.shutdown()


def _begin(parent: int, parts: int, *locks: Any) -> None:
    global _room
    _room = Room(parts, *locks)
    end_with_parent(parent)


class Room:
    """Keeps the memory of the processes of a pool bounded. It has parts of ``VALUES`` values.

    A task takes the parts that it needs, and waits until they are free. A task that needs more
    than all parts takes all.
    """

    def __init__(self, parts: int, one_by_one: Any, free: Any) -> None:
        self._parts, self._one_by_one, self._free = parts, one_by_one, free

    @contextmanager
    def __call__(self, values: int) -> Iterator[None]:
        taken = min(self._parts, -(-values // VALUES))
        with self._one_by_one:  # else two tasks could wait for each other's parts
            for _ in range(taken):
                self._free.acquire()
        try:
            yield
        finally:
            for _ in range(taken):
                self._free.release()


@contextmanager
def room_in_process(values: int) -> Iterator[None]:
    """A context for arrays of so many values: in a process of ``process_pool`` it may wait until
    the other processes leave room for them (``Room``)."""
    with nullcontext() if _room is None else _room(values):
        yield


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


def check_machines(context: Context) -> None:
    """Whether the device and the cluster that the command line names can be used.

    Raises:
        UserError: one cannot.
    """
    if context.wanted_device not in (None, "cpu"):
        context.device  # noqa: B018  torch is asked once, and this needs a second
    if context.cluster is not None:
        with processes(context):
            pass


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
