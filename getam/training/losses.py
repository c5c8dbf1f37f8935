"""Losses of the classifier and of the segmentation networks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from getam.data.label_values import IGNORE
from getam.training import distributed


def multi_label_soft_margin(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy over images and classes; logits, targets (B, C) -> scalar float32.

    >>> import torch
    >>> round(multi_label_soft_margin(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).item(), 4)
    0.6931
    """
    return F.multilabel_soft_margin_loss(logits.float(), targets)


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the labelled pixels: a scalar.

    logits (B, K, H, W), labels (B, H, W) with 255 ignored. With ``weights`` (B,), above 0, the mean
    is weighted: each pixel has the weight of its image. Without a labelled pixel the loss and its
    gradient are 0, not NaN. With several processes, the mean of their losses is the mean over all
    their pixels.

    >>> import torch
    >>> right = torch.tensor([0.0, 50.0]).view(1, 2, 1, 1).expand(2, 2, 1, 1)
    >>> labels = torch.tensor([[[1]], [[0]]])  # the second image is wrong
    >>> [cross_entropy(right, labels, w).item() for w in (None, torch.tensor([3.0, 1.0]))]
    [25.0, 12.5]
    """
    if weights is None:
        total = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="sum")
        labelled = (labels != IGNORE).sum().float()
    else:
        pixels = _pixel_weights(labels, weights)
        each = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="none")
        total, labelled = (each * pixels).sum(), pixels.sum()
    return total / _not_zero(distributed.mean(labelled))


def class_balanced_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy in which every label counts the same, however few pixels it has.

    It is the mean over the pixels of each label, then the mean over the labels that occur.
    Arguments, empty labels and several processes: as for :func:`cross_entropy`.

    >>> import torch
    >>> sure = torch.tensor([[9.0, 0.0]]).view(1, 2, 1, 1).expand(1, 2, 1, 4)  # of label 0
    >>> labels = torch.tensor([[[0, 0, 0, 1]]])
    >>> [round(f(sure, labels).item(), 2) for f in (cross_entropy, class_balanced_cross_entropy)]
    [2.25, 4.5]
    """
    known, of_pixel = logits.shape[1], labels.long()
    pixels = None if weights is None else _pixel_weights(labels, weights)
    counts = torch.bincount(
        of_pixel.flatten(), None if pixels is None else pixels.flatten(), minlength=256
    )
    counts = distributed.mean(counts[:known].float())
    weight = torch.where(counts > 0, 1 / counts, 0).to(logits.dtype)
    options = {"weight": weight, "ignore_index": IGNORE}
    if pixels is None:
        total = F.cross_entropy(logits, of_pixel, **options, reduction="sum")
    else:
        total = (F.cross_entropy(logits, of_pixel, **options, reduction="none") * pixels).sum()
    return total / (counts > 0).sum().clamp(min=1)


def _pixel_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """The weight of each pixel (B, H, W): that of its image (B,), 0 where it has no label."""
    return (labels != IGNORE) * weights[:, None, None]


def _not_zero(number: Tensor) -> Tensor:
    return torch.where(number > 0, number, 1)


def background_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over the background pixels; arguments as for :func:`cross_entropy`."""
    return cross_entropy(logits, labels.masked_fill(labels != 0, IGNORE), weights)


def foreground_cross_entropy(
    logits: Tensor, labels: Tensor, by_class: bool = False, weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over the pixels of any class; arguments as for :func:`cross_entropy`.

    ``by_class``: take the mean of each class first, so that every class counts the same.
    """
    mean = class_balanced_cross_entropy if by_class else cross_entropy
    return mean(logits, labels.masked_fill(labels == 0, IGNORE), weights)


def balanced_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over background pixels plus mean cross-entropy over foreground pixels.

    logits (B, K, H, W), labels (B, H, W): 0 background, 255 ignored (arXiv 2112.02841). ``weights``
    as for :func:`cross_entropy`.
    """
    return background_cross_entropy(logits, labels, weights) + foreground_cross_entropy(
        logits, labels, weights=weights
    )


def saliency_loss(logits: Tensor, saliency: Tensor) -> Tensor:
    """Mean binary cross-entropy between the background probability and *not* being salient.

    logits (B, K, H, W), 0 the background; saliency (B, H, W) bool -> scalar (arXiv 2112.02841).

    >>> import torch
    >>> background = torch.tensor([8.0, 0.0]).view(1, 2, 1, 1)
    >>> salient = torch.tensor([[[True]]])
    >>> [round(saliency_loss(background, s).item(), 2) for s in (salient, ~salient)]
    [8.0, 0.0]
    """
    # softmax(logits)[0] = sigmoid(logits[0] - logsumexp(logits[1:])), without a logarithm of zero.
    margin = logits[:, 0] - logits[:, 1:].logsumexp(dim=1)
    return F.binary_cross_entropy_with_logits(margin, (~saliency).to(margin.dtype))


SEGMENTATION = {
    "cross_entropy": cross_entropy,
    "balanced": balanced_cross_entropy,
    "class_balanced": class_balanced_cross_entropy,
}
