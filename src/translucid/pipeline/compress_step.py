"""The verb `compress`: prepare the manifest, run the shards, record what the codes weigh."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from translucid.compress import COMPRESSORS
from translucid.config import build, fingerprint, from_kind, read_json, write_json
from translucid.errors import ConfigError, StaleRun
from translucid.io.codes import CodeStore
from translucid.io.framing import Framing
from translucid.io.index import read_rejects, write_rejects
from translucid.io.manifest import Manifest
from translucid.jobs import Progress, run_job
from translucid.pipeline.compressing import CompressJob
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.prepare import check_for_training, key_bytes, prepare
from translucid.study import Study
from translucid.tensors import Compressor


def compress(study: Study, run: Path, progress: Progress | None = None, *, for_training: bool = False) -> RunFolder:
    """Compress the study's images with every different compressor of its variants.

    A finished step with the same inputs and settings is kept; a stopped one goes on.

    Args:
        study: the recipe.
        run: the run folder; `codes/`, `index.csv`, `rejects.csv`, `regions.json` and `run.json` are written.
        progress: called with (shards done, shards in all).
        for_training: also refuse labels that no model can learn from.

    Raises:
        ConfigError, ManifestError, LeakError: the recipe or the data cannot be used.
        InputError: none of the files could be read.

    Fails when: two processes write the same run folder at the same time.
    """
    folder = RunFolder(run)
    manifest = prepare(study, run)
    warnings = check_for_training(manifest) if for_training else list(manifest.warnings)
    wanted = _fingerprint(study, manifest)
    if folder.record_file.is_file() and folder.done("compress") == wanted and (run / "index.csv").is_file():
        folder.begin(study)
        return folder
    job = _job(study, manifest, run)
    _check_sizes(job)
    _begin(folder, job)
    folder.begin(study)
    with folder.timed("compress") as entry:
        run_job(job, study.workers, progress)
        entry.update(_totals(folder, job, manifest))
    entry["images_per_second"] = round(entry["cases"] / max(entry["seconds"], 1e-9), 1)
    folder.note("steps", "compress", value=entry)
    if entry["rejects"]:
        warnings.append(
            f"{entry['rejects']} of {entry['cases'] + entry['rejects']} files could not be used: rejects.csv"
        )
    folder.warn("compress", warnings)
    folder.note("fingerprints", "compress", value=wanted)
    job.tidy()
    return folder


def _fingerprint(study: Study, manifest: Manifest) -> str:
    """Files by name, size and time; labels, splits; everything that decides the codes."""
    files = []
    for case in manifest.cases:
        stat = manifest.path(case).stat()
        files.append([case.file, case.frame, case.split, dict(case.labels), stat.st_size, stat.st_mtime_ns])
    return fingerprint([files, manifest.labels, study.framing, study.stores])


def _job(study: Study, manifest: Manifest, run: Path) -> CompressJob:
    framing, bits = read_framing(study.framing)
    compressors: dict[str, Compressor] = {
        name: from_kind(COMPRESSORS, table, f"compress {name}") for name, table in study.stores.items()
    }
    key = key_bytes(study.data, run, study)
    return CompressJob(manifest, run, framing, compressors, key, bits, jpeg_baseline=framing.kind != "none")


def read_framing(table: Mapping[str, Any]) -> tuple[Framing, int]:
    """A recipe's [framing]: the fields of `Framing`, and `bits` (8, 16, or 32 for no rounding)."""
    bits = table.get("bits", 8)
    if bits not in (8, 16, 32):
        raise ConfigError(f"framing.bits = {bits!r}: needs 8, 16, or 32 for no rounding")
    return build(Framing, {k: v for k, v in table.items() if k != "bits"}, "framing"), bits


def _check_sizes(job: CompressJob) -> None:
    """Let every compressor say now, before any file is read, whether it fits the framed size."""
    if job.framing.kind == "none":
        return
    space = (job.framing.size, job.framing.size)
    for compressor in job.compressors.values():
        compressor.code_length(space)


def _begin(folder: RunFolder, job: CompressJob) -> None:
    """Keep the finished shards of the same job; sweep away those of another."""
    plan = job.work / "plan.json"
    identity = job.identity()
    if plan.is_file() and read_json(plan).get("identity") == identity:
        return
    key = (job.work / "key").read_bytes() if (job.work / "key").is_file() else None
    for stale in (job.work, folder.path / "codes"):
        folder.clear(stale)
    write_json(plan, {"identity": identity, "shards": job.shards()})
    if key is not None:
        (job.work / "key").touch(mode=0o600)
        (job.work / "key").write_bytes(key)


def _totals(folder: RunFolder, job: CompressJob, manifest: Manifest) -> dict[str, Any]:
    """Cases, rejects and what each store weighs; rows that the layout left out join the rejects."""
    rejects = read_rejects(folder.path / "rejects.csv")
    for where, why in manifest.rejects:
        number = re.search(r"\d+", where)
        rejects.append({"row": int(number[0]) if number else 0, "reason": why})
    write_rejects(folder.path / "rejects.csv", rejects)
    stores = {name: CodeStore.open(folder.codes(name)) for name in job.compressors}
    cases = len(next(iter(stores.values())))
    jpeg = job.jpeg_bytes
    return {
        "cases": cases,
        "rejects": len(rejects),
        "index": folder.index_fingerprint(),
        "jpeg95_bytes_per_image": round(jpeg / cases, 1) if jpeg else None,
        "stores": {name: _weight(store, cases) for name, store in stores.items()},
    }


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
