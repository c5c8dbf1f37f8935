"""inspect: what is in an artifact, as a table, or of single images as overlays.

Reads artifacts and the data alone: no network, no GPU, and nothing is written among the artifacts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL.Image import Image

from getam.data.images import opened, read_photo, read_scores
from getam.data.index import Record
from getam.data.label_values import IGNORE
from getam.data.masks import MASK_MODES, read_mask
from getam.data.palette import class_colour
from getam.errors import UserError
from getam.running.commands.classifier_figures import knowledge
from getam.running.commands.current import LABELS, CurrentRun, Track, output_file, writes
from getam.running.commands.figures import foreground_table, label_table, map_table, seed_threshold
from getam.view.overlay import Panel, contour, fit, heat, paint, sheet


def table(run: CurrentRun, stage: str, class_name: str | None, track: Track) -> str:
    """What an artifact holds, by class, and which images deserve a look.

    Raises:
        UserError: the stage has no artifact, or no class has this name.
    """
    folder, split = run.folder(stage), run.split(stage)
    chosen = None if class_name is None else run.class_id(class_name)
    title = f"{stage} {run.rows[stage].key}"
    if stage == "maps":
        known = knowledge(run)
        shown = map_table(run.maps, chosen, known and known.columns(), run.records(split))
        return "\n".join([f"{title}: {shown}", *(known.lines(chosen) if known else [])])
    if stage == "foreground":
        body = foreground_table(run, run.records(split), folder / "foreground", chosen, track)
        return f"{title}: split {split}, {body}"
    labels = next(labels for labels in LABELS.values() if labels.stage == stage)
    body = label_table(run, run.records(split), folder / labels.folder, chosen, track)
    return f"{title}: split {split}, {body}"


def overlays(
    run: CurrentRun,
    stage: str,
    images: Sequence[str],
    class_name: str | None,
    threshold: float | None,
    folder: Path,
) -> list[Path]:
    """A PNG file per image: what the stage made of it beside the image and its mask.

    Args:
        images: ids, or names of files, of the split that the stage is about.
        class_name: this class alone; an image without it is an error.
        threshold: where the contour is, on maps whose maximum is 1; None: the best of the
            evaluation, where there is one, else 0.5. On the foreground: None is
            ``pseudolabels.saliency_threshold``.

    Raises:
        UserError: a missing artifact, an unknown image or class, a folder that cannot be written,
            or one with masks under the names of the files.
    """
    run.folder(stage)
    records = run.records(run.split(stage), images)
    suffix = f"_{class_name}" if class_name else ""
    files = {record.id: folder / stage / f"{record.id}{suffix}.png" for record in records}
    for file in files.values():
        _refuse_mask(file)
    chosen = None if class_name is None else run.class_id(class_name)
    level = _threshold(run, stage) if threshold is None else threshold
    sheets = [(record, _sheet(run, stage, record, chosen, level)) for record in records]
    made = []
    for record, drawn in sheets:
        made.append(output_file(files[record.id], run.artifacts, run.config.data))
        with writes(made[-1]):
            drawn.save(made[-1])
    return made


def _refuse_mask(file: Path) -> None:
    """The command predict writes its masks into a folder of the same name."""
    if file.is_file():
        with opened(file) as there:
            if there.mode in MASK_MODES:
                raise UserError(
                    f"{file}: got a mask that is there, which the picture would replace. Choose "
                    f"another folder with -o."
                )


def _threshold(run: CurrentRun, stage: str) -> float:
    if stage == "foreground":
        return run.config.pseudolabels.saliency_threshold
    return seed_threshold(run)


def _sheet(
    run: CurrentRun, stage: str, record: Record, chosen: int | None, threshold: float
) -> Image:
    image = read_photo(record)
    panels = [("image", fit(image))]
    if stage == "maps":
        panels += _map_panels(run, record, panels[0][1], chosen, threshold)
    if stage == "foreground":
        scores = read_scores(run.folder(stage) / "foreground" / f"{record.id}.png")
        panels.append(
            (f"foreground, line at {threshold:g}", _map_panel(panels[0][1], scores, threshold))
        )
    files = {labels.caption: run.label_file(labels, record) for labels in LABELS.values()}
    shown = {caption: read_mask(file) for caption, file in files.items() if file}
    truth = run.truth(record)
    if truth is not None:
        shown["mask"] = truth
    if chosen is not None:
        _check_class(run, record, shown, chosen)
        shown = {
            caption: np.where(labels == chosen, labels, 0) for caption, labels in shown.items()
        }
    panels += [(caption, paint(panels[0][1], labels)) for caption, labels in shown.items()]
    return sheet(f"{record.id} ({stage})", panels, _legend(run, shown))


def _map_panels(
    run: CurrentRun, record: Record, image: np.ndarray, chosen: int | None, threshold: float
) -> list[Panel]:
    class_ids, image_maps, peaks = run.maps.read(record.id)
    names = [run.maps.classes[c - 1] for c in class_ids]
    if chosen is not None and chosen not in class_ids:
        raise UserError(
            f"{record.id}: this image has no map of {run.data.classes[chosen - 1]!r}; it has maps "
            f"of {', '.join(names) or 'no class'}."
        )
    return [
        (f"{name}, peak {peak:.2g}, line at {threshold:g}", _map_panel(image, one, threshold))
        for class_id, name, one, peak in zip(class_ids, names, image_maps, peaks)
        if chosen in (None, class_id)
    ]


def _map_panel(image: np.ndarray, image_map: np.ndarray, threshold: float) -> np.ndarray:
    return contour(heat(image, image_map), image_map, threshold)


def _check_class(
    run: CurrentRun, record: Record, shown: dict[str, np.ndarray], chosen: int
) -> None:
    found = {int(c) for labels in shown.values() for c in np.unique(labels)}
    if chosen not in {*found, *(record.labels or ())}:
        names = [run.data.classes[c - 1] for c in sorted(found - {0, IGNORE})]
        raise UserError(
            f"{record.id}: the class {run.data.classes[chosen - 1]!r} is nowhere in this image; "
            f"there are {', '.join(names) or 'none'}."
        )


def _legend(run: CurrentRun, shown: dict[str, np.ndarray]) -> list:
    found = sorted({int(c) for labels in shown.values() for c in np.unique(labels)} - {0})
    names = dict(enumerate(run.data.classes, start=1)) | {IGNORE: "ignore"}
    return [(names[c], class_colour(c)) for c in found]
