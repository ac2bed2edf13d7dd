"""Pages on where maps point, whether they can be trusted, what leaves, and the frontier: exact, escaped, optional."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from report_evidence import (
    CERTIFICATE,
    SECRET,
    add_audit,
    add_frontier,
    add_pointing,
    add_store,
    add_trust,
    audit_row,
    put,
)
from report_page import HOSTILE, Page, page_of
from report_run import LABELS, write_run

VARIANTS = ("raw", "lines")
NEW = ("pointing", "trust", "leaving", "frontier")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", variants=VARIANTS, cases=2)


def section(text: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', text, re.S)
    assert found is not None, name
    return found[0]


def cells(html: str) -> list[list[str]]:
    """The words of every row of every table."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.S)
    return [[" ".join(Page(c).text) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)] for row in rows]


def test_old_runs_show_none_of_it(run: Path) -> None:
    page, _ = page_of(run)
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert not ids & set(NEW)
    assert not {f"#{name}" for name in NEW} & {a.get("href") for _, a in page.tags}


@pytest.mark.parametrize("name", ["metrics", "trust", "audit", "frontier"])
def test_broken_files_are_as_absent(run: Path, name: str) -> None:
    for broken in ("{", "null", '[1, {"attack": 3}, []]', '{"rows": 3, "a": {"verdicts": [2]}}'):
        (run / f"{name}.json").write_text(broken)
        page_of(run)


# -- where the maps point ------------------------------------------------------------------------------------------


def test_pointing_table_holds_every_number(run: Path) -> None:
    add_pointing(run, VARIANTS, LABELS)
    _, text = page_of(run)
    found = cells(section(text, "pointing"))
    heads = [row for row in found if row[0] == "Map"]
    assert heads[0][1:6] == ["Average precision", "Pointing game", "IoU", "Energy inside", "IoU, Otsu"]
    names = [row[0] for row in found[1:8]]
    assert names[0].startswith("Chance") and names[1].startswith("Random map") and names[2].startswith("Blob")
    assert found[1][1].startswith("0.123") and found[1][3] == "–"
    last = next(row for row in found if row[0].startswith("lines") and "HiResCAM" in row[0])
    assert last[1].startswith("0.730 0.680–0.780") and "7 undefined" in last[1]
    assert last[6].split() == ["+0.300", "+0.250", "to", "+0.350", "p\u00a0=\u00a00.004"] or "+0.300" in last[6]
    assert next(row for row in found if "Grad-CAM" in row[0] and row[0].startswith("raw"))[6] == "reference"


def test_relative_change_of_the_best(run: Path) -> None:
    """0.7 / 0.4 − 1 = 75 %; by the same method, (0.7 + 0.03) / (0.5 + 0.03) − 1 = 38 %."""
    add_pointing(run, VARIANTS, LABELS)
    _, text = page_of(run)
    words = " ".join(Page(section(text, "pointing")).text)
    assert "OrganIoU of lines, HiResCAM is 0.700, that of raw, Grad-CAM 0.400: 75\u00a0% more." in words
    assert "By the same method, HiResCAM, raw has 0.530: 38\u00a0% more." in words


@pytest.mark.parametrize(("n", "warned"), [(7, True), (40, False)])
def test_how_many_were_scored_is_said(run: Path, n: int, warned: bool) -> None:
    add_pointing(run, VARIANTS, LABELS)
    rows = json.loads((run / "metrics.json").read_text())
    put(run / "metrics.json", [r | {"n": n} if r.get("target") else r for r in rows])
    _, text = page_of(run)
    words = " ".join(Page(section(text, "pointing")).text)
    assert f"all labels pooled, n {n}" in words
    assert ("So little could be scored (n = 7)" in words) == warned


def test_pointing_by_label_and_size(run: Path) -> None:
    add_pointing(run, VARIANTS, LABELS)
    _, text = page_of(run)
    found = cells(section(text, "pointing"))
    at = next(i for i, row in enumerate(found) if row == ["Map", "small", "large"])
    assert found[at + 1][1].startswith("0.130") and found[at + 1][2].startswith("0.180")
    assert ["Map", *LABELS] in found


# -- can the maps be trusted ---------------------------------------------------------------------------------------


def test_trust_tells_verdict_number_and_limit(run: Path) -> None:
    add_trust(run, "raw")
    _, text = page_of(run)
    html = section(text, "trust")
    line = next(row for row in cells(html) if row[0].startswith("HiResCAM"))
    assert line[0] == "HiResCAM 1 of 2 passed"
    assert line[1].startswith("passes 0.410 (0.360–0.460)") and "p\u00a0=\u00a00.01" in line[1]
    assert line[2].startswith("fails 0.610 (0.560–0.660)") and "SSIM, limit 0.200" in line[2]
    assert line[3] == "n/a not measured"
    assert "upper limit below 0.2" in html and "0.300" in html


# -- what leaves ---------------------------------------------------------------------------------------------------


def test_audit_has_plain_on_top_and_noise_below(run: Path) -> None:
    add_audit(run, ["hline", "packet"])
    _, text = page_of(run)
    found = cells(section(text, "leaving"))
    at = next(i for i, row in enumerate(found) if row[0] == "Store")
    assert [row[0].split()[0] for row in found[at + 1 : at + 5]] == ["plain", "hline", "packet", "noise"]
    plain, hline = found[at + 1], found[at + 2]
    assert plain[1] == "0.950 0.900–1.000 chance 0.5, l2"
    assert hline[3] == "0.650 0.600–0.700 of 50, chance 0.02, l2"
    assert hline[5].startswith("0.700") and hline[5].endswith("sex, chance 0.5, mlp")
    assert hline[6] == "0.300 0.250–0.350 corner, chance 0.1, ridge"
    assert "what attackers of one budget learned" in text and "does not test what an attacker learns" not in text


def test_numbers_of_a_failed_control_are_withheld(run: Path) -> None:
    add_audit(run, ["hline"], linkage_holds=False)
    _, text = page_of(run)
    html = section(text, "leaving")
    line = next(row for row in cells(html) if row[0] == "hline")
    assert line[4] == "withheld control 'constant' gave 0.930 instead of chance"
    words = " ".join(Page(html).text)
    assert "Of 5 attacks, 1 failed a control or lack one; their numbers are withheld: linkage_same/l2." in words
    assert ["linkage_same/l2", "holds 1.000 0.950–1.050", "fails 0.930 0.880–0.980"] in cells(html)


def test_no_attack_is_chosen_by_how_it_came_out(run: Path) -> None:
    rows = [
        audit_row("attributes", rung, "sex.auc", "hline", 0.6 + 0.2 * k) for k, rung in enumerate(("mlp", "linear"))
    ]
    put(run / "audit.json", rows)
    _, text = page_of(run)
    line = next(row for row in cells(section(text, "leaving")) if row[0] == "hline")
    assert line[1] == "n/a no attack was chosen"


def test_what_was_not_tested_is_named(run: Path) -> None:
    add_audit(run, ["hline"])
    _, text = page_of(run)
    words = " ".join(Page(section(text, "leaving")).text)
    for name in ("linkage_other", "reconstruction", "unlinkability", "membership"):
        assert f"({name})" in words
    assert "(verification)" not in words and "another clinic" in words and "vacuous" in words


def test_weak_attackers_are_called_weak(run: Path) -> None:
    put(run / "audit.json", [audit_row("verification", "l2", "auc", name, 0.52) for name in ("plain", "hline")])
    _, text = page_of(run)
    assert "Even from the plain image the attackers do no better than chance" in section(text, "leaving")


def test_certificate_tells_what_it_does_not_cover(run: Path) -> None:
    add_store(run, "noisy", {"kind": "noise", "inner": {"kind": "heartspot", "prior": "hline"}}, CERTIFICATE)
    _, text = page_of(run)
    words = " ".join(Page(section(text, "leaving")).text)
    assert "One image: ε = 0.500." in words and "All 4 images of a patient: ε = 2." in words
    assert "ε = 812. Vacuous: the number is so large that it promises nothing." in words
    assert "who the patient is" in words and "what the label tells" in words
    assert "horizontal lines. The rest is thrown away. Noise is added to every number." in words
    assert any(row[0].startswith("noisy") and row[-1].startswith("vacuous 812") for row in cells(text))
    assert "500 B" in words and "Not tested: no attack was run" in words


def test_nothing_promises_more_than_was_tested(run: Path) -> None:
    """A reader who answers for the data must not meet a word that promises what no audit can."""
    add_audit(run, ["hline"], linkage_holds=False)
    add_store(run, "noisy", {"kind": "noise"}, CERTIFICATE)
    add_frontier(run, [("hline", "lines", 0.8, 0.3, True)], "hline")
    _, text = page_of(run)
    for name in ("leaving", "frontier"):
        words = " ".join(Page(section(text, name)).text).lower()
        assert not re.search(r"anonym|\bsafe|\bsecure|guaranteed", words)


# -- frontier ------------------------------------------------------------------------------------------------------


def test_frontier_table_and_plot(run: Path) -> None:
    add_frontier(run, [("plain", "raw", 0.9, 0.8, True), ("hline", "lines", 0.85, 0.2, True)], "hline")
    _, text = page_of(run)
    html = section(text, "frontier")
    line = next(row for row in cells(html) if row[0].startswith("hline"))
    assert line[1] == "0.850 0.800–0.900" and line[3] == "0.200 0.150–0.250" and line[-1] == "yes"
    assert line[5] == "0.400 0.350–0.450 HiResCAM, map average precision"
    assert "Recommended among these: hline, since its rank-1 is the lowest of 2." in html
    dots = [tuple(float(v) for v in pair) for pair in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="5"', html)]
    (plain_x, plain_y), (hline_x, hline_y) = dots
    assert plain_x > hline_x and plain_y < hline_y
    span = (0.85 - 0.15) * 1.12  # padded by 6 % on each side
    assert plain_x - hline_x == pytest.approx((0.8 - 0.2) / span * (460 - 12 - 50), abs=0.1)
    assert len(re.findall(r'class="whisker', html)) == 4 and 'class="guide"' in html


def test_no_recommendation_is_said(run: Path) -> None:
    add_frontier(run, [("plain", "raw", 0.9, 0.8, True)])
    _, text = page_of(run)
    assert "No store is recommended" in section(text, "frontier")


# -- pictures ------------------------------------------------------------------------------------------------------


def add_arrays(run: Path, variant: str, arrays: dict[str, Any]) -> None:
    path = run / "maps" / variant / "maps.safetensors"
    save_file(load_file(path) | arrays, path)


def test_gaze_stands_beside_the_maps(run: Path) -> None:
    gaze = np.zeros((2, 1, 12, 12), np.float32)
    gaze[0, 0, 3, 4] = 1.0
    add_arrays(run, "raw", {"gaze": gaze})
    page, _ = page_of(run)
    assert [a.get("aria-label") for a in page.all("svg")].count("where a reader looked") == 1


def test_a_secret_mask_is_never_drawn(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["variants"]["lines"]["store"] = "lines-store"
    (run / "run.json").write_text(json.dumps(record))
    page, _ = page_of(run)
    before = [a.get("aria-label", "") for a in page.all("svg")]
    assert "what lines keeps of the image" in before and "by Gradient × code" in " ".join(before)
    inner = {"kind": "heartspot", "prior": "rline", "secret": SECRET}
    add_store(run, "lines-store", {"kind": "noise", "inner": inner})
    page, text = page_of(run)
    after = [a.get("aria-label", "") for a in page.all("svg")]
    assert not any("lines keeps" in x or "mask of the places" in x or "Gradient × code" in x for x in after)
    assert "which pixels a secret chose" in text


# -- hostile strings -----------------------------------------------------------------------------------------------


def test_hostile_strings_stay_text(run: Path) -> None:
    add_pointing(run, VARIANTS, (HOSTILE, "b"))
    add_trust(run, HOSTILE, HOSTILE)
    add_audit(run, [HOSTILE])
    rows = json.loads((run / "audit.json").read_text())
    rows += [
        audit_row(HOSTILE, HOSTILE, HOSTILE, HOSTILE, None, reason=HOSTILE, rung=HOSTILE, budget={HOSTILE: HOSTILE})
    ]
    put(run / "audit.json", rows)
    add_store(run, "noisy", {"kind": HOSTILE}, CERTIFICATE | {"guarantee": HOSTILE, "not_covered": [HOSTILE]})
    add_frontier(run, [(HOSTILE, HOSTILE, 0.8, 0.3, True)], HOSTILE)
    page, text = page_of(run)
    assert "<script" not in text and not page.all("script")
    assert all(name in text for name in ('id="pointing"', 'id="trust"', 'id="leaving"', 'id="frontier"'))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
