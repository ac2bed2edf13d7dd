"""Where the voxels of a volume lie in the patient, and the 48 ways to store the same volume.

Axes of space are (slice k, row j, column i), as everywhere here; an affine maps (k, j, i, 1) to millimetres in RAS:
x grows to the patient's Right, y to Anterior (the front), z to Superior (the head). DICOM's own coordinates
are LPS; x and y change their sign when a DICOM series is read.

An orientation is named as nibabel and ITK-SNAP name a file's: by the directions in which the *column*, the *row* and
the *slice* number grow, in this order. "LPS", the radiologist's usual storage, has the patient's right at low column
numbers, front at low row numbers and feet at low slice numbers.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from translucid.errors import ConfigError, InputError
from translucid.types import Image, Space

_LETTERS = ("LR", "PA", "IS")
"""Ends of the world's axes, the negative one first."""


class Turn(NamedTuple):
    """A storage order: turned axis a is the stored axis order[a], read backwards where flips[a].

    Example:
        >>> turn = Turn((0, 2, 1), (True, False, False))
        >>> turned = turn.apply(np.arange(4).reshape(2, 1, 2))
        >>> turned.shape, turned.ravel().tolist(), turn.undo(turned).ravel().tolist()
        ((2, 2, 1), [2, 3, 0, 1], [0, 1, 2, 3])
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """A view of (…, k, j, i) values in the turned order."""
        lead = array.ndim - 3
        return array.transpose(*range(lead), *(lead + o for o in self.order))[self._steps()]

    def undo(self, array: np.ndarray) -> np.ndarray:
        """A view of turned values in the stored order."""
        lead = array.ndim - 3
        back = np.argsort(self.order)
        return array[self._steps()].transpose(*range(lead), *(lead + int(b) for b in back))

    def space(self, stored: Space) -> Space:
        """Size after turning."""
        return tuple(stored[o] for o in self.order)

    def matrix(self, stored: Space) -> np.ndarray:
        """4×4: turned voxel numbers → stored voxel numbers."""
        out = np.zeros((4, 4))
        out[3, 3] = 1
        for axis, (source, flipped) in enumerate(zip(self.order, self.flips, strict=True)):
            out[source, axis] = -1 if flipped else 1
            out[source, 3] = stored[source] - 1 if flipped else 0
        return out

    def _steps(self) -> tuple[Any, ...]:
        return (..., *(slice(None, None, -1 if f else 1) for f in self.flips))


def orientation_of(affine: np.ndarray) -> str:
    """Name the storage order of a volume by its affine, to the nearest axes.

    Args:
        affine: 4×4, (k, j, i, 1) → RAS millimetres.

    Example:
        >>> orientation_of(affine_of("LPS", (2.0, 1.0, 1.0)))
        'LPS'

    Fails when: the volume is oblique by nearly 45°; the nearest axes are then no description.
    """
    axes, signs = _nearest(affine)
    return "".join(_LETTERS[w][int(s > 0)] for w, s in zip(axes[::-1], signs[::-1], strict=True))


def affine_of(orientation: str, spacing: tuple[float, ...]) -> np.ndarray:
    """The affine of an upright volume whose first voxel lies at the origin.

    Args:
        orientation: such as "LPS".
        spacing: millimetres per slice, row and column.

    Raises:
        ConfigError: no such orientation.

    Example:
        >>> affine_of("LPS", (2.0, 1.0, 1.5)) @ [1, 1, 1, 1]
        array([-1.5, -1. ,  2. ,  1. ])
    """
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world, sign) in enumerate(_parsed(orientation)):
        affine[world, axis] = sign * spacing[axis]
    return affine


def turn_to(affine: np.ndarray, orientation: str) -> Turn:
    """How to read a volume so that it is stored in another orientation.

    Raises:
        ConfigError: no such orientation.

    Example:
        >>> turn_to(affine_of("RAS", (1.0, 1.0, 1.0)), "LAS")
        Turn(order=(0, 1, 2), flips=(False, False, True))
    """
    axes, signs = _nearest(affine)
    wanted = _parsed(orientation)
    order = tuple(axes.index(world) for world, _ in wanted)
    flips = tuple(signs[o] != sign for o, (_, sign) in zip(order, wanted, strict=True))
    return Turn(order, flips)  # type: ignore[arg-type]


def to_orientation(image: Image, orientation: str) -> Image:
    """Store a volume in another order: flips and exchanges of axes only, no voxel changes its value or its place.

    Args:
        image: a volume with an affine.
        orientation: directions in which column, row and slice number shall grow: "LPS", "RAS", …

    Raises:
        ConfigError: no such orientation.
        InputError: the image has no affine.

    Example:
        >>> ct = Image(np.arange(2.0).reshape(1, 1, 1, 2), 0, 1, (3.0, 1.0, 1.0), affine_of("LPS", (3.0, 1.0, 1.0)))
        >>> ras = to_orientation(ct, "RAS")
        >>> ras.pixels.ravel().tolist(), (ras.affine @ [0, 0, 0, 1]).tolist()
        ([1.0, 0.0], [-1.0, 0.0, 0.0, 1.0])
        >>> bool((to_orientation(ras, "LPS").affine == ct.affine).all())
        True

    Fails when: the header lies about left and right; nothing in the file would show it.
    """
    affine = need_affine(image)
    turn = turn_to(affine, orientation)
    spacing = tuple(image.spacing[o] for o in turn.order) if image.spacing else None
    pixels = np.ascontiguousarray(turn.apply(image.pixels))
    moved = affine @ turn.matrix(image.space)
    return replace(image, pixels=pixels, spacing=spacing, affine=moved + 0.0)


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Millimetres per step along slice, row and column.

    Example:
        >>> spacing_of(affine_of("LPS", (2.0, 1.0, 1.5)))
        (2.0, 1.0, 1.5)
    """
    k, j, i = np.linalg.norm(affine[:3, :3], axis=0)
    return float(k), float(j), float(i)


def need_affine(image: Image) -> np.ndarray:
    """The affine of a volume; `InputError` for an image that is none or has none."""
    if len(image.space) != 3:
        raise InputError(
            f"an image of {len(image.space)} axes {image.space}; wanted a volume of 3: read the whole file"
        )
    if image.affine is None:
        raise InputError(
            "the volume has no affine, so left and right are unknown; wanted one: read it from NIfTI or a DICOM "
            "series, or state it with affine_of(orientation, spacing)"
        )
    return np.asarray(image.affine, np.float64)


def same_grid(space: Space, affine: np.ndarray, other: Space, there: np.ndarray) -> bool:
    """Whether two volumes have the same size and no corner lies more than a twentieth of a voxel elsewhere.

    Example:
        >>> here = affine_of("LPS", (2.0, 1.0, 1.0))
        >>> same_grid((4, 4, 4), here, (4, 4, 4), here + 1e-6), same_grid((4, 4, 4), here, (4, 4, 4), 2 * here)
        (True, False)
    """
    if tuple(space) != tuple(other):
        return False
    corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in space))])
    apart = np.abs((corners @ (affine - there).T)[:, :3]).max()
    return bool(apart < 0.05 * min(spacing_of(affine)))


def grid_in_words(space: Space, affine: np.ndarray) -> str:
    """Size, spacing, orientation and first voxel of a grid, for messages.

    Example:
        >>> grid_in_words((3, 4, 5), affine_of("LPS", (2.0, 1.0, 1.0)))
        '3 × 4 × 5 voxels of 2 × 1 × 1 mm, LPS, first at (0, 0, 0)'
    """
    sizes, steps = (" × ".join(f"{v:.4g}" for v in part) for part in (space, spacing_of(affine)))
    first = ", ".join(f"{v + 0.0:.5g}" for v in affine[:3, 3])
    return f"{sizes} voxels of {steps} mm, {orientation_of(affine)}, first at ({first})"


def _parsed(orientation: str) -> list[tuple[int, int]]:
    """(world axis, sign) for slice, row and column."""
    found = [(w, 2 * ends.index(c) - 1) for c in orientation for w, ends in enumerate(_LETTERS) if c in ends]
    if len(orientation) != 3 or sorted(w for w, _ in found) != [0, 1, 2]:
        raise ConfigError(
            f"orientation {orientation!r}: wanted one of L or R, one of P or A and one of I or S, such as 'LPS'"
        )
    return found[::-1]


def _nearest(affine: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """World axis and sign of each voxel axis; of the six assignments the one with the largest sum of cosines."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not lengths.all():
        raise InputError("an affine that is not finite or has an axis of length 0; wanted one that can be inverted")
    cosines = affine[:3, :3] / lengths
    axes = max(itertools.permutations(range(3)), key=lambda p: sum(abs(cosines[w, v]) for v, w in enumerate(p)))
    return axes, tuple(1 if cosines[w, v] > 0 else -1 for v, w in enumerate(axes))
