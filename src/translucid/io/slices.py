"""The slices of a DICOM series: where each lies, and whether together they make a volume."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from translucid.errors import UnreadableImage
from translucid.io.dicom_file import Header

GEOMETRY = ("SeriesInstanceUID", "ImageOrientationPatient", "ImagePositionPatient", "RescaleType")
"""What is read beside the technical elements; the series' identifier only tells series apart and goes no further."""
_SLACK = 0.02
"""Largest deviation of a step between slices, as a part of the median step; scanners round positions."""
_FLAT = 1e-3
"""Largest difference of direction cosines that counts as the same orientation."""
_TILT = math.tan(math.radians(0.5))
_TO_RAS = np.diag([-1.0, -1.0, 1.0])


class Slice(NamedTuple):
    """One plane: which file and frame it comes from, and where it lies (millimetres, DICOM's LPS)."""

    file: int
    frame: int | None
    series: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    rows: int
    columns: int


class Stack(NamedTuple):
    """Slices in order along their normal, and the grid they make."""

    slices: list[Slice]
    rows: int
    columns: int
    spacing: tuple[float, float, float]
    affine: np.ndarray


def check_units(ds: Dataset, header: Header) -> None:
    """Refuse what cannot be in Hounsfield units."""
    advice = "leave it out, or say hounsfield=False to take the values as they are"
    if str(ds.get("Modality") or "").strip().upper() != "CT":
        raise UnreadableImage(f"the modality is not CT, so its values are no Hounsfield units; wanted CT: {advice}")
    groups = _transformations(ds)
    if ds.get("ModalityLUTSequence") or header.photometric != "MONOCHROME2" or header.samples != 1:
        raise UnreadableImage(f"a look-up table, inverted grey or colour; wanted a linear rescale to HU: {advice}")
    if any(group.get("RescaleSlope") is None or group.get("RescaleIntercept") is None for group in groups):
        raise UnreadableImage(f"no rescale slope or intercept; wanted both, which make Hounsfield units: {advice}")
    if any(str(group.get("RescaleType") or "HU").strip().upper() != "HU" for group in groups):
        raise UnreadableImage(f"the rescale type is not HU; wanted Hounsfield units: {advice}")


def _transformations(ds: Dataset) -> list[Dataset]:
    """Where the rescale stands: per frame, shared, or at the top."""
    found = [g for frame in _frames(ds) if (g := _group(frame, ds, "PixelValueTransformationSequence")) is not ds]
    return found or [ds]


def _frames(ds: Dataset) -> Sequence[Dataset]:
    return list(ds.get("PerFrameFunctionalGroupsSequence") or []) or [Dataset()]


def _group(frame: Dataset, ds: Dataset, name: str) -> Dataset:
    """A functional group of a frame, else the shared one, else the data set itself."""
    shared = next(iter(ds.get("SharedFunctionalGroupsSequence") or []), Dataset())
    items = frame.get(name) or shared.get(name) or [ds]
    return items[0]


def slices_of(ds: Dataset, header: Header, file: int) -> list[Slice]:
    """One slice, or one per frame of a multi-frame object."""
    if header.samples != 1:
        raise UnreadableImage("colour slices; wanted one sample a pixel: leave them out")
    frames = _frames(ds)
    if len(frames) != header.frames:
        raise UnreadableImage(
            f"{header.frames} frames, of which {len(frames)} say where they lie; wanted all: export the file again"
        )
    series = str(ds.get("SeriesInstanceUID") or "")
    single = "PerFrameFunctionalGroupsSequence" not in ds
    return [
        Slice(
            file,
            None if single or header.frames == 1 else number,
            series,
            _numbers(_group(frame, ds, "PlanePositionSequence"), "ImagePositionPatient", 3),
            _numbers(_group(frame, ds, "PlaneOrientationSequence"), "ImageOrientationPatient", 6),
            _numbers(_group(frame, ds, "PixelMeasuresSequence"), "PixelSpacing", 2),
            header.rows,
            header.columns,
        )
        for number, frame in enumerate(frames)
    ]


def _numbers(group: Dataset, name: str, count: int) -> tuple[float, ...]:
    value: Any = group.get(name)
    try:
        numbers = tuple(float(v) for v in value or ())
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise UnreadableImage(f"no usable {name}; wanted {count} numbers, to know where the slice lies: leave it out")
    return numbers


def stack(slices: Iterable[Slice]) -> Stack:
    """Sort slices along their normal and make sure that they form one regular volume.

    Raises:
        UnreadableImage: names the slices by number in that order and position in millimetres.
    """
    listed = list(slices)
    if len(listed) < 2:
        raise UnreadableImage("a single slice; wanted at least two of one series: read it as an image instead")
    along, down = np.asarray(listed[0].orientation).reshape(2, 3)
    normal = np.cross(along, down)
    if abs(np.linalg.norm(normal) - 1) > 0.01 or min(listed[0].spacing) <= 0:
        raise UnreadableImage("row and column directions that are no right angle, or a spacing of 0; wanted a grid")
    places = np.array([np.dot(s.position, normal) for s in listed])
    order = np.argsort(places, kind="stable")
    listed, places = [listed[n] for n in order], places[order]
    _check_alike(listed, places)
    step = _check_steps(places)
    _check_straight(listed, places, np.stack([along, down]))
    rows, columns = listed[0].spacing
    positions = np.array([s.position for s in listed])
    affine = np.eye(4)
    through = (positions[-1] - positions[0]) / (len(listed) - 1)
    affine[:3] = _TO_RAS @ np.column_stack([through, down * rows, along * columns, positions[0]])
    return Stack(listed, listed[0].rows, listed[0].columns, (step, rows, columns), affine)


def _named(number: int, places: np.ndarray) -> str:
    return f"slice {number + 1} of {len(places)} (at {places[number]:.4g} mm)"


def _check_alike(slices: Sequence[Slice], places: np.ndarray) -> None:
    """All slices must have the size, orientation and spacing that most of them have."""
    for what, values, slack in (
        ("size", [(s.rows, s.columns) for s in slices], 0.0),
        ("orientation", [s.orientation for s in slices], _FLAT),
        ("pixel spacing", [s.spacing for s in slices], 1e-3 * min(slices[0].spacing)),
    ):
        table = np.asarray(values, np.float64)
        usual = np.median(table, 0)
        odd = np.flatnonzero((np.abs(table - usual) > slack).any(1))
        if odd.size:
            got, wanted = (" × ".join(f"{v:.4g}" for v in row) for row in (table[odd[0]], usual))
            raise UnreadableImage(
                f"{_named(int(odd[0]), places)} has {what} {got}; wanted {wanted} as the others: leave it out"
            )


def _check_steps(places: np.ndarray) -> float:
    """The step between slices; it must be the same everywhere."""
    steps = np.diff(places)
    positive = steps[steps > 1e-3]
    usual = float(np.median(positive)) if positive.size else 0.0
    twice = np.flatnonzero(steps <= max(1e-3, 0.01 * usual))
    if twice.size:
        at = int(twice[0])
        raise UnreadableImage(
            f"{_named(at, places)} and {_named(at + 1, places)} lie at the same place, {twice.size} such pairs; "
            "wanted each place once: remove copies, or split phases and reconstructions into folders"
        )
    odd = np.flatnonzero(np.abs(steps - usual) > _SLACK * usual + 0.01)
    if odd.size:
        at = int(odd[0])
        missing = round(steps[at] / usual) - 1
        guess = f"{missing} missing between" if missing > 0 else "uneven steps between"
        raise UnreadableImage(
            f"{guess} {_named(at, places)} and {_named(at + 1, places)}: {steps[at]:.4g} mm; wanted {usual:.4g} mm "
            f"everywhere ({odd.size} such places): copy the series again"
        )
    return float((places[-1] - places[0]) / (len(places) - 1))


def _check_straight(slices: Sequence[Slice], places: np.ndarray, plane: np.ndarray) -> None:
    """First pixels must lie above each other along the normal; a tilted gantry shifts them from slice to slice."""
    aside = (np.array([s.position for s in slices]) - np.asarray(slices[0].position)) @ plane.T
    extent = places - places[0]
    slope = aside[-1] / extent[-1]
    if np.linalg.norm(slope) > _TILT:
        angle = math.degrees(math.atan(float(np.linalg.norm(slope))))
        raise UnreadableImage(
            f"the gantry was tilted: slices are stacked {angle:.1f}° off their normal; wanted 0°: "
            "straighten the series in a viewer and export it again"
        )
    off = np.linalg.norm(aside - extent[:, None] * slope, axis=1)
    odd = int(off.argmax())
    if off[odd] > 0.5 * min(slices[0].spacing):
        raise UnreadableImage(
            f"{_named(odd, places)} lies {off[odd]:.3g} mm aside of the others; wanted one straight stack: leave it out"
        )
