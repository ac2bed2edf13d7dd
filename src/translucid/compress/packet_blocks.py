"""Plans for the kernel in explicit vectors (`haar_vectors`), and where it can be used."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from translucid.compress import haar_vectors as vectors
from translucid.compress.packet_kernel import HAAR, ROWS, Setting, Work, both_axes, lines_of


class BlockPlan(NamedTuple):
    """Tables for the loops; all bands have the same cells, because all have the same size.

    Attributes:
        bands: (S·S,) which band stands at a place of a block, row by row.
        row_edges, edges: (patches + 1,) cells of a band, down its rows and along its columns.
        row_weights, weights: (patches,) what their sums are multiplied with.
    """

    bands: np.ndarray
    row_edges: np.ndarray
    edges: np.ndarray
    row_weights: np.ndarray
    weights: np.ndarray


class Numbers(NamedTuple):
    """Types of a stored strip and of the accumulators, and after how many strips these must be emptied."""

    work: np.dtype
    sums: np.dtype
    cap: int


def alike(setting: Setting) -> bool:
    """Whether all bands have the same cells and are reduced to the sums of their magnitudes, with Haar."""
    whole = all(n % 2**setting.levels == 0 for n in setting.space)
    return setting.wavelet in HAAR and setting.reducers == ("l1",) and (whole or setting.geometry == "published")


def fits(setting: Setting, pixel: np.dtype) -> bool:
    """Whether the kernel can do it: bands alike, blocks no wider than a vector, sums of a cell in 32 bits."""
    return alike(setting) and setting.levels <= vectors.MOST and _numbers(setting, pixel).cap > 0


@lru_cache(maxsize=64)
def _numbers(setting: Setting, pixel: np.dtype) -> Numbers:
    """16 bits hold a strip of bytes up to eight levels, and the accumulators of a row of cells that is low enough."""
    if pixel.kind == "f":
        return Numbers(np.dtype(np.float32), np.dtype(np.float32), ROWS)
    plan = block_plan(setting)
    largest = np.iinfo(pixel).max * 4**setting.levels
    cap = (2**31 - 1) // (largest * int(np.diff(plan.edges).max()))
    short = pixel.itemsize == 1 and setting.levels + len(vectors.stages(setting.levels)[0]) <= vectors.SHORT
    low = short and largest * int(np.diff(plan.row_edges).max()) < 2**16
    return Numbers(np.dtype(np.int16 if short else np.int32), np.dtype(np.uint16 if low else np.int32), cap)


@lru_cache(maxsize=32)
def block_plan(setting: Setting) -> BlockPlan:
    """The tables, worked out once per setting."""
    rows, columns = both_axes(setting)
    lines = lines_of(setting.levels)
    bands = np.argsort((lines[:, 0] << setting.levels) + lines[:, 1])
    weights = rows.weights[0].astype(np.float32), columns.weights[0].astype(np.float32)
    return BlockPlan(bands, rows.edges[0], columns.edges[0], *weights)


@lru_cache(maxsize=32)
def _scaled(setting: Setting, unit: float) -> tuple[np.ndarray, ...]:
    """The tables for pixels of which one step means `unit`."""
    plan = block_plan(setting)
    return tuple(plan._replace(row_weights=plan.row_weights * np.float32(unit / 2**setting.levels)))


def _strips(setting: Setting) -> tuple[int, int, int]:
    """Rows of a strip, and height and width of a plane that is cut into whole strips and vectors."""
    side, wide = 2**setting.levels, vectors.lanes(setting.levels)
    return side, -(-setting.space[0] // side) * side, -(-setting.space[1] // wide) * wide


def blocks(planes: np.ndarray, out: np.ndarray, setting: Setting, unit: float) -> Work:
    """The work on planes (plane, height, width) → out (plane, band, *cell, 1), which must fit (see `fits`).

    A plane that is not cut into whole strips and vectors is copied into zeros first: to the published geometry they
    are its padding, and to the other they lie outside of all cells.
    """
    kinds, plan = _numbers(setting, planes.dtype), _scaled(setting, unit)
    side, height, pitch = _strips(setting)
    shape = ((0,) * setting.levels, *vectors.stages(setting.levels))
    codes = out.reshape(*out.shape[:2], out.shape[2] * out.shape[3])

    def work(start: int, stop: int) -> None:
        strip, sums = np.empty(pitch * side, kinds.work), np.empty(pitch * side, kinds.sums)
        cells = np.empty(codes.shape[1] * codes.shape[2], np.float32)

        def encode(images: np.ndarray, at: slice) -> None:
            vectors.haar_magnitudes(images, codes[at], *shape, strip, sums, cells, plan, kinds.cap)

        if (height, pitch) == setting.space:
            encode(planes[start:stop], slice(start, stop))
            return
        padded = np.zeros((1, height, pitch), planes.dtype)
        for i in range(start, stop):
            padded[0, : setting.space[0], : setting.space[1]] = planes[i]
            encode(padded, slice(i, i + 1))

    return work
