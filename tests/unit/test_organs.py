"""Organ regions on a chest of ellipsoids, whose voxels are known exactly; and regions on a map's grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from io_volumes import chest
from translucid.errors import ConfigError, InputError, ShapeError, UnreadableImage
from translucid.io.organ_masks import read_organ_masks
from translucid.io.organs import find_organs, rough_masks
from translucid.io.regions import allowed_regions, to_grid
from translucid.io.volume import affine_of, to_orientation
from translucid.types import Image

SMALL = 100.0


def expected_heart(lungs: np.ndarray) -> np.ndarray:
    """All that is no lung in the lungs' box, between (right border + q) and (left border − q/2)."""
    z, y, x = (np.flatnonzero(lungs.any(axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    q = int((x.max() + 1 - x.min()) / 4)
    heart = np.zeros_like(lungs)
    for k in range(z.min(), z.max() + 1):
        for j in range(y.min(), y.max() + 1):
            for i in range(x.min() + q, x.max() + 1 - int(q / 2)):
                heart[k, j, i] = not lungs[k, j, i]
    return heart


@pytest.mark.parametrize("sides", ["volume", "body", "components"])
@pytest.mark.parametrize("code", ["LPS", "RAS", "PSR"])
def test_lungs_and_heart_exactly(sides: str, code: str) -> None:
    """T18: the affine, not the array, says which lung is the right one."""
    image, lungs = chest()
    organs = find_organs(to_orientation(image, code), smallest_ml=SMALL, sides=sides)  # type: ignore[arg-type]
    assert organs.ok, organs.findings
    expected = lungs | {"heart": expected_heart(lungs["right_lung"] | lungs["left_lung"])}
    for name, mask in expected.items():
        stored = to_orientation(Image(mask[None].astype(np.float32), 0, 1, None, image.affine), code).pixels[0]
        np.testing.assert_array_equal(organs.masks[name], stored > 0, err_msg=name)
    assert organs.record["ml"]["right_lung"] == pytest.approx(lungs["right_lung"].sum() * 0.064)


def test_small_objects_go_by_millilitres_not_voxels() -> None:
    image, lungs = chest()
    ml = {name: mask.sum() * 0.064 for name, mask in lungs.items()}
    assert ml["left_lung"] < 400 < ml["right_lung"]
    organs = find_organs(image, smallest_ml=400)
    assert not organs.ok and "missing: left lung" in organs.findings[0].title
    half = Image(image.pixels, -1024, 3071, None, affine_of("LPS", (4.0, 4.0, 2.0)))
    assert find_organs(half, smallest_ml=200).record["ml"]["left_lung"] == 0


def test_a_missing_lung_gives_rough_masks() -> None:
    """T18, second half: sixths of the width, over all rows and slices."""
    image, lungs = chest()
    values = image.pixels.copy()
    values[0][lungs["left_lung"]] = 40
    organs = find_organs(Image(values, -1024, 3071, None, image.affine), smallest_ml=SMALL)
    assert not organs.ok and [f.level for f in organs.findings] == ["warn", "note"]
    for name, mask in rough_masks(image.space).items():
        np.testing.assert_array_equal(organs.masks[name], mask)
    counts = {name: mask[0, 0].sum() for name, mask in organs.masks.items()}
    assert counts == {"right_lung": 40, "left_lung": 40, "heart": 54}  # columns 13 to 66 of 80
    mirrored = find_organs(to_orientation(Image(values, 0, 1, None, image.affine), "RPS"), smallest_ml=SMALL)
    np.testing.assert_array_equal(mirrored.masks["right_lung"][..., ::-1], organs.masks["right_lung"])


def test_lungs_near_the_middle_are_not_believed() -> None:
    image, _ = chest()
    wide = np.pad(image.pixels, [(0, 0)] * 3 + [(60, 60)], constant_values=-1000)
    organs = find_organs(Image(wide, 0, 1, None, image.affine), smallest_ml=SMALL)
    assert "too near the middle" in organs.findings[0].title
    assert "columns 76 to 123 of 200; wanted to begin by 62 and to end after 143" in organs.findings[0].detail


def test_the_bodys_middle_follows_the_body() -> None:
    off, lungs = chest(shift=6)
    body = find_organs(off, smallest_ml=SMALL, sides="body")
    np.testing.assert_array_equal(body.masks["right_lung"], lungs["right_lung"])
    assert body.record["middle_column"] == find_organs(chest()[0], smallest_ml=SMALL).record["middle_column"] + 6
    with pytest.raises(ConfigError, match="known are components, body, volume"):
        find_organs(off, sides="left")  # type: ignore[arg-type]


# -- masks of the user --------------------------------------------------------------------------------------------


def test_masks_of_the_user(tmp_path: Path) -> None:
    image, lungs = chest()
    labels = (lungs["right_lung"] * 3 + lungs["left_lung"] * 5).astype(np.uint8)
    affine = image.affine
    assert affine is not None
    stored = nib.Nifti1Image(labels.T[::-1], affine[:, [2, 1, 0, 3]] @ flipped(labels.shape[2]))
    nib.save(stored, tmp_path / "lungs.nii.gz")
    files = dict.fromkeys(("right_lung", "left_lung", "lungs"), tmp_path / "lungs.nii.gz")
    organs = read_organ_masks(files, image, {"right_lung": [3], "left_lung": [5]})
    assert organs.ok
    for name, mask in (lungs | {"lungs": labels > 0}).items():
        np.testing.assert_array_equal(organs.masks[name], mask)
    none = read_organ_masks({"heart": tmp_path / "lungs.nii.gz"}, image, {"heart": [9]})
    assert not none.ok and none.findings[0].title == "the mask of 'heart' is empty"
    with pytest.raises(InputError, match="values for hart"):
        read_organ_masks(files, image, {"hart": [1]})


def flipped(columns: int) -> np.ndarray:
    out = np.diag([-1.0, 1, 1, 1])
    out[0, 3] = columns - 1
    return out


def test_a_mask_on_another_grid_names_both(tmp_path: Path) -> None:
    image, _ = chest()
    nib.save(nib.Nifti1Image(np.ones((80, 60, 40), np.uint8), np.diag([-4.0, -4, 5, 1])), tmp_path / "m.nii")
    both = r"m\.nii: .* 40 × 60 × 80 voxels of 5 × 4 × 4 mm, LPS, .* wanted the CT's, .* of 4 × 4 × 4 mm, LPS"
    with pytest.raises(UnreadableImage, match=both):
        read_organ_masks({"heart": tmp_path / "m.nii"}, image)
    nib.save(nib.Nifti1Image(np.ones((80, 60), np.uint8), np.eye(4)), tmp_path / "flat.nii")
    with pytest.raises(UnreadableImage, match=r"flat\.nii: a flat image"):
        read_organ_masks({"heart": tmp_path / "flat.nii"}, image)


# -- regions ------------------------------------------------------------------------------------------------------

MASKS = {
    "right_lung": np.array([[1, 1, 0, 0, 0]], bool),
    "left_lung": np.array([[0, 0, 0, 1, 1]], bool),
    "heart": np.array([[0, 1, 1, 1, 0]], bool),
}
TABLE = {"nodule": "lungs", "mass": "lungs", "cardiomegaly": "heart", "aneurysm": "heart"}


def test_allowed_regions() -> None:
    """T16: absent is empty; left or right or both; the heart group shares one region; overlap stays binary."""
    labels = {"nodule": 1.0, "mass": 0.0, "cardiomegaly": 1.0, "aneurysm": 1.0}
    got = allowed_regions(labels, TABLE, MASKS, {"nodule": ["left"], "mass": ["right"]})
    assert got.dtype == bool
    assert got.astype(int).tolist() == [[[0, 0, 0, 1, 1]], [[0] * 5], [[0, 1, 1, 1, 0]], [[0, 1, 1, 1, 0]]]
    both = [[1, 1, 0, 1, 1]]
    for sides in ({}, {"nodule": []}, {"nodule": ["right", "left"]}, {"nodule": ("left", "right", "left")}, None):
        assert allowed_regions({"nodule": 1.0}, TABLE, MASKS, sides).astype(int).tolist() == [both]
    assert allowed_regions({"nodule": 1.0}, TABLE, MASKS, {"nodule": "right"})[0].sum() == 2
    assert allowed_regions({"mass": None, "nodule": 0.0}, TABLE, MASKS).sum((1, 2)).tolist() == [5, 0]


def test_regions_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="unknown label in the table of regions 'module': did you mean 'nodule'"):
        allowed_regions({"module": 1.0}, TABLE, MASKS)
    with pytest.raises(ConfigError, match="unknown region of 'x' 'hart': did you mean 'heart'"):
        allowed_regions({"x": 0.0}, {"x": "hart"}, MASKS)
    with pytest.raises(ConfigError, match="side 'lft' of 'mass': did you mean 'left'"):
        allowed_regions({"mass": 1.0}, TABLE, MASKS, {"mass": ["lft"]})
    with pytest.raises(ShapeError, match="all of one size"):
        allowed_regions({"mass": 1.0}, TABLE, MASKS | {"heart": np.ones((2, 5), bool)})


def test_nearest_takes_the_corner_of_each_cell() -> None:
    """T17: from 405 × 420 × 420 to 135 × 6 × 6 the published resampling picks voxels (3i, 70j, 70k)."""
    rng = np.random.default_rng(1)
    mask = np.tile(rng.integers(0, 2, (1, 420, 420), bool), (405, 1, 1))
    mask[::3] ^= rng.integers(0, 2, (135, 1, 1), bool)
    np.testing.assert_array_equal(to_grid(mask, (135, 6, 6), "nearest"), mask[::3, ::70, ::70])
    np.testing.assert_array_equal(to_grid(mask, (135, 6, 6)), mask[1::3, 35::70, 35::70])
    small = rng.integers(0, 2, (2, 9, 14, 30), bool)
    parts = small.reshape(2, 3, 3, 2, 7, 5, 6).mean((2, 4, 6))
    np.testing.assert_array_equal(to_grid(small, (3, 2, 5), "area", above=0.5), parts > 0.5)
    few = np.zeros((9, 14, 30), bool)
    few[7, 6, 6] = True
    assert np.argwhere(to_grid(few, (3, 2, 5), "area")).tolist() == [[2, 0, 1]]


def test_centres_where_a_placement_puts_them() -> None:
    """The receptive fields of AxialNet's six columns are centred at 128 + 32 i, not at 35 + 70 i."""
    mask = np.zeros((2, 420), bool)
    mask[0, [128, 160, 288]] = True
    mask[1, 35] = True
    placed = to_grid(mask, (6,), "centre", start=(128,), step=(32,))
    assert placed.astype(int).tolist() == [[1, 1, 0, 0, 0, 1], [0] * 6]
    outside = to_grid(np.ones(10, bool), (4,), "centre", start=(-2,), step=(4,))
    assert outside.tolist() == [False, True, True, False]
    half = to_grid(np.arange(10) < 4, (2,), "area", start=(1.5,), step=(4,), above=0.5)
    assert half.tolist() == [True, False]
    for wrong, message in [
        ({"how": "corner"}, "known are nearest, area, centre"),
        ({"how": "nearest", "start": (0,), "step": (1,)}, "none for nearest"),
        ({"start": (0,)}, "both or none"),
    ]:
        with pytest.raises(ConfigError, match=message):
            to_grid(mask, (6,), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="as many axes"):
        to_grid(mask, (2, 2, 6))
