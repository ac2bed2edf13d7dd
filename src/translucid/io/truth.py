"""Where findings are: masks from pictures, from tables of run lengths, and from boxes, on any grid of an image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from translucid.errors import UnreadableImage
from translucid.io.manifest import Manifest
from translucid.io.places import on_cells
from translucid.io.placing import Transform, boxes_cut
from translucid.io.raster import read_mask
from translucid.io.references import split_reference
from translucid.io.rle import coco_runs, mask_of, relative_runs
from translucid.io.table import read_table
from translucid.types import Box, Case, Space

RLE_COLUMNS = ("ImageId", "EncodedPixels")
"""Columns of a table of relative run lengths; blanks around the names do not matter."""


class Runs(NamedTuple):
    """Run lengths of one mask: where they stand, the text or list, and the size they were drawn on, if it is told."""

    where: str
    counts: str | Sequence[int]
    size: Space | None


def run_length_mask(path: Path, reference: str, space: Space) -> np.ndarray:
    """A mask out of a table of run lengths; several rows of one image are united.

    Two tables are known: CSV with ImageId and EncodedPixels, relative run lengths down the columns of the image, -1 for
    none; and JSON of {image: {finding: {"size": [rows, columns], "counts": COCO text}}}.

    Args:
        path: the table.
        reference: as a case has it, "train-rle.csv#image" or "gt_segmentations_val.json#image/finding".
        space: (rows, columns) of the image.

    Returns:
        (rows, columns) bool.

    Raises:
        UnreadableImage: no such table or entry, damaged run lengths, or those of another size; names file and row.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "rle.csv")
        ...     _ = path.write_text("ImageId, EncodedPixels\\na,1 2\\n")
        ...     run_length_mask(path, "rle.csv#a", (2, 2)).astype(int)
        array([[0, 1],
               [1, 0]])

    Fails when: images were resized since and the table tells no size; runs that still fit come out scrambled.
    """
    out = np.zeros(space, bool)
    for runs in runs_of(path, split_reference(reference).key):
        try:
            if runs.size is not None and tuple(runs.size) != tuple(space):
                raise UnreadableImage(
                    f"drawn on {runs.size[0]} × {runs.size[1]} pixels, the image has {space[0]} × {space[1]}: "
                    "use the images that the table was made for"
                )
            out |= mask_of(_lengths(runs), space)
        except UnreadableImage as error:
            raise UnreadableImage(f"{runs.where}: {error}") from None
    return out


def _lengths(runs: Runs) -> np.ndarray:
    relative = runs.size is None and isinstance(runs.counts, str)
    return relative_runs(str(runs.counts)) if relative else coco_runs(runs.counts)


def nothing_drawn(runs: Sequence[Runs]) -> bool:
    """Whether none of the run lengths has a pixel inside; damaged ones count as drawn, so that reading tells."""
    try:
        return not any(_lengths(one)[1::2].any() for one in runs)
    except UnreadableImage:
        return False


def runs_of(path: Path, key: str) -> tuple[Runs, ...]:
    """The run lengths of one entry of a table; raises `UnreadableImage` where it has none of that name."""
    found = run_table(path).get(key)
    if found is None:
        raise UnreadableImage(f"{path.name} has no entry of the name that the manifest gives: import the data set anew")
    return found


def run_table(path: Path) -> Mapping[str, tuple[Runs, ...]]:
    """Every entry of a table of run lengths; parsed once for as long as the file stays the same."""
    try:
        state = path.stat()
    except OSError as error:
        raise UnreadableImage(f"{path.name} cannot be read: {error.strerror}") from None
    return _table(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _table(path: Path, changed: int, size: int) -> Mapping[str, tuple[Runs, ...]]:
    """`changed` and `size` are there for the cache to tell another file by."""
    return _of_json(path) if path.suffix.lower() == ".json" else _of_csv(path)


def _of_csv(path: Path) -> dict[str, tuple[Runs, ...]]:
    table = read_table(path)
    absent = [name for name in RLE_COLUMNS if name not in table.header]
    if absent:
        raise UnreadableImage(f"{path.name} has no column {', '.join(absent)}: it is no table of run lengths")
    found: dict[str, list[Runs]] = {}
    for number, row in enumerate(table.rows, 2):
        image, counts = (row[name] for name in RLE_COLUMNS)
        found.setdefault(image, []).append(Runs(f"{path.name} row {number}", counts, None))
    return {image: tuple(runs) for image, runs in found.items()}


def _of_json(path: Path) -> dict[str, tuple[Runs, ...]]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"{path.name} is not readable JSON ({type(error).__name__})") from None
    if not isinstance(table, dict) or not all(isinstance(tasks, dict) for tasks in table.values()):
        raise UnreadableImage(f"{path.name}: wanted {{image: {{finding: {{size, counts}}}}}}")
    entries = (
        (f"{image}/{task}", number, task, rle)
        for number, (image, tasks) in enumerate(table.items(), 1)
        for task, rle in tasks.items()
    )
    return {key: (_coco(f"{path.name} image {number}, {task}", rle),) for key, number, task, rle in entries}


def _coco(where: str, rle: Any) -> Runs:
    try:
        rows, columns = (int(n) for n in rle["size"])
        counts = rle["counts"]
    except (TypeError, KeyError, ValueError):
        raise UnreadableImage(f"{where}: wanted size [rows, columns] and counts") from None
    if not isinstance(counts, str | list):
        raise UnreadableImage(f"{where}: counts are a {type(counts).__name__}; wanted text or a list of numbers")
    return Runs(where, counts, (rows, columns))


# -- of a case ----------------------------------------------------------------------------------------------------


def truth_masks(manifest: Manifest, case: Case, labels: Sequence[str], size: Space) -> np.ndarray:
    """Where each label's finding lies in the image as stored: its mask, else its boxes filled.

    Args:
        manifest: that the case is of.
        case: one image.
        labels: names of labels, and of their masks and boxes.
        size: (rows, columns) of the image as stored.

    Returns:
        (label, rows, columns) float32 in [0, 1]; all nan for a label of which nobody drew where it is, all 0 for one
        that is known to be absent. A pixel that a box covers in part has that part.

    Raises:
        UnreadableImage: a mask cannot be read, or is of another size; a box lies outside the image.
        ManifestError: a mask's path leads out of the folder.

    Example:
        >>> case = Case("a.png", "p", {"mass": 1.0, "cyst": 0.0, "scar": 1.0}, boxes=(Box("mass", 1, 0, 1, 0.5),))
        >>> manifest = Manifest(Path("."), (case,), ("mass", "cyst", "scar"))
        >>> truth_masks(manifest, case, manifest.labels, (1, 2)).tolist()
        [[[0.0, 0.5]], [[0.0, 0.0]], [[nan, nan]]]

    Fails when: a finding fills little of its box; no box tells.
    """
    return np.stack([_label(manifest, case, name, size) for name in labels])


def _label(manifest: Manifest, case: Case, name: str, size: Space) -> np.ndarray:
    if name in case.masks:
        return read_case_mask(manifest, case, name, size).astype(np.float32)
    boxes = [box for box in case.boxes if box.label == name]
    if boxes:
        boxes_cut(boxes, size, case.file)
        return filled(boxes, size)
    return np.full(size, 0.0 if case.labels.get(name) == 0 else np.nan, np.float32)


def read_case_mask(manifest: Manifest, case: Case, name: str, size: Space) -> np.ndarray:
    """(rows, columns) bool: one of the case's masks, from a picture or from a table of run lengths."""
    path = manifest.mask_path(case, name)
    if split_reference(case.masks[name]).key:
        return run_length_mask(path, case.masks[name], size)
    mask = read_mask(path)
    if mask.shape != tuple(size):
        raise UnreadableImage(
            f"the mask {name!r} has {mask.shape[0]} × {mask.shape[1]} pixels, its image {size[0]} × {size[1]}: "
            "wanted one size"
        )
    return mask


def filled(boxes: Sequence[Box], size: Space) -> np.ndarray:
    """(rows, columns) float32: the union of boxes, cut at the rim; of several in a pixel, the largest part counts."""
    out = np.zeros(size, np.float32)
    for box in boxes:
        rows, columns = _share(box.y, box.height, size[0]), _share(box.x, box.width, size[1])
        np.maximum(out, np.outer(rows, columns), out=out)
    return out


def _share(start: float, length: float, cells: int) -> np.ndarray:
    left = np.arange(cells)
    return np.clip(np.minimum(start + length, left + 1) - np.maximum(start, left), 0, 1).astype(np.float32)


def framed_truth(
    manifest: Manifest, case: Case, labels: Sequence[str], transform: Transform, grid: Space | None = None
) -> np.ndarray:
    """`truth_masks` through a framing, as the share of each cell that the finding covers; nan stays nan.

    Args:
        manifest, case, labels: as for `truth_masks`.
        transform: of the framing that was applied to the case's image.
        grid: cells that tile the framed image; None takes its pixels.

    Returns:
        (label, *grid) float32.

    Raises:
        UnreadableImage, ManifestError: as `truth_masks`.

    Example:
        >>> case = Case("a.png", "p", {"mass": 1.0}, boxes=(Box("mass", 1, 0, 2, 2),))
        >>> same = Transform((1.0, 1.0), (0.0, 0.0), (2, 4), (2, 4))
        >>> framed_truth(Manifest(Path("."), (case,), ("mass",)), case, ["mass"], same, (1, 2)).tolist()
        [[[0.5, 0.5]]]

    Fails when: the finding is cut away by the framing; its map is then all 0, as if it were absent.
    """
    masks = truth_masks(manifest, case, labels, transform.source)
    unknown = np.isnan(masks).any((1, 2))
    out = on_cells(np.nan_to_num(masks), transform, grid or transform.target)
    out[unknown] = np.nan
    return out
