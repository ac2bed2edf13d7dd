"""Storage orders against nibabel's, which names and turns arrays in the order (column, row, slice)."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations as peer

from translucid.errors import ConfigError, InputError
from translucid.io.volume import affine_of, orientation_of, to_orientation
from translucid.types import Image

CODES = ["".join(c) for ends in itertools.permutations(("LR", "PA", "IS")) for c in itertools.product(*ends)]
RNG = np.random.default_rng(3)


def volume() -> Image:
    """Oblique by a few degrees, of unequal sides."""
    affine = affine_of("LPS", (3.0, 1.0, 2.0))
    small = np.eye(4)
    small[:3, :3] += 0.05 * np.array([[0, 1, 0], [-1, 0, 1], [0, -1, 0]])
    affine = small @ affine
    affine[:3, 3] = [10, -20, 30]
    return Image(RNG.normal(size=(1, 3, 4, 5)).astype(np.float32), 0, 1, (3.0, 1.0, 2.0), affine)


@pytest.mark.parametrize("code", CODES)
def test_turns_as_nibabel_and_back(code: str) -> None:
    image = volume()
    assert image.affine is not None
    theirs = nib.Nifti1Image(image.pixels[0].T, image.affine[:, [2, 1, 0, 3]])
    change = peer.ornt_transform(peer.io_orientation(theirs.affine), peer.axcodes2ornt(tuple(code)))
    turned, ours = theirs.as_reoriented(change), to_orientation(image, code)
    assert ours.affine is not None
    np.testing.assert_array_equal(ours.pixels[0].T, turned.get_fdata())
    np.testing.assert_allclose(ours.affine[:, [2, 1, 0, 3]], turned.affine, atol=1e-12)
    assert orientation_of(ours.affine) == "".join(nib.aff2axcodes(turned.affine)) == code
    back = to_orientation(ours, "LPS")
    np.testing.assert_array_equal(back.pixels, image.pixels)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-12)
    assert back.spacing == image.spacing


def test_refusals() -> None:
    for code in ("LPX", "LRS", "LP", "lps"):
        with pytest.raises(ConfigError, match="wanted one of L or R"):
            to_orientation(volume(), code)
    with pytest.raises(InputError, match="no affine, so left and right are unknown"):
        to_orientation(Image(np.zeros((1, 2, 2, 2), np.float32), 0, 1), "LPS")
    with pytest.raises(InputError, match="an image of 2 axes"):
        to_orientation(Image(np.zeros((1, 2, 2), np.float32), 0, 1), "LPS")
    with pytest.raises(InputError, match="wanted one that can be inverted"):
        orientation_of(np.zeros((4, 4)))
