"""What the phantom studies claim, over several seeds: each claim with its value per seed, mean and interval.

    python -m benchmarks.claims trainable-saliency-phantom --seeds 0 1 2 --out runs/claims
    python -m benchmarks.claims gaze-phantom --seeds 0 1 2 3 4 --out runs/claims

Every seed draws other patients and other weights, so the runs are independent. The interval of a mean is that of
Student's t over the seeds; each seed's own interval, over its patients, stands beside its value. A run that lies there
already is not made again.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from translucid.config import read_json

ROOT = Path(__file__).resolve().parents[1]
MINUTES = 15
Row = Mapping[str, Any]


class Value(NamedTuple):
    """One number of one run, and its interval over patients where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Claim:
    """What is claimed of a number.

    Attributes:
        what: in words.
        of: takes it from the rows of metrics.json.
        least: smallest mean for which the claim holds.
        strictly: whether the interval of the mean must lie above `least` as well.
    """

    what: str
    of: Callable[[Sequence[Row]], Value]
    least: float | None = None
    strictly: bool = False

    def holds(self, mean: float, low: float) -> bool | None:
        """Whether it does; None where nothing is claimed, or one seed cannot tell."""
        if self.least is None or (self.strictly and math.isnan(low)):
            return None
        return (low if self.strictly else mean) > self.least


def found(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """Rows of the test split whose fields are as wanted, without comparisons unless these are asked for."""
    wanted = {"split": "test"} | wanted
    return [
        r for r in rows if all(r.get(k) == v for k, v in wanted.items()) and ("versus" in r) == ("versus" in wanted)
    ]


def one(**wanted: Any) -> Callable[[Sequence[Row]], Value]:
    """The only row with these fields."""

    def of(rows: Sequence[Row]) -> Value:
        (row,) = found(rows, **wanted)
        return Value(row["value"], row["low"], row["high"])

    return of


def ratio(first: Mapping[str, Any], second: Mapping[str, Any]) -> Callable[[Sequence[Row]], Value]:
    """A row over the largest of others."""

    def of(rows: Sequence[Row]) -> Value:
        (top,) = found(rows, **first)
        return Value(top["value"] / max(r["value"] for r in found(rows, **second)))

    return of


def precision(variant: str) -> dict[str, Any]:
    """Average precision of a variant's maps against the findings."""
    return {
        "measure": "map_average_precision",
        "label": "pooled",
        "subset": "",
        "target": "finding",
        "variant": variant,
    }


def auc_gain(variant: str, versus: str) -> Callable[[Sequence[Row]], Value]:
    """Paired difference of the macro AUC."""
    return one(measure="auc_difference", label="macro", variant=variant, versus=versus)


def gaze(variant: str) -> Callable[[Sequence[Row]], Value]:
    """Correlation of a variant's own map with held-out gaze."""
    return one(measure="gaze_cc", label="pooled", variant=variant, explainer="native")


CLAIMS: dict[str, tuple[Claim, ...]] = {
    "trainable-saliency-phantom": (
        Claim("average precision of the saliency, image labels only", one(**precision("saliency"))),
        Claim("… with 30 drawn images", one(**precision("saliency-30"))),
        Claim("… with all drawn", one(**precision("saliency-all"))),
        Claim("… of the U-Net, all drawn", one(**precision("unet"))),
        Claim("saliency over the best of eight post-hoc maps", ratio(precision("saliency"), precision("cnn")), 1.5),
        Claim("saliency over the U-Net", ratio(precision("saliency"), precision("unet")), 0.8),
        Claim("macro AUC, saliency less the same backbone", auc_gain("saliency", "cnn"), 0.0),
    ),
    "gaze-phantom": (
        Claim("macro AUC, gated by gaze less image labels only", auc_gain("gated", "labels"), 0.0, True),
        Claim("macro AUC, HiResCAM matched with gaze less labels only", auc_gain("hirescam", "labels"), 0.0, True),
        Claim("macro AUC, decoder as published less labels only", auc_gain("decoder", "labels")),
        Claim("correlation of the decoder's map with held-out gaze", gaze("decoder"), 0.7),
        Claim("correlation of the gate with held-out gaze", gaze("gated"), 0.7),
    ),
}


def student(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean and its t interval; with one value the interval is unknown (nan).

    >>> [round(v, 3) for v in student([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    low, high = t.interval(level, len(values) - 1, mean, statistics.stdev(values) / math.sqrt(len(values)))
    return mean, float(low), float(high)


def study(recipe: str, seed: int, out: Path, settings: Sequence[str]) -> float | None:
    """Run one seed and tell its minutes; None where it lies there."""
    if (out / "metrics.json").is_file() and (out / "report.html").is_file():
        return None
    sets = [word for s in (f"seed={seed}", *settings) for word in ("--set", s)]
    start = time.perf_counter()
    command = [sys.executable, "-m", "translucid", "study", str(ROOT / "recipes" / f"{recipe}.toml"), str(out), *sets]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - start) / 60


def text(claims: Sequence[Claim], runs: Sequence[Sequence[Row]], seeds: Sequence[int]) -> str:
    """One line a claim."""
    lines = []
    for claim in claims:
        values = [claim.of(rows) for rows in runs]
        mean, low, high = student([v.value for v in values])
        holds = claim.holds(mean, low)
        verdict = {True: "met", False: "NOT MET", None: "more seeds are needed"}[holds]
        target = "" if claim.least is None else f"  > {claim.least:g}: {verdict}"
        over = "" if math.isnan(low) else f" ({low:.3f} to {high:.3f})"
        lines.append(f"{claim.what}: {mean:.3f}{over}{target}")
        for seed, v in zip(seeds, values, strict=True):
            own = "" if v.low is None else f" ({v.low:.3f} to {v.high:.3f})"
            lines.append(f"    seed {seed}: {v.value:.3f}{own}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", choices=list(CLAIMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/claims"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings for all runs")
    options = parser.parse_args(arguments)
    runs = []
    for seed in options.seeds:
        folder = options.out / f"{options.recipe}-{seed}"
        minutes = study(options.recipe, seed, folder, options.set)
        if minutes is not None:
            print(f"seed {seed}: {minutes:.1f} minutes (target {MINUTES})", file=sys.stderr, flush=True)
        runs.append(read_json(folder / "metrics.json"))
    print(text(CLAIMS[options.recipe], runs, options.seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
