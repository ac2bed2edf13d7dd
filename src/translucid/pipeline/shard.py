"""One shard of `compress`: some files → framed pixels → codes of every asked compressor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from translucid import __version__
from translucid.compress import COMPRESSORS, DeepFixCX, Plain
from translucid.config import to_plain, whole_file, with_kind
from translucid.errors import ConfigError, InputError
from translucid.io.codes import Coding, write_shard
from translucid.io.fence import Fence
from translucid.io.framing import Framed, Framing
from translucid.io.manifest import Manifest
from translucid.io.readers import read_image
from translucid.io.series import read_series
from translucid.io.volume_framing import FramedVolume, VolumeFraming
from translucid.pipeline import places
from translucid.pipeline.gathering import Gathered, as_floats, jpeg_bytes, reason
from translucid.study import PlacesSettings
from translucid.tensors import Compressor
from translucid.types import Case, Image, Space

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Recipe:
    """What is done to every image. Framed pixels are rounded to `bits` (8 or 16; 32 leaves them), as any stored image
    is, so that codes stay exact on disk.
    """

    framing: Framing | VolumeFraming
    compressors: Mapping[str, Compressor]
    bits: int = 8
    jpeg_baseline: bool = False
    places: PlacesSettings = field(default_factory=PlacesSettings)

    @property
    def channels(self) -> int:
        """Channels of every framed image."""
        return 1 if isinstance(self.framing, VolumeFraming) else self.framing.channels

    def header(self, name: str, shape: Space, length: int | None = None) -> dict[str, Any]:
        """What a store says of itself: the compressor's own JSON, how images were framed, sizes, what is guaranteed."""
        compressor = self.compressors[name]
        certificate = getattr(compressor, "certificate", None)
        found = {"certificate": certificate(tuple(shape[1:]), shape[0])} if certificate and length is None else {}
        return found | {
            "compressor": with_kind(COMPRESSORS, compressor),
            "framing": self.framed(),
            "channels": shape[0],
            "space": list(shape[1:]),
            "code_length": compressor.code_length(tuple(shape[1:])) if length is None else length,
        }

    def framed(self) -> dict[str, Any]:
        """How images were framed, as `read_framing` takes it."""
        kind = {"kind": "volume"} if isinstance(self.framing, VolumeFraming) else {}
        return kind | to_plain(self.framing) | {"bits": self.bits}


@dataclass(frozen=True)
class ShardTask:
    """The work of one shard, as it travels to another process.

    It carries pseudonyms, file names, frames and boxes of its own cases and nothing else: no key, patient or label.
    Codes are written first and the part, which is the sign that the shard is whole, last; all under temporary names.

    Attributes:
        number: of the shard.
        part: the file that tells that it is whole.
        codes: folder of the stores.
        manifest: only the cases of this shard, only what is needed to read them.
        names: their pseudonyms.
        recipe: what is done to them.
        version: of the package that made the plan.
    """

    number: int
    part: Path
    codes: Path
    manifest: Manifest
    names: tuple[str, ...]
    recipe: Recipe
    version: str = __version__

    def __call__(self) -> None:
        """Read, frame, compress and write; a bad file costs one reject."""
        self._check_place()
        if self.part.is_file():
            return
        for stale in self.part.parent.glob(f"part-{self.number:05d}-*.json"):  # of files that have changed since
            stale.unlink(missing_ok=True)
        start = perf_counter()
        found, codes = Gathered(self.recipe.framing, self.recipe.bits, len(self.names)), Codes(self.recipe)
        fence = Fence(self.manifest.root, self.manifest.outside)
        for name, case in zip(self.names, self.manifest.cases, strict=True):
            try:
                if self.recipe.places.wanted or not found.take(name, case, fence):
                    image = self._read(case)
                    framed = self.recipe.framing.apply(image)
                    found.add(name, case, framed, self._places(case, image, framed))
            except InputError as e:
                found.rejects[name] = reason(e, case.file, self.manifest.root)
            if found.full:
                codes.add(found.block(), len(self.names))
        codes.add(found.block(), len(found.kept))
        self._write(found, codes, start)

    def _check_place(self) -> None:
        if self.version != __version__:
            raise ConfigError(f"the plan was made by version {self.version}, this worker has {__version__}: wanted one")
        if not self.part.parent.is_dir():
            raise InputError(
                f"{self.part.parent} is not there: a worker must see the run folder under the same path as the others"
            )

    def _read(self, case: Case) -> Image:
        path = self.manifest.path(case)
        return read_series(path) if path.is_dir() else read_image(path, case.frame)

    def _places(self, case: Case, image: Image, framed: Framed | FramedVolume) -> np.ndarray | None:
        settings = self.recipe.places
        return places.gather(settings, self.manifest, case, image, framed.transform) if settings.wanted else None

    def _write(self, found: Gathered, codes: Codes, start: float) -> None:
        sizes = codes.write(self.codes, self.number, found.shape) if found.kept else {}
        if found.kept and found.places:
            header = places.header(self.recipe.places, self.recipe.framed(), found.shape[1:])
            known = np.stack(found.places).reshape(len(found.places), header["channels"], -1)
            write_shard(self.codes / places.STORE, self.number, known, header)
        space = list(found.shape[1:]) if found.kept else None
        part = {"kept": found.kept, "boxes": found.boxes, "rejects": found.rejects, "sizes": sizes, "space": space}
        write_lean(self.part, part | {"cut": found.cut, "seconds": round(perf_counter() - start, 3)})


class Codes:
    """The codes of a shard, made block by block."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._rows, self._jpeg = recipe, 0, 0
        self._codes: dict[str, np.ndarray] = {}

    def add(self, pixels: np.ndarray | None, room: int) -> None:
        """Compress a block of framed images by every compressor; there will be `room` images at most."""
        if pixels is None:
            return
        if self._recipe.jpeg_baseline:
            self._jpeg += jpeg_bytes(pixels)
        floats: np.ndarray | None = None
        for name, compressor in self._recipe.compressors.items():
            if isinstance(compressor, Plain) and pixels.dtype == np.uint8:
                codes = pixels.reshape(*pixels.shape[:2], -1)
            elif isinstance(compressor, DeepFixCX):
                codes = compressor.encode(torch.from_numpy(pixels)).numpy()
            else:
                floats = as_floats(pixels) if floats is None else floats
                codes = compressor.encode(torch.from_numpy(floats)).numpy()
            if name not in self._codes:
                self._codes[name] = np.empty((room, *codes.shape[1:]), codes.dtype)
            self._codes[name][self._rows : self._rows + len(codes)] = codes
        self._rows += len(pixels)

    def write(self, folder: Path, number: int, shape: tuple[int, ...]) -> dict[str, Any]:
        """One shard of every store, for images of one shape; tells the bytes of each."""
        recipe = self._recipe
        sizes: dict[str, Any] = {"jpeg95": self._jpeg if recipe.jpeg_baseline else None}
        for name, compressor in recipe.compressors.items():
            codes, header = self._codes[name][: self._rows], recipe.header(name, shape)
            sizes[name] = write_shard(folder / name, number, codes, header, _coding(name, compressor))
        return sizes


def _coding(name: str, compressor: Compressor) -> Coding:
    """Pixels can be memory-mapped; means over cells are smallest when written quickly; all else is worth trials."""
    if name == "plain":
        return "raw"
    return "quick" if isinstance(compressor, DeepFixCX) else "packed"


def write_lean(path: Path, value: Any) -> None:
    """JSON on one line, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json_text(value), "utf-8")


def json_text(value: Any) -> str:
    """Canonical JSON of plain values."""
    return _CANONICAL.encode(value)
