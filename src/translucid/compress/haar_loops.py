"""Loops of the fused Haar kernel: butterflies, |·| and pooling of a strip of rows that stays in the nearest cache.

The J-level Haar packet of an image is a Walsh–Hadamard transform of its blocks of S×S pixels, S = 2^J. A strip of S
rows is cut into tiles of a few blocks; a tile is transformed down its rows in place and along its columns from buffer
to buffer, and what comes out is added, magnitude by magnitude, to accumulators of one sub-band row. Only when a row of
cells is complete are the accumulators summed into cells. So no sub-band is ever stored. All sums are left unscaled
until then, which makes 8- and 16-bit images exact integer sums.

This module needs numba and is imported when first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

import numba
import numpy as np

L1, SUM, MAX, MIN, L2, POSITIVE, NEGATIVE = range(7)
"""Codes of the reducers; the loops cannot compare words."""


def compiled(function: Callable[..., Any], *, inline: bool = False) -> Callable[..., Any]:
    """Compile without the interpreter's lock; kept on disk where there is a place for it.

    Sums may be reordered for vector instructions; infinities and nan keep their meaning.
    """
    fast = {"reassoc", "nsz", "contract"}
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fast, "forceinline": inline}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither beside this file nor in the user's cache directory may be written
        return numba.njit(**options)(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of a loop: a call would cost as much as a short line of samples, for the counting of references."""
    return compiled(function, inline=True)


@inlined
@no_type_check
def _fill(image, top, left, turn, tile, width):
    """Copy a tile into the buffer, in the buffer's type, zeros outside of the image; turned: last row first."""
    side, t = tile.shape[0] // width, tile.dtype.type
    columns = min(width, image.shape[1] - left)
    for r in range(side):
        y = top + (side - 1 - r if turn else r)
        line = tile[r * width : (r + 1) * width]
        if y >= image.shape[0]:
            line[:] = t(0)
            continue
        source = image[y, left : left + columns]
        for c in range(columns):
            line[c] = t(source[c])
        line[columns:] = t(0)


@inlined
@no_type_check
def _part(size, digits, levels):
    """Samples of the band with these binary digits (the first level's is the lowest bit) of a line of `size`."""
    for level in range(levels):
        size = size >> 1 if (digits >> level) & 1 else (size + 1) >> 1
    return size


@inlined
@no_type_check
def _rows4(tile, width, step):
    """Two levels down the rows, in place."""
    t = tile.dtype.type
    for r in range(tile.shape[0] // width):
        if (r // step) % 4:
            continue
        x0 = tile[r * width : (r + 1) * width]
        x1 = tile[(r + step) * width : (r + step + 1) * width]
        x2 = tile[(r + 2 * step) * width : (r + 2 * step + 1) * width]
        x3 = tile[(r + 3 * step) * width : (r + 3 * step + 1) * width]
        for c in range(width):
            s, d = t(x0[c] + x1[c]), t(x0[c] - x1[c])
            u, e = t(x2[c] + x3[c]), t(x2[c] - x3[c])
            x0[c], x1[c], x2[c], x3[c] = t(s + u), t(d + e), t(s - u), t(d - e)


@inlined
@no_type_check
def _rows2(tile, width, step):
    """One level down the rows, in place."""
    t = tile.dtype.type
    for r in range(tile.shape[0] // width):
        if (r // step) % 2:
            continue
        x0 = tile[r * width : (r + 1) * width]
        x1 = tile[(r + step) * width : (r + step + 1) * width]
        for c in range(width):
            u, v = x0[c], x1[c]
            x0[c], x1[c] = t(u + v), t(u - v)


@inlined
@no_type_check
def _rows(tile, width, levels, real):
    """All levels down the rows; `real` rows < 2^levels: odd bands are extended by their last row, level by level."""
    if real == 1 << levels:
        for level in range(0, levels - 1, 2):
            _rows4(tile, width, 1 << level)
        if levels % 2:
            _rows2(tile, width, 1 << (levels - 1))
        return
    for level in range(levels):
        for band in range(1 << level):
            n = _part(real, band, level)
            if n % 2:
                last, after = (((n - 1) << level) | band) * width, ((n << level) | band) * width
                for c in range(width):
                    tile[after + c] = tile[last + c]
        _rows2(tile, width, 1 << level)


@inlined
@no_type_check
def _columns4(x, y):
    """Two levels along the columns; the newest digit becomes the slowest index."""
    t = y.dtype.type
    n = x.shape[0] // 4
    y0, y1, y2, y3 = y[:n], y[n : 2 * n], y[2 * n : 3 * n], y[3 * n : 4 * n]
    for i in range(n):
        a, b, c, d = t(x[4 * i]), t(x[4 * i + 1]), t(x[4 * i + 2]), t(x[4 * i + 3])
        s, f, u, e = t(a + b), t(a - b), t(c + d), t(c - d)
        y0[i], y1[i], y2[i], y3[i] = t(s + u), t(f + e), t(s - u), t(f - e)


@inlined
@no_type_check
def _columns2(x, y):
    """One level along the columns."""
    t = y.dtype.type
    n = x.shape[0] // 2
    y0, y1 = y[:n], y[n : 2 * n]
    for i in range(n):
        a, b = t(x[2 * i]), t(x[2 * i + 1])
        y0[i], y1[i] = t(a + b), t(a - b)


@inlined
@no_type_check
def _extend(x, lines, width, level, real):
    """Before a level along the columns: bands of odd size are extended by their last sample."""
    for band in range(1 << level):
        n = _part(real, band, level)
        if n % 2:
            for line in range(band * lines, (band + 1) * lines):
                x[line * width + n] = x[line * width + n - 1]


@inlined
@no_type_check
def _columns(x, y, levels, lines, width, real):
    """Some levels along the columns, from buffer to buffer; True where the result lies in y."""
    done, inside = 0, real == width
    swapped = False
    while done < levels:
        a, b = (y, x) if swapped else (x, y)
        if inside and levels - done >= 2:
            _columns4(a, b)
            done += 2
        else:
            if not inside:
                _extend(a, lines, width >> done, done, real)
            _columns2(a, b)
            done += 1
        swapped = not swapped
    return swapped


@inlined
@no_type_check
def _last4(x, sums):
    """The last two levels along the columns, and |·| added to the accumulator, all in the accumulator's type."""
    t = sums.dtype.type
    n = x.shape[0] // 4
    s0, s1, s2, s3 = sums[:n], sums[n : 2 * n], sums[2 * n : 3 * n], sums[3 * n : 4 * n]
    for i in range(n):
        a, b, c, d = t(x[4 * i]), t(x[4 * i + 1]), t(x[4 * i + 2]), t(x[4 * i + 3])
        s, f, u, e = t(a + b), t(a - b), t(c + d), t(c - d)
        p, q, r, w = t(s + u), t(f + e), t(s - u), t(f - e)
        s0[i] = t(s0[i] + max(p, t(-p)))
        s1[i] = t(s1[i] + max(q, t(-q)))
        s2[i] = t(s2[i] + max(r, t(-r)))
        s3[i] = t(s3[i] + max(w, t(-w)))


@inlined
@no_type_check
def _last2(x, sums):
    """The last level along the columns, and |·| added to the accumulator."""
    t = sums.dtype.type
    n = x.shape[0] // 2
    s0, s1 = sums[:n], sums[n : 2 * n]
    for i in range(n):
        a, b = t(x[2 * i]), t(x[2 * i + 1])
        p, q = t(a + b), t(a - b)
        s0[i] = t(s0[i] + max(p, t(-p)))
        s1[i] = t(s1[i] + max(q, t(-q)))


@inlined
@no_type_check
def _accumulate_signed(x, sums, kind, sign, threshold):
    """Add the values times ±1, all of them or those beyond the threshold on one side."""
    v = sums.dtype.type
    g, h = v(sign), v(threshold)
    if kind == SUM:
        for i in range(x.shape[0]):
            sums[i] = v(sums[i] + v(g * v(x[i])))
    elif kind == POSITIVE:
        for i in range(x.shape[0]):
            c = v(g * v(x[i]))
            sums[i] = v(sums[i] + (c if c > h else v(0)))
    else:
        for i in range(x.shape[0]):
            c = v(g * v(x[i]))
            sums[i] = v(sums[i] + (c if c < -h else v(0)))


@inlined
@no_type_check
def accumulate(x, sums, kind, sign, threshold):
    """Add one stretch of coefficients, times ±1, to an accumulator."""
    v = sums.dtype.type
    g = v(sign)
    if kind == L1:
        for i in range(x.shape[0]):
            c = v(x[i])
            sums[i] = v(sums[i] + max(c, v(-c)))
    elif kind == L2:
        for i in range(x.shape[0]):
            sums[i] = v(sums[i] + v(v(x[i]) * v(x[i])))
    elif kind == MAX:
        for i in range(x.shape[0]):
            sums[i] = max(sums[i], v(g * v(x[i])))
    elif kind == MIN:
        for i in range(x.shape[0]):
            sums[i] = min(sums[i], v(g * v(x[i])))
    else:
        _accumulate_signed(x, sums, kind, sign, threshold)


@inlined
@no_type_check
def gather(sums, places, kind, cells):
    """Reduce accumulators to cells: places[j, c] is the j-th sample of cell c, or the neutral last entry."""
    v = sums.dtype.type
    out = cells[: places.shape[1]]
    out[:] = sums[sums.shape[0] - 1]
    for j in range(places.shape[0]):
        at = places[j]
        if kind == MAX:
            for c in range(out.shape[0]):
                out[c] = max(out[c], sums[at[c]])
        elif kind == MIN:
            for c in range(out.shape[0]):
                out[c] = min(out[c], sums[at[c]])
        else:
            for c in range(out.shape[0]):
                out[c] = v(out[c] + sums[at[c]])


@inlined
@no_type_check
def _merge(cells, out, f, row, kind, scale, lines, row_weights, weights):
    """Merge one row of cells, in the order of the codes, into the codes of one reducer."""
    patches = out.shape[2]
    for b in range(out.shape[0]):
        y, at = row[lines[b]], b * patches
        if y >= out.shape[1]:
            continue
        s = np.float32(scale)
        if kind == MAX:
            for p in range(patches):
                out[b, y, p, f] = max(out[b, y, p, f], np.float32(cells[at + p]) * s)
        elif kind == MIN:
            for p in range(patches):
                out[b, y, p, f] = min(out[b, y, p, f], np.float32(cells[at + p]) * s)
        else:
            s *= row_weights[lines[b], y]
            for p in range(patches):
                out[b, y, p, f] += np.float32(cells[at + p]) * s * weights[at + p]


@inlined
@no_type_check
def tile_width(columns, left, side, blocks):
    """Columns of the tile that starts at `left`: whole blocks as far as there are any, an incomplete block alone."""
    whole = columns // side * side
    return min(blocks * side, whole - left) if left < whole else side


@inlined
@no_type_check
def _odd(digits):
    """Whether the number of ones is odd: so many differences were taken the other way round."""
    ones = 0
    while digits:
        ones, digits = ones + (digits & 1), digits >> 1
    return ones % 2 == 1


@inlined
@no_type_check
def _strip(image, top, levels, turn, blocks, buffers, sums, kinds, threshold):
    """Transform one strip tile by tile and add it to the accumulators."""
    side = 1 << levels
    rows = side if turn else min(side, image.shape[0] - top)
    done = left = 0
    while left < image.shape[1]:
        w = tile_width(image.shape[1], left, side, blocks)
        n = w * side
        x, y = buffers[0, :n], buffers[1, :n]
        columns = w if turn else min(w, image.shape[1] - left)
        _fill(image, top, left, turn, x, w)
        _rows(x, w, levels, rows)
        at_once = kinds.shape[0] == 1 and kinds[0] == L1 and columns == w
        z = y if _columns(x, y, max(levels - 2, 0) if at_once else levels, side, w, columns) else x
        if at_once and levels == 1:
            _last2(z, sums[0, done : done + n])
        elif at_once:
            _last4(z, sums[0, done : done + n])
        else:
            for f in range(kinds.shape[0]):
                for q in range(side):
                    sign = -1 if turn and _odd(q) else 1
                    a, b = q * (n // side), (q + 1) * (n // side)
                    accumulate(z[a:b], sums[f, done + a : done + b], kinds[f], sign, threshold)
        done, left = done + n, left + w


@compiled
@no_type_check
def haar_planes(images, out, levels, turn, blocks, buffers, sums, neutral, cells, kinds, scales, threshold, plan, cap):
    """Codes of many planes (plane, height, width) → out (plane, band, *cell, reducer), which is overwritten.

    Args:
        plan: the fields of `packet_kernel.HaarPlan`.
        cap: strips after which the accumulators are emptied at the latest, so that they neither overflow nor blur.
    """
    places, lines, weights, row_edges, row_weights = plan
    side = 1 << levels
    strips = -(-images.shape[1] // side)
    row = np.zeros(side, np.int64)
    for f in range(kinds.shape[0]):
        out[..., f] = -np.inf if kinds[f] == MAX else np.inf if kinds[f] == MIN else 0.0
        sums[f, :] = neutral[f]
    for i in range(images.shape[0]):
        row[:] = 0
        waiting = 0
        for strip in range(strips):
            for r in range(side):
                while row[r] < out.shape[2] and row_edges[r, row[r] + 1] <= strip:
                    row[r] += 1
            _strip(images[i], strip * side, levels, turn, blocks, buffers, sums, kinds, threshold)
            waiting += 1
            full = waiting == cap or strip == strips - 1
            for r in range(side):
                full = full or (row[r] < out.shape[2] and row_edges[r, row[r] + 1] == strip + 1)
            if not full:
                continue
            waiting = 0
            for f in range(kinds.shape[0]):
                line = sums[f]
                gather(line, places, kinds[f], cells)
                _merge(cells, out[i], f, row, kinds[f], scales[f], lines, row_weights, weights)
                for j in range(line.shape[0]):
                    line[j] = neutral[f]
