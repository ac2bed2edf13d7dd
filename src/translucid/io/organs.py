"""Lungs and heart of a chest CT by threshold and components, and the test whether to believe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from scipy import ndimage

from translucid.errors import ConfigError, ShapeError
from translucid.io.volume import Turn, need_affine, spacing_of, turn_to
from translucid.types import Finding, Image, Space

ORGANS = ("right_lung", "left_lung", "heart")
_IN_PLANE = np.zeros((3, 3, 3), bool)
_IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)
"""Neighbours within a slice only, so that one pass labels the components of every slice."""
Sides = Literal["components", "body", "volume"]
_RIGHT_LIMIT, _LEFT_LIMIT = 130 / 420, 300 / 420
"""Published limits of the lungs' borders, in columns of 420."""
_SMALLEST_ML = 100.0
"""A lung below this is called missing; the lung of an adult holds some 1000 mL or more."""


@dataclass(frozen=True, eq=False)
class Organs:
    """Masks of organs on the grid of their CT.

    Attributes:
        masks: name → bool, of the volume's size; "right_lung", "left_lung" and "heart" from `find_organs`.
        ok: whether they were found; if not, the masks are rough.
        findings: what was looked at and how it came out.
        record: method, volumes in mL, and the lungs' box in slices, rows and columns of "LPS", for the run record.
    """

    masks: Mapping[str, np.ndarray]
    ok: bool
    findings: tuple[Finding, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


def find_organs(
    image: Image, *, air: float = -300.0, smallest_ml: float = 512.0, sides: Sides = "components"
) -> Organs:
    """Lungs by threshold and components, the heart between them; rough masks where the lungs look wrong.

    Per axial slice: voxels below `air`, without the components that touch the slice's rim, of the others the two
    largest; then, in the volume, without objects below `smallest_ml`. Low columns of the patient's right side are the
    right lung. With q a quarter of the width of the lungs' box, in whole columns, the "heart" is all in the box that
    is no lung and lies from q columns inside its right border to q/2 columns inside its left border.

    The lungs look wrong when the box begins right of 130/420 of the columns, ends left of 300/420, or a lung is
    missing. Then the heart is columns 1–4 of 6, the right lung 0–2 and the left lung 3–5, over all rows and slices.

    Args:
        image: a chest CT in Hounsfield units, with an affine that says which side is which.
        air: Hounsfield units below which a voxel counts as air.
        smallest_ml: millilitres; 512 is a million voxels of 0.8 mm.
        sides: what parts right from left: "volume" the middle column, as published; "body" the column with half of
            all tissue on either side; "components" the same, but a slice's component of which nine tenths lie on one
            side goes there as a whole.

    Returns:
        `Organs` on the grid of the image.

    Raises:
        InputError: no volume, or none with an affine.
        ConfigError: an unknown `sides`.
        ShapeError: several channels.

    Example:
        >>> from translucid.io.volume import affine_of
        >>> empty = Image(np.zeros((1, 4, 12, 12), np.float32), -1024, 3071, None, affine_of("LPS", (2.0, 1.0, 1.0)))
        >>> organs = find_organs(empty)
        >>> organs.ok, organs.findings[0].title, int(organs.masks["heart"][0, 0].sum())
        (False, 'the lungs were not found', 8)

    Source: Draelos and Carin 2022, doi 10.1016/j.artmed.2022.102372, arXiv 2111.12215 (PARTITION). Which slice of a
        half-open box counts, and limits as parts of the width instead of columns, are our reading.

    Fails when: consolidation or effusion fills a lung, which is then cut out of its mask; airways and bowel that touch
        the lungs are part of them; and "heart" holds the great vessels, the oesophagus and the spine too.
    """
    if sides not in get_args(Sides):
        raise ConfigError(f"sides = {sides!r}: known are {', '.join(get_args(Sides))}")
    affine = need_affine(image)
    if len(image.pixels) != 1:
        raise ShapeError(f"a volume of {len(image.pixels)} channels; wanted 1, in Hounsfield units")
    turn = turn_to(affine, "LPS")
    values = np.ascontiguousarray(turn.apply(image.pixels[0]))
    voxel_ml = float(np.prod(spacing_of(affine))) / 1000
    lungs = lung_voxels(values, air, smallest_ml / voxel_ml)
    column = values.shape[2] // 2 if sides == "volume" else _body_middle(values, air)
    right = right_side(lungs, column, whole=sides == "components")
    masks = {"right_lung": lungs & right, "left_lung": lungs & ~right}
    box = _box(lungs)
    sizes = {name: float(mask.sum()) * voxel_ml for name, mask in masks.items()}
    findings = judge_lungs(sizes, box, values.shape[2])
    record = {
        "method": "threshold and components",
        "air": air,
        "sides": sides,
        "middle_column": column,
        "ml": sizes,
        "box": box,
    }
    if box is None or findings:
        rough = (Finding("note", "rough masks stand in", "sixths of the width, over all rows and slices"),)
        return Organs(_back(rough_masks(values.shape), turn), False, findings + rough, record)
    masks["heart"] = heart_between(lungs, box)
    return Organs(_back(masks, turn), True, (_found(sizes),), record)


def _back(masks: Mapping[str, np.ndarray], turn: Turn) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(turn.undo(mask)) for name, mask in masks.items()}


def lung_voxels(values: np.ndarray, air: float, smallest: float) -> np.ndarray:
    """Air inside the body: the two largest components of each axial slice, in objects of `smallest` voxels or more.

    Args:
        values: (slice, row, column) Hounsfield units; slices axial.
        air: values below count as air.
        smallest: voxels; smaller objects of the volume (face neighbours) go.

    Example:
        >>> body = np.zeros((1, 5, 7))
        >>> body[0, 2, [0, 2, 4]] = -800
        >>> lung_voxels(body, -300, 1)[0, 2].astype(int)
        array([0, 0, 1, 0, 1, 0, 0])
    """
    labels, count = ndimage.label(values < air, _IN_PLANE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    for rim in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        sizes[rim] = 0
    keep = _two_largest(labels, sizes)
    lungs = keep[labels]
    objects, count = ndimage.label(lungs)
    large = np.bincount(objects.ravel(), minlength=count + 1) >= smallest
    large[0] = False
    return np.asarray(large[objects])


def _two_largest(labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Whether each label is one of the two largest of its slice; labels rise from slice to slice."""
    keep = np.zeros(len(sizes), bool)
    last = np.maximum.accumulate(labels.max((1, 2)))
    first = np.concatenate([[0], last[:-1]]) + 1
    for begin, end in zip(first, last + 1, strict=True):
        largest = begin + np.argsort(-sizes[begin:end], kind="stable")[:2]
        keep[largest] = sizes[largest] > 0
    return keep


def right_side(lungs: np.ndarray, column: int, whole: bool) -> np.ndarray:
    """Which voxels are the patient's right, in a volume stored as LPS.

    Args:
        lungs: (slice, row, column) bool.
        column: the first one of the left side.
        whole: let a component of a slice go as a whole where nine tenths of it lie.

    Example:
        >>> lungs = np.ones((1, 1, 12), bool)
        >>> int(right_side(lungs, 6, True).sum()), int(right_side(lungs, 11, True).sum())
        (6, 12)
    """
    right = np.broadcast_to(np.arange(lungs.shape[2]) < column, lungs.shape)
    if not whole:
        return right
    labels, count = ndimage.label(lungs, _IN_PLANE)
    part = np.bincount(labels[right], minlength=count + 1) / np.maximum(np.bincount(labels.ravel()), 1)
    part[0] = 0.5
    return np.asarray((part >= 0.9)[labels] | (right & (part > 0.1)[labels]))


def _body_middle(values: np.ndarray, air: float) -> int:
    """The column that has half of all tissue on either side."""
    tissue = np.cumsum((values >= air).sum((0, 1)))
    return int(np.searchsorted(tissue, tissue[-1] / 2)) if tissue[-1] else values.shape[2] // 2


Span = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def _box(mask: np.ndarray) -> Span | None:
    """First and one past the last slice, row and column of a mask."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return None
    z, y, x = ((s.start, s.stop) for s in found[0])
    return z, y, x


def heart_between(lungs: np.ndarray, box: Span) -> np.ndarray:
    """All in the lungs' box that is no lung, from q columns inside the right border to q/2 inside the left.

    Example:
        >>> lungs = np.zeros((1, 1, 10), bool)
        >>> lungs[..., [1, 8]] = True
        >>> heart_between(lungs, ((0, 1), (0, 1), (1, 9)))[0, 0].astype(int)
        array([0, 0, 0, 1, 1, 1, 1, 1, 0, 0])
    """
    (z0, z1), (y0, y1), (x0, x1) = box
    q = (x1 - x0) // 4
    heart = np.zeros_like(lungs)
    part = (slice(z0, z1), slice(y0, y1), slice(x0 + q, x1 - q // 2))
    heart[part] = ~lungs[part]
    return heart


def rough_masks(space: Space) -> dict[str, np.ndarray]:
    """Sixths of the width over all rows and slices: heart 1–4, right lung 0–2, left lung 3–5; stored as LPS.

    Example:
        >>> {name: mask[0, 0].astype(int).tolist() for name, mask in rough_masks((1, 1, 6)).items()}
        {'right_lung': [1, 1, 1, 0, 0, 0], 'left_lung': [0, 0, 0, 1, 1, 1], 'heart': [0, 1, 1, 1, 1, 0]}
    """
    edges = [round(space[2] * n / 6) for n in range(7)]
    masks = {name: np.zeros(space, bool) for name in ORGANS}
    for name, first, last in (("right_lung", 0, 3), ("left_lung", 3, 6), ("heart", 1, 5)):
        masks[name][:, :, edges[first] : edges[last]] = True
    return masks


def judge_lungs(sizes: Mapping[str, float], box: Span | None, columns: int) -> tuple[Finding, ...]:
    """What speaks against a segmentation; nothing where it looks right."""
    if box is None:
        return (Finding("warn", "the lungs were not found", "no air inside the body is large enough"),)
    missing = [name.replace("_", " ") for name, ml in sizes.items() if ml < _SMALLEST_ML]
    if missing:
        detail = ", ".join(f"{name.replace('_', ' ')} {ml:.0f} mL" for name, ml in sizes.items())
        return (Finding("warn", f"missing: {' and '.join(missing)}", f"{detail}; wanted {_SMALLEST_ML:.0f} mL each"),)
    right, left = box[2]
    if right > _RIGHT_LIMIT * columns or left < _LEFT_LIMIT * columns:
        detail = (
            f"columns {right} to {left} of {columns}; wanted to begin by {_RIGHT_LIMIT * columns:.0f} "
            f"and to end after {_LEFT_LIMIT * columns:.0f}"
        )
        return (Finding("warn", "the lungs lie too near the middle", detail),)
    return ()


def _found(sizes: Mapping[str, float]) -> Finding:
    detail = ", ".join(f"{name.replace('_', ' ')} {ml:.0f} mL" for name, ml in sizes.items())
    return Finding("good", "both lungs were found", detail)
