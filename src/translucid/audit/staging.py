"""From films and a compressor to what the attacker holds and what lies before him."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from translucid.audit.linear import Lda, Matcher
from translucid.audit.records import Budget, Codec, Cohort, Public, Release, to_grid
from translucid.errors import InputError, ShapeError

if TYPE_CHECKING:
    from translucid.audit.lettering import Written

AT_ONCE = 64


@dataclass(frozen=True)
class Stage:
    """One compressor, set up for attacks.

    Attributes:
        public: what the attacker knows.
        release: what was released of the scored patients.
        secret: the scored films: whose they are, how they look, what their attributes are. No attack sees it.
        again: the scored films compressed once more by the attacker (without noise: it would only blind himself), with
            the plain films; None without `encode`.
        seed: of what is trained on the way.
        written: what was burnt into the films, where that is what attackers are after.
    """

    public: Public
    release: Release
    secret: Secret
    again: Release | None
    seed: int = 0
    written: Written | None = None

    @cached_property
    def eye(self) -> Matcher:
        """A verifier of plain films on the budget's grid, trained on the attacker's patients."""
        films = Release(self.public.films, self.public.films)
        public = replace(self.public, release=films)
        choices = Lda(components=(100, 300), directions=(20, 40), shrink=(0.01,))
        return choices.fit(films, public, self.seed)


@dataclass(frozen=True)
class Secret:
    """What attacks are scored against.

    Attributes:
        patient: (n,) numbers from 0.
        films: (n, channel, grid, grid).
        attributes: name → (n,).
        first, last: (patients with two films,) the row of each one's first and last film.
        gap: median time between the two, nan where unknown.
    """

    patient: np.ndarray
    films: Tensor
    attributes: dict[str, np.ndarray]
    first: np.ndarray
    last: np.ndarray
    gap: float


def moved(images: Tensor, seed: int, scale: float = 0.02) -> Tensor:
    """Copies shifted, turned and zoomed a little, as a second film of the same chest would be.

    Args:
        images: (n, channel, height, width).
        seed: of the draw.
        scale: standard deviation of shift (share of the half side), turn (radians) and zoom.
    """
    draw = torch.Generator().manual_seed(seed)
    n = len(images)
    zoom = 1 + scale * torch.randn(n, generator=draw)
    turn, shift = scale * torch.randn(n, generator=draw), scale * torch.randn(n, 2, generator=draw)
    cos, sin = zoom * torch.cos(turn), zoom * torch.sin(turn)
    theta = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    theta = torch.cat([theta, shift[:, :, None]], 2).to(images.dtype)
    parts = zip(images.split(AT_ONCE), theta.split(AT_ONCE), strict=True)
    return torch.cat([_warped(part, how) for part, how in parts])


def _warped(images: Tensor, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def released(codec: Codec, codes: Tensor, grid: int, films: Tensor | None = None) -> Release:
    """Codes with their pictures."""
    if codes.ndim != 3:
        raise ShapeError(f"{codec.name}: codes must be (n, channel, code), got {tuple(codes.shape)}")
    pictures = torch.cat([codec.picture(part, grid) for part in codes.split(AT_ONCE)])
    return Release(codes.float(), pictures, None, films)


def encode(codec: Codec, images: Tensor, how: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Compress in blocks; `how` in place of the codec's own way."""
    how = how or codec.encode
    if how is None:
        raise InputError(f"{codec.name} has no encoder: hand in one, or its records")
    return torch.cat([how(part).float() for part in images.split(AT_ONCE)])


def _codes(codec: Codec, images: Tensor, rows: np.ndarray) -> Tensor:
    if codec.codes is not None:
        return codec.codes[torch.as_tensor(rows)].float()
    return encode(codec, images[torch.as_tensor(rows)])


def _public(cohort: Cohort, codec: Codec, budget: Budget, seed: int, other: Codec | None) -> Public:
    rows = np.flatnonzero(~cohort.scored)
    mine = cohort.images[torch.as_tensor(rows)]
    codes, images = [_codes(codec, cohort.images, rows)], [mine]
    copies = 0 if codec.encode is None else budget.copies
    for k in range(copies):
        images.append(moved(mine, 1000 * seed + k))
        codes.append(encode(codec, images[-1]))
        if codes[-1].shape[1:] != codes[0].shape[1:]:
            raise ShapeError(
                f"{codec.name}: records of {tuple(codes[0].shape[1:])} numbers, but the encoder makes "
                f"{tuple(codes[-1].shape[1:])}: hand in the encoder that made them"
            )
    films = torch.cat([to_grid(part, budget.grid) for part in images])
    release = released(codec, torch.cat(codes), budget.grid)
    clean = None if codec.clean is None else torch.cat([encode(codec, part, codec.clean) for part in images])
    if other is not None:
        rekeyed = [_codes(other, cohort.images, rows), *(encode(other, part) for part in images[1:])]
        probe = released(other, torch.cat(rekeyed), budget.grid)
    elif clean is not None:
        probe = released(codec, clean, budget.grid, films)
    else:
        probe = replace(release, films=films)
    tile = np.tile(rows, 1 + copies)
    return Public(
        release=replace(release, probe=probe),
        films=films,
        patient=np.asarray(cohort.patient)[tile],
        attributes={k: np.asarray(v)[tile] for k, v in cohort.attributes.items()},
        original=np.arange(len(tile)) < len(rows),
        codec=replace(codec, codes=None),
        budget=budget,
        clean=clean,
    )


def first_and_last(patient: np.ndarray, when: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the first and the last film of every patient with at least two.

    Example:
        >>> first_and_last(np.array([0, 1, 0, 0]), np.array([3, 0, 1, 2]))
        (array([2]), array([0]))
    """
    time = np.arange(len(patient)) if when is None else np.asarray(when)
    order = np.lexsort((time, patient))
    _, start, count = np.unique(patient[order], return_index=True, return_counts=True)
    two = count > 1
    return order[start[two]], order[(start + count - 1)[two]]


def _secret(cohort: Cohort, budget: Budget) -> Secret:
    rows = np.flatnonzero(cohort.scored)
    patient = np.unique(np.asarray(cohort.patient)[rows], return_inverse=True)[1].reshape(-1)
    when = None if cohort.when is None else np.asarray(cohort.when)[rows]
    first, last = first_and_last(patient, when)
    gap = float("nan") if when is None else float(np.median(np.abs(when[last] - when[first])))
    films = to_grid(cohort.images[torch.as_tensor(rows)], budget.grid)
    attributes = {k: np.asarray(v)[rows] for k, v in cohort.attributes.items()}
    return Secret(patient, films, attributes, first, last, gap)


def stage(
    cohort: Cohort, codec: Codec, budget: Budget | None = None, seed: int = 0, other: Codec | None = None
) -> Stage:
    """Set one compressor up for all attacks: compress, make the attacker's copies, part public from secret.

    Args:
        cohort: the films.
        codec: the compressor.
        budget: what attackers may spend.
        seed: of the copies.
        other: the same compressor under another key, for unlinkability; probes are then compressed with it.

    Raises:
        InputError: the codec can neither encode nor has records.

    Fails when: `codec.encode` draws fresh noise and `codec.codes` is absent; the released records then differ from
    call to call.
    """
    budget = budget or Budget()
    rows = np.flatnonzero(cohort.scored)
    secret = _secret(cohort, budget)
    release = released(codec, _codes(codec, cohort.images, rows), budget.grid)
    again: Release | None = None
    if other is not None:
        again = released(other, _codes(other, cohort.images, rows), budget.grid)
    elif codec.encode is not None:
        fresh = encode(codec, cohort.images[torch.as_tensor(rows)], codec.clean)
        again = released(codec, fresh, budget.grid, secret.films)
    return Stage(_public(cohort, codec, budget, seed, other), release, secret, again, seed)
