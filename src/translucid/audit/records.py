"""What an audit works on: the films, who they show, what is released, and what the attacker holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from translucid.errors import ConfigError, InputError, LeakError, ShapeError
from translucid.tensors import Compressor
from translucid.types import Space

FEWEST_PATIENTS = 10
"""With fewer patients of two films on either side there is nothing to learn or to score (our choice)."""


@dataclass(frozen=True)
class Budget:
    """What an attacker may spend; the same for every compressor, stated with every number.

    Attributes:
        grid: pixels along each side of the pictures that networks see and reconstructions are drawn on.
        plain_side: pixels along each side of the plain image in the upper row.
        copies: how many slightly moved copies of his own films the attacker compresses besides.
        epochs: passes of a network over the attacker's films.
        batch: films in a batch.
        width: channels of the first layer of a network.
        most: more films than this are not used by methods that solve a dense system.
        resamples: of the patient bootstrap.
        validation: share of the attacker's patients on whom he chooses between settings and rungs.

    Raises:
        ConfigError: an option is out of range.

    Example:
        >>> Budget(epochs=2).epochs
        2
    """

    grid: int = 64
    plain_side: int = 128
    copies: int = 2
    epochs: int = 20
    batch: int = 192
    width: int = 16
    most: int = 1500
    resamples: int = 1000
    validation: float = 0.2

    def __post_init__(self) -> None:
        if self.grid < 16 or self.grid % 16 or self.plain_side < self.grid:
            raise ConfigError(
                f"grid = {self.grid}, plain_side = {self.plain_side}: take multiples of 16, the second larger"
            )
        if min(self.epochs, self.width, self.resamples, self.most) < 1 or self.copies < 0 or self.batch < 2:
            raise ConfigError("epochs, width, resamples, most need at least 1, copies 0, batch 2")
        if not 0 < self.validation <= 0.5:
            raise ConfigError(f"validation = {self.validation} must lie in 0 … 0.5")


@dataclass(frozen=True)
class Release:
    """What lies before the attacker; it names nobody.

    Attributes:
        codes: (n, channel, code).
        pictures: (n, channel, h, w) the smallest image that holds the codes, averaged down to the budget's grid.
        probe: films of unknown people that he holds from elsewhere, in compressed form; for linkage.
        films: (n, channel, grid, grid) plain images, only on the side of a probe.
        counts: (n,) how many records of one person each row is the mean of; None where every row is one record.
    """

    codes: Tensor
    pictures: Tensor
    probe: Release | None = None
    films: Tensor | None = None
    counts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> Release:
        """Some of the records; the probe stays whole."""
        at = torch.as_tensor(rows)
        films = None if self.films is None else self.films[at]
        counts = None if self.counts is None else self.counts[rows]
        return replace(self, codes=self.codes[at], pictures=self.pictures[at], films=films, counts=counts)


@dataclass(frozen=True)
class Public:
    """What the attacker knows: other patients' films with everything about them, and the compressor.

    Attributes:
        release: his films as they would be released; `release.probe` is aligned with it.
        films: (n, channel, grid, grid) the same films, plain.
        patient: (n,) whose they are.
        attributes: name → (n,) numbers or words.
        original: (n,) False for moved copies.
        codec: the compressor with its parameters (Kerckhoffs).
        budget: what he may spend.
        clean: (n, channel, code) his films' codes before any noise; None where the compressor adds none.
    """

    release: Release
    films: Tensor
    patient: np.ndarray
    attributes: Mapping[str, np.ndarray]
    original: np.ndarray
    codec: Codec
    budget: Budget
    clean: Tensor | None = None

    def __len__(self) -> int:
        return len(self.patient)

    def take(self, rows: np.ndarray) -> Public:
        """Some of the films."""
        probe = self.release.probe
        release = replace(self.release.take(rows), probe=None if probe is None else probe.take(rows))
        attributes = {k: v[rows] for k, v in self.attributes.items()}
        at = torch.as_tensor(rows)
        return replace(
            self,
            release=release,
            clean=None if self.clean is None else self.clean[at],
            films=self.films[at],
            patient=self.patient[rows],
            attributes=attributes,
            original=self.original[rows],
        )

    def split(self, seed: int) -> tuple[Public, Public]:
        """His films to learn from, and untouched films of other patients of his to choose by."""
        names = np.unique(self.patient)
        drawn = np.random.default_rng([seed, 17]).permutation(len(names))
        count = max(1, round(self.budget.validation * len(names)))
        held = np.isin(self.patient, names[drawn[:count]])
        return self.take(np.flatnonzero(~held)), self.take(np.flatnonzero(held & self.original))


class Fitted(Protocol):
    """An attack that has learnt.

    Attributes:
        spent: what it used: images, pairs, epochs, patients.
        validation: how well it did on the attacker's own validation patients, larger is better; nan where unused.
        linked: the same of an attack that holds films itself and looks for their records.
    """

    @property
    def spent(self) -> Mapping[str, float]:
        """What it used."""
        ...

    @property
    def validation(self) -> float:
        """How well it did on the attacker's own patients."""
        ...

    @property
    def linked(self) -> float:
        """How well it linked films of theirs to records."""
        ...

    def guess(self, release: Any) -> Any:
        """One guess per released record."""
        ...


@dataclass(frozen=True)
class Codec:
    """A compressor with its parameters, as everyone knows it.

    Attributes:
        name: in the rows of the audit.
        encode: (n, channel, *space) → (n, channel, code); None where only the records below exist.
        to_image: codes → the smallest image that holds them; None draws them row by row on a square.
        lift: codes → (n, channel, *space), the analytic inverse; None where there is none.
        codes: (n, channel, code) the records as released, aligned with the cohort; None means encode(images).
        sigma: standard deviation of the Gaussian noise in every number of the code; 0 for none.
        bits: bits that one number of the code takes at most.
        clean: the same as `encode` before noise is added, which whoever knows the compressor can do with films of his
            own; None where there is no noise.
    """

    name: str
    encode: Callable[[Tensor], Tensor] | None
    to_image: Callable[[Tensor], Tensor] | None = None
    lift: Callable[[Tensor], Tensor] | None = None
    codes: Tensor | None = None
    sigma: float = 0.0
    bits: float = 32.0
    clean: Callable[[Tensor], Tensor] | None = None

    @staticmethod
    def of(name: str, compressor: Compressor, space: Space, codes: Tensor | None = None, **more: float) -> Codec:
        """The codec of a compressor for images of one size.

        Args:
            name: in the rows.
            compressor: any.
            space: size of the images.
            codes: the records as released, if they are at hand.
            more: sigma, bits.
        """
        return Codec(
            name,
            compressor.encode,
            lambda codes: compressor.to_image(codes, space),
            lambda codes: compressor.lift(codes, space),
            codes,
            clean=getattr(compressor, "rounded", None),
            **more,
        )

    def picture(self, codes: Tensor, grid: int) -> Tensor:
        """Codes → (n, channel, h, w) with 16 ≤ h, w ≤ grid."""
        image = square(codes) if self.to_image is None else self.to_image(codes)
        return fit_grid(image.float(), grid)


def square(codes: Tensor) -> Tensor:
    """Numbers row by row on the smallest square, zeros at the end.

    Example:
        >>> square(torch.ones(1, 1, 3))[0, 0].tolist()
        [[1.0, 1.0], [1.0, 0.0]]
    """
    side = math.ceil(math.sqrt(codes.shape[-1]))
    return F.pad(codes, (0, side * side - codes.shape[-1])).unflatten(-1, (side, side))


def fit_grid(images: Tensor, grid: int) -> Tensor:
    """Average images down to at most `grid` pixels per side, repeat pixels up to at least 16."""
    down = (min(images.shape[2], grid), min(images.shape[3], grid))
    out = F.adaptive_avg_pool2d(images, down) if down != tuple(images.shape[2:]) else images
    up = tuple(max(n, 16) for n in out.shape[2:])
    return F.interpolate(out, size=up, mode="nearest") if up != tuple(out.shape[2:]) else out


def to_grid(images: Tensor, grid: int) -> Tensor:
    """Images on a square of `grid` pixels per side: area means downwards, linear upwards."""
    if min(images.shape[2:]) >= grid:
        return F.adaptive_avg_pool2d(images.float(), grid)
    return F.interpolate(images.float(), size=(grid, grid), mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Cohort:
    """The auditor's knowledge: films, patients, attributes, and on whom attackers are scored.

    Attributes:
        images: (n, channel, height, width) in [0, 1].
        patient: (n,) names or numbers.
        scored: (n,) True where the patient belongs to the scored half; attackers learn from the others.
        attributes: name → (n,): numbers (nan where unknown), or words ("" where unknown).
        when: (n,) time or number of the visit, for the follow-up gap; None where unknown.

    Raises:
        ShapeError: arrays are not aligned, or the images are not two-dimensional.
        LeakError: a patient stands on both sides.
        InputError: too few patients with two films on a side.

    Example:
        >>> x, who = torch.rand(40, 1, 16, 16), np.arange(40) // 2
        >>> Cohort(x, who, who < 10).scored.sum()
        np.int64(20)
    """

    images: Tensor
    patient: np.ndarray
    scored: np.ndarray
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    when: np.ndarray | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.images), len(self.patient), len(self.scored), *map(len, self.attributes.values())}
        if len(sizes) > 1 or (self.when is not None and len(self.when) != len(self.patient)):
            raise ShapeError("images, patient, scored, attributes and when must have as many rows as each other")
        if self.images.ndim != 4:
            raise ShapeError(f"an audit takes images (n, channel, height, width), got {tuple(self.images.shape)}")
        both = np.intersect1d(self.patient[self.scored], self.patient[~self.scored])
        if len(both):
            raise LeakError(
                f"{len(both)} patients stand on both sides: attackers must be scored on people they never saw; "
                "split by patient"
            )
        for side, mine in (("scored", self.scored), ("attacker's", ~self.scored)):
            count = int((np.unique(self.patient[mine], return_counts=True)[1] > 1).sum())
            if count < FEWEST_PATIENTS:
                raise InputError(
                    f"only {count} of the {side} patients have two films; an audit needs {FEWEST_PATIENTS} on each side"
                )


def halves(patient: np.ndarray, seed: int = 0, share: float = 0.5) -> np.ndarray:
    """(n,) True for the films of a share of the patients, drawn by seed: those on whom attackers are scored.

    Example:
        >>> halves(np.array(["a", "a", "b"])).sum() in (1, 2)
        True
    """
    names, index = np.unique(patient, return_inverse=True)
    place = np.random.default_rng([seed, 5]).permutation(len(names))
    return np.asarray((place < max(1, round(share * len(names))))[index.reshape(-1)])
