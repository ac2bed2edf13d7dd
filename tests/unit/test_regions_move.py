"""Mirror images and quarter turns: scan and region stay together, and a network that turns along pays the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tiny_nets import images
from translucid.errors import ShapeError
from translucid.losses import FlipRot, OutsideMask, PublishedMask, draw_flip_rot, flip_rot
from translucid.tensors import Batch, Prediction

EVERY = [FlipRot(flip, turns) for flip in (None, 0, 1, 2) for turns in range(4)]


class Voxelwise(nn.Module):
    """Weights that know no direction: what a voxel says does not depend on where it lies."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.body = torch.randn(4, 1, 1, 1, 1, generator=draw, dtype=torch.float64)
        self.weight = torch.randn(3, 4, generator=draw, dtype=torch.float64)

    def forward(self, x: Tensor) -> Prediction:
        a = nn.functional.avg_pool3d(nn.functional.conv3d(x - 0.5, self.body).relu(), 2)
        maps = torch.einsum("bfzyx,lf->blzyx", a, self.weight) / a[0, 0].numel()
        return Prediction(maps.flatten(2).sum(2), maps)


@pytest.mark.parametrize("loss", [PublishedMask(1.0), OutsideMask(1.0)], ids=["published", "ours"])
@pytest.mark.parametrize("which", EVERY, ids=str)
def test_moving_scan_and_region_together_costs_the_same(loss, which: FlipRot) -> None:
    x, y = images(2, 1, 4, 6, 6), torch.tensor([[1.0, 0, float("nan")], [1.0, 1, 0]])
    regions = images(2, 3, 2, 3, 3, seed=2) < 0.4
    model, index = Voxelwise(), torch.arange(2)
    still = loss(model(x), Batch(x, y, index, {"regions": regions}))
    moved_x, moved = flip_rot(x, regions, which)
    together = loss(model(moved_x), Batch(moved_x, y, index, {"regions": moved}))
    torch.testing.assert_close(together, still, rtol=1e-10, atol=0)
    if not torch.equal(moved, regions):
        alone = loss(model(moved_x), Batch(moved_x, y, index, {"regions": regions}))
        assert (alone - still).abs() > 1e-6, "the region has to move along"


def test_directions_are_those_promised() -> None:
    z, y, x, n = 1, 0, 2, 4
    spot = torch.zeros(1, 1, n, n, n)
    spot[0, 0, z, y, x] = 1
    expected = {
        FlipRot(0): (n - 1 - z, y, x),
        FlipRot(1): (z, n - 1 - y, x),
        FlipRot(2): (z, y, n - 1 - x),
        FlipRot(None, 1): (z, n - 1 - x, y),
        FlipRot(None, 2): (z, n - 1 - y, n - 1 - x),
        FlipRot(None, 3): (z, x, n - 1 - y),
        FlipRot(1, 1): (z, n - 1 - x, n - 1 - y),
    }
    for which, place in expected.items():
        volume, regions = flip_rot(spot, spot.bool(), which)
        assert tuple(volume[0, 0].nonzero()[0].tolist()) == place == tuple(regions[0, 0].nonzero()[0].tolist())
        assert spot[0, 0, z, y, x] == 1


def test_draws_are_even() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_flip_rot(rng) for _ in range(6000)]
    for share, count in (
        *((1 / 6, sum(d.flip == axis for d in drawn)) for axis in range(3)),
        *((1 / 6, sum(d.turns == k for d in drawn)) for k in (1, 2, 3)),
        (1 / 4, sum(d == FlipRot() for d in drawn)),
    ):
        assert abs(count / 6000 - share) < 4 * (share * (1 - share) / 6000) ** 0.5


def test_what_cannot_turn_is_refused() -> None:
    volume, regions = torch.zeros(1, 1, 2, 4, 4), torch.zeros(1, 1, 2, 2, 2, dtype=torch.bool)
    with pytest.raises(ShapeError, match="volume of 4 × 3 cannot make a quarter turn"):
        flip_rot(volume[..., :3], regions, FlipRot(turns=1))
    with pytest.raises(ShapeError, match="regions of 2 × 1"):
        flip_rot(volume, regions[..., :1], FlipRot(turns=3))
    flip_rot(volume[..., :3], regions[..., :1], FlipRot(2, 2))
    with pytest.raises(ShapeError, match="wanted 5 axes"):
        flip_rot(volume[0], regions, FlipRot())
