"""What ``data`` says of photos of more than 8 bits (see ``getam.data.intensity``)."""

from __future__ import annotations

from collections.abc import Sequence

from getam.cache import in_threads
from getam.data.images import photo_values
from getam.data.index import DataIndex, Record
from getam.data.intensity import FEW, Range, is_deep_file, loses_levels, measure, widest
from getam.data.sampling import evenly
from getam.errors import UserError

SAMPLE = 50  # photos that are measured where not all files are decoded


def in_its_range(index: DataIndex, used: Sequence[str], deep: bool) -> tuple[DataIndex, list[str]]:
    """The index with the range of its photos of more than 8 bits, and what becomes of these.

    Without ``deep`` a sample of them is measured.
    """
    photos = list({r.id: r for name in used for r in index.split(name)}.values())
    flags = in_threads(lambda record: is_deep_file(record.image), photos)
    found = [record for record, is_so in zip(photos, flags) if is_so]
    sample = found if deep else evenly(found, SAMPLE)
    ranges = in_threads(_measured, sample)
    known = {record.id: own for record, own in zip(sample, ranges) if own}
    if not known:
        return index, []
    whole = index.intensities or widest(known.values())
    few = [image_id for image_id, own in known.items() if loses_levels(own, whole)]
    measured = "as set" if index.intensities else f"measured over {len(known)} of them"
    notes = [
        f"{len(found)} of {len(photos)} photos {'has' if len(found) == 1 else 'have'} more than 8 "
        f"bits, {found[0].id!r} first. Their values from {whole[0]:g} to {whole[1]:g} become 0 to "
        f"255, in all photos alike (data.intensity_range, {measured})."
    ]
    if few:
        notes.append(
            f"In {len(few)} of {len(known)} such photos fewer than {FEW} grey levels remain, "
            f"{few[0]!r} first: the range is much wider than their values. Set "
            f"data.intensity_range to the values that matter."
        )
    return index.with_intensities(whole), notes


def _measured(record: Record) -> Range | None:
    """None for a photo that cannot be read, which is a problem of its own."""
    try:
        return measure(photo_values(record.image))
    except UserError:
        return None
