"""Looking inside a classifier without leaving a trace: the common ground of all maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

__all__ = [
    "Batch",
    "class_gradients",
    "full_precision",
    "has_hooks",
    "is_plain_transformer",
    "patched_forward",
    "scores_from_block",
    "undisturbed",
]

_PLAIN_TRANSFORMERS = (VisionTransformer, VisionTransformerDistilled, Eva)


class Batch(NamedTuple):
    """G images with the same number K of classes to explain, of the C that the model knows."""

    model: nn.Module
    classify: Callable[[], Tensor]  # runs the model on the images, from the first block that counts
    classes: Tensor  # (G, K), class indices
    num_classes: int  # C
    grid: tuple[int, int]  # (h, w), in patches

    @property
    def patches(self) -> slice:
        """The patch tokens among all tokens; the prefix tokens come first."""
        return slice(-self.grid[0] * self.grid[1], None)


def is_plain_transformer(model: nn.Module) -> bool:
    """Whether the scores are `forward_head(norm(blocks(tokens)))`, each block given the same.

    >>> is_plain_transformer(VisionTransformer(8, 4, embed_dim=8, depth=1, num_heads=2))
    True
    """
    if type(model) not in _PLAIN_TRANSFORMERS or getattr(model, "rope_mixed", False):
        return False
    changed = {"forward", "forward_features", "forward_head", "pool"} & vars(model).keys()
    return not changed and not any(map(has_hooks, (model, model.blocks, model.norm)))


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody's hooks see, and may change, what goes into the module or comes out.

    >>> layer = nn.Identity()
    >>> handle = layer.register_forward_hook(print)
    >>> has_hooks(layer)
    True
    """
    return bool(module._forward_hooks or module._forward_pre_hooks)


def scores_from_block(
    model: nn.Module, images: Tensor, start_block: int
) -> Callable[[Tensor], Tensor]:
    """A function that gives the scores (G, C) of those of the images with the given indices (G,).

    What lies below `start_block` is computed once, for all images, where that is possible.

    >>> vit = VisionTransformer(8, 4, embed_dim=8, depth=2, num_heads=2).eval()
    >>> images, some = torch.rand(3, 3, 8, 8), torch.tensor([2, 0])
    >>> scores = scores_from_block(vit, images, start_block=1)
    >>> torch.allclose(scores(some), vit(images[some]), atol=1e-6)
    True
    """
    if not is_plain_transformer(model):
        return lambda members: model(images[members])
    tokens, args, kwargs = _inputs_of_block(model, images, start_block)

    def scores(members: Tensor) -> Tensor:
        x = tokens[members]
        for block in model.blocks[start_block:]:
            x = block(x, *args, **kwargs)
        return model.forward_head(model.norm(x))

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

    Works in any surrounding grad mode, inference mode or autocast state.

    >>> layer = nn.Dropout()
    >>> with undisturbed(layer):
    ...     layer.training, torch.is_grad_enabled()
    (False, False)
    >>> layer.training, torch.is_grad_enabled()
    (True, True)
    """
    wanted = {"training": False, "fused_attn": True, "grad_checkpointing": False}
    found = [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name, value in wanted.items()
        if getattr(module, name, value) != value
    ]
    with torch.inference_mode(False), torch.no_grad():
        try:
            for module, name, _ in found:
                setattr(module, name, wanted[name])
            yield
        finally:
            for module, name, value in found:
                setattr(module, name, value)
            # A weight that autocast has cast without a graph would get no gradient from the
            # caller's next forward pass.
            torch.clear_autocast_cache()


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
    batch: Batch, logits: Tensor, activations: list[Tensor], tokens: slice
) -> Iterator[tuple[Tensor, ...]]:
    """For k = 0 .. K-1: the gradient of every image's k-th class score at each activation.

    One backward pass each, over the whole batch, as its images do not see each other: the gradient
    of `sum_b y[b, classes[b, k]]`. Parameters and their `.grad` are not touched.

    Args:
        batch: whose classes to explain.
        logits: (G, C), what `batch.classify` gave.
        activations: (G, ..., N, D) each, in the order of the blocks up to the last one.
        tokens: those among N that a map is read from.

    Raises:
        ValueError: the logits are not (G, C) or not differentiable; or, after the last pass, a
            gradient at `tokens` that is zero or not finite.

    >>> x = torch.ones(1, 2, 3, requires_grad=True)
    >>> batch = Batch(nn.Identity(), lambda: x.sum(1)[:, :2] * 5, torch.tensor([[1]]), 2, (1, 2))
    >>> [(grad,)] = class_gradients(batch, batch.classify(), [x], slice(2))
    >>> grad.tolist()
    [[[0.0, 5.0, 0.0], [0.0, 5.0, 0.0]]]
    """
    if logits.shape != (len(batch.classes), batch.num_classes):
        raise ValueError(
            f"targets have {batch.num_classes} classes, but the model gave scores of shape "
            f"{tuple(logits.shape)} for {len(batch.classes)} images"
        )
    if not logits.requires_grad:
        raise ValueError("the model's scores have no gradient: its forward detaches them")
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
    _check_gradients(batch, torch.stack([torch.stack(of_class) for of_class in largest]))


def _check_gradients(batch: Batch, largest: Tensor) -> None:
    """Largest absolute gradients, (K, activations, G): a map of zeros must not pass for one."""
    if not largest.isfinite().all():
        raise ValueError("a gradient is not finite: compute in float32 or bfloat16")
    if (largest > 0).all():
        return
    k, activation, image = (largest == 0).nonzero()[0].tolist()
    block = len(batch.model.blocks) - largest.shape[1] + activation
    pool = getattr(batch.model, "global_pool", "") or "of its own"
    raise ValueError(
        f"the head gives the tokens that the map is read from no gradient in block {block} (class "
        f"{batch.classes[image, k]}), so the map would be zero. The head must read the class "
        f"token, and this model's pooling is {pool!r}: use global_pool='token', or a readout "
        "that contains the class token"
    )


def full_precision(device: torch.device) -> torch.autocast:
    """Outside of the caller's autocast: sums over tokens and blocks want float32.

    >>> with torch.autocast("cpu", dtype=torch.bfloat16), full_precision(torch.device('cpu')):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    return torch.autocast(device.type, enabled=False)
