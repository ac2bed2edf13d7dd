"""Placing maps: linear, half-pixel, no overshoot, by where the cells really lie."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from translucid.errors import ShapeError
from translucid.maps import normalise, resize, threshold
from translucid.tensors import Placement


@pytest.mark.parametrize(("grid", "space", "mode"), [((5,), (17,), "linear"), ((3, 4), (10, 9), "bilinear")])
def test_tiling_agrees_with_half_pixel_interpolation(grid: tuple, space: tuple, mode: str) -> None:
    maps = torch.randn(2, 3, *grid)
    torch.testing.assert_close(resize(maps, space), F.interpolate(maps, size=space, mode=mode, align_corners=False))


def test_volumes_stay_within_their_range_and_keep_the_peak() -> None:
    maps = torch.randn(1, 1, 2, 4, 4)
    big = resize(maps, (64, 16, 16))
    assert maps.min() <= big.min()
    assert big.max() <= maps.max()
    torch.testing.assert_close(big, F.interpolate(maps, size=(64, 16, 16), mode="trilinear", align_corners=False))


def test_placement_puts_cells_at_their_centres() -> None:
    maps = torch.eye(6)[None, 1:2]  # (1, 1, 6): only cell 1 is lit
    big = resize(maps, (420,), Placement((128.0,), (32.0,)))
    assert int(big.argmax()) == 160
    assert float(big[0, 0, 128]) == 0.0


def test_axes_must_match() -> None:
    with pytest.raises(ShapeError, match="2 axes cannot be placed in an image of 3"):
        resize(torch.zeros(1, 1, 2, 2), (4, 4, 4))


def test_common_scale_keeps_the_ratio_of_two_images() -> None:
    maps = torch.stack([torch.ones(1, 2, 2), 10 * torch.ones(1, 2, 2)])
    shown = normalise(maps, "absmax", scale=10.0)
    torch.testing.assert_close(shown[1], 10 * shown[0])
    assert float(normalise(-maps, "absmax").min()) == -1.0
    assert float(normalise(-maps, "max").max()) == 0.0


def test_empty_map_stays_empty() -> None:
    for how in ("minmax", "max", "absmax"):
        assert normalise(torch.zeros(1, 1, 3), how).abs().sum() == 0
    assert not threshold(torch.zeros(1, 1, 3), 0.0).any()
