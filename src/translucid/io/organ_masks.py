"""Organ masks that the user has, in place of those found by threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from translucid.errors import InputError, UnreadableImage
from translucid.io.limits import DEFAULT_POLICY, ReadPolicy
from translucid.io.organs import Organs
from translucid.io.readers import READERS
from translucid.io.volume import grid_in_words, need_affine, orientation_of, same_grid, to_orientation
from translucid.types import Finding, Image


def read_organ_masks(
    files: Mapping[str, Path],
    image: Image,
    values: Mapping[str, Sequence[int]] | None = None,
    policy: ReadPolicy = DEFAULT_POLICY,
) -> Organs:
    """Read masks from NIfTI files on the grid of their CT; another storage order of the same grid is turned.

    Args:
        files: name of the organ → file. For the published regions: "right_lung", "left_lung" and "heart".
        image: the CT they belong to.
        values: name of the organ → the numbers that mean it, for files of many labels; one not named takes all
            that is not 0.
        policy: ceilings, checked before memory is taken.

    Returns:
        `Organs`, with a finding for each organ that is empty; `ok` where none is.

    Raises:
        UnreadableImage: a file cannot be used; a mask on another grid, naming both grids.
        InputError: the CT is no volume with an affine, or `values` names an organ without file.

    Example:
        >>> import tempfile
        >>> import nibabel
        >>> ct = Image(np.zeros((1, 2, 2, 2), np.float32), 0, 1, None, np.eye(4)[:, [2, 1, 0, 3]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "lobes.nii")
        ...     nibabel.save(nibabel.Nifti1Image(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.eye(4)), path)
        ...     organs = read_organ_masks({"left_lung": path}, ct, {"left_lung": [1, 2]})
        >>> int(organs.masks["left_lung"].sum()), organs.ok
        (2, True)

    Fails when: the mask was drawn on another scan of the same size and place.
    """
    affine = need_affine(image)
    unknown = sorted(set(values or ()) - set(files))
    if unknown:
        raise InputError(f"values for {', '.join(unknown)}, of which there is no file; wanted names in files")
    masks = {name: _mask(Path(file), image, affine, (values or {}).get(name), policy) for name, file in files.items()}
    empty = [name for name, mask in masks.items() if not mask.any()]
    findings = tuple(Finding("warn", f"the mask of {name!r} is empty", "no voxel has its value") for name in empty)
    return Organs(masks, not empty, findings, {"method": "read from files", "values": dict(values or {})})


def _mask(
    file: Path, image: Image, affine: np.ndarray, numbers: Sequence[int] | None, policy: ReadPolicy
) -> np.ndarray:
    mask = READERS["nifti"](file, None, policy)
    if mask.affine is None:
        raise UnreadableImage(f"{file.name}: a flat image; wanted a volume on the grid of the CT")
    turned = to_orientation(mask, orientation_of(affine))
    there = need_affine(turned)
    if not same_grid(image.space, affine, turned.space, there):
        raise UnreadableImage(
            f"{file.name}: the mask lies on a grid of {grid_in_words(turned.space, there)}; wanted the CT's, "
            f"{grid_in_words(image.space, affine)}: resample the mask onto the CT (nearest neighbour)"
        )
    voxels = np.round(turned.pixels[0])
    return np.isin(voxels, list(numbers)) if numbers is not None else voxels != 0
