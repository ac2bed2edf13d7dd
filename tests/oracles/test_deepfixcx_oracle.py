"""DeepFixCX written again slowly: loops over pixels, bands and cells, in the paper's notation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st

from translucid.compress.deepfixcx import DeepFixCX
from translucid.compress.packet import packet, unpacket

WAVELETS = ["haar", "db2", "coif1", "bior2.2", "rbio3.1"]


def line_published(x: np.ndarray, h: list[float]) -> np.ndarray:
    """y[k] = Σ_j h[j] x[2k + j − p], zeros outside, one zero appended to an odd line."""
    p = (len(h) - 1) // 2
    return np.array(
        [
            sum(h[j] * x[2 * k + j - p] for j in range(len(h)) if 0 <= 2 * k + j - p < len(x))
            for k in range((len(x) + 1) // 2)
        ]
    )


def line_periodic(x: np.ndarray, h: list[float], *, low: bool) -> np.ndarray:
    """y[k] = Σ_j h[j] x[(2k + L/2 − j) mod m], m even; what is left of an odd line goes to the low band times √2."""
    m = len(x) - len(x) % 2
    y = [sum(h[j] * x[(2 * k + len(h) // 2 - j) % m] for j in range(len(h))) for k in range(m // 2)]
    return np.array([*y, math.sqrt(2) * x[-1]] if low and len(x) % 2 else y)


def split_axis(image: np.ndarray, axis: int, wavelet: pywt.Wavelet, boundary: str) -> list[np.ndarray]:
    low, high = wavelet.dec_lo, wavelet.dec_hi
    if boundary == "published":
        return [np.apply_along_axis(line_published, axis, image, h) for h in (low, high)]
    return [
        np.apply_along_axis(lambda x, h=h, low=is_low: line_periodic(x, h, low=low), axis, image)
        for h, is_low in ((low, True), (high, False))
    ]


def tree(image: np.ndarray, wavelet: str, levels: int, boundary: str) -> list[np.ndarray]:
    """Split every band of every level; children stand where their parent stood, in the order A, V, H, D."""
    bands = [image]
    for _ in range(levels):
        for axis in range(image.ndim):
            bands = [half for b in bands for half in split_axis(b, axis, pywt.Wavelet(wavelet), boundary)]
    return bands


def cells(band: np.ndarray, grid: tuple[int, ...], geometry: str) -> list[np.ndarray]:
    """Cut a band into cells in row-major order."""
    if geometry == "published":
        pads = [-n % p for n, p in zip(band.shape, grid, strict=True)]
        band = np.pad(band, [(pad // 2, pad - pad // 2) for pad in pads])
    edges = [[math.floor(i * n / p + 0.5) for i in range(p + 1)] for n, p in zip(band.shape, grid, strict=True)]
    return [
        band[tuple(slice(e[i], e[i + 1]) for e, i in zip(edges, index, strict=True))].ravel()
        for index in np.ndindex(*grid)
    ]


def reduced(cell: np.ndarray, reducer: str, geometry: str) -> float:
    n = len(cell) if geometry == "balanced" else 1
    match reducer:
        case "l1":
            return sum(abs(v) for v in cell) / n
        case "sum":
            return sum(cell) / n
        case "l2":
            return sum(v * v for v in cell) / n
        case "sum_pos":
            return sum(v for v in cell if v > 1e-6) / n
        case "sum_neg":
            return sum(v for v in cell if v < -1e-6) / n
        case "median":
            return sorted(cell)[(len(cell) - 1) // 2]
        case _:
            return {"max": max, "min": min}[reducer](cell)


def encoded(image: np.ndarray, system: DeepFixCX) -> np.ndarray:
    boundary = "periodic" if system.cells == "balanced" else "published"
    return np.array(
        [
            reduced(cell, reducer, system.cells)
            for band in tree(image, system.wavelet, system.levels, boundary)
            for cell in cells(band, system.grid(image.shape), system.cells)
            for reducer in system.reducers
        ]
    )


@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("boundary", ["published", "periodic"])
@pytest.mark.parametrize(("space", "levels"), [((8, 12), 1), ((9, 14), 2), ((11,), 3), ((5, 6, 7), 1)])
def test_packet(wavelet: str, boundary: str, space: tuple[int, ...], levels: int) -> None:
    image = np.random.default_rng(1).normal(size=space)
    ours = packet(torch.from_numpy(image)[None, None], wavelet, levels, boundary)[0, 0].numpy()
    for band, expected in zip(ours, tree(image, wavelet, levels, boundary), strict=True):
        full = np.zeros(band.shape)
        full[tuple(slice(n) for n in expected.shape)] = expected
        np.testing.assert_allclose(band, full, atol=1e-9)


@given(
    space=st.tuples(st.integers(9, 23), st.integers(9, 23)),
    levels=st.integers(1, 2),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    geometry=st.sampled_from(["balanced", "published"]),
    wavelet=st.sampled_from(WAVELETS),
    pool=st.lists(
        st.sampled_from(["l1", "sum", "max", "min", "median", "l2", "sum_pos", "sum_neg"]), min_size=1, unique=True
    ),
)
def test_codes(space: tuple[int, int], levels: int, grid: tuple[int, int], geometry, wavelet, pool) -> None:  # type: ignore[no-untyped-def]
    system = DeepFixCX(wavelet, levels, min(grid) if grid[0] == grid[1] else grid, tuple(pool), geometry, True)
    image = np.random.default_rng(sum(space)).normal(size=(2, *space))
    if min(space) >> levels < max(grid):
        return
    codes = system.encode(torch.from_numpy(image)[None])[0].numpy()
    for channel, got in zip(image, codes, strict=True):
        np.testing.assert_allclose(got, encoded(channel, system), atol=1e-8)


def test_volumes() -> None:
    image = np.random.default_rng(2).normal(size=(9, 10, 13))
    for geometry in ("balanced", "published"):
        system = DeepFixCX("db2", 1, (2, 3, 4), ("median", "l1", "max"), geometry)
        got = system.encode(torch.from_numpy(image)[None, None])[0, 0].numpy()
        np.testing.assert_allclose(got, encoded(image, system), atol=1e-8)


def test_unpacket_of_the_published_transform_is_the_transposed_convolution() -> None:
    """x[2k + j − p] += r[j] c[k] with the turned synthesis filter, level by level, low and high added up."""
    x = np.random.default_rng(3).normal(size=22)
    w = pywt.Wavelet("bior2.2")
    low, high = line_published(x, w.dec_lo), line_published(x, w.dec_hi)
    back = np.zeros(len(x))
    p = (len(w.rec_lo) - 1) // 2
    for k in range(len(low)):
        for j in range(len(w.rec_lo)):
            if 0 <= 2 * k + j - p < len(x):
                back[2 * k + j - p] += w.rec_lo[::-1][j] * low[k] + w.rec_hi[::-1][j] * high[k]
    bands = packet(torch.from_numpy(x)[None, None], "bior2.2", 1, "published")
    np.testing.assert_allclose(unpacket(bands, (22,), "bior2.2", 1, "published")[0, 0].numpy(), back, atol=1e-10)
