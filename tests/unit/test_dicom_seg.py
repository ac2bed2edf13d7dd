"""DICOM SEG: frames land where they lie in the patient, in whatever order the CT is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import pack_bits

from io_phantoms import dataset, write
from io_volumes import AXIAL, places, series, stored
from translucid.errors import ConfigError, UnreadableImage
from translucid.io.seg import read_dicom_seg
from translucid.io.series import read_series
from translucid.io.volume import to_orientation
from translucid.types import Image

RNG = np.random.default_rng(4)
FIRST = RNG.integers(0, 2, (5, 4, 6), bool)
SECOND = RNG.integers(0, 2, (5, 4, 6), bool)


def segmentation(frames: list[tuple[int, int]], binary: bool = True, **elements: Any) -> Dataset:
    """Frames (segment, slice) of the two masks; the slices lie as those of the series."""
    values = np.stack([(FIRST, SECOND)[segment - 1][k] for segment, k in frames]).astype(np.uint8)
    ds = dataset(values * 255 if not binary else values, Modality="SEG")
    if binary:
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
        ds.PixelData = pack_bits(values)
    else:
        ds.MaximumFractionalValue = 255
    del ds.PixelSpacing
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = list(AXIAL), [0.5, 0.25]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [frame(segment, places()[k]) for segment, k in frames]
    for name, value in elements.items():
        setattr(ds, name, value)
    return ds


def frame(segment: int, position: np.ndarray) -> Dataset:
    item, where, what = Dataset(), Dataset(), Dataset()
    where.ImagePositionPatient = [float(v) for v in position]
    what.ReferencedSegmentNumber = segment
    item.PlanePositionSequence, item.SegmentIdentificationSequence = [where], [what]
    return item


@pytest.fixture
def scan(tmp_path: Path) -> Image:
    return read_series(series(tmp_path / "scan", stored(), places()))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("code", ["LPS", "RAS", "SAL"])
def test_frames_land_by_their_place(tmp_path: Path, scan: Image, binary: bool, code: str) -> None:
    frames = [(2, 3), (1, 4), (1, 0), (2, 0), (1, 2)]
    path = write(tmp_path / "seg.dcm", segmentation(frames, binary))
    image = to_orientation(scan, code)
    organs = read_dicom_seg(path, image, {"left_lung": [1], "both": [1, 2], "heart": [7]})
    expected = {"left_lung": np.zeros((5, 4, 6), bool), "both": np.zeros((5, 4, 6), bool)}
    for segment, k in frames:
        expected["both"][k] |= (FIRST, SECOND)[segment - 1][k]
        expected["left_lung"][k] |= FIRST[k] & (segment == 1)
    for name, mask in expected.items():
        turned = Image(organs.masks[name][None].astype(np.float32), 0, 1, None, image.affine)
        np.testing.assert_array_equal(to_orientation(turned, "LPS").pixels[0] > 0, mask)
    assert not organs.ok and organs.findings[0].title == "the mask of 'heart' is empty"


def test_refusals(tmp_path: Path, scan: Image) -> None:
    good = segmentation([(1, 0), (1, 1)])
    path = write(tmp_path / "seg.dcm", good)
    with pytest.raises(ConfigError, match="at least one organ"):
        read_dicom_seg(path, scan, {})
    moved = Image(scan.pixels, 0, 1, None, scan.affine + np.eye(4)[:, [3, 0, 1, 2]] * 0.2)
    with pytest.raises(UnreadableImage, match=r"^seg\.dcm: frames of 4 × 6 pixels that do not lie .* wanted that of"):
        read_dicom_seg(path, moved, {"heart": [1]})
    with pytest.raises(UnreadableImage, match="do not lie on the CT's grid"):
        read_dicom_seg(path, Image(scan.pixels[:, :, :3], 0, 1, None, scan.affine), {"heart": [1]})
    with pytest.raises(UnreadableImage, match=r"^ct\.dcm: is no DICOM SEG"):
        read_dicom_seg(write(tmp_path / "ct.dcm", segmentation([(1, 0)], Modality="CT")), scan, {"heart": [1]})
    nameless = segmentation([(1, 0)])
    del nameless.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence
    with pytest.raises(UnreadableImage, match="belongs to no segment"):
        read_dicom_seg(write(tmp_path / "n.dcm", nameless), scan, {"heart": [1]})
