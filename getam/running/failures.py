"""What failed, in one sentence, where the machine or a value failed and not the program.

Does not import torch.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable
from typing import Any

from getam.cache import CacheError, Job
from getam.errors import UserError

_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|cannot allocate memory|"
    r"insufficient memory|unable to allocate|_STATUS_ALLOC_FAILED|std::bad_alloc",
    re.IGNORECASE,
)
_ON_GPU = re.compile(r"CUDA|CUBLAS|CUDNN|HIP|MPS|XPU")
_WORKER = re.compile(r"DataLoader worker \(pid.*(killed by signal|exited unexpectedly)", re.DOTALL)
_WORKER_KINDS = ("TerminatedWorkerError", "KilledWorker")  # of joblib, of Dask
_IN_MEMORY = {  # stage -> the settings that decide how much memory it takes
    "classifier": "classifier.batch_size or classifier.image_size",
    "maps": "maps.batch_size",
    "foreground": "foreground.batch_size or foreground.images",
    "pseudolabels": "pseudolabels.longest_side",
    "encoder_features": "deeplab.image_size",
    "deeplab": "deeplab.batch_size or deeplab.image_size",
    "endtoend": "endtoend.joint.batch_size or endtoend.image_size",
    "predictions": "predictions.batch_size",
    "doubt": "predictions.batch_size",
    "agreement": "deeplab.image_size",
    "compare": "maps.batch_size",
}
_LAST_ERROR = re.compile(r"\n[\w.]*(?:UserError|CacheError): ")
_REFUSED = "Got "  # a function of this package refuses a value: what it got, what it expected
_FROM_LOADER = re.compile(r"Caught (UserError|CacheError) in DataLoader worker")


def sentence(error: BaseException, stage: str | None = None) -> str | None:
    """What to tell the user about an error, and what to do; None for a mistake of the program.

    >>> sentence(MemoryError())
    'Out of memory. Close other programs, or use fewer processes with --workers.'
    """
    if isinstance(error, (UserError, CacheError)):
        # torch puts the traceback of a process that loads images into the text.
        text = str(error)
        return _LAST_ERROR.split(text)[-1].strip() if _FROM_LOADER.match(text) else None
    current: BaseException | None = error
    while current is not None:
        if told := _told(current, stage):
            return told
        current = current.__cause__
    return None


def in_a_sentence(
    call: Callable[[Callable[[Job], Any], Job], Any],
) -> Callable[[Callable[[Job], Any], Job], Any]:
    """``call`` (see ``getam.cache.Runner``), where errors that a sentence tells are UserErrors."""

    def told(function: Callable[[Job], Any], job: Job) -> Any:
        try:
            return call(function, job)
        except (UserError, CacheError) as error:
            if short := sentence(error):
                raise UserError(short) from error
            raise
        except Exception as error:
            if isinstance(error, OSError) or not (short := sentence(error, job.stage)):
                raise
            raise UserError(short) from error

    return told


def _told(error: BaseException, stage: str | None) -> str | None:
    text = str(error)
    if isinstance(error, MemoryError) or _is_memory(error, text):
        return _out_of_memory(text, stage)
    if type(error).__name__ in _WORKER_KINDS or _WORKER.match(text):
        return (
            f"{_of(stage)}A worker process was killed, perhaps because the memory was full. Run "
            f"again to go on; use fewer processes with --workers."
        )
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"{error.filename}: cannot be read or written ({error.strerror}). Mend its rights, or "
            f"the disk, and run again."
        )
    if type(error) is ValueError and text.startswith(_REFUSED):
        return (
            f"{_of(stage)}{text} No check before the run noticed this. Compare the settings of "
            f"this stage with docs/settings.md, and look at what it reads with the command inspect."
        )
    return None


def _is_memory(error: BaseException, text: str) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, (RuntimeError, _opencv_error())) and bool(_NO_MEMORY.search(text))


def _opencv_error() -> type[Exception]:
    """The kind of OpenCV's errors, where OpenCV is loaded."""
    return getattr(sys.modules.get("cv2"), "error", MemoryError)


def _out_of_memory(text: str, stage: str | None) -> str:
    if _ON_GPU.search(text):
        what, remedy = "The GPU is out of memory", "Stop other programs that use the GPU"
    else:
        what, remedy = "Out of memory", "Close other programs"
    if stage is None:
        return f"{what}. {remedy}, or use fewer processes with --workers."
    lower = f", lower {_IN_MEMORY[stage]}" if stage in _IN_MEMORY else ""
    return (
        f"{_of(stage)}{what}. {remedy}{lower}, or use fewer processes with --workers. Then run "
        f"again to go on."
    )


def _of(stage: str | None) -> str:
    return f"{stage}: " if stage else ""
