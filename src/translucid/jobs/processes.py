"""Shards in processes of this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process

from translucid.errors import ConfigError
from translucid.jobs.plan import ShardJob, WorkerLost


@dataclass(frozen=True)
class Processes:
    """Run shards on this machine, each in one thread of one process; 0 workers means one for each core.

    At most two shards per worker are under way, so memory stays flat however many there are.

    Raises:
        ConfigError: a negative number of workers.

    Example:
        >>> Processes(2)
        Processes(workers=2)

    Fails when: a decoder crashes its process at the same file every time; no later run gets beyond that shard until
    the file is taken out of the manifest.
    """

    workers: int = 0

    def __post_init__(self) -> None:
        worker_count(self.workers)

    def run(self, job: ShardJob, todo: Sequence[int]) -> Iterator[int]:
        """Run these shards; one worker needs no process of its own."""
        count = min(worker_count(self.workers), len(todo))
        return _here(job, todo) if count <= 1 else _in_pool(job, todo, count)


def worker_count(workers: int) -> int:
    """0 means one process for each core this process may use.

    >>> worker_count(3)
    3
    """
    if workers < 0:
        raise ConfigError(f"workers = {workers}: needs 0 (all cores) or more")
    return workers or len(os.sched_getaffinity(0))


def _here(job: ShardJob, todo: Sequence[int]) -> Iterator[int]:
    for shard in todo:
        with one_thread():
            job.task(shard)()
        yield shard


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for sums, because how a sum is split among threads may change its last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start_worker() -> None:
    """One thread each, so that n workers use n cores; Ctrl-C is for the parent, and no worker outlives it."""
    _keep_memory()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # numba's own threads are used nowhere, and bear no change
        os.environ[name] = "1"
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _keep_memory() -> None:
    """Arrays that were freed are used again: shard after shard asks for the same, and new pages cost time (glibc)."""
    trim_threshold, mmap_threshold = -1, -3
    with contextlib.suppress(OSError, TypeError, AttributeError):  # another system, or another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 25)
        libc.mallopt(trim_threshold, 1 << 28)


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers to stop, and they would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _in_pool(job: ShardJob, todo: Sequence[int], count: int) -> Iterator[int]:
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", type(job).__module__])  # imported once and shared, not once per worker
    under_way: dict[Future[None], int] = {}
    with ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker) as pool:
        try:
            for shard in todo:
                under_way[pool.submit(job.task(shard))] = shard
                if len(under_way) >= 2 * count:
                    yield from _collect(under_way)
            while under_way:
                yield from _collect(under_way)
        except BrokenProcessPool:
            raise WorkerLost(
                "a worker process died (killed, out of memory, or crashed by a broken file; fewer workers need less "
                "memory)"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _collect(under_way: dict[Future[None], int]) -> Iterator[int]:
    ready, _ = wait(under_way, return_when=FIRST_COMPLETED)
    for future in ready:
        shard = under_way.pop(future)
        future.result()
        yield shard
