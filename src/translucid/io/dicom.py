"""DICOM → `Image`: values after the modality look-up, larger always brighter, the range from the header alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from translucid.errors import UnreadableImage
from translucid.io import luts
from translucid.io.dicom_file import Header, decode, open_dicom
from translucid.io.limits import DEFAULT_POLICY, ReadPolicy, border, read_bytes
from translucid.types import Image

# fmt: off
MODALITIES = frozenset((
    "CR", "DX", "DR", "RG", "RF", "XA", "MG", "IO", "PX", "XC", "CT", "MR", "US", "IVUS", "PT", "NM", "OP", "OPT",
    "OAM", "SM", "GM", "ES", "EC", "BI", "TG", "SC", "OT", "SEG", "RTIMAGE", "RTDOSE", "HD", "IVOCT", "BDUS", "DG",
    "LS", "OCT", "OPTENF",
))
VIEWS = frozenset((
    "AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "LAT", "LATERAL", "LPO", "RPO", "LAO", "RAO", "CC", "MLO",
    "ML", "LM", "XCC",
))
# fmt: on


def read_dicom(data: bytes, frame: int | None, policy: ReadPolicy) -> Image:
    """One DICOM object, or one frame of it; a file of several frames gives (channel, frames, rows, columns).

    Raises:
        UnreadableImage: no pixels, no decoder, a header and a stream that disagree, a colour space without RGB.
    """
    ds, header = open_dicom(data, policy)
    return image_of(ds, header, frame, policy)


def image_of(ds: Dataset, header: Header, frame: int | None, policy: ReadPolicy) -> Image:
    """Decode an object that is already parsed."""
    stored, colours = decode(ds, header, frame, policy)
    little = bool(header.syntax.is_little_endian)
    if colours == "PALETTE COLOR":
        pixels, low, high, how = _from_palette(ds, stored, signed=header.signed, little=little)
    elif header.samples == 3:
        pixels, low, high, how = _from_colour(stored, header, colours)
    else:
        pixels, low, high, how = _from_grey(ds, stored, header, frame, little)
    return Image(
        pixels=pixels,
        low=low,
        high=high,
        spacing=_spacing(ds, pixels.ndim - 1),
        modality=_listed(ds, "Modality", MODALITIES),
        source=_source(ds, header, frame) | how,
    )


def stored_values(path: Path, frame: int | None = None, policy: ReadPolicy = DEFAULT_POLICY) -> np.ndarray:
    """Samples of a DICOM file as stored: before rescale, inversion and palette, YBR turned to RGB.

    Returns:
        ([frames,] rows, columns [, samples]) of the file's own integer or float type.

    Raises:
        UnreadableImage: the file cannot be used; the message names it.

    Example:
        >>> stored_values(Path("missing.dcm"))
        Traceback (most recent call last):
        ...
        translucid.errors.UnreadableImage: missing.dcm: is not there; wanted an image file: check the path ...
    """
    with border(Path(path).name):
        ds, header = open_dicom(read_bytes(Path(path), policy), policy)
        return decode(ds, header, frame, policy)[0]


Parts = tuple[np.ndarray, float, float, dict[str, Any]]


def _from_grey(ds: Dataset, stored: np.ndarray, header: Header, frame: int | None, little: bool) -> Parts:
    bottom, top = _stored_range(header)
    table = luts.modality_table(ds, signed=header.signed, little=little)
    if table is not None and not header.floating:
        pixels = table.apply(stored)
        reachable = table.apply(np.arange(bottom, top + 1))
        low, high, how = float(reachable.min()), float(reachable.max()), {"modality_lut": "table"}
    else:
        slope, intercept = luts.rescale(ds, header.frames, frame)
        pixels = _rescaled(stored, slope, intercept)
        ends = np.array([bottom, top])[:, None] * slope + intercept
        low, high = float(ends.min()), float(ends.max())
        how = {"modality_lut": "identity" if (slope == 1).all() and not intercept.any() else "rescale"}
    if header.floating and not np.isfinite(pixels).all():
        raise UnreadableImage("values that are not finite; wanted numbers only: replace them and export again")
    if header.photometric == "MONOCHROME1":
        pixels = _inverted(pixels, low, high)
    return pixels[None], low, high, how | {"inverted": header.photometric == "MONOCHROME1"}


def _rescaled(stored: np.ndarray, slope: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """stored · slope + intercept in float32; per-frame factors go along the first axis."""
    if len(slope) > 1:
        slope, intercept = (v.reshape(-1, 1, 1) for v in (slope, intercept))
    pixels = np.multiply(stored, slope.astype(np.float32), dtype=np.float32, casting="unsafe")
    pixels += intercept.astype(np.float32)
    return pixels


def _inverted(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    if math.isnan(low):
        raise UnreadableImage(
            "MONOCHROME1 with float samples declares no range to invert in; wanted MONOCHROME2: export the file again"
        )
    return np.float32(low + high) - pixels


def _stored_range(header: Header) -> tuple[float, float]:
    """The smallest and largest value that bits stored and pixel representation allow; nan for floats."""
    if header.floating:
        return math.nan, math.nan
    if header.signed:
        return -(1 << (header.stored - 1)), (1 << (header.stored - 1)) - 1
    return 0, (1 << header.stored) - 1


def _from_colour(stored: np.ndarray, header: Header, colours: str) -> Parts:
    if colours != "RGB" or header.signed:
        raise UnreadableImage(
            "three samples a pixel in a colour space that has no way to RGB; wanted RGB or YBR_FULL, unsigned: "
            "export the file as RGB"
        )
    pixels = np.ascontiguousarray(np.moveaxis(stored, -1, 0), np.float32)
    low, high = _stored_range(header)
    return pixels, float(low), float(high), {"inverted": False}


def _from_palette(ds: Dataset, stored: np.ndarray, *, signed: bool, little: bool) -> Parts:
    tables = luts.palette(ds, signed=signed, little=little)
    pixels = np.stack([t.apply(stored) for t in tables])
    bits = min(tables[0].bits, 8 * tables[0].entries.dtype.itemsize)
    return pixels, 0.0, float((1 << bits) - 1), {"inverted": False, "palette_bits": bits}


def _spacing(ds: Dataset, axes: int) -> tuple[float, ...] | None:
    """Millimetres between rows and columns (and slices), at the patient if known, else at the detector."""
    shared = next(iter(ds.get("SharedFunctionalGroupsSequence") or []), Dataset())
    measures = next(iter(shared.get("PixelMeasuresSequence") or []), ds)
    values = measures.get("PixelSpacing") or ds.get("ImagerPixelSpacing")
    try:
        spacing = tuple(float(v) for v in values or ())
        if axes == 3:
            spacing = (float(measures.get("SpacingBetweenSlices")), *spacing)
    except (TypeError, ValueError):  # a spacing that cannot be read is a spacing we do not know
        return None
    known = len(spacing) == axes and all(math.isfinite(v) and v > 0 for v in spacing)
    return spacing if known else None


def _listed(ds: Dataset, keyword: str, known: frozenset[str]) -> str:
    """A code of the header, if it is one of the known ones; free text does not pass."""
    value = str(ds.get(keyword) or "").strip().upper()
    return value if value in known else ""


def _source(ds: Dataset, header: Header, frame: int | None) -> dict[str, Any]:
    """Technical facts only; each is a number or one of a closed list of words."""
    return {
        "format": "DICOM",
        "transfer_syntax": header.syntax.name,
        "photometric": header.photometric,
        "bits_allocated": header.allocated,
        "bits_stored": header.stored,
        "signed": header.signed,
        "frames": header.frames,
        "frame": frame,
        "view": _listed(ds, "ViewPosition", VIEWS),
    }
