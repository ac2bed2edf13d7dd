"""Resizing against torch's antialiased bilinear interpolation; the modality look-up against pydicom's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom.pixels import apply_modality_lut, pixel_array

from io_phantoms import dataset, ramp, write
from translucid.io.framing import Framing
from translucid.io.readers import read_image
from translucid.types import Image


@pytest.mark.parametrize("size", [7, 32, 50, 120])
def test_resize_is_torch_antialiased_bilinear(size: int) -> None:
    pixels = np.random.default_rng(0).random((3, 61, 48), np.float32)
    got = Framing("resize", size, channels=3).apply(Image(pixels, 0.0, 1.0)).pixels
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(pixels)[None], (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    np.testing.assert_allclose(got, wanted[0].numpy(), atol=1e-5)


def test_rescale_is_pydicoms(tmp_path: Path) -> None:
    ds = dataset(ramp((9, 9), -2048, 2047, "i2"), bits=12, RescaleSlope=1.7, RescaleIntercept=-3.25)
    path = write(tmp_path / "a.dcm", ds)
    wanted = apply_modality_lut(pixel_array(path), ds)
    np.testing.assert_allclose(read_image(path).pixels[0], wanted, rtol=1e-6)
