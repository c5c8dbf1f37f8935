"""Losses of the classifier and of the segmentation networks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from getam.data.label_values import IGNORE
from getam.training import distributed


def multi_label_soft_margin(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy over images and classes; logits, targets (B, C) -> scalar.

    >>> import torch
    >>> round(multi_label_soft_margin(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).item(), 4)
    0.6931
    """
    return F.multilabel_soft_margin_loss(logits, targets)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels: a scalar.

    logits (B, K, H, W), labels (B, H, W) with 255 ignored. Without a labelled pixel the loss and
    its gradient are 0, not NaN. With several processes, the mean of their losses is the mean over
    all their pixels.
    """
    total = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="sum")
    labelled = distributed.mean((labels != IGNORE).sum().float())
    return total / labelled.clamp(min=1)


def class_balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in which every label counts the same, however few pixels it has.

    It is the mean over the pixels of each label, then the mean over the labels that occur.
    Arguments, empty labels and several processes: as for :func:`cross_entropy`.

    >>> import torch
    >>> sure = torch.tensor([[9.0, 0.0]]).view(1, 2, 1, 1).expand(1, 2, 1, 4)  # of label 0
    >>> labels = torch.tensor([[[0, 0, 0, 1]]])
    >>> [round(f(sure, labels).item(), 2) for f in (cross_entropy, class_balanced_cross_entropy)]
    [2.25, 4.5]
    """
    known = logits.shape[1]
    pixels = distributed.mean(
        torch.bincount(labels.flatten().long(), minlength=256)[:known].float()
    )
    weight = torch.where(pixels > 0, 1 / pixels, 0)
    total = F.cross_entropy(
        logits, labels.long(), weight.to(logits.dtype), ignore_index=IGNORE, reduction="sum"
    )
    return total / (pixels > 0).sum().clamp(min=1)


def background_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the background pixels; arguments as for :func:`cross_entropy`."""
    return cross_entropy(logits, labels.masked_fill(labels != 0, IGNORE))


def foreground_cross_entropy(logits: Tensor, labels: Tensor, by_class: bool = False) -> Tensor:
    """Mean cross-entropy over the pixels of any class; arguments as for :func:`cross_entropy`.

    ``by_class``: take the mean of each class first, so that every class counts the same.
    """
    mean = class_balanced_cross_entropy if by_class else cross_entropy
    return mean(logits, labels.masked_fill(labels == 0, IGNORE))


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over background pixels plus mean cross-entropy over foreground pixels.

    logits (B, K, H, W), labels (B, H, W): 0 background, 255 ignored (arXiv 2112.02841).
    """
    return background_cross_entropy(logits, labels) + foreground_cross_entropy(logits, labels)


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
