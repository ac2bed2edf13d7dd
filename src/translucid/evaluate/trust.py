"""One protocol to judge any map: where it points, whether the model obeys it, and whether it depends on the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from translucid import maps as placing
from translucid.errors import ConfigError, TranslucidError, lookup
from translucid.evaluate.baseline_maps import centre_prior, edges, random_maps
from translucid.evaluate.faithful import (
    Ends,
    area_under,
    ends,
    explained_drops,
    infidelity,
    max_sensitivity,
    nearby,
    perturbation_curve,
    ranks,
    removal_drops,
    squares,
)
from translucid.evaluate.gaze_agreement import GAZE, scanpath_saliency, shuffled_auc
from translucid.evaluate.localise import LOCALISATION
from translucid.evaluate.road import road
from translucid.evaluate.sanity import randomised_copies
from translucid.evaluate.similarity import SIMILARITY
from translucid.evaluate.trust_cases import (
    Explainers,
    Pairs,
    Progress,
    TrustCases,
    TrustModels,
    TrustSettings,
    by_labels,
    choose_pairs,
    forward_of,
    partner,
    undefined,
)
from translucid.evaluate.trust_verdict import BASELINES, Tables, TrustReport, judge
from translucid.tensors import Explainer


def trust(
    cases: TrustCases,
    models: TrustModels,
    explainers: Explainers,
    settings: TrustSettings | None = None,
    *,
    parts: Sequence[str] | None = None,
    progress: Progress = lambda done, total: None,
) -> TrustReport:
    """Judge explainers by every criterion for which there is truth, and against trivial maps.

    `measure_trust` and then `judge`, whose rules are told there. To resume, call `measure_trust` for some parts or
    explainers at a time, keep its tables (plain arrays), `merge_tables` and `judge` them.

    Args:
        cases: images with what is known of them.
        models: the judged model, and those to compare it with.
        explainers: name → `explainer(model, x, labels)`.
        settings: what is done, and where the lines are drawn.
        parts: some of `PARTS`; None takes all.
        progress: called with (done, total) after each explainer's part.

    Returns:
        Rows of numbers with intervals, verdicts, and paired comparisons between the explainers.

    Raises:
        ConfigError: an unknown part, or an explainer has a trivial map's name.
        ShapeError: shapes do not agree.

    Example:
        >>> from translucid.tensors import Explanation, Placement
        >>> def itself(model, x, labels):
        ...     zero = torch.zeros(len(x), 1)
        ...     return Explanation(x, (0,), "itself", False, zero, zero, Placement.tiling((8, 8), (8, 8)))
        >>> x = torch.rand(6, 1, 8, 8)
        >>> cases = TrustCases(x, ("bright",), tuple("abcdef"), masks=(x > 0.9).numpy())
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
        >>> report = trust(cases, TrustModels(net), {"itself": itself}, TrustSettings(resamples=200))
        >>> {v["criterion"]: v["verdict"] for v in report.verdicts}["weight_randomisation"]
        'fails'

    Source: Arun et al., Assessing the trustworthiness of saliency maps, Radiology: Artificial Intelligence 2021,
    doi:10.1148/ryai.2021200267; Adebayo et al. 2018, arXiv:1810.03292; Yeh et al. 2019, arXiv:1901.09392; Rong et al.
    2022, arXiv:2202.00449.

    Fails when: one verdict is quoted alone; a map can pass any single criterion for the wrong reason.
    """
    settings = settings or TrustSettings()
    tables = measure_trust(cases, models, explainers, settings, parts=parts, progress=progress)
    return judge(tables, cases.labels, cases.patients, settings)


def measure_trust(
    cases: TrustCases,
    models: TrustModels,
    explainers: Explainers,
    settings: TrustSettings | None = None,
    *,
    parts: Sequence[str] | None = None,
    progress: Progress = lambda done, total: None,
) -> Tables:
    """The numbers of the protocol, case by case: measure → map's name → (case, label), nan where undefined.

    Parts for which nothing is given (no masks, no gaze, no second model) are left out. Trivial maps are scored in
    the parts that judge a map by itself.

    Args:
        cases, models, explainers, settings, parts, progress: see `trust`.

    Raises:
        ConfigError, ShapeError: see `trust`.

    Example:
        >>> cases = TrustCases(torch.rand(2, 1, 8, 8), ("a",), ("p", "q"))
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
        >>> sorted(measure_trust(cases, TrustModels(net), {}, parts=["faithfulness"])["road"])
        ['centre', 'edges', 'random']
    """
    settings = settings or TrustSettings()
    for part in parts or ():
        lookup(PARTS, part, "part of the protocol")
    for name in explainers:
        if name in BASELINES:
            raise ConfigError(f"{name!r} is the name of a trivial map: call your explainer otherwise")
    work = _Work(cases, models, settings)
    if not len(work.pairs):  # each explainer still gets its verdicts: n/a
        nothing = np.full((len(cases.images), len(cases.labels)), np.nan)
        return {"max_sensitivity": dict.fromkeys(explainers, nothing)}
    wanted = [p for p in PARTS if (parts is None or p in parts) and PARTS[p].possible(work)]
    jobs: list[tuple[str, Explainer | None, str]] = [
        (name, None, p) for name in work.trivial for p in wanted if PARTS[p].by_itself
    ]
    jobs += [(name, made, p) for name, made in explainers.items() for p in wanted]
    tables: Tables = {}
    for done, (name, explainer, part) in enumerate(jobs, 1):
        for measure, table in PARTS[part].run(work, work.shown(name, explainer)).items():
            tables.setdefault(measure, {})[name] = table
        progress(done, len(jobs))
    return tables


def merge_tables(*several: Tables) -> Tables:
    """Tables of several calls as one; later ones win.

    Example:
        >>> merge_tables({"road": {"a": np.zeros((1, 1))}}, {"road": {"b": np.ones((1, 1))}})["road"].keys()
        dict_keys(['a', 'b'])
    """
    out: Tables = {}
    for tables in several:
        for measure, columns in tables.items():
            out.setdefault(measure, {}).update(columns)
    return out


# -- what the parts work with --------------------------------------------------------------------------------------


@dataclass
class _Shown:
    """One explainer's maps of the judged model, computed where they are asked for and kept while it is its turn."""

    name: str
    work: _Work
    explainer: Explainer | None
    maps: np.ndarray
    known: np.ndarray

    def at(self, rows: np.ndarray) -> np.ndarray:
        """(row, *space)."""
        missing = np.unique(rows[~self.known[rows]])
        if len(missing):
            self.maps[missing] = self.of(self.work.models.model, missing)
            self.known[missing] = True
        return self.maps[rows]

    def of(self, model: Any, rows: np.ndarray, images: Tensor | None = None) -> np.ndarray:
        """Maps of any model, all labels of an image in one go; `images` stand in the place of each row's own."""
        work = self.work
        image, label = work.pairs.image[rows], work.pairs.label[rows]
        out = np.full((len(rows), *work.cases.space), np.nan, np.float32)
        if self.explainer is None:
            for i in range(0, len(rows), work.settings.rows):
                out[i : i + work.settings.rows] = work.trivial[self.name](rows[i : i + work.settings.rows])
            return out
        for labels, at in by_labels(image, label):
            for i in range(0, len(at), work.settings.rows):
                part = at[i : i + work.settings.rows]
                x = work.cases.images[image[part[:, 0]]] if images is None else images[part[:, 0]]
                found = self.explainer(model, x, list(labels))
                placed = placing.resize(found.maps, work.cases.space, found.placement)
                out[part] = placed.detach().float().cpu().numpy()
        return out


@dataclass
class _Work:
    """Cases, models and what several parts share."""

    cases: TrustCases
    models: TrustModels
    settings: TrustSettings
    _last: _Shown | None = field(default=None, repr=False)

    @cached_property
    def pairs(self) -> Pairs:
        return choose_pairs(self.cases, self.models.model, self.settings)

    @property
    def all(self) -> np.ndarray:
        return np.arange(len(self.pairs))

    @property
    def few(self) -> np.ndarray:
        return self.pairs.drawn[: self.settings.sanity or None]

    @cached_property
    def trivial(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        """Name of a trivial map → rows → maps."""
        cases, space, label = self.cases, self.cases.space, self.pairs.label

        def noise(rows: np.ndarray) -> np.ndarray:
            return np.stack([random_maps(1, space, self.settings.seed + int(r))[0] for r in rows])

        found: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "random": noise,
            "centre": lambda rows: centre_prior(len(rows), space),
            "edges": lambda rows: edges(self.images(rows).mean(1).double().cpu().numpy()),
        }
        if cases.average is not None:
            average = np.asarray(cases.average)
            found["average_mask"] = lambda rows: average[label[rows]]
        return found

    @cached_property
    def forgetful(self) -> list[nn.Module]:
        return [m for _, m in randomised_copies(self.models.model, self.settings.stages, seed=self.settings.seed)]

    @cached_property
    def ends(self) -> Ends:
        """Logits of the drawn images and of their covers; every curve of every map begins and ends there."""
        s, rows = self.settings, self.pairs.drawn
        return ends(forward_of(self.models.model), self.images(rows), self.label(rows), s.fill, s.rows)

    @cached_property
    def removal(self) -> tuple[Tensor, Tensor]:
        """Squares, and what each image's logit loses under them; the same for all maps."""
        s, rows = self.settings, self.pairs.drawn
        masks = squares(self.cases.space, s.removals, s.side, s.seed)
        forward = forward_of(self.models.model)
        x, label = self.images(rows), self.label(rows)
        return masks, removal_drops(forward, x, label, masks, s.fill, s.rows, self.ends)

    def images(self, rows: np.ndarray) -> Tensor:
        return self.cases.images[torch.from_numpy(self.pairs.image[rows])]

    def label(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.pairs.label[rows])

    def table(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return self.pairs.table(values, rows, self.cases)

    def shown(self, name: str, explainer: Explainer | None) -> _Shown:
        """The maps of one explainer; those of the one before are let go."""
        if self._last is None or self._last.name != name:
            shape = (len(self.pairs), *self.cases.space)
            self._last = _Shown(name, self, explainer, np.zeros(shape, np.float32), np.zeros(shape[0], bool))
        return self._last


# -- the parts -----------------------------------------------------------------------------------------------------

Columns = dict[str, np.ndarray]


def _localisation(work: _Work, shown: _Shown) -> Columns:
    assert work.cases.masks is not None
    rows = work.all
    masks = np.asarray(work.cases.masks)[work.pairs.image, work.pairs.label]
    score = {m: lookup(LOCALISATION, m, "localisation measure") for m in work.settings.localisation}
    return {m: work.table(f(masks, shown.at(rows)), rows) for m, f in score.items()}


def _gaze(work: _Work, shown: _Shown) -> Columns:
    cases, out = work.cases, {}
    seen = next(np.asarray(g) for g in (cases.gaze, cases.fixations) if g is not None)
    looked = np.asarray(seen.reshape(len(seen), -1).any(1))
    rows = np.flatnonzero(looked[work.pairs.image])
    maps, image = shown.at(rows), work.pairs.image[rows]
    if cases.gaze is not None:
        out = {m: work.table(f(np.asarray(cases.gaze)[image], maps), rows) for m, f in GAZE.items()}
    if cases.fixations is not None:
        looks = np.asarray(cases.fixations)[image]
        out["gaze_nss"] = work.table(scanpath_saliency(looks, maps), rows)
        out["gaze_sauc"] = work.table(shuffled_auc(looks, maps, np.asarray(cases.patients)[image]), rows)
    return out


def _faithfulness(work: _Work, shown: _Shown) -> Columns:
    s, rows, forward = work.settings, work.pairs.drawn, forward_of(work.models.model)
    x, label, found = work.images(rows), work.label(rows), {}
    maps = torch.from_numpy(np.ascontiguousarray(shown.at(rows))).to(x)
    blank = np.asarray((maps.flatten(1).amax(1) <= maps.flatten(1).amin(1)).cpu())
    order = ranks(maps, s.seed)
    how: Any = {"rows": s.rows, "seed": s.seed, "order": order}
    for mode in ("insertion", "deletion"):
        curve = perturbation_curve(forward, x, maps, label, mode, steps=s.steps, fill=s.fill, known=work.ends, **how)
        found[mode] = np.where(blank, np.nan, area_under(curve).numpy())
    found["insertion_less_deletion"] = found["insertion"] - found["deletion"]
    found["road"] = road(forward, x, maps, label, shares=s.shares, **how).numpy()
    masks, dropped = work.removal
    lost = infidelity(explained_drops(maps, masks).cpu(), dropped, normalise=True).numpy()
    found["infidelity"] = np.where(blank, np.nan, lost)
    return {m: work.table(v, rows) for m, v in found.items()}


def _sensitivity(work: _Work, shown: _Shown) -> Columns:
    s, rows = work.settings, work.few
    copies = nearby(work.images(rows), s.nearby, s.radius, s.seed)
    others = (torch.from_numpy(shown.of(work.models.model, rows, images)) for images in copies)
    found = max_sensitivity(torch.from_numpy(shown.at(rows)), others).numpy()
    return {"max_sensitivity": work.table(found, rows)}


def _alike(work: _Work, shown: _Shown, others: np.ndarray, what: str, magnitude: bool) -> Columns:
    """Similarity to other maps of the same pairs; by magnitude, for a map turned upside down still shows the same."""
    rows, out = work.few, {}
    good = np.isfinite(others.reshape(len(others), -1)).all(1)
    for measure, score in SIMILARITY.items():
        values = undefined(len(rows))
        values[good] = score(shown.at(rows)[good], others[good])
        out[f"{measure}_{what}"] = work.table(np.abs(values) if magnitude else values, rows)
    return out


def _unlike(work: _Work, shown: _Shown) -> Columns:
    rows = partner(work.pairs, work.few, work.cases.patients, work.settings.seed)
    others = np.full((len(rows), *work.cases.space), np.nan, np.float32)
    others[rows >= 0] = shown.at(rows[rows >= 0])
    return _alike(work, shown, others, "other_images", True)


def _against(work: _Work, shown: _Shown, model: Any, what: str, magnitude: bool = False) -> Columns:
    try:
        others = shown.of(model, work.few)
    except TranslucidError:  # a method that cannot explain the other model has no similarity: n/a
        others = np.full((len(work.few), *work.cases.space), np.nan, np.float32)
    return _alike(work, shown, others, what, magnitude)


def _weights(work: _Work, shown: _Shown) -> Columns:
    found: Columns = {}
    for k, model in enumerate(work.forgetful, 1):
        last = k == len(work.forgetful)
        found |= _against(work, shown, model, "weights" if last else f"weights_{k}", True)
    return found


def _architectures(work: _Work, shown: _Shown) -> Columns:
    each = [_against(work, shown, m, "architecture") for m in work.models.architectures.values()]
    return {m: np.minimum.reduce([e[m] for e in each]) for m in each[0]}


@dataclass(frozen=True)
class Part:
    """A part of the protocol: how it is run, what it needs, and whether a map can be judged without a model."""

    run: Callable[[_Work, _Shown], Columns]
    possible: Callable[[_Work], bool] = lambda work: True
    by_itself: bool = False


PARTS: Mapping[str, Part] = {
    "localisation": Part(_localisation, lambda w: w.cases.masks is not None, True),
    "gaze": Part(_gaze, lambda w: w.cases.gaze is not None or w.cases.fixations is not None, True),
    "faithfulness": Part(_faithfulness, by_itself=True),
    "sensitivity": Part(_sensitivity),
    "other_images": Part(_unlike),
    "weight_randomisation": Part(_weights, lambda w: isinstance(w.models.model, nn.Module)),
    "label_randomisation": Part(
        lambda w, s: _against(w, s, w.models.random_labels, "random_labels", True),
        lambda w: w.models.random_labels is not None,
    ),
    "repeatability": Part(lambda w, s: _against(w, s, w.models.seed, "seed"), lambda w: w.models.seed is not None),
    "reproducibility": Part(_architectures, lambda w: bool(w.models.architectures)),
}
"""Name → part, in the order they are run; "other_images" gives the similarity that the others are held against."""
