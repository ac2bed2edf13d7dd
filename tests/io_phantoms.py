"""Small image files written by the tests, with values the tests know."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

SECRET = "DOE^JANE"


def ramp(shape: tuple[int, ...], low: int, high: int, dtype: Any) -> np.ndarray:
    """Whole numbers that rise from low to high over the array, both ends reached."""
    return np.linspace(low, high, int(np.prod(shape))).round().astype(dtype).reshape(shape)


def dataset(stored: np.ndarray, photometric: str = "MONOCHROME2", bits: int | None = None, **elements: Any) -> Dataset:
    """A DICOM object around ([frames,] h, w [, 3]) stored values; identifiers are there to see whether they leak."""
    colour = photometric in ("RGB", "YBR_FULL", "YBR_FULL_422")
    frames = stored.ndim - 2 - colour
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = generate_uid(entropy_srcs=["phantom"])
    ds.PatientName, ds.PatientID, ds.StudyDate = SECRET, SECRET, "20200229"
    ds.Modality, ds.ViewPosition = "DX", "PA"
    ds.Rows, ds.Columns = stored.shape[frames : frames + 2]
    if frames:
        ds.NumberOfFrames = len(stored)
    ds.SamplesPerPixel = 3 if colour else 1
    if colour:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = photometric
    ds.BitsAllocated = 8 * stored.dtype.itemsize
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.PixelSpacing = [0.5, 0.25]
    ds.PixelData = stored.tobytes()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def encapsulated(ds: Dataset, syntax: str, *streams: bytes) -> Dataset:
    """The same object around ready-made compressed frames."""
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate(list(streams))
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds


def dicom_bytes(ds: Dataset) -> bytes:
    """The file as bytes."""
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def write(path: Path, ds: Dataset) -> Path:
    """Write the object and give the path back."""
    path.write_bytes(dicom_bytes(ds))
    return path
