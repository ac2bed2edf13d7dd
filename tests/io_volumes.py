"""Small volumes written by the tests: DICOM series with known places, and a chest of ellipsoids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from io_phantoms import dataset, write
from translucid.io.volume import affine_of
from translucid.types import Image

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def stored(slices: int = 5) -> np.ndarray:
    """Stored values that tell every voxel of (slices, 4, 6) from every other."""
    return np.arange(slices * 24, dtype=np.int16).reshape(slices, 4, 6)


def plane(values: np.ndarray, position: Any, orientation: Any = AXIAL, series: str = "one", **elements: Any) -> Dataset:
    """One CT slice; HU = 2 · stored − 1000."""
    facts = {
        "Modality": "CT",
        "SeriesInstanceUID": generate_uid(entropy_srcs=[series]),
        "ImagePositionPatient": [float(v) for v in position],
        "ImageOrientationPatient": list(orientation),
        "RescaleSlope": 2,
        "RescaleIntercept": -1000,
        "RescaleType": "HU",
    }
    ds = dataset(values, **(facts | elements))
    for name, value in elements.items():
        if value is None:
            delattr(ds, name)
    return ds


def places(slices: int = 5, step: float = 2.5) -> np.ndarray:
    """First pixels of an upright axial series, feet first."""
    return np.array([-30.0, -40.0, 100.0]) + step * np.arange(slices)[:, None] * np.array([0.0, 0.0, 1.0])


def series(folder: Path, values: np.ndarray, positions: np.ndarray, **elements: Any) -> Path:
    """Write slices under names that do not sort as they lie."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, (one, position) in enumerate(zip(values, positions, strict=True)):
        write(folder / f"IM{(7 * n + 3) % 11:04d}.dcm", plane(one, position, **elements))
    return folder


def chest(shift: int = 0) -> tuple[Image, dict[str, np.ndarray]]:
    """A body of water in air with two lungs of ellipsoids, 4 mm cubes, stored as LPS; and the lungs' exact voxels.

    The body touches no side; the right lung (low columns) is the larger; a trachea, small, lies between them.
    """
    z, y, x = np.meshgrid(*(np.arange(n) for n in (40, 60, 80)), indexing="ij")
    x = x - shift

    def ball(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        return sum(((a - c) / r) ** 2 for a, c, r in zip((z, y, x), centre, radii, strict=True)) <= 1

    values = np.full(z.shape, -1000, np.float32)
    values[((y - 30) / 22) ** 2 + ((x - 39.5) / 30) ** 2 <= 1] = 40
    lungs = {"right_lung": ball((20, 30, 26), (15, 14, 10)), "left_lung": ball((20, 30, 54), (14, 12, 8))}
    for mask in lungs.values():
        values[mask] = -850
    values[10:31, 28:31, 39 + shift : 41 + shift] = -1000
    return Image(values[None], -1024, 3071, (4.0,) * 3, affine_of("LPS", (4.0,) * 3), "CT"), lungs
