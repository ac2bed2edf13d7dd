"""Work in shards: plan → run_shard(i) → merge; idempotent, resumable, the same bytes from one worker or many."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from translucid.errors import ConfigError, TranslucidError, lookup
from translucid.jobs.cluster import Dask, need_distributed
from translucid.jobs.plan import (
    Executor,
    Progress,
    ShardJob,
    Task,
    WorkerLost,
    absent_shards,
    listed,
    parse_share,
    run_shard,
)
from translucid.jobs.processes import Processes, worker_count

__all__ = [
    "EXECUTORS",
    "Dask",
    "Executor",
    "Processes",
    "Progress",
    "ShardJob",
    "Task",
    "WorkerLost",
    "absent_shards",
    "listed",
    "make_executor",
    "parse_share",
    "run_job",
    "run_shard",
    "run_shards",
    "saved_from_a_full_disk",
    "worker_count",
]

EXECUTORS: dict[str, type[Processes] | type[Dask]] = {"processes": Processes, "dask": Dask}
_FULL = (errno.ENOSPC, errno.EDQUOT)


def make_executor(
    kind: str, scheduler: str = "", tls: tuple[Path | None, Path | None, Path | None] = (None, None, None)
) -> Executor | None:
    """The executor that a command's options describe; None for processes, of which the recipe says how many.

    Args:
        kind: "processes" on this machine, or "dask" for a cluster that is running already.
        scheduler: address of the Dask scheduler.
        tls: files with the authority's certificate, the own certificate and its key.

    Raises:
        ConfigError: an unknown kind, or options of the other kind. MissingExtra: Dask is not installed.

    Example:
        >>> make_executor("dsak")
        Traceback (most recent call last):
        ...
        translucid.errors.ConfigError: unknown executor 'dsak': did you mean 'dask'? (known: dask, processes)
    """
    if lookup(EXECUTORS, kind, "executor") is Dask:
        need_distributed()
        return Dask(scheduler, *tls)
    if scheduler or any(tls):
        raise ConfigError("--scheduler and --tls-… belong to --executor dask: add it, or leave them out")
    return None


def run_job(job: ShardJob, executor: Executor | None = None, progress: Progress | None = None) -> None:
    """Run what is not done yet, then merge; finished shards of an earlier run are kept.

    Raises:
        TranslucidError: a worker was lost or the disk is full; finished shards stay, run again to go on.
    """
    run_shards(job, range(job.shards()), executor, progress)
    with saved_from_a_full_disk(lambda: "every shard is kept"):
        job.merge()


def run_shards(
    job: ShardJob, shards: Iterable[int], executor: Executor | None = None, progress: Progress | None = None
) -> int:
    """Run some shards of a job, without merging; returns how many were run.

    Raises:
        TranslucidError: a worker was lost or the disk is full; finished shards stay, run again to go on.
    """
    chosen = list(shards)
    todo = [i for i in chosen if not job.done(i)]
    finished = len(chosen) - len(todo)
    report = progress or (lambda done, total: None)
    report(finished, len(chosen))

    def kept() -> str:
        return f"{sum(job.done(i) for i in chosen)} of {len(chosen)} shards are finished and kept"

    with saved_from_a_full_disk(kept):
        for _ in (executor or Processes()).run(job, todo) if todo else ():
            finished += 1
            report(finished, len(chosen))
    return len(todo)


@contextmanager
def saved_from_a_full_disk(kept: Callable[[], str]) -> Iterator[None]:
    """Say what is kept and what to do where the disk is full, memory is short or a worker was lost."""
    again = "run the same command again to go on"
    try:
        yield
    except WorkerLost as e:
        raise TranslucidError(f"{e}; {kept()}: {again}") from None
    except MemoryError:
        raise TranslucidError(
            f"memory was short; {kept()}: {again}, with fewer workers or a smaller shard size"
        ) from None
    except OSError as e:
        if isinstance(e, TranslucidError):
            raise
        if e.errno in _FULL:
            raise TranslucidError(f"the disk is full ({e.strerror}); {kept()}: free some space and {again}") from e
        reason = e.strerror or type(e).__name__
        where = f" at {os.fspath(e.filename)}" if isinstance(e.filename, (str, os.PathLike)) else ""
        raise TranslucidError(f"writing failed ({reason}{where}); {kept()}: see to it and {again}") from e
