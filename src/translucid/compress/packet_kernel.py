"""The fast way on the processor: plans for the compiled loops, and the decision when to take it."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from translucid.compress.cells import BOUNDARY, Geometry, cell_edges
from translucid.compress.packet import band_sizes, taps
from translucid.compress.reducers import THRESHOLD
from translucid.types import Space

KINDS = {"l1": 0, "sum": 1, "max": 2, "min": 3, "l2": 4, "sum_pos": 5, "sum_neg": 6}
"""Codes of the reducers in the loops; the median has no running accumulator and is left to the tensors."""
UNIT = {torch.uint8: 1 / 255, torch.uint16: 1 / 65535, torch.float32: 1.0}
"""What one step of a pixel type means."""
HAAR = ("haar", "db1")
WORTH_IT = 128 * 128
"""Pixels of an image from which the loops, which are compiled at first use, are taken. A rule on the single image, so
that codes do not depend on what else is in the batch."""
TILE = 2048
"""Coefficients of a tile: two buffers and an accumulator of that many floats fit the nearest cache."""
LINES = 4096
"""Samples of the lines of a filter bank that are split at a time."""
ROWS = 64
"""Rows after which an accumulator in single precision is emptied, to keep rounding at the level of the sums."""


Work = Callable[[int, int], None]
"""Encodes the planes from the first number to before the second."""


class Setting(NamedTuple):
    """What a plan depends on."""

    space: Space
    wavelet: str
    levels: int
    grid: tuple[int, ...]
    reducers: tuple[str, ...]
    geometry: Geometry


class Axis(NamedTuple):
    """Cells of the bands of one axis, in the order of the codes.

    Attributes:
        edges: (band, patches + 1), cut to the band.
        weights: (band, patches) 1/length in the balanced geometry, else 1.
        padded: (patches,) whether a cell reaches into the zero padding.
    """

    edges: np.ndarray
    weights: np.ndarray
    padded: np.ndarray


def applies(images: Tensor, setting: Setting) -> bool:
    """Whether the loops can do it: 2-D, on the processor, float32, uint8 or uint16, no gradients, no median."""
    return (
        images.device.type == "cpu"
        and images.dtype in UNIT
        and len(setting.space) == 2
        and setting.space[0] * setting.space[1] >= WORTH_IT
        and min(setting.space) >= 2**setting.levels
        and "median" not in setting.reducers
        and not (images.requires_grad and torch.is_grad_enabled())
    )


def encode(images: Tensor, setting: Setting) -> Tensor:
    """Codes of images for which `applies` holds; equal to the tensors' way to 1e-5 of the largest code.

    Images of 8 and 16 bits are summed as integers with Haar (but for `l2`), exactly as long as 32 bits hold the sums of
    a cell, and scaled to [0, 1] at the end; else they become floats, one plane at a time. The planes of a
    batch are shared out among `torch.get_num_threads()` threads; each needs memory for a strip (Haar) or two images.

    Example:
        >>> setting = Setting((128, 128), "haar", 2, (4, 4), ("l1",), "balanced")
        >>> images = torch.full((1, 1, 128, 128), 51, dtype=torch.uint8)
        >>> encode(images, setting)[0, 0, :2]
        tensor([0.8000, 0.8000])
    """
    planes = images.detach().contiguous().reshape(-1, *setting.space)
    shape = (planes.shape[0], 4**setting.levels, *setting.grid, len(setting.reducers))
    out = torch.empty(shape, dtype=torch.float32)
    run = _fitting(setting, planes.numpy().dtype)
    _share(run(planes.numpy(), out.numpy(), setting, UNIT[images.dtype]), planes.shape[0])
    _include_padding(out, setting)
    return out.reshape(*images.shape[:2], math.prod(shape[1:]))


def _fitting(setting: Setting, pixel: np.dtype) -> Callable[[np.ndarray, np.ndarray, Setting, float], Work]:
    if setting.wavelet not in HAAR:
        return _bank
    from translucid.compress import packet_blocks

    return packet_blocks.blocks if packet_blocks.fits(setting, pixel) else _haar


@lru_cache(maxsize=1)
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="translucid")


def _share(work: Work, planes: int) -> None:
    """Run work(start, stop) on equal parts, one per thread; after a fork the threads are made anew."""
    count = min(torch.get_num_threads(), planes)
    if count <= 1:
        work(0, planes)
        return
    edges = [i * planes // count for i in range(count + 1)]
    pool = _threads(os.getpid(), torch.get_num_threads())
    parts = [pool.submit(work, a, b) for a, b in itertools.pairwise(edges[1:])]
    work(edges[0], edges[1])
    for part in parts:
        part.result()


def _axis(size: int, patches: int, levels: int, geometry: Geometry) -> Axis:
    sizes = band_sizes(size, levels, BOUNDARY[geometry])
    edges = np.array([cell_edges(n, patches, geometry) for n in sizes], dtype=np.int64)
    weights = 1 / np.diff(edges, axis=1) if geometry == "balanced" else np.ones((len(sizes), patches))
    padded = (edges[0, :-1] < 0) | (edges[0, 1:] > sizes[0])
    return Axis(np.clip(edges, 0, np.array(sizes)[:, None]), weights, padded)


@lru_cache(maxsize=64)
def both_axes(setting: Setting) -> tuple[Axis, Axis]:
    """The cells of the bands of the rows and of the columns."""
    (h, w), (p, q) = setting.space, setting.grid
    return _axis(h, p, setting.levels, setting.geometry), _axis(w, q, setting.levels, setting.geometry)


def _include_padding(out: Tensor, setting: Setting) -> None:
    """Zeros of the published padding count among the extremes of a cell."""
    if not {"max", "min"} & {*setting.reducers}:
        return
    rows, columns = both_axes(setting)
    touched = torch.from_numpy(rows.padded[:, None] | columns.padded[None, :])
    for f, name in enumerate(setting.reducers):
        if name in ("max", "min") and bool(touched.any()):
            values = out[:, :, touched, f]
            out[:, :, touched, f] = values.clamp(min=0) if name == "max" else values.clamp(max=0)


class Accumulators(NamedTuple):
    """How coefficients are reduced: codes of the reducers, their scales, and what an empty accumulator holds."""

    kinds: np.ndarray
    scales: np.ndarray
    threshold: float
    neutral: np.ndarray


def _accumulators(setting: Setting, scale: float, kind: np.dtype) -> Accumulators:
    """`scale` turns a coefficient of the loops into one of the transform."""
    low, high = (np.iinfo(kind).min, np.iinfo(kind).max) if kind.kind == "i" else (-np.inf, np.inf)
    neutral = [{"max": low, "min": high}.get(name, 0) for name in setting.reducers]
    scales = [scale**2 if name == "l2" else scale for name in setting.reducers]
    threshold = THRESHOLD / scale
    return Accumulators(
        np.array([KINDS[n] for n in setting.reducers], dtype=np.int64),
        np.array(scales, dtype=np.float64),
        float(np.floor(threshold)) if kind.kind == "i" else threshold,
        np.array(neutral, dtype=kind),
    )


# -- Haar -----------------------------------------------------------------------------------------------------------


class HaarPlan(NamedTuple):
    """Tables for the loops, in which the first level's digit is the lowest bit of the index of a line.

    Attributes:
        places: (widest cell, band · cell) → entry of the accumulators; the last entry is the neutral one.
        lines: (band,) which of the 2^J lines of an axis its rows come from.
        weights: (band · cell,) what a sum over the columns is multiplied with.
        row_edges, row_weights: (line, …) as in `Axis`.
    """

    places: np.ndarray
    lines: np.ndarray
    weights: np.ndarray
    row_edges: np.ndarray
    row_weights: np.ndarray


def _turned(levels: int) -> np.ndarray:
    """Numbers below 2^levels with their binary digits in reverse order."""
    return np.array([int(f"{i:0{levels}b}"[::-1], 2) for i in range(2**levels)])


def lines_of(levels: int) -> np.ndarray:
    """(band, 2) which line of a block's rows, and of its columns, a band comes from; finest level in the lowest bit."""
    return _turned(levels)[np.array([_digits(b, levels) for b in range(4**levels)])]


@lru_cache(maxsize=32)
def _haar_plan(setting: Setting, blocks: int) -> HaarPlan:
    rows, columns = both_axes(setting)
    levels, side = setting.levels, 2**setting.levels
    turned = _turned(levels)
    lines = lines_of(levels)
    edges = columns.edges[turned][lines[:, 1]]
    places = _places(setting.space[1], side, blocks, edges, lines)
    weights = columns.weights[turned][lines[:, 1]].reshape(-1).astype(np.float32)
    row_weights = rows.weights[turned].astype(np.float32)
    return HaarPlan(places, lines[:, 0], weights, rows.edges[turned], row_weights)


def _places(width: int, side: int, blocks: int, edges: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Where in the accumulators, tile after tile (column line, row line, place), the samples of each cell lie."""
    from translucid.compress.haar_loops import tile_width

    starts: list[int] = []
    counts: list[int] = []
    local: list[int] = []
    left = done = 0
    while left < width:
        w = tile_width(width, left, side, blocks)
        starts += [done] * (w // side)
        counts += [w // side] * (w // side)
        local += range(w // side)
        left, done = left + w, done + w * side
    first, count, inner = (np.array([*v, 0], dtype=np.int64) for v in (starts, counts, local))
    widths = np.diff(edges, axis=1)
    k = edges[:, :-1, None] + np.arange(max(int(widths.max()), 1))  # (band, cell, sample)
    there = np.arange(k.shape[2]) < widths[..., None]
    k = np.where(there, k, len(first) - 1)
    line = (lines[:, 1] * side + lines[:, 0])[:, None, None]
    at = np.where(there, first[k] + line * count[k] + inner[k], done)
    return np.ascontiguousarray(at.reshape(-1, k.shape[2]).T.astype(np.uint32))


def _haar(planes: np.ndarray, out: np.ndarray, setting: Setting, unit: float) -> Work:
    from translucid.compress.haar_loops import haar_planes

    levels, side = setting.levels, 2**setting.levels
    blocks = max(1, TILE // side**2)
    plan = _haar_plan(setting, blocks)
    pixel, kind, cap = _number_types(planes.dtype, setting, plan.places.shape[0])
    reduce = _accumulators(setting, unit / side, kind)
    buffer = min(blocks, -(-setting.space[1] // side)) * side**2
    entries = -(-setting.space[1] // side) * side**2
    turn = setting.geometry == "published"
    convert = pixel == np.float32 and planes.dtype != np.float32

    def work(start: int, stop: int) -> None:
        buffers, sums = np.empty((2, buffer), pixel), np.empty((len(reduce.kinds), entries + 1), kind)
        cells = np.empty(plan.places.shape[1], kind)
        for first in range(start, stop) if convert else [start]:
            part = slice(first, first + 1 if convert else stop)
            haar_planes(
                planes[part].astype(np.float32) if convert else planes[part],
                out[part],
                levels,
                turn,
                blocks,
                buffers,
                sums,
                reduce.neutral,
                cells,
                reduce.kinds,
                reduce.scales,
                reduce.threshold,
                tuple(plan),
                cap,
            )

    return work


def _number_types(pixel: np.dtype, setting: Setting, widest: int) -> tuple[type, np.dtype, int]:
    """Types of the buffers and of the accumulators, and after how many strips these must be emptied.

    8 bits grow by one with every level along an axis, and stand 2·J − 2 levels in the buffers when the last two are
    taken on the way to the accumulators. Few combinations, because each is compiled on its own.
    """
    single = np.float32, np.dtype(np.float32), ROWS
    if pixel.kind == "f" or "l2" in setting.reducers:
        return single
    bits = 8 * pixel.itemsize
    cap = (2**31 - 1) // (2 ** (bits + 2 * setting.levels) * widest)
    if cap < 1:
        return single
    whole = setting.levels <= 3 or (setting.levels == 4 and setting.space[1] % 16 == 0)
    short = bits == 8 and whole and setting.reducers == ("l1",)
    return np.int16 if short else np.int32, np.dtype(np.int32), min(cap, ROWS)


# -- any wavelet ----------------------------------------------------------------------------------------------------


class BankPlan(NamedTuple):
    """Tables of the cascade; see `bank_loops.bank_plane`."""

    taps: np.ndarray
    shift: int
    bands: np.ndarray
    strides: np.ndarray
    most: np.ndarray
    buffer: int
    width: int
    places: np.ndarray
    row_edges: np.ndarray
    row_weights: np.ndarray
    column_weights: np.ndarray


@lru_cache(maxsize=32)
def _bank_plan(setting: Setting) -> BankPlan:
    rows, columns = both_axes(setting)
    boundary, levels = BOUNDARY[setting.geometry], setting.levels
    filters = taps(setting.wavelet, boundary).analysis
    length = filters.shape[1]
    padded = np.zeros((2, -(-length // 4) * 4), dtype=np.float32)
    padded[:, :length] = filters
    bands = np.zeros((levels, 4 ** (levels - 1), 5), dtype=np.int64)
    strides = np.zeros((levels, 2), dtype=np.int64)
    buffer, stored = 0, setting.space[1]
    for level in range(levels):
        heights, widths = (band_sizes(n, level, boundary) for n in setting.space)
        strides[level] = stored, (max(widths) + 1) // 2 * 2 + padded.shape[1]
        start = 0
        for g in range(4**level):
            r, c = _digits(g, level)
            bands[level, g] = start, heights[r], widths[c], r, c
            start += heights[r] * stored
        buffer, stored = max(buffer, start if level else 0), int(strides[level, 1]) // 2
    width = int(columns.edges.max())
    at = columns.edges[:, :-1, None] + np.arange(int(np.diff(columns.edges).max()))
    at = np.where(at < columns.edges[:, 1:, None], at, width)  # the neutral entry stands last
    places = np.ascontiguousarray(at.transpose(0, 2, 1).astype(np.uint32))
    most = np.maximum(1, LINES // strides[:, 1])
    tables = (places, rows.edges, rows.weights, columns.weights.astype(np.float32))
    return BankPlan(padded, length // 2 - 1, bands, strides, most, buffer, width, *tables)


def _digits(band: int, levels: int) -> tuple[int, int]:
    """Base-4 digits 2·row + column → the band's index along either axis."""
    row = column = 0
    for level in reversed(range(levels)):
        digit = (band >> (2 * level)) & 3
        row, column = 2 * row + (digit >> 1), 2 * column + (digit & 1)
    return row, column


def _bank(planes: np.ndarray, out: np.ndarray, setting: Setting, unit: float) -> Work:
    from translucid.compress.bank_loops import bank_plane

    plan = _bank_plan(setting)
    wrap = setting.geometry == "balanced"
    sums = _accumulators(setting, unit, np.dtype(np.float32))
    longest = int((plan.most * plan.strides[:, 1]).max())

    def buffer(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    def work(start: int, stop: int) -> None:
        even, odd = buffer(longest // 2 + plan.taps.shape[1]), buffer(longest // 2 + plan.taps.shape[1])
        lines = (buffer(2, longest), buffer(setting.space[1]), (even, odd, buffer(int(plan.most.max()))))
        near, far = buffer(plan.buffer), buffer(plan.buffer)
        cells = buffer(setting.grid[1])
        accumulators = buffer(len(sums.kinds), 2, 2, plan.width + 1)
        step = int(plan.strides[-1, 1] * plan.most[-1]) // 2
        children = buffer(4 * step)
        for i in range(start, stop):
            bank_plane(
                planes[i].astype(np.float32, copy=False).reshape(-1),
                out[i],
                (plan.shift, wrap, plan.taps),
                plan.bands,
                plan.strides,
                plan.most,
                near,
                far,
                lines,
                children,
                accumulators,
                (sums.kinds, sums.scales, sums.threshold, sums.neutral, cells),
                (plan.places, plan.row_edges, plan.row_weights, plan.column_weights),
                ROWS,
            )

    return work
