"""Counts the multiplications of matrix products, convolutions and attention on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
# Products of (tokens, tokens, width) in one call. The backward pass computes `Q K^T` once more.
_PRODUCTS = {_ATTENTION: 2, _ATTENTION_BACKWARD: 5}


class Products(TorchDispatchMode):
    """Within it, `multiplications` grows. It adds no hooks, which would turn off short cuts."""

    def __init__(self) -> None:
        super().__init__()
        self.multiplications = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in _PRODUCTS:
            query, key = args[:2] if packet is _ATTENTION else args[1:3]
            self.multiplications += _PRODUCTS[packet] * query.numel() * key.shape[2]
        elif packet in flop_registry:
            flops = flop_registry[packet](*args, **(kwargs or {}), out_val=out)
            self.multiplications += flops // 2
        return out


def count(work: Callable[[], object]) -> int:
    """The multiplications of one run.

    >>> count(lambda: torch.ones(2, 3) @ torch.ones(3, 5))
    30
    """
    with Products() as products:
        work()
    return products.multiplications
