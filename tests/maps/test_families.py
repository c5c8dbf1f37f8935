"""Models of torchvision, transformers and open_clip: every method against full matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from getam.maps.compute import METHODS, compute_maps
from tests.oracles import ORACLES, legrad_of_block
from tests.other_models import OTHERS, Family, build_other, materialised, slow_run

WITHOUT_CLASS_TOKEN = {"legrad", "grad_cam", "cam"}
CASES = [(name, size) for name, family in OTHERS.items() for size in family.sizes]


def case_id(value) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def draw(family: Family, size: tuple[int, int], classes: int) -> tuple[Tensor, Tensor]:
    """Five images with two classes, none, one, three, and one."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(5, 3, *size, generator=generator, dtype=torch.float64)
    targets = torch.zeros(5, classes)
    targets[[0, 0, 2, 3, 3, 3, 4], [1, 3, 3, 0, 2, 4, 0]] = 1
    return images, targets


class Slow:
    """Maps of one image and class by their definitions, from matrices that the model computes."""

    def __init__(self, name: str, model: nn.Module, image: Tensor) -> None:
        self.family, (self.model, self.kept) = OTHERS[name], materialised(model)
        self.grid = [side // 8 for side in image.shape[-2:]]
        self.outputs: list[Tensor] = []
        for block in self.family.blocks(self.model):
            block.register_forward_hook(lambda _, __, out: self.outputs.append(out))
        norm = getattr(self.family.blocks(self.model)[-1], self.family.norm1)
        norm.register_forward_hook(lambda _, __, out: setattr(self, "normed", out))
        self.scores = self.family.scores(slow_run(self.model, image[None]))

    def map(self, method: str, c: int, start: int) -> Tensor:
        return self._tokens(method, c, start).reshape(self.grid).detach()

    def _tokens(self, method: str, c: int, start: int) -> Tensor:
        prefix = self.family.prefix
        if method == "cam":
            return self.family.patch_scores(self.model, self.outputs[-1])[0, :, c].relu()
        if method == "grad_cam":
            [gradient] = self._gradients(self.scores[0, c], [self.normed])
            weights = gradient[0, prefix:].mean(0)
            return (self.normed[0, prefix:] * weights).sum(1).relu()
        if method == "legrad":
            return sum(self._legrad(c, block) for block in range(start, 4))[prefix:]
        gradient = torch.cat(self._gradients(self.scores[0, c], self.kept))[start:]
        return ORACLES[method](torch.cat(self.kept)[start:], gradient)[prefix:]

    def _legrad(self, c: int, block: int) -> Tensor:
        score = self.family.head(self.model, self.outputs[block])[0, c]
        return legrad_of_block(self._gradients(score, [self.kept[block]])[0][0])

    def _gradients(self, score: Tensor, parts: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(score, parts, retain_graph=True)


@pytest.mark.parametrize(("name", "size"), CASES, ids=case_id)
def test_every_method_equals_its_definition_on_every_family(name, size):
    family, model = OTHERS[name], build_other(name)
    classes = family.scores(slow_run(model, torch.zeros(1, 3, *size).double())).shape[1]
    images, targets = draw(family, size, classes)
    slow = {b: Slow(name, model, images[b]) for b in (0, 2, 3, 4)}
    methods = METHODS if family.reads_class_token else WITHOUT_CLASS_TOKEN
    for method in sorted(set(methods) - ({"cam"} if family.patch_scores is None else set())):
        at_last_block = method in ("attention", "grad_cam", "cam")
        for start in (None,) if at_last_block else (0, 2):
            expected = torch.zeros(*targets.shape, size[0] // 8, size[1] // 8, dtype=torch.float64)
            for b, c in targets.nonzero().tolist():
                expected[b, c] = slow[b].map(method, c, start or 0)
            maps = compute_maps(model, images, targets, method=method, start_block=start)
            error = ((maps - expected).abs().max() / expected.abs().max()).item()
            assert error <= 1e-9, (method, start, error)


@pytest.mark.parametrize("name", [name for name in OTHERS if not OTHERS[name].reads_class_token])
def test_a_model_without_class_token_names_the_methods_that_need_none(name):
    images, targets = draw(OTHERS[name], (32, 32), 5)
    for method in set(METHODS) - WITHOUT_CLASS_TOKEN:
        with pytest.raises(ValueError, match=r"no class token.*legrad, grad_cam, cam"):
            compute_maps(build_other(name), images, targets, method=method)


@pytest.mark.parametrize("name", [name for name in OTHERS if not OTHERS[name].patch_scores])
def test_cam_is_refused_where_the_head_is_not_linear_in_the_tokens(name):
    family, model = OTHERS[name], build_other(name)
    images, _ = draw(family, family.sizes[0], 5)
    targets = torch.ones(5, family.scores(slow_run(model, images[:1])).shape[1])
    with pytest.raises(ValueError, match="use grad_cam"):
        compute_maps(model, images, targets, method="cam")


def test_eager_attention_of_transformers_gives_the_maps_of_its_own_matrices():
    model = build_other("hf_vit")
    model.set_attn_implementation("eager")
    images, targets = draw(OTHERS["hf_vit"], (32, 32), 5)
    output = model(images[2:3], output_attentions=True)
    gradients = torch.autograd.grad(output.logits[0, 3], output.attentions)
    expected = ORACLES["getam"](torch.cat(output.attentions[2:]), torch.cat(gradients[2:]))[1:]
    found = compute_maps(model, images, targets)[2, 3].flatten()
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    assert error <= 5e-7  # its softmax is float32
    assert model.config._attn_implementation == "eager"
