"""Looking inside a classifier without leaving a trace: the common ground of all maps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from getam.maps.adapter import Adapter, TimmAdapter
from getam.maps.unchanged import has_library_method, is_unchanged, may_fuse

__all__ = [
    "Batch",
    "class_gradients",
    "classifies_as_timm",
    "full_precision",
    "is_plain",
    "is_plain_transformer",
    "patched_forward",
    "scores_from_block",
    "undisturbed",
]

_WANTED = {"training": False, "fused_attn": True, "grad_checkpointing": False}
_PLAIN_TRANSFORMERS = (VisionTransformer, VisionTransformerDistilled, Eva)


class Batch(NamedTuple):
    """G images with the same number K of classes to explain, of the C that the model knows."""

    adapter: Adapter
    classify: Callable[[], Tensor]  # runs the model on the images, from the first block that counts
    classes: Tensor  # (G, K), class indices
    num_classes: int  # C
    grid: tuple[int, int]  # (h, w), in patches

    @property
    def row(self) -> slice:
        """The class token among all tokens."""
        return slice(self.adapter.class_token, self.adapter.class_token + 1)

    @property
    def patches(self) -> slice:
        """The patch tokens among all tokens; the prefix tokens come first."""
        return slice(-self.grid[0] * self.grid[1], None)


def is_plain(adapter: Adapter) -> bool:
    """Whether the adapter is that of a plain transformer, see `is_plain_transformer`."""
    return isinstance(adapter, TimmAdapter) and is_plain_transformer(adapter.model)


def is_plain_transformer(model: nn.Module) -> bool:
    """Whether the scores are `forward_head(norm(blocks(tokens)))`, each block given the same.

    >>> is_plain_transformer(VisionTransformer(8, 4, embed_dim=8, depth=1, num_heads=2))
    True
    """
    if type(model) not in _PLAIN_TRANSFORMERS or getattr(model, "rope_mixed", False):
        return False
    return classifies_as_timm(model) and all(map(is_unchanged, (model, model.blocks, model.norm)))


def classifies_as_timm(model: nn.Module) -> bool:
    """Whether nobody gave the model another way from tokens to scores.

    >>> classifies_as_timm(VisionTransformer(8, 4, embed_dim=8, depth=1, num_heads=2))
    True
    """
    methods = ("forward", "forward_features", "forward_head", "pool")
    return all(has_library_method(model, method) for method in methods)


def scores_from_block(
    adapter: Adapter, images: Tensor, start_block: int
) -> Callable[[Tensor], Tensor]:
    """A function that gives the scores (G, C) of those of the images with the given indices (G,).

    What lies below `start_block` is computed once, for all images, unless a part of the model was
    changed: such a part may keep what it saw, for another part to use.

    >>> vit = VisionTransformer(8, 4, embed_dim=8, depth=2, num_heads=2).eval()
    >>> images, some = torch.rand(3, 3, 8, 8), torch.tensor([2, 0])
    >>> adapter = TimmAdapter(vit, vit.blocks, lambda height, width: (2, 2))
    >>> scores = scores_from_block(adapter, images, start_block=1)
    >>> torch.allclose(scores(some), vit(images[some]), atol=1e-6)
    True
    """
    model = adapter.model
    if not (is_plain(adapter) and all(map(is_unchanged, model.modules()))):
        return lambda members: adapter.classify(images[members])
    tokens, args, kwargs = _inputs_of_block(model, images, start_block)

    def scores(members: Tensor) -> Tensor:
        x = tokens[members]
        for block in model.blocks[start_block:]:
            x = block(x, *args, **kwargs)
        return adapter.scores(model.forward_head(model.norm(x)))

    return scores


class _Reached(Exception):
    """A model was run only to see what one of its blocks is given."""


def _inputs_of_block(model: nn.Module, images: Tensor, index: int) -> tuple[Tensor, tuple, dict]:
    def stop(forward: Callable[..., Tensor], x: Tensor, *args, **kwargs) -> Tensor:
        raise _Reached(x, args, kwargs)

    try:
        with patched_forward(model.blocks[index], stop):
            model(images)
    except _Reached as reached:
        return reached.args
    raise ValueError(
        f"the model ran without block {index}: a compiled or scripted model hides its blocks, pass "
        "the plain one"
    )


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with fused attention, without checkpointing or graph; all undone after.

    Works in any surrounding grad mode, inference mode or autocast state. What is compiled runs as
    if it were not. Attention that somebody changed stays unfused if it is, see `may_fuse`.

    >>> layer = nn.Dropout()
    >>> with undisturbed(layer):
    ...     layer.training, torch.is_grad_enabled()
    (False, False)
    >>> layer.training, torch.is_grad_enabled()
    (True, True)
    """
    found = [change for module in model.modules() for change in _to_change(module)]
    with torch.inference_mode(False), torch.no_grad(), _nothing_compiled():
        try:
            for module, name in found:
                setattr(module, name, _WANTED[name])
            yield
        finally:
            for module, name in found:
                setattr(module, name, not _WANTED[name])
            # A weight that autocast has cast without a graph would get no gradient from the
            # caller's next forward pass.
            torch.clear_autocast_cache()


def _to_change(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    own = vars(module)  # much faster than getattr on a module that lacks the attribute
    if module.training:
        yield module, "training"
    if own.get("grad_checkpointing"):
        yield module, "grad_checkpointing"
    if not own.get("fused_attn", True) and may_fuse(module):
        yield module, "fused_attn"


def _nothing_compiled() -> AbstractContextManager:
    """What `torch.compile` made runs as plain Python, so that its attention can be seen."""
    used = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")
    return torch.compiler.set_stance("force_eager") if used else nullcontext()


@contextmanager
def patched_forward(module: nn.Module, run: Callable[..., Tensor]) -> Iterator[None]:
    """Within the context `module` runs as `run(forward, *args, **kwargs)`, `forward` its own.

    The module's hooks stay in force.

    >>> layer = nn.Identity()
    >>> with patched_forward(layer, lambda forward, x: forward(x) + 1):
    ...     layer(1)
    2
    >>> layer(1)
    1
    """
    own = vars(module).get("forward")
    module.forward = partial(run, module.forward)
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def class_gradients(
    batch: Batch,
    logits: Tensor,
    activations: list[Tensor],
    tokens: slice,
    zero_means: str | None = None,
    first_block: int | None = None,
) -> Iterator[tuple[Tensor, ...]]:
    """For k = 0 .. K-1: the gradient of every image's k-th class score at each activation.

    One backward pass each, over the whole batch, as its images do not see each other: the gradient
    of `sum_b y[b, classes[b, k]]`. Parameters and their `.grad` are not touched.

    Args:
        batch: whose classes to explain.
        logits: (G, C), what `batch.classify` gave.
        activations: (G, ..., N, D) each, in the order of the blocks.
        tokens: those among N that a map is read from.
        zero_means: why the gradient at them may be zero; by default, what the head reads.
        first_block: the block of the first activation; by default that of the last is the last.

    Raises:
        ValueError: the logits are not (G, C) or not differentiable; or, after the last pass, a
            gradient at `tokens` that is zero or not finite.

    >>> x = torch.ones(1, 2, 3, requires_grad=True)
    >>> adapter = Adapter(nn.Identity(), [nn.Identity()], lambda height, width: (1, 2))
    >>> batch = Batch(adapter, lambda: x.sum(1)[:, :2] * 5, torch.tensor([[1]]), 2, (1, 2))
    >>> [(grad,)] = class_gradients(batch, batch.classify(), [x], slice(2))
    >>> grad.tolist()
    [[[0.0, 5.0, 0.0], [0.0, 5.0, 0.0]]]
    """
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"expected scores (B, C), got a {type(logits).__name__}: pass `scores`, a function of "
            "the model's output that gives this tensor"
        )
    if logits.shape != (len(batch.classes), batch.num_classes):
        raise ValueError(
            f"targets have {batch.num_classes} classes, but the model gave scores of shape "
            f"{tuple(logits.shape)} for {len(batch.classes)} images"
        )
    if not logits.requires_grad:
        raise ValueError(
            "the model's scores have no gradient: its forward detaches them, as torch.no_grad() "
            "and torch.utils.checkpoint with use_reentrant=True do"
        )
    with torch.enable_grad():
        scores = logits.gather(1, batch.classes).sum(dim=0).unbind()
    largest = []
    for k, score in enumerate(scores):
        gradients = torch.autograd.grad(
            score, activations, retain_graph=k + 1 < len(scores), materialize_grads=True
        )
        largest.append([g[..., tokens, :].abs().flatten(1).amax(dim=1) for g in gradients])
        yield gradients
    # Only now, as a look at a value waits for all the work that a GPU still has to do.
    largest = torch.stack([torch.stack(of_class) for of_class in largest])
    if first_block is None:
        first_block = len(batch.adapter.blocks) - len(activations)
    zero_means = zero_means or _reading_of_head(batch.adapter.model)
    _check_gradients(batch, largest, zero_means, first_block)


def _check_gradients(batch: Batch, largest: Tensor, zero_means: str, first_block: int) -> None:
    """Largest absolute gradients, (K, activations, G): a map of zeros must not pass for one."""
    if not largest.isfinite().all():
        raise ValueError(
            "a gradient is not finite: look for values in the images or weights that are not "
            "finite; if the model computes in float16, use float32 or bfloat16"
        )
    if (largest > 0).all():
        return
    k, activation, image = (largest == 0).nonzero()[0].tolist()
    raise ValueError(
        "the tokens that the map is read from get no gradient in block "
        f"{first_block + activation} (class "
        f"{batch.classes[image, k]}), so the map would be zero: {zero_means}"
    )


def _reading_of_head(model: nn.Module) -> str:
    pool = getattr(model, "global_pool", "") or "of its own"
    if pool == "token":
        return "weights after that block are zero, or a part after it cuts the gradient off"
    return (
        f"the head must read the class token, and this model's pooling is {pool!r}. Use "
        "global_pool='token', or a readout that contains the class token"
    )


def full_precision(device: torch.device) -> torch.autocast:
    """Outside of the caller's autocast: sums over tokens and blocks want float32.

    >>> with torch.autocast("cpu", dtype=torch.bfloat16), full_precision(torch.device('cpu')):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    return torch.autocast(device.type, enabled=False)
