"""A sliding median as a short program of row operations: Batcher's merge networks, shared by neighbouring windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np

from translucid.errors import ConfigError
from translucid.types import Space

COPY, SORT, MINMAX = 0, 1, 2
Step = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Window:
    """A square window and the distance between its positions, in pixels.

    Raises:
        ConfigError: size or stride below one.
    """

    size: int = 12
    stride: int = 2

    def __post_init__(self) -> None:
        if self.size < 1 or self.stride < 1:
            raise ConfigError(f"a median window needs size and stride ≥ 1, got {self.size} and {self.stride}")

    def grid(self, space: Space) -> tuple[int, int]:
        """Positions along each axis, ⌈n / stride⌉."""
        return -(-space[0] // self.stride), -(-space[1] // self.stride)

    def sources(self, n: int) -> np.ndarray:
        """Pixel under each place of each window along an axis of n pixels, (position, size), edges reflected.

        The padding is the "same" one: (positions − 1)·stride + size − n pixels in all, the smaller half before.

        Example:
            >>> Window(12, 2).sources(320)[0]
            array([5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6])
        """
        positions = -(-n // self.stride)
        before = max((positions - 1) * self.stride + self.size - n, 0) // 2
        place = np.arange(positions)[:, None] * self.stride + np.arange(self.size) - before
        return reflect(place, n)


def reflect(place: np.ndarray, n: int) -> np.ndarray:
    """Fold places beyond an axis of n pixels back without repeating the edge, as often as needed.

    Example:
        >>> reflect(np.array([-2, -1, 0, 3, 4]), 4)
        array([2, 1, 0, 3, 2])
    """
    if n == 1:
        return np.zeros_like(place)
    folded = np.abs(place) % (2 * n - 2)
    return np.asarray(np.minimum(folded, 2 * n - 2 - folded))


def ranks(count: int) -> tuple[int, int]:
    """Places (from 0) of the two middle values among `count` sorted ones; the same twice where `count` is odd.

    Example:
        >>> ranks(144), ranks(9)
        ((71, 72), (4, 4))
    """
    return (count - 1) // 2, count // 2


@dataclass(frozen=True)
class Program:
    """A median as a list of row operations; column v of a work row belongs to position v of the window.

    Attributes:
        steps: (step, 5) int64: what, target, first, second, shift, where w is the table of work rows:
            COPY    w[target, v] = w[first, v + shift]
            SORT    w[first, v], w[second, v] = their smaller, their larger
            MINMAX  w[target, v] = min(w[target, v], max(w[first, v], w[second, v + shift])).
        rows: how many work rows there are; the last two hold −∞ and +∞.
        block: columns of the image behind one position, the greatest common divisor of size and stride.
        blocks: how many neighbouring positions make a window.
        results: the work rows that end with the two middle values.
    """

    steps: np.ndarray
    rows: int
    block: int
    blocks: int
    results: tuple[int, int]


def merge_network(a: Sequence[int], b: Sequence[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Batcher's odd–even merge of two sorted lists of wires: comparators (smaller to, larger to), and the sorted order.

    Example:
        >>> merge_network([0], [1])
        ([(0, 1)], [0, 1])
    """
    if not a or not b:
        return [], [*a, *b]
    if len(a) == len(b) == 1:
        return [(a[0], b[0])], [a[0], b[0]]
    first, odd = merge_network(a[0::2], b[0::2])
    second, even = merge_network(a[1::2], b[1::2])
    pairs = list(zip(even, odd[1:], strict=False))
    order = [odd[0], *(wire for pair in pairs for wire in pair), *even[len(pairs) :], *odd[len(pairs) + 1 :]]
    return [*first, *second, *pairs], order


def sort_network(lists: Sequence[Sequence[int]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Merge sorted lists of wires pairwise into one: comparators, and the wires in sorted order.

    Example:
        >>> sort_network([[0], [1]])
        ([(0, 1)], [0, 1])
    """
    if len(lists) == 1:
        return [], list(lists[0])
    half = len(lists) // 2
    left, a = sort_network(lists[:half])
    right, b = sort_network(lists[half:])
    across, order = merge_network(a, b)
    return [*left, *right, *across], order


@lru_cache(maxsize=32)
def median_program(window: Window) -> Program:
    """Write the median of a window as row operations shared by neighbouring positions.

    A window of size s at stride t consists of s/g blocks of g = gcd(s, t) columns. All blocks are sorted once; lists
    of 2, 4, … blocks come from merging two shifted copies; the two lists that remain, A and B, are not merged: the
    k-th smallest of their union is min over i of max(A_i, B_{k−i}). Steps whose outcome nobody reads are dropped.

    Example:
        >>> median_program(Window(12, 2)).blocks
        6
    """
    build = _Builder(window.size, gcd(window.size, window.stride))
    blocks = window.size // build.block
    parts = build.parts(blocks)
    while len(parts) > 2:
        parts = [*parts[:-2], build.join(*parts[-2:])]
    results = build.select(parts, ranks(window.size**2))
    steps = np.array(_live(build.steps, set(results)), dtype=np.int64).reshape(-1, 5)
    return Program(steps, build.rows + 2, build.block, blocks, results)


Part = tuple[list[int], int]  # work rows in sorted order, and how many positions to the right they belong


class _Builder:
    """Collects steps and hands out work rows while a program is written."""

    def __init__(self, size: int, block: int) -> None:
        self.block = block
        self.rows = size * block
        self.steps: list[Step] = []
        self.base = self._sorted([[row] for row in range(self.rows)])

    def _sorted(self, lists: Sequence[Sequence[int]]) -> list[int]:
        pairs, order = sort_network(lists)
        self.steps += [(SORT, 0, low, high, 0) for low, high in pairs]
        return order

    def _fresh(self, count: int) -> list[int]:
        self.rows += count
        return list(range(self.rows - count, self.rows))

    def join(self, left: Part, right: Part) -> Part:
        """Merge two lists of which the right one belongs further right."""
        copies = []
        for order, shift in (left, right):
            rows = self._fresh(len(order))
            self.steps += [(COPY, to, at, 0, shift - left[1]) for to, at in zip(rows, order, strict=True)]
            copies.append(rows)
        return self._sorted(copies), left[1]

    def parts(self, blocks: int) -> list[Part]:
        """Lists that together hold `blocks` neighbouring blocks: a power of two each, the largest first."""
        half = max(1, 2 ** ((blocks - 1).bit_length() - 1))
        lists = {1: self.base}
        for count in (2**k for k in range(1, half.bit_length())):
            lists[count] = self.join((lists[count // 2], 0), (lists[count // 2], count // 2))[0]
        found: list[Part] = []
        at = 0
        while at < blocks:
            count = min(half, 2 ** ((blocks - at).bit_length() - 1))
            found.append((lists[count], at))
            at += count
        return found

    def select(self, parts: list[Part], wanted: tuple[int, int]) -> tuple[int, int]:
        """Find the values of two ranks (from 0) in the union of one or two sorted lists."""
        a, (b, shift) = parts[0][0], parts[1] if len(parts) > 1 else ([], 0)
        low, high = self._fresh(2)
        lowest, highest = self.rows, self.rows + 1
        for target, k in ((low, wanted[0] + 1), (high, wanted[1] + 1)):
            self.steps.append((COPY, target, highest, 0, 0))
            for i in range(max(0, k - len(b)), min(k, len(a)) + 1):
                first, second = a[i - 1] if i else lowest, b[k - i - 1] if i < k else lowest
                self.steps.append((MINMAX, target, first, second, shift))
        return low, high


def _live(steps: list[Step], live: set[int]) -> list[Step]:
    """Only the steps that the live rows depend on, found from the last step backwards."""
    kept: list[Step] = []
    for step in reversed(steps):
        what, target, first, second, _ = step
        if what == SORT and live & {first, second}:
            live |= {first, second}
        elif what == COPY and target in live:
            live = (live - {target}) | {first}
        elif what == MINMAX and target in live:
            live |= {first, second}
        else:
            continue
        kept.append(step)
    return kept[::-1]
