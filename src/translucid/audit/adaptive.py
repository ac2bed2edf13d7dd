"""Attackers made for one way of hiding: noise is shrunk or averaged away, another mask is looked past."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial.distance import cdist

from translucid.audit.linear import Distance, Fixed, Lda, Matcher, flat, own_auc, spent
from translucid.audit.pairs import TwoSamples, quick_two
from translucid.audit.reconstruct import Ridge
from translucid.audit.records import Public, Release
from translucid.audit.staging import first_and_last
from translucid.errors import ConfigError


@dataclass(frozen=True)
class Values:
    """How the values are spread, wherever they were taken: quantiles of the code, compared by their mean distance.

    It needs neither key, mask nor order, so two records of different length can be compared. Each side is first put
    in units of its own spread among the attacker's films.

    Attributes:
        quantiles: how many.

    Raises:
        ConfigError: fewer than two.

    Example:
        >>> Values().quantiles
        64

    Source: our own; the histogram is what a secret choice of pixels leaves in sight.

    Fails when: every film was brought to the same histogram.
    """

    quantiles: int = 64

    def __post_init__(self) -> None:
        if self.quantiles < 2:
            raise ConfigError(f"quantiles = {self.quantiles}: needs at least 2")

    def fit(self, release: Release, public: Public, seed: int) -> Matcher:
        """Learn the centre and the spread of every quantile, on both sides."""
        probe = public.release.probe or public.release
        sides = [self._side(seen) for seen in (public.release, probe)]
        held = public.split(seed)[1]
        return Matcher(sides[0], spent(public), *own_auc(sides[0], held, _alike, sides[1]), _alike, sides[1])

    def _side(self, mine: Release) -> Any:
        levels = (np.arange(self.quantiles) + 0.5) / self.quantiles

        def sorted_values(seen: Release) -> np.ndarray:
            return np.asarray(np.quantile(flat(seen.codes), levels, axis=1).T)

        own = sorted_values(mine)
        mean, deviation = own.mean(0), own.std(0)
        factor = np.where(deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6), 1 / np.maximum(deviation, 1e-12), 0.0)
        return lambda seen: np.asarray((sorted_values(seen) - mean) * factor)


def _alike(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.asarray(-cdist(left, right, "cityblock") / left.shape[1])


# -- noise ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shrink:
    """Wiener's filter of noisy codes, by what codes without noise look like.

    x̂ = m + V diag(λ/(λ + σ²/n)) V′(z − m), λ and V of the covariance of clean codes, n records in the mean z.

    Attributes:
        mean: (numbers,) m.
        axes: (numbers, k) V.
        power: (k,) λ.
        noise: σ².
    """

    mean: np.ndarray
    axes: np.ndarray
    power: np.ndarray
    noise: float

    @staticmethod
    def of(public: Public) -> Shrink | None:
        """From the attacker's own films, which he can compress with noise and without; None where there is none.

        Source: Wiener 1949; the linear filter of least mean squared error.
        """
        if public.clean is None:
            return None
        x = flat(public.clean)[: public.budget.most].astype(np.float64)
        noise = float(np.mean((flat(public.release.codes)[: len(x)] - x) ** 2))
        mean = x.mean(0)
        _, size, axes = np.linalg.svd(x - mean, full_matrices=False)
        power = size**2 / max(len(x) - 1, 1)
        kept = power > 1e-9 * max(float(power[0]), 1e-30)
        return Shrink(mean, axes[kept].T, power[kept], noise) if noise > 0 else None

    def __call__(self, seen: Release) -> Release:
        """The same records, shrunk; so is a probe, that both sides stay comparable. Pictures are left as they are."""
        z = flat(seen.codes).astype(np.float64) - self.mean
        noise = self.noise / (np.ones(len(z)) if seen.counts is None else seen.counts)
        share = self.power / (self.power + noise[:, None])
        codes = (z @ self.axes * share) @ self.axes.T + self.mean
        shaped = torch.from_numpy(codes.astype(np.float32)).reshape(seen.codes.shape)
        return replace(seen, codes=shaped, probe=None if seen.probe is None else self(seen.probe))


def pooled(release: Release, groups: np.ndarray) -> Release:
    """Means of groups of records; `groups` (m, n) says which records each of m rows is the mean of.

    Example:
        >>> two = torch.tensor([[[1.0]], [[3.0]]])
        >>> pooled(Release(two, two), np.array([[True, True]])).codes.item()
        2.0
    """
    counts = groups.sum(1)
    share = torch.from_numpy((groups / np.maximum(counts, 1)[:, None]).astype(np.float32))
    codes, pictures = (
        (share @ part.flatten(1)).reshape(-1, *part.shape[1:]) for part in (release.codes, release.pictures)
    )
    return replace(release, codes=codes, pictures=pictures, counts=counts)


def of_person(patient: np.ndarray, but: np.ndarray | None = None) -> np.ndarray:
    """For each film all films of its person; or, for each film in `but`, all others of that person.

    Example:
        >>> of_person(np.array([0, 1, 0]), np.array([2])).astype(int)
        array([[1, 0, 0]])
    """
    if but is None:
        return np.asarray(patient[:, None] == patient)
    groups = patient[but][:, None] == patient
    groups[np.arange(len(but)), but] = False
    return np.asarray(groups)


@dataclass(frozen=True)
class Denoised:
    """Takes the noise out first, as far as its known size allows, then attacks as if there were none.

    Codes go through `Shrink`; then "match" compares by the cosine or by discriminants, whichever did better on the
    attacker's own patients, and "redraw" is ridge regression. Where `pools`, all records of a person are averaged
    before (the pseudonym tells which they are), so that noise of n records shrinks by √n.

    Attributes:
        aim: "match" or "redraw".
        pools: whether records of one person are averaged.

    Raises:
        ConfigError: an unknown aim.

    Example:
        >>> Denoised("redraw", pools=True).pools
        True

    Source: our own; averaging is why budgets of noise add up (Dwork et al. 2006, doi:10.1007/11681878_14).

    Fails when: the compressor adds no noise; it is then the attack it is built on.
    """

    aim: Literal["match", "redraw"] = "match"
    pools: bool = False

    def __post_init__(self) -> None:
        if self.aim not in ("match", "redraw"):
            raise ConfigError(f"unknown aim {self.aim!r}: known are match, redraw")

    def fit(self, release: Release, public: Public, seed: int) -> Fixed:
        """Learn the filter, then the attack on what it lets through."""
        shrink = Shrink.of(public)

        def through(seen: Release) -> Release:
            return seen if shrink is None else shrink(seen)

        if self.aim == "redraw":
            mine = _means(public) if self.pools else public
            fitted: Any = Ridge().fit(release, replace(mine, release=through(mine.release)), seed)
            return Fixed(lambda seen: fitted.guess(through(seen)), fitted.spent, fitted.validation)
        shown = replace(public, release=through(public.release))
        tried = {base: base.fit(release, shown, seed) for base in (Distance("cosine"), Lda())}
        told = {b: fitted.linked if self.pools else fitted.validation for b, fitted in tried.items()}
        base = max(told, key=lambda b: np.nan_to_num(told[b], nan=-1.0))
        fitted, linked = tried[base], tried[base].linked
        if self.pools:
            learn = shown.split(seed)[0]
            linked = _pooled_auc(base.fit(release, learn, seed), public.split(seed)[1], through)
        return Fixed(lambda seen: fitted.guess(through(seen)), fitted.spent, tried[base].validation, linked)


def _means(public: Public) -> Public:
    """The attacker's films, each with the mean of its person's records; moved copies are left out."""
    mine = public.take(np.flatnonzero(public.original))
    release = pooled(replace(mine.release, probe=None), of_person(mine.patient))
    return replace(mine, release=replace(release, probe=mine.release.probe))


def _pooled_auc(fitted: Matcher, held: Public, through: Any) -> float:
    """AUC of finding a person's other records by one film, on the attacker's own patients."""
    first, _ = first_and_last(np.unique(held.patient, return_inverse=True)[1].reshape(-1), None)
    probe = held.release.probe or held.release
    if len(first) < 2:
        return float("nan")
    records = pooled(replace(held.release, probe=None), of_person(held.patient, first))
    scores = fitted.guess(through(replace(records, probe=replace(probe, probe=None).take(first))))
    who = np.arange(len(first))
    return quick_two(TwoSamples.of_pairs(scores, who, who))
