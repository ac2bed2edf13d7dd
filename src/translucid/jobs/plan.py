"""What a job is, in words that every executor shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from translucid.errors import ConfigError, TranslucidError

Progress = Callable[[int, int], None]
Task = Callable[[], None]


class WorkerLost(TranslucidError):
    """A process that was working on a shard is gone."""


class ShardJob(Protocol):
    """A plan of independent shards."""

    def shards(self) -> int:
        """How many shards the plan has."""
        ...

    def done(self, shard: int) -> bool:
        """Whether this shard is already finished on disk."""
        ...

    def task(self, shard: int) -> Task:
        """The work of one shard: travels to other processes, carries no more than the shard needs, may run twice.

        It writes under temporary names that are renamed at the end, and last of all the sign by which `done` knows it.
        """
        ...

    def merge(self) -> None:
        """Join the finished shards; may run again after it was stopped."""
        ...


class Executor(Protocol):
    """Runs shards somewhere, a bounded number at a time, and yields the number of each as it is finished."""

    def run(self, job: ShardJob, todo: Sequence[int]) -> Iterator[int]:
        """Run these shards; the first error stops it, after what is under way has ended."""
        ...


def run_shard(job: ShardJob, shard: int) -> None:
    """Run one shard here, unless it is finished."""
    if not job.done(shard):
        job.task(shard)()


def absent_shards(job: ShardJob) -> list[int]:
    """The shards that are not finished yet."""
    return [i for i in range(job.shards()) if not job.done(i)]


def parse_share(text: str) -> tuple[int, int]:
    """Read "i/n": the task with number i, from 0, of n tasks.

    Raises:
        ConfigError: it is not of this form, or i is not below n.

    Example:
        >>> parse_share("3/10")
        (3, 10)
        >>> parse_share("10/10")
        Traceback (most recent call last):
        ...
        translucid.errors.ConfigError: shard = '10/10': wanted i/n with i from 0 to n - 1, such as 0/10
    """
    first, sign, second = text.partition("/")
    if not (sign and first.isdecimal() and second.isdecimal() and int(first) < int(second)):
        raise ConfigError(f"shard = {text!r}: wanted i/n with i from 0 to n - 1, such as 0/10")
    return int(first), int(second)


def listed(numbers: Sequence[int], most: int = 12) -> str:
    """Numbers for a message, runs shortened.

    >>> listed([0, 1, 2, 5, 7, 8])
    '0–2, 5, 7–8'
    """
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    words = [str(a) if a == b else f"{a}–{b}" for a, b in runs[:most]]
    return ", ".join(words) + (", …" if len(runs) > most else "")
