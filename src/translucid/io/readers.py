"""One way in for all image files: what the bytes say decides, not the name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from translucid.errors import UnreadableImage
from translucid.io.dicom import read_dicom
from translucid.io.dicom_file import looks_dicom
from translucid.io.limits import DEFAULT_POLICY, ReadPolicy, border, read_bytes
from translucid.io.nifti import looks_nifti, read_nifti
from translucid.io.npz import looks_npz, read_npz
from translucid.io.raster import looks_raster, read_raster
from translucid.types import Image

_HEAD = 4096


@dataclass(frozen=True)
class Format:
    """A kind of file: how it begins, and who decodes it."""

    suffixes: tuple[str, ...]
    looks: Callable[[bytes], bool]
    decode: Callable[[bytes, int | None, ReadPolicy], Image]

    def __call__(self, path: Path, frame: int | None = None, policy: ReadPolicy = DEFAULT_POLICY) -> Image:
        """Read a file of this kind; raises `UnreadableImage`, and nothing else, for one it cannot use."""
        with border(Path(path).name):
            return self.decode(read_bytes(Path(path), policy), frame, policy)


READERS: dict[str, Format] = {
    "dicom": Format((".dcm", ".dicom", ".ima"), looks_dicom, read_dicom),
    "raster": Format((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"), looks_raster, read_raster),
    "nifti": Format((".nii", ".nii.gz"), looks_nifti, read_nifti),
    "npz": Format((".npz",), looks_npz, read_npz),
}


def read_image(path: Path, frame: int | None = None, policy: ReadPolicy = DEFAULT_POLICY) -> Image:
    """Read any image file: DICOM, PNG, JPEG, TIFF, BMP, NIfTI or npz (RAD-ChestCT), told apart by their content.

    Larger values are always brighter, and `low`, `high` come from what the format declares, never from the pixels.

    Args:
        path: the file; its suffix does not matter.
        frame: which frame, page or slice; None for the whole file, (channel, frames, h, w) where it has several.
        policy: ceilings checked before memory is taken.

    Returns:
        An `Image` of float32 pixels (channel, *space).

    Raises:
        UnreadableImage: for every file that cannot be used, naming it; no other exception comes out.

    Example:
        >>> import tempfile
        >>> from PIL import Image as Pillow
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Pillow.new("L", (4, 3), 51).save(f"{folder}/grey.png")
        ...     image = read_image(Path(folder) / "grey.png")
        >>> image.space, image.low, image.high, float(image.pixels[0, 0, 0])
        ((3, 4), 0.0, 255.0, 51.0)

    Fails when: the header lies about what black and white mean; nothing in the file would show it.
    """
    path = Path(path)
    with border(path.name):
        data = read_bytes(path, policy)
        for form in READERS.values():
            if form.looks(data[:_HEAD]):
                return form.decode(data, frame, policy)
        raise UnreadableImage(
            "begins like none of DICOM, PNG, JPEG, TIFF, BMP, NIfTI, npz; wanted one of them: "
            "convert it, or leave it out"
        )


def image_files(folder: Path) -> list[Path]:
    """All files below a folder that look like images, sorted; hidden ones and linked folders are left out.

    A known suffix is enough; a file with no suffix or a numeric one, as DICOM often has, must begin like an image.

    Raises:
        UnreadableImage: the folder is not there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.png", "a.dcm", "notes.txt"):
        ...         _ = (Path(folder) / name).write_bytes(b"x")
        ...     [p.name for p in image_files(Path(folder))]
        ['a.dcm', 'b.png']
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UnreadableImage(f"{folder} is not a folder; wanted one that holds images: check the path")
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [d for d in folders if not d.startswith(".")]
        found += [path for name in files if _may_be_image(path := Path(root) / name)]
    return sorted(found)


def _may_be_image(path: Path) -> bool:
    name = path.name.lower()
    if name.startswith(".") or name == "dicomdir" or not path.is_file():
        return False
    if name.endswith(tuple(s for form in READERS.values() for s in form.suffixes)):
        return True
    if path.suffix.strip(".").isalpha():
        return False
    with path.open("rb") as f:
        head = f.read(_HEAD)
    return any(form.looks(head) for form in READERS.values())
