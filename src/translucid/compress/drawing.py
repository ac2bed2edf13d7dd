"""Lines and filled outlines on a pixel grid, vectorised over lines and edges."""

from __future__ import annotations

import numpy as np


def touches_unit_square(ends: np.ndarray) -> np.ndarray:
    """Which segments (line, 2, xy) share more than a point with the unit square.

    A segment a + t·(b − a) lies between 0 and 1 along an axis for t in an interval; the intervals of both axes and
    [0, 1] must overlap.

    Example:
        >>> touches_unit_square(np.array([[[-1.0, 0.5], [2.0, 0.6]], [[-1.0, 2.0], [2.0, 3.0]]]))
        array([ True, False])
    """
    start, way = ends[:, 0], ends[:, 1] - ends[:, 0]
    way = np.where(way == 0, np.finfo(float).tiny, way)
    with np.errstate(over="ignore"):
        bounds = np.stack([(0 - start) / way, (1 - start) / way])
    enter = np.maximum(bounds.min(0).max(1), 0)
    leave = np.minimum(bounds.max(0).min(1), 1)
    return np.asarray(enter < leave)


def draw_lines(ends: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Rasterise segments (line, 2, xy) given in normalised coordinates: 8-connected, all lines at once.

    Along its longer axis (in pixels) a line takes every pixel whose centre lies between its ends, and there the pixel
    that holds the line; what falls outside the image is left out.

    Example:
        >>> draw_lines(np.array([[[0.0, 0.0], [1.0, 1.0]]]), (3, 3)).astype(int)
        array([[1, 0, 0],
               [0, 1, 0],
               [0, 0, 1]])
    """
    height, width = size
    kept = np.zeros(size, dtype=bool)
    points = ends * np.array([width, height])
    steep = np.abs(np.diff(points[..., 1])) > np.abs(np.diff(points[..., 0]))
    for is_steep, length in ((False, width), (True, height)):
        some = points[steep[:, 0] == is_steep]
        along, across = (some[..., 1], some[..., 0]) if is_steep else (some[..., 0], some[..., 1])
        position, value, there = _trace(along, across, length, width if is_steep else height)
        index = (position[there], value[there])
        kept[index if is_steep else index[::-1]] = True
    return kept


def _trace(along: np.ndarray, across: np.ndarray, length: int, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every line and every pixel along the longer axis: the pixel, the one across, and whether both exist."""
    centre = np.arange(length) + 0.5
    way = np.diff(along)
    slope = np.diff(across) / np.where(way == 0, 1, way)
    value = np.floor(across[:, :1] + slope * (centre - along[:, :1])).astype(np.int64)
    inside = (centre >= along.min(1, keepdims=True)) & (centre <= along.max(1, keepdims=True))
    position = np.broadcast_to(np.arange(length), value.shape)
    return position, value, inside & (value >= 0) & (value < limit)


def smooth(points: np.ndarray, pieces: int = 8) -> np.ndarray:
    """A closed Catmull–Rom curve through points (point, xy), as a polygon of `pieces` edges between two points.

    q(t) = ½·(2p₁ + (p₂ − p₀)t + (2p₀ − 5p₁ + 4p₂ − p₃)t² + (3p₁ − p₀ − 3p₂ + p₃)t³)

    Example:
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> smooth(square, 2)[:2]
        array([[ 0.   ,  0.   ],
               [ 0.5  , -0.125]])

    Source: Catmull and Rom, A class of local interpolating splines, 1974, doi:10.1016/B978-0-12-079050-0.50020-5.
    """
    before, here, after, beyond = (np.roll(points, k, axis=0)[:, None] for k in (1, 0, -1, -2))
    t = (np.arange(pieces) / pieces)[:, None]
    cubic = (3 * here - before - 3 * after + beyond) * t**3
    square = (2 * before - 5 * here + 4 * after - beyond) * t**2
    return np.asarray((2 * here + (after - before) * t + square + cubic) / 2).reshape(-1, 2)


def fill(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies inside a closed polygon (point, xy) in normalised coordinates, by the even-odd rule.

    Each edge that crosses the line through a row's centres turns the parity of all pixels to its right.

    Example:
        >>> fill(np.array([[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]), (2, 4)).astype(int)
        array([[1, 1, 0, 0],
               [1, 1, 0, 0]])
    """
    height, width = size
    x, y = (polygon * np.array([width, height])).T
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    centre = np.arange(height)[:, None] + 0.5
    crosses = (y <= centre) != (y2 <= centre)
    at = x + (centre - y) / np.where(crosses, y2 - y, np.inf) * (x2 - x)
    column = np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)
    turns = np.zeros((height, width + 1), dtype=np.int64)
    row = np.broadcast_to(np.arange(height)[:, None], crosses.shape)
    np.add.at(turns, (row[crosses], column[crosses]), 1)
    return np.asarray(np.cumsum(turns, axis=1)[:, :width] % 2 == 1)
