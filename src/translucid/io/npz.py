"""Volumes in NumPy's .npz archives, as RAD-ChestCT hands them out; read by hand, so nothing in them can run."""

from __future__ import annotations

import math
import zipfile
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from translucid.errors import UnreadableImage
from translucid.io.limits import DEFAULT_POLICY, ReadPolicy, border, read_bytes
from translucid.io.volume import affine_of
from translucid.types import Image

KEY, SPACING, ORIENTATION = "ct", 0.8, "LPI"
"""RAD-ChestCT's array, its cubes' side in mm, and its storage: first slice at the head (our reading)."""
_HEADER_BYTES = 4096


def looks_npz(head: bytes) -> bool:
    """Whether the bytes begin like a zip archive whose first member is a NumPy array.

    >>> looks_npz(b"a volume")
    False
    """
    return head[:4] == b"PK\x03\x04" and b".npy" in head[30 : 30 + int.from_bytes(head[26:28], "little")]


def read_npz_volume(
    path: Path,
    key: str = KEY,
    *,
    spacing: float = SPACING,
    orientation: str = ORIENTATION,
    policy: ReadPolicy = DEFAULT_POLICY,
) -> Image:
    """Read one (slice, row, column) array of an .npz archive as a CT volume.

    The archive says nothing of the patient, so spacing and orientation are the caller's word; the defaults are
    RAD-ChestCT's: cubes of 0.8 mm, low slices at the head, low rows in front, low columns on the patient's right. The
    affine puts the first voxel at the origin.

    Args:
        path: the archive.
        key: name of the array.
        spacing: side of a voxel in millimetres.
        orientation: see `translucid.io.volume`.
        policy: ceilings, checked before memory is taken.

    Returns:
        An `Image` of float32 pixels (1, slice, row, column); it declares no range.

    Raises:
        UnreadableImage: no archive, no such array, not three axes of real numbers, or beyond the ceilings.
        ConfigError: no such orientation.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "trn00001.npz")
        ...     np.savez_compressed(path, ct=np.full((2, 3, 4), -700, np.int16))
        ...     ct = read_npz_volume(path)
        >>> ct.space, float(ct.pixels.max()), ct.spacing
        ((2, 3, 4), -700.0, (0.8, 0.8, 0.8))

    Source: Draelos et al. 2021, doi 10.1016/j.media.2020.101857; the data set, doi 10.5281/zenodo.6406114.

    Fails when: a scan was stored in another order than the rest; the archive would not show it.
    """
    affine = affine_of(orientation, (spacing,) * 3)
    with border(Path(path).name):
        values = _array(read_bytes(Path(path), policy), key, policy)
    source = {"format": "npz", "bits_stored": 8 * values.dtype.itemsize, "affine": "stated by the caller"}
    return Image(_pixels(values), math.nan, math.nan, (spacing,) * 3, affine, "CT", source)


def read_npz(data: bytes, frame: int | None, policy: ReadPolicy) -> Image:
    """RAD-ChestCT's array, or one slice of it."""
    values = _array(data, KEY, policy)
    source = {"format": "npz", "bits_stored": 8 * values.dtype.itemsize, "frame": frame}
    if frame is None:
        affine = affine_of(ORIENTATION, (SPACING,) * 3)
        return Image(_pixels(values), math.nan, math.nan, (SPACING,) * 3, affine, "CT", source)
    if not 0 <= frame < len(values):
        raise UnreadableImage(f"slice {frame} asked for; wanted 0 to {len(values) - 1}: correct the manifest")
    return Image(_pixels(values[frame]), math.nan, math.nan, (SPACING,) * 2, None, "CT", source)


def _pixels(values: np.ndarray) -> np.ndarray:
    pixels = np.array(values, np.float32, order="C")[None]
    if values.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise UnreadableImage("voxels that are not finite; wanted numbers only: replace them and save it again")
    return pixels


def _array(data: bytes, key: str, policy: ReadPolicy) -> np.ndarray:
    """The array as stored; sizes are checked by its own header before anything large is inflated."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        if f"{key}.npy" not in archive.namelist():
            raise UnreadableImage(f"the archive holds no array {key!r}; wanted it: name the array with key=")
        with archive.open(f"{key}.npy") as stream:
            shape, columns_first, dtype = _header(stream)
            if dtype.hasobject or dtype.kind not in "iuf" or len(shape) != 3:
                raise UnreadableImage(
                    f"an array of {len(shape)} axes of {dtype.name}; wanted 3 axes of real numbers: save it as int16"
                )
            policy.check_samples(*shape)
            wanted = math.prod(shape) * dtype.itemsize
            if wanted > policy.max_inflated_bytes:
                raise UnreadableImage(
                    f"a volume of {wanted} bytes; wanted at most {policy.max_inflated_bytes}: "
                    "raise max_inflated_bytes in the ReadPolicy if you trust the file"
                )
            body = stream.read(wanted)
    if len(body) < wanted:
        raise UnreadableImage(f"{len(body)} bytes of a volume of {wanted}; wanted all: copy the file again")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if columns_first else "C")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise UnreadableImage("an array in a format other than 1.0 or 2.0; wanted one of these: save it again")
    return read(stream, max_header_size=_HEADER_BYTES)
