"""Batch normalisation over the batches of several processes on CPUs (torch's is for GPUs)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn


class _Total(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Total.forward(ctx, gradient)


class JointBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` with statistics over the batches of all processes (of equal size)."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W) of the same type; the statistics are float32."""
        if not self.training:
            return super().forward(features)
        return self._normalised(features.float()).to(features.dtype)

    def _normalised(self, features: Tensor) -> Tensor:
        processes = torch.distributed.get_world_size()
        moments = torch.stack([features.mean((0, 2, 3)), features.square().mean((0, 2, 3))])
        mean, square = _Total.apply(moments) / processes
        variance = square - mean.square()
        self._remember(mean.detach(), variance.detach(), processes * features[:, 0].numel())
        shape = (1, -1, 1, 1)
        normal = (features - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        return normal * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, samples: int) -> None:
        """Update the running statistics, as one process with all samples would."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * samples / max(samples - 1, 1), self.momentum)


def join_batchnorm(network: nn.Module) -> nn.Module:
    """Turn every ``nn.BatchNorm2d`` of a network into a :class:`JointBatchNorm2d`, in place."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = JointBatchNorm2d
    return network
