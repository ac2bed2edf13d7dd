"""Timing in one run: every way in turn, wall and processor seconds, medians and ranges over the repeats."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch

Clock = Literal["wall", "cpu"]
REST = 0.05
"""Seconds before every turn: threads of the way before it go on spinning for a while after their work is done."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        quick: small and few; the ratios are rough.
        repeats: turns of each way.
        block: seconds that one turn lasts at least.
        images, size: how many square images lie in memory, and their side in pixels.
    """

    quick: bool = False
    repeats: int = 9
    block: float = 0.25
    images: int = 128
    size: int = 320

    @staticmethod
    def rough() -> Plan:
        """What `--quick` measures."""
        return Plan(True, 3, 0.05, 32)


class Stat(NamedTuple):
    """Median, smallest and largest of the repeats."""

    median: float
    low: float
    high: float
    n: int

    @staticmethod
    def of(values: Sequence[float]) -> Stat:
        """Of at least one value."""
        return Stat(statistics.median(values), min(values), max(values), len(values))

    def scaled(self, factor: float) -> Stat:
        """All three numbers in another unit."""
        return Stat(self.median * factor, self.low * factor, self.high * factor, self.n)


class Way(NamedTuple):
    """One way to do the work.

    Attributes:
        images: how many images one pass does.
        run: makes so many passes and returns the processor seconds they took.
        threads: of torch and of the kernels in this process.
    """

    images: int
    run: Callable[[int], float]
    threads: int = 1


def here(images: int, once: Callable[[], object], threads: int = 1) -> Way:
    """A way that runs in this process."""

    def run(passes: int) -> float:
        start = time.process_time()
        for _ in range(passes):
            once()
        return time.process_time() - start

    return Way(images, run, threads)


@dataclass
class Samples:
    """Seconds per image of every way and repeat; entry i of all ways was taken in the same turn."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def of(self, name: str, clock: Clock = "wall") -> list[float]:
        """Seconds per image, one number per repeat."""
        return (self.wall if clock == "wall" else self.cpu)[name]

    def seconds(self, name: str, clock: Clock = "wall") -> Stat:
        """Seconds per image."""
        return Stat.of(self.of(name, clock))

    def rate(self, name: str, clock: Clock = "wall") -> Stat:
        """Images per second."""
        return Stat.of([1 / max(s, 1e-12) for s in self.of(name, clock)])

    def faster(self, name: str, than: str, clock: Clock = "wall") -> Stat:
        """How many times as fast one way is as another, turn by turn."""
        pairs = zip(self.of(name, clock), self.of(than, clock), strict=True)
        return Stat.of([slow / max(fast, 1e-12) for fast, slow in pairs])

    def medians(self) -> dict[str, dict[str, float]]:
        """Wall and processor seconds per image, for the record."""
        return {n: {"wall_s": self.seconds(n).median, "cpu_s": self.seconds(n, "cpu").median} for n in self.wall}


def measure(ways: Mapping[str, Way], repeats: int, block: float) -> Samples:
    """Time the ways in turn, A B A B …, so that all see the same machine; passes are chosen to fill `block` seconds."""
    passes = {name: _passes(way, block) for name, way in ways.items()}
    samples = Samples({n: [] for n in ways}, {n: [] for n in ways})
    for _ in range(repeats):
        for name, way in ways.items():
            torch.set_num_threads(way.threads)
            time.sleep(REST)
            start = time.perf_counter()
            cpu = way.run(passes[name])
            done = passes[name] * way.images
            samples.wall[name].append((time.perf_counter() - start) / done)
            samples.cpu[name].append(cpu / done)
    return samples


def _passes(way: Way, block: float) -> int:
    """The first pass warms up (and compiles); the second is timed, unless the first tells enough already."""
    torch.set_num_threads(way.threads)
    taken = 0.0
    for _ in range(2):
        start = time.perf_counter()
        way.run(1)
        taken = time.perf_counter() - start
        if block < taken < 5 * block:
            break
    return max(1, round(block / max(taken, 1e-6)))
