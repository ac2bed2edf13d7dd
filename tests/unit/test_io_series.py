"""DICOM series: right place for every voxel, or an error that names the slice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from io_phantoms import SECRET, dataset, write
from io_volumes import AXIAL, places, plane, series, stored
from translucid.errors import UnreadableImage
from translucid.io.limits import ReadPolicy
from translucid.io.series import read_series
from translucid.io.volume import orientation_of

TO_RAS = np.array([-1.0, -1.0, 1.0])


def world(position: Any, orientation: Any, spacing: tuple[float, float], row: int, column: int) -> np.ndarray:
    """PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1, turned to RAS."""
    along, down = np.reshape(orientation, (2, 3))
    return TO_RAS * (np.asarray(position) + along * spacing[1] * column + down * spacing[0] * row)


OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)])
@pytest.mark.parametrize("backwards", [False, True])
def test_every_voxel_lies_where_dicom_says(tmp_path: Path, orientation: Any, backwards: bool) -> None:
    normal = np.cross(*np.reshape(orientation, (2, 3)))
    positions = np.array([5.0, -7.0, 11.0]) + 2.5 * np.arange(5)[:, None] * normal
    values = stored()
    order = slice(None, None, -1) if backwards else slice(None)
    image = read_series(series(tmp_path, values[order], positions[order], orientation=orientation))
    np.testing.assert_array_equal(image.pixels[0], values * 2.0 - 1000)
    assert image.spacing == pytest.approx((2.5, 0.5, 0.25))
    assert image.modality == "CT" and (image.low, image.high) == (-32768 * 2 - 1000, 32767 * 2 - 1000)
    assert image.affine is not None
    for k, j, i in [(0, 0, 0), (4, 3, 5), (2, 1, 4)]:
        expected = world(positions[k], orientation, (0.5, 0.25), j, i)
        np.testing.assert_allclose((image.affine @ [k, j, i, 1])[:3], expected, atol=1e-9)
    assert SECRET not in str(image.source)


def test_an_upright_series_is_lps(tmp_path: Path) -> None:
    folder = series(tmp_path, stored(), places())
    (tmp_path / "notes.txt").write_text("no image")
    image = read_series(folder)
    assert image.affine is not None and orientation_of(image.affine) == "LPS"
    listed = read_series(sorted(tmp_path.glob("*.dcm")))
    np.testing.assert_array_equal(listed.pixels, image.pixels)


def enhanced(values: np.ndarray, positions: np.ndarray) -> Dataset:
    ds = plane(values, positions[0], RescaleSlope=None, RescaleIntercept=None, RescaleType=None)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(ds, name)
    shared, orientation, measures, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing = [0.5, 0.25]
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, -1000, "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [rescale]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for position in positions:
        frame, where = Dataset(), Dataset()
        where.ImagePositionPatient = [float(v) for v in position]
        frame.PlanePositionSequence = [where]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    return ds


def test_an_enhanced_object_equals_its_series(tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    file = write(tmp_path / "all.dcm", enhanced(stored()[order], places()[order]))
    image, other = read_series(file), read_series(series(tmp_path / "series", stored(), places()))
    np.testing.assert_array_equal(image.pixels, other.pixels)
    np.testing.assert_allclose(image.affine, other.affine, atol=1e-9)
    ds = enhanced(stored(), places())
    del ds.PerFrameFunctionalGroupsSequence[4]
    with pytest.raises(UnreadableImage, match=r"^cut\.dcm: 5 frames, of which 4 say where they lie"):
        read_series(write(tmp_path / "cut.dcm", ds))


def test_mixed_series_are_counted_and_chosen(tmp_path: Path) -> None:
    series(tmp_path / "a", stored(3), places(3), series="one")
    series(tmp_path / "b", stored(), places(), series="two")
    with pytest.raises(UnreadableImage, match=r"^2 series are mixed .* series=0: 5 slices, series=1: 3 slices") as e:
        read_series(tmp_path)
    assert "1.2.826" not in str(e.value)
    assert read_series(tmp_path, series=0).space == (5, 4, 6)
    assert read_series(tmp_path, series=1).space == (3, 4, 6)
    with pytest.raises(UnreadableImage, match="series 2 asked for; wanted 0 to 1"):
        read_series(tmp_path, series=2)


def test_gaps_copies_and_uneven_steps_are_named(tmp_path: Path) -> None:
    keep = [0, 1, 3, 4]
    with pytest.raises(UnreadableImage, match=r"1 missing between slice 2 of 4 \(at 102.5 mm\) and slice 3 of 4 \(at"):
        read_series(series(tmp_path / "gap", stored()[keep], places()[keep]))
    twice = [0, 1, 2, 2, 3, 4]
    with pytest.raises(UnreadableImage, match=r"slice 3 of 6 \(at 105 mm\) and slice 4 of 6 .* same place, 1 such"):
        read_series(series(tmp_path / "twice", stored()[twice], places()[twice]))
    bent = places()
    bent[4, 2] += 0.4
    with pytest.raises(UnreadableImage, match=r"uneven steps between slice 4 of 5 .* 2.9 mm; wanted 2.5 mm"):
        read_series(series(tmp_path / "uneven", stored(), bent))
    rounded = places() + np.array([[0, 0, 0.01]]) * np.array([[0], [1], [0], [-1], [0]])
    assert read_series(series(tmp_path / "rounded", stored(), rounded)).space == (5, 4, 6)


def test_a_tilted_gantry_and_a_slice_aside(tmp_path: Path) -> None:
    tilted = places() + np.arange(5)[:, None] * np.array([[0, 2.5 * np.tan(np.radians(12)), 0]])
    with pytest.raises(UnreadableImage, match=r"gantry was tilted: slices are stacked 12\.0° off"):
        read_series(series(tmp_path / "tilt", stored(), tilted))
    aside = places()
    aside[2, 0] += 3
    with pytest.raises(UnreadableImage, match=r"slice 3 of 5 \(at 105 mm\) lies 3 mm aside"):
        read_series(series(tmp_path / "aside", stored(), aside))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PixelSpacing": [0.6, 0.25]}, r"slice 3 of 5 .* has pixel spacing 0.6 × 0.25; wanted 0.5 × 0.25"),
        ({"orientation": (1.0, 0, 0, 0, 0.6, 0.8)}, "has orientation 1 × 0 × 0 × 0 × 0.6 × 0.8; wanted"),
        ({"ImagePositionPatient": None}, r"^IM0006\.dcm: no usable ImagePositionPatient"),
        ({"Modality": "MR"}, r"^IM0006\.dcm: the modality is not CT"),
        ({"RescaleType": "OD"}, r"^IM0006\.dcm: the rescale type is not HU"),
        ({"RescaleSlope": None}, r"^IM0006\.dcm: no rescale slope or intercept"),
    ],
)
def test_a_slice_unlike_the_others(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = series(tmp_path, stored(), places())
    write(folder / "IM0006.dcm", plane(stored()[2], places()[2], **change))
    with pytest.raises(UnreadableImage, match=message) as caught:
        read_series(folder)
    assert "; wanted " in str(caught.value) and SECRET not in str(caught.value)


def test_other_refusals(tmp_path: Path) -> None:
    folder = series(tmp_path / "a", stored(), places())
    write(folder / "IM0006.dcm", plane(stored()[2, :3], places()[2]))
    with pytest.raises(UnreadableImage, match=r"slice 3 of 5 \(at 105 mm\) has size 3 × 6; wanted 4 × 6"):
        read_series(folder)
    whole = series(tmp_path / "b", stored(), places())
    with pytest.raises(UnreadableImage, match=r"5 × 4 × 6 samples; wanted at most 100"):
        read_series(whole, policy=ReadPolicy(max_samples=100))
    with pytest.raises(UnreadableImage, match="a single slice"):
        read_series([next(whole.iterdir())])
    (empty := tmp_path / "none").mkdir()
    with pytest.raises(UnreadableImage, match="no DICOM slices here"):
        read_series(empty, series=0)
    (whole / "x.dcm").write_text("no DICOM")
    assert read_series(whole).space == (5, 4, 6)
    with pytest.raises(UnreadableImage, match=re.escape("x.dcm: is no DICOM")):
        read_series([*whole.iterdir()])
    write(whole / "colour.dcm", dataset(np.zeros((4, 6, 3), np.uint8), "RGB"))
    with pytest.raises(UnreadableImage, match=r"^colour\.dcm: "):
        read_series(whole)


def test_other_values_on_request(tmp_path: Path) -> None:
    folder = series(tmp_path, stored(), places(), Modality="MR", RescaleType=None)
    image = read_series(folder, hounsfield=False)
    assert image.modality == "MR" and image.space == (5, 4, 6)
