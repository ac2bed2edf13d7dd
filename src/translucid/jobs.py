"""Work in shards: plan → run(i) → merge; idempotent, resumable, the same bytes from one worker or many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Protocol

from translucid.errors import ConfigError, TranslucidError


class ShardJob(Protocol):
    """A plan of independent shards. Instances must travel to other processes."""

    def shards(self) -> int:
        """How many shards the plan has."""
        ...

    def done(self, shard: int) -> bool:
        """Whether this shard is already finished on disk."""
        ...

    def run(self, shard: int) -> None:
        """Do one shard and write its result under a temporary name, renamed at the end."""
        ...

    def merge(self) -> None:
        """Join the finished shards; raises where one is absent."""
        ...


Progress = Callable[[int, int], None]


def worker_count(workers: int) -> int:
    """0 means one process for each core this process may use.

    >>> worker_count(3)
    3
    """
    if workers < 0:
        raise ConfigError(f"workers = {workers}: needs 0 (all cores) or more")
    return workers or len(os.sched_getaffinity(0))


def run_job(job: ShardJob, workers: int = 0, progress: Progress | None = None) -> None:
    """Run what is not done yet, then merge; finished shards of an earlier run are kept.

    Raises:
        TranslucidError: a worker process died (killed, out of memory); finished shards stay, run again to go on.
    """
    run_shards(job, range(job.shards()), workers, progress)
    job.merge()


def run_shards(job: ShardJob, shards: Iterable[int], workers: int = 0, progress: Progress | None = None) -> None:
    """Run some shards of a job, without merging."""
    chosen = list(shards)
    todo = [i for i in chosen if not job.done(i)]
    finished = len(chosen) - len(todo)
    report = progress or (lambda done, total: None)
    report(finished, len(chosen))
    count = min(worker_count(workers), len(todo))
    steps = _in_process(job, todo) if count <= 1 else _in_pool(job, todo, count)
    for _ in steps:
        finished += 1
        report(finished, len(chosen))


def _in_process(job: ShardJob, todo: list[int]) -> Iterator[int]:
    for shard in todo:
        job.run(shard)
        yield shard


def _single_thread() -> None:
    """One thread each, so that n workers use n cores."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    import torch

    torch.set_num_threads(1)


def _in_pool(job: ShardJob, todo: list[int], count: int) -> Iterator[int]:
    """A bounded queue: at most two shards per worker are under way, so memory stays flat."""
    waiting = iter(todo)
    with ProcessPoolExecutor(count, mp_context=get_context("forkserver"), initializer=_single_thread) as pool:
        under_way: dict[Future[None], int] = {}
        try:
            for shard in waiting:
                under_way[pool.submit(job.run, shard)] = shard
                if len(under_way) >= 2 * count:
                    yield from _collect(under_way)
            while under_way:
                yield from _collect(under_way)
        except BrokenProcessPool:
            raise TranslucidError(
                "a worker process died (killed, or out of memory); the finished shards are kept: "
                "run the same command again to go on, with fewer workers if memory was short"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _collect(under_way: dict[Future[None], int]) -> Iterator[int]:
    ready, _ = wait(under_way, return_when=FIRST_COMPLETED)
    for future in ready:
        shard = under_way.pop(future)
        future.result()
        yield shard
