"""`compress` as a job: the plan of shards, what tells that one is whole, and how they are joined."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from translucid import __version__
from translucid.config import fingerprint, read_json, write_json
from translucid.errors import InputError
from translucid.io.codes import write_header
from translucid.io.index import IndexRow, write_index, write_rejects
from translucid.io.manifest import Manifest
from translucid.io.pseudonym import pseudonym
from translucid.jobs import absent_shards, listed
from translucid.pipeline.places import STORE, watched
from translucid.pipeline.places import header as places_header
from translucid.pipeline.shard import Recipe, ShardTask, json_text
from translucid.types import Case


@dataclass(frozen=True)
class CompressJob:
    """One pass over a manifest: each file is decoded once and compressed by every compressor.

    Cases are taken in the order of their pseudonyms, so the order of the codes tells nothing of the order of the files.
    Until `merge`, everything lies in `.work/<identity>`: whoever starts with the same cases, key and settings meets the
    same folder and adds to it, whoever starts with others harms nothing, and older codes stay until the new are whole.
    """

    manifest: Manifest
    out: Path
    recipe: Recipe
    key: bytes
    shard_size: int = 128
    seen: States = field(default_factory=lambda: States(), compare=False, repr=False)

    @property
    def base(self) -> Path:
        """Where unfinished work lies; removed by `tidy`."""
        return self.out.absolute() / ".work"

    @cached_property
    def work(self) -> Path:
        """The unfinished work of this plan."""
        return self.base / self.identity

    @cached_property
    def order(self) -> list[tuple[str, int]]:
        """(case pseudonym, row of the manifest), sorted by pseudonym."""
        cases = self.manifest.cases
        return sorted((pseudonym(self.key, "case", c.file, str(c.frame)), i) for i, c in enumerate(cases))

    @cached_property
    def identity(self) -> str:
        """What must be equal for finished shards to be kept: the cases, the settings, and who compresses."""
        recipe = self.recipe
        stores = {name: recipe.header(name, (1, 1, 1), length=0) for name in recipe.compressors}
        names = [name for name, _ in self.order]
        return fingerprint(
            [json_text(names), stores, recipe.places, recipe.jpeg_baseline, self.shard_size, __version__]
        )

    def begin(self) -> None:
        """Make the folder of this plan; any number of processes may do so at once, for all write the same bytes."""
        self.work.mkdir(parents=True, exist_ok=True)
        if not (self.work / "plan.json").is_file():
            write_json(self.work / "plan.json", {"identity": self.identity, "shards": self.shards()})

    def shards(self) -> int:
        """Number of shards."""
        return -(-len(self.order) // self.shard_size)

    def rows(self, shard: int) -> list[tuple[str, int]]:
        """Pseudonym and row of the manifest of a shard's cases."""
        return self.order[shard * self.shard_size : (shard + 1) * self.shard_size]

    def part(self, shard: int) -> Path:
        """The sign that a shard is whole; its name changes with the shard's files, so that changed ones are noticed."""
        if shard not in self._parts:
            files = json_text([self._file(self.manifest.cases[i]) for _, i in self.rows(shard)])
            self._parts[shard] = self.work / f"part-{shard:05d}-{pseudonym(self.key, 'shard', files)}.json"
        return self._parts[shard]

    @cached_property
    def _parts(self) -> dict[int, Path]:
        return {}

    def _file(self, case: Case) -> list[Any]:
        beside = [[what, *self.seen(path)] for what, path in watched(self.recipe.places, self.manifest, case)]
        own = self.seen(f"{self.manifest.root}{os.sep}{case.file}")
        return [case.file, case.frame, *own, [list(box) for box in case.boxes], *beside]

    def done(self, shard: int) -> bool:
        """Whether the shard is whole."""
        return self.part(shard).is_file()

    def task(self, shard: int) -> ShardTask:
        """The work of one shard."""
        rows = self.rows(shard)
        cases = [self.manifest.cases[i] for _, i in rows]
        bare = tuple(self._bare(c) for c in cases)
        root = Path(os.path.abspath(self.manifest.root))
        manifest = Manifest(root, bare, (), outside=self.manifest.outside)
        return ShardTask(shard, self.part(shard), self.work / "codes", manifest, tuple(n for n, _ in rows), self.recipe)

    def _bare(self, case: Case) -> Case:
        """Only what is needed to read the image and, where asked for, what lies where in it."""
        bare = Case(case.file, "-", boxes=case.boxes, frame=case.frame)
        return replace(bare, masks=case.masks, gaze=case.gaze) if self.recipe.places.wanted else bare

    def merge(self) -> None:
        """Join the parts: index, rejects, regions, and one header per store. May run again after it was stopped.

        Raises:
            InputError: shards are absent, no file could be used, or images differ in size.
        """
        if absent := absent_shards(self):
            raise InputError(
                f"{len(absent)} of {self.shards()} shards are absent ({listed(absent)}){self._others()}: run the tasks "
                "that have not ended, with the same manifest, key and settings, then merge again"
            )
        found = self._gather()
        write_rejects(self.out / "rejects.csv", found.rejects)
        if not found.rows:
            first = found.rejects[0]["reason"] if found.rejects else "the manifest is empty"
            raise InputError(f"none of {len(found.rejects)} files could be used; the first: {first}")
        self._place_codes(found)
        write_index(self.out / "index.csv", found.rows, self.manifest.labels)
        write_json(self.out / "regions.json", found.boxes)
        totals = {"jpeg95": found.jpeg, "cut": found.cut, "seconds": round(found.seconds, 3)}
        write_json(self.work / "totals.json", totals)
        for leftover in self.out.glob(".*.tmp"):  # of a killed run
            leftover.unlink(missing_ok=True)

    def _others(self) -> str:
        """What else lies there: the usual reason why shards seem to be absent."""
        others = [p for p in self.base.glob("*/plan.json") if p.parent != self.work]
        return f"; {self.base} also holds shards made with other files, another key or other settings" if others else ""

    def _gather(self) -> _Gathered:
        place = dict(self.order)
        found = _Gathered()
        for shard in range(self.shards()):
            part = read_json(self.part(shard))
            found.add(shard, part, [self._row(name, self.manifest.cases[place[name]]) for name in part["kept"]])
            found.rejects += [
                {"row": self.manifest.row(place[name]), "reason": why} for name, why in part["rejects"].items()
            ]
        found.rejects.sort(key=lambda r: r["row"])
        return found

    def _row(self, name: str, case: Case) -> IndexRow:
        patient = pseudonym(self.key, "patient", case.patient)
        return IndexRow(name, patient, case.split, case.view, case.labels, case.attributes)

    def _place_codes(self, found: _Gathered) -> None:
        """Finish the stores where they were made, then put them in place of older ones."""
        new, old, aside = self.work / "codes", self.out / "codes", self.work / "replaced"
        if not new.is_dir():  # an earlier merge was stopped after this step
            return
        recipe = self.recipe
        headers = {name: recipe.header(name, (recipe.channels, *found.space)) for name in recipe.compressors}
        if recipe.places.wanted:
            headers[STORE] = places_header(recipe.places, recipe.framed(), found.space)
        for name, header in headers.items():
            write_header(new / name, header, found.counts)
            for leftover in (new / name).glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
        if old.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
            old.rename(aside)
        new.rename(old)

    def totals(self) -> Mapping[str, Any]:
        """Bytes of all framed images as JPEG of quality 95 (0: not asked for), boxes cut, and seconds of work."""
        return dict(read_json(self.work / "totals.json"))

    def tidy(self) -> None:
        """Remove all unfinished work, and with it a key that was drawn for this run."""
        tidy(self.out)


class _Gathered:
    """What the parts tell, small enough for all cases at once: labels and attributes are the manifest's own."""

    def __init__(self) -> None:
        self.rows: list[IndexRow] = []
        self.rejects: list[dict[str, Any]] = []
        self.boxes: dict[str, list[Any]] = {}
        self.counts: dict[int, int] = {}
        self.space: tuple[int, ...] = ()
        self.jpeg = self.cut = 0
        self.seconds = 0.0

    def add(self, shard: int, part: Mapping[str, Any], rows: list[IndexRow]) -> None:
        """Take one part; all images of a run have one size."""
        space = tuple(part["space"] or ())
        if space and self.space and space != self.space:
            raise InputError(
                f"after framing some images have {space} pixels and others {self.space}; wanted one size: choose a "
                "framing other than 'none'"
            )
        self.space = self.space or space
        self.rows += rows
        self.boxes |= part["boxes"]
        self.counts[shard] = len(rows)
        self.jpeg += part["sizes"].get("jpeg95") or 0
        self.cut += part.get("cut", 0)
        self.seconds += part["seconds"]


class States:
    """What `state` said of each file when it was first asked: one look at a file serves a whole plan."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int | None, int | None]] = {}

    def __call__(self, file: str | Path) -> tuple[int | None, int | None]:
        """Size and time of a file."""
        name = str(file)
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = state(name)
        return found


def state(file: str | Path) -> tuple[int | None, int | None]:
    """Size and time of a file; nothing where it has vanished, which costs a reject when it is read.

    Of a folder of slices the sums over its files and its own time: that alone does not change with a slice's content.
    """
    try:
        found = os.stat(file)
        if S_ISDIR(found.st_mode):
            with os.scandir(file) as entries:
                slices = [entry.stat() for entry in entries if entry.is_file()]
            return sum(s.st_size for s in slices), found.st_mtime_ns + sum(s.st_mtime_ns for s in slices)
    except (OSError, ValueError):
        return None, None
    return found.st_size, found.st_mtime_ns


def tidy(run: Path) -> None:
    """Remove unfinished work from a run folder: the key first."""
    (run / ".work" / "key").unlink(missing_ok=True)
    shutil.rmtree(run / ".work", ignore_errors=True)
