"""The median stage against SciPy where both are defined: odd windows at every pixel, mirrored edges."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from translucid.compress.median import median_sample
from translucid.compress.networks import Window


@pytest.mark.parametrize("size", [1, 3, 5, 11])
@pytest.mark.parametrize("compiled", [True, False])
def test_odd_windows_at_every_pixel(size: int, compiled: bool) -> None:
    x = torch.rand(2, 1, 23, 31, generator=torch.Generator().manual_seed(0))
    ours = median_sample(x, window=Window(size, 1), compiled=compiled)
    theirs = ndimage.median_filter(x.numpy(), size=(1, 1, size, size), mode="mirror")
    assert torch.equal(ours, torch.from_numpy(theirs))
