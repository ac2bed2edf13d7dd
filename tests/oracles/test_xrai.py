"""Segmentation and XRAI against both papers' algorithms, written slowly over sets; and where the truth is known."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from tiny_nets import Net, images, seeded
from translucid.errors import ConfigError, ShapeError
from translucid.explain.gradients import IntegratedGradients
from translucid.explain.segment_loops import rank, transpose
from translucid.explain.segments import Regions, grown, segment
from translucid.explain.xrai import XRAI, ranked

Pixel = tuple[int, ...]
Edge = tuple[float, Pixel, Pixel]


def graph(image: np.ndarray) -> list[Edge]:
    """G = (V, E): all pairs that touch, by weight, then by direction, then by pixel."""
    space = image.shape[1:]
    found = []
    for p in itertools.product(*map(range, space)):
        for step in itertools.product((-1, 0, 1), repeat=len(space)):
            q = tuple(a + s for a, s in zip(p, step, strict=True))
            if step > (0,) * len(space) and all(0 <= a < n for a, n in zip(q, space, strict=True)):
                squares = [(float(c[p]) - float(c[q])) ** 2 for c in image]
                found.append((math.sqrt(sum(squares)), step, p, q))
    return [(w, p, q) for w, _, p, q in sorted(found)]


def internal(component: frozenset[Pixel], edges: list[Edge]) -> float:
    """Int(C) = the heaviest edge of MST(C, E), the tree grown pixel by pixel (Prim)."""
    tree, heaviest = {min(component)}, 0.0
    while len(tree) < len(component):
        w, p, q = min(e for e in edges if {e[1], e[2]} <= component and (e[1] in tree) != (e[2] in tree))
        tree |= {p, q}
        heaviest = max(heaviest, w)
    return heaviest


def algorithm_1(image: np.ndarray, k: float, least: int = 1) -> set[frozenset[Pixel]]:
    """Felzenszwalb & Huttenlocher: S⁰ = single pixels; o_q joins where w(o_q) ≤ MInt(C₁, C₂)."""
    edges = graph(image)
    parts = {frozenset([p]) for p in itertools.product(*map(range, image.shape[1:]))}

    def join(one: frozenset[Pixel], two: frozenset[Pixel]) -> None:
        parts.difference_update({one, two})
        parts.add(one | two)

    def ends(p: Pixel, q: Pixel) -> tuple[frozenset[Pixel], frozenset[Pixel]]:
        return next(c for c in parts if p in c), next(c for c in parts if q in c)

    for w, p, q in edges:
        one, two = ends(p, q)
        if one != two and w <= min(internal(c, edges) + k / len(c) for c in (one, two)):
            join(one, two)
    for _, p, q in edges:
        one, two = ends(p, q)
        if one != two and min(len(one), len(two)) < least:
            join(one, two)
    return parts


def as_sets(labels: np.ndarray) -> set[frozenset[Pixel]]:
    return {frozenset(map(tuple, np.argwhere(labels == s).tolist())) for s in range(labels.max() + 1)}


CASES = [(1, 4, 6), (3, 4, 5), (1, 2, 3, 4), (2, 9), (1, 7, 1)]


@pytest.mark.parametrize("shape", CASES)
@pytest.mark.parametrize("grey", [4, 200])  # few levels: many edges of equal weight
def test_partitions_are_those_of_the_paper(shape: tuple[int, ...], grey: int) -> None:
    draw = np.random.default_rng(sum(shape) + grey)
    for _ in range(2):
        image = draw.integers(0, grey, shape).astype(float)
        scales = [0.0, grey / 2, grey * 2.0, grey * 6.0]
        for least in (1, 4):
            found = segment(image, scales, least=least)
            for k, labels in zip(scales, found, strict=True):
                assert as_sets(labels) == algorithm_1(image, k, least)
                assert labels.dtype == np.int32
                firsts = [np.flatnonzero(labels.ravel() == s)[0] for s in range(labels.max() + 1)]
                assert firsts == sorted(firsts) and (labels >= 0).all()


def test_known_partitions() -> None:
    halves = np.zeros((1, 8, 10))
    halves[..., 5:] = 1.0
    cut = segment(halves, [0.5, 10.0, 100.0])
    assert [int(c.max()) + 1 for c in cut] == [2, 2, 1]  # τ of 40 pixels reaches the step of 1 from k = 40 on
    assert np.array_equal(cut[0], halves[0].astype(int))
    assert segment(np.full((3, 4, 4), 7.0), [0.0]).max() == 0
    ramp = np.tile(np.arange(12.0), (1, 3, 1))  # a slope has no border, however high it climbs
    assert segment(ramp, [6.0]).max() == 0
    spot = np.zeros((1, 9, 9))
    spot[0, 4, 4] = 1.0
    assert segment(spot, [0.5]).max() == 1 and segment(spot, [0.5], least=2).max() == 0
    assert segment(spot, [0.9], blur=2.0).max() == 0


def test_unit_and_blur() -> None:
    draw = np.random.default_rng(3)
    image = draw.random((1, 12, 13))
    assert np.array_equal(segment(image * 255, [30.0 * 255]), segment(image, [30.0]))
    smooth = ndimage.gaussian_filter(image, (0, 0.8, 0.8), mode="nearest")
    assert np.array_equal(segment(image, [0.4], blur=0.8), segment(smooth, [0.4]))
    turned = segment(image.swapaxes(1, 2), [0.4])  # no two edges are equally heavy
    assert as_sets(turned[0].T) == as_sets(segment(image, [0.4])[0])


@pytest.mark.parametrize(
    ("space", "radius"), [((7, 9), 2.9), ((6, 5), 1.0), ((4, 5, 3), 1.5), ((14,), 3.0), ((4, 4), 9.0)]
)
def test_segments_grow_by_a_ball(space: tuple[int, ...], radius: float) -> None:
    labels = np.random.default_rng(len(space)).integers(0, 3, (2, *space))
    regions = grown(labels, radius)
    places = list(itertools.product(*map(range, space)))
    expected = [
        {q for q in places if any(math.dist(p, q) <= radius for p in places if cut[p] == s)}
        for cut in labels
        for s in range(3)
    ]
    lists = [regions.pixels[a:b].tolist() for a, b in itertools.pairwise(regions.starts)]
    assert len(regions) == 6 and all(len(m) == len(set(m)) for m in lists)
    assert [{places[i] for i in m} for m in lists] == expected
    back, owners = transpose(regions.starts, regions.pixels, len(places))
    for i in range(len(places)):
        assert sorted(owners[back[i] : back[i + 1]]) == [s for s, m in enumerate(lists) if i in m]


def algorithm_of_xrai(a: list[Any], segments: list[set[int]], fresh: int) -> tuple[list[int], dict[int, Any]]:
    """Kapishnikov et al., algorithm 1: the s of the largest Σ_{i ∈ s∖M} A_i / area(s∖M), until S or the image ends."""
    mask: set[int] = set()
    left, trajectory, shown = dict(enumerate(segments)), [], {}
    while left and len(mask) < len(a):
        gains = {s: sum(a[i] for i in m - mask) / len(m - mask) for s, m in left.items() if len(m - mask) >= fresh}
        if not gains:
            break
        best = max(gains, key=lambda s: gains[s])  # the first of equals
        shown |= dict.fromkeys(left[best] - mask, gains[best])
        mask |= left.pop(best)
        trajectory.append(best)
    rest = set(range(len(a))) - mask
    return trajectory, shown | dict.fromkeys(rest, sum(a[i] for i in rest) / max(len(rest), 1))


@pytest.mark.parametrize("fresh", [1, 4])
@pytest.mark.parametrize("spread", [2, 1000])  # few values: many gains are equal
def test_ranking_is_that_of_the_paper(fresh: int, spread: int) -> None:
    draw = np.random.default_rng(fresh + spread)
    for n in (1, 7, 30):
        segments = [set(draw.choice(n, draw.integers(1, n + 1), replace=False).tolist()) for _ in range(9)]
        lists = [np.array(sorted(m), np.int32) for m in segments]
        regions = Regions(np.cumsum([0, *map(len, lists)]), np.concatenate(lists))
        a = draw.integers(-spread, spread + 1, n)
        trajectory, shown = algorithm_of_xrai([Fraction(int(v)) for v in a], segments, fresh)
        got = ranked(a[None].astype(float), regions, fresh)
        np.testing.assert_allclose(got[0], [float(shown[i]) for i in range(n)], rtol=1e-15, atol=1e-15)
        back, owners = transpose(regions.starts, regions.pixels, n)
        order = rank(a.astype(float), regions.starts, regions.pixels, back, owners, fresh, np.empty(n))
        assert order.tolist() == trajectory


def test_whole_method_from_its_parts() -> None:
    """Six partitions of the stretched image, grown, ranked by the mean of both integrated gradients."""
    model, x = seeded(Net("mlp", size=24)), images(2, 1, 24, 24) * 0.6 + 0.2
    x[:, :, 8:18, 8:18] += 0.2
    found = XRAI(steps=6)(model, x, [2, 0])
    black, white = (IntegratedGradients(steps=6, baseline=b)(model, x, [2, 0]) for b in (0.0, 1.0))
    a = (black.maps + white.maps) / 2
    share = 24 * 24 / 224**2
    for i in range(2):
        image = x[i].numpy()
        grey = 2 * (image - image.min()) / (image.max() - image.min()) - 1
        three = np.repeat(grey, 3, 0)
        cuts = segment(
            three, [k * share / 255 for k in (50, 100, 150, 250, 500, 1200)], least=round(150 * share), blur=0.8
        )
        regions = grown(cuts, 5 * 24 / 224)
        lists = [set(regions.pixels[u:v].tolist()) for u, v in itertools.pairwise(regions.starts)]
        for k in range(2):
            _, shown = algorithm_of_xrai(a[i, k].flatten().tolist(), lists, round(50 * share))
            expected = np.array([float(shown[p]) for p in range(24 * 24)]).reshape(24, 24)
            np.testing.assert_allclose(found.maps[i, k].numpy(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.maps.flatten(2).sum(2), a.flatten(2).sum(2))
    torch.testing.assert_close(found.bias, ((black.bias + white.bias) / 2).expand_as(found.bias))
    assert not found.exact and any("not its own contribution" in r for r in found.remarks)


def scene(size: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """A disc and a square, equally bright, on a dim ground with a little noise."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    disc = (y - size // 3) ** 2 + (x - size // 3) ** 2 <= (size // 6) ** 2
    square = (y >= size * 5 // 8) & (y < size * 7 // 8) & (x >= size * 5 // 8) & (x < size * 7 // 8)
    image = 0.2 + 0.6 * (disc | square) + 0.01 * images(size, size)
    return image[None, None], disc, square


class Weighted(nn.Module):
    """Two logits, each a weighted sum over the pixels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weights.flatten(1).T


def overlap(found: Tensor, truth: Tensor) -> float:
    """Intersection over union with the truth, of as many pixels as it has."""
    top = torch.zeros(truth.numel(), dtype=torch.bool)
    top[found.flatten().argsort(descending=True, stable=True)[: int(truth.sum())]] = True
    return float((top & truth.flatten()).sum() / (top | truth.flatten()).sum())


def test_it_points_where_the_evidence_lies() -> None:
    x, disc, square = scene()
    noise = images(2, 64, 64, seed=5) * 4 - 2
    model = Weighted(torch.stack([disc, square]).double() + noise)
    xrai, single = XRAI(steps=1)(model, x, [0, 1]), IntegratedGradients(steps=1, baseline=0.5)(model, x, [0, 1])
    assert xrai.exact and xrai.residual.abs().max() < 1e-9
    for k, truth in enumerate((disc, square)):
        assert overlap(xrai.maps[0, k], truth) > 0.7, k  # segments are grown, so more than the truth is shown
        assert overlap(single.maps[0, k], truth) < 0.4, k
        other = (square, disc)[k]
        assert xrai.maps[0, k][truth].mean() > 5 * abs(float(xrai.maps[0, k][other].mean()))


def test_it_points_into_a_volume() -> None:
    volume = torch.full((1, 1, 12, 14, 16), 0.2, dtype=torch.float64)
    truth = torch.zeros(12, 14, 16, dtype=torch.bool)
    truth[3:8, 4:9, 5:11] = True
    volume[0, 0, truth] = 0.9
    found = XRAI(steps=1, dilation=0.0)(Weighted(truth[None].double() + images(1, 12, 14, 16) - 0.5), volume, [0])
    assert overlap(found.maps[0, 0], truth) == 1.0


def test_channels_of_a_grey_image_do_not_matter() -> None:
    x = images(1, 1, 24, 24, seed=4)
    one, three = XRAI().regions(x[0]), XRAI().regions(x[0].expand(3, -1, -1))
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(one, XRAI().regions(x[0] * 0.25 + 0.5), strict=True))


BAD: list[tuple[Any, type[Exception]]] = [
    (lambda: XRAI(baselines=()), ConfigError),
    (lambda: XRAI(baselines=(math.nan,)), ConfigError),
    (lambda: XRAI(steps=0), ConfigError),
    (lambda: XRAI(scales=()), ConfigError),
    (lambda: XRAI(scales=(-1.0,)), ConfigError),
    (lambda: XRAI(dilation=-1.0), ConfigError),
    (lambda: XRAI(least=0), ConfigError),
    (lambda: XRAI(fresh=0), ConfigError),
    (lambda: segment(np.zeros((1, 3, 3)), [1.0], least=0), ConfigError),
    (lambda: segment(np.zeros((1, 3, 3)), [1.0], blur=math.inf), ConfigError),
    (lambda: segment(np.zeros((1, 0, 3)), [1.0]), ShapeError),
    (lambda: segment(np.zeros((1, 2, 2, 2, 2)), [1.0]), ShapeError),
    (lambda: grown(np.zeros((1, 3, 3), int), -1.0), ConfigError),
]


@pytest.mark.parametrize(("make", "error"), BAD)
def test_nonsense_is_refused(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()
