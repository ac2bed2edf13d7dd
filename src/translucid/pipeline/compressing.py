"""`compress`: files → framed pixels → codes of every asked compressor, in one pass over the files."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image as Pillow

from translucid.config import fingerprint, read_json, to_plain, with_kind, write_json
from translucid.errors import InputError, UnreadableImage
from translucid.io.codes import write_header, write_shard
from translucid.io.framing import Framed, Framing
from translucid.io.index import IndexRow, write_index, write_rejects
from translucid.io.manifest import Manifest
from translucid.io.placing import apply_box
from translucid.io.pseudonym import pseudonym
from translucid.io.readers import read_image
from translucid.tensors import Compressor
from translucid.types import Case, Space

LEVELS = {8: 255, 16: 65535}


@dataclass(frozen=True)
class CompressJob:
    """One pass over a manifest: each file is decoded once and compressed by every compressor.

    Cases are taken in the order of their pseudonyms, so the order of the codes tells nothing of the order of the files.
    A shard writes its codes first and its `part-*.json` last; the part is the sign that the shard is whole. Framed
    pixels are rounded to `bits` (8 or 16; 32 leaves them), as any stored image is, so that codes stay exact on disk.
    """

    manifest: Manifest
    out: Path
    framing: Framing
    compressors: Mapping[str, Compressor]
    key: bytes
    bits: int = 8
    shard_size: int = 128
    jpeg_baseline: bool = False

    @property
    def work(self) -> Path:
        """Where unfinished work lies; removed by `merge`."""
        return self.out / ".work"

    @cached_property
    def order(self) -> list[tuple[str, int]]:
        """(case pseudonym, row of the manifest), sorted by pseudonym."""
        cases = self.manifest.cases
        return sorted((pseudonym(self.key, "case", c.file, str(c.frame)), i) for i, c in enumerate(cases))

    def shards(self) -> int:
        """Number of shards."""
        return -(-len(self.order) // self.shard_size)

    def part(self, shard: int) -> Path:
        """The sign that a shard is whole."""
        return self.work / f"part-{shard:05d}.json"

    def done(self, shard: int) -> bool:
        """Whether the shard is whole."""
        return self.part(shard).is_file()

    def run(self, shard: int) -> None:
        """Read, frame and compress one shard."""
        rows: list[dict[str, Any]] = []
        rejects: list[dict[str, Any]] = []
        frames: list[np.ndarray] = []
        for name, i in self.order[shard * self.shard_size : (shard + 1) * self.shard_size]:
            case = self.manifest.cases[i]
            try:
                framed = self._frame(case, frames[0].shape if frames else None)
            except UnreadableImage as e:
                reason = str(e).replace(case.file, "the file").replace(Path(case.file).name, "the file")
                rejects.append({"row": i + 2, "reason": reason})
                continue
            frames.append(_rounded(framed.pixels, self.bits))
            rows.append(self._row(name, case, framed))
        sizes = self._write_codes(shard, np.stack(frames)) if frames else {}
        space = list(frames[0].shape[1:]) if frames else None
        write_json(self.part(shard), {"rows": rows, "rejects": rejects, "sizes": sizes, "space": space})

    def _frame(self, case: Case, shape: tuple[int, ...] | None) -> Framed:
        framed = self.framing.apply(read_image(self.manifest.path(case), case.frame))
        if shape is not None and framed.pixels.shape != shape:
            raise UnreadableImage(
                f"{framed.pixels.shape} after framing, where the others have {shape}: choose a framing other than "
                f"{self.framing.kind!r} so that all images get the same size"
            )
        return framed

    def _row(self, name: str, case: Case, framed: Framed) -> dict[str, Any]:
        boxes = [apply_box(box, framed.transform) for box in case.boxes]
        return {
            "case": name,
            "patient": pseudonym(self.key, "patient", case.patient),
            "split": case.split,
            "view": case.view,
            "labels": {label: case.labels.get(label) for label in self.manifest.labels},
            "attributes": dict(case.attributes),
            "boxes": [list(b) for b in boxes if b is not None],
        }

    def _write_codes(self, shard: int, pixels: np.ndarray) -> dict[str, Any]:
        import torch

        images = torch.from_numpy(pixels)
        sizes: dict[str, Any] = {"jpeg95": _jpeg_bytes(pixels) if self.jpeg_baseline else None}
        for name, compressor in self.compressors.items():
            codes = compressor.encode(images).numpy()
            if name == "plain" and self.bits == 8:
                codes = np.rint(codes * 255).astype(np.uint8)
            folder = self.out / "codes" / name
            coding: Literal["raw", "packed"] = "raw" if name == "plain" else "packed"
            sizes[name] = write_shard(folder, shard, codes, self.header(name, pixels.shape[1:]), coding)
        return sizes

    def header(self, name: str, shape: Space, check: bool = True) -> dict[str, Any]:
        """What a store says of itself: the compressor's own JSON, how images were framed, and sizes."""
        from translucid.compress import COMPRESSORS

        compressor = self.compressors[name]
        return {
            "compressor": with_kind(COMPRESSORS, compressor),
            "framing": to_plain(self.framing) | {"bits": self.bits},
            "channels": shape[0],
            "space": list(shape[1:]),
            "code_length": compressor.code_length(tuple(shape[1:])) if check else 0,
        }

    def merge(self) -> None:
        """Join the parts: index, rejects, regions, and one header per store."""
        parts = [read_json(self.part(i)) for i in range(self.shards())]
        rows = [row for part in parts for row in part["rows"]]
        rejects = sorted((r for part in parts for r in part["rejects"]), key=lambda r: r["row"])
        write_rejects(self.out / "rejects.csv", rejects)
        if not rows:
            first = rejects[0]["reason"] if rejects else "the manifest is empty"
            raise InputError(f"none of {len(rejects)} files could be used; the first: {first}")
        write_index(self.out / "index.csv", [IndexRow.from_json(r) for r in rows], self.manifest.labels)
        write_json(self.out / "regions.json", {r["case"]: r["boxes"] for r in rows if r["boxes"]})
        space = next(part["space"] for part in parts if part["space"])
        counts = {i: len(part["rows"]) for i, part in enumerate(parts)}
        channels = self.framing.channels
        for name in self.compressors:
            write_header(self.out / "codes" / name, self.header(name, (channels, *space)), counts)
        jpeg = sum(part["sizes"].get("jpeg95") or 0 for part in parts)
        write_json(self.out / ".work" / "totals.json", {"jpeg95": jpeg})

    @property
    def jpeg_bytes(self) -> int:
        """What all framed images would take as JPEG of quality 95; 0 where that was not asked for."""
        return int(read_json(self.work / "totals.json")["jpeg95"])

    def tidy(self) -> None:
        """Remove the work folder, and with it a key that was drawn for this run."""
        shutil.rmtree(self.work)

    def identity(self) -> str:
        """What must be equal for finished shards to be kept."""
        rows = [(name, self.manifest.cases[i].split) for name, i in self.order]
        settings = {name: self.header(name, (1, 1, 1), check=False) for name in self.compressors}
        return fingerprint([rows, self.manifest.labels, settings, self.shard_size])


def _rounded(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Values in [0, 1] → the nearest k/255 or k/65535."""
    if bits not in LEVELS:
        return pixels
    levels = np.float32(LEVELS[bits])
    return np.rint(pixels * levels) / levels


def _jpeg_bytes(pixels: np.ndarray) -> int:
    """What the framed images would take as JPEG of quality 95, the usual way to keep them."""
    total = 0
    for image in np.rint(pixels * 255).astype(np.uint8):
        buffer = io.BytesIO()
        Pillow.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=95)
        total += buffer.tell()
    return total
