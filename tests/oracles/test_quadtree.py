"""The quadtree stage against the published recursion, one patch and one pixel at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from translucid.compress import HeartSpot
from translucid.compress.quadtree import fitting_depth, quadtree_means
from translucid.errors import ConfigError


def entropy(patch: np.ndarray) -> float:
    """256 bins, a box of three, renormalised; −p·log₂ p of every pixel's own bin, summed."""
    bins = [min(int(v * 256), 255) for v in patch.flatten()]
    histogram = [bins.count(b) for b in range(256)]
    box = [sum(histogram[max(b - 1, 0) : b + 2]) for b in range(256)]
    return sum(-box[b] / sum(box) * math.log2(box[b] / sum(box)) for b in bins)


def recurse(x: np.ndarray, out: np.ndarray, place: tuple[int, int, int], depth: int, threshold: float) -> None:
    """Split in four while there is enough to see, else write the mean over all cells of the patch."""
    level, a, b = place
    height, width, cells = *x.shape, 2 ** (depth - level)

    def edge(cell: int, n: int) -> int:
        return cell * cells * n // 2**depth

    patch = x[edge(a, height) : edge(a + 1, height), edge(b, width) : edge(b + 1, width)]
    if level < depth and entropy(patch) * 102400 / x.size >= threshold:
        for child in ((0, 0), (0, 1), (1, 0), (1, 1)):
            recurse(x, out, (level + 1, 2 * a + child[0], 2 * b + child[1]), depth, threshold)
    else:
        out[a * cells : (a + 1) * cells, b * cells : (b + 1) * cells] = patch.mean()


def picture(space: tuple[int, int], seed: int) -> torch.Tensor:
    """Flat in places, busy in others, on the values of eight bits."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 1, 3, 3, generator=draw)
    blocks = torch.nn.functional.interpolate(coarse, size=space)
    noise = torch.rand(2, 1, *space, generator=draw) * torch.nn.functional.interpolate(coarse.flip(2) ** 4, size=space)
    return ((0.6 * blocks + 0.4 * noise) * 255).round().double() / 255


@given(
    space=st.tuples(st.integers(8, 24), st.integers(8, 24)),
    depth=st.integers(0, 3),
    exponent=st.floats(1.0, 4.5),
    seed=st.integers(0, 99),
)
def test_against_the_recursion(space: tuple[int, int], depth: int, exponent: float, seed: int) -> None:
    threshold = 10**exponent
    x = picture(space, seed)
    expected = np.empty((2, 2**depth, 2**depth))
    for image, out in zip(x[:, 0].numpy(), expected, strict=True):
        recurse(image, out, (0, 0, 0), depth, threshold)
    np.testing.assert_allclose(quadtree_means(x, depth, threshold)[:, 0], expected, atol=1e-12)


def test_thresholds_from_one_leaf_to_all_leaves() -> None:
    x = picture((32, 32), 0)
    leaves = [len(quadtree_means(x[:1], 4, t).unique()) for t in (1e9, 2500.0, 800.0, 0.0)]
    assert leaves == sorted(leaves)
    assert leaves[0] == 1
    assert leaves[-1] > leaves[1] > 1
    assert torch.allclose(quadtree_means(x, 4, 0.0), torch.nn.functional.avg_pool2d(x, 2))


def test_the_mean_of_the_image_is_kept_where_cells_are_equal() -> None:
    x = picture((64, 64), 3)
    torch.testing.assert_close(quadtree_means(x, 5, 5000.0).mean((2, 3)), x.mean((2, 3)))


def test_code_and_small_images() -> None:
    assert HeartSpot("quadtree").code_length((320, 320)) == 4096
    assert fitting_depth((7, 300), 6) == 1
    assert fitting_depth((1, 1), 6) == 0
    x = picture((40, 40), 1)
    spot = HeartSpot("quadtree", depth=3, threshold=500.0)
    assert torch.equal(spot.encode(x), quadtree_means(x, 3, 500.0).flatten(2))
    with pytest.raises(ConfigError, match="16 pixels a side"):
        quadtree_means(picture((8, 40), 1), 4)
