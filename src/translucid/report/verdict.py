"""The verdict: what the numbers say about each variant, in plain words and never more than they say."""

from __future__ import annotations

from collections.abc import Sequence

from translucid.report.numbers import MACRO, Figure, Figures, Rows, amount, enough, fixed, p_text, percent
from translucid.types import Finding

MARGIN = 0.05
"""A loss of AUC that a reader will want to be told of when the interval does not rule it out."""

ORDER = ("bad", "warn", "note", "good")
CHANCE = 0.5


def verdict(rows: Rows, baseline: str) -> list[Finding]:
    """One finding per variant against the baseline, and one for each thing that deserves a second look.

    The interval of the AUC difference d decides: wholly below 0 "worse", wholly above 0 "better", else "not shown to
    differ", which is no claim of equality: the finding says what the interval still allows.

    Args:
        rows: metrics.json.
        baseline: the variant that the others are measured against; "" where there is none.

    Returns:
        Findings, the gravest first.

    Example:
        >>> head = {"variant": "small", "label": "macro", "split": "test", "n": 90, "level": 0.95}
        >>> rows = [head | {"measure": "auc_difference", "value": -0.08, "low": -0.14, "high": -0.02, "p": 0.008}]
        >>> [(f.level, f.title) for f in verdict(rows, "plain")]
        [('bad', 'small is worse than plain')]

    Fails when: many variants were tried; no interval is corrected for that.
    """
    figures = Figures.of(rows)
    found: list[Finding] = []
    for name in figures.variants:
        if name != baseline:
            found += _compared(figures, name, baseline)
        found += _chance(figures, name, baseline)
    found += _sizes(figures)
    return sorted(found, key=lambda f: (ORDER.index(f.level), not f.title.startswith("The baseline")))


def headline(rows: Rows, baseline: str) -> str:
    """The verdict in one or two sentences.

    Example:
        >>> head = {"variant": "main", "label": "macro", "split": "test", "n": 90, "level": 0.95}
        >>> headline([head | {"measure": "auc", "value": 0.8, "low": 0.7, "high": 0.9}], "main")
        'main reaches a macro AUC of 0.80 (0.70–0.90) on the test cases.'

    Fails when: read without the findings below it.
    """
    figures = Figures.of(rows)
    others = [v for v in figures.variants if v != baseline]
    compared = {v: _difference(figures, v) for v in others}
    compared = {v: d for v, d in compared.items() if d.known and d.bounds}
    if not figures.table:
        return "There are no numbers yet: the variants have not been evaluated."
    if not compared:
        return _alone(figures, baseline if baseline in figures.variants else next(iter(figures.variants), ""))
    worse = [v for v, d in compared.items() if _side(d) < 0]
    better = [v for v, d in compared.items() if _side(d) > 0]
    rest = [v for v in compared if v not in worse + better]
    caution = f"The baseline {baseline} is not shown to be better than guessing, so comparisons with it say little."
    first = caution if _may_guess(figures, baseline) else ""
    return _join(first, _count(worse, better, rest, baseline), _smallest(figures, compared, worse))


# -- one variant ---------------------------------------------------------------------------------------------------


def _difference(figures: Figures, variant: str, label: str = "") -> Figure:
    return figures.get("auc_difference", variant, label or figures.overall, "test")


def _side(figure: Figure) -> int:
    """Which side of naught the whole interval lies on; 0 where it includes it."""
    if figure.bounds is None:
        return 0
    low, high = figure.bounds
    return -1 if high < 0 else 1 if low > 0 else 0


def _measured(figures: Figures) -> str:
    return "Macro AUC" if figures.overall == MACRO else f"AUC of {figures.overall}"


def _compared(figures: Figures, name: str, baseline: str) -> list[Finding]:
    d, costs = _difference(figures, name), _costs(figures, name)
    if not d.known or d.bounds is None:
        if not baseline:
            return []
        title = f"{name} could not be compared with {baseline}"
        return [Finding("note", title, _join("No difference of AUC with an interval is given.", costs))]
    low, high = d.bounds
    side, p = _side(d), p_text(d.p)
    tail = f", {p}" if p else ""
    if side:
        word, level = ("lower", "bad") if side < 0 else ("higher", "good")
        near, far = sorted((abs(low), abs(high)))
        digits = enough(d.value, low, high)
        text = f"{_measured(figures)} {word} by {fixed(abs(d.value or 0), digits)}"
        text += f" ({fixed(near, digits)}–{fixed(far, digits)}){tail}."
        title = f"{name} is {'worse' if side < 0 else 'better'} than {baseline}"
        return [Finding(level, title, _join(text, costs)), *_single_labels(figures, name, baseline)]
    return [_not_shown(figures, name, baseline, tail), *_single_labels(figures, name, baseline)]


def _not_shown(figures: Figures, name: str, baseline: str, tail: str) -> Finding:
    d = _difference(figures, name)
    low, high = d.bounds or (0.0, 0.0)
    digits = enough(d.value, low, high)
    text = f"{_measured(figures)} differs by {fixed(d.value, digits, signed=True)}; the interval allows "
    text += f"{fixed(low, digits, signed=True)} to {fixed(high, digits, signed=True)}{tail}."
    ruled_out = low > -MARGIN
    text += f" A loss above {MARGIN:.2f} is {'outside' if ruled_out else 'within'} the interval."
    title = f"{name} is not shown to differ from {baseline}"
    return Finding("good" if ruled_out else "note", title, _join(text, _costs(figures, name)))


def _single_labels(figures: Figures, name: str, baseline: str) -> list[Finding]:
    """Labels that lose although the mean over labels is not shown to."""
    if figures.overall != MACRO or _side(_difference(figures, name)) < 0:
        return []
    found = []
    for label in figures.labels:
        d = _difference(figures, name, label)
        if d.bounds and _side(d) < 0:
            low, high = d.bounds
            digits = enough(d.value, low, high)
            text = f"AUC lower by {fixed(abs(d.value or 0), digits)} ({fixed(-high, digits)}–{fixed(-low, digits)}); "
            text += "the mean over labels hides it, and it is not corrected for the number of labels."
            found.append(Finding("warn", f"{name} is worse than {baseline} for {label}", text))
    return found


def _may_guess(figures: Figures, name: str) -> bool:
    """Whether the interval of the AUC includes chance."""
    bounds = figures.get("auc", name, figures.overall, "test").bounds
    return bounds is not None and bounds[0] <= CHANCE


def _chance(figures: Figures, name: str, baseline: str) -> list[Finding]:
    figure = figures.get("auc", name, figures.overall, "test")
    if figure.bounds is None or not _may_guess(figures, name):
        return []
    low, high = figure.bounds
    text = f"{_measured(figures)} {fixed(figure.value, 2)} ({fixed(low, 2)}–{fixed(high, 2)}); guessing gives 0.50."
    if name == baseline and len(figures.variants) > 1:
        title = f"The baseline {name} is not shown to be better than guessing"
        return [Finding("bad", title, f"{text} Comparisons with it say little.")]
    return [Finding("warn", f"{name} is not shown to be better than guessing", text)]


def _costs(figures: Figures, name: str) -> str:
    """What the variant keeps, weighs and takes."""
    share, ratio = figures.get("share_of_values", name), figures.get("times_smaller_than_jpeg95", name)
    speed, parts = figures.get("speed_ratio", name), []
    if share.value is not None:
        parts.append(f"keeps {percent(share.value)} of the values")
    if ratio.value is not None and ratio.value >= 1:
        parts.append(f"is {amount(ratio.value)} times smaller than JPEG at quality 95")
    if speed.value:
        faster = speed.value >= 1
        low, high = speed.bounds or (speed.value, speed.value)
        ends = (speed.value, low, high) if faster else (1 / speed.value, 1 / (high or 1), 1 / (low or 1))
        text = f"trains {amount(ends[0])} times {'faster' if faster else 'slower'} per image"
        parts.append(text + (f" ({amount(ends[1])}–{amount(ends[2])})" if speed.bounds and low > 0 else ""))
    return f"It {_listed(parts)}." if parts else ""


def _sizes(figures: Figures) -> list[Finding]:
    """Variants whose codes weigh more than an ordinary JPEG, though something is thrown away."""
    heavy = []
    for name in figures.variants:
        ratio, share = (figures.get(m, name).value for m in ("times_smaller_than_jpeg95", "share_of_values"))
        if ratio is not None and ratio < 1 and share is not None and share < 1:
            heavy.append(f"{name} ({amount(1 / max(ratio, 1e-9))} times)")
    if not heavy:
        return []
    title = "Fewer values, but not fewer bytes than JPEG at quality 95"
    return [Finding("note", title, f"Larger than JPEG: {_listed(heavy)}. JPEG keeps every pixel, nearly as it was.")]


# -- the headline --------------------------------------------------------------------------------------------------


def _alone(figures: Figures, name: str) -> str:
    auc = figures.get("auc", name, figures.overall, "test")
    if not auc.known:
        return "There is no test number to judge by: see the warnings and the tables."
    low, high = auc.bounds or (auc.value, auc.value)
    what = "a macro AUC" if figures.overall == MACRO else f"an AUC for {figures.overall}"
    text = f"{name} reaches {what} of {fixed(auc.value, 2)} ({fixed(low, 2)}–{fixed(high, 2)}) on the test cases"
    share = figures.get("share_of_values", name).value
    return text + (f", on {percent(share)} of the values." if share is not None and share < 1 else ".")


def _count(worse: Sequence[str], better: Sequence[str], rest: Sequence[str], baseline: str) -> str:
    total = len(worse) + len(better) + len(rest)
    if total == 1:
        (name,) = [*worse, *better, *rest]
        how = "is worse than" if worse else "is better than" if better else "is not shown to differ from"
        return f"{name} {how} {baseline}."
    if not worse:
        text = f"None of the {total} other variants is shown to be worse than {baseline}"
        return text + (f"; {_listed(better)} {'is' if len(better) == 1 else 'are'} better." if better else ".")
    if len(worse) == total:
        return f"All {total} other variants are worse than {baseline}."
    text = f"Of {total} variants, {_some(worse)} {'is' if len(worse) == 1 else 'are'} worse than {baseline}"
    if better:
        text += f", {_some(better)} {'is' if len(better) == 1 else 'are'} better"
    return text + (f", and {len(rest)} {'is' if len(rest) == 1 else 'are'} not shown to differ." if rest else ".")


def _smallest(figures: Figures, compared: dict[str, Figure], worse: Sequence[str]) -> str:
    """The variant that keeps least among those not shown to be worse."""
    shares = {v: figures.get("share_of_values", v).value for v in compared}
    pool = {
        v: s for v, s in shares.items() if s is not None and s < 1 and (v not in worse or len(worse) == len(shares))
    }
    if not pool:
        return ""
    name = min(pool, key=lambda v: pool[v])
    d = compared[name]
    low, high = d.bounds or (0.0, 0.0)
    digits = enough(d.value, low, high)
    numbers = f"{fixed(d.value, digits, True)} ({fixed(low, digits, True)} to {fixed(high, digits, True)})"
    if len(compared) == 1:
        return f"It keeps {percent(pool[name])} of the values; its AUC differs by {numbers}."
    group = "all" if not worse or len(worse) == len(shares) else "these"
    who = f"{name} keeps least of {group}" if len(pool) > 1 else name
    return (
        f"{who}, {percent(pool[name])} of the values; its AUC differs by {numbers}."
        if len(pool) > 1
        else (f"{name} keeps {percent(pool[name])} of the values; its AUC differs by {numbers}.")
    )


def _some(names: Sequence[str]) -> str:
    return _listed(names) if len(names) <= 2 else str(len(names))


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _join(*parts: str) -> str:
    return " ".join(p for p in parts if p)
