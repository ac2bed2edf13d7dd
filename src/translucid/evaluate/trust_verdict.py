"""From the protocol's numbers to verdicts: the rules, the intervals, and what decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from translucid.config import to_plain
from translucid.errors import ShapeError
from translucid.evaluate.explainers import ExplainerComparison, compare_explainers
from translucid.evaluate.localise_table import POOLED, mean_draws, mean_estimate
from translucid.evaluate.trust_cases import LEAST, TrustSettings
from translucid.types import Estimate

Tables = dict[str, dict[str, np.ndarray]]
"""Measure → map's name → (case, label), nan where undefined."""

BASELINES = ("random", "centre", "edges", "average_mask")

PASSES, FAILS, NOT_APPLICABLE = "passes", "fails", "n/a"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Criterion:
    """A rule: which measures decide, and how.

    Attributes:
        rule: "above" or "below" the best trivial map, "unlike" or "alike" another model's map, "under" a limit.
        measures: all must hold.
    """

    rule: Literal["above", "below", "unlike", "alike", "under"]
    measures: tuple[str, ...]


CRITERIA: Mapping[str, Criterion] = {
    "utility": Criterion("above", ("map_average_precision",)),
    "gaze": Criterion("above", ("gaze_cc",)),
    "insertion_deletion": Criterion("above", ("insertion_less_deletion",)),
    "road": Criterion("above", ("road",)),
    "infidelity": Criterion("below", ("infidelity",)),
    "stability": Criterion("under", ("max_sensitivity",)),
    "weight_randomisation": Criterion("unlike", ("ssim_weights", "rank_correlation_weights")),
    "label_randomisation": Criterion("unlike", ("ssim_random_labels", "rank_correlation_random_labels")),
    "repeatability": Criterion("alike", ("ssim_seed", "rank_correlation_seed")),
    "reproducibility": Criterion("alike", ("ssim_architecture", "rank_correlation_architecture")),
}


@dataclass(frozen=True)
class TrustReport:
    """What the protocol found.

    Attributes:
        rows: measure, explainer, label, value, low, high, n, level, verdict ("" where the number decides nothing).
        verdicts: criterion, explainer, verdict, measure, value, low, high, n, limit, p, rule in words; of a criterion
            with two measures the one that decided: the worse.
        comparisons: every two explainers on the measures of the first four criteria, pooled over labels, corrected by
            Holm within each measure.
    """

    rows: list[dict[str, Any]]
    verdicts: list[dict[str, Any]]
    comparisons: list[ExplainerComparison]

    def to_json(self) -> dict[str, Any]:
        """Plain values; nan is None."""
        return {name: to_plain(getattr(self, name)) for name in self.__dataclass_fields__}


def judge(
    tables: Tables, labels: Sequence[str], patients: Sequence[str], settings: TrustSettings | None = None
) -> TrustReport:
    """Means with patient intervals, paired comparisons, and a verdict for each explainer and criterion.

    The rules, on numbers pooled over labels, with the options of `TrustSettings`:

    - utility, gaze, insertion_deletion, road, infidelity: passes where the explainer is better than the trivial map
      that scores best, by the paired bootstrap over patients with p < alpha after Holm's correction over explainers.
    - weight_randomisation, label_randomisation: passes where the upper limit of the similarity with the other model's
      map lies below that of maps of two patients' images under the judged model (Arun et al. 2021), or below `unlike`,
      in structure (SSIM) and in order (magnitude of the rank correlation) alike.
    - repeatability, reproducibility: passes where the lower limit of the similarity reaches `alike`, and lies above
      that of maps of two patients' images, in both.
    - stability: passes where the upper limit of max-sensitivity is below `changed` (our limit; Yeh et al. 2019 give
      none).

    "n/a" where nothing was measured, or there is no interval; the rule then says why. Of several architectures the
    worst counts, case by case.

    Args:
        tables: from `measure_trust`.
        labels: (label,) names.
        patients: (case,) any names.
        settings: the lines.

    Raises:
        ShapeError: a table is not (case, label).

    Example:
        >>> good, bad = np.linspace(0.8, 0.9, 30)[:, None], np.linspace(0.1, 0.2, 30)[:, None]
        >>> tables = {"road": {"hirescam": good, "random": bad}}
        >>> report = judge(tables, ["mass"], [str(i) for i in range(30)])
        >>> [(v["criterion"], v["verdict"]) for v in report.verdicts if v["verdict"] != "n/a"]
        [('road', 'passes')]

    Source: Arun et al. 2021, doi:10.1148/ryai.2021200267; Adebayo et al. 2018, arXiv:1810.03292; the limits 0.2,
    0.5 and 1 are ours.

    Fails when: patients are few: intervals are then wide, and "fails" means only "not shown to pass".
    """
    settings = settings or TrustSettings()
    _check(tables, labels, patients)
    bench = _Bench(tables, list(labels), np.asarray(patients), settings)
    rows = bench.rows()
    names = _explainers(tables)
    verdicts = [v for criterion in CRITERIA for v in bench.verdicts(criterion, names)]
    decided = {(v["measure"], v["explainer"]): v["verdict"] for v in verdicts}
    for row in rows:
        row["verdict"] = decided.get((row["measure"], row["explainer"]), "") if row["label"] == bench.whole else ""
    return TrustReport(rows, verdicts, bench.comparisons(names))


def _check(tables: Tables, labels: Sequence[str], patients: Sequence[str]) -> None:
    for measure, columns in tables.items():
        for name, table in columns.items():
            if table.shape != (len(patients), len(labels)):
                raise ShapeError(f"{measure} of {name} is {table.shape}, wanted {(len(patients), len(labels))}")


def _explainers(tables: Tables) -> list[str]:
    """Names in the order they first appear, trivial maps left out."""
    names = [name for columns in tables.values() for name in columns if name not in BASELINES]
    return list(dict.fromkeys(names))


@dataclass
class _Bench:
    tables: Tables
    labels: list[str]
    patient: np.ndarray
    settings: TrustSettings

    @property
    def whole(self) -> str:
        """The label under which pooled numbers stand."""
        return POOLED if len(self.labels) > 1 else self.labels[0]

    def means(self, table: np.ndarray) -> dict[str, Estimate]:
        """Label → mean with its interval, "pooled" last where there are several."""
        s, k = self.settings, len(self.labels)
        known = ~np.isnan(table)
        picks = np.eye(k, dtype=bool) if k == 1 else np.concatenate([np.eye(k, dtype=bool), np.ones((1, k), bool)])
        chosen = known[:, :, None] & picks.T[None]
        draws = mean_draws(table, chosen, self.patient, s.resamples, s.seed)
        names = self.labels if k == 1 else [*self.labels, POOLED]
        return {
            name: mean_estimate(table, chosen[..., i], self.patient, draws[i], s.level) for i, name in enumerate(names)
        }

    def rows(self) -> list[dict[str, Any]]:
        """Every number with its interval."""
        return [
            {"measure": measure, "explainer": name, "label": label, **number.to_json(), "verdict": ""}
            for measure, columns in self.tables.items()
            for name, table in columns.items()
            for label, number in self.means(table).items()
        ]

    def pooled(self, measure: str, name: str) -> Estimate | None:
        """The pooled mean; None where it was not measured or has no interval."""
        table = self.tables.get(measure, {}).get(name)
        if table is None or np.isnan(table).all():
            return None
        number = self.means(table)[self.whole]
        return None if math.isnan(number.low) else number

    def verdicts(self, criterion: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """One line for each explainer."""
        rule = CRITERIA[criterion]
        if rule.rule in ("above", "below"):
            found = self._against_trivial(rule.measures[0], names, 1 if rule.rule == "above" else -1)
        else:
            found = {name: line for name in names if (line := self._by_limits(rule, name))}
        blank = {"verdict": NOT_APPLICABLE, "measure": rule.measures[0]}
        empty = dict.fromkeys(("value", "low", "high", "n", "limit", "p"))
        return [
            {"criterion": criterion, "explainer": n} | empty | (found.get(n) or blank | {"rule": self._why(rule, n)})
            for n in names
        ]

    def _why(self, rule: Criterion, name: str) -> str:
        """Why there is no verdict, in words."""
        for measure in rule.measures:
            table = self.tables.get(measure, {}).get(name)
            if table is None:
                return NOT_MEASURED
            known = ~np.isnan(table)
            if not known.any():
                return "undefined in every case that was tried"
            if (patients := len(np.unique(self.patient[known.any(1)]))) < LEAST:
                return f"measured on labels of {patients} patient, an interval needs {LEAST} patients"
        return "no trivial map was measured on the same cases"

    def _against_trivial(self, measure: str, names: Sequence[str], sign: int) -> dict[str, dict[str, Any]]:
        """Better than the trivial map that scores best, tested in pairs."""
        columns = self.tables.get(measure, {})
        trivial = {
            n: sign * float(np.nanmean(t)) for n, t in columns.items() if n in BASELINES and np.isfinite(t).any()
        }
        mine = {n: columns[n] for n in names if n in columns and np.isfinite(columns[n]).any()}
        if not trivial or not mine:
            return {}
        best = max(trivial, key=lambda n: trivial[n])
        found = self._compared({**mine, best: columns[best]}, measure, best)
        return {c.explainer: self._line(c, sign) for c in found if not math.isnan(c.p_holm)}

    def _line(self, c: ExplainerComparison, sign: int) -> dict[str, Any]:
        won = sign * c.difference.value > 0 and c.p_holm < self.settings.alpha
        side = "above" if sign > 0 else "below"
        return {
            "verdict": PASSES if won else FAILS,
            "measure": c.measure,
            **_numbers(c.first),
            "limit": c.second.value,
            "p": c.p_holm,
            "rule": f"{side} {c.against} ({c.second.value:.3f}), paired p < {self.settings.alpha:g} after Holm",
        }

    def _compared(self, tables: dict[str, np.ndarray], measure: str, against: str | None) -> list[ExplainerComparison]:
        s = self.settings
        found = compare_explainers(
            tables,
            self.patient,
            self.labels,
            measure,
            against=against,
            resamples=s.resamples,
            level=s.level,
            seed=s.seed,
        )
        return [c for c in found if c.label == self.whole]

    def comparisons(self, names: Sequence[str]) -> list[ExplainerComparison]:
        """Every two explainers on the measures that say how good a map is."""
        found: list[ExplainerComparison] = []
        for criterion in ("utility", "gaze", "insertion_deletion", "road"):
            measure = CRITERIA[criterion].measures[0]
            columns = {n: t for n, t in self.tables.get(measure, {}).items() if n in names and np.isfinite(t).any()}
            if len(columns) > 1:
                found += self._compared(columns, measure, None)
        return found

    def _by_limits(self, rule: Criterion, name: str) -> dict[str, Any] | None:
        """Every measure against its limit; the one nearest to failing, or farthest beyond, is shown."""
        judged = [self._limit(rule.rule, measure, name) for measure in rule.measures]
        known = [j for j in judged if j is not None]
        if len(known) < len(judged):
            return None
        margin, line = min(known, key=lambda j: j[0])
        return line | {"verdict": PASSES if margin > 0 else FAILS}

    def _limit(self, rule: str, measure: str, name: str) -> tuple[float, dict[str, Any]] | None:
        s, number = self.settings, self.pooled(measure, name)
        if number is None:
            return None
        kind = "ssim" if measure.startswith("ssim") else "rank_correlation"
        other = self.pooled(f"{kind}_other_images", name)
        between = -math.inf if other is None else other.value
        said = "" if other is None else f", the similarity of maps of different patients ({between:.3f})"
        if rule == "alike":
            limit = max(s.alike, between)
            words, margin = f"lower limit at least {s.alike:g} and above{said[1:]}" if said else "", number.low - limit
            words = words or f"lower limit at least {s.alike:g}"
        elif rule == "unlike":
            limit = max(s.unlike, between)
            words, margin = f"upper limit below {s.unlike:g}{' or' + said[1:] if said else ''}", limit - number.high
        else:
            limit, words, margin = s.changed, f"upper limit below {s.changed:g}", s.changed - number.high
        return margin, {"measure": measure, **_numbers(number), "limit": limit, "rule": words}


def _numbers(number: Estimate) -> dict[str, Any]:
    plain = number.to_json()
    return {k: plain[k] for k in ("value", "low", "high", "n")}
