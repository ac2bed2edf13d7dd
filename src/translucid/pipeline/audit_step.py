"""The verb `audit`: trained attackers against every store, one file a task, joined to audit.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translucid.audit import Audit, Codec, gather, run_task, set_up, tasks
from translucid.audit import Task as Attack
from translucid.audit.plan import CONSTANT
from translucid.audit.rows import Row
from translucid.audit.staging import Stage
from translucid.config import fingerprint, read_json, write_json
from translucid.jobs import Processes, Progress, Task, run_shards
from translucid.pipeline.audit_plan import audit_plan, checked, left_out
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.table import interval
from translucid.study import Study

if TYPE_CHECKING:
    from translucid.pipeline.audit_members import Shadow

FORMAT = 2
"""Of the files of tasks; a new number makes them anew."""
COSTLY = {"decoder": 2.0, "contrastive": 1.0}
"""Attacks that take longer than all others together, and which of them takes longest."""
KEPT = "codes/plain and audit/maps hold what attackers are scored against: never release them with the codes"


@dataclass(frozen=True)
class AuditJob:
    """All tasks of one run folder's audit; each writes one file and is done when that lies there.

    A shard is one costly attack, or all others on one compressor, or one shadow model; the costliest come first, so
    that workers end at about the same time, and a compressor is set up few times.

    Attributes:
        run: the run folder.
        wanted: fingerprint of everything that decides the rows.
        pieces: numbers of the tasks in every shard.
        shadows: further shards, which come before these.
    """

    run: Path
    wanted: str
    pieces: tuple[tuple[int, ...], ...]
    shadows: tuple[Shadow, ...] = ()

    def file(self, number: int) -> Path:
        """The rows of one task."""
        return self.run / "audit" / "tasks" / self.wanted / f"{number:04d}.json"

    def shards(self) -> int:
        """How many shards."""
        return len(self.shadows) + len(self.pieces)

    def _files(self, shard: int) -> list[Path]:
        first = len(self.shadows)
        if shard < first:
            return [self.shadows[shard].file]
        return [self.file(number) for number in self.pieces[shard - first]]

    def done(self, shard: int) -> bool:
        """Whether all its files lie there."""
        return all(file.is_file() for file in self._files(shard))

    def task(self, shard: int) -> Task:
        """Attacks on one compressor, or a shadow model."""
        first = len(self.shadows)
        if shard < first:
            made: Task = self.shadows[shard].task()
            return made
        todo = [(n, f) for n, f in zip(self.pieces[shard - first], self._files(shard), strict=True) if not f.is_file()]
        return partial(_run_piece, self.run, self.wanted, todo)

    def merge(self) -> None:
        """Rows are joined by `audit`, which knows the models as well."""

    def rows(self) -> list[Row]:
        """Of all tasks, in their order."""
        return [row for number in range(sum(map(len, self.pieces))) for row in read_json(self.file(number))]


def pieces_of(todo: Sequence[Attack]) -> tuple[tuple[int, ...], ...]:
    """Numbers of tasks that are run together, the costliest first.

    >>> pieces_of([Attack("l2", "a"), Attack("decoder", "a"), Attack("lda", "a"), Attack("l2", "b")])
    ((1,), (0, 2), (3,))
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for number, task in enumerate(todo):
        alone = task.attack if task.attack in COSTLY and task.codec != CONSTANT else ""
        groups.setdefault((alone, task.codec), []).append(number)

    def cost(key: tuple[str, str]) -> float:
        return COSTLY.get(key[0], 0.01 * len(groups[key]))

    return tuple(tuple(groups[key]) for key in sorted(groups, key=cost, reverse=True))


def audit(
    study: Study, run: Path, echo: Callable[[str], None] = lambda line: None, progress: Progress | None = None
) -> list[Row]:
    """Let attackers try every store of a run folder and write `audit.json`; finished tasks are kept.

    Args:
        study: the recipe; without `audit.parts` the standard parts are taken.
        run: the run folder, with the framed plain images among its stores.
        echo: told what is being done.
        progress: told (tasks done, tasks in all).

    Returns:
        Rows of audit.json.

    Raises:
        ConfigError: an unknown part or a budget that cannot be.
        InputError: no plain images, a store without its header, or too few patients with two films.
        LeakError: a patient stands in two splits.
        StaleRun: index or codes have changed since they were written.

    Fails when: a compressor looks private because the budget is small: read the row of the plain image first.
    """
    study, folder = checked(study), RunFolder(run)
    wanted = _fingerprint(folder, study)
    whole = fingerprint([wanted, _trained(folder, study), study.audit])
    if folder.done("audit") == whole and (run / "audit.json").is_file():
        done: list[Row] = read_json(run / "audit.json")
        return done
    folder.begin(study)
    with folder.timed("audit") as entry, _forgotten():
        job, untold = _job(folder, study, wanted, echo)
        entry["tasks"] = run_shards(job, range(job.shards()), Processes(study.workers), progress)
        rows = gather([*job.rows(), *_membership(folder, study, job)])
    write_json(run / "audit.json", rows)
    folder.warn("audit", [KEPT, *untold, *warnings(rows)])
    folder.note("fingerprints", "audit", value=whole)
    return rows


def _job(folder: RunFolder, study: Study, wanted: str, echo: Callable[[str], None]) -> tuple[AuditJob, list[str]]:
    """The job, and what cannot be told here."""
    if "explanations" in study.audit.parts:
        from translucid.pipeline.audit_maps import write_maps

        write_maps(folder, study, wanted)
    plan = _plan(folder.path, wanted)
    every, others = tasks(plan), _shadows(folder, study)
    more = f"; {len(others)} shadow models" if others else ""
    echo(f"audit: {len(every)} attacks on {len(plan.codecs)} compressors, the plain image, noise and a constant{more}")
    return AuditJob(folder.path, wanted, pieces_of(every), others), left_out(plan)


def _shadows(folder: RunFolder, study: Study) -> tuple[Shadow, ...]:
    if not study.audit.shadows:
        return ()
    from translucid.pipeline.audit_members import shadows

    return tuple(shadows(folder, study))


def _membership(folder: RunFolder, study: Study, job: AuditJob) -> list[Row]:
    if "membership" not in study.audit.parts:
        return []
    from translucid.pipeline.audit_members import member_rows

    return member_rows(folder, study, job.shadows)


def _fingerprint(folder: RunFolder, study: Study) -> str:
    """What decides the rows of tasks: codes and settings, and the models only where their maps are attacked."""
    stores = folder.record()["steps"].get("compress", {}).get("stores", {})
    shown = _trained(folder, study) if "explanations" in study.audit.parts else {}
    settings = replace(study.audit, shadows=0, shadowed=())
    return fingerprint([FORMAT, folder.need_codes(), settings, study.seed, stores, shown])


def _trained(folder: RunFolder, study: Study) -> dict[str, str | None]:
    return {name: folder.done("train", name) for name in study.rows}


@lru_cache(maxsize=1)
def _plan(run: Path, wanted: str) -> Audit:
    """The plan; a worker keeps the one it works on. `wanted` tells one state of the folder from another."""
    folder = RunFolder(run)
    study = folder.study()
    return audit_plan(folder, study, _maps(run, study, wanted))


@lru_cache(maxsize=1)
def _stage(run: Path, wanted: str, codec: str) -> Stage:
    """Tasks of one compressor follow each other, so that one stage is held at a time."""
    return set_up(_plan(run, wanted), codec)


@contextmanager
def _forgotten() -> Iterator[None]:
    """Let go of films and codes when the audit ends, however it ends."""
    try:
        yield
    finally:
        _stage.cache_clear()
        _plan.cache_clear()


def _run_piece(run: Path, wanted: str, todo: Sequence[tuple[int, Path]]) -> None:
    plan = _plan(run, wanted)
    every = tasks(plan)
    for number, file in todo:
        write_json(file, run_task(plan, every[number], _stage(run, wanted, every[number].codec)))


def _maps(run: Path, study: Study, wanted: str) -> list[Codec]:
    if "explanations" not in study.audit.parts:
        return []
    from translucid.pipeline.audit_maps import read_maps

    return read_maps(run, study, wanted)


def warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which numbers are withheld, and why."""
    said = {r["attack"]: r["reason"] for r in rows if r.get("reason") and not r["attack"].startswith("bounds/")}
    return [f"{attack}: numbers withheld: {why}" for attack, why in said.items()]


def audit_table(rows: Sequence[Row]) -> str:
    """One line per compressor: how well the best attacker tells, finds and redraws people.

    Fails when: read without the line of the plain image, which says how strong the attacker is.
    """
    found: dict[tuple[str, str, str], Row] = {}
    for r in rows:
        part, _, rung = r["attack"].partition("/")
        if rung == "best":
            found[part, r["measure"].partition("@")[0], r["compressor"]] = r  # the last gallery is the largest
    wanted = (
        ("verification AUC", "verification", "auc"), ("rank-1", "verification", "rank1"),
        ("linkage rank-1", "linkage_other", "rank1"), ("reconstruction gain", "reconstruction", "gain"),
    )  # fmt: skip
    shown = [w for w in wanted if any(key[:2] == w[1:] for key in found)]
    names = list(dict.fromkeys(name for part, measure, name in found if (part, measure) in {w[1:] for w in shown}))
    lines = [["compressor", *(title for title, _, _ in shown)]]
    lines += [[n, *(interval(found.get((part, m, n))) for _, part, m in shown)] for n in names]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
