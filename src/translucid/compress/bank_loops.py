"""Loops of the filter-bank kernel: a cascade of any wavelet, level by level, in buffers that stay in the cache.

A level takes a band a few rows at a time: the taps run down the rows first, which gives low and high lines, and along
these next, which gives rows of the four children. Lines stand one behind the other in a buffer, far enough apart for
the filter, so that one loop runs along all of them. At the last level the children are not stored but reduced: their
rows are added to accumulators, which are summed into cells when a row of cells is complete.

This module needs numba and is imported when first used.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from translucid.compress.haar_loops import MAX, MIN, accumulate, compiled, gather, inlined

ROOT2 = np.float32(2**0.5)


@inlined
@no_type_check
def _taps4(out, a, b, c, d, taps, j):
    """Four taps of one filter. One filter at a time: with two results and four sources there are more pairs to be
    checked for overlap than the compiler is willing to, and it would not use vectors.
    """
    t0, t1, t2, t3 = taps[j], taps[j + 1], taps[j + 2], taps[j + 3]
    if j:
        for i in range(out.shape[0]):
            out[i] += t0 * a[i] + t1 * b[i] + t2 * c[i] + t3 * d[i]
    else:
        for i in range(out.shape[0]):
            out[i] = t0 * a[i] + t1 * b[i] + t2 * c[i] + t3 * d[i]


@inlined
@no_type_check
def _source(at, size, wrap):
    """Which row or column the tap at position `at` reads: −1 for a zero."""
    if wrap:
        return at % (size - size % 2)
    return at if 0 <= at < size else -1


@inlined
@no_type_check
def _row(band, y, stored, width, zeros):
    """Row y of a band, or a row of zeros."""
    return band[y * stored : y * stored + width] if y >= 0 else zeros[:width]


@inlined
@no_type_check
def _down(band, shape, k, filters, zeros, lines, at):
    """Row k of the low and of the high half of a band, filtered down the rows, to two lines at `at`.

    The last row of a band of odd height stands alone: it goes to the low half, as bright as its neighbours.
    """
    height, width, stored = shape
    shift, wrap, taps = filters
    if wrap and k == height // 2:
        low, last = lines[0, at : at + width], band[(height - 1) * stored : (height - 1) * stored + width]
        for i in range(width):
            low[i] = ROOT2 * last[i]
        return
    for j in range(0, taps.shape[1], 4):
        first = 2 * k + j - shift
        a = _row(band, _source(first, height, wrap), stored, width, zeros)
        b = _row(band, _source(first + 1, height, wrap), stored, width, zeros)
        c = _row(band, _source(first + 2, height, wrap), stored, width, zeros)
        d = _row(band, _source(first + 3, height, wrap), stored, width, zeros)
        for f in range(2):
            _taps4(lines[f, at : at + width], a, b, c, d, taps[f], j)


@inlined
@no_type_check
def _borders(lines, rows, stride, width, filters, alone):
    """Extend every line by what the filter reads beyond it; keep the last sample, which may be overwritten."""
    shift, wrap, taps = filters
    pairs = width // 2 if wrap else (width + 1) // 2
    whole = 2 * pairs if wrap else width
    beyond = 2 * pairs + taps.shape[1] - shift - whole
    for r in range(rows):
        first = r * stride + shift
        alone[r] = lines[first + width - 1]
        for n in range(shift + beyond):
            i = n - shift if n < shift else whole + n - shift
            at = _source(i, width, wrap)
            lines[first + i] = lines[first + at] if at >= 0 else np.float32(0)


@inlined
@no_type_check
def _along(lines, rows, stride, width, filters, work, out, low, high):
    """Split lines along their columns, to out[low …] and out[high …].

    Of each line there are stride/2 results; those behind its own mean nothing.
    """
    even, odd, alone = work
    _, wrap, taps = filters
    _borders(lines, rows, stride, width, filters, alone)
    n = rows * stride // 2
    x, y = even[:n], odd[:n]
    for i in range(n):
        x[i], y[i] = lines[2 * i], lines[2 * i + 1]
    for j in range(0, taps.shape[1], 4):
        q = j // 2
        a, b, c, d = even[q : q + n], odd[q : q + n], even[q + 1 : q + 1 + n], odd[q + 1 : q + 1 + n]
        for f in range(2):
            start = high if f else low
            _taps4(out[start : start + n], a, b, c, d, taps[f], j)
    if wrap and width % 2:
        for r in range(rows):
            out[low + r * stride // 2 + width // 2] = ROOT2 * alone[r]


@inlined
@no_type_check
def _merge(cells, out, band, y, f, kind, scale, weights):
    """Merge one row of cells into the codes of one reducer."""
    for p in range(out.shape[2]):
        c = cells[p] * scale
        if kind == MAX:
            out[band, y, p, f] = max(out[band, y, p, f], c)
        elif kind == MIN:
            out[band, y, p, f] = min(out[band, y, p, f], c)
        else:
            out[band, y, p, f] += c * weights[p]


@inlined
@no_type_check
def _take(rows, count, step, width, sums, out, band, y, done, weight, reduce, places, weights):
    """Add rows of one child to its accumulators; merge and clear these when the row of cells is done."""
    kinds, scales, threshold, neutral, cells = reduce
    for f in range(kinds.shape[0]):
        line = sums[f]
        for r in range(count):
            accumulate(rows[r * step : r * step + width], line[:width], kinds[f], 1, threshold)
        if done:
            gather(line, places, kinds[f], cells)
            scale = scales[f] if kinds[f] in (MAX, MIN) else scales[f] * weight
            _merge(cells, out, band, y, f, kinds[f], np.float32(scale), weights)
            for i in range(line.shape[0]):
                line[i] = neutral[f]


@inlined
@no_type_check
def _reduce(children, size, k, rows, halves, shape, bands, progress, sums, out, reduce, plan, cap):
    """Rows k … of four children (`size` apart) → their cells. `bands`: the index of the first child among all, and of
    the low child among the bands of the rows and of the columns; `progress`: row of cells and rows waiting, per half.
    """
    places, row_edges, row_weights, column_weights = plan
    widths, step = shape
    for n in range(2 * halves):
        high, half = n // 2, n % 2
        axis, c, r = bands[1] + high, bands[2] + half, k
        edges = row_edges[axis]
        while r < k + rows:
            while edges[progress[0, n] + 1] <= r:
                progress[0, n] += 1
            y = progress[0, n]
            stop = min(k + rows, edges[y + 1])
            progress[1, n] += stop - r
            done = stop == edges[y + 1] or progress[1, n] >= cap
            if done:
                progress[1, n] = 0
            source = children[n * size + (r - k) * step : (n + 1) * size]
            _take(
                source,
                stop - r,
                step,
                widths[half],
                sums[:, high, half],
                out,
                bands[0] + n,
                y,
                done,
                row_weights[axis, y],
                reduce,
                places[c],
                column_weights[c],
            )
            r = stop


@compiled
@no_type_check
def bank_plane(image, out, filters, bands, strides, most, near, far, buffers, children, sums, reduce, plan, cap):
    """Codes of one plane (height · width,) → out (band, *cell, reducer), which is overwritten.

    Args:
        filters: (shift, wrap, taps).
        bands: (level, band, 5): start in the buffer, height, width, index among the bands of the rows, of the columns.
        strides: (level, 2): from row to row of a stored band, and from line to line while it is split.
        most: (level,) lines at a time.
        near, far: buffers for the bands of one level; children: for some rows of those of the last.
        reduce: (kinds, scales, threshold, neutral, cells); plan: (places, row_edges, row_weights, column_weights).
        cap: rows after which an accumulator is emptied at the latest.
    """
    shift, wrap, _ = filters
    lines, zeros, work = buffers
    kinds, neutral = reduce[0], reduce[3]
    for f in range(kinds.shape[0]):
        out[..., f] = -np.inf if kinds[f] == MAX else np.inf if kinds[f] == MIN else 0.0
        sums[f] = neutral[f]
    last, size = bands.shape[0] - 1, children.shape[0] // 4
    progress, at = np.zeros((2, 4), np.int64), np.zeros(4, np.int64)
    source, target = near, far  # the image itself is the source of level 0
    for level in range(last + 1):
        stored, stride, step = strides[level, 0], strides[level, 1], strides[level, 1] // 2
        for g in range(1 << (2 * level)):
            start, height, width = bands[level, g, 0], bands[level, g, 1], bands[level, g, 2]
            band = (source if level else image)[start : start + height * stored]
            shape = (height, width, stored)
            progress[:] = 0
            k, pairs = 0, (height // 2 if wrap else (height + 1) // 2)
            while k < (height + 1) // 2:
                rows = min(most[level], pairs - k) if k < pairs else 1  # the lonely row comes alone
                halves = 2 if k < pairs else 1
                for r in range(rows):
                    _down(band, shape, k + r, filters, zeros, lines, r * stride + shift)
                for c in range(4):
                    at[c] = c * size if level == last else bands[level + 1, 4 * g + c, 0] + k * step
                goal = children if level == last else target
                for h in range(halves):
                    _along(lines[h], rows, stride, width, filters, work, goal, at[2 * h], at[2 * h + 1])
                if level == last:
                    ids = (4 * g, 2 * bands[level, g, 3], 2 * bands[level, g, 4])
                    widths = ((width + 1) // 2, width // 2 if wrap else (width + 1) // 2)
                    _reduce(
                        children, size, k, rows, halves, (widths, step), ids, progress, sums, out, reduce, plan, cap
                    )
                k += rows
        source, target = target, source
