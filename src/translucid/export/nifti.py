"""A map on its volume's grid → NIfTI that viewers lay exactly over the scan."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from translucid.config import whole_file
from translucid.errors import ConfigError, ShapeError

_MILLIMETRES, _SCANNER = 2, 1
"""NIfTI's codes for the unit of space, and for coordinates of the scanner that took the image."""


def save_nifti(values: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write a map as NIfTI-1, float32, on the grid of the volume it explains.

    The header holds sizes, spacing and place and nothing else: no names, dates, texts or extensions. The file is
    written whole or not at all, and the same map always gives the same bytes.

    Args:
        values: (slice, row, column) numbers, as every volume here; written as (column, row, slice), as NIfTI has it.
        affine: 4×4, (slice, row, column, 1) → RAS millimetres: the volume's own. NIfTI keeps it in float32.
        path: ends in .nii or .nii.gz.

    Raises:
        ShapeError: not three axes, too long an axis, or no 4×4 affine that can be inverted.
        ConfigError: the path has another ending.

    Example:
        >>> import tempfile
        >>> affine = np.diag([2.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_nifti(np.arange(6.0).reshape(1, 2, 3), affine, Path(folder, "map.nii.gz"))
        ...     back = nib.load(Path(folder, "map.nii.gz"))
        ...     print(back.shape, back.get_fdata()[2, 1, 0], np.diag(back.affine))
        (3, 2, 1) 5.0 [1. 1. 2. 1.]

    Fails when: a viewer guesses a range of colours per file; signed maps then lose their zero. Set it by hand.
    """
    path, affine = Path(path), np.asarray(affine, np.float64)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"{path.name}: wanted a name that ends in .nii or .nii.gz")
    values = np.asarray(values)
    if values.ndim != 3 or max(values.shape) > np.iinfo(np.int16).max:
        raise ShapeError(f"a map of {values.shape}; wanted (slice, row, column): write one label's map at a time")
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
        raise ShapeError(f"an affine of {affine.shape}; wanted 4 × 4 numbers that can be inverted: the volume's own")
    data = _encoded(np.asarray(values, np.float32), affine)
    with whole_file(path) as temporary:
        # no time and no name in the gzip header, so that equal maps are equal files
        temporary.write_bytes(gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


def _encoded(values: np.ndarray, affine: np.ndarray) -> bytes:
    volume = nib.Nifti1Image(values.transpose(), affine[:, [2, 1, 0, 3]])
    volume.header.set_xyzt_units(_MILLIMETRES)
    volume.set_sform(volume.affine, _SCANNER)
    # a quaternion cannot hold shear; where there is any, only the exact form is declared
    upright = np.allclose(volume.get_qform(), volume.affine, atol=1e-4)
    volume.header["qform_code"] = _SCANNER if upright else 0
    return volume.to_bytes()
