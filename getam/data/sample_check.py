"""Whether the photos that were drawn at random can measure: each has a corrected mask and labels.

Only a run needs this, and ``data`` says it: an export and an import may be what completes a sample.
"""

from __future__ import annotations

from collections.abc import Sequence

from getam.data.class_names import counted
from getam.data.corrections import SAMPLE, Corrections
from getam.data.index import DataIndex
from getam.data.review import REJECTED, Review
from getam.errors import UserError


def check_sample_masks(corrections: Corrections) -> None:
    """Each photo of ``sample.txt`` must have a corrected mask.

    Raises:
        UserError: one has none.
    """
    sample = sorted(corrections.sample)
    missing = [image_id for image_id in sample if image_id not in corrections.files]
    if missing:
        raise UserError(
            f"{corrections.folder / SAMPLE}: {len(missing)} of {len(sample)} photos have no "
            f"corrected mask, {missing[0]!r} first. The figure would be about the photos that "
            f"someone chose to correct, not about a random sample: add {missing[0]}.png and the "
            f"others, or draw a smaller sample."
        )


def check_sample_photos(
    corrections: Corrections, index: DataIndex, names: Sequence[str], review: Review | None
) -> None:
    """The photos of the sample must get a final mask: they are labelled, and in splits ``names``.

    Args:
        index: the data set without the photos that ``review`` rejects.
        names: the splits of which final masks are made, train and val.

    Raises:
        UserError: one is not.
    """
    records = [record for name in names for record in index.splits.get(name, ())]
    others = sorted(corrections.sample - {r.id for r in records if r.labels is not None})
    rejected = [i for i in others if review and review.verdicts.get(i) == REJECTED]
    if rejected:
        why = "rejected in the file of data.review"
        remedy = "Accept them there, or draw the sample anew."
    elif others:
        why = f"not labelled, or neither in {names[0]} nor in {names[1]}"
        remedy = "Draw the sample among the labelled photos."
    else:
        return
    raise UserError(
        f"{corrections.folder / SAMPLE}: {len(rejected or others)} of {len(corrections.sample)} "
        f"photos are {why}, {(rejected or others)[0]!r} first, so they get no final mask to "
        f"measure. {remedy}"
    )


def rejected_notes(corrections: Corrections, index: DataIndex) -> list[str]:
    """The corrected masks that nothing uses, because ``index`` lost their photos by a review."""
    kept = {record.id for records in index.splits.values() for record in records}
    lost = [image_id for image_id in corrections.files if image_id not in kept]
    if not lost:
        return []
    first = f": {lost[0]}" if len(lost) == 1 else f", {lost[0]!r} first"
    told = counted(len(lost), "mask is of a rejected photo", "masks are of rejected photos")
    used = "is" if len(lost) == 1 else "are"
    return [f"{corrections.folder.name}/: {told} and {used} not used{first}."]
