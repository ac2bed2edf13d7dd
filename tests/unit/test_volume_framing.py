"""Volumes through a framing and back: the same place in the patient all the way, and nothing overshoots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from translucid.config import build, to_plain
from translucid.errors import ConfigError, InputError, ShapeError
from translucid.io import placing
from translucid.io.resample import apply_taps, linear_taps, triangle_taps
from translucid.io.volume import affine_of, to_orientation
from translucid.io.volume_framing import RAD_CHESTCT, VolumeFraming
from translucid.types import Image

RNG = np.random.default_rng(5)
ORIENTATIONS = st.sampled_from(["LPS", "RAS", "SAL", "PIR", "ILA"])


def volume(space: tuple[int, ...] = (6, 7, 9), spacing: Any = (2.5, 1.0, 1.25), code: str = "LPS") -> Image:
    values = RNG.uniform(-1000, 800, (1, *space)).astype(np.float32)
    affine = affine_of(code, spacing)
    affine[:3, 3] = [12, -34, 56]
    return Image(values, -1024, 3071, spacing, affine, "CT")


def at(affine: np.ndarray, voxel: Any) -> np.ndarray:
    return (affine @ [*voxel, 1])[:3]


def bump(grid: tuple[int, ...], affine: np.ndarray, centre: np.ndarray, width: float) -> np.ndarray:
    """A Gaussian in the patient, sampled on a grid."""
    voxels = np.stack([*np.indices(grid), np.ones(grid)], -1)
    apart = (voxels @ affine.T)[..., :3] - centre
    return np.exp(-0.5 * (apart**2).sum(-1) / width**2)


@given(ORIENTATIONS, ORIENTATIONS, st.sampled_from([0.9, 1.3, 2.0]), st.sampled_from([(9, 12, 10), (14, 9, 15)]))
def test_a_peak_keeps_its_place_in_the_patient(stored: str, framed: str, spacing: float, shape: Any) -> None:
    """Crop, pad, resample and flip move numbers of voxels; world coordinates stay."""
    source = volume((16, 15, 17), (1.5, 1.1, 1.2), stored)
    assert source.affine is not None
    centre = at(source.affine, (8.2, 6.9, 8.4))
    values = bump(source.space, source.affine, centre, 2.5)
    image = Image(values[None].astype(np.float32), 0, 1, source.spacing, source.affine)
    block = VolumeFraming(spacing, shape, (0.0, 1.0), framed).apply(image)
    peak = at(block.affine, np.unravel_index(block.pixels[0].argmax(), shape))
    assert np.abs(peak - centre).max() <= 1.5  # half a voxel of either grid
    back = block.to_source(bump(shape, block.affine, centre, 2.5))
    there = at(source.affine, np.unravel_index(back.argmax(), back.shape))
    assert np.abs(there - at(source.affine, (8, 7, 8))).max() <= 1.5
    points = RNG.uniform(0, 9, (5, 3))
    for point, moved in zip(points, block.transform.forward(points), strict=True):
        np.testing.assert_allclose(at(block.affine, moved), at(source.affine, point), atol=1e-9)
    np.testing.assert_allclose(block.transform.inverse(block.transform.forward(points)), points, atol=1e-9)


def test_nothing_changes_where_nothing_is_asked() -> None:
    image = volume()
    before = image.pixels.copy()
    same = VolumeFraming(None, None, (-1000, 800), "").apply(image)
    np.testing.assert_array_equal(same.pixels, (image.pixels + np.float32(1000)) / np.float32(1800))
    np.testing.assert_array_equal(same.affine, image.affine)
    values = RNG.normal(size=image.space).astype(np.float32)
    np.testing.assert_array_equal(same.to_source(values), values)
    np.testing.assert_array_equal(same.apply_mask(values > 0), values > 0)
    np.testing.assert_array_equal(image.pixels, before)
    # a spacing that differs by rounding in a header is no resampling
    cubes = volume(spacing=(0.8000000119,) * 3)
    np.testing.assert_array_equal(VolumeFraming(0.8, None).apply(cubes).pixels, (cubes.pixels + 1000) / 1800)


@given(st.tuples(*[st.integers(3, 12)] * 3), ORIENTATIONS)
def test_padding_and_cutting_take_whole_voxels_from_the_middle(shape: Any, code: str) -> None:
    image = volume()
    turned = to_orientation(image, code)
    block = VolumeFraming(None, shape, (-1000, 800), code).apply(image)
    expected = turned.pixels[0]
    for axis, (n, g) in enumerate(zip(turned.space, shape, strict=True)):
        if n >= g:
            expected = expected.take(range((n - g) // 2, (n - g) // 2 + g), axis)
        else:
            pad = [(0, 0)] * 3
            pad[axis] = ((g - n) // 2, g - n - (g - n) // 2)
            expected = np.pad(expected, pad, constant_values=-1000)
    np.testing.assert_array_equal(block.pixels[0], (expected + np.float32(1000)) / np.float32(1800))


def test_resampling_is_linear_interpolation_at_the_right_places() -> None:
    """Against scipy: the block's voxel centres, carried to the source by the two affines alone."""
    image = volume((9, 10, 11), (2.0, 0.9, 1.3), "RAI")
    block = VolumeFraming(0.8, (18, 14, 16)).apply(image)
    grid = np.stack([*np.indices((18, 14, 16)), np.ones((18, 14, 16))]).reshape(4, -1)
    where = (np.linalg.inv(image.affine) @ block.affine @ grid)[:3]
    inside = ((where > -0.5) & (where < np.array(image.space)[:, None] - 0.5)).all(0)
    clipped = np.clip(where, 0, np.array(image.space)[:, None] - 1)
    expected = ndimage.map_coordinates(image.pixels[0].astype(float), clipped, order=1)
    expected = np.where(inside, (expected + 1000) / 1800, 0)
    np.testing.assert_allclose(block.pixels.ravel(), np.clip(expected, 0, 1), atol=2e-6)


def test_a_map_on_any_grid_goes_back_linearly() -> None:
    image = volume((5, 6, 8), (1.0,) * 3)
    block = VolumeFraming(None, (5, 6, 6)).apply(image)
    ramp = np.arange(3.0)[None, None] * np.ones((2, 2, 1))
    back = block.to_source(ramp, start=(1, 1, 0.5), step=(2, 3, 2), outside=np.nan)
    row = [np.nan, 0, 0.25, 0.75, 1.25, 1.75, 2, np.nan]
    np.testing.assert_allclose(back, np.broadcast_to(row, (5, 6, 8)), atol=1e-6)
    tiled = block.to_source(RNG.normal(size=(1, 1, 1)))
    assert np.unique(tiled[:, :, 1:7]).size == 1 and not tiled[:, :, [0, 7]].any()
    with pytest.raises(ShapeError, match="both or none"):
        block.to_source(ramp, start=(0, 0, 0))
    with pytest.raises(ShapeError, match="wanted 3 axes"):
        block.to_source(ramp[0])


def test_masks_move_along() -> None:
    image = volume((6, 7, 9), (2.5, 1.0, 1.25))
    mask = RNG.uniform(size=image.space) > 0.5
    block = VolumeFraming(1.7, (10, 5, 8)).apply(image)
    np.testing.assert_array_equal(block.apply_mask(mask), placing.apply_mask(mask, block.transform.placing))
    nearest = block.apply_mask(mask, "nearest")
    for cell in [(2, 2, 3), (4, 1, 4), (5, 3, 5)]:
        voxel = np.floor(block.transform.inverse(np.array(cell)) + 0.5).astype(int)
        assert nearest[cell] == mask[tuple(voxel)]
    with pytest.raises(ShapeError, match="use the one of this volume"):
        block.apply_mask(mask[1:])
    with pytest.raises(ConfigError, match="known are nearest, area"):
        block.apply_mask(mask, "linear")  # type: ignore[arg-type]


@given(st.floats(0.3, 5), st.integers(2, 30))
def test_kernels_average_and_never_overshoot(step: float, size: int) -> None:
    where = (np.arange(max(1, int(size / step))) + 0.5) * step - 0.5
    values = RNG.normal(size=(2, size)).astype(np.float32)
    for taps in (linear_taps(where, size), triangle_taps(where, size, step)):
        np.testing.assert_allclose(taps.weight.sum(0), 1, atol=1e-6)
        assert (taps.weight >= 0).all()
        out = apply_taps(values, 1, taps)
        assert out.max() <= values.max() + 1e-5 and out.min() >= values.min() - 1e-5
        np.testing.assert_allclose(out.T, apply_taps(values.T, 0, taps), atol=1e-6)


def test_stripes_become_grey_only_with_the_wide_filter() -> None:
    stripes = np.tile(np.array([0, 1], np.float32), 30)
    where = (np.arange(20) + 0.5) * 3 - 0.5
    assert np.ptp(apply_taps(stripes[None], 1, triangle_taps(where, 60, 3.0))[0, 1:-1]) < 0.12
    assert np.ptp(apply_taps(stripes[None], 1, linear_taps(where, 60))) == 1


def test_options() -> None:
    assert (RAD_CHESTCT.spacing, RAD_CHESTCT.shape, RAD_CHESTCT.window) == (0.8, (405, 420, 420), (-1000, 800))
    assert build(VolumeFraming, to_plain(RAD_CHESTCT)) == RAD_CHESTCT
    for wrong, message in [
        ({"spacing": 0.0}, "millimetres above 0"),
        ({"shape": (1, 2)}, "three sizes"),
        ({"window": (1.0, 1.0)}, "two rising"),
        ({"orientation": "LLS"}, "one of L or R"),
        ({"filter": "cubic"}, "known are linear, triangle"),
    ]:
        with pytest.raises(ConfigError, match=message):
            VolumeFraming(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no affine"):
        RAD_CHESTCT.apply(Image(np.zeros((1, 2, 2, 2), np.float32), 0, 1))
    with pytest.raises(ShapeError, match="2 channels"):
        RAD_CHESTCT.apply(Image(np.zeros((2, 2, 2, 2), np.float32), 0, 1, None, np.eye(4)))
