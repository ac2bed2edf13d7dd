"""NIfTI (.nii, .nii.gz) → `Image`: scaled values, (depth, height, width), affine and spacing in that order."""

from __future__ import annotations

import gzip
import math
import zlib
from io import BytesIO
from typing import Any

import nibabel as nib
import numpy as np

from translucid.errors import UnreadableImage
from translucid.io.limits import ReadPolicy
from translucid.types import Image

_GZIP = b"\x1f\x8b"
_EXTRA = 1 << 20
"""Most bytes allowed between the header and the voxels."""


def looks_nifti(head: bytes) -> bool:
    """Whether the bytes begin like NIfTI-1 or -2 in one file, gzipped or not.

    >>> looks_nifti(gzip.compress(b"no volume"))
    False
    """
    if head[:2] == _GZIP:
        try:
            head = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, 348)
        except zlib.error:
            return False
    return head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0"


def read_nifti(data: bytes, frame: int | None, policy: ReadPolicy) -> Image:
    """A 2-D image, a 3-D volume, or (`frame`) one slice of a volume.

    The array is turned from NIfTI's (i, j, k) to (depth k, height j, width i), as stored, without flips; `affine`
    maps (k, j, i, 1) to millimetres. NIfTI declares a range only by cal_min < cal_max; without it, unscaled 8-bit
    data have 0–255 and all others (nan, nan), so that a window must be given when they are framed.

    Raises:
        UnreadableImage: time series, colour, complex or non-finite voxels, a header beyond the ceilings.
    """
    volume, header = _open(data, policy)
    shape = tuple(int(n) for n in volume.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3):
        raise UnreadableImage(
            f"a NIfTI of {len(shape)} axes {shape}; wanted 2 or 3: save the volumes of a series one by one"
        )
    voxels = np.asarray(volume.dataobj, np.float32).reshape(shape).transpose()
    if not np.isfinite(voxels).all():
        raise UnreadableImage("voxels that are not finite; wanted numbers only: replace them and save it again")
    spacing = tuple(float(z) for z in header.get_zooms()[: len(shape)][::-1])
    affine: np.ndarray | None = _turned(np.asarray(volume.affine, np.float64)) if len(shape) == 3 else None
    if frame is not None:
        voxels, spacing, affine = _slice(voxels, frame), spacing[-2:], None
    low, high, rule = _range(header)
    source: dict[str, Any] = {"format": "NIfTI", "bits_stored": 8 * header.get_data_dtype().itemsize, "range": rule}
    known = all(math.isfinite(s) and s > 0 for s in spacing)
    pixels = np.ascontiguousarray(voxels)[None]
    return Image(pixels, low, high, spacing if known else None, affine, source=source | {"frame": frame})


def _slice(voxels: np.ndarray, frame: int) -> np.ndarray:
    count = len(voxels) if voxels.ndim == 3 else 1
    if not 0 <= frame < count:
        raise UnreadableImage(f"slice {frame} asked for; wanted 0 to {count - 1}: correct the manifest")
    return np.asarray(voxels[frame]) if voxels.ndim == 3 else voxels


def _turned(affine: np.ndarray) -> np.ndarray:
    """The affine for (k, j, i, 1) instead of (i, j, k, 1)."""
    return affine[:, [2, 1, 0, 3]]


def _range(header: Any) -> tuple[float, float, str]:
    bottom, top = float(header["cal_min"]), float(header["cal_max"])
    if math.isfinite(bottom) and math.isfinite(top) and bottom < top:
        return bottom, top, "cal_min to cal_max"
    slope, intercept = (float(header[k]) for k in ("scl_slope", "scl_inter"))
    scaled = math.isfinite(slope) and slope != 0 and (slope, intercept) != (1.0, 0.0)
    if header.get_data_dtype() == np.uint8 and not scaled:
        return 0.0, 255.0, "8-bit"
    return math.nan, math.nan, "none declared"


def _open(data: bytes, policy: ReadPolicy) -> tuple[Any, Any]:
    """The volume, opened once the header's own figures are known to be harmless; and that header.

    nibabel empties scl_slope in a volume's header when it reads one, so ours is kept.
    """
    stream: Any = gzip.GzipFile(fileobj=BytesIO(data)) if data[:2] == _GZIP else BytesIO(data)
    head = stream.read(540)
    kind = nib.Nifti2Image if head[4:8] == b"n+2\0" else nib.Nifti1Image
    size = kind.header_class.sizeof_hdr
    header = kind.header_class(head[:size], check=False)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise UnreadableImage("colour or complex voxels; wanted one real number each: save the channels one by one")
    policy.check_samples(*(max(int(n), 0) for n in header.get_data_shape()))
    offset = _offset(header)
    wanted = offset + math.prod(header.get_data_shape()) * dtype.itemsize
    if wanted > policy.max_inflated_bytes:
        raise UnreadableImage(
            f"a volume of {wanted} bytes; wanted at most {policy.max_inflated_bytes}: "
            "raise max_inflated_bytes in the ReadPolicy if you trust the file"
        )
    body = head[: min(len(head), wanted)] + stream.read(max(wanted - len(head), 0))
    if len(body) < wanted:
        raise UnreadableImage(f"{len(body)} bytes of a volume of {wanted}; wanted all: copy the file again")
    # extensions can hold free text and are not needed: the four bytes that announce them are cleared
    return kind.from_bytes(body[:size] + bytes(4) + body[size + 4 :]), header


def _offset(header: Any) -> int:
    offset = float(header["vox_offset"])
    if not 0 <= offset <= _EXTRA:
        raise UnreadableImage(f"voxels that begin at byte {offset:g}; wanted at most {_EXTRA}: save the file again")
    return max(int(offset), header.sizeof_hdr + 4)
