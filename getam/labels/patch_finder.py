"""Finds the objects of a photo and their classes by the patch features of a ViT.

Puts together what :mod:`getam.labels.patch_foreground`, :mod:`getam.labels.patch_classes`,
:mod:`getam.labels.patch_instances` and :mod:`getam.labels.patch_objects` learn from many photos.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from getam.labels.patch_classes import class_shares, fit_classes, separate_classes
from getam.labels.patch_foreground import PatchScore, fit_foreground, fit_objects
from getam.labels.patch_instances import InstanceScore, fit_instances
from getam.labels.patch_objects import ClassObjects, fit_class_objects

__all__ = ["Finder", "fit_finder"]

MAYBE = 0.1  # object score above which a patch may show a class
SHOWS = 0.15  # object score times probability of a class above which a patch is object after all
OBJECT = 0.3  # object score above which a patch teaches the object score of its class


@dataclass(frozen=True)
class Finder:
    """Computes the scores of a photo from its patch features (h, w, D) and its class ids.

    ``separate``: the classes were separated from other objects. So the object score is scaled down
    where no class of the photo has a score above one half, the value at which a class begins.
    ``instances``: a second score of the classes. A patch has a class as far as both scores say so:
    the geometric mean of the two takes the place of the first.
    ``objects``: an object score of each class, which takes the place of the first one.
    """

    foreground: PatchScore
    classes: PatchScore | None
    separate: bool = False
    instances: InstanceScore | None = None
    objects: ClassObjects | None = None

    def __call__(self, features: Tensor, class_ids: np.ndarray) -> Iterator[tuple[str, Tensor]]:
        """Yield ("classes", (K * h, w)), if asked for and K > 0, and ("foreground", (h, w)).

        A photo without a class has no foreground.
        """
        if self.classes is None or not len(class_ids):
            found = self.foreground(features).clamp(0, 1)
            yield "foreground", found * bool(len(class_ids))
            return
        chosen = torch.from_numpy(class_ids.astype(np.int64) - 1).to(features.device)
        found = self.of_classes(features, chosen)
        yield "classes", found.permute(2, 0, 1).flatten(0, 1)
        yield "foreground", found.sum(dim=-1)

    def of_classes(self, features: Tensor, chosen: Tensor) -> Tensor:
        """The object score times the share of each class of the photo.

        ``features`` (..., D), ``chosen`` (K,) the classes of the photo, from 0. Returns (..., K);
        their sum is the object score.
        """
        scores = self._scores(features, chosen)
        found = self.foreground(features).clamp(0, 1)
        if self.separate or self.instances is not None:
            found = found * (2 * scores.amax(dim=-1)).clamp(0, 1)
        own = found[..., None]
        if self.objects is not None:
            own = self.objects(features, chosen, own)
        return own * class_shares(scores)

    def _scores(self, features: Tensor, chosen: Tensor) -> Tensor:
        """Scores (h, w, K) of the classes ``chosen`` (K,)."""
        scores = self.classes(features)[..., chosen]
        if self.instances is None:
            return scores
        scores = scores.clamp(0, 1)
        return (scores * self.instances(features, chosen, scores)).sqrt()

    def shows(self, features: Tensor, chosen: Tensor) -> Tensor:
        """Object score times the highest probability of a class in ``chosen`` (K,): (..., D) to
        (...), 0 to 1; 0 without a class.

        A class about which nothing was learnt from the labels has its score as the probability on
        objects, and 0 elsewhere. So it makes no object larger.
        """
        found = self.foreground(features).clamp(0, 1)
        if not len(chosen):
            return torch.zeros_like(found)
        scores = self.classes(features)[..., chosen].clamp(0, 1) * (found > 0.5)[..., None]
        return found * self.instances(features, chosen, scores).amax(dim=-1)


def fit_finder(
    patches: Tensor,
    peaks: Tensor,
    classes: Tensor,
    labels: Tensor,
    *,
    rounds: int = 3,
    threshold: float = 0.5,
    named_by_maps: bool = False,
    class_rounds: int = 0,
    multiple_instance: bool = False,
    class_objects: bool = False,
) -> Finder:
    """Learn to find objects and their classes from the patches of P photos.

    Args:
        patches: (P * M, D), the features of M patches of each photo.
        peaks: (P * M,) bool, where a class map is near its maximum; at least one is.
        classes: (P * M,) int64, the class 0..C-1 whose map is strongest; -1 without a class.
        labels: (P, C) bool, the image-level labels.
        rounds, threshold: of the object score (:func:`fit_foreground`).
        named_by_maps: the classes are not learnt; the maps of each photo name them.
        class_rounds: of :func:`separate_classes`.
        multiple_instance: learn a second score of the classes (:func:`fit_instances`), and fit the
            object score again to what the classes explain.
        class_objects: last, fit an object score for each class (:func:`fit_class_objects`).

    Raises:
        ValueError: no patch is object in the end.
    """
    foreground = fit_foreground(patches, peaks, rounds, threshold)
    if named_by_maps:
        return Finder(foreground, None)
    each = len(patches) // len(labels)
    objects = foreground(patches) > 0.5
    named = objects & (classes >= 0)
    scores = fit_classes(patches[named], classes[named], labels.shape[1])
    possible = labels.repeat_interleave(each, dim=0)
    scores = separate_classes(patches[objects], possible[objects], scores, class_rounds)
    found = Finder(foreground, scores, class_rounds > 0)
    if multiple_instance:
        photos = torch.arange(len(labels), device=patches.device).repeat_interleave(each)
        maybe = foreground(patches) > MAYBE
        instances = fit_instances(patches[maybe], photos[maybe], labels)
        found = replace(found, instances=instances)
        found = replace(found, foreground=_of_classes(found, patches, labels))
    if class_objects:
        found = replace(found, objects=_class_objects(found, patches, labels))
    return found


def _of_classes(found: Finder, patches: Tensor, labels: Tensor) -> PatchScore:
    """Fit the object score again: object is now what shows a class of its photo.

    ``patches`` (P * M, D) are those of P photos, ``labels`` (P, C) bool their classes. What no
    class explains becomes background, and parts of a class that the score had missed become object.
    """
    each = patches.split(len(patches) // len(labels))
    shows = [found.shows(own, named.nonzero()[:, 0]) > SHOWS for own, named in zip(each, labels)]
    again = fit_objects(patches, torch.cat(shows))
    return again if (again(patches) > 0.5).any() else found.foreground


def _class_objects(found: Finder, patches: Tensor, labels: Tensor) -> ClassObjects:
    """Object scores of the classes, from what ``found`` calls object in the photos of each."""
    shows = []
    for own, named in zip(patches.split(len(patches) // len(labels)), labels):
        chosen = named.nonzero()[:, 0]
        if not len(chosen):
            shows.append(torch.full_like(own[:, 0], -1, dtype=torch.int64))
            continue
        scores = found.of_classes(own, chosen)
        best = chosen[scores.argmax(dim=-1)]
        shows.append(torch.where(scores.sum(dim=-1) > OBJECT, best, -1))
    return fit_class_objects(patches, torch.cat(shows), labels)
