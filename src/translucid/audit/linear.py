"""Linear attackers: distances, and discriminants that look for what stays with a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from translucid.audit.pairs import quick_auc
from translucid.audit.records import Public, Release
from translucid.errors import ConfigError

Embed = Callable[[Release], np.ndarray]
Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]
NEAREST = 30
"""Of the attacker's records, so many nearest ones tell how near a stranger comes."""
DEAD = 1e-6
"""A number of the code that varies less than this share of its size tells nothing; rounding must not speak for it."""


def flat(codes: Tensor) -> np.ndarray:
    """(n, …) → (n, numbers) float32."""
    return np.ascontiguousarray(codes.flatten(1).numpy(), np.float32)


def inner(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Inner products of all pairs of rows."""
    return np.asarray(left @ right.T)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a row of zeros stays."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1))


@dataclass(frozen=True)
class Matcher:
    """A fitted verifier: records become points, and pairs of points become scores.

    Attributes:
        embed: release → (n, d).
        spent: images, pairs, epochs, patients used.
        validation: AUC between records on the attacker's own validation patients.
        linked: the same of what he would hold against records.
        compare: of all pairs of points; larger means more surely the same person.
        embed_probe: how the probe's side is embedded where it differs.
        own: the attacker's own points, (probe's side, records' side), for `normed`; None leaves scores as they are.
    """

    embed: Embed
    spent: Mapping[str, float]
    validation: float
    linked: float
    compare: Compare = inner
    embed_probe: Embed | None = None
    own: tuple[np.ndarray, np.ndarray] | None = None

    def guess(self, release: Release) -> np.ndarray:
        """(n, n) scores of all pairs of records, or (probe, n) where a probe is given."""
        right = self.embed(release)
        left = right if release.probe is None else (self.embed_probe or self.embed)(release.probe)
        scores = self.compare(left, right)
        if self.own is None:
            return scores
        return normed(scores, self.compare(left, self.own[1]), self.compare(self.own[0], right).T)


def normed(scores: np.ndarray, left: np.ndarray, right: np.ndarray, nearest: int = NEAREST) -> np.ndarray:
    """Scores in units of how near each record comes to people it surely is not: the attacker's own.

    s'(i, j) = ½ (s − μ_i)/σ_i + ½ (s − μ_j)/σ_j, μ and σ over the nearest of the attacker's records.

    Args:
        scores: (n, m).
        left: (n, own) scores of the rows against the attacker's records.
        right: (m, own) the same of the columns.
        nearest: how many of them.

    Example:
        >>> normed(np.array([[3.0]]), np.array([[0.0, 2.0]]), np.array([[0.0, 2.0]])).tolist()
        [[2.0]]

    Source: adaptive symmetric normalisation, Matějka et al., Analysis of score normalization in multilingual speaker
    recognition, Interspeech 2017, doi:10.21437/Interspeech.2017-803.
    """
    sides = []
    for own in (left, right):
        top = -np.partition(-np.round(own, 6), min(nearest, own.shape[1]) - 1, axis=1)[:, :nearest]
        sides.append((top.mean(1), np.maximum(top.std(1), 1e-3)))
    (mean, spread), (other, width) = sides
    s = np.round(scores, 6)
    return np.asarray(((s - mean[:, None]) / spread[:, None] + (s - other[None]) / width[None]) / 2)


def own_points(embed: Embed, public: Public) -> np.ndarray:
    """The points of the attacker's films, copies left out."""
    return embed(public.take(np.flatnonzero(public.original)).release)


def own_auc(
    embed: Embed, held: Public, compare: Compare = inner, embed_probe: Embed | None = None
) -> tuple[float, float]:
    """AUC on the attacker's own validation patients: between two records, and of what he would hold against a record.

    The two differ under noise, which he leaves out of his own, and under another key.
    """
    points, probe = embed(held.release), held.release.probe
    among = quick_auc(compare(points, points), held.patient)
    if probe is None or not _two_sided(held):
        return among, among
    scores = compare((embed_probe or embed)(probe), points)
    return among, quick_auc((scores + scores.T) / 2, held.patient)


def _two_sided(public: Public) -> bool:
    """Whether what the attacker holds looks other than what is released."""
    probe = public.release.probe
    return probe is not None and not torch.equal(probe.codes, public.release.codes)


def spent(public: Public, pairs: float = 0, epochs: float = 0) -> dict[str, float]:
    """The part of a budget that depends on the data."""
    patients = len(np.unique(public.patient))
    return {
        "images": int(public.original.sum()),
        "copies": int((~public.original).sum()),
        "patients": patients,
        "pairs": int(pairs),
        "epochs": epochs,
    }


def mated_pairs(patient: np.ndarray) -> int:
    """Unordered pairs of films of one person.

    Example:
        >>> mated_pairs(np.array([1, 1, 1, 2]))
        3
    """
    count = np.unique(patient, return_counts=True)[1]
    return int((count * (count - 1) // 2).sum())


@dataclass(frozen=True)
class Distance:
    """The nearest record is the same person: −‖a − b‖², or the cosine about the mean of the attacker's own records.

    Attributes:
        metric: "l2" or "cosine".

    Raises:
        ConfigError: an unknown metric.

    Example:
        >>> Distance("cosine").metric
        'cosine'

    Source: L2 is the published measure of Gaudio et al., DeepFixCX, 2023, doi:10.1002/widm.1495.

    Fails when: what varies most between films is not the person but posture and exposure; a small number is then no
    sign of privacy.
    """

    metric: Literal["l2", "cosine"] = "l2"

    def __post_init__(self) -> None:
        if self.metric not in ("l2", "cosine"):
            raise ConfigError(f"unknown metric {self.metric!r}: known are l2, cosine")

    def fit(self, release: Release, public: Public, seed: int) -> Matcher:
        """Nothing is learnt but, for the cosine, the mean."""
        _, held = public.split(seed)
        if self.metric == "l2":
            return Matcher(_raw, spent(public), *own_auc(_raw, held, _near), _near)
        scale = Scale.fit(flat(public.release.codes), spread=False)

        def embed(seen: Release) -> np.ndarray:
            return unit(scale(flat(seen.codes)))

        return Matcher(embed, spent(public), *own_auc(embed, held))


def _raw(seen: Release) -> np.ndarray:
    return flat(seen.codes)


def _near(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.asarray(-cdist(left, right, "sqeuclidean"))


@dataclass(frozen=True)
class Scale:
    """Centre and unit variance, number by number; numbers that do not vary become 0."""

    mean: np.ndarray
    factor: np.ndarray

    @staticmethod
    def fit(x: np.ndarray, spread: bool = True) -> Scale:
        """From rows; without `spread` only the centre is moved."""
        mean, deviation = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
        alive = deviation > DEAD * np.maximum(np.abs(mean), 1e-12)
        factor = alive / np.where(alive, deviation, 1) if spread else alive * 1.0
        return Scale(mean.astype(np.float32), factor.astype(np.float32))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The same for other rows."""
        return np.asarray((x - self.mean) * self.factor)


@dataclass(frozen=True)
class Pca:
    """Standardise, then the first directions of largest variance, by way of the smaller Gram matrix.

    Attributes:
        scale: of the numbers.
        axes: (numbers, k), orthonormal.
        deviation: (k,) of the scores.
    """

    scale: Scale
    axes: np.ndarray
    deviation: np.ndarray

    @staticmethod
    def fit(x: np.ndarray, components: int) -> Pca:
        """At most `components` directions, fewer where the rows span fewer."""
        scale = Scale.fit(x)
        y = scale(x)
        wide = y.shape[1] > y.shape[0]
        values, vectors = np.linalg.eigh((y @ y.T if wide else y.T @ y).astype(np.float64))
        values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
        kept = values > max(values[0], 0) * 1e-7 if values[0] > 0 else np.zeros(len(values), bool)
        values, vectors = values[kept], vectors[:, kept]
        axes = (y.T @ (vectors / np.sqrt(values))).astype(np.float32) if wide else vectors.astype(np.float32)
        return Pca(scale, axes, np.sqrt(values / max(len(y) - 1, 1)))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, numbers) → (n, k)."""
        return np.asarray(self.scale(x) @ self.axes, np.float64)

    def whitened(self, x: np.ndarray) -> np.ndarray:
        """Scores of unit variance, float32."""
        return np.asarray(self(x) / self.deviation, np.float32)


@dataclass(frozen=True)
class Lda:
    """Directions in which people differ most for how much films of one person do.

    After principal components, solve S_b v = λ S_w v with S_w shrunk towards a multiple of the identity; compare by
    the cosine. The numbers of components and directions and the shrinkage are chosen on the attacker's validation
    patients; then all his films are used. Scores are put in units of how near strangers come (`normed`).

    Attributes:
        components: choices for the number of principal components.
        directions: choices for the number of discriminants.
        shrink: choices for the share of the identity.

    Example:
        >>> Lda(directions=(8,)).directions
        (8,)

    Source: Fisher 1936, doi:10.1111/j.1469-1809.1936.tb02137.x; Belhumeur, Hespanha and Kriegman, Eigenfaces vs.
    Fisherfaces, TPAMI 1997, doi:10.1109/34.598228.

    Fails when: there are fewer than about fifty patients to learn from; S_w is then mostly shrinkage.
    """

    components: tuple[int, ...] = (50, 100, 200, 400)
    directions: tuple[int, ...] = (10, 20, 40, 80)
    shrink: tuple[float, ...] = (0.003, 0.03, 0.3)

    def fit(self, release: Release, public: Public, seed: int) -> Matcher:
        """Choose on validation patients, then learn from all."""
        learn, held = public.split(seed)
        best, choice = self._choose(learn, held)
        embed = self._embedding(_some(public), *choice) if choice else _nothing
        linked = own_auc(self._embedding(_some(learn), *choice), held)[1] if choice and _two_sided(held) else best
        own = own_points(embed, public)
        return Matcher(embed, spent(public, mated_pairs(public.patient)), best, linked, own=(own, own))

    def _choose(self, learn: Public, held: Public) -> tuple[float, tuple[int, float, int] | None]:
        learn = _some(learn)
        pca = Pca.fit(flat(learn.release.codes), max(self.components))
        a, b = pca(flat(learn.release.codes)), pca(flat(held.release.codes))
        best, choice = float("nan"), None
        sizes = sorted({min(k, a.shape[1]) for k in self.components} - {0})
        for k, s in product(sizes, self.shrink):
            axes = discriminants(a[:, :k], learn.patient, s)
            for r in sorted({min(r, axes.shape[1]) for r in self.directions}):
                points = unit(b[:, :k] @ axes[:, :r])
                score = quick_auc(points @ points.T, held.patient)
                if not score <= best:
                    best, choice = score, (k, s, r)
        return (best, choice) if choice else (0.5, None)

    def _embedding(self, public: Public, k: int, s: float, r: int) -> Embed:
        x = flat(public.release.codes)
        pca = Pca.fit(x, k)
        axes = pca.axes @ discriminants(pca(x), public.patient, s)[:, :r].astype(np.float32)
        scale = pca.scale

        def embed(seen: Release) -> np.ndarray:
            return unit(scale(flat(seen.codes)) @ axes)

        return embed


def _some(public: Public) -> Public:
    """At most so many films as the budget allows dense methods, originals first."""
    most = public.budget.most
    return public if len(public) <= most else public.take(np.argsort(~public.original, kind="stable")[:most])


def _nothing(seen: Release) -> np.ndarray:
    return np.zeros((len(seen), 1))


def discriminants(x: np.ndarray, patient: np.ndarray, shrink: float) -> np.ndarray:
    """(k, directions) of S_b v = λ S_w v, best first, with v' S_w v = 1.

    Args:
        x: (film, k), centred.
        patient: (film,) any names.
        shrink: S_w ← (1 − s) S_w + s·trace(S_w)/k·I.

    Example:
        >>> x = np.array([[1.0, 5], [1, -5], [-1, 5], [-1, -5]])
        >>> v = discriminants(x, np.array([0, 0, 1, 1]), 0.0)
        >>> bool(abs(v[0, 0]) > 1e3 * abs(v[1, 0]))
        True
    """
    index = np.unique(patient, return_inverse=True)[1].reshape(-1)
    count = np.bincount(index)
    means = np.zeros((len(count), x.shape[1]))
    np.add.at(means, index, x)
    means /= count[:, None]
    rest = x - means[index]
    within = rest.T @ rest / max(len(x) - len(count), 1)
    size = np.trace(within) / len(within)
    within = (1 - shrink) * within + (shrink * size + 1e-8 * max(size, 1e-12)) * np.eye(len(within))
    values, vectors = np.linalg.eigh(within)
    whiten = vectors / np.sqrt(np.maximum(values, 1e-8 * max(values[-1], 1e-300)))
    between = np.cov((means @ whiten).T).reshape(len(within), -1)
    return np.asarray(whiten @ np.linalg.eigh(between)[1][:, ::-1])


@dataclass(frozen=True)
class Fixed:
    """A fitted attack whose guess is a function of the release."""

    how: Callable[[Any], Any]
    spent: Mapping[str, float] = field(default_factory=dict)
    validation: float = float("nan")
    linked: float = float("nan")

    def guess(self, release: Any) -> Any:
        """One guess per record."""
        return self.how(release)
