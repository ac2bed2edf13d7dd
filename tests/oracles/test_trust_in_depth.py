"""The whole protocol of trust on tiny volumes, every number once more: voxel by voxel, in the papers' notation."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from translucid.evaluate import TrustCases, TrustModels, TrustSettings, measure_trust, randomised_copies
from translucid.evaluate.baseline_maps import centre_prior, random_maps
from translucid.evaluate.faithful import nearby, squares
from translucid.evaluate.trust_cases import Pairs, choose_pairs, partner
from translucid.tensors import Explanation, Placement

SPACE = (5, 7, 9)
"""Odd, so that cells at every second voxel end with the volume and no two voxels of a map are equal."""
VOXELS = list(product(*map(range, SPACE)))
HOW = TrustSettings(
    pairs=7, sanity=5, steps=3, removals=6, side=0.5, nearby=2, stages=2, shares=(0.3, 0.6), rows=4, seed=3,
    localisation=("map_average_precision", "pointing_game", "energy_share", "signed_share", "iou_otsu"),
)  # fmt: skip


class Net(nn.Module):
    """A convolution, a bend, and a weight for every voxel."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.see, self.fc = nn.Conv3d(1, 3, 3, padding=1).double(), nn.Linear(3 * len(VOXELS), 2).double()
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=draw, dtype=torch.float64) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.see(x).tanh().flatten(1))


def part_of_each_voxel(model: Net, x: Tensor, labels: Any) -> Explanation:
    """What each second voxel adds to the logit: cells at 0, 2, 4, … of each axis."""
    with torch.no_grad():
        a = model.see(x).tanh()
        found = (a.unsqueeze(1) * model.fc.weight[list(labels)].view(1, len(labels), *a.shape[1:])).sum(2)
    zero = torch.zeros(len(x), len(labels))
    return Explanation(
        found[..., ::2, ::2, ::2], tuple(labels), "own", False, zero, zero, Placement((0.0,) * 3, (2.0,) * 3)
    )


# -- the slow half -------------------------------------------------------------------------------------------------


def slow_map(model: Net, x: Tensor, label: int) -> np.ndarray:
    """One image's map on its voxels, linear between the cells and the outermost cell beyond them."""
    cells = part_of_each_voxel(model, x[None], [label]).maps[0, 0].numpy()
    out = np.zeros(SPACE)
    for voxel in VOXELS:
        for corner in product((0, 1), repeat=3):
            at, weight = [], 1.0
            for v, c, n in zip(voxel, corner, cells.shape, strict=True):
                place = min(v / 2, n - 1)
                left = min(math.floor(place), max(n - 2, 0))
                at.append(min(left + c, n - 1))
                weight *= (place - left) if c else 1 - (place - left)
            out[voxel] += weight * cells[tuple(at)]
    return out.astype(np.float32)


def slow_precision(mask: np.ndarray, a: np.ndarray) -> float:
    total, before = 0.0, 0.0
    for cut in sorted(set(a.flatten().tolist()), reverse=True):
        called = a >= cut
        recall = (mask & called).sum() / mask.sum()
        total += (recall - before) * (mask & called).sum() / called.sum()
        before = recall
    return total


def slow_otsu(mask: np.ndarray, a: np.ndarray) -> float:
    """IoU above the cut that parts the positive evidence best."""
    p = np.maximum(a, 0).astype(np.float64)
    best, spread = 0.0, -1.0
    for cut in sorted(set(p.flatten().tolist()))[:-1]:
        low, high = p[p <= cut], p[p > cut]
        if (between := len(low) * len(high) * (high.mean() - low.mean()) ** 2) > spread + 1e-12:
            best, spread = cut, between
    return ((p > best) & mask).sum() / ((p > best) | mask).sum()


LOCAL: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "map_average_precision": slow_precision,
    "pointing_game": lambda m, a: (m & (a == a.max())).sum() / (a == a.max()).sum(),
    "energy_share": lambda m, a: np.maximum(a, 0)[m].sum() / np.maximum(a, 0).sum(),
    "signed_share": lambda m, a: a[m].sum() / np.abs(a).sum(),
    "iou_otsu": slow_otsu,
}


def slow_blur(x: np.ndarray) -> np.ndarray:
    """A Gaussian of 5 % of each side in turn, cut at three of them, edges repeated."""
    for axis, n in enumerate(SPACE):
        sigma = 0.05 * n
        reach = max(1, math.ceil(3 * sigma))
        taps = [math.exp(-((k / sigma) ** 2) / 2) for k in range(-reach, reach + 1)]
        out = np.zeros(SPACE)
        for voxel in VOXELS:
            for k, tap in zip(range(-reach, reach + 1), taps, strict=True):
                other = list(voxel)
                other[axis] = min(max(voxel[axis] + k, 0), n - 1)
                out[voxel] += tap / sum(taps) * x[tuple(other)]
        x = out
    return x


def logit(model: Net, x: np.ndarray, label: int) -> float:
    with torch.no_grad():
        return float(model(torch.from_numpy(x)[None, None])[0, label])


def chance(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def order_of(a: np.ndarray) -> list[tuple[int, ...]]:
    return sorted(VOXELS, key=lambda v: -float(a[v]))


def slow_area(model: Net, x: np.ndarray, a: np.ndarray, label: int, mode: str) -> float:
    cover = slow_blur(x)
    start, end = (x, cover) if mode == "deletion" else (cover, x)
    heights = []
    for k in range(HOW.steps + 1):
        mixed = start.copy()
        for voxel in order_of(a)[: round(k * len(VOXELS) / HOW.steps)]:
            mixed[voxel] = end[voxel]
        heights.append(chance(logit(model, mixed, label)))
    return float(np.trapezoid(heights, np.linspace(0, 1, HOW.steps + 1)))


def slow_fill(x: np.ndarray, gone: list[tuple[int, ...]]) -> np.ndarray:
    """Every missing voxel the weighted mean of its neighbours: a direct solution of the whole system."""
    number = {v: i for i, v in enumerate(gone)}
    matrix, right = np.zeros((len(gone),) * 2), np.zeros(len(gone))
    for v, i in number.items():
        for step in product((-1, 0, 1), repeat=3):
            w = tuple(int(c) for c in np.add(v, step))
            if any(step) and all(0 <= c < n for c, n in zip(w, SPACE, strict=True)):
                weight = 0.5 ** sum(map(abs, step)) / 7
                matrix[i, i] += weight
                if w in number:
                    matrix[i, number[w]] -= weight
                else:
                    right[i] += weight * x[w]
    out = x.copy()
    for v, value in zip(gone, np.linalg.solve(matrix, right), strict=True):
        out[v] = value
    return out


def slow_road(model: Net, x: np.ndarray, a: np.ndarray, label: int) -> float:
    draw = torch.Generator().manual_seed(HOW.seed)
    noise = 0.01 * (x.max() - x.min()) * torch.randn((1, *SPACE), generator=draw, dtype=torch.float64)[0].numpy()
    total = 0.0
    for share in HOW.shares:
        count = round(share * len(VOXELS))
        for sign, gone in ((-1, order_of(a)[:count]), (1, order_of(a)[-count:])):
            filled = slow_fill(x, gone)
            for v in gone:
                filled[v] += noise[v]
            total += sign * chance(logit(model, filled, label)) / (2 * len(HOW.shares))
    return total


def slow_infidelity(model: Net, x: np.ndarray, a: np.ndarray, label: int) -> float:
    """The share of the drops' mean square that the best multiple of the map leaves."""
    cover, said, dropped = slow_blur(x), [], []
    for cube in squares(SPACE, HOW.removals, HOW.side, HOW.seed).numpy():
        said.append(float(a.astype(np.float64)[cube].sum()))
        dropped.append(logit(model, x, label) - logit(model, np.where(cube, cover, x), label))
    e, d = np.array(said), np.array(dropped)
    beta = (e * d).mean() / (e * e).mean()
    return float(((beta * e - d) ** 2).mean() / (d * d).mean())


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Cube by cube; the window is as wide as each side allows, at most 11."""
    a, b = (m.astype(np.float64) / np.abs(m).max() for m in (a, b))
    sides = [min(11, n - (n + 1) % 2) for n in SPACE]
    bells = [np.exp(-((np.arange(s) - s // 2) ** 2) / (2 * 1.5**2)) for s in sides]
    w = np.einsum("i,j,k->ijk", *(g / g.sum() for g in bells))
    found = []
    for corner in product(*(range(n - s + 1) for n, s in zip(SPACE, sides, strict=True))):
        cube = tuple(slice(c, c + s) for c, s in zip(corner, sides, strict=True))
        p, q = a[cube], b[cube]
        mp, mq = (w * p).sum(), (w * q).sum()
        vp, vq, both = (w * p * p).sum() - mp**2, (w * q * q).sum() - mq**2, (w * p * q).sum() - mp * mq
        c1, c2 = 0.02**2, 0.06**2
        found.append((2 * mp * mq + c1) * (2 * both + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(found))


ALIKE = {"ssim": slow_ssim, "rank_correlation": lambda a, b: float(stats.spearmanr(a.ravel(), b.ravel())[0])}


def slow_centre() -> np.ndarray:
    out = np.zeros(SPACE)
    for v in VOXELS:
        out[v] = math.exp(-sum(((c - (n - 1) / 2) / (n / 4)) ** 2 for c, n in zip(v, SPACE, strict=True)) / 2)
    return out


def slow_edges(x: np.ndarray) -> np.ndarray:
    out = np.zeros(SPACE)
    for v in VOXELS:
        for axis, n in enumerate(SPACE):
            low, high = list(v), list(v)
            low[axis], high[axis] = max(v[axis] - 1, 0), min(v[axis] + 1, n - 1)
            out[v] += ((x[tuple(high)] - x[tuple(low)]) / (high[axis] - low[axis])) ** 2
    return np.sqrt(out)


# -- both --------------------------------------------------------------------------------------------------------


class Bench:
    """Ten volumes with a bright block each, a network, two more of them, and everything measured once."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        masks = np.zeros((10, 2, *SPACE), bool)
        for k in range(10):
            z, y, x = (int(rng.integers(0, n - 2)) for n in SPACE)
            masks[k, k % 2, z : z + 2, y : y + 3, x : x + 2] = True
        masks[3, 0] = masks[2, 0]
        volumes = torch.from_numpy(rng.random((10, 1, *SPACE)) + 0.5 * masks.any(1, keepdims=True))
        self.average = masks.mean(0).astype(np.float32)
        patients = tuple(f"p{k // 2}" for k in range(10))
        self.cases = TrustCases(volumes, ("u", "v"), patients, masks, average=self.average)
        self.model, self.other = Net(0), Net(1)
        models = TrustModels(self.model, self.other, {"a": Net(2), "b": Net(4)}, Net(5))
        self.tables = measure_trust(self.cases, models, {"own": part_of_each_voxel}, HOW)
        self.pairs: Pairs = choose_pairs(self.cases, self.model, HOW)
        self.architectures, self.shuffled = list(models.architectures.values()), models.random_labels

    def image(self, row: int) -> np.ndarray:
        found: np.ndarray = self.cases.images[self.pairs.image[row], 0].numpy()
        return found

    def label(self, row: int) -> int:
        return int(self.pairs.label[row])

    def map(self, row: int, model: Net | None = None, image: np.ndarray | None = None) -> np.ndarray:
        x = self.image(row) if image is None else image
        return slow_map(model or self.model, torch.from_numpy(x)[None], self.label(row))

    def check(self, measure: str, name: str, rows: Any, slow: Callable[[int], float], within: float = 1e-6) -> None:
        """A column of the tables against numbers made one by one; nan everywhere else."""
        wanted = np.full((10, 2), np.nan)
        for row in rows:
            wanted[self.pairs.image[row], self.label(row)] = slow(int(row))
        np.testing.assert_allclose(self.tables[measure][name], wanted, rtol=0, atol=within, err_msg=f"{measure} {name}")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def trivial(bench: Bench) -> dict[str, Callable[[int], np.ndarray]]:
    return {
        "centre": lambda row: slow_centre(),
        "edges": lambda row: slow_edges(bench.image(row)),
        "average_mask": lambda row: bench.average[bench.label(row)],
    }


def test_trivial_maps(bench: Bench) -> None:
    np.testing.assert_allclose(centre_prior(1, SPACE)[0], slow_centre(), atol=1e-12)
    noise = random_maps(3, SPACE, 7)
    assert noise.min() >= 0 and noise.max() < 1 and abs(noise.mean() - 0.5) < 0.05
    assert set(bench.tables["road"]) == {"random", "centre", "edges", "average_mask", "own"}


@pytest.mark.parametrize("measure", list(LOCAL))
def test_localisation(bench: Bench, measure: str) -> None:
    masks, rows = bench.cases.masks, range(len(bench.pairs))
    assert masks is not None
    for name, made in {"own": bench.map, **trivial(bench)}.items():

        def slow(row: int, made: Any = made) -> float:
            return float(LOCAL[measure](masks[bench.pairs.image[row], bench.label(row)], made(row).astype(np.float32)))

        bench.check(measure, name, rows, slow)


@pytest.mark.parametrize("name", ["own", "edges"])
def test_faithfulness(bench: Bench, name: str) -> None:
    made: Any = {"own": bench.map, **trivial(bench)}[name]

    def given(row: int) -> tuple[Net, np.ndarray, np.ndarray, int]:
        return bench.model, bench.image(row), made(row), bench.label(row)

    for mode in ("insertion", "deletion"):
        bench.check(mode, name, bench.pairs.drawn, lambda row, mode=mode: slow_area(*given(row), mode))  # type: ignore[misc]
    bench.check("road", name, bench.pairs.drawn, lambda row: slow_road(*given(row)), 1e-3)
    bench.check("infidelity", name, bench.pairs.drawn, lambda row: slow_infidelity(*given(row)))


def test_sensitivity(bench: Bench) -> None:
    def slow(row: int) -> float:
        first, gaps = bench.map(row), []
        for copy in nearby(torch.from_numpy(bench.image(row))[None, None], HOW.nearby, HOW.radius, HOW.seed):
            gaps.append(np.linalg.norm(bench.map(row, image=copy[0, 0].numpy()) - first))
        return float(max(gaps) / np.linalg.norm(first))

    bench.check("max_sensitivity", "own", bench.pairs.drawn[: HOW.sanity], slow)


@pytest.mark.parametrize("kind", list(ALIKE))
def test_maps_of_other_networks_and_of_other_patients(bench: Bench, kind: str) -> None:
    score, rows = ALIKE[kind], bench.pairs.drawn[: HOW.sanity]
    (_, half), (_, whole) = randomised_copies(bench.model, HOW.stages, seed=HOW.seed)
    others: dict[str, Any] = {"weights_1": half, "weights": whole, "random_labels": bench.shuffled}
    for what, other in others.items():
        bench.check(f"{kind}_{what}", "own", rows, lambda r, o=other: abs(score(bench.map(r), bench.map(r, o))))  # type: ignore[misc]
    bench.check(f"{kind}_seed", "own", rows, lambda r: score(bench.map(r), bench.map(r, bench.other)))
    bench.check(
        f"{kind}_architecture", "own", rows,
        lambda r: min(score(bench.map(r), bench.map(r, o)) for o in bench.architectures),
    )  # fmt: skip
    beside = dict(zip(rows.tolist(), partner(bench.pairs, rows, bench.cases.patients, HOW.seed), strict=True))
    owner = np.asarray(bench.cases.patients)[bench.pairs.image]
    assert all(owner[r] != owner[b] for r, b in beside.items())
    bench.check(f"{kind}_other_images", "own", rows, lambda r: abs(score(bench.map(r), bench.map(int(beside[r])))))


def test_every_measure_of_the_protocol_stands_here(bench: Bench) -> None:
    told = {*LOCAL, "insertion", "deletion", "insertion_less_deletion", "road", "infidelity", "max_sensitivity"}
    told |= {f"{k}_{w}" for k in ALIKE for w in ("weights_1", "weights", "random_labels", "seed", "architecture")}
    assert set(bench.tables) == told | {f"{k}_other_images" for k in ALIKE}
    gap = bench.tables["insertion"]["own"] - bench.tables["deletion"]["own"]
    np.testing.assert_allclose(bench.tables["insertion_less_deletion"]["own"], gap, atol=1e-12)
