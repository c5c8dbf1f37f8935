"""How doubtful the final mask and the labels of a photo are, judged without any ground truth.

The final mask is compared with the answers of two models: the trained network, and a readout that
has not seen the photo (:mod:`getam.labels.readout`). For each class that the photo is labelled with
they say how well the mask fits (:func:`soft_iou` with the probabilities of the network, IoU with
the answer of the readout). For each other class they say how clearly they see it
(:func:`presence`); it counts only if both see it. :func:`joined` adds the probability of an error
in the labels (:mod:`getam.labels.label_odds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from getam.labels.own_classes import among, as_present, highest

__all__ = [
    "Evidence",
    "doubt_of",
    "evidence",
    "iou",
    "joined",
    "label_reason",
    "presence",
    "soft_iou",
]

CLEAR = 0.25  # a doubt below this value is called small


class Evidence(NamedTuple):
    """What one model says about the classes 1..C of a photo, each (C,) float32 in [0, 1].

    Attributes:
        fit: how well the pixels that the mask gives to the class fit the answer of the model; 0
            where the mask has no such pixel.
        presence: how clearly the model sees the class.
    """

    fit: np.ndarray
    presence: np.ndarray


def evidence(
    scores: np.ndarray,
    mask: np.ndarray,
    labels: Sequence[int],
    *,
    soft: bool,
    present: bool = False,
) -> Evidence:
    """The evidence of a model.

    Args:
        scores: (C + 1, H, W), background first.
        mask: (H, W), 0 background, 1..C, 255 ignore.
        labels: the class ids 1..C of the photo. The mask is compared with what the model says if
            the photo has these classes only.
        soft: True for probabilities, which are compared as they are, those of other classes shared
            among the classes of the photo. False: only the label of the photo with the highest
            score of each pixel is compared.
        present: with ``soft``, whether each class of the photo is known to be in it
            (:func:`getam.labels.own_classes.as_present`).
    """
    possible = np.array([0, *labels], np.uint8)
    known = among(scores, possible) if soft else None
    if soft and present:
        (known[possible],) = as_present([known[possible]])
    answer = None if soft else possible[scores[possible].argmax(axis=0)]
    count = len(scores)
    fit, seen = np.zeros(count - 1, np.float32), np.zeros(count - 1, np.float32)
    for label in range(1, count):
        own = mask == label
        if own.any():
            exact = soft_iou(known[label], own) if soft else iou(answer == label, own)
            fit[label - 1] = exact
        seen[label - 1] = presence(scores[label])
    return Evidence(fit, seen)


def soft_iou(probability: np.ndarray, mask: np.ndarray) -> float:
    """The IoU of a mask (H, W) bool that its probability (H, W) makes us expect.

    ``sum of p in the mask / (pixels of the mask + sum of p outside)``.

    >>> soft_iou(np.array([[1.0, 0.5, 0.5]]), np.array([[True, True, False]]))
    0.6
    """
    inside = float(probability[mask].sum())
    return inside / (float(mask.sum()) + float(probability.sum()) - inside)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks (H, W) bool, at least one of them not empty."""
    return float((one & other).sum() / (one | other).sum())


def presence(scores: np.ndarray) -> float:
    """How clearly a class is seen: the mean of the highest hundredth of its scores (H, W), cut to
    [0, 1].

    >>> presence(np.array([[0.2, 0.9], [0.0, 0.1]]))
    0.9
    """
    return min(1.0, max(0.0, highest(scores)))


def doubt_of(
    labels: Sequence[int],
    network: Evidence,
    readout: Evidence,
    names: Sequence[str],
) -> tuple[float, str]:
    """The doubt of a photo from its pixels, in [0, 1], and its strongest reason, as a sentence.

    The doubt of the mask is the mean over the classes of the photo of ``1 - (fit to the network +
    fit to the readout) / 2``; 0 for a photo without a class. The doubt of a class that is not among
    the labels is ``presence for the network x presence for the readout``. The doubt from pixels is
    the largest of these values.

    Args:
        labels: the class ids 1..C of the photo.
        names: the class names, id 1 first.
    """
    own = np.array(labels, int) - 1
    misfit = 1 - (network.fit[own] + readout.fit[own]) / 2
    of_mask = float(misfit.mean()) if len(own) else 0.0
    foreign = network.presence * readout.presence
    foreign[own] = 0
    of_labels = float(foreign.max(initial=0))
    doubt = max(of_mask, of_labels)
    if of_labels > of_mask:
        reason = _foreign(names[int(foreign.argmax())], doubt)
    elif len(own):
        worst = own[int(misfit.argmax())]
        reason = _misfit(names[worst], network, readout, int(worst), doubt)
    else:
        reason = "The photo has no class, and no class is seen."
    return doubt, reason


def joined(doubt: float, of_labels: float) -> float:
    """The doubt that the mask or the labels are wrong, as of two independent probabilities.

    The probability of an error in the labels counts as its cube. Where many photos have a
    middling one, most of them have no error, and the doubt about their masks decides.

    >>> joined(0.5, 0.5)
    0.5625
    """
    return 1 - (1 - doubt) * (1 - of_labels**3)


def label_reason(name: str, *, present: bool) -> str:
    """The sentence about the label that is most likely wrong."""
    if present:
        return f"The photo does not look like other photos with {name}, which is among the labels."
    return f"The photo looks like photos with {name}, which is not among the labels."


def _foreign(name: str, doubt: float) -> str:
    clearly = "" if doubt >= CLEAR else " faintly"
    return f"The network{clearly} sees {name}, which is not among the labels."


def _misfit(name: str, network: Evidence, readout: Evidence, column: int, doubt: float) -> str:
    """The sentence about the class of the photo whose pixels fit worst."""
    if not network.fit[column] and not readout.fit[column]:
        return f"{name} has no pixel in the mask, or hardly one."
    if doubt < CLEAR:
        return f"The mask fits well; most doubtful is the outline of {name}."
    if network.presence[column] < 0.5:
        return f"The network hardly sees {name}, which is among the labels."
    if network.fit[column] < readout.fit[column]:
        return f"The network is not sure which pixels are {name}."
    return f"A readout that learnt from other photos draws {name} differently."
