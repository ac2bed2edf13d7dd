from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from translucid.config import build, to_plain
from translucid.errors import ConfigError, ShapeError, UnreadableImage
from translucid.io.framing import Framing
from translucid.io.placing import Plan, apply_box, apply_mask, to_source
from translucid.types import Box, Image

KINDS = ["crop", "centre_crop", "letterbox", "resize"]


def picture(shape: tuple[int, ...], seed: int = 0, high: float = 255.0) -> Image:
    return Image(np.random.default_rng(seed).integers(0, int(high) + 1, shape).astype(np.float32), 0.0, high)


sides = st.tuples(st.integers(1, 90), st.integers(1, 90))


@given(sides, st.integers(1, 60), st.sampled_from(KINDS[1:]))
def test_points_come_back(space: tuple[int, int], size: int, kind: Any) -> None:
    transform = Framing(kind, size).plan(space).transform()
    points = np.random.default_rng(0).uniform(-5, 95, (20, 2))
    np.testing.assert_allclose(transform.inverse(transform.forward(points)), points, atol=1e-9)


@given(sides, st.integers(1, 60), st.sampled_from(KINDS[1:]))
def test_edges_of_the_part_meet_edges_of_its_place(space: tuple[int, int], size: int, kind: Any) -> None:
    plan = Framing(kind, size).plan(space)
    transform = plan.transform()
    cut, inner = np.array(plan.cut), np.array(plan.inner)
    np.testing.assert_allclose(transform.forward(cut - 0.5), inner - 0.5, atol=1e-9)
    ends = np.array(plan.cut_size), np.array(plan.inner_size)
    np.testing.assert_allclose(transform.forward(cut + ends[0] - 0.5), inner + ends[1] - 0.5, atol=1e-9)


def test_crop_is_the_published_one() -> None:
    image = picture((1, 390, 320))
    framed = Framing("crop", 320).apply(image)
    np.testing.assert_allclose(framed.pixels, image.pixels[:, 35:355, 0:320] / 255, rtol=1e-6)
    np.testing.assert_array_equal(framed.transform.forward(np.array([35, 0])), [0, 0])
    with pytest.raises(UnreadableImage, match=r"390 × 320 pixels; wanted at least 321 × 321.*letterbox"):
        Framing("crop", 321).apply(image)


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("size", [16, 40, 100])
def test_a_ramp_stays_a_ramp_on_the_half_pixel(kind: Any, size: int) -> None:
    """value = position: so the framed value at t must be the source position inverse(t).

    Exact when enlarging; when shrinking by an odd ratio the sampled filter is lopsided by a few hundredths of a pixel.
    """
    rows, columns = np.mgrid[0:48, 0:64].astype(np.float32)
    plan = Framing(kind, size).plan((48, 64))
    margin = 1 + int(np.ceil(max(t / s for t, s in zip(plan.inner_size, plan.cut_size, strict=True))))
    inside = tuple(slice(i + margin, i + n - margin) for i, n in zip(plan.inner, plan.inner_size, strict=True))
    at = np.stack(np.mgrid[0:size, 0:size], -1)[inside]
    for axis, values in enumerate((rows, columns)):
        slack = 1e-4 if plan.inner_size[axis] >= plan.cut_size[axis] else 0.1
        framed = Framing(kind, size).apply(Image(values[None], 0.0, 64.0))
        wanted = framed.transform.inverse(at)[..., axis]
        np.testing.assert_allclose(64 * framed.pixels[0][inside], wanted, atol=slack)


def test_shrinking_averages_and_does_not_alias() -> None:
    stripes = np.tile(np.array([0.0, 255.0], np.float32), (64, 32))
    framed = Framing("resize", 16).apply(Image(stripes[None], 0.0, 255.0))
    np.testing.assert_allclose(framed.pixels[0, :, 1:-1], 0.5, atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
@given(where=st.tuples(st.integers(0, 60), st.integers(0, 60)), size=st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_boxes_masks_and_pixels_move_together(kind: Any, where: tuple[int, int], size: tuple[int, int]) -> None:
    space = (70, 80)
    (y, x), (height, width) = where, size
    height, width = min(height, space[0] - y), min(width, space[1] - x)
    mask = np.zeros(space, bool)
    mask[y : y + height, x : x + width] = True
    framing = Framing(kind, 64)
    framed = framing.apply(Image(mask[None].astype(np.float32), 0.0, 1.0))
    box = apply_box(Box("finding", x, y, width, height), framed.transform)
    moved = apply_mask(mask, framed.transform)
    if box is None:
        assert not moved.any()
        assert not framed.pixels.any()
        return
    assert moved.sum() == pytest.approx(box.width * box.height, abs=box.width + box.height + 1)
    assert framed.pixels.sum() == pytest.approx(box.width * box.height, abs=box.width + box.height + 1)
    rows, columns = np.nonzero(moved)
    if rows.size:
        assert box.y - 0.5 <= rows.min() and rows.max() + 1 <= box.y + box.height + 0.5
        assert box.x - 0.5 <= columns.min() and columns.max() + 1 <= box.x + box.width + 0.5


def test_box_is_cut_at_the_rim_and_keeps_its_label() -> None:
    transform = Framing("crop", 4).plan((8, 8)).transform()
    assert apply_box(Box("a", 0, 3, 3, 10), transform) == Box("a", 0, 1, 1, 3)
    assert apply_box(Box("a", 6, 6, 2, 2), transform) is None


@given(sides, st.integers(1, 40), st.sampled_from(KINDS[1:]), st.integers(0, 9))
def test_mask_area_by_counting_small_squares(space: tuple[int, int], size: int, kind: Any, seed: int) -> None:
    """Oracle: every target pixel is cut in 8 × 8 points, each looked up in the source."""
    mask = np.random.default_rng(seed).random(space) > 0.5
    transform = Framing(kind, size).plan(space).transform()
    fine = (np.arange(8 * size) + 0.5) / 8 - 0.5
    at = np.rint(transform.inverse(np.stack(np.meshgrid(fine, fine, indexing="ij"), -1))).astype(int)
    inside = ((at >= 0) & (at < space)).all(-1)
    hit = np.where(inside, mask[tuple(np.moveaxis(at.clip(0, np.array(space) - 1), -1, 0))], False)
    area = hit.reshape(size, 8, size, 8).mean((1, 3))
    got = apply_mask(mask, transform)
    sure = np.abs(area - 0.5) > 0.3
    np.testing.assert_array_equal(got[sure], (area > 0.5)[sure])


def test_map_returns_to_where_its_pixels_came_from() -> None:
    for kind in KINDS:
        transform = Framing(kind, 32).plan((50, 44)).transform()
        rows = transform.inverse(np.stack(np.mgrid[0:32, 0:32], -1))[..., 0]
        back = to_source(rows, transform, outside=np.nan)
        seen = ~np.isnan(back)
        middle = seen & (np.arange(50)[:, None] > 3) & (np.arange(50)[:, None] < 46)
        if kind == "crop":
            middle &= np.isin(np.arange(50), np.arange(9, 41))[:, None]
        expected = np.broadcast_to(np.arange(50.0)[:, None], back.shape)
        np.testing.assert_allclose(back[middle], expected[middle], atol=1e-9)
    crop = Framing("crop", 4).plan((6, 6)).transform()
    back = to_source(np.ones((4, 4)), crop)
    assert back.sum() == 16 and back[0].sum() == 0
    with pytest.raises(ShapeError, match="wanted"):
        to_source(np.ones((5, 4)), crop)
    with pytest.raises(ShapeError, match="wanted"):
        apply_mask(np.ones((5, 4), bool), crop)


def test_values_follow_the_declared_range_or_the_window_never_the_pixels() -> None:
    dim = Image(np.full((1, 8, 8), 51.0, np.float32), 0.0, 255.0)
    assert np.allclose(Framing("resize", 4).apply(dim).pixels, 0.2)
    ct = Image(np.array([[[-2000.0, -600.0], [200.0, 900.0]]], np.float32), np.nan, np.nan)
    framed = Framing("none", window=(-1000, 600)).apply(ct)
    np.testing.assert_allclose(framed.pixels[0], [[0, 0.25], [0.75, 1]])
    assert (framed.record["low"], framed.record["high"]) == (-1000, 600)
    with pytest.raises(UnreadableImage, match="declares no values for black and white; wanted a window"):
        Framing("none").apply(ct)


def test_channels() -> None:
    colour = picture((3, 8, 8))
    grey = Framing("none", channels=1).apply(colour).pixels
    luma = 0.299 * colour.pixels[0] + 0.587 * colour.pixels[1] + 0.114 * colour.pixels[2]
    np.testing.assert_allclose(grey[0], luma / 255, rtol=1e-5)
    three = Framing("none", channels=3).apply(picture((1, 8, 8))).pixels
    assert three.shape == (3, 8, 8) and (three[0] == three[2]).all()
    with pytest.raises(UnreadableImage, match="4 channels"):
        Framing("none").apply(picture((4, 8, 8)))


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_input_is_left_alone(kind: Any) -> None:
    image = picture((1, 40, 50))
    kept = image.pixels.copy()
    framed = Framing(kind, 32, window=(10, 20)).apply(image)
    framed.pixels[:] = 7
    np.testing.assert_array_equal(image.pixels, kept)
    assert framed.pixels.dtype == np.float32


def test_letterbox_shows_all_and_pads_black() -> None:
    framed = Framing("letterbox", 32).apply(Image(np.full((1, 10, 20), 255, np.float32), 0.0, 255.0))
    assert framed.pixels[0, 8:24].min() == 1
    assert framed.pixels[0, :8].max() == framed.pixels[0, 24:].max() == 0


def test_volumes_pass_through_none_only() -> None:
    volume = picture((1, 4, 5, 6))
    framed = Framing("none").apply(volume)
    assert framed.pixels.shape == (1, 4, 5, 6)
    np.testing.assert_array_equal(framed.transform.forward(np.array([1, 2, 3])), [1, 2, 3])
    with pytest.raises(ShapeError, match="3 axes"):
        Framing("resize").apply(volume)


def test_settings_are_checked_and_travel_as_json() -> None:
    framing = Framing("letterbox", 224, (-1000, 400), 3)
    assert build(Framing, to_plain(framing)) == framing
    wrong: list[dict[str, Any]] = [{"kind": "zoom"}, {"size": 0}, {"channels": 2}, {"window": (1.0, 1.0)}]
    for change in wrong:
        with pytest.raises(ConfigError):
            dataclasses.replace(framing, **change)
    with pytest.raises(ConfigError):
        Plan((4, 4), (4, 4), (0, 0), (4, 4), (0, 0), (0, 4)).transform()
