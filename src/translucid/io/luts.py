"""Look-up tables of DICOM: the modality's (stored → meaningful values) and the palette's (index → colour)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from translucid.errors import UnreadableImage


class Table(NamedTuple):
    """Entries for the stored values first, first + 1, …; those beyond take the nearest end (PS3.3 C.11.1)."""

    first: int
    bits: int
    entries: np.ndarray

    def apply(self, stored: np.ndarray) -> np.ndarray:
        """Look every sample up; float32."""
        index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries.astype(np.float32)[index]


def table(descriptor: Any, data: Any, *, signed: bool, little: bool) -> Table:
    """A table from its descriptor (entries, first value, bits per entry) and its data, bytes or numbers."""
    count, first, bits = (int(v) for v in descriptor)
    count = count or 1 << 16
    if signed and first >= 1 << 15:
        first -= 1 << 16
    if isinstance(data, (bytes, bytearray)):
        wide = len(data) >= 2 * count
        entries = np.frombuffer(data, ("<u2" if little else ">u2") if wide else "u1")[:count]
    else:
        entries = np.asarray(data, np.int64).reshape(-1)[:count]
    if len(entries) != count or not 1 <= bits <= 16:
        raise UnreadableImage(
            f"a look-up table of {len(entries)} entries of {bits} bits; wanted the {count} of 1 to 16 bits it "
            "announces: export the file again"
        )
    return Table(first, bits, entries)


def modality_table(ds: Dataset, *, signed: bool, little: bool) -> Table | None:
    """The Modality LUT, where the file has one."""
    items = ds.get("ModalityLUTSequence")
    if not items:
        return None
    return table(items[0].LUTDescriptor, items[0].LUTData, signed=signed, little=little)


def palette(ds: Dataset, *, signed: bool, little: bool) -> tuple[Table, Table, Table]:
    """Red, green and blue tables of a PALETTE COLOR image."""
    try:
        parts = [
            (ds[f"{c}PaletteColorLookupTableDescriptor"].value, ds[f"{c}PaletteColorLookupTableData"].value)
            for c in ("Red", "Green", "Blue")
        ]
    except KeyError:
        raise UnreadableImage(
            "PALETTE COLOR without plain look-up tables (perhaps segmented ones); wanted three: export it as RGB"
        ) from None
    red, green, blue = (table(*p, signed=signed, little=little) for p in parts)
    return red, green, blue


def rescale(ds: Dataset, frames: int, frame: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept, one per frame asked for, or one for all.

    Enhanced objects keep them per frame or shared by all, others at the top level (PS3.3 C.7.6.16.2.9, C.11.1).
    """
    per_frame = list(ds.get("PerFrameFunctionalGroupsSequence") or [])
    if len(per_frame) == frames and per_frame and "PixelValueTransformationSequence" in per_frame[0]:
        chosen = per_frame if frame is None else [per_frame[frame]]
        pairs = [_pair(group.PixelValueTransformationSequence[0]) for group in chosen]
    else:
        shared = next(iter(ds.get("SharedFunctionalGroupsSequence") or []), ds)
        pairs = [_pair(next(iter(shared.get("PixelValueTransformationSequence") or []), ds))]
    slope, intercept = np.asarray(pairs, np.float64).T
    if not (np.isfinite(slope).all() and np.isfinite(intercept).all() and slope.all()):
        raise UnreadableImage("a rescale slope that is zero or not finite; wanted a number: export the file again")
    return slope, intercept


def _pair(group: Dataset) -> tuple[float, float]:
    """Absent elements mean 1 and 0; a present one that is empty too."""
    slope, intercept = group.get("RescaleSlope"), group.get("RescaleIntercept")
    return float(1 if slope is None else slope), float(0 if intercept is None else intercept)
