"""Numbers that the audit itself burns into films, to see whether a record still lets them be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from translucid.audit.records import Budget, Codec, Cohort, Fitted, Public, Release
from translucid.audit.resample import with_interval
from translucid.audit.staging import AT_ONCE, Secret, Stage, encode, first_and_last
from translucid.audit.text import legibility, read_letters, tesseract
from translucid.errors import ConfigError
from translucid.types import Estimate, Space

LENGTH = 5
"""Letters in a line."""
PLACES = {"corner": (0.04, 0.04), "middle": (0.5, 0.35)}
"""Where lines begin, as shares of height and width: where names usually stand, and where a chest is (our choice)."""
VERSIONS = 3
"""How often the attacker burns other numbers into each of his films, at least."""
SPEAKS = 0.01
"""Share of a number's variance that lettering must cause for the attacker to look at it."""
ASKED = 30
"""Pictures at most that are shown to Tesseract, which is slow."""


@dataclass(frozen=True)
class Ink:
    """What letters look like and where they stand.

    Attributes:
        names: of the letters.
        shapes: (letter, high, wide) in {0, 1}, enlarged.
        space: of the films.
        scale: pixels of a dot.
    """

    names: tuple[str, ...]
    shapes: np.ndarray
    space: Space
    scale: int

    @staticmethod
    def of(letters: Mapping[str, np.ndarray], space: Space, plain_side: int) -> Ink:
        """Letters just large enough to be read from the plain row.

        Args:
            letters: name → picture (high, wide), all of one size.
            space: of the films.
            plain_side: pixels along each side of the plain row.

        Raises:
            ConfigError: a line does not fit into the film.
        """
        scale = max(1, math.ceil(max(space) / plain_side))
        shapes = np.stack([np.kron(np.asarray(v) > 0, np.ones((scale, scale))) for v in letters.values()])
        ink = Ink(tuple(letters), shapes, space, scale)
        for row, column in ink.corners.values():
            if row + shapes.shape[1] + ink.rim > space[0] or column + ink.width + ink.rim > space[1]:
                raise ConfigError(f"{LENGTH} letters do not fit into films of {space}: leave out the part 'text'")
        return ink

    @property
    def step(self) -> int:
        """From one letter to the next."""
        return self.shapes.shape[2] + self.scale

    @property
    def width(self) -> int:
        """Of a line."""
        return LENGTH * self.step - self.scale

    @property
    def rim(self) -> int:
        """Pixels cut out around a line."""
        return 2 * self.scale

    @property
    def corners(self) -> dict[str, tuple[int, int]]:
        """Place → (row, column) where its line begins."""
        return {
            name: (max(round(y * self.space[0]), self.rim), max(round(x * self.space[1]), self.rim))
            for name, (y, x) in PLACES.items()
        }

    def lines(self, films: int, seed: int) -> np.ndarray:
        """(film, place, letter) numbers of letters; at each position all stand equally often, as far as that goes."""
        draw = np.random.default_rng([seed, 53])
        even = np.arange(films) % len(self.names)
        return np.stack([draw.permutation(even) for _ in range(len(PLACES) * LENGTH)], 1).reshape(films, -1, LENGTH)

    def burnt(self, images: Tensor, lines: np.ndarray) -> Tensor:
        """Copies of films with white letters."""
        out, (high, wide) = images.clone(), self.shapes.shape[1:]
        white = torch.ones((), dtype=out.dtype)
        for p, (row, column) in enumerate(self.corners.values()):
            for k in range(LENGTH):
                shape = torch.from_numpy(self.shapes[lines[:, p, k]] > 0)[:, None]
                at = (..., slice(row, row + high), slice(column + k * self.step, column + k * self.step + wide))
                out[at] = torch.where(shape, white, out[at])
        return out

    def cut(self, images: Tensor) -> Tensor:
        """(n, channel, place·high, wide) what lies around the lines, one below the other."""
        high, rim = self.shapes.shape[1], self.rim
        parts = [
            images[..., r - rim : r + high + rim, c - rim : c + self.width + rim] for r, c in self.corners.values()
        ]
        return torch.cat(parts, 2)

    def read(self, cuts: np.ndarray) -> dict[str, list[str]]:
        """Place → the line seen in each cut (n, place·high, wide), letter by letter."""
        at = [(self.rim, self.rim + k * self.step) for k in range(LENGTH)]
        shapes = dict(zip(self.names, self.shapes, strict=True))
        parts = np.split(cuts, len(PLACES), 1)
        return {n: read_letters(part, shapes, at, self.scale) for n, part in zip(PLACES, parts, strict=True)}

    def spelt(self, lines: np.ndarray) -> dict[str, list[str]]:
        """Place → what was burnt in."""
        return {n: ["".join(self.names[k] for k in line) for line in lines[:, p]] for p, n in enumerate(PLACES)}


@dataclass(frozen=True)
class Written:
    """What stands in the scored films."""

    ink: Ink
    truth: Mapping[str, list[str]]


def written_stage(
    cohort: Cohort, codec: Codec, letters: Mapping[str, np.ndarray], budget: Budget, seed: int = 0
) -> Stage:
    """Set one compressor up for attackers who want to read: films with numbers burnt in, targets cut out around them.

    The attacker burns other numbers into each of his films, some times over, and looks only at those numbers of the
    code that this changes.

    Args:
        cohort: the films.
        codec: the compressor, with `encode`.
        letters: name → picture.
        budget: what he may spend; `copies` adds to how often he writes.
        seed: of the numbers.

    Raises:
        ConfigError: films too small for a line.
    """
    ink = Ink.of(letters, tuple(cohort.images.shape[2:]), budget.plain_side)
    mine, theirs = np.flatnonzero(~cohort.scored), np.flatnonzero(cohort.scored)
    times = max(VERSIONS, 1 + budget.copies)
    made = [_written(ink, codec, cohort.images[torch.from_numpy(mine)], 1000 * seed + 7 + k) for k in range(times)]
    kept = speaking(torch.stack([codes for codes, _, _ in made]))
    own = replace(codec, codes=None, lift=_lift(ink, codec, kept, made[0][0].shape[-1]))
    public = Public(
        release=_bare(torch.cat([codes for codes, _, _ in made])[..., kept]),
        films=torch.cat([cut for _, cut, _ in made]),
        patient=np.tile(np.asarray(cohort.patient)[mine], times),
        attributes={},
        original=np.arange(times * len(mine)) < len(mine),
        codec=own,
        budget=budget,
    )
    codes, cuts, lines = _written(ink, codec, cohort.images[torch.from_numpy(theirs)], 1000 * seed + 3)
    patient = np.unique(np.asarray(cohort.patient)[theirs], return_inverse=True)[1].reshape(-1)
    secret = Secret(patient, cuts, {}, *first_and_last(patient, None), float("nan"))
    return Stage(public, _bare(codes[..., kept]), secret, None, seed, Written(ink, ink.spelt(lines)))


def _written(ink: Ink, codec: Codec, images: Tensor, seed: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """(codes, cuts, what was written) of films with numbers burnt in."""
    lines = ink.lines(len(images), seed)
    films = ink.burnt(images, lines)
    return encode(codec, films), ink.cut(films).float(), lines


def _bare(codes: Tensor) -> Release:
    """Records whose pictures nobody looks at."""
    return Release(codes, codes[..., :1, None])


def speaking(codes: Tensor) -> Tensor:
    """Which numbers of the code lettering changes, from (version, film, channel, number); at least one.

    Example:
        >>> speaking(torch.tensor([[[[1.0, 5.0]], [[1.0, 6.0]]], [[[2.0, 5.0]], [[3.0, 6.0]]]])).tolist()
        [0]
    """
    within = codes.var(0).mean((0, 1))
    whole = codes.flatten(0, 1).var(0).mean(0)
    told = (within > SPEAKS * whole) & (whole > 1e-12)
    return told.nonzero()[:, 0] if bool(told.any()) else torch.zeros(1, dtype=torch.long)


def _lift(ink: Ink, codec: Codec, kept: Tensor, length: int) -> Callable[[Tensor], Tensor] | None:
    lift = codec.lift
    if lift is None:
        return None

    def cut(codes: Tensor) -> Tensor:
        whole = codes.new_zeros(*codes.shape[:2], length)
        whole[..., kept] = codes
        image = lift(whole).float()
        if tuple(image.shape[2:]) != ink.space:
            image = F.interpolate(image, size=ink.space, mode="bilinear", align_corners=False)
        return ink.cut(image)

    return lambda codes: torch.cat([cut(part) for part in codes.split(AT_ONCE)])


def judge_text(fitted: Fitted, stage: Stage, resamples: int, seed: int) -> dict[str, tuple[Estimate, float]]:
    """How many letters, and how many whole lines, are read right from the pictures, at each place.

    By the known shapes of the letters; and, where Tesseract is installed, by that as well.
    """
    assert stage.written is not None, "letters are not judged where none were burnt in"
    ink, truth = stage.written.ink, stage.written.truth
    cuts = fitted.guess(stage.release).mean(1).double().numpy()
    patient, found = stage.secret.patient, {}
    chance = 1 / len(ink.names)
    for place, lines in ink.read(cuts).items():
        for name, value in legibility(lines, truth[place], patient, resamples, seed).items():
            found[f"{place}.{name}"] = (value, chance if name == "letters_read" else chance**LENGTH)
    return found | _by_tesseract(cuts, truth, patient, resamples, seed, chance)


def _by_tesseract(
    cuts: np.ndarray, truth: Mapping[str, list[str]], patient: np.ndarray, resamples: int, seed: int, chance: float
) -> dict[str, tuple[Estimate, float]]:
    reader, _ = tesseract()
    if reader is None:
        return {}
    some, found = slice(0, ASKED), {}
    index = np.unique(patient[some], return_inverse=True)[1].reshape(-1)
    for place, part in zip(PLACES, np.split(cuts[some], len(PLACES), 1), strict=True):
        lines = ["".join(c for c in reader(np.kron(1 - p, np.ones((4, 4)))) if c.isalnum()) for p in part]
        value = legibility(lines, truth[place][some], index, resamples, seed)["letters_read"]
        found[f"{place}.letters_by_tesseract"] = (value, chance)
    return found


def least_read(found: Mapping[str, tuple[Estimate, float]]) -> Estimate:
    """The place where least was read by known shapes; its value and interval."""
    each = [v for k, (v, _) in found.items() if k.endswith(".letters_read")]
    return min(each, key=lambda v: v.value) if each else with_interval(float("nan"), np.zeros(0), 0)
