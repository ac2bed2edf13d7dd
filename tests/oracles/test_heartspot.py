"""HeartSpot's masks and codes, written again slowly: one pixel, one line, one corner at a time."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from translucid.compress import HeartSpot
from translucid.compress.drawing import fill, smooth, touches_unit_square
from translucid.compress.masks import OUTLINE, All, HeartRegion, HLine, Intersection, RLine, Union
from translucid.errors import ConfigError, ShapeError

sizes = st.tuples(st.integers(1, 50), st.integers(1, 50))
SIZE = (320, 320)


def count(prior: str, seed: int = 1) -> int:
    return HeartSpot(prior, seed=seed).code_length(SIZE)


# -- published facts ----------------------------------------------------------------------------------------------


def test_published_rows(real_data: Path) -> None:
    with np.load(real_data / "golden" / "heartspot_masks.npz") as golden:
        np.testing.assert_array_equal(HLine().mask(SIZE).numpy(), golden["hline_320"])


def test_region_covers_the_published_silhouette(real_data: Path) -> None:
    with np.load(real_data / "golden" / "heartspot_masks.npz") as golden:
        theirs = golden["heart_region_320"]
    ours = HeartRegion().mask(SIZE).numpy()
    assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.9
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.02)


def test_published_counts() -> None:
    assert HLine().rows(SIZE) == tuple(range(100, 300, 10))
    assert HLine().rows((160, 160)) == tuple(range(50, 150, 5))
    assert count("hline") == 6400
    assert count("median+hline") == 3200
    assert HeartSpot("median+hline").kept_share(SIZE) == 1 / 32


@pytest.mark.parametrize(
    ("prior", "published", "within"),
    [
        ("heart", 48577, 0.02),
        ("hline+heart", 4057, 0.03),
        ("rline", 28246, 0.1),
        ("rline+heart", 14702, 0.15),
        ("rhline", 32797, 0.1),
        ("rhline+heart", 17520, 0.15),
        ("median+hline+heart", 2017, 0.03),
        ("median+rhline+heart", 7209, 0.15),
    ],
)
def test_counts_near_the_published_ones_where_the_drawing_is_ours(prior: str, published: int, within: float) -> None:
    assert count(prior) == pytest.approx(published, rel=within)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_share_of_random_lines(seed: int) -> None:
    assert 0.25 <= RLine(seed=seed).mask(SIZE).float().mean() <= 0.29


def test_presets_are_all_published_combinations_and_shrink() -> None:
    presets = HeartSpot.presets()
    assert list(presets) == list(HeartSpot.PRESETS)
    assert all(spot.prior == name and 0 < spot.kept_share(SIZE) < 0.5 for name, spot in presets.items())


# -- masks --------------------------------------------------------------------------------------------------------


@given(space=sizes)
def test_rows_contain_their_positions(space: tuple[int, int]) -> None:
    height = space[0]
    expected = np.zeros(space, dtype=bool)
    for k in range(20):
        y = Fraction(10 + k, 32)
        for i in range(height):
            if Fraction(i, height) <= y < Fraction(i + 1, height):
                expected[i] = True
    np.testing.assert_array_equal(HLine().mask(space).numpy(), expected)


def test_decimal_steps_lose_no_row() -> None:
    assert HLine(0.1, 0.1, 0.9).rows((10, 3)) == tuple(range(1, 10))


def walk(ends: np.ndarray, space: tuple[int, int]) -> set[tuple[int, int]]:
    """One line, pixel by pixel along its longer axis."""
    height, width = space
    (x0, y0), (x1, y1) = ends * [width, height]
    found = set()
    if abs(y1 - y0) <= abs(x1 - x0):
        for j in range(width):
            if min(x0, x1) <= j + 0.5 <= max(x0, x1):
                found.add((math.floor(y0 + (y1 - y0) / (x1 - x0) * (j + 0.5 - x0)), j))
    else:
        for i in range(height):
            if min(y0, y1) <= i + 0.5 <= max(y0, y1):
                found.add((i, math.floor(x0 + (x1 - x0) / (y1 - y0) * (i + 0.5 - y0))))
    return {(i, j) for i, j in found if 0 <= i < height and 0 <= j < width}


@given(space=sizes, seed=st.integers(0, 99), radius=st.sampled_from([0.3, 0.5, 1.0, 3.0]))
def test_lines_walked_one_by_one(space: tuple[int, int], seed: int, radius: float) -> None:
    mask = RLine(lines=7, seed=seed, radius=radius)
    expected = set().union(*(walk(ends, space) for ends in mask.ends()))
    assert {(int(i), int(j)) for i, j in mask.mask(space).nonzero()} == expected


def test_no_line_is_wasted_and_each_is_8_connected() -> None:
    mask = RLine(lines=140, seed=3)
    assert mask.ends().shape == (140, 2, 2)
    for ends in mask.ends():
        pixels = walk(ends, (320, 240))
        assert pixels
        for i, j in pixels:
            inner = 0 < i < 319 and 0 < j < 239
            neighbours = sum((i + a, j + b) in pixels for a in (-1, 0, 1) for b in (-1, 0, 1)) - 1
            assert not inner or neighbours >= 2 or len(pixels) < 3


def test_lines_join_the_two_halves_of_a_centred_circle() -> None:
    ends = RLine(lines=500, seed=5, radius=0.8).ends() - 0.5
    np.testing.assert_allclose(np.hypot(*ends.T), 0.8)
    assert (ends[:, 0, 0] >= 0).all()
    assert (ends[:, 1, 0] <= 0).all()


@given(
    st.lists(st.tuples(*[st.floats(-2, 3).map(lambda v: round(v, 2))] * 4), min_size=1, max_size=5),
)
def test_touching_against_many_points_of_the_segment(segments: list[tuple[float, ...]]) -> None:
    ends = np.array(segments).reshape(-1, 2, 2)
    t = np.linspace(0, 1, 4001)[:, None]
    for (a, b), touches in zip(ends, touches_unit_square(ends), strict=True):
        points = a + t * (b - a)
        if ((points > 0) & (points < 1)).all(1).any():
            assert touches
        elif touches:  # then it passes within less than a step of the square
            assert np.abs(np.clip(points, 0, 1) - points).max(1).min() < 0.003


def test_lines_are_the_same_at_every_size() -> None:
    fine, coarse = RLine(lines=9).mask((400, 400)), RLine(lines=9).mask((100, 100))
    near = torch.nn.functional.max_pool2d(fine.float()[None], 12, 4, 4)[0, :100, :100] > 0
    assert (near | ~coarse).all()


def inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """Even–odd rule: how many edges a ray to the left crosses."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x:
            crossings += 1
    return crossings % 2 == 1


@given(
    space=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    corners=st.lists(st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)), min_size=3, max_size=7),
)
def test_filling_by_the_even_odd_rule(space: tuple[int, int], corners: list[tuple[float, float]]) -> None:
    height, width = space
    scaled = [(x * width, y * height) for x, y in corners]
    expected = [[inside(j + 0.5, i + 0.5, scaled) for j in range(width)] for i in range(height)]
    np.testing.assert_array_equal(fill(np.array(corners), space), expected)


def test_outline_is_a_closed_catmull_rom_curve() -> None:
    """In Hermite form: through p₁ and p₂ with tangents (p₂ − p₀)/2 and (p₃ − p₁)/2."""
    points = np.array(OUTLINE)
    curve = smooth(points, 5)
    for k in range(len(points)):
        p0, p1, p2, p3 = (points[(k + d) % len(points)] for d in (-1, 0, 1, 2))
        for n in range(5):
            t = n / 5
            hermite = (
                (2 * t**3 - 3 * t**2 + 1) * p1
                + (t**3 - 2 * t**2 + t) * (p2 - p0) / 2
                + (3 * t**2 - 2 * t**3) * p2
                + (t**3 - t**2) * (p3 - p1) / 2
            )
            np.testing.assert_allclose(curve[5 * k + n], hermite, atol=1e-12)


# -- the grammar and the codes -------------------------------------------------------------------------------------


def positions(prior: str, grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Kept places in row-major order: lines by union, then the region by intersection."""
    h, r, heart = HLine().mask(grid), RLine().mask(grid), HeartRegion().mask(grid)
    kept = {
        "hline": h,
        "rline": r,
        "heart": heart,
        "rhline": h | r,
        "hline+rline": h | r,
        "hline+heart": h & heart,
        "heart+hline": h & heart,
        "rhline+heart": (h | r) & heart,
        "all": torch.ones(grid, dtype=torch.bool),
    }[prior]
    return [(i, j) for i in range(grid[0]) for j in range(grid[1]) if kept[i, j]]


@pytest.mark.parametrize("prior", ["hline", "rline", "heart", "rhline", "hline+rline", "heart+hline", "rhline+heart"])
@pytest.mark.parametrize("space", [(64, 48), (37, 90)])
def test_codes_are_the_kept_pixels_in_order(prior: str, space: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *space, generator=torch.Generator().manual_seed(0))
    spot, kept = HeartSpot(prior), positions(prior, space)
    codes = spot.encode(x)
    assert codes.shape == (2, 3, len(kept))
    zeroed = torch.zeros_like(x)
    for n, (i, j) in enumerate(kept):
        assert torch.equal(codes[:, :, n], x[:, :, i, j])
        zeroed[:, :, i, j] = x[:, :, i, j]
    for back in (spot.lift, spot.adjoint, spot.to_image):
        assert torch.equal(back(codes, space), zeroed)


def cell_means(x: Tensor, rows: list[list[int]], columns: list[list[int]]) -> Tensor:
    return torch.stack([torch.stack([x[:, :, r][..., c].mean((2, 3)) for c in columns], -1) for r in rows], -2)


@pytest.mark.parametrize(("prior", "space"), [("median+rhline+heart", (50, 41)), ("quadtree+heart", (50, 41))])
def test_lift_and_adjoint_of_a_stage_follow_its_cells(prior: str, space: tuple[int, int]) -> None:
    spot = HeartSpot(prior, size=8, stride=3, depth=4)
    stage, mask = prior.split("+", 1)
    if stage == "median":
        rows, columns = ([list(range(a, min(a + 3, n))) for a in range(0, n, 3)] for n in space)
    else:
        rows, columns = ([list(range(i * n // 16, (i + 1) * n // 16)) for i in range(16)] for n in space)
    kept = positions(mask, (len(rows), len(columns)))
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(2, 1, len(kept), generator=draw, dtype=torch.float64)
    lifted = torch.zeros(2, 1, *space, dtype=torch.float64)
    for n, (i, j) in enumerate(kept):
        for a in rows[i]:
            for b in columns[j]:
                lifted[:, :, a, b] = z[:, :, n]
    assert torch.equal(spot.lift(z, space), lifted)
    x = torch.rand(2, 1, *space, generator=draw, dtype=torch.float64)
    means = cell_means(x, rows, columns)
    linear_part = torch.stack([means[:, :, i, j] for i, j in kept], -1)
    torch.testing.assert_close((linear_part * z).sum(), (x * spot.adjoint(z, space)).sum())
    torch.testing.assert_close(spot.adjoint(z, space).sum(), z.sum())


@pytest.mark.parametrize("kernel", ["slice", "gather"])
def test_codes_never_share_memory_with_the_images(kernel: str) -> None:
    space = (24, 20)  # here the kept rows lie next to one another
    spot = HeartSpot("hline" if kernel == "slice" else "heart")
    x = torch.rand(1, 1, *space)
    before = x.clone()
    spot.encode(x).zero_()
    assert torch.equal(x, before)


def test_unions_and_intersections() -> None:
    h, heart = HLine(), HeartRegion()
    assert torch.equal(Union((h, heart)).mask((40, 30)), h.mask((40, 30)) | heart.mask((40, 30)))
    assert torch.equal(Intersection((h, heart)).mask((40, 30)), h.mask((40, 30)) & heart.mask((40, 30)))
    assert All().mask((4, 3)).all()


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ("hlines", "did you mean 'hline'"),
        ("HLine", "did you mean 'hline'"),
        ("hline+hart", "did you mean 'heart'"),
        ("hline+median", "median must come first"),
        ("median+median+hline", "median must come first"),
        ("", "unknown word ''"),
        ("hline++heart", "unknown word ''"),
    ],
)
def test_wrong_words(prior: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("+", r"\+")):
        HeartSpot(prior)


def test_wrong_options_and_sizes() -> None:
    for options in ({"lines": 0}, {"seed": -1}):
        with pytest.raises(ConfigError):
            HeartSpot("rline", **options)
    for options in ({"size": 0}, {"stride": 0}, {"depth": 0}, {"threshold": math.nan}, {"threshold": math.inf}):
        with pytest.raises(ConfigError):
            HeartSpot("median", **options)
    with pytest.raises(ConfigError, match=r"hline.*first"):
        HLine(first=0.9, last=0.1)
    with pytest.raises(ConfigError, match=r"positive step"):
        HLine(step=0.0)
    with pytest.raises(ConfigError, match=r"radius"):
        RLine(radius=0.0)
    with pytest.raises(ConfigError, match=r"three points"):
        HeartRegion(((0.0, 0.0), (1.0, 1.0)))
    with pytest.raises(ConfigError, match=r"keeps no pixel of an image of \(4, 4\)"):
        HeartSpot("rline+heart", lines=1).code_length((4, 4))
    with pytest.raises(ConfigError, match=r"nothing would shrink"):
        HeartSpot("all").code_length((32, 32))
    with pytest.raises(ConfigError, match=r"height, width"):
        HeartSpot().code_length((8, 32, 32))
    with pytest.raises(ShapeError, match=r"batch, channel, height, width"):
        HeartSpot().encode(torch.rand(1, 1, 8, 32, 32))
    with pytest.raises(ShapeError, match=r"gives 6400"):
        HeartSpot().lift(torch.zeros(1, 1, 5), SIZE)
