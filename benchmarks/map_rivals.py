"""Code of others that makes class maps, and the models that it takes: the rivals of maps.py."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from typing import NamedTuple

import timm
import torch
from torch import Tensor, nn

CLASSES = 20


class Released:
    """One backward pass of the whole batch per image and class, with full attention matrices."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model)
        self.matrices: list[Tensor] = []
        for block in self.model.blocks:
            block.attn.fused_attn = False
            block.attn.attn_drop.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        output.retain_grad()
        self.matrices.append(output)

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        self.matrices.clear()
        logits = self.model(images)
        maps = logits.new_zeros(*targets.shape, self.matrices[0].shape[-1] - 1)
        for b, c in targets.nonzero().tolist():
            self.model.zero_grad()
            for matrix in self.matrices:
                matrix.grad = None
            logits[b, c].backward(retain_graph=True)
            for matrix in self.matrices[len(self.matrices) // 2 :]:
                gradient, attention = matrix.grad[b], matrix[b].detach()
                relevance = (gradient * attention).relu().mean(0) * gradient.relu().mean(0)
                maps[b, c] += relevance[0, 1:]
        return maps.detach()


class PackageGradCam:
    """GradCAM of the package grad-cam: call k explains the k-th class of every image.

    For an image with fewer classes it explains the first class again; `fewest` leaves it out.
    """

    def __init__(self, model: nn.Module, fewest: bool = False) -> None:
        from pytorch_grad_cam import GradCAM

        self.model = copy.deepcopy(model)
        layer = self.model.blocks[-1].norm1
        self.cam = GradCAM(self.model, [layer], reshape_transform=self._grid_first)
        self.fewest = fewest

    def _grid_first(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, self.model.num_prefix_tokens :].float()
        return patches.unflatten(1, self.model.patch_embed.grid_size).permute(0, 3, 1, 2)

    def __call__(self, images: Tensor, targets: Tensor) -> list:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        classes = [row.nonzero().flatten().tolist() for row in targets]
        found = []
        for k in range(max(map(len, classes))):
            wanted = {b: present[k : k + 1] for b, present in enumerate(classes)}
            if self.fewest:
                wanted = {b: kth for b, kth in wanted.items() if kth}
            chosen = [ClassifierOutputTarget((kth or classes[b])[0]) for b, kth in wanted.items()]
            found.append(self.cam(images[list(wanted)], chosen))
        return found


class TorchcamGradCam:
    """GradCAM of torchcam: call k explains the k-th class of every image, or its first again."""

    def __init__(self, model: nn.Module) -> None:
        from torchcam.methods import GradCAM

        self.model = copy.deepcopy(model)
        grid, prefix = self.model.patch_embed.grid_size, self.model.num_prefix_tokens
        self.cam = GradCAM(
            self.model,
            self.model.blocks[-1].norm1,
            reshape_transform=lambda x: x[:, prefix:].unflatten(1, grid).permute(0, 3, 1, 2),
        )

    def __call__(self, images: Tensor, targets: Tensor) -> list:
        classes = [row.nonzero().flatten().tolist() for row in targets]
        found = []
        for k in range(max(map(len, classes))):
            chosen = [present[k] if k < len(present) else present[0] for present in classes]
            found += self.cam(chosen, self.model(images))
        return found


class Chefer:
    """Gradient rollout: for each class of each image a forward pass, a backward pass, a product."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.matrices = copy.deepcopy(model), []
        for block in self.model.blocks:
            block.attn.fused_attn = False
            block.attn.attn_drop.register_forward_hook(lambda _, __, x: self.matrices.append(x))

    def __call__(self, images: Tensor, targets: Tensor) -> list:
        return [self._explain(images[b : b + 1], c) for b, c in targets.nonzero().tolist()]

    def _explain(self, image: Tensor, c: int) -> Tensor:
        self.matrices.clear()
        gradients = torch.autograd.grad(self.model(image)[0, c], self.matrices)
        relevance = torch.eye(self.matrices[0].shape[-1], device=image.device)
        for matrix, gradient in zip(self.matrices, gradients):
            relevance = relevance + (gradient * matrix).relu().mean(1)[0].detach() @ relevance
        return relevance[0, self.model.num_prefix_tokens :]


class TorchcamLeGrad:
    """LeGrad of torchcam over all blocks, reading the class token."""

    def __init__(self, model: nn.Module) -> None:
        from torchcam.methods import LeGrad

        self.model = copy.deepcopy(model)
        encoder = self.model.encoder
        self.cam = LeGrad(
            self.model,
            [*encoder.layers],
            score_projection=lambda x: self.model.heads(encoder.ln(x)[:, 0]),
        )

    def __call__(self, images: Tensor, targets: Tensor) -> list:
        found = []
        for b, c in targets.nonzero().tolist():
            self.model(images[b : b + 1])
            found.append(self.cam(c, normalized=False))
        return found


class PackageLeGrad:
    """LeGrad of legrad-torch over all blocks: one image with all its classes at a time."""

    def __init__(self, model: nn.Module) -> None:
        from legrad import LeWrapper

        # It copies the attributes of a whole CLIP; only the vision tower is used.
        clip = nn.Module()
        clip.visual = copy.deepcopy(model)
        clip.encode_image = clip.visual.__call__
        with redirect_stdout(StringIO()):
            self.wrapped = LeWrapper(clip, layer_index=0)

    def __call__(self, images: Tensor, targets: Tensor) -> list:
        texts = torch.eye(CLASSES, device=images.device)
        return [
            self.wrapped.compute_legrad_clip(texts[row.bool()], images[b : b + 1])
            for b, row in enumerate(targets)
        ]


def of_torchvision(name: str, size: int) -> nn.Module:
    """torchvision's ViT of the size of a ViT-S/16."""
    from torchvision.models import VisionTransformer

    model = VisionTransformer(size, 16, 12, 6, 384, 1536, num_classes=CLASSES)
    nn.init.normal_(model.heads.head.weight)  # torchvision leaves it at zero
    return model


def of_open_clip(name: str, size: int) -> nn.Module:
    """open_clip's vision tower of that size; as legrad-torch reads it, it pools all tokens."""
    from open_clip.transformer import VisionTransformer

    model = VisionTransformer(
        size, 16, 384, 12, 6, 4.0, output_dim=CLASSES, final_ln_after_pool=True
    )
    model._global_pool = lambda x: (x.mean(dim=1), x)
    return model


def of_timm(name: str, size: int) -> nn.Module:
    """The model that --model names."""
    return timm.create_model(name, num_classes=CLASSES, img_size=size)


class Rival(NamedTuple):
    """Code of others, and what of ours gives the same maps on the same model."""

    make: Callable[[nn.Module], Callable]
    method: str
    model: Callable[[str, int], nn.Module] = of_timm

    @property
    def ours(self) -> str:
        where = self.model.__name__.removeprefix("of_")
        return self.method if where == "timm" else f"{self.method} ({where})"


RIVALS = {
    "released": Rival(Released, "getam"),
    "grad_cam": Rival(PackageGradCam, "grad_cam"),
    "grad_cam_fewest": Rival(partial(PackageGradCam, fewest=True), "grad_cam"),
    "torchcam": Rival(TorchcamGradCam, "grad_cam"),
    "chefer": Rival(Chefer, "gradient_rollout"),
    "torchcam_legrad": Rival(TorchcamLeGrad, "legrad", of_torchvision),
    "legrad_torch": Rival(PackageLeGrad, "legrad", of_open_clip),
}
USUAL = ("released", "grad_cam", "grad_cam_fewest")
