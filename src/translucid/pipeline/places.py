"""Places in the pipeline: gathered while an image is read, kept as a store, and handed to models on their own grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from translucid.errors import ConfigError, InputError, UnreadableImage, did_you_mean
from translucid.io.gaze_tables import gaze_sources
from translucid.io.manifest import Manifest
from translucid.io.organ_masks import read_organ_masks
from translucid.io.organs import ORGANS, find_organs
from translucid.io.places import LEVELS, UNKNOWN, boxes_on_cells, on_cells, onto, shares_of, whole_numbers
from translucid.io.placing import Transform
from translucid.io.references import split_reference
from translucid.io.regions import allowed_regions
from translucid.io.truth import read_case_mask
from translucid.io.volume_framing import VolumeTransform
from translucid.study import PlacesSettings
from translucid.tensors import Placement
from translucid.types import Case, Image, Space

STORE = "places"
KINDS = ("regions", "truth", "gaze")
"""What a loss may ask for."""
MOST_CELLS = 64


def grid_for(settings: PlacesSettings, space: Space) -> Space:
    """Cells of the store for framed images of a size."""
    if not settings.grid:
        return tuple(min(MOST_CELLS, max(1, n // 4)) for n in space)
    if len(settings.grid) != len(space):
        raise ConfigError(f"places.grid = {settings.grid} for images of {space}: needs as many axes")
    return settings.grid


def header(settings: PlacesSettings, framing: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """What the store of places says of itself."""
    grid = grid_for(settings, space)
    return {
        "compressor": {"kind": STORE, "names": list(settings.names), "levels": LEVELS},
        "framing": dict(framing),
        "channels": len(settings.names),
        "space": list(grid),
        "code_length": int(np.prod(grid)),
    }


def gather(
    settings: PlacesSettings, manifest: Manifest, case: Case, image: Image, transform: Transform | VolumeTransform
) -> np.ndarray:
    """(name, *grid) whole numbers for one image; −1 in maps that nobody drew.

    Raises:
        UnreadableImage: a mask cannot be read or lies on another grid. ManifestError: its path leads out of the folder.
    """
    target = transform.placing.target if isinstance(transform, VolumeTransform) else transform.target
    grid = grid_for(settings, target)
    found: dict[str, np.ndarray] = {}
    for label, name in settings.truth.items():
        if (cells := _drawn(manifest, case, name, image, transform, grid)) is not None:
            found[f"truth:{label}"] = cells
    found |= {f"organ:{n}": cells for n, cells in _organs(settings, manifest, case, image, transform, grid).items()}
    if settings.gaze and (cells := _gaze(settings, manifest, case, transform, grid)) is not None:
        found["gaze"] = cells
    unknown = np.full(grid, UNKNOWN, np.float32)
    return whole_numbers(np.stack([found.get(name, unknown) for name in settings.names]))


def check_known(settings: PlacesSettings, manifest: Manifest) -> list[str]:
    """Refuse places that no case of the manifest has, before any work; tell of those that only some cases have.

    Args:
        settings: of the study.
        manifest: what is compressed.

    Returns:
        Warnings: how many cases with a label have no drawing of it, or no mask of an organ.

    Raises:
        ConfigError: no case has a mask, box or organ of a name, or fixations, that the settings ask for.

    Example:
        >>> cases = (Case("a.png", "p", {"mass": 1.0}, masks={"mass": "m.png"}), Case("b.png", "q", {"mass": 1.0}))
        >>> manifest = Manifest(Path("."), cases, ("mass",))
        >>> check_known(PlacesSettings(truth={"mass": "mass"}), manifest)
        ["places.truth.mass: 1 of 2 cases with 'mass' have no mask or box 'mass'"]
        >>> check_known(PlacesSettings(truth={"mass": "mas"}), manifest)
        Traceback (most recent call last):
        ...
        translucid.errors.ConfigError: places.truth.mass = 'mas': no case has a mask or box of that name: did you ...

    Fails when: a mask's file is empty; whether anything is drawn is seen only when it is read.
    """
    masks = Counter(name for case in manifest.cases for name in case.masks)
    if settings.gaze and not any(case.gaze for case in manifest.cases):
        raise ConfigError("places.gaze = true, but no case names fixations: add a column 'gaze', or leave it out")
    return [*_check_truth(settings, manifest, masks), *_check_organs(settings, manifest, masks)]


def _check_truth(settings: PlacesSettings, manifest: Manifest, masks: Counter[str]) -> Iterator[str]:
    known = masks.keys() | {box.label for case in manifest.cases for box in case.boxes}
    for label, name in settings.truth.items():
        _need_name(f"places.truth.{label}", name, known, "no case has a mask or box of that name")
        shown = [case for case in manifest.cases if case.labels.get(label) == 1]
        bare = sum(name not in case.masks and all(box.label != name for box in case.boxes) for case in shown)
        if bare:
            yield f"places.truth.{label}: {bare} of {len(shown)} cases with {label!r} have no mask or box {name!r}"


def _check_organs(settings: PlacesSettings, manifest: Manifest, masks: Counter[str]) -> Iterator[str]:
    for name in settings.organ_names:
        if settings.organs == "threshold":
            _need_name("places.regions", name, ORGANS, "no such organ is found by threshold")
            continue
        _need_name("places.regions", name, masks, "no case has a mask of that name")
        if bare := len(manifest.cases) - masks[name]:
            yield f"places.regions: {bare} of {len(manifest.cases)} cases have no mask {name!r}"


def _need_name(where: str, name: str, known: Collection[str], why: str) -> None:
    if name not in known:
        hint = did_you_mean(name, known) if known else "the data has none at all"
        raise ConfigError(f"{where} = {name!r}: {why}: {hint}")


def _drawn(
    manifest: Manifest, case: Case, name: str, image: Image, transform: Transform | VolumeTransform, grid: Space
) -> np.ndarray | None:
    """A mask where the case has one of that name, else its boxes, else nothing."""
    if name in case.masks:
        return on_cells(_mask(manifest, case, name, image, "mask"), transform, grid)
    boxes = [box for box in case.boxes if box.label == name]
    if not boxes or isinstance(transform, VolumeTransform):
        return None
    return boxes_on_cells(boxes, transform, grid)


def _mask(manifest: Manifest, case: Case, name: str, image: Image, what: str) -> np.ndarray:
    """A mask of the image's own size: NIfTI for volumes, a picture or a row of run lengths for films."""
    with _naming(f"{what} {name!r}", case.masks[name]):
        if image.affine is not None and len(image.space) == 3:
            return read_organ_masks({name: manifest.mask_path(case, name)}, image).masks[name]
        return read_case_mask(manifest, case, name, image.space)


def _organs(
    settings: PlacesSettings,
    manifest: Manifest,
    case: Case,
    image: Image,
    transform: Transform | VolumeTransform,
    grid: Space,
) -> dict[str, np.ndarray]:
    wanted = settings.organ_names
    if not wanted:
        return {}
    if settings.organs == "threshold":
        if strange := [name for name in wanted if name not in ORGANS]:
            raise ConfigError(f"places.regions: {strange[0]!r} is none of {', '.join(ORGANS)}, found by threshold")
        masks = find_organs(image).masks
        return {name: on_cells(masks[name], transform, grid) for name in wanted}
    there = [name for name in wanted if name in case.masks]
    return {name: on_cells(_mask(manifest, case, name, image, "organ mask"), transform, grid) for name in there}


def _gaze(
    settings: PlacesSettings, manifest: Manifest, case: Case, transform: Transform | VolumeTransform, grid: Space
) -> np.ndarray | None:
    """The heatmap of the case's fixations, its largest value 1."""
    if not case.gaze or isinstance(transform, VolumeTransform):
        return None
    from translucid.io.gaze import framed_gaze

    with _naming("gaze", case.gaze):
        return framed_gaze(manifest, case, transform, grid, sigma=sigma_of(settings), weight=settings.weight)


def sigma_of(settings: PlacesSettings) -> float:
    """The heatmap's sigma in pixels of the file.

    >>> sigma_of(PlacesSettings(sigma=1.0, sigma_unit="degrees", mm_per_pixel=0.25, viewing_distance_mm=650.0))
    45.383168813...
    """
    if settings.sigma_unit == "pixels":
        return settings.sigma
    from translucid.io.gaze import sigma_in_pixels

    assert settings.mm_per_pixel is not None  # the settings see to it
    assert settings.viewing_distance_mm is not None
    return sigma_in_pixels(settings.sigma, settings.mm_per_pixel, settings.viewing_distance_mm)


@contextmanager
def _naming(what: str, reference: str) -> Iterator[None]:
    """Say which of a case's files cannot be used, lest it be taken for the image; its name may tell of a patient."""
    try:
        yield
    except InputError as error:
        file = split_reference(reference).file
        text = str(error).removeprefix(f"{Path(file).name}: ")
        for name in (file, Path(file).name):
            text = text.replace(name, "its file")
        raise UnreadableImage(f"the file of the {what} cannot be used, the image's own can: {text}") from None


def watched(settings: PlacesSettings, manifest: Manifest, case: Case) -> list[tuple[str, Path]]:
    """What beside the image and its boxes decides a case's places, for a resumed run to find unchanged.

    Args:
        settings: of the study.
        manifest: that the case is of.
        case: one image.

    Returns:
        (what it is, which file) of every file that `gather` reads: "truth:label reference" and "organ:name reference"
        of masks (a picture, a volume, or the table that holds it and which entry), "gaze reference" of fixations,
        with every table they lean on. The reference is part of it, for another entry of the same table is another
        mask. Boxes stand in the case itself.

    Example:
        >>> case = Case("a.png", "p", masks={"mass": "rle.csv#7", "heart": "heart.png"})
        >>> settings = PlacesSettings(truth={"tumour": "mass"})
        >>> [(what, file.as_posix()) for what, file in watched(settings, Manifest(Path("in"), (case,), ()), case)]
        [('truth:tumour rle.csv#7', 'in/rle.csv')]

    Fails when: a file is overwritten by one of the same size that is dated back to the same time.
    """
    if not (case.masks or case.gaze):
        return []
    masks = [(f"truth:{label}", name) for label, name in settings.truth.items()]
    if settings.organs == "masks":
        masks += [(f"organ:{name}", name) for name in settings.organ_names]
    found = [
        (f"{what} {case.masks[name]}", manifest.root / split_reference(case.masks[name]).file)
        for what, name in masks
        if name in case.masks
    ]
    if settings.gaze and case.gaze:
        file, key = split_reference(case.gaze)
        found += [(f"gaze {case.gaze}", path) for path in gaze_sources(manifest.root / file, key)]
    return found


@dataclass(frozen=True)
class Places:
    """The store of places as models and measures see it.

    Attributes:
        store: rows → whole numbers, as `CodeStore.read`.
        settings: of the study.
        labels: names in the order of the logits.
        space: size of the framed images.
    """

    store: Any
    settings: PlacesSettings
    labels: tuple[str, ...]
    space: Space

    @property
    def grid(self) -> Space:
        """Cells of the store."""
        return tuple(self.store.header["space"])

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """name → (row, *grid) shares, nan where unknown."""
        shares = shares_of(self.store.read(rows)).reshape(len(rows), -1, *self.grid)
        return {name: shares[:, k] for k, name in enumerate(self.settings.names)}

    def drawn(self, rows: np.ndarray) -> bool:
        """Whether anybody drew a finding in, or looked at, one of these cases."""
        read = self.read(rows)
        names = [name for name in read if not name.startswith("organ:")]
        return any(bool((~np.isnan(read[name])).any()) for name in names)

    def truth(self, rows: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(row, label, *grid) shares that the finding covers; 0 where the label is absent, nan where nobody drew it."""
        read = self.read(rows)
        out = np.full((len(rows), len(self.labels), *self.grid), np.nan, np.float32)
        for k, label in enumerate(self.labels):
            if label in self.settings.truth:
                out[:, k] = read[f"truth:{label}"]
            out[y[:, k] == 0, k] = 0
        return out

    def organs(self, rows: np.ndarray, placement: Placement | None = None, grid: Space = ()) -> dict[str, np.ndarray]:
        """organ → (row, *grid) share of each cell, on the store's grid or on a map's; nan where unknown."""
        read = self.read(rows)
        found = {name: read[f"organ:{name}"] for name in self.settings.organ_names}
        if placement is None:
            return found
        return {n: onto(shares, grid, placement.start, placement.step, self.space) for n, shares in found.items()}

    def regions(
        self, rows: np.ndarray, y: np.ndarray, placement: Placement | None = None, grid: Space = ()
    ) -> np.ndarray:
        """(row, label, *grid) bool, where each label's evidence may lie; all of it where the organ is not known."""
        organs = self.organs(rows, placement, grid)
        known = {name: ~np.isnan(cells) for name, cells in organs.items()}
        masks = {name: (np.nan_to_num(cells) > self.settings.touched) | ~known[name] for name, cells in organs.items()}
        table = dict(self.settings.regions)
        everywhere = np.ones_like(next(iter(masks.values()))[0])
        out = np.empty((len(rows), len(self.labels), *everywhere.shape), bool)
        for i in range(len(rows)):
            here = {name: mask[i] for name, mask in masks.items()} | {"anywhere": everywhere}
            values = {n: _label(y[i, k]) for k, n in enumerate(self.labels)}
            out[i] = allowed_regions(values, {n: table.get(n, "anywhere") for n in self.labels}, here)
        return out


def _label(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


@dataclass(frozen=True)
class Extra:
    """One kind of places of some rows, as a loader takes it: by number → (case, channel, *grid) float32.

    Attributes:
        places: where from.
        kind: "regions", "truth" or "gaze".
        rows: of the index.
        y: (case, label) of those rows.
        shown: (case,) whether what was drawn in the case may be used; "regions" are not hidden.
        placement, grid: of the model's maps, which "regions" are brought to.
    """

    places: Places
    kind: str
    rows: np.ndarray
    y: np.ndarray
    shown: np.ndarray
    placement: Placement | None = None
    grid: Space = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        rows, y = self.rows[chosen], self.y[chosen]
        if self.kind == "regions":
            return self.places.regions(rows, y, self.placement, self.grid)
        if self.kind == "truth":
            out = self.places.truth(rows, y)
        else:
            out = self.places.read(rows)["gaze"][:, None]
        out[~self.shown[chosen]] = np.nan
        return out
