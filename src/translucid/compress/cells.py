"""The grid of cells on a sub-band: where the edges lie, in two geometries, one axis at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import scipy.sparse as sp

from translucid.compress.packet import Boundary, axis_packet
from translucid.errors import ConfigError, did_you_mean

Geometry = Literal["balanced", "published"]
BOUNDARY: dict[Geometry, Boundary] = {"balanced": "periodic", "published": "published"}


class AxisCells(NamedTuple):
    """The cells of all bands of one axis, band after band, on the uniform layout of `AxisPacket`.

    Attributes:
        members: (bands · patches × samples) 1 where a sample lies in a cell.
        areas: (bands · patches,) samples per cell; in `published` with the padding.
        gather: (bands · patches, widest cell) positions of the samples; −1 a padded zero, −2 not there.
    """

    members: sp.csr_matrix
    areas: np.ndarray
    gather: np.ndarray


def cell_edges(size: int, patches: int, geometry: Geometry) -> tuple[int, ...]:
    """Edges of the cells along a sub-band of `size` samples; cell i holds edges[i] … edges[i + 1] − 1.

    balanced: edge i = ⌊i·size/patches + ½⌋: no padding, true areas, cells differ by one sample at most.
    published: zeros on both sides (one more at the end) until `patches` divides; all cells are equal, the first and the
    last reach beyond the band, and some may hold nothing but zeros.

    Raises:
        ConfigError: unknown geometry, or more cells than samples.

    Example:
        >>> cell_edges(10, 4, "balanced"), cell_edges(10, 4, "published")
        ((0, 3, 5, 8, 10), (-1, 2, 5, 8, 11))

    Source: published: Gaudio et al., DeepFixCX, 2023; balanced: ours.

    Fails when: `published` and the padding is odd: a map that forgets it lies half a sample off. Ours never forgets.
    """
    if geometry not in get_args(Geometry):
        raise ConfigError(f"unknown cells {geometry!r}: {did_you_mean(geometry, get_args(Geometry))}")
    if not 1 <= patches <= size:
        raise ConfigError(f"{patches} cells cannot lie on a sub-band of {size} samples; take 1 to {size}")
    if geometry == "balanced":
        return tuple((2 * i * size + patches) // (2 * patches) for i in range(patches + 1))
    pad = -size % patches
    step = (size + pad) // patches
    return tuple(i * step - pad // 2 for i in range(patches + 1))


@lru_cache(maxsize=64)
def axis_cells(size: int, wavelet: str, levels: int, patches: int, geometry: Geometry) -> AxisCells:
    """All cells along one axis of an image of `size` pixels."""
    split = axis_packet(size, wavelet, levels, BOUNDARY[geometry])
    edges = np.array([cell_edges(n, patches, geometry) for n in split.sizes])
    areas = np.diff(edges, axis=1)
    local = edges[:, :-1, None] + np.arange(areas.max())  # (band, cell, place in the cell)
    inside = np.arange(areas.max()) < areas[..., None]
    real = inside & (local >= 0) & (local < np.array(split.sizes)[:, None, None])
    band = np.arange(len(split.sizes))[:, None, None]
    gather = np.where(real, local + band * split.width, np.where(inside, -1, -2)).reshape(-1, int(areas.max()))
    cell, place = np.nonzero(gather >= 0)
    shape = (len(gather), len(split.sizes) * split.width)
    members = sp.csr_matrix((np.ones(len(cell)), (cell, gather[cell, place])), shape=shape)
    return AxisCells(members, areas.reshape(-1), gather)


def pooling(size: int, wavelet: str, levels: int, patches: int, geometry: Geometry) -> sp.csr_matrix:
    """Coefficients → cells along one axis: the sum over a cell (published) or its mean (balanced)."""
    cells = axis_cells(size, wavelet, levels, patches, geometry)
    if geometry == "published":
        return cells.members
    return cells.members.multiply(1 / cells.areas[:, None]).tocsr()
