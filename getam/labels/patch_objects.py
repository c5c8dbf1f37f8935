"""Learns what is object in the photos of each class, by the patch features of a ViT.

One object score for all classes fits best what most photos show: where most photos show animals
alone, persons have lower scores. And it must tell objects from all that is background in any photo.
An object score of one class only has to do so in photos with this class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from getam.labels.patch_foreground import PatchScore, fit_objects

__all__ = ["ClassObjects", "fit_class_objects"]

FEWEST = 10  # patches that show a class, and that do not, that its score is fitted to


@dataclass(frozen=True)
class ClassObjects:
    """Object scores of C classes. ``learnt`` (C,) bool: False for a class with too few patches."""

    scores: PatchScore
    learnt: Tensor

    def __call__(self, features: Tensor, classes: Tensor, otherwise: Tensor) -> Tensor:
        """(..., D) to (..., K), 0 to 1, for the K ``classes`` (K,) int64 of the photo.

        ``otherwise`` (..., K) or (..., 1): taken for the classes that were not learnt.
        """
        learnt = self.learnt.to(features.device)[classes]
        return torch.where(learnt, self.scores(features)[..., classes].clamp(0, 1), otherwise)


def fit_class_objects(features: Tensor, shows: Tensor, labels: Tensor) -> ClassObjects:
    """Fit an object score for each class, in the photos with this class.

    For each class a ridge regression (:func:`fit_objects`) that is 1 on the patches that show the
    class, and 0 on the background of the photos with this class. Patches that show another class
    are left out: they are objects, though not of this class.

    Args:
        features: (P * M, D), of all M patches of P photos.
        shows: (P * M,) int64, the class 0..C-1 that a patch shows; -1 for background.
        labels: (P, C) bool, the image-level labels of the photos.

    Returns:
        A class with fewer than ten patches on one of the sides is not learnt.

    Raises:
        ValueError: a shape is wrong.

    >>> cat, leg, grass = torch.eye(3).repeat_interleave(20, dim=0).split(20)
    >>> shows = torch.tensor([0, 0, -1]).repeat_interleave(20)
    >>> found = fit_class_objects(torch.cat([cat, leg, grass]), shows, torch.tensor([[True]]))
    >>> scores = found(torch.eye(3), torch.tensor([0]), torch.zeros(3, 1))[:, 0]
    >>> bool(scores[1] > 0.9), bool(scores[2] < 0.1)
    (True, True)
    """
    if shows.shape != features.shape[:1] or labels.ndim != 2 or len(features) % len(labels):
        raise ValueError(
            f"Got features {tuple(features.shape)}, shows {tuple(shows.shape)} and labels "
            f"{tuple(labels.shape)}, expected (P * M, D), (P * M,) and (P, C)."
        )
    count = labels.shape[1]
    weight, bias = features.new_zeros(features.shape[1], count), features.new_zeros(count)
    learnt = torch.zeros_like(labels[0])
    photos = labels.repeat_interleave(len(features) // len(labels), dim=0)
    for c in range(count):
        used = photos[:, c] & ((shows == c) | (shows < 0))
        own = shows[used] == c
        if min(int(own.sum()), int((~own).sum())) >= FEWEST:
            score = fit_objects(features[used], own)
            weight[:, c], bias[c], learnt[c] = score.weight, score.bias, True
    return ClassObjects(PatchScore(weight, bias), learnt)
