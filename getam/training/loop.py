"""One training loop for every network of the project. It can resume at any step.

Random numbers do not depend on earlier steps. The order of an epoch depends only on (seed, epoch),
the augmentation of an image only on (seed, epoch, image), dropout only on (seed, step). So a run
that was killed and resumed takes the same steps. On a CPU the number of workers decides how many
threads torch has, and with it the last digits.
Several processes (see ``getam.training.distributed``) share each batch. Loss and gradient are those
of the whole batch; only dropout differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from joblib import wrap_non_picklable_objects
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from getam.cache import end_with_parent
from getam.networks.build import encoder_parameters, freeze_blocks
from getam.networks.memory import freed_memory_kept
from getam.networks.precision import autocast, gradient_scaler
from getam.networks.threads import fewer_threads
from getam.training import distributed
from getam.training.checkpoint import Checkpoint, History, check_finite
from getam.training.signals import HeldBack

if TYPE_CHECKING:
    from getam.cache import Pieces

Item = tuple[Tensor, ...]
Figures = dict[str, Tensor]


def mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers.

    >>> mix(1, 2) == mix(1, 2), mix(1, 2) == mix(2, 1)
    (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class SeededItems(Dataset):
    """Items by (epoch, index). The random state of an item depends only on these and the seed.

    Can be sent to processes that are started anew, as on macOS and Windows, with whatever ``make``
    was defined in another function.
    """

    def __init__(self, size: int, make: Callable[[int], Item], seed: int) -> None:
        self.size, self.make, self.seed = size, wrap_non_picklable_objects(make), seed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, at: tuple[int, int]) -> Item:
        epoch, index = at
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which takes longer than the augmentation of a small photo.
            torch.default_generator.manual_seed(mix(self.seed, 1, epoch, index))
            return self.make(index)


class Batches:
    """Batches of (epoch, index) from step ``start`` on; every epoch is one permutation.

    The incomplete batch at the end of an epoch is dropped (batch normalisation needs full batches).
    Several processes each get a share of every batch.

    Raises:
        UserError: the batch size is no multiple of the number of processes.
    """

    def __init__(self, items: int, batch_size: int, epochs: int, seed: int, start: int = 0) -> None:
        self.items, self.batch_size = items, min(batch_size, items)
        distributed.check_shares(self.batch_size, distributed.count())
        self.per_epoch = items // self.batch_size
        self.total, self.seed, self.start = self.per_epoch * epochs, seed, start

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, known = None, -1
        for step in range(self.start, self.total):
            epoch, place = divmod(step, self.per_epoch)
            if epoch != known:
                order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.items)
                known = epoch
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
            yield [(epoch, int(index)) for index in distributed.share(chosen)]


def train(
    network: nn.Module,
    items: int,
    make_item: Callable[[int], Item],
    loss: Callable[[nn.Module, Item], Tensor | Figures],
    settings: Any,
    *,
    seed: int,
    pieces: Pieces,
    scratch: Path,
    device: str,
    workers: int = 0,
    track: Callable = lambda iterable, **_: iterable,
    measure: Callable[[], dict[str, float]] = dict,
) -> History:
    """Train a network in place. Resumes from ``scratch/checkpoint.pt`` if this file exists.

    After a finished training, another call only loads the result.

    Args:
        network: moved to ``device``; in eval mode on return.
        items: number of training images.
        make_item: index -> tensors of one image, with augmentation from torch's random state.
        loss: (network, batch on the device) -> the loss (scalar), or a dict of ``"loss"`` and other
            values (scalars or vectors), whose means over an epoch go into the history. It must call
            the network as a whole, not its parts, because with several processes the network is a
            DistributedDataParallel.
        settings: the fields of ``getam.config.schema.Training``.
        seed: seed of all random numbers.
        pieces: the pieces of the stage. The checkpoint is one of them.
        scratch: folder of the checkpoint. The environment variable ``GETAM_CHECKPOINT_SECONDS`` is
            the time between two checkpoints, in seconds; default 60. Ctrl-C and SIGTERM wait for
            the end of the step, and a checkpoint.
        measure: gives further values of the network, in eval mode, at the end of each epoch.

    Raises:
        UserError: the batch size is no multiple of the number of processes, or the training
            diverged: the loss or a weight is not finite.
    """
    network.to(device)
    freeze_blocks(network, settings.frozen_blocks)
    optimizer = make_optimizer(network, settings)
    scaler = gradient_scaler(settings.precision, device)
    rates = [group["lr"] for group in optimizer.param_groups]  # a checkpoint has decayed rates
    state = Checkpoint(scratch / "checkpoint.pt", pieces, network, optimizer, scaler)
    step, history = state.load()
    distributed.wait()  # all have read the checkpoint before one of them writes the next
    batches = Batches(items, settings.batch_size, settings.epochs, seed, step)
    loader = DataLoader(
        SeededItems(items, make_item, seed),
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=device.startswith("cuda"),
        worker_init_fn=_end_with_parent,
    )
    network.train()
    parallel = distributed.in_parallel(network)
    running = {name: total.to(device) for name, total in state.running.items()}

    def current() -> str:
        in_epoch = step % batches.per_epoch
        mean = running["loss"].item() / in_epoch if in_epoch else history.epochs[-1]["loss"]
        return f"loss {mean:.3f}"

    fewer = fewer_threads(workers if device == "cpu" else 0)
    with HeldBack() as signals, fewer, freed_memory_kept():
        for batch in track(loader, total=batches.total, initial=step, unit="step", figure=current):
            factor = schedule(step, batches.total, settings)
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * factor
            torch.manual_seed(_step_seed(seed, step))
            with autocast(settings.precision, device):
                value = loss(parallel, tuple(t.to(device, non_blocking=True) for t in batch))
            figures = value if isinstance(value, dict) else {"loss": value}
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(figures["loss"]).backward()
            scaler.step(optimizer)
            scaler.update()
            means = {name: distributed.mean(figure.detach()) for name, figure in figures.items()}
            running = {name: running.get(name, 0) + mean for name, mean in means.items()}
            step += 1
            if step % batches.per_epoch == 0:
                check_finite("loss", running["loss"], step)
                means = {name: (f / batches.per_epoch).tolist() for name, f in running.items()}
                network.eval()
                history.epochs.append({**means, **measure()})
                network.train()
                running = {}
            due = step == batches.total or state.is_due() or signals.came
            if due and not distributed.rank():
                state.save(step, history, running)
            signals.obey()
    network.eval()
    return history


def _end_with_parent(_: int) -> None:
    """In each process that loads images."""
    end_with_parent()


def _step_seed(seed: int, step: int) -> int:
    """Of what is random in a step; the first process's is that of a single one."""
    return mix(seed, 2, step, *([distributed.rank()] if distributed.rank() else []))


def make_optimizer(network: nn.Module, settings: Any) -> torch.optim.Optimizer:
    """AdamW or SGD, with a learning rate for the encoder and one for all other parameters.

    Vectors, such as biases, have no weight decay.
    """
    encoder = {id(p) for p in encoder_parameters(network)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            rate = settings.lr_encoder if id(parameter) in encoder else settings.lr_head
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    listed = [{"params": p, "lr": lr, "weight_decay": d} for (lr, d), p in groups.items()]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(listed, lr=settings.lr_head, momentum=settings.momentum)
    return torch.optim.AdamW(listed, lr=settings.lr_head, fused=True)  # on a CPU half the time


def schedule(step: int, total: int, settings: Any) -> float:
    """The factor on the learning rates: linear warm-up, then cosine or poly decay to 0."""
    warm = settings.warmup * total
    if step < warm:
        return (step + 1) / (warm + 1)
    done = (step - warm) / max(total - warm, 1)
    if settings.schedule == "poly":
        return (1 - done) ** settings.poly_power
    return 0.5 * (1 + float(np.cos(np.pi * done)))
