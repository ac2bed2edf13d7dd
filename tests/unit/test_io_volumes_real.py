"""Real CTs: read in the right place, lungs on the right sides, maps back where they came from."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from translucid.errors import UnreadableImage
from translucid.export import save_nifti
from translucid.io.organ_masks import read_organ_masks
from translucid.io.organs import Organs, find_organs
from translucid.io.readers import read_image
from translucid.io.series import read_series
from translucid.io.volume import orientation_of, to_orientation
from translucid.io.volume_framing import VolumeFraming
from translucid.types import Image

CASES = ("P002", "cap002", "normal002")
needs_codecs = pytest.mark.skipif(importlib.util.find_spec("imagecodecs") is None, reason="JPEG Lossless: imagecodecs")


@pytest.fixture(scope="module", params=CASES)
def found(real_data: Path, request: pytest.FixtureRequest) -> tuple[Image, Organs]:
    image = read_image(real_data / "ct-chest-pneumonia" / "volumes" / f"{request.param}.nii.gz")
    return image, find_organs(image)


def right_of(image: Image, mask: np.ndarray) -> float:
    """Millimetres towards the patient's right of a mask's middle."""
    middle = ndimage.center_of_mass(mask)
    return float((image.affine @ [*middle, 1])[0])


def test_lungs_are_found_on_their_sides(found: tuple[Image, Organs]) -> None:
    image, organs = found
    assert organs.ok and image.affine is not None and orientation_of(image.affine) == "LPS"
    ml = organs.record["ml"]
    assert 1000 < ml["left_lung"] < ml["right_lung"] < 4000
    assert 1.1 < ml["right_lung"] / ml["left_lung"] < 1.6  # the heart takes its room on the left
    right, heart, left = (right_of(image, organs.masks[name]) for name in ("right_lung", "heart", "left_lung"))
    assert right > heart + 40 > left + 80
    both = organs.masks["right_lung"] & organs.masks["left_lung"]
    assert not both.any() and not (organs.masks["heart"] & organs.masks["right_lung"]).any()
    assert np.median(image.pixels[0][organs.masks["right_lung"]]) < -700
    # the liver under the right lung: soft tissue below its base, where the left has the gas of the stomach
    turned = find_organs(to_orientation(image, "RAS"))
    for name, mask in organs.masks.items():
        np.testing.assert_array_equal(turned.masks[name][:, ::-1, ::-1], mask)


def test_infected_slices_hold_lung(
    found: tuple[Image, Organs], real_data: Path, request: pytest.FixtureRequest
) -> None:
    """What radiologists marked per slice: its number and its place agree with the affine, and it holds lung."""
    image, organs = found
    with (real_data / "ct-chest-pneumonia" / "slice_labels.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["patient_id"] == request.node.callspec.params["found"]]
    lungs = (organs.masks["right_lung"] | organs.masks["left_lung"]).any((1, 2))
    assert len(rows) == len(lungs)
    for row in rows:
        k = int(row["z_index"])
        assert (image.affine @ [k, 0, 0, 1])[2] == pytest.approx(float(row["slice_location"]), abs=0.01)
        assert lungs[k] or row["infection"] == "0", k


def test_maps_return_through_block_and_file(found: tuple[Image, Organs], tmp_path: Path) -> None:
    image, organs = found
    block = VolumeFraming(3.0, (90, 96, 96), filter="triangle").apply(image)
    assert block.pixels.min() == 0 and block.pixels.max() <= 1
    mask = organs.masks["right_lung"]
    there = block.to_source(block.apply_mask(mask).astype(np.float32))
    save_nifti(there, image.affine, tmp_path / "map.nii.gz")
    file = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(file.affine, image.affine[:, [2, 1, 0, 3]])
    back = file.get_fdata(dtype=np.float32).T > 0.5
    dice = 2 * (back & mask).sum() / (back.sum() + mask.sum())
    assert dice > 0.9
    apart = np.subtract(ndimage.center_of_mass(back), ndimage.center_of_mass(mask))
    assert np.abs(apart).max() < 0.5


@needs_codecs
@pytest.mark.parametrize("name", ["P002", "normal002"])
def test_dicom_slices_lie_in_their_volume(real_data: Path, name: str) -> None:
    """Eight original slices, read by position, against the same patient's whole volume on a coarser grid."""
    folder = real_data / "ct-chest-pneumonia"
    slices = read_series(folder / "dicom_originals" / name)
    whole = read_image(folder / "volumes" / f"{name}.nii.gz")
    assert slices.space == (8, 512, 512) and slices.spacing[0] == pytest.approx(2.0)
    assert orientation_of(slices.affine) == orientation_of(whole.affine) == "LPS"
    fine = np.indices((8, 32, 32)).reshape(3, -1) * [[1], [16], [16]]
    at = np.linalg.solve(whole.affine, slices.affine @ np.vstack([fine, np.ones(fine.shape[1])]))[:3]
    # slices differ from their neighbours: one further up or down fits worse, and so does a mirrored one
    fits = {}
    for step in (-1, 0, 1):
        values = ndimage.map_coordinates(whole.pixels[0], np.add(at, [[step], [0], [0]]), order=1, mode="nearest")
        fits[step] = np.corrcoef(values, slices.pixels[0][tuple(fine)])[0, 1]
    mirrored = slices.pixels[0][:, :, ::-1][tuple(fine)]
    values = ndimage.map_coordinates(whole.pixels[0], at, order=1, mode="nearest")
    assert fits[0] > 0.96 and fits[0] > fits[-1] and fits[0] > fits[1]
    assert np.corrcoef(values, mirrored)[0, 1] < 0.9


@needs_codecs
def test_two_patients_in_one_folder(real_data: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"^2 series are mixed .* series=0: 8 slices, series=1: 8 slices"):
        read_series(real_data / "ct-chest-pneumonia" / "dicom_originals")


def test_masks_of_the_heart(real_data: Path) -> None:
    folder = real_data / "ct-heart-crop"
    image = read_image(folder / "ct.nii.gz")
    files = {"heart": folder / "heart.nii.gz", "artery": folder / "pulmonary_artery.nii.gz"}
    organs = read_organ_masks(files, image)
    assert organs.ok and 300 < organs.masks["heart"].sum() * 1.5**3 / 1000 < 1500
    assert right_of(image, organs.masks["heart"]) < right_of(image, np.ones(image.space))
    with pytest.raises(UnreadableImage, match=r"heart_full_grid\.nii\.gz: the mask lies on a grid of 191 × 167 × 233"):
        read_organ_masks({"heart": folder / "heart_full_grid.nii.gz"}, image)
    rough = find_organs(image)  # a crop holds no whole lungs
    assert not rough.ok and rough.findings[-1].title == "rough masks stand in"
