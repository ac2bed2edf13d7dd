"""Graph-based segmentation of images and volumes at several scales, and segments grown beyond their borders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from translucid.errors import ConfigError, ShapeError
from translucid.types import Space


class Regions(NamedTuple):
    """Sets of pixels that may overlap: the s-th holds `pixels[starts[s]:starts[s + 1]]`, in no order.

    Pixels are numbered as they lie in memory, the last axis running fastest.
    """

    starts: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        """How many regions there are."""
        return len(self.starts) - 1


def segment(image: np.ndarray, scales: Sequence[float], *, least: int = 1, blur: float = 0.0) -> np.ndarray:
    """Cut an image where neighbours differ more across a border than within: one partition for each scale k.

    Pixels are the nodes of a graph, each joined to all that touch it, corners included, by an edge of weight
    w = ‖I(p) − I(q)‖ over the channels. Edges are taken lightest first, and an edge joins two components where
    w ≤ min(Int(C₁) + k/|C₁|, Int(C₂) + k/|C₂|), Int(C) being the heaviest edge of the minimum spanning tree of C.

    Our reading where the paper leaves it open: edges of equal weight come by direction, then by pixel; afterwards, in
    the same order, an edge joins two components of which one holds fewer than `least` pixels.

    Args:
        image: (channel, *space), one to three axes; any unit.
        scales: k, in intensity × pixels; larger means larger segments.
        least: pixels of the smallest segment.
        blur: standard deviation, in pixels, of the Gaussian that smooths each channel before (0.8 in the paper).

    Returns:
        (scale, *space) number of each pixel's segment, from 0 on, in the order of their first pixels.

    Raises:
        ConfigError: a scale or the blur is negative or not finite, or `least` is below 1.
        ShapeError: the image has no pixels, or no channel, or more than three axes.

    Example:
        >>> halves = np.zeros((1, 4, 6))
        >>> halves[..., 3:] = 1
        >>> segment(halves, [1.0])[0, 0]
        array([0, 0, 0, 1, 1, 1], dtype=int32)

    Source: Felzenszwalb & Huttenlocher 2004, doi:10.1023/B:VISI.0000022288.19776.77; there, colours are cut one by one
    and the cuts intersected, ours is one cut by the distance of colours.

    Fails when: a border fades: one light path between two organs joins them.
    """
    from translucid.explain.segment_loops import components

    space = tuple(image.shape[1:])
    if not 1 <= len(space) <= 3 or image.size == 0:
        raise ShapeError(f"image of shape {image.shape}: wanted (channel, *space) with one to three axes of space")
    check_scales(scales)
    if least < 1 or not 0 <= blur < math.inf:
        raise ConfigError(f"least = {least} and blur = {blur}: at least one pixel, and a width that is not negative")
    values = image.astype(np.float64)
    if blur:
        values = ndimage.gaussian_filter(values, (0, *[blur] * len(space)), mode="nearest")
    first, second, weights = _edges(values.reshape(-1, *boxed(space)))
    cuts = [components(first, second, weights, math.prod(space), float(k), least)[0] for k in scales]
    return np.stack(cuts).reshape(-1, *space)


def grown(partitions: np.ndarray, radius: float) -> Regions:
    """All segments of some partitions as sets of pixels, each grown by a ball: q with |q − p| ≤ radius for a p inside.

    Args:
        partitions: (scale, *space), as `segment` gives them.
        radius: in pixels; below 1 nothing grows.

    Raises:
        ConfigError: the radius is negative or not finite.

    Example:
        >>> regions = grown(np.array([[0, 0, 1, 1, 1]]), radius=1.0)
        >>> [sorted(regions.pixels[a:b].tolist()) for a, b in itertools.pairwise(regions.starts)]
        [[0, 1, 2], [1, 2, 3, 4]]
    """
    from translucid.explain.segment_loops import dilate

    if not 0 <= radius < math.inf:
        raise ConfigError(f"radius = {radius}: pixels by which segments grow, 0 for none")
    space = tuple(partitions.shape[1:])
    ball = _ball(radius, boxed(space))
    starts, pixels = [np.zeros(1, np.int64)], []
    for cut in partitions.astype(np.int32).reshape(-1, *boxed(space)):
        ends, members = dilate(cut, int(cut.max()) + 1, ball)
        starts.append(ends[1:] + starts[-1][-1])
        pixels.append(members)
    return Regions(np.concatenate(starts), np.concatenate(pixels))


def check_scales(scales: Sequence[float]) -> None:
    """Raise `ConfigError` unless there is a scale and none is negative.

    Example:
        >>> check_scales([50.0, 100.0])
    """
    if not scales or not all(0 <= k < math.inf for k in scales):
        raise ConfigError(f"scales = {tuple(scales)}: at least one, none negative, such as 50, 250, 1200")


def boxed(space: Space) -> tuple[int, int, int]:
    """The size as one of a volume, for which the loops are written.

    Example:
        >>> boxed((4, 5))
        (1, 4, 5)
    """
    deep, high, wide = (*[1] * (3 - len(space)), *space)
    return deep, high, wide


def _edges(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The edges of (channel, z, y, x), lightest first: numbers of both pixels, and weights."""
    space = values.shape[1:]
    number = np.arange(math.prod(space), dtype=np.int32).reshape(space)
    first, second, weights = [], [], []
    for step in itertools.product((0, 1), (-1, 0, 1), (-1, 0, 1)):
        if step <= (0, 0, 0):  # each pair once
            continue
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, space, strict=True))
        there = tuple(slice(max(0, s), n + min(0, s)) for s, n in zip(step, space, strict=True))
        first.append(number[here].ravel())
        second.append(number[there].ravel())
        apart = values[:, *here] - values[:, *there]
        weights.append(np.sqrt((apart * apart).sum(0)).ravel())
    w = np.concatenate(weights)
    order = np.argsort(w, kind="stable")
    return np.concatenate(first)[order], np.concatenate(second)[order], w[order]


def _ball(radius: float, space: Space) -> np.ndarray:
    """Steps (step, axis) no longer than the radius, nor than the image, the empty one left out."""
    reach = [range(-min(int(radius), n - 1), min(int(radius), n - 1) + 1) for n in space]
    steps = [s for s in itertools.product(*reach) if 0 < sum(a * a for a in s) <= radius * radius]
    return np.array(steps, dtype=np.int64).reshape(-1, 3)
