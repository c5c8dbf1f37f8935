"""Learns which object patches tell the classes of a photo, from image-level labels alone.

A photo with a class has at least some patches that show it; in a photo without it no patch does.
Learning a score of patches from such statements about whole photos is called multiple-instance
learning. No class map takes part, so its mistakes are not those of the maps: a face is in photos
with a hat and in photos without one, so it cannot tell them apart.

A patch shows one class or none. So the classes compete for it: where trousers explain a patch, it
says nothing for another garment that is often seen together with trousers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from getam.labels.patch_foreground import PatchScore

__all__ = ["InstanceScore", "fit_instances"]

SHARE = 1 / 32  # of the object patches of a photo: the best ones, which decide
LEAST = 4  # of these patches
MOST = 300  # object patches of a photo that are learnt from, at equal distances
FALL = 40  # steps until the best patches are this share; in the first step they are all
STEPS, RATE, START = 150, 0.02, -2.0  # of Adam, from the score START at all patches
PENALTY = 0.1  # of the squared length of the weights, which are of features with variance 1
RAREST = 0.02  # a class, or its absence, weighs at most as if this share of the photos had it
TINY = 1e-6  # the least probability that a class leaves to all others


@dataclass(frozen=True)
class InstanceScore:
    """Probabilities that an object patch shows a class of its photo.

    The softmax of ``logits`` among the classes of the photo and "none of them", whose logit is 0.
    ``learnt`` (C,) bool: False for a class that all photos have, or none. Nothing can be learnt
    about it.
    """

    logits: PatchScore
    learnt: Tensor

    def __call__(self, features: Tensor, classes: Tensor, otherwise: Tensor) -> Tensor:
        """(..., D) to (..., K), 0 to 1, for the K ``classes`` (K,) int64 of the photo.

        ``otherwise`` (..., K): taken for the classes about which nothing was learnt.
        """
        learnt = self.learnt.to(features.device)[classes]
        logits = self.logits(features)[..., classes].masked_fill(~learnt, -torch.inf)
        found = F.pad(logits, (1, 0)).softmax(dim=-1)[..., 1:]
        return torch.where(learnt, found, otherwise)


def fit_instances(features: Tensor, photos: Tensor, labels: Tensor) -> InstanceScore:
    """Fit a linear score of patches for each class by multiple-instance learning.

    Each patch has the log-odds of each class against all other classes and none. The score of a
    photo is the mean of the log-odds of its best patches: one thirty-second of its object patches,
    but at least four, and in a photo with the class all patches that show it rather than not. The
    loss is the sum of

    * the binary cross-entropy of this score and the label of the photo,
    * in the photos without the class, the mean over all patches of the same cross-entropy,
    * a penalty of the weights.

    In the first two the photos with a class weigh as much as those without it. It is minimised by
    150 steps of Adam, each over all photos. In the first step all patches of a photo count, then
    fewer with each step, one thirty-second from step 40 on, when the patches that show the class
    come in. So nothing is drawn at random.

    Args:
        features: (N, D), of object patches.
        photos: (N,) int64, the photo of each patch, 0 to P - 1. A photo without patches is not
            learnt from.
        labels: (P, C) bool, the image-level labels of the photos.

    Raises:
        ValueError: there is no patch, or a shape is wrong.

    >>> face, hat, scarf = torch.eye(3).repeat_interleave(20, dim=0).split(20)
    >>> features = torch.cat([face, hat, face, scarf])  # a photo of a hat, and one of a scarf
    >>> photos = torch.tensor([0, 1]).repeat_interleave(40)
    >>> found = fit_instances(features, photos, torch.eye(2).bool())
    >>> of_hat = found(torch.eye(3), torch.tensor([0]), torch.zeros(3, 1))
    >>> bool(of_hat[1] > 0.7), bool(of_hat[0] < 0.5), bool(of_hat[2] < 0.2)
    (True, True, True)
    """
    if features.ndim != 2 or photos.shape != features.shape[:1] or not len(features):
        raise ValueError(
            f"Got features {tuple(features.shape)} and photos {tuple(photos.shape)}, expected "
            f"(N, D) and (N,) with at least one patch."
        )
    present, photos = photos.unique(return_inverse=True)
    labels = labels.to(features.device)[present]
    learnt = labels.any(dim=0) & ~labels.all(dim=0)
    mean, spread = features.mean(dim=0), features.std(dim=0, correction=0).clamp(min=1e-6)
    patches, given = _by_photo((features - mean) / spread, photos)
    weight, bias = _minimised(patches, given, labels[:, learnt])
    whole = features.new_zeros(features.shape[1], labels.shape[1])
    start = features.new_zeros(labels.shape[1])
    whole[:, learnt], start[learnt] = weight / spread[:, None], bias - (mean / spread) @ weight
    return InstanceScore(PatchScore(whole, start), learnt)


def _by_photo(features: Tensor, photos: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, D) as (P, M, D), with M at most ``MOST``, and which of them are given (P, M)."""
    order = photos.argsort(stable=True)
    features, photos = features[order], photos[order]
    counts = photos.bincount()
    place = torch.arange(len(photos), device=photos.device)
    place = place - (counts.cumsum(0) - counts)[photos]
    kept = counts.clamp(max=MOST)[photos]
    slot = place * kept // counts[photos]
    patches = features.new_zeros(len(counts), int(kept.max()), features.shape[1])
    given = torch.zeros(patches.shape[:2], dtype=torch.bool, device=features.device)
    first = torch.cat([slot[:1] >= 0, (slot[1:] != slot[:-1]) | (photos[1:] != photos[:-1])])
    patches[photos[first], slot[first]] = features[first]
    given[photos[first], slot[first]] = True
    return patches, given


@torch.enable_grad()
def _minimised(patches: Tensor, given: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (D, C) and bias (C,) of the scores of patches (P, M, D), from labels (P, C) bool."""
    weight = patches.new_zeros(patches.shape[2], labels.shape[1], requires_grad=True)
    bias = patches.new_full(labels.shape[1:], START, requires_grad=True)
    counts, wanted = given.sum(dim=1), labels.to(patches)
    rate = wanted.mean(dim=0)
    balance = wanted / rate.clamp(min=RAREST) + (1 - wanted) / (1 - rate).clamp(min=RAREST)
    steps = torch.optim.Adam([weight, bias], lr=RATE)
    for step in range(STEPS if labels.numel() else 0):
        best = (counts * SHARE ** min(1, step / FALL)).ceil()
        best = best.clamp(min=LEAST).minimum(counts).long()
        odds = _log_odds(patches.flatten(0, 1) @ weight + bias).view(*given.shape, -1)
        odds = odds.masked_fill(~given[..., None], -torch.inf)
        chosen = odds >= _nth_greatest(odds.detach(), best)[:, None]
        if step >= FALL:
            chosen = chosen | ((odds > 0) & labels[:, None])
        of_photo = odds.masked_fill(~chosen, 0).sum(dim=1) / chosen.sum(dim=1)
        loss = F.binary_cross_entropy_with_logits(of_photo, wanted, balance / 2)
        elsewhere = F.softplus(odds).sum(dim=1) / counts[:, None]
        loss = loss + (elsewhere * (1 - wanted) * balance / 2).mean()
        loss = loss + PENALTY * weight.square().sum(dim=0).mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
    return weight.detach(), bias.detach()


def _log_odds(scores: Tensor) -> Tensor:
    """Log-odds of each class against none, whose score is 0, and all other classes: (N, C)."""
    scores = F.pad(scores, (1, 0))
    scores = scores - scores.detach().amax(dim=1, keepdim=True)
    each = scores.exp()
    others = each.sum(dim=1, keepdim=True) - each[:, 1:]
    return scores[:, 1:] - others.clamp(min=TINY).log()


def _nth_greatest(values: Tensor, counts: Tensor) -> Tensor:
    """The greatest value but ``counts`` - 1 (P,) in each row of (P, M, C): (P, C)."""
    ordered = values.topk(int(counts.max()), dim=1).values
    at = (counts - 1)[:, None, None].expand(-1, 1, values.shape[2])
    return ordered.gather(1, at).squeeze(1)
