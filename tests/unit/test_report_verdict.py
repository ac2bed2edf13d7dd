"""The verdict's words, written out by hand for constructed numbers."""

from __future__ import annotations

from typing import Any

import pytest

from translucid.report import headline, verdict
from translucid.types import Finding

HEAD = {"label": "macro", "split": "test", "n": 90, "level": 0.95}


def difference(
    variant: str,
    value: float | None,
    low: float | None,
    high: float | None,
    p: float | None = None,
    label: str = "macro",
) -> dict[str, Any]:
    row = HEAD | {"label": label, "variant": variant, "versus": "plain", "measure": "auc_difference"}
    return row | {"value": value, "low": low, "high": high, "p": p}


def auc(variant: str, value: float, low: float, high: float, label: str = "macro") -> dict[str, Any]:
    return HEAD | {"label": label, "variant": variant, "measure": "auc", "value": value, "low": low, "high": high}


def cost(
    variant: str, measure: str, value: float, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    row = {"variant": variant, "measure": measure, "label": "", "split": "", "n": 1, "level": 1.0}
    return row | {"value": value, "low": low, "high": high}


WORDED = [
    (
        (-0.08, -0.14, -0.02, 0.008),
        "bad",
        "a is worse than plain",
        "Macro AUC lower by 0.08 (0.02–0.14), p\u00a0=\u00a00.008.",
    ),
    (
        (0.03, 0.01, 0.05, 0.0001),
        "good",
        "a is better than plain",
        "Macro AUC higher by 0.03 (0.01–0.05), p\u00a0<\u00a00.001.",
    ),
    (
        (-0.04, -0.12, 0.03, 0.31),
        "note",
        "a is not shown to differ from plain",
        "Macro AUC differs by −0.04; the interval allows −0.12 to +0.03, p\u00a0=\u00a00.31. "
        "A loss above 0.05 is within the interval.",
    ),
    (
        (0.0, -0.02, 0.02, None),
        "good",
        "a is not shown to differ from plain",
        "Macro AUC differs by 0.00; the interval allows −0.02 to +0.02. A loss above 0.05 is outside the interval.",
    ),
    (
        (-0.05, -0.101, -0.0004, 0.049),
        "bad",
        "a is worse than plain",
        "Macro AUC lower by 0.0500 (0.0004–0.1010), p\u00a0=\u00a00.05.",
    ),
    (
        (-0.02, None, None, 0.2),
        "note",
        "a could not be compared with plain",
        "No difference of AUC with an interval is given.",
    ),
]


@pytest.mark.parametrize(("numbers", "level", "title", "detail"), WORDED)
def test_one_comparison_in_words(numbers: tuple[Any, ...], level: str, title: str, detail: str) -> None:
    assert verdict([difference("a", *numbers)], "plain") == [Finding(level, title, detail)]


def test_equality_is_never_claimed() -> None:
    for low in (-0.2, -0.05, -0.001):
        rows = [difference("a", 0.0, low, 0.01, 0.9), auc("a", 0.8, 0.7, 0.9)]
        text = " ".join(f.title + f.detail for f in verdict(rows, "plain")) + headline(rows, "plain")
        assert "not shown to differ" in text
        for word in ("equal", "as good as", "no difference", "the same as", "equivalent"):
            assert word not in text


def test_costs_stand_beside_the_difference() -> None:
    rows = [
        difference("a", -0.08, -0.14, -0.02),
        cost("a", "share_of_values", 0.0634),
        cost("a", "times_smaller_than_jpeg95", 3.734),
        cost("a", "speed_ratio", 0.5, 0.4, 0.8),
    ]
    assert verdict(rows, "plain")[0].detail == (
        "Macro AUC lower by 0.08 (0.02–0.14). It keeps 6.3\u00a0% of the values, is 3.73 times smaller than JPEG at "
        "quality 95 and trains 2 times slower per image (1.25–2.50)."
    )


def test_a_label_that_loses_is_not_hidden_by_the_mean() -> None:
    rows = [
        difference("a", -0.02, -0.04, 0.01),
        difference("a", -0.1, -0.2, -0.01, label="effusion"),
        difference("a", 0.05, -0.01, 0.1, label="mass"),
    ]
    found = verdict(rows, "plain")
    assert [(f.level, f.title) for f in found] == [
        ("warn", "a is worse than plain for effusion"),
        ("good", "a is not shown to differ from plain"),
    ]
    assert found[0].detail.startswith("AUC lower by 0.10 (0.01–0.20); the mean over labels hides it")


def test_guessing_and_heavy_codes_are_named() -> None:
    rows = [auc("a", 0.55, 0.45, 0.65), cost("a", "share_of_values", 0.25), cost("a", "times_smaller_than_jpeg95", 0.8)]
    assert verdict(rows, "a") == [
        Finding(
            "warn", "a is not shown to be better than guessing", "Macro AUC 0.55 (0.45–0.65); guessing gives 0.50."
        ),
        Finding(
            "note",
            "Fewer values, but not fewer bytes than JPEG at quality 95",
            "Larger than JPEG: a (1.25 times). JPEG keeps every pixel, nearly as it was.",
        ),
    ]


def test_a_baseline_that_guesses_is_said_first() -> None:
    rows = [difference("a", -0.1, -0.2, -0.05), auc("plain", 0.55, 0.45, 0.65), auc("a", 0.8, 0.7, 0.9)]
    assert headline(rows, "plain") == (
        "The baseline plain is not shown to be better than guessing, so comparisons with it say little. "
        "a is worse than plain."
    )
    assert verdict(rows, "plain")[0] == Finding(
        "bad",
        "The baseline plain is not shown to be better than guessing",
        "Macro AUC 0.55 (0.45–0.65); guessing gives 0.50. Comparisons with it say little.",
    )


def test_gravest_first() -> None:
    rows = [difference("good", 0.1, 0.05, 0.2), difference("bad", -0.1, -0.2, -0.05), difference("note", 0, -0.1, 0.1)]
    assert [f.level for f in verdict(rows, "plain")] == ["bad", "note", "good"]


HEADLINES = [
    ([], "There are no numbers yet: the variants have not been evaluated."),
    ([auc("plain", 0.8, 0.7, 0.9)], "plain reaches a macro AUC of 0.80 (0.70–0.90) on the test cases."),
    ([difference("a", -0.1, -0.2, -0.05)], "a is worse than plain."),
    ([difference("a", 0.0, -0.2, 0.05)], "a is not shown to differ from plain."),
    (
        [difference("a", 0.0, -0.2, 0.05), difference("b", 0.0, -0.1, 0.05)],
        "None of the 2 other variants is shown to be worse than plain.",
    ),
    (
        [difference("a", -0.1, -0.2, -0.05), difference("b", -0.1, -0.2, -0.05)],
        "All 2 other variants are worse than plain.",
    ),
    (
        [
            difference("a", -0.1, -0.2, -0.05),
            difference("b", -0.02, -0.07, 0.03),
            difference("c", 0.0, -0.1, 0.1),
            cost("b", "share_of_values", 0.0634),
            cost("c", "share_of_values", 0.5),
        ],
        "Of 3 variants, a is worse than plain, and 2 are not shown to differ. b keeps least of these, "
        "6.3\u00a0% of the values; its AUC differs by −0.02 (−0.07 to +0.03).",
    ),
    (
        [difference("a", -0.02, -0.07, 0.03), cost("a", "share_of_values", 0.0634)],
        "a is not shown to differ from plain. It keeps 6.3\u00a0% of the values; "
        "its AUC differs by −0.02 (−0.07 to +0.03).",
    ),
]


@pytest.mark.parametrize(("rows", "text"), HEADLINES)
def test_headline_in_words(rows: list[dict[str, Any]], text: str) -> None:
    assert headline(rows, "plain") == text


@pytest.mark.parametrize(
    "junk",
    [[{}], [{"measure": "auc"}], [{"variant": "a", "value": "x"}], [None], [3], [difference("a", None, None, None)]],
)
def test_junk_rows_do_not_stop_the_verdict(junk: list[Any]) -> None:
    assert isinstance(headline(junk, "plain"), str)
    assert all(f.level in ("good", "note", "warn", "bad") for f in verdict(junk, "plain"))
