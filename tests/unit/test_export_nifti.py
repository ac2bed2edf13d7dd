"""Maps written as NIfTI lie exactly over their volume, and say nothing of the patient."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from io_volumes import series, stored
from translucid.errors import ConfigError, ShapeError
from translucid.export import save_nifti
from translucid.io.readers import read_image
from translucid.io.series import read_series
from translucid.io.volume_framing import VolumeFraming

OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)


@pytest.mark.parametrize("orientation", [(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), OBLIQUE])
@pytest.mark.parametrize("name", ["map.nii", "map.nii.gz"])
def test_the_map_overlays_its_scan(tmp_path: Path, orientation: tuple[float, ...], name: str) -> None:
    """Series → turned, resampled and cut block → map on a coarse grid → file: the peak stays where it was."""
    normal = np.cross(*np.reshape(orientation, (2, 3)))
    positions = np.array([5.0, -7.0, 11.0]) + 2.5 * np.arange(5)[:, None] * normal
    scan = read_series(series(tmp_path / "scan", stored(), positions, orientation=orientation))
    block = VolumeFraming(0.5, (14, 4, 4), (-1000, 0), "RAS").apply(scan)
    coarse = np.zeros((7, 2, 2))
    coarse[4, 1, 0] = 3.5
    back = block.to_source(coarse)
    save_nifti(back, scan.affine, tmp_path / name)
    file = nib.load(tmp_path / name)
    np.testing.assert_array_equal(file.affine, scan.affine[:, [2, 1, 0, 3]].astype(np.float32))
    np.testing.assert_array_equal(file.get_fdata(dtype=np.float32).T, back)
    again = read_image(tmp_path / name)
    np.testing.assert_array_equal(again.pixels[0], back)
    np.testing.assert_allclose(again.affine, scan.affine, atol=1e-5)
    peak = np.unravel_index(back.argmax(), back.shape)
    np.testing.assert_allclose(again.affine @ [*peak, 1], scan.affine @ [*peak, 1], atol=1e-5)
    # the centre of the coarse cell, by the block's affine, lies within half a voxel of the peak
    cell = block.affine @ [4 * 2 + 0.5, 1 * 2 + 0.5, 0.5, 1]
    apart = np.linalg.solve(scan.affine, cell) - [*peak, 1]
    assert np.abs(apart).max() <= 0.5 + 1e-9


def test_the_header_holds_nothing_else(tmp_path: Path) -> None:
    affine = np.array([[0, 0, -2.0, 5], [0, -2.0, 0, 6], [3.0, 0, 0, 7], [0, 0, 0, 1]])
    values = np.random.default_rng(0).normal(size=(3, 4, 5))
    for name in ("a.nii.gz", "b.nii.gz"):
        save_nifti(values, affine, tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert first == second and b"a.nii" not in first[:40]
    raw = gzip.decompress(first)
    assert len(raw) == 352 + 4 * values.size
    header = nib.load(tmp_path / "a.nii.gz").header
    for text in ("descrip", "aux_file", "db_name", "intent_name"):
        assert bytes(header[text]).strip(b"\0") == b""
    assert header.get_data_dtype() == np.float32
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_qform(), affine[:, [2, 1, 0, 3]], atol=1e-5)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a.nii.gz", "b.nii.gz"]


def test_shear_is_kept_in_the_exact_form_only(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0.3, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    save_nifti(np.ones((2, 2, 2)), affine, tmp_path / "a.nii")
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(nib.load(tmp_path / "a.nii").affine, affine[:, [2, 1, 0, 3]], atol=1e-7)


def test_refusals(tmp_path: Path) -> None:
    good = np.ones((2, 2, 2))
    with pytest.raises(ConfigError, match="ends in"):
        save_nifti(good, np.eye(4), tmp_path / "a.png")
    with pytest.raises(ShapeError, match="one label's map at a time"):
        save_nifti(good[0], np.eye(4), tmp_path / "a.nii")
    with pytest.raises(ShapeError, match="can be inverted"):
        save_nifti(good, np.zeros((4, 4)), tmp_path / "a.nii")
    assert not list(tmp_path.iterdir())
