from __future__ import annotations

import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from translucid.errors import UnreadableImage
from translucid.io.readers import read_image

AFFINE = np.array([[0, 2, 0, -10], [-1.5, 0, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]], float)
CT = np.random.default_rng(0).integers(-1024, 2000, (4, 5, 6), np.int16)


def save(path: Path, data: np.ndarray, kind: type = nib.Nifti1Image, **header: float) -> Path:
    volume = kind(data, AFFINE)
    for key, value in header.items():
        volume.header[key] = value
    nib.save(volume, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_volume_is_depth_height_width_with_its_affine(tmp_path: Path, name: str, kind: type) -> None:
    image = read_image(save(tmp_path / name, CT, kind))
    assert image.space == (6, 5, 4)
    i, j, k = 3, 1, 5
    assert image.pixels[0, k, j, i] == CT[i, j, k]
    assert image.affine is not None
    np.testing.assert_allclose(image.affine @ [k, j, i, 1], AFFINE @ [i, j, k, 1])
    assert image.spacing == (3.0, 2.0, 1.5)
    assert np.isnan([image.low, image.high]).all()


def with_slope(path: Path, slope: float, intercept: float) -> Path:
    """Put the two floats where NIfTI-1 keeps them; nibabel would choose its own."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<ff", data, 112, slope, intercept)
    path.write_bytes(data)
    return path


def test_scaling_is_applied(tmp_path: Path) -> None:
    image = read_image(with_slope(save(tmp_path / "a.nii", CT), 0.5, 7))
    np.testing.assert_array_equal(image.pixels[0], CT.T * 0.5 + 7)
    bytes_ = (CT % 256).astype(np.uint8)
    image = read_image(with_slope(save(tmp_path / "b.nii", bytes_), 2, 0))
    np.testing.assert_array_equal(image.pixels[0], bytes_.T * 2.0)
    assert np.isnan(image.high)


def test_declared_range_only(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.nii", CT, cal_min=-1000.0, cal_max=400.0))
    assert (image.low, image.high) == (-1000, 400)
    image = read_image(save(tmp_path / "b.nii", (CT % 256).astype(np.uint8)))
    assert (image.low, image.high) == (0, 255)


def test_slices_planes_and_series(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", CT)
    np.testing.assert_array_equal(read_image(path, frame=2).pixels[0], CT[:, :, 2].T)
    assert read_image(path, frame=2).spacing == (2.0, 1.5)
    with pytest.raises(UnreadableImage, match="slice 6 asked for; wanted 0 to 5"):
        read_image(path, frame=6)
    assert read_image(save(tmp_path / "b.nii", CT[:, :, 0])).space == (5, 4)
    assert read_image(save(tmp_path / "c.nii", CT[..., None])).space == (6, 5, 4)
    with pytest.raises(UnreadableImage, match=r"^d\.nii: a NIfTI of 4 axes .* one by one"):
        read_image(save(tmp_path / "d.nii", np.stack([CT, CT], -1)))


def test_extensions_are_not_read(tmp_path: Path) -> None:
    volume = nib.Nifti1Image(CT, AFFINE)
    volume.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
    nib.save(volume, tmp_path / "a.nii")
    assert b"DOE^JANE" in (tmp_path / "a.nii").read_bytes()
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").pixels[0], CT.T)


def test_what_is_no_plain_volume_is_refused(tmp_path: Path) -> None:
    holes = CT.astype(np.float32)
    holes[0, 0, 0] = np.nan
    with pytest.raises(UnreadableImage, match="not finite"):
        read_image(save(tmp_path / "a.nii", holes))
    with pytest.raises(UnreadableImage, match="complex"):
        read_image(save(tmp_path / "b.nii", CT.astype(np.complex64)))
    for name in ("c.nii", "c.nii.gz"):
        whole = save(tmp_path / name, CT).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(UnreadableImage, match=rf"^cut_{name}: "):
            read_image(tmp_path / f"cut_{name}")
