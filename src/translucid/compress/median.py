"""The median stage: a wide median filter evaluated only where its result is kept.

Two paths give the same numbers: a plain one (gather the windows, sort them) for every device and for gradients, and a
compiled one for float32 and float64 on a CPU, which sorts columns once and merges sorted blocks shared by neighbours.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from translucid.compress.networks import Program, Window, median_program, ranks, reflect
from translucid.errors import ConfigError, ShapeError
from translucid.types import Space

Planes = Float[Tensor, "batch channel height width"]
Medians = Float[Tensor, "batch channel rows columns"]

CHUNK_VALUES = 2**22


def published_window(space: Space) -> Window:
    """The published window, 12 pixels every 2 at 320×320, scaled to another size.

    stride = max(1, round(n / 160)) with n the shorter side, size = 6·stride. That it scales is our reading: the
    authors had one size only.

    Example:
        >>> published_window((320, 320)), published_window((640, 800))
        (Window(size=12, stride=2), Window(size=24, stride=4))
    """
    stride = max(1, int(min(space) / 160 + 0.5))
    return Window(6 * stride, stride)


def median_sample(
    images: Planes, rows: Sequence[int] | None = None, window: Window | None = None, compiled: bool | None = None
) -> Medians:
    """Median over a sliding window, computed for some rows of the output only.

    m[i, j] = median of x over rows stride·i − p … + size − 1 and columns likewise, reflected at the edges; with an
    even number of values the mean of the two middle ones (the 0.5 quantile with interpolation).

    Args:
        images: (batch, channel, height, width).
        rows: rows of the output grid to compute; None means all.
        window: size and stride in pixels; None means the published one, scaled from 320×320.
        compiled: True asks for the compiled path, False for the plain one; None takes the compiled one for float32 and
            float64 on a CPU where no gradient is asked.

    Returns:
        (batch, channel, rows, columns of the grid).

    Raises:
        ShapeError: the image is empty.
        ConfigError: a row lies outside the grid.

    Example:
        >>> x = torch.arange(16.0).view(1, 1, 4, 4)
        >>> median_sample(x, rows=[1], window=Window(2, 2))[0, 0]
        tensor([[10.5000, 12.5000]])

    Source: Johnson et al., HeartSpot, 2022, arXiv:2210.02241 (12×12, stride 2). Batcher, Sorting networks and
    their applications, 1968, doi:10.1145/1468075.1468121 (the compiled path).

    Fails when: images hold nan; the two paths then differ, and neither is a median.
    """
    space = (images.shape[2], images.shape[3])
    if min(space) < 1:
        raise ShapeError(f"the median needs an image of at least one pixel, got {space}")
    window = window or published_window(space)
    grid = window.grid(space)
    wanted = range(grid[0]) if rows is None else rows
    if any(not 0 <= r < grid[0] for r in wanted):
        raise ConfigError(f"median rows must lie in 0…{grid[0] - 1} for an image of {space}, got {list(wanted)}")
    at_rows = window.sources(space[0])[np.asarray(wanted, dtype=np.int64)]
    if compiled is None:
        tracked = torch.is_grad_enabled() and images.requires_grad
        compiled = images.device.type == "cpu" and images.dtype in (torch.float32, torch.float64) and not tracked
    path = _compiled if compiled else _plain
    return path(images, at_rows, window)


# -- plain path ---------------------------------------------------------------------------------------------------


def _plain(images: Tensor, at_rows: np.ndarray, window: Window) -> Tensor:
    """Gather every window and sort it, a few rows at a time."""
    at_columns = window.sources(images.shape[3])
    values = images.shape[0] * images.shape[1] * len(at_columns) * window.size**2
    step = max(1, CHUNK_VALUES // max(values, 1))
    columns = torch.from_numpy(at_columns).to(images.device)
    low, high = ranks(window.size**2)
    done = [images.new_empty((*images.shape[:2], 0, len(at_columns)))]
    for start in range(0, len(at_rows), step):
        some = torch.from_numpy(at_rows[start : start + step]).to(images.device)
        windows = images[:, :, some[:, None, :, None], columns[None, :, None, :]].flatten(-2)
        ordered = windows.sort(-1).values
        done.append((ordered[..., low] + ordered[..., high]) * 0.5)
    return torch.cat(done, 2)


# -- compiled path ------------------------------------------------------------------------------------------------


def _compiled(images: Tensor, at_rows: np.ndarray, window: Window) -> Tensor:
    """Run the program over all rows of all images, images shared out among torch's number of threads."""
    program = median_program(window)
    columns, lanes = columns_of(window, program, images.shape[3])
    source = images.detach().contiguous().flatten(0, 1).numpy()
    out = np.empty((len(source), len(at_rows), window.grid((1, images.shape[3]))[1]), source.dtype)
    stride = window.stride // program.block
    kernel = _kernel()

    def run(part: slice) -> None:
        table = np.zeros((program.rows, lanes), source.dtype)
        table[-2:] = [[-np.inf], [np.inf]]
        kernel(source[part], at_rows, columns, program.steps, program.results, stride, table, out[part])

    threads = max(1, min(torch.get_num_threads(), len(source)))
    edges = [len(source) * k // threads for k in range(threads + 1)]
    if threads == 1:
        run(slice(None))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, map(slice, edges[:-1], edges[1:])))
    return torch.from_numpy(out).unflatten(0, images.shape[:2])


def columns_of(window: Window, program: Program, width: int) -> tuple[np.ndarray, int]:
    """Pixel column behind each column of a block at each position, (block, position), and the number of positions.

    Positions are filled up to a multiple of eight, which suits the vector units; the surplus is not read.
    """
    count = window.grid((1, width))[1]
    before = max((count - 1) * window.stride + window.size - width, 0) // 2
    lanes = (count - 1) * (window.stride // program.block) + program.blocks
    lanes += -lanes % 8
    places = np.arange(lanes * program.block).reshape(lanes, program.block).T - before
    return reflect(places, width).copy(), lanes


@lru_cache(maxsize=1)
def _kernel() -> Callable[..., None]:
    """Compile on first use: about a second, and only for those who use it."""
    import numba

    def compiled(function: Callable[..., None]) -> Callable[..., None]:
        # Under test the functions are wrapped by a checker of annotations, which numba cannot compile.
        return numba.njit(nogil=True)(inspect.unwrap(function))

    load, apply = compiled(_load), compiled(_apply)

    def run(
        images: Any, at_rows: Any, columns: Any, steps: Any, results: Any, stride: Any, work: Any, out: Any
    ) -> None:
        half = out.dtype.type(0.5)
        low, high = work[results[0]], work[results[1]]
        for n in range(images.shape[0]):
            for r in range(at_rows.shape[0]):
                load(images[n], at_rows[r], columns, work)
                for s in range(steps.shape[0]):
                    apply(steps[s], work)
                for v in range(out.shape[2]):
                    out[n, r, v] = (low[v * stride] + high[v * stride]) * half

    return compiled(run)


def _load(image: Any, rows: Any, columns: Any, work: Any) -> None:
    """Copy the pixels under one output row to the work rows, one per place in a block."""
    for p in range(columns.shape[0]):
        for k in range(rows.shape[0]):
            source, target, column = image[rows[k]], work[p * rows.shape[0] + k], columns[p]
            for v in range(target.shape[0]):
                target[v] = source[column[v]]


def _apply(step: Any, work: Any) -> None:
    """One row operation of a `Program`; written with conditional expressions because these become vector minima."""
    shift = step[4]
    t, x, y = work[step[1]], work[step[2]], work[step[3]][shift:]
    if step[0] == 1:
        for v in range(x.shape[0]):
            a, b = x[v], y[v]
            x[v] = a if a < b else b
            y[v] = b if a < b else a
    elif step[0] == 0:
        x = x[shift:]
        for v in range(x.shape[0]):
            t[v] = x[v]
    else:
        for v in range(y.shape[0]):
            a, b, c = x[v], y[v], t[v]
            a = a if a > b else b
            t[v] = a if a < c else c
