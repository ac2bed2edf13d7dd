"""A film as a small valid digital X-ray object; every identifier in it is made up from the cohort's seed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from translucid.phantom.cohort import ChestPlan
from translucid.phantom.shapes import Array


def _uid(plan: ChestPlan, *what: object) -> str:
    """2.25 and a 128-bit number, as DICOM PS3.5 B.2 wants it, from the options and what is named."""
    text = repr(("phantom", plan.cohort, *what)).encode()
    return f"2.25.{int.from_bytes(hashlib.sha256(text).digest()[:16], 'big')}"


def write_dx(path: Path, pixels: Array, plan: ChestPlan, row: int, spacing: float) -> None:
    """Write one film; the study's date is a day per visit in a year long past.

    Args:
        path: where to.
        pixels: (h, w) uint8 or uint16, bone bright.
        plan, row: what was drawn, and which row of it this is.
        spacing: mm per pixel.
    """
    patient, visit = int(plan.patient[row]), int(plan.visit[row])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = UID(_uid(plan, "image", patient, visit))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    d.SOPClassUID, d.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    d.StudyInstanceUID = _uid(plan, "study", patient, visit)
    d.SeriesInstanceUID = _uid(plan, "series", patient, visit)
    d.PatientName, d.PatientID = f"PHANTOM^{patient:05d}", f"P{patient:05d}"
    d.PatientBirthDate, d.PatientSex = "", str(plan.sex[row])
    d.PatientAge = f"{int(plan.age[row]):03d}Y"
    d.StudyDate = d.ContentDate = f"1900{1 + visit % 12:02d}01"
    d.StudyTime = d.ContentTime = "120000"
    d.StudyID, d.AccessionNumber, d.ReferringPhysicianName = str(visit), "", ""
    d.SeriesNumber, d.InstanceNumber = 1, 1
    d.Modality, d.Manufacturer = "DX", "phantom"
    d.PresentationIntentType, d.ImageType = "FOR PRESENTATION", ["ORIGINAL", "PRIMARY", ""]
    d.BodyPartExamined, d.ViewPosition, d.ImageLaterality = "CHEST", "PA", "U"
    d.PatientOrientation = ["L", "F"]
    d.BurnedInAnnotation = "YES" if plan.cohort.text else "NO"
    _describe(d, pixels, spacing)
    d.save_as(path, enforce_file_format=True)


def _describe(d: FileDataset, pixels: Array, spacing: float) -> None:
    bits = pixels.dtype.itemsize * 8
    d.Rows, d.Columns = pixels.shape
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated = d.BitsStored = bits
    d.HighBit, d.PixelRepresentation = bits - 1, 0
    d.PixelIntensityRelationship, d.PixelIntensityRelationshipSign = "LOG", -1
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = "0", "1", "US"
    d.PresentationLUTShape, d.LossyImageCompression = "IDENTITY", "00"
    d.WindowCenter, d.WindowWidth = str(2 ** (bits - 1)), str(2**bits)
    d.ImagerPixelSpacing = [f"{spacing:.4f}"] * 2
    d.PixelData = np.ascontiguousarray(pixels).tobytes()
