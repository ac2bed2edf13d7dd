"""Organ masks in DICOM SEG, the segmentation object, laid on the grid of their CT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from translucid.errors import ConfigError, UnreadableImage
from translucid.io.dicom_file import decode, open_dicom
from translucid.io.limits import DEFAULT_POLICY, ReadPolicy, border, read_bytes
from translucid.io.organs import Organs
from translucid.io.slices import GEOMETRY, Slice, slices_of
from translucid.io.volume import Turn, grid_in_words, need_affine, orientation_of, turn_to
from translucid.types import Finding, Image

_NEAR = 0.05
"""Largest distance of a frame from the grid of the CT, in voxels."""
_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read_dicom_seg(
    path: Path, image: Image, segments: Mapping[str, Sequence[int]], policy: ReadPolicy = DEFAULT_POLICY
) -> Organs:
    """Read segments of a DICOM SEG on the grid of their CT, whatever frames it leaves out.

    Frames are laid by their place in the patient, not by their number; slices without a frame are empty, as the
    standard has it. Segments are asked for by number: their names are free text and are not read.

    Args:
        path: the SEG, binary, or fractional (from half of its maximum on it counts as inside).
        image: the CT, with an affine; its storage order does not matter.
        segments: name of the organ → numbers of the segments that together make it.
        policy: ceilings, checked before memory is taken.

    Returns:
        `Organs` on the grid of the image, with a finding for each organ that is empty; `ok` where none is.

    Raises:
        UnreadableImage: no SEG, or one on another grid than the CT.
        ConfigError: no segments asked for.

    Example:
        >>> read_dicom_seg(Path("none.dcm"), Image(np.zeros((1, 2, 2, 2)), 0, 1, None, np.eye(4)), {"heart": [1]})
        Traceback (most recent call last):
        ...
        translucid.errors.UnreadableImage: none.dcm: is not there; wanted an image file: check the path ...

    Source: DICOM PS3.3 A.51 and C.8.20.

    Fails when: the SEG was drawn on another scan of the same size and place.
    """
    if not segments:
        raise ConfigError("segments = {}: wanted the numbers of at least one organ, such as {'heart': [1]}")
    affine = need_affine(image)
    with border(Path(path).name):
        ds, header = open_dicom(read_bytes(Path(path), policy), policy, (*GEOMETRY, "MaximumFractionalValue"))
        if str(ds.get("Modality") or "").strip().upper() != "SEG" or not ds.get("PerFrameFunctionalGroupsSequence"):
            raise UnreadableImage("is no DICOM SEG; wanted one: read other masks with read_organ_masks")
        slices = [one._replace(frame=n) for n, one in enumerate(slices_of(ds, header, 0))]
        frames = decode(ds, header, None, policy)[0].reshape(header.frames, header.rows, header.columns)
        inside = frames >= max(1, int(ds.get("MaximumFractionalValue") or 1) / 2)
        numbers = [_segment(frame) for frame in ds.PerFrameFunctionalGroupsSequence]
        places = _slots(image, affine, slices)
    masks = {}
    for name, wanted in segments.items():
        chosen = np.flatnonzero(np.isin(numbers, list(wanted)))
        masks[name] = _laid(image, places, inside, chosen)
    empty = [name for name, mask in masks.items() if not mask.any()]
    findings = tuple(Finding("warn", f"the mask of {name!r} is empty", "no frame has its segment") for name in empty)
    return Organs(masks, not empty, findings, {"method": "read from DICOM SEG", "segments": dict(segments)})


def _segment(frame: Dataset) -> int:
    items = frame.get("SegmentIdentificationSequence")
    if not items or items[0].get("ReferencedSegmentNumber") is None:
        raise UnreadableImage("a frame that belongs to no segment; wanted a number for each: export the file again")
    return int(items[0].ReferencedSegmentNumber)


class _Slots(NamedTuple):
    """How to store the CT so that its planes are the SEG's, and the slice of each frame."""

    turn: Turn
    slices: np.ndarray


def _slots(image: Image, affine: np.ndarray, slices: Sequence[Slice]) -> _Slots:
    """Find each frame's slice; every frame must lie on the CT's grid."""
    grids = [_plane_affine(one) for one in slices]
    turn = turn_to(affine, orientation_of(grids[0]))
    there, space = affine @ turn.matrix(image.space), turn.space(image.space)
    back = np.linalg.inv(there)
    corners = np.array([(0, 0, 0, 1), (0, slices[0].rows - 1, slices[0].columns - 1, 1)], float)
    at = np.stack([(back @ grid @ corners.T)[:3] for grid in grids])
    index = np.rint(at[:, 0, 0]).astype(int)
    wanted = np.stack([np.stack([index] * 2, -1), *(np.tile(c, (len(index), 1)) for c in corners.T[1:3])], 1)
    fits = (slices[0].rows, slices[0].columns) == space[1:] and bool(((index >= 0) & (index < space[0])).all())
    if not fits or np.abs(at - wanted).max() > _NEAR:
        raise UnreadableImage(
            f"frames of {slices[0].rows} × {slices[0].columns} pixels that do not lie on the CT's grid; wanted that of "
            f"the CT, {grid_in_words(image.space, affine)}: resample the segmentation onto the CT"
        )
    return _Slots(turn, index)


def _plane_affine(one: Slice) -> np.ndarray:
    """(0, row, column, 1) of a frame → RAS millimetres, with the normal for the first axis."""
    along, down = np.reshape(one.orientation, (2, 3))
    affine = np.eye(4)
    columns = [np.cross(along, down), down * one.spacing[0], along * one.spacing[1], np.asarray(one.position)]
    affine[:3] = _TO_RAS @ np.column_stack(columns)
    return affine


def _laid(image: Image, slots: _Slots, inside: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The union of frames at their slices, in the CT's own storage order."""
    mask = np.zeros(slots.turn.space(image.space), bool)
    np.logical_or.at(mask, slots.slices[chosen], inside[chosen])
    return np.ascontiguousarray(slots.turn.undo(mask))
