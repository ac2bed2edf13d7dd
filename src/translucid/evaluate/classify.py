"""Measures of classification, every one with an interval that resamples patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from translucid.errors import ConfigError, InputError, ShapeError
from translucid.evaluate import area
from translucid.evaluate.calibration import calibration_fit, expected_calibration_error, recalibration
from translucid.evaluate.interval import at_edge, check_aligned, from_draws, missing, patient_weights
from translucid.types import Estimate

MACRO = "macro"


@dataclass(frozen=True)
class Sample:
    """The known cases of one label, sorted by score, highest first.

    Attributes:
        y: (case,) 1.0 or 0.0.
        logit: (case,).
        rows: (case,) where each stood in the input.
        starts: first case of each run of equal scores.
        threshold: logits from which a case is called positive; nan where none could be fitted.
    """

    y: np.ndarray
    logit: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    threshold: float

    @staticmethod
    def of(y: np.ndarray, logit: np.ndarray, threshold: float = 0.0) -> Sample:
        """Leave out unknown labels and sort.

        Raises:
            InputError: y is neither 1, 0 nor nan, or a known case's logit is not finite.
            ShapeError: lengths differ.
        """
        y, logit = np.asarray(y, np.float64).reshape(-1), np.asarray(logit, np.float64).reshape(-1)
        check_aligned(y=y, logits=logit)
        rows = np.flatnonzero(~np.isnan(y))
        if not np.isin(y[rows], (0, 1)).all():
            raise InputError("labels must be 1, 0 or nan for unknown")
        if not np.isfinite(logit[rows]).all():
            raise InputError(f"{int((~np.isfinite(logit[rows])).sum())} logits are not finite: look at the training")
        rows = rows[np.argsort(-logit[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(logit[rows], prepend=np.inf))
        return Sample(y[rows], logit[rows], rows, starts, float(threshold))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def one_class(self) -> bool:
        """Whether there are no positives or no negatives (or no cases at all)."""
        return len(self.y) == 0 or self.y.min() == self.y.max()

    @property
    def called(self) -> np.ndarray:
        """(case,) 1.0 where the case is called positive, nan without a threshold."""
        return np.full(len(self), np.nan) if math.isnan(self.threshold) else (self.logit >= self.threshold) * 1.0

    @property
    def probability(self) -> np.ndarray:
        """(case,) the model's probability."""
        return expit(self.logit)


# -- the measures: (Sample, weights (resample, case)) → (resample,) ------------------------------------------------


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 0)


def _runs(sample: Sample, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and negatives in each run of equal scores."""
    positive, negative = weights * sample.y, weights * (1 - sample.y)
    if len(sample.starts) == len(sample):
        return positive, negative
    return np.add.reduceat(positive, sample.starts, 1), np.add.reduceat(negative, sample.starts, 1)


def auc(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Mann–Whitney: Σ over runs of w₁·(w₀ below + w₀ within/2) / (Σw₁ Σw₀)."""
    positive, negative = _runs(sample, weights)
    above = np.cumsum(negative, 1)
    total = above[:, -1]
    wins = (positive * (total[:, None] - above + negative / 2)).sum(1)
    return _ratio(wins, positive.sum(1) * total)


def average_precision(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Σ over runs of (recall gained) × (precision there); chance is the prevalence."""
    positive, negative = _runs(sample, weights)
    hits = np.cumsum(positive, 1)
    called = hits + np.cumsum(negative, 1)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    found = _ratio((positive * precision).sum(1), hits[:, -1])
    return np.where(called[:, -1] > hits[:, -1], found, np.nan)


def sensitivity(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Share of positives called positive at the threshold."""
    return _ratio(weights @ (sample.y * sample.called), weights @ sample.y)


def specificity(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Share of negatives called negative at the threshold."""
    return _ratio(weights @ ((1 - sample.y) * (1 - sample.called)), weights @ (1 - sample.y))


def balanced_accuracy(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """(sensitivity + specificity)/2; chance is 0.5."""
    return (sensitivity(sample, weights) + specificity(sample, weights)) / 2


def brier(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Mean of (p − y)²; 0 is best."""
    return _ratio(weights @ (sample.probability - sample.y) ** 2, weights.sum(1))


def ece(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error with bins of equal mass; 0 is best."""
    return expected_calibration_error(sample.y, sample.probability, weights)


def calibration_slope(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Slope of the outcome on the model's logit; 1 is best, below 1 is over-confident."""
    return recalibration(sample.y, sample.logit, weights)[:, 1]


def calibration_intercept(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Shift of the logits that makes the mean prediction right; 0 is best."""
    return recalibration(sample.y, sample.logit, weights, slope=False)[:, 0]


MEASURES: Mapping[str, Callable[[Sample, np.ndarray], np.ndarray]] = {
    "auc": auc,
    "average_precision": average_precision,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "balanced_accuracy": balanced_accuracy,
    "brier": brier,
    "ece": ece,
    "calibration_slope": calibration_slope,
    "calibration_intercept": calibration_intercept,
}
"""Name → (sample, weights) → one value per resample; nan where undefined."""

WALD = ("calibration_slope", "calibration_intercept")
UNIT = ("auc", "average_precision", "sensitivity", "specificity", "balanced_accuracy")


# -- thresholds ----------------------------------------------------------------------------------------------------


def fit_thresholds(
    y: np.ndarray, logits: np.ndarray, how: Literal["youden", "specificity"] = "youden", specificity: float = 0.9
) -> np.ndarray:
    """Thresholds per label, to be fitted on validation and then left alone.

    "youden" maximises sensitivity + specificity − 1; "specificity" takes the lowest threshold that still has the
    asked specificity. A threshold lies midway between two scores; of equally good ones the highest is taken.

    Args:
        y: (case, label) 1, 0 or nan.
        logits: (case, label).
        how: the rule.
        specificity: for the second rule.

    Returns:
        (label,) in logits; nan where a label has one class only.

    Raises:
        ConfigError: an unknown rule, or a specificity outside [0, 1].

    Example:
        >>> fit_thresholds(np.array([[0], [0], [1]]), np.array([[-2.0], [0.0], [1.0]]))
        array([0.5])

    Source: Youden, Cancer 1950, doi:10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3.

    Fails when: validation has few positives; the threshold is then noise, and so is the sensitivity on the test split.
    """
    if how not in ("youden", "specificity") or not 0 <= specificity <= 1:
        raise ConfigError(f"thresholds by {how!r} at {specificity}: known are youden, and specificity within [0, 1]")
    y, logits = _tables(y, logits)
    return np.array([_threshold(Sample.of(y[:, k], logits[:, k]), how, specificity) for k in range(y.shape[1])])


def _threshold(sample: Sample, how: str, least: float) -> float:
    if sample.one_class:
        return math.nan
    positive, negative = (np.cumsum(c[0]) for c in _runs(sample, np.ones((1, len(sample)))))
    sens = np.concatenate([[0], positive / positive[-1]])
    spec = 1 - np.concatenate([[0], negative / negative[-1]])
    scores = sample.logit[sample.starts]
    cuts = np.concatenate([[scores[0] + 1], (scores[:-1] + scores[1:]) / 2, [scores[-1] - 1]])
    if how == "youden":
        return float(cuts[np.argmax(np.round(sens + spec, 12))])
    return float(cuts[np.flatnonzero(spec >= least - 1e-12)[-1]])


def _tables(y: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, logits = (np.asarray(a, np.float64) for a in (y, logits))
    y, logits = (a[:, None] if a.ndim == 1 else a for a in (y, logits))
    if y.ndim != 2 or y.shape != logits.shape:
        raise ShapeError(f"labels and logits need the same (case, label), got {y.shape} and {logits.shape}")
    return y, logits


# -- all together --------------------------------------------------------------------------------------------------


def evaluate_classification(
    y: np.ndarray,
    logits: np.ndarray,
    patient: Sequence[str] | np.ndarray,
    labels: Sequence[str],
    split: str = "test",
    *,
    variant: str = "",
    thresholds: np.ndarray | None = None,
    measures: Sequence[str] = tuple(MEASURES),
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """All measures of all labels and their macro average, as rows of metrics.json.

    Intervals: AUC by DeLong with patients as clusters; calibration slope and intercept by a clustered sandwich; all
    others, and the macro average, by the percentile bootstrap over patients (the same resamples for every label). A
    perfect score gets the exact bound of a proportion instead of an interval without width.

    Args:
        y: (case, label) 1, 0 or nan for unknown, which is left out label by label.
        logits: (case, label).
        patient: (case,) any names.
        labels: (label,) names.
        split: named in the rows.
        variant: named in the rows.
        thresholds: (label,) in logits, from `fit_thresholds`; None means 0, that is p = 0.5.
        measures: which of `MEASURES`.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.

    Returns:
        Rows with measure, variant, label, split, value, low, high, n, level; undefined numbers are None. The label
        of the average over labels is "macro"; it is there where more than one label is, and not for the slope and
        intercept, whose average says nothing.

    Raises:
        ShapeError: shapes do not agree.
        InputError: a label or logit is out of range.
        ConfigError: an unknown measure.

    Example:
        >>> y, logits = np.array([[0], [1], [0], [1]]), np.array([[-1.0], [2.0], [0.5], [0.0]])
        >>> rows = evaluate_classification(y, logits, ["a", "b", "c", "d"], ["effusion"], measures=["auc"])
        >>> rows[0]["measure"], rows[0]["value"], rows[0]["n"]
        ('auc', 0.75, 4)

    Fails when: thresholds were fitted on the cases that are evaluated; sensitivity and specificity then flatter.
    """
    y, logits = _tables(y, logits)
    patient = np.asarray(patient)
    check_aligned(y=y, patient=patient)
    cuts = np.zeros(y.shape[1]) if thresholds is None else np.asarray(thresholds, np.float64).reshape(-1)
    if len(labels) != y.shape[1] or len(cuts) != y.shape[1]:
        raise ShapeError(f"{y.shape[1]} columns, but {len(labels)} labels and {len(cuts)} thresholds")
    if unknown := [m for m in measures if m not in MEASURES]:
        raise ConfigError(f"unknown measures {', '.join(unknown)}: known are {', '.join(MEASURES)}")
    samples = [Sample.of(y[:, k], logits[:, k], cuts[k]) for k in range(y.shape[1])]
    draws = draw(samples, patient, measures, resamples, seed)
    found = [
        (name, labels[k], estimate(name, sample, patient, draws[i, k], level))
        for k, sample in enumerate(samples)
        for i, name in enumerate(measures)
    ]
    if len(labels) > 1:
        n = int((~np.isnan(y)).any(1).sum())
        means = [(i, name) for i, name in enumerate(measures) if name not in WALD]
        found += [(name, MACRO, macro(name, samples, draws[i], n, level)) for i, name in means]
    return [row(name, label, number, split, variant) for name, label, number in found]


def row(measure: str, label: str, number: Estimate, split: str = "", variant: str = "") -> dict[str, Any]:
    """One row of metrics.json.

    Example:
        >>> row("auc", "effusion", Estimate(0.8, 0.7, 0.9, 50), "test")["low"]
        0.7
    """
    values = number.to_json()
    numbers = {k: values[k] for k in ("value", "low", "high", "n", "level")}
    return {"measure": measure, "variant": variant, "label": label, "split": split} | numbers


def draw(
    samples: Sequence[Sample], patient: np.ndarray, measures: Sequence[str], resamples: int, seed: int
) -> np.ndarray:
    """Bootstrap draws (measure, label, resample); measures with a formula of their own stay nan.

    Fails when: `patient` is not aligned with the rows the samples came from.
    """
    out = np.full((len(measures), len(samples), resamples), np.nan)
    done = 0
    for weights in patient_weights(patient, resamples, seed):
        for k, sample in enumerate(samples):
            if not sample.one_class:
                mine = weights[:, sample.rows]
                for i, name in enumerate(measures):
                    if name not in WALD:
                        out[i, k, done : done + len(weights)] = MEASURES[name](sample, mine)
        done += len(weights)
    return out


def point(name: str, sample: Sample) -> float:
    """The measure of all cases; nan where they have one class only."""
    if sample.one_class:
        return math.nan
    return float(MEASURES[name](sample, np.ones((1, len(sample))))[0])


def estimate(name: str, sample: Sample, patient: np.ndarray, draws: np.ndarray, level: float) -> Estimate:
    """One measure of one label with the interval that suits it; `draws` are those of `draw`.

    Fails when: a class has fewer than about ten patients; every interval is then rough.
    """
    if sample.one_class:
        return missing(len(sample), level)
    mine = patient[sample.rows]
    if name == "auc":
        return area.auc(sample.y, sample.logit, mine, level)
    if name in WALD:
        return calibration_fit(sample.y, sample.logit, mine, name == "calibration_slope", level)
    found = from_draws(point(name, sample), draws, len(sample), level)
    if name not in UNIT:
        return found
    sides = {"sensitivity": (1.0,), "specificity": (0.0,)}.get(name, (0.0, 1.0))
    return at_edge(found, min(len(np.unique(mine[sample.y == side])) for side in sides))


def macro(name: str, samples: Sequence[Sample], draws: np.ndarray, n: int, level: float) -> Estimate:
    """Unweighted mean over the labels where the measure is defined; a resample leaves out the labels it lost.

    Fails when: rare labels drop out of many resamples; the interval is then that of the other labels.
    """
    points = np.array([point(name, s) for s in samples])
    there = ~np.isnan(points)
    if not there.any():
        return missing(n, level)
    return from_draws(float(points[there].mean()), mean_draws(draws), n, level)


def mean_draws(draws: np.ndarray) -> np.ndarray:
    """(label, resample) → (resample,): mean over the labels a resample has kept, nan where it has none.

    Example:
        >>> mean_draws(np.array([[1.0, np.nan], [3.0, np.nan]]))
        array([ 2., nan])
    """
    known = ~np.isnan(draws)
    return _ratio(np.where(known, draws, 0.0).sum(0), known.sum(0))
