"""Attackers who tell whether a patient's film was used to train a released model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm

from translucid.audit.linear import Fixed
from translucid.audit.pairs import TwoSamples, pair_measures, quick_two
from translucid.audit.resample import mean_of_patients, patient_counts, with_interval
from translucid.errors import ConfigError, ShapeError
from translucid.types import Estimate

TrainShadow = Callable[[np.ndarray, int], np.ndarray]
"""(rows to train on, seed) → (n,) confidence log(p/(1 − p)) in the true label, for all candidates."""


@dataclass(frozen=True)
class ModelRelease:
    """What the released model says of the candidates.

    Attributes:
        confidence: (n,) log(p/(1 − p)) with p the probability of the true label; for several labels their sum.
    """

    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.confidence)


@dataclass(frozen=True)
class Shadows:
    """What the attacker can do besides: train models like the released one.

    Attributes:
        patient: (n,) whose the candidates are, so that a shadow's halves share nobody.
        train: trains one and reports its confidence in all candidates; None where he cannot.
        count: how many he trains.
        seed: of the halves.

    Raises:
        ConfigError: an odd number, or fewer than four: two are held out to choose by.

    Example:
        >>> Shadows(np.array([1, 1, 2]), count=4).halves.shape
        (4, 3)
    """

    patient: np.ndarray
    train: TrainShadow | None = None
    count: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 4 or self.count % 2:
            raise ConfigError(f"shadows = {self.count}: take an even number of at least 4, or 0 for none")

    @cached_property
    def halves(self) -> np.ndarray:
        """(shadow, n) which candidates each one learns from: complementary halves of the patients, pair by pair."""
        names, index = np.unique(self.patient, return_inverse=True)
        draw, found = np.random.default_rng([self.seed, 43]), []
        for _ in range(self.count // 2):
            first = np.isin(index.reshape(-1), draw.permutation(len(names))[: len(names) // 2])
            found += [first, ~first]
        return np.array(found)

    @cached_property
    def answers(self) -> np.ndarray:
        """(shadow, n) the confidence of each in all candidates; trained when first asked for.

        Raises:
            ConfigError: no way to train shadows was handed in.
            ShapeError: a shadow answers for another number of candidates.
        """
        if self.train is None:
            raise ConfigError("lira needs `train`, a function that trains a model like the released one")
        said = []
        for number, mine in enumerate(self.halves):
            answer = np.asarray(self.train(np.flatnonzero(mine), number), float)
            if answer.shape != self.patient.shape:
                raise ShapeError(f"a shadow answers for {answer.shape} of {self.patient.shape} candidates")
            said.append(answer)
        return np.array(said)


@dataclass(frozen=True)
class LossThreshold:
    """A film with low loss was in the training set: the score is the confidence less the candidates' median.

    Example:
        >>> LossThreshold().fit(ModelRelease(np.array([1.0, 3.0])), Shadows(np.arange(2)), 0).spent["shadows"]
        0

    Source: Yeom et al., Privacy risk in machine learning, CSF 2018, doi:10.1109/CSF.2018.00027.

    Fails when: films differ in how hard they are; easy ones then pass for members.
    """

    def fit(self, release: ModelRelease, public: Shadows, seed: int) -> Fixed:
        """Half of the candidates are taken for members; shadows, where there are any, tell how well that works."""
        reached = float("nan")
        if public.train is not None:
            each = zip(public.answers, public.halves, strict=True)
            reached = float(np.nanmean([_auc(said, mine) for said, mine in each]))
        return Fixed(lambda seen: seen.confidence - np.median(seen.confidence), {"shadows": 0}, reached)


@dataclass(frozen=True)
class Lira:
    """The likelihood ratio of a film's confidence under models that did and did not learn from it.

    log N(c | μ_in, σ_in²) − log N(c | μ_out, σ_out²), with means from the shadow models that did and did not see the
    film and variances shared by all films, as Carlini et al. advise for few shadow models. How well it does is
    found on its own shadows: each pair in turn is attacked by the others.

    Example:
        >>> Lira()
        Lira()

    Source: Carlini et al., Membership inference attacks from first principles, S&P 2022, arXiv:2112.03570.

    Fails when: shadows are few; the power at low false positive rates grows until about a hundred.
    """

    def fit(self, release: ModelRelease, public: Shadows, seed: int) -> Fixed:
        """Compare with the shadows.

        Raises:
            ConfigError: no way to train shadows was handed in.
            ShapeError: a shadow answers for another number of candidates.
        """
        inside, said = public.halves, public.answers
        reached = []
        for k in range(public.count):
            rest = np.arange(public.count) // 2 != k // 2
            score = _ratio(inside[rest], said[rest])(ModelRelease(said[k]))
            reached.append(_auc(score, inside[k]))
        used = {"shadows": public.count, "patients": len(np.unique(public.patient))}
        return Fixed(_ratio(inside, said), used, float(np.nanmean(reached)))


def _auc(scores: np.ndarray, member: np.ndarray) -> float:
    return quick_two(TwoSamples.of_cases(scores, member, np.arange(len(scores))))


def _ratio(inside: np.ndarray, said: np.ndarray) -> Callable[[ModelRelease], np.ndarray]:
    means, spreads = [], []
    for mine in (inside, ~inside):
        mean = (said * mine).sum(0) / mine.sum(0)
        rest = ((said - mean) ** 2 * mine).sum() / max(mine.sum() - mine.shape[1], 1)
        means.append(mean)
        spreads.append(max(float(np.sqrt(rest)), 1e-6 * max(float(np.abs(said).max()), 1e-6)))

    def how(seen: ModelRelease) -> np.ndarray:
        c = seen.confidence
        return np.asarray(norm.logpdf(c, means[0], spreads[0]) - norm.logpdf(c, means[1], spreads[1]))

    return how


def membership_measures(
    scores: np.ndarray, member: np.ndarray, patient: np.ndarray, resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[Estimate, float]]:
    """AUC, share of members found at 0.1 % false alarms, and balanced accuracy of calling scores above 0.

    Args:
        scores: (n,).
        member: (n,) bool.
        patient: (n,) any names.
        resamples: of patients.
        seed: of the resamples.

    Example:
        >>> found = membership_measures(np.array([1.0, -1.0]), np.array([True, False]), np.arange(2), 9)
        >>> found["balanced_accuracy"][0].value
        1.0

    Fails when: members and others were drawn differently; the attack then finds the difference of the draw.
    """
    index = np.unique(patient, return_inverse=True)[1].reshape(-1)
    samples = TwoSamples.of_cases(scores, member, index)
    both = pair_measures(samples, resamples, seed, ("auc", "tpr_at_fpr_0.001"))
    counts = patient_counts(int(index.max()) + 1, resamples, seed)
    right = np.where(scores == 0, 0.5, (scores > 0) == member)
    sides = [mean_of_patients(np.where(side, right, np.nan), index, counts) for side in (member, ~member)]
    weights = counts[:, index]
    parts = [(weights * side) @ right / np.maximum((weights * side).sum(1), 1e-9) for side in (member, ~member)]
    accuracy = with_interval((sides[0].value + sides[1].value) / 2, (parts[0] + parts[1]) / 2, len(np.unique(index)))
    return {
        "auc": (both["auc"], 0.5),
        "tpr_at_fpr_0.001": (both["tpr_at_fpr_0.001"], 0.001),
        "balanced_accuracy": (accuracy, 0.5),
    }
