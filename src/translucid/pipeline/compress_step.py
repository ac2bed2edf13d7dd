"""The verb `compress`: prepare the manifest, run the shards, record what the codes weigh."""

from __future__ import annotations

import gc
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from translucid.compress import COMPRESSORS
from translucid.config import build, fingerprint, from_kind
from translucid.errors import ConfigError, InputError, StaleRun
from translucid.io.codes import CodeStore
from translucid.io.framing import Framing
from translucid.io.index import read_rejects, write_rejects
from translucid.io.manifest import Manifest
from translucid.io.pseudonym import new_key
from translucid.io.volume_framing import VolumeFraming
from translucid.jobs import (
    Executor,
    Processes,
    Progress,
    absent_shards,
    parse_share,
    run_shards,
    saved_from_a_full_disk,
)
from translucid.pipeline.compressing import CompressJob, States, tidy
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.places import check_known, grid_for, watched
from translucid.pipeline.prepare import check_for_training, key_bytes, prepare
from translucid.pipeline.shard import Recipe, json_text
from translucid.pipeline.spending import draws, spending
from translucid.study import Study
from translucid.tensors import Compressor


@dataclass(frozen=True)
class How:
    """How the shards are run; what comes out does not depend on it, but for `shard_size`.

    Attributes:
        executor: where; None takes the processes that the study's `workers` asks for.
        shard_size: images in a shard; all their codes, and the pixels of a few, are in memory at once.
        merge_only: run nothing, only join what other calls have finished.
    """

    executor: Executor | None = None
    shard_size: int = 128
    merge_only: bool = False

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ConfigError(f"shard size = {self.shard_size}: needs at least one image")


@contextmanager
def _old_objects_spared() -> Iterator[None]:
    """Let the collector pass over what was there before: each look at all of torch takes a tenth of a second."""
    ours = not gc.get_freeze_count()
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


@_old_objects_spared()
def compress(
    study: Study, run: Path, progress: Progress | None = None, *, for_training: bool = False, how: How | None = None
) -> RunFolder:
    """Compress the study's images with every different compressor of its variants.

    A finished step with the same inputs and settings is kept; a stopped one goes on.

    Args:
        study: the recipe.
        run: the run folder; `codes/`, `index.csv`, `rejects.csv`, `regions.json` and `run.json` are written.
        progress: called with (shards done, shards in all).
        for_training: also refuse labels that no model can learn from, and weigh the images as JPEG for comparison.
        how: where the shards are run.

    Raises:
        ConfigError, ManifestError, LeakError: the recipe or the data cannot be used.
        InputError: none of the files could be read, or shards are absent that others should have made.
        TranslucidError: a worker was lost or the disk is full; what is finished is kept.

    Fails when: two processes without `--shard` write the same run folder at the same time.
    """
    how, folder = how or How(), RunFolder(run)
    manifest = prepare(study, run)
    warnings = check_for_training(manifest) if for_training else list(manifest.warnings)
    warnings += check_known(study.places, manifest)
    seen = States()
    wanted = _fingerprint(study, manifest, seen)
    if _finished(folder, wanted):
        folder.begin(study)
        tidy(run)
        return folder
    with saved_from_a_full_disk(lambda: "finished shards are kept"):
        _need_key(study, run, how.merge_only)
        job = _begin(study, manifest, run, how, seen, jpeg=for_training)
        with folder.timed("compress") as entry:
            done = 0 if how.merge_only else _run(job, how.executor or Processes(study.workers), progress)
            _merge(folder, study, job)
            entry.update(_totals(folder, job, manifest) | {"draws": draws(folder)})
        entry["images_per_second"] = round(done / max(entry["seconds"], 1e-9), 1) if done else None
        folder.note("steps", "compress", value=entry)
        folder.warn("compress", warnings + _lost(entry) + spending(folder))
        folder.note("fingerprints", "compress", value=wanted)
    job.tidy()
    return folder


def _run(job: CompressJob, executor: Executor, progress: Progress | None) -> int:
    """Run what is not finished yet; returns how many files that were."""
    absent = absent_shards(job)
    run_shards(job, range(job.shards()), executor, progress)
    return sum(len(job.rows(i)) for i in absent)


def _lost(entry: Mapping[str, Any]) -> list[str]:
    rejects, cut = entry["rejects"], entry["boxes_cut"]
    lost = [f"{rejects} of {entry['cases'] + rejects} files could not be used: rejects.csv"] if rejects else []
    return lost + ([f"boxes that stick out of their images and were cut at the rim: {cut}"] if cut else [])


@_old_objects_spared()
def compress_share(
    study: Study, run: Path, share: str, progress: Progress | None = None, how: How | None = None
) -> str:
    """Run the shards k with k mod n = i of a plan that n tasks share; none of them merges.

    Args:
        study: the recipe; it must be the same for all tasks, and so must its key be.
        run: the run folder, which all tasks see.
        share: "i/n".
        progress: called with (shards done, shards of this task).
        how: where the shards are run.

    Returns:
        What was done, in a line.

    Raises:
        ConfigError: `share` is not of this form, or the study has no key.

    Fails when: the tasks see different files, sizes or times under the same names.
    """
    how = how or How()
    task, tasks = parse_share(share)
    if study.data.key is None:
        raise ConfigError(
            "tasks that share a run need one key, or each would draw its own pseudonyms: make one with "
            "translucid.io.pseudonym.new_key and give all of them --key FILE"
        )
    manifest = prepare(study, run)
    check_known(study.places, manifest)
    seen = States()
    if RunFolder(run).record_file.is_file() and _finished(RunFolder(run), _fingerprint(study, manifest, seen)):
        return "this run is finished and merged; nothing to do"
    with saved_from_a_full_disk(lambda: "finished shards are kept"):
        job = _begin(study, manifest, run, how, seen)
    own = range(task, job.shards(), tasks)
    ran = run_shards(job, own, how.executor or Processes(study.workers), progress)
    return f"task {share}: {ran} of its {len(own)} shards run, {len(own) - ran} found finished; {job.shards()} in all"


def _finished(folder: RunFolder, wanted: str) -> bool:
    """Whether the step was finished with these inputs and settings, and its files still lie there."""
    if not (folder.record_file.is_file() and folder.done("compress") == wanted):
        return False
    try:
        folder.need_codes()
        for name in folder.record()["steps"]["compress"]["stores"]:
            open_store(folder, name)
    except (InputError, StaleRun):
        return False
    return True


def _fingerprint(study: Study, manifest: Manifest, seen: States) -> str:
    """Files by name, size and time; what the index takes from the manifest; everything that decides the codes."""
    digest, root = hashlib.sha256(), f"{manifest.root}{os.sep}"
    for c in manifest.cases:
        labels = [c.labels.get(name) for name in manifest.labels]
        known = [c.file, c.frame, c.patient, c.view, c.split, labels, dict(c.attributes), [list(b) for b in c.boxes]]
        beside = [[what, *seen(path)] for what, path in watched(study.places, manifest, c)]
        digest.update(json_text([*known, *seen(root + c.file), *beside]).encode())
    return fingerprint([digest.hexdigest(), manifest.labels, study.framing, study.places, study.stores])


def _need_key(study: Study, run: Path, merge_only: bool) -> None:
    """Draw a key for this run, whole or not at all; a merge must find the one that the shards were made with."""
    kept = run / ".work" / "key"
    if study.data.key is not None or study.data.layout == "phantom" or kept.is_file():
        return
    if merge_only:
        raise ConfigError("a merge needs the key that the tasks had: give --key FILE")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=kept.parent) as drawn:
        new_key(Path(drawn, "key"))
        os.replace(Path(drawn, "key"), kept)


def _begin(study: Study, manifest: Manifest, run: Path, how: How, seen: States, jpeg: bool = False) -> CompressJob:
    framing, bits = read_framing(study.framing)
    compressors: dict[str, Compressor] = {
        name: from_kind(COMPRESSORS, table, "compress") for name, table in study.stores.items()
    }
    _check_images(compressors, manifest)
    flat = isinstance(framing, Framing) and framing.kind != "none"
    recipe = Recipe(framing, compressors, bits, jpeg and flat, study.places)
    _check_sizes(recipe)
    job = CompressJob(manifest, run, recipe, key_bytes(study.data, run, study), how.shard_size, seen)
    job.begin()
    return job


def _merge(folder: RunFolder, study: Study, job: CompressJob) -> None:
    """Join the shards; until that is done and recorded, the folder no longer claims to be finished."""
    if not absent_shards(job):
        folder.begin(study)
        folder.note("fingerprints", "compress", value=None)
    job.merge()


def read_framing(table: Mapping[str, Any]) -> tuple[Framing | VolumeFraming, int]:
    """A recipe's [framing]: the fields of `Framing`, or with kind = "volume" those of `VolumeFraming`; and `bits` (8,
    16, or 32 for no rounding).
    """
    bits = table.get("bits", 8)
    if bits not in (8, 16, 32):
        raise ConfigError(f"framing.bits = {bits!r}: needs 8, 16, or 32 for no rounding")
    fields = {k: v for k, v in table.items() if k != "bits"}
    if fields.get("kind") == "volume":
        del fields["kind"]
        return build(VolumeFraming, fields, "framing"), bits
    return build(Framing, fields, "framing"), bits


def _check_sizes(recipe: Recipe) -> None:
    """Let every compressor say now, before any file is read, whether it fits the framed size."""
    framing = recipe.framing
    if isinstance(framing, VolumeFraming):
        space: tuple[int, ...] = framing.shape or ()
    else:
        space = () if framing.kind == "none" else (framing.size, framing.size)
    if not space:
        return
    if recipe.places.wanted:
        grid_for(recipe.places, space)
    for compressor in recipe.compressors.values():
        compressor.code_length(space)


def _check_images(compressors: Mapping[str, Compressor], manifest: Manifest) -> None:
    """A guarantee adds up over so many images of a patient; refuse where somebody has more."""
    most = max(Counter(case.patient for case in manifest.cases).values(), default=0)
    for name, compressor in compressors.items():
        stated = getattr(compressor, "images", None)
        if stated is not None and stated < most:
            raise ConfigError(
                f"{name} states images = {stated}, but a patient has {most}: its guarantee would not hold for them; "
                f"set images = {most}, or keep fewer images of each patient"
            )


def _totals(folder: RunFolder, job: CompressJob, manifest: Manifest) -> dict[str, Any]:
    """Cases, rejects and what each store weighs; rows that the layout left out join the rejects."""
    rejects = read_rejects(folder.path / "rejects.csv")
    for where, why in manifest.rejects:
        rejects.append({"row": _row(where), "reason": why})
    write_rejects(folder.path / "rejects.csv", rejects)
    stores = {name: CodeStore.open(folder.codes(name)) for name in job.recipe.compressors}
    cases = len(next(iter(stores.values())))
    totals = job.totals()
    jpeg = totals["jpeg95"]
    return {
        "cases": cases,
        "rejects": len(rejects),
        "boxes_cut": totals["cut"],
        "index": folder.index_fingerprint(),
        "shard_size": job.shard_size,
        "worker_seconds": totals["seconds"],
        "jpeg95_bytes_per_image": round(jpeg / cases, 1) if jpeg else None,
        "stores": {name: _weight(store, cases) for name, store in stores.items()},
    }


def _row(where: str) -> int:
    """The row, or the image's number, that a layout names; 0 where it names none.

    >>> _row("Data_Entry_2017.csv row 5, mask heart"), _row("image 7 in order of the alphabet"), _row("a")
    (5, 7, 0)
    """
    number = re.search(r"\b(?:row|image) (\d+)", where)
    return int(number[1]) if number else 0


def _weight(store: CodeStore, cases: int) -> dict[str, Any]:
    pixels = 1
    for n in store.header["space"]:
        pixels *= n
    length = store.header["code_length"]
    return {
        "bytes": store.bytes_on_disk,
        "bytes_per_image": round(store.bytes_on_disk / cases, 1),
        "values_per_image": length * store.header["channels"],
        "share_of_values": length / pixels,
    }


def open_store(folder: RunFolder, name: str) -> CodeStore:
    """One compressor's codes, checked against the index."""
    store = CodeStore.open(folder.codes(name))
    if len(store) != folder.record()["steps"]["compress"]["cases"]:
        raise StaleRun(f"{folder.codes(name)} holds {len(store)} cases, the index another number: compress again")
    return store
