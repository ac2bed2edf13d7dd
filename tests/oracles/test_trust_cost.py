"""What the protocol of trust computes only once, and that the numbers are those of computing it each time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiny_nets import Net, images, seeded
from translucid.evaluate import TrustCases, TrustModels, TrustSettings, measure_trust
from translucid.evaluate.faithful import ends, perturbation_curve, ranks, removal_drops, squares
from translucid.evaluate.road import road
from translucid.explain import post_hoc
from translucid.tensors import Explanation

QUICK = TrustSettings(steps=4, stages=2, removals=12, resamples=300, shares=(0.3,))


def test_labels_of_one_image_are_explained_together_and_the_numbers_stay() -> None:
    model, other, x = seeded(Net("gap")), seeded(Net("gap"), 3), images(6, 1, 6, 6)
    present = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]], float)
    cases = TrustCases(x, ("u", "v", "w"), tuple("abcdef"), present=present)
    asked: list[tuple[int, tuple[int, ...]]] = []

    def watched(explainer: Any) -> Any:
        def explain(model: Any, x: Tensor, labels: Any) -> Explanation:
            asked.append((len(x), tuple(labels)))
            return explainer(model, x, labels)

        return explain

    def alone(explainer: Any) -> Any:
        """One image and one label at a time."""

        def explain(model: Any, x: Tensor, labels: Any) -> Explanation:
            each = [[explainer(model, one, [k]) for k in labels] for one in x.split(1)]
            joined = torch.cat([torch.cat([found.maps for found in row], 1) for row in each])
            return replace(each[0][0], maps=joined, labels=tuple(labels))

        return explain

    settings, models = replace(QUICK, pairs=0, sanity=3, rows=1), TrustModels(model, other)
    parts = ["faithfulness", "repeatability"]
    both = [
        measure_trust(cases, models, {n: how(e) for n, e in post_hoc().items()}, settings, parts=parts)
        for how in (watched, alone)
    ]
    assert set(both[0]) == set(both[1])
    for measure, columns in both[0].items():
        for name, table in columns.items():
            np.testing.assert_allclose(table, both[1][measure][name], rtol=0, atol=1e-6, err_msg=f"{measure} {name}")
    assert asked.count((1, (0, 1))) >= 8 * 2 and asked.count((1, (0, 1, 2))) >= 8
    assert {n for n, _ in asked} == {1}, "no more images at once than the settings allow"


def test_no_more_forward_passes_than_are_told() -> None:
    model, passes = seeded(Net("gap")), [0]

    def counted(x: Tensor) -> Tensor:
        passes[0] += len(x)
        return model(x).logits

    cases = TrustCases(images(6, 1, 6, 6), ("u", "v", "w"), tuple("abcdef"), present=np.ones((6, 3)))
    settings = replace(QUICK, pairs=10)
    tables = measure_trust(cases, TrustModels(counted), {}, settings)
    maps = len(tables["road"])
    each = 2 * (settings.steps - 1) + 2 * len(settings.shares)
    assert maps == 3 and passes[0] == 10 * (maps * each + settings.removals + 2)


def test_curves_are_the_same_with_and_without_what_is_known_beforehand() -> None:
    model, x, maps = seeded(Net("fc")), images(5, 1, 6, 6), images(5, 6, 6, seed=4)
    labels, forward = torch.tensor([0, 2, 1, 1, 0]), lambda x: model(x).logits
    known, order = ends(forward, x, labels), ranks(maps, 7)
    passes: list[int] = []

    def counted(x: Tensor) -> Tensor:
        passes.append(len(x))
        return forward(x)

    for mode in ("insertion", "deletion"):
        plain = perturbation_curve(forward, x, maps, labels, mode, steps=4, seed=7)
        shared = perturbation_curve(counted, x, maps, labels, mode, steps=4, seed=7, known=known, order=order)
        torch.testing.assert_close(shared, plain, rtol=0, atol=1e-12)
    assert sum(passes) == 2 * 5 * 3, "neither end is computed again"
    masks = squares((6, 6), 5, 0.4, 1)
    torch.testing.assert_close(
        removal_drops(forward, x, labels, masks, known=known), removal_drops(forward, x, labels, masks)
    )
    torch.testing.assert_close(
        road(forward, x, maps, labels, seed=7, order=order), road(forward, x, maps, labels, seed=7)
    )
    one = perturbation_curve(counted, x, maps, labels, "deletion", steps=1, known=known)
    torch.testing.assert_close(one, torch.stack([known.whole, known.bare], 1).sigmoid(), rtol=0, atol=0)
    assert sum(passes) == 2 * 5 * 3
