"""What people do to the models they load: a block, or the whole model, by the name of the change.

Each change but the two that are low-rank lets tokens mix where they do not in the plain model.
"""

from __future__ import annotations

import types
from collections.abc import Callable

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tests.oracles import FAMILIES, GRID

WIDTH = 32  # of the tiny transformers

Change = Callable[[nn.Module], object]


def mix(x: Tensor, dim: int = 1) -> Tensor:
    """Neighbouring tokens, mixed."""
    return x + 0.5 * x.roll(1, dims=dim) + 0.3 * x.mean(dim=dim, keepdim=True)


class Mixed(nn.Module):
    """A part of a model, and mixing after it; `dim` is that of the tokens."""

    def __init__(self, part: nn.Module, dim: int = 1) -> None:
        super().__init__()
        self.part, self.dim = part, dim

    def forward(self, *args, **kwargs):
        return mix(self.part(*args, **kwargs), self.dim)


class Gate(nn.Module):
    """A squeeze-excite gate, made from the mean of all tokens."""

    def forward(self, x):
        return x * torch.sigmoid(x.mean(dim=1, keepdim=True))


class LowRank(nn.Module):
    """LoRA, which treats every token by itself."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.down, self.up = nn.Linear(linear.in_features, 2), nn.Linear(2, linear.out_features)
        self.double()

    def forward(self, x):
        return self.linear(x) + self.up(self.down(x))


class Convolution(nn.Module):
    """An adapter that is a convolution over the patch grid, as Convpass is."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(WIDTH, WIDTH, 3, padding=1).double()

    def forward(self, x):
        patches = self.convolve(x[:, 1:].mT.unflatten(2, GRID)).flatten(2).mT
        return torch.cat([self.convolve(x[:, :1].mT[..., None])[..., 0].mT, patches], dim=1)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def on_every_block(change: Change) -> Change:
    def changed(model: nn.Module) -> None:
        for block in model.blocks:
            change(block)

    return changed


def replaced(path: str, make: Callable[[nn.Module], nn.Module]) -> Change:
    """Another module in the place of one of every block, or of the model if it is there."""

    def change(owner: nn.Module) -> None:
        parent, _, name = path.rpartition(".")
        owner = owner.get_submodule(parent)
        setattr(owner, name, make(getattr(owner, name)))

    return change


def forward_of(path: str, forward: Callable[..., Tensor]) -> Change:
    """A new `forward` on the object alone."""

    def change(owner: nn.Module) -> None:
        module = owner.get_submodule(path)
        module.forward = types.MethodType(forward, module)

    return change


def mixing_forward(self, *args, **kwargs):
    return mix(type(self).forward(self, *args, **kwargs))


def mixing_after_softmax(self, x, *args, **kwargs):
    """Attention as interpretability code writes it: with a matrix of its own that it keeps."""
    q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
    self.kept = self.attn_drop((q @ k.mT * self.scale).softmax(dim=-1))
    return mix(self.proj((self.kept @ v).transpose(1, 2).flatten(2)))


def context_forward(self, x, attn_mask=None, **kwargs):
    x = x + self.attn(self.norm1(x)) + x.mean(dim=1, keepdim=True)
    return x + self.mlp(self.norm2(x))


def adapter_forward(self, x, **kwargs):
    x = x + self.attn(self.norm1(x)) + self.adapter(self.norm1(x))
    return x + self.mlp(self.norm2(x))


def with_adapter(block: nn.Module) -> None:
    block.adapter = Convolution()
    block.forward = types.MethodType(adapter_forward, block)


def remembering_forward(self, x, **kwargs):
    """Blocks that see the tokens of the first one, through an attribute."""
    x = Block.forward(self, x, **kwargs)
    if self.first is None:
        self.kept = x
        return x
    return x + self.first[0].kept.mean(dim=1, keepdim=True)


def with_memory(model: nn.Module) -> None:
    for index, block in enumerate(model.blocks):
        block.first = (model.blocks[0],) if index else None
        block.forward = types.MethodType(remembering_forward, block)


def own_features(self, x, **kwargs):
    x = self._pos_embed(self.patch_embed(x))
    for block in self.blocks:
        x = mix(block(x))
    return self.norm(x)


def own_classification(self, x, **kwargs):
    tokens = self.forward_features(x)
    return self.head(tokens[:, 0] + tokens[:, 1:].mean(dim=1))


def own_pooling(self, x, **kwargs):
    return x[:, 0] + x.amax(dim=1)


def hooked(path: str, pre: bool = False) -> Change:
    def change(owner: nn.Module) -> None:
        module = owner.get_submodule(path)
        if pre:
            module.register_forward_pre_hook(lambda module, args: (mix(args[0]), *args[1:]))
        else:
            module.register_forward_hook(lambda module, args, output: mix(output))

    return change


def hooked_backwards(block: nn.Module) -> None:
    block.mlp.register_full_backward_hook(lambda module, given, got: (mix(given[0]),))


def function_for_norm(block: nn.Module) -> None:
    norm = block.norm2
    del block.norm2
    block.norm2 = lambda x: mix(norm(x))


def weights_per_position(block: nn.Module) -> None:
    tokens = 1 + GRID[0] * GRID[1]
    block.ls2 = type(FAMILIES["deit3"]().blocks[0].ls2)(WIDTH).double()
    block.ls2.gamma = nn.Parameter(torch.rand(tokens, WIDTH, dtype=torch.float64))


def norm_over_tokens(block: nn.Module) -> None:
    tokens = 1 + GRID[0] * GRID[1]
    block.norm2 = nn.LayerNorm((tokens, WIDTH)).double()


def parametrized(block: nn.Module) -> None:
    parametrize.register_parametrization(block.attn.proj, "weight", Doubled())


def another_scale(block: nn.Module) -> None:
    block.attn.fused_attn, block.attn.scale = False, 0.1


def sharpened(block: nn.Module) -> None:
    block.attn.fused_attn, block.attn.attn_drop = False, nn.Softmax(dim=-1)


def sharpened_by_hook(block: nn.Module) -> None:
    block.attn.fused_attn = False
    block.attn.attn_drop.register_forward_hook(lambda module, args, output: output**2)


BLOCK_CHANGES = {
    "forward of the block: mean over tokens": forward_of("", context_forward),
    "forward of the block: convolution over the patch grid": with_adapter,
    "forward of the attention": forward_of("attn", mixing_forward),
    "forward of the attention that keeps its matrix": forward_of("attn", mixing_after_softmax),
    "forward of the mlp": forward_of("mlp", mixing_forward),
    "forward of a linear layer in the mlp": forward_of("mlp.fc2", mixing_forward),
    "forward of a norm": forward_of("norm2", mixing_forward),
    "attn.proj replaced": replaced("attn.proj", Mixed),
    "attn.qkv replaced": replaced("attn.qkv", Mixed),
    "attn.q_norm replaced": replaced("attn.q_norm", lambda part: Mixed(part, dim=2)),
    "attn.k_norm replaced": replaced("attn.k_norm", lambda part: Mixed(part, dim=2)),
    "attn.norm replaced": replaced("attn.norm", Mixed),
    "attn.proj_drop replaced": replaced("attn.proj_drop", Mixed),
    "ls1 replaced": replaced("ls1", lambda part: Gate()),
    "ls2 replaced": replaced("ls2", lambda part: Gate()),
    "drop_path1 replaced": replaced("drop_path1", Mixed),
    "drop_path2 replaced": replaced("drop_path2", Mixed),
    "norm1 replaced": replaced("norm1", Mixed),
    "norm2 replaced": replaced("norm2", Mixed),
    "norm2 in a sequence": replaced("norm2", lambda part: nn.Sequential(part, Gate())),
    "norm2 that is a function": function_for_norm,
    "norm2 over the tokens too": norm_over_tokens,
    "ls2 with weights for every position": weights_per_position,
    "mlp replaced": replaced("mlp", Mixed),
    "mlp.fc1 replaced": replaced("mlp.fc1", Mixed),
    "mlp.act replaced": replaced("mlp.act", lambda part: nn.Softmax(dim=1)),
    "mlp.norm replaced": replaced("mlp.norm", Mixed),
    "mlp.drop2 replaced": replaced("mlp.drop2", Mixed),
    "low-rank qkv, token by token": replaced("attn.qkv", LowRank),
    "low-rank mlp, token by token": replaced("mlp.fc1", LowRank),
    "hook after the attention": hooked("attn"),
    "hook after a linear layer": hooked("mlp.fc2"),
    "hook before the mlp": hooked("mlp", pre=True),
    "hook before the block": hooked("", pre=True),
    "weights that are parametrized": parametrized,
    "unfused attention of another scale": another_scale,
    "unfused attention with its matrix changed": sharpened,
    "unfused attention with its matrix changed by a hook": sharpened_by_hook,
}
MODEL_CHANGES = {
    "blocks in wrappers": lambda model: setattr(
        model, "blocks", nn.Sequential(*map(Mixed, model.blocks))
    ),
    "blocks in sequences": lambda model: setattr(
        model, "blocks", nn.Sequential(*(nn.Sequential(block, Gate()) for block in model.blocks))
    ),
    "blocks that remember another": with_memory,
    "forward of the container of blocks": forward_of("blocks", mixing_forward),
    "forward of the model": forward_of("", own_classification),
    "forward_features of the model": lambda model: setattr(
        model, "forward_features", types.MethodType(own_features, model)
    ),
    "pool of the model": lambda model: setattr(model, "pool", types.MethodType(own_pooling, model)),
    "norm of the model": replaced("norm", Mixed),
    "norm of the model in a sequence": replaced("norm", lambda part: nn.Sequential(part, Gate())),
    "position embedding of the model": replaced("pos_drop", Mixed),
    "patch embedding of the model": hooked("patch_embed"),
}
