"""Points, boxes, masks and maps through a framing, there and back, exact to the half pixel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from translucid.errors import ConfigError, ShapeError, UnreadableImage
from translucid.types import Box, Space


@dataclass(frozen=True)
class Transform:
    """target = scale · source + offset along each axis, where the first pixel's centre is 0.

    Pixel i covers the span from i − ½ to i + ½.

    Args:
        scale: target pixels per source pixel, one per axis of space (rows first).
        offset: where the source's first centre goes, in target pixels.
        source: size of the image as stored.
        target: size of what the network sees.

    Example:
        >>> half = Plan((4, 4), (2, 2), (0, 0), (4, 4), (0, 0), (2, 2)).transform()
        >>> half
        Transform(scale=(0.5, 0.5), offset=(-0.25, -0.25), source=(4, 4), target=(2, 2))
        >>> half.inverse(half.forward(np.array([[1.0, 3.0]])))
        array([[1., 3.]])
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    source: Space
    target: Space

    def __post_init__(self) -> None:
        if len({len(self.scale), len(self.offset), len(self.source), len(self.target)}) != 1:
            raise ConfigError(f"a transform needs one scale, offset and size per axis, got {self}")
        if not all(s > 0 for s in self.scale):
            raise ConfigError(f"transform scale = {self.scale}: wanted numbers above 0")

    def forward(self, points: np.ndarray) -> np.ndarray:
        """(…, axis) points of the file, rows first → points of the target."""
        return np.asarray(points, np.float64) * self.scale + self.offset

    def inverse(self, points: np.ndarray) -> np.ndarray:
        """(…, axis) points of the target, rows first → points of the file."""
        return (np.asarray(points, np.float64) - self.offset) / self.scale


class Plan(NamedTuple):
    """The part `cut_size` of the source at `cut` fills `inner_size` of the target at `inner`; whole pixels."""

    source: Space
    target: Space
    cut: Space
    cut_size: Space
    inner: Space
    inner_size: Space

    def transform(self) -> Transform:
        """Edges meet edges: (t + ½ − inner) / inner_size = (s + ½ − cut) / cut_size."""
        scale = tuple(t / s for t, s in zip(self.inner_size, self.cut_size, strict=True))
        offset = tuple(i - 0.5 + k * (0.5 - c) for i, k, c in zip(self.inner, scale, self.cut, strict=True))
        return Transform(scale, offset, self.source, self.target)


def apply_box(box: Box, transform: Transform) -> Box | None:
    """A box of the file in pixels of the target, cut at its rim; None when it lies outside.

    A box's x, y are edges, where the first pixel begins at 0: target edge = scale · (edge − ½) + offset + ½.

    Example:
        >>> cut = Plan((10, 10), (4, 4), (3, 3), (4, 4), (0, 0), (4, 4)).transform()
        >>> apply_box(Box("nodule", 2, 4, 3, 2), cut)
        Box(label='nodule', x=0.0, y=1.0, width=2.0, height=2.0)
        >>> apply_box(Box("nodule", 0, 0, 2, 2), cut) is None
        True
    """
    corners = np.array([[box.y, box.x], [box.y + box.height, box.x + box.width]]) - 0.5
    (top, left), (bottom, right) = transform.forward(corners) + 0.5
    height, width = transform.target
    top, left = max(top, 0.0), max(left, 0.0)
    bottom, right = min(bottom, float(height)), min(right, float(width))
    if bottom <= top or right <= left:
        return None
    return Box(box.label, float(left), float(top), float(right - left), float(bottom - top))


def boxes_cut(boxes: Iterable[Box], space: Space, file: str = "") -> int:
    """How many boxes stick out of their image and are cut at its rim; one that lies outside altogether is refused.

    Args:
        boxes: in pixels of the file as stored.
        space: (rows, columns) of the file as stored.
        file: its name, for the message.

    Raises:
        UnreadableImage: no part of a box lies in the image; names file, label, box and size.

    Example:
        >>> boxes_cut([Box("mass", 2, 2, 4, 4), Box("mass", 6, 6, 4, 4)], (8, 8))
        1
        >>> boxes_cut([Box("mass", 100, 100, 4, 4)], (8, 8), "a.png")
        Traceback (most recent call last):
        ...
        translucid.errors.UnreadableImage: a.png: the box 'mass' at x = 100, y = 100, 4 wide and 4 high lies outside ...

    Fails when: boxes of a resized copy happen to fall into the image; nothing tells them from true ones.
    """
    height, width = space
    cut = 0
    for box in boxes:
        right, bottom = box.x + box.width, box.y + box.height
        if box.x >= width or box.y >= height or right <= 0 or bottom <= 0:
            raise UnreadableImage(
                f"{file + ': ' if file else ''}the box {box.label!r} at x = {box.x:g}, y = {box.y:g}, "
                f"{box.width:g} wide and {box.height:g} high lies outside the image, which is {width} wide and "
                f"{height} high: give boxes in pixels of the file as stored"
            )
        cut += box.x < 0 or box.y < 0 or right > width or bottom > height
    return cut


def apply_mask(mask: np.ndarray, transform: Transform) -> np.ndarray:
    """A mask of the file on the target's grid: True where more than half of the target pixel lies inside.

    The area is exact: the running sum of the mask along each axis, read at the edges of the target pixels.

    Args:
        mask: (h, w) bool, of the file's size; outside of the file there is nothing.
        transform: of the framing.

    Returns:
        (height, width) bool.

    Raises:
        ShapeError: the mask and the image it belongs to differ in size.

    Example:
        >>> half = Plan((2, 4), (1, 2), (0, 0), (2, 4), (0, 0), (1, 2)).transform()
        >>> apply_mask(np.array([[1, 1, 0, 0], [1, 0, 0, 1]], bool), half)
        array([[ True, False]])
    """
    _need(mask, transform.source, "mask")
    area = np.asarray(mask, np.float64)
    for axis in range(area.ndim):
        area = _cell_means(area, axis, transform)
    return area > 0.5 + 1e-9


def _cell_means(values: np.ndarray, axis: int, transform: Transform) -> np.ndarray:
    """Mean of piecewise constant values over each target cell along one axis; 0 beyond the ends."""
    n = values.shape[axis]
    cells = np.arange(transform.target[axis] + 1) - 0.5
    edges = (cells - transform.offset[axis]) / transform.scale[axis] + 0.5
    at = np.clip(edges, 0, n)
    left = np.minimum(at.astype(np.int64), n - 1)
    column = [1] * values.ndim
    column[axis] = -1
    total = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis)], axis)
    running = total.take(left, axis) + (at - left).reshape(column) * values.take(left, axis)
    return np.diff(running, axis=axis) * transform.scale[axis]


def to_source(values: np.ndarray, transform: Transform, outside: float = 0.0) -> np.ndarray:
    """A map on the target's grid back on the grid of the file, by linear interpolation.

    Args:
        values: (*target) numbers.
        transform: of the framing.
        outside: what pixels get that the network never saw.

    Returns:
        (*source) float64.

    Raises:
        ShapeError: the map is not of the target's size.

    Example:
        >>> cut = Plan((1, 4), (1, 2), (0, 1), (1, 2), (0, 0), (1, 2)).transform()
        >>> to_source(np.array([[5.0, 6.0]]), cut)
        array([[0., 5., 6., 0.]])

    Fails when: 0 outside is read as "no evidence there"; it means "not looked at". Give nan to tell them apart.
    """
    _need(values, transform.target, "map")
    out, seen = np.asarray(values, np.float64), np.ones((1,) * values.ndim, bool)
    for axis, (n, g) in enumerate(zip(transform.source, transform.target, strict=True)):
        at = np.arange(n) * transform.scale[axis] + transform.offset[axis]
        column = [1] * values.ndim
        column[axis] = n
        seen = seen & ((at >= -0.5) & (at <= g - 0.5)).reshape(column)
        at = np.clip(at, 0, g - 1)
        left = np.minimum(at.astype(np.int64), max(g - 2, 0))
        weight = (at - left).reshape(column)
        out = out.take(left, axis) * (1 - weight) + out.take(np.minimum(left + 1, g - 1), axis) * weight
    return np.where(seen, out, outside)


def _need(array: np.ndarray, space: Space, what: str) -> None:
    if array.shape != tuple(space):
        raise ShapeError(f"a {what} of {array.shape}; wanted {tuple(space)}: use the one made for this image")
