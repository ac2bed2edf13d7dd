"""A DICOM series → one volume in Hounsfield units with its place in the patient, or a reason why not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from translucid.errors import UnreadableImage
from translucid.io.dicom import image_of
from translucid.io.dicom_file import looks_dicom, open_dicom
from translucid.io.limits import DEFAULT_POLICY, ReadPolicy, border, read_bytes
from translucid.io.readers import image_files
from translucid.io.slices import GEOMETRY, Slice, Stack, check_units, slices_of, stack
from translucid.types import Image


def read_series(
    files: Path | Sequence[Path],
    *,
    series: int | None = None,
    hounsfield: bool = True,
    policy: ReadPolicy = DEFAULT_POLICY,
) -> Image:
    """Read a DICOM series of single slices, or one enhanced multi-frame object, as a volume.

    Slices are sorted by the place of their first pixel along the normal of their plane, never by file name. The
    affine takes (slice, row, column, 1) to millimetres in RAS. An upright axial series comes out as "LPS": low
    columns are the patient's right, low rows the front, low slices the feet.

    Args:
        files: a folder (searched with the folders below it; files that are no DICOM are passed over), one file, or
            the files themselves.
        series: where there are several series, which: 0 is the one with most slices, and so on.
        hounsfield: insist on Hounsfield units: Modality CT, a rescale, and a rescale type of HU where one is named.
        policy: ceilings, checked before memory is taken; the whole volume counts for `max_samples`.

    Returns:
        An `Image` of float32 pixels (1, slice, row, column) with spacing, affine and modality.

    Raises:
        UnreadableImage: several series and no choice, a slice missing or there twice, a tilted gantry, slices that
            differ in size, spacing or orientation, values that are not in Hounsfield units, a file that cannot be
            read. Slices are named by number and position.

    Example:
        >>> read_series([])
        Traceback (most recent call last):
        ...
        translucid.errors.UnreadableImage: no DICOM slices here; wanted a series: check the path

    Source: DICOM PS3.3 C.7.6.2 (Image Plane Module), C.7.6.16.2 (functional groups).

    Fails when: slices are missing at the top or the bottom of the series; nothing in the others would show it.
    """
    paths, lenient = _paths(files)
    slices = [s for number, path in enumerate(paths) for s in _headers(path, number, lenient, hounsfield, policy)]
    if not slices:
        raise UnreadableImage("no DICOM slices here; wanted a series: check the path")
    chosen, count = _one_series(slices, series)
    built = stack(chosen)
    policy.check_samples(len(built.slices), built.rows, built.columns)
    return _filled(built, paths, policy, {"series": series, "series_found": count})


def _paths(files: Path | Sequence[Path]) -> tuple[list[Path], bool]:
    """The files, and whether those that are no DICOM may be passed over."""
    if isinstance(files, (str, Path)):
        path = Path(files)
        return ([path], False) if path.is_file() else (image_files(path), True)
    return [Path(f) for f in files], False


def _headers(path: Path, number: int, lenient: bool, hounsfield: bool, policy: ReadPolicy) -> list[Slice]:
    with border(path.name):
        data = read_bytes(path, policy)
        if not looks_dicom(data[:4096]):
            if lenient:
                return []
            raise UnreadableImage("is no DICOM; wanted slices of a DICOM series: leave it out")
        ds, header = open_dicom(data, policy, GEOMETRY)
        if hounsfield:
            check_units(ds, header)
        return slices_of(ds, header, number)


def _one_series(slices: Iterable[Slice], series: int | None) -> tuple[list[Slice], int]:
    """The slices of the series asked for, the largest first; ties in order of appearance."""
    groups: dict[str, list[Slice]] = {}
    for one in slices:
        groups.setdefault(one.series, []).append(one)
    ranked = sorted(groups.values(), key=len, reverse=True)
    if series is None and len(ranked) > 1:
        counts = ", ".join(f"series={n}: {len(group)} slices" for n, group in enumerate(ranked[:10]))
        raise UnreadableImage(f"{len(ranked)} series are mixed here; wanted one: choose one of {counts}")
    if not 0 <= (series or 0) < len(ranked):
        raise UnreadableImage(f"series {series} asked for; wanted 0 to {len(ranked) - 1}: there are {len(ranked)} here")
    return ranked[series or 0], len(ranked)


def _filled(built: Stack, paths: Sequence[Path], policy: ReadPolicy, how: dict[str, int | None]) -> Image:
    """Decode slice after slice into the volume; a multi-frame object is decoded once."""
    pixels = np.empty((1, len(built.slices), built.rows, built.columns), np.float32)
    lows, highs, image = [], [], None
    places: dict[int, list[tuple[int, Slice]]] = {}
    for at, one in enumerate(built.slices):
        places.setdefault(one.file, []).append((at, one))
    for file, here in places.items():
        with border(paths[file].name):
            image = image_of(*open_dicom(read_bytes(paths[file], policy), policy), None, policy)
            for at, one in here:
                pixels[0, at] = image.pixels[0] if one.frame is None else image.pixels[0, one.frame]
        lows.append(image.low)
        highs.append(image.high)
    assert image is not None
    keep = ("transfer_syntax", "photometric", "bits_stored", "signed", "modality_lut")
    source = {"format": "DICOM series", "slices": len(built.slices)} | {k: image.source.get(k) for k in keep}
    return Image(
        pixels, min(lows), max(highs), built.spacing, built.affine, modality=image.modality, source=source | how
    )
