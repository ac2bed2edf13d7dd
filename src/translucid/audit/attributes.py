"""Attackers who read sex, age or the device from a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor
from torch.nn import functional as F

from translucid.audit import nets
from translucid.audit.linear import Fixed, Pca, flat, spent
from translucid.audit.pairs import TwoSamples, pair_measures, quick_two
from translucid.audit.records import Public, Release
from translucid.audit.resample import mean_of_patients, patient_counts, with_interval
from translucid.types import Estimate

Kind = Literal["classes", "number"]
Reader = Callable[[np.ndarray], dict[str, np.ndarray]]
FEWEST_STEPS = 200
"""A perceptron of few films would else not be trained at all; it costs a second."""


def kind_of(values: np.ndarray) -> Kind:
    """Words and 0/1 are classes, other numbers are numbers.

    Example:
        >>> kind_of(np.array(["F", "M"])), kind_of(np.array([1.0, 0.0])), kind_of(np.array([40.0, 61.0]))
        ('classes', 'classes', 'number')
    """
    if values.dtype.kind not in "fiub":
        return "classes"
    return "classes" if np.isin(values[known(values)], (0, 1)).all() else "number"


def known(values: np.ndarray) -> np.ndarray:
    """(n,) whether the attribute is known: neither nan nor empty."""
    return ~np.isnan(values.astype(float)) if values.dtype.kind in "fiub" else values.astype(str) != ""


def classes_of(values: np.ndarray) -> tuple[str, ...]:
    """The classes there are, in order of their names."""
    there = values[known(values)]
    words = there.astype(float).astype(int).astype(str) if values.dtype.kind in "fiub" else there.astype(str)
    return tuple(sorted(set(words.tolist())))


def _words(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        return values.astype(str)
    there = known(values)
    return np.where(there, np.where(there, values, 0).astype(float).astype(int).astype(str), "")


@dataclass(frozen=True)
class Attribute:
    """Reads every attribute the attacker has examples of, from principal components of the code.

    Attributes:
        model: "linear" (logistic or ridge regression) or "mlp" (a perceptron with one hidden layer).
        components: how many principal components.

    Example:
        >>> Attribute("mlp").components
        200

    Source: attribute inference as usual; our own settings.

    Fails when: an attribute goes with another in the data, as device with ward; the code need hold only one of them.
    """

    model: Literal["linear", "mlp"] = "linear"
    components: int = 200

    def fit(self, release: Release, public: Public, seed: int) -> Fixed:
        """One regression or network for every attribute; first on part of the patients, to see how well it does."""
        x = flat(public.release.codes)
        pca = Pca.fit(x, self.components)

        def points(seen: Release) -> np.ndarray:
            return pca.whitened(flat(seen.codes)) if len(pca.deviation) else np.zeros((len(seen), 1), np.float32)

        learn, held = public.split(seed)
        guess = self._reader(points(learn.release), learn, seed)(points(held.release))
        reached = [skill(said, held.attributes[name]) for name, said in guess.items()]
        told = [r for r in reached if not np.isnan(r)]
        read = self._reader(points(public.release), public, seed)

        def how(seen: Release) -> dict[str, np.ndarray]:
            return {name: np.round(said, 9) for name, said in read(points(seen)).items()}

        used = spent(public, epochs=4 * public.budget.epochs if self.model == "mlp" else 0)
        return Fixed(how, used, float(np.mean(told)) if told else float("nan"))

    def _reader(self, points: np.ndarray, public: Public, seed: int) -> Reader:
        heads = {name: Head.of(v) for name, v in public.attributes.items() if known(v).any()}
        if self.model == "mlp":
            return _network(points, heads, public, seed)
        fitted = {name: head.regression(points) for name, head in heads.items()}
        return lambda z: {name: read(z) for name, read in fitted.items()}


@dataclass(frozen=True)
class Head:
    """One attribute as a target, and the way back.

    Attributes:
        target: (n,) number of the class, or the number itself in units of its spread.
        there: (n,) where it is known.
        size: outputs it needs: classes, or 1.
        mean, spread: of a number; the spread of classes is 0.
    """

    target: np.ndarray
    there: np.ndarray
    size: int
    mean: float = 0.0
    spread: float = 0.0

    @staticmethod
    def of(values: np.ndarray) -> Head:
        """From what the attacker knows."""
        there = known(values)
        if kind_of(values) == "number":
            y = np.where(there, np.nan_to_num(values.astype(float)), 0.0)
            mean, spread = float(y[there].mean()), max(float(y[there].std()), 1e-9)
            return Head((y - mean) / spread, there, 1, mean, spread)
        names = classes_of(values)
        return Head(np.searchsorted(np.array(names), _words(values)).clip(max=len(names) - 1), there, len(names))

    def regression(self, x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Ridge or logistic."""
        x, y = x[self.there], self.target[self.there]
        if self.spread:
            ridge = Ridge(alpha=0.1 * len(x)).fit(x, y)
            return lambda z: self.read(ridge.predict(z)[:, None])
        if self.size < 2:
            return lambda z: np.zeros((len(z), 1))
        logistic = LogisticRegression(C=0.01, max_iter=300).fit(x, y)
        return lambda z: _two_sided(logistic.decision_function(z))

    def loss(self, out: Tensor, rows: Tensor) -> Tensor:
        """Of a network's outputs for this attribute; 0 where none of the rows is known."""
        there = torch.from_numpy(self.there)[rows]
        if not bool(there.any()):
            return out.sum() * 0
        y = torch.from_numpy(self.target)[rows][there]
        return F.smooth_l1_loss(out[there, 0], y.float()) if self.spread else F.cross_entropy(out[there], y)

    def read(self, out: np.ndarray) -> np.ndarray:
        """Outputs → numbers, or scores of classes."""
        return out[:, 0] * self.spread + self.mean if self.spread else out


def skill(guess: np.ndarray, truth: np.ndarray) -> float:
    """0 for a guess that knows nothing and 1 for a perfect one: 2·AUC − 1, or R² where it is above 0.

    Example:
        >>> skill(np.eye(2), np.array(["F", "M"])), skill(np.array([1.0, 3.0]), np.array([1.0, 3.0]))
        (1.0, 1.0)

    Fails when: there is one class, or all numbers are equal: nan.
    """
    there = known(truth)
    if guess.ndim == 1:
        value, rest = truth[there].astype(float), guess[there]
        spread = ((value - value.mean()) ** 2).sum() if len(value) else 0.0
        return max(0.0, float(1 - ((value - rest) ** 2).sum() / spread)) if spread > 0 else float("nan")
    words = _words(truth)[there]
    names = sorted(set(words.tolist()))
    if len(names) < 2 or guess.shape[1] != len(names):
        return float("nan")
    who = np.arange(len(words))
    each = [quick_two(TwoSamples.of_cases(guess[there, k], words == name, who)) for k, name in enumerate(names)]
    return 2 * float(np.mean(each)) - 1


def _two_sided(scores: np.ndarray) -> np.ndarray:
    return np.stack([-scores, scores], 1) if scores.ndim == 1 else scores


def _network(x: np.ndarray, heads: Mapping[str, Head], public: Public, seed: int) -> Reader:
    """One perceptron for all attributes, each with outputs of its own."""
    ends = np.cumsum([0, *(head.size for head in heads.values())]).tolist()
    net = nets.code_net(x.shape[1], 128, max(ends[-1], 1), seed, calm=True)
    inputs, draw = torch.from_numpy(x), np.random.default_rng([seed, 41])

    def feed() -> Any:
        while True:
            for rows in torch.from_numpy(draw.permutation(len(inputs))).split(128):
                noise = torch.from_numpy(draw.standard_normal((len(rows), x.shape[1])).astype(np.float32))
                yield inputs[rows] + 0.3 * noise, rows

    def loss(some: Tensor, rows: Tensor) -> Tensor:
        parts = zip(net(some).split([h.size for h in heads.values()], 1), heads.values(), strict=True)
        return torch.stack([head.loss(out, rows) for out, head in parts]).sum()

    if heads:
        nets.train(net, feed(), loss, max(FEWEST_STEPS, 2 * public.budget.epochs * len(inputs) // 128), 1e-3)

    def read(z: np.ndarray) -> dict[str, np.ndarray]:
        out = nets.run(net, torch.from_numpy(z)).double().numpy()
        return {name: head.read(out[:, a:b]) for (name, head), a, b in zip(heads.items(), ends, ends[1:], strict=False)}

    return read


def attribute_measures(
    guess: Mapping[str, np.ndarray],
    attributes: Mapping[str, np.ndarray],
    patient: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[Estimate, float]]:
    """How well attributes were read: "sex.auc" (mean over classes), "age.mae", "age.r2"; with what chance gives.

    Args:
        guess: name → (n, classes) scores or (n,) numbers.
        attributes: name → (n,) the truth.
        patient: (n,) numbers from 0.
        resamples: of patients.
        seed: of the resamples.

    Example:
        >>> found = attribute_measures({"sex": np.eye(2)}, {"sex": np.array(["F", "M"])}, np.arange(2), 9)
        >>> found["sex.auc"][0].value, found["sex.auc"][1]
        (1.0, 0.5)

    Fails when: the attacker met no example of a class; it then counts as never guessed.
    """
    found: dict[str, tuple[Estimate, float]] = {}
    counts = patient_counts(int(patient.max()) + 1, resamples, seed)
    for name, scores in guess.items():
        truth = attributes[name]
        there = known(truth)
        if not there.any():
            continue
        if scores.ndim == 1:
            found |= _number_measures(name, scores[there], truth[there].astype(float), patient[there], counts)
        else:
            found[f"{name}.auc"] = (
                _class_auc(scores[there], _words(truth)[there], patient[there], resamples, seed),
                0.5,
            )
    return found


def _class_auc(scores: np.ndarray, words: np.ndarray, patient: np.ndarray, resamples: int, seed: int) -> Estimate:
    names = sorted(set(words.tolist()))
    if len(names) < 2 or scores.shape[1] != len(names):
        return Estimate(np.nan, np.nan, np.nan, len(words))
    columns = [1] if len(names) == 2 else range(len(names))
    each = [
        pair_measures(TwoSamples.of_cases(scores[:, k], words == names[k], patient), resamples, seed, ("auc",))["auc"]
        for k in columns
    ]
    if len(each) == 1:
        return each[0]
    value, low, high = (float(np.mean([getattr(e, part) for e in each])) for part in ("value", "low", "high"))
    return Estimate(value, low, high, len(words))


def _number_measures(
    name: str, guess: np.ndarray, truth: np.ndarray, patient: np.ndarray, counts: np.ndarray
) -> dict[str, tuple[Estimate, float]]:
    error = np.abs(guess - truth)
    blind = float(np.abs(truth - np.median(truth)).mean())
    weights = np.concatenate([np.ones((1, len(truth))), counts[:, patient]])
    total = np.maximum(weights.sum(1), 1e-9)
    mean = weights @ truth / total
    spread = weights @ truth**2 / total - mean**2
    explained = 1 - np.divide(weights @ error**2 / total, spread, out=np.full(len(total), np.nan), where=spread > 1e-9)
    return {
        f"{name}.mae": (mean_of_patients(error, patient, counts), blind),
        f"{name}.r2": (with_interval(float(explained[0]), explained[1:], len(np.unique(patient))), 0.0),
    }
