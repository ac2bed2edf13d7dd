"""`evaluate --protocol trust`: can the maps of the trained networks be believed? Native and post-hoc alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from translucid import maps
from translucid.config import build, fingerprint, read_json, to_plain, write_json
from translucid.data import Loader
from translucid.errors import InputError, did_you_mean
from translucid.evaluate import TrustCases, TrustModels, TrustSettings, trust
from translucid.evaluate.trust_cases import LEAST, choose_pairs, shortage
from translucid.evaluate.trust_verdict import NOT_MEASURED
from translucid.explain import EXPLAINERS, post_hoc
from translucid.io.index import label_matrix
from translucid.models import load_model, save_model
from translucid.pipeline.explain_step import methods_of
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.localise_step import covered
from translucid.pipeline.places import Places
from translucid.pipeline.variants import Work, works
from translucid.study import Study
from translucid.train import clear_checkpoints, fit

Echo = Callable[[str], None]
Progress = Callable[[int, int], None]
HELD = 2**31
"""Bytes of images, masks and maps held at once; of large volumes fewer cases are judged."""
CELLS = 2**19
"""Pixels in one forward pass: 32 films of 128 × 128."""


def judge_maps(study: Study, run: RunFolder, echo: Echo, progress: Progress) -> dict[str, Any]:
    """Write `trust.json`: rows, verdicts and warnings of every judged variant; finished variants are kept.

    Films and volumes alike. Each judged network is trained once more from another seed and once on shuffled labels;
    the other networks on images of the study are its other architectures.

    Raises:
        InputError: a variant has not been trained, none is a network on images, or two cases are too large to hold.

    Fails when: the networks learned little; maps of two bad networks need not agree.
    """
    everyone = works(run, study)
    judged = _judged(study, everyone)
    target = run.path / "trust.json"
    told: dict[str, Any] = dict(read_json(target)) if target.is_file() else {}
    told = {name: entry for name, entry in told.items() if name in judged}
    for name, work in judged.items():
        wanted = fingerprint([run.need("train", name), study.trust, work.methods])
        if run.done("trust", name) == wanted and name in told:
            continue
        echo(f"trust: {name}")
        with run.timed("trust", name):
            told[name] = _judge_one(work, everyone, echo, progress)
        write_json(target, told)
        run.note("fingerprints", "trust", name, value=wanted)
    run.warn("trust", [f"{name}: {line}" for name, entry in told.items() for line in entry.get("warnings", ())])
    return told


def _judged(study: Study, everyone: list[Work]) -> dict[str, Work]:
    """The variants asked for; otherwise the baseline and those that show maps of their own."""
    on_images = {work.name: work for work in everyone if work.eats != "codes"}
    asked = study.trust.variants
    for name in asked:
        if name not in on_images:
            raise InputError(f"trust.variants: {name!r} is no network on images: {did_you_mean(name, on_images)}")
    own = {name for name, work in on_images.items() if "native" in work.methods or name == study.baseline}
    chosen = {name: work for name, work in on_images.items() if name in (asked or own)}
    if not chosen and on_images:
        chosen = dict([next(iter(on_images.items()))])
    if not chosen:
        raise InputError("no variant is a network on images: the protocol has no maps to judge")
    return chosen


def _judge_one(work: Work, everyone: list[Work], echo: Echo, progress: Progress) -> dict[str, Any]:
    model, _ = load_model(work.folder.model(work.name))
    model.requires_grad_(False)
    settings = settings_of(work)
    cases = cases_of(work)
    report = trust(cases, _models(work, model, everyone, echo), _explainers(work, model), settings, progress=progress)
    said = [*_left_out(work, cases), *shortage(cases, choose_pairs(cases, model, settings), settings)]
    return dict(to_plain(report.to_json())) | {"warnings": said}


def settings_of(work: Work) -> TrustSettings:
    """The recipe's options; unless they say so, as many images go through the network at once as 32 films make."""
    cells = math.prod(work.shape()[1:])
    usual = {"seed": work.study.seed, "rows": min(TrustSettings.rows, max(1, CELLS // cells))}
    return build(TrustSettings, usual | dict(work.study.trust.options), "trust.options")


def _explainers(work: Work, model: nn.Module) -> dict[str, Any]:
    """The network's own map where it shows one, what the variant names, the eight post-hoc methods and HiResCAM."""
    found: dict[str, Any] = dict(post_hoc())
    found["hirescam"] = EXPLAINERS["hirescam"]()
    asked = replace(work, variant=replace(work.variant, methods=("native", *work.variant.methods)))
    return {name: EXPLAINERS[name]() for name in methods_of(asked, model)} | found


def cases_of(work: Work) -> TrustCases:
    """Test cases on the grid of what the network is fed, with drawn findings and gaze where the study keeps them."""
    rows = work.rows("test")
    if not len(rows):
        raise InputError("no case is in the test split: there is nothing to judge maps on")
    drawn = np.random.default_rng([work.study.seed, 11]).permutation(rows)
    rows = np.sort(drawn[: min(work.study.trust.cases, _most(work, rows))])
    x = torch.cat([batch.x for batch in work.loader(rows)])
    y = label_matrix(work.index, work.labels)[rows]
    patients = tuple(work.index[i].patient for i in rows)
    known: dict[str, Any] = {"present": (y == 1).astype(float)}
    if work.places is not None:
        known |= _places(work, work.places, rows, y, tuple(x.shape[2:]))
    return TrustCases(x, work.labels, patients, **known)


def _most(work: Work, rows: np.ndarray) -> int:
    """Cases that can be held: image, a mask for each label, and a map for each label that is present."""
    channels, *space = work.shape()
    present = float((label_matrix(work.index, work.labels)[rows] == 1).sum(1).mean())
    each = math.prod(space) * (4 * channels + len(work.labels) + 4 * max(1.0, present))
    if (most := int(HELD // each)) < LEAST:
        raise InputError(
            f"images of {' × '.join(map(str, space))} are too large to judge maps on, one takes {each / 2**20:.0f} "
            "MiB: train on a smaller framing (framing.size, or framing.spacing and shape)"
        )
    return most


def _left_out(work: Work, cases: TrustCases) -> list[str]:
    """Fewer cases than were asked for, where more would not fit."""
    asked, judged = min(work.study.trust.cases, len(work.rows("test"))), len(cases.patients)
    size = " × ".join(map(str, cases.space))
    return [f"{judged} of {asked} cases are judged: more of {size} cannot be held"] if judged < asked else []


def _places(work: Work, places: Places, rows: np.ndarray, y: np.ndarray, space: tuple[int, ...]) -> dict[str, Any]:
    """Drawn findings and gaze on the pixels of the image; pairs that nobody drew do not count as present."""
    found: dict[str, Any] = {}
    if work.study.places.truth:
        shares = places.truth(rows, y)
        undrawn = np.isnan(shares).reshape(*y.shape, -1).any(-1)
        cells = covered(np.nan_to_num(shares))
        found["masks"] = np.concatenate([_on_pixels(cells[k : k + 1], space) >= 0.5 for k in range(len(cells))])
        found["present"] = ((y == 1) & ~undrawn).astype(float)
        found["average"] = _average(work, places, space)
    if work.study.places.gaze:
        found["gaze"] = np.nan_to_num(_on_pixels(places.read(rows)["gaze"][:, None], space)[:, 0])
    return found


def _average(work: Work, places: Places, space: tuple[int, ...]) -> np.ndarray:
    """(label, *space) mean of the training findings that were drawn."""
    rows = work.rows("train")
    y = label_matrix(work.index, work.labels)[rows]
    shares = places.truth(rows, y)
    shares[y != 1] = np.nan
    drawn = ~np.isnan(shares)
    mean = np.nan_to_num(shares).sum(0) / np.maximum(drawn.sum(0), 1)
    return _on_pixels(mean[None], space)[0]


def _on_pixels(cells: np.ndarray, space: tuple[int, ...]) -> np.ndarray:
    return maps.resize(torch.from_numpy(np.asarray(cells, np.float32)), space).numpy()


def _models(work: Work, model: nn.Module, everyone: list[Work], echo: Echo) -> TrustModels:
    shape = work.shape()
    others = [o for o in everyone if o.name != work.name and o.eats != "codes" and o.shape() == shape]
    kinds: dict[str, nn.Module] = {}
    for other in others:
        if other.variant.model != work.variant.model:
            kinds[other.name] = load_model(other.folder.model(other.name))[0].requires_grad_(False)
    return TrustModels(
        model,
        seed=_again(work, "seed", echo),
        architectures=dict(list(kinds.items())[: work.study.trust.architectures]),
        random_labels=_again(work, "shuffled", echo),
    )


def _again(work: Work, how: str, echo: Echo) -> nn.Module:
    """The same network from another seed, or taught shuffled labels; trained once and kept."""
    target = work.folder.path / "models" / f"{work.name}.{how}"
    wanted = fingerprint([work.folder.need("train", work.name), how])
    if work.folder.done("trust-models", target.name) == wanted and (target / "model.safetensors").is_file():
        return load_model(target)[0].requires_grad_(False)
    work.folder.clear(target)
    echo(f"trust: train {work.name} again ({'another seed' if how == 'seed' else 'shuffled labels'})")
    settings = replace(work.settings, seed=work.settings.seed + 1)
    model = work.spec.build(work.shape(), len(work.labels), settings.seed)
    loaders = [work.training_loader(model, work.rows("train")), work.loader(work.rows("val"))]
    if how == "shuffled":
        rng = np.random.default_rng([work.study.seed, 13])
        loaders = [_relabelled(one, rng.permutation(np.asarray(one.y))) for one in loaders]
    fit(model, loaders[0], loaders[1], settings, target)
    save_model(model, work.spec, work.shape(), work.labels, target)
    clear_checkpoints(target)
    work.folder.note("fingerprints", "trust-models", target.name, value=wanted)
    return model.eval().requires_grad_(False)


def _relabelled(loader: Loader, y: np.ndarray) -> Loader:
    """Other labels for the same images; the places follow them, for regions of the true ones would give those away."""
    return loader.with_(y=y, extra={name: replace(one, y=y) for name, one in loader.extra.items()})


def verdict_lines(told: Mapping[str, Any]) -> list[str]:
    """One line per variant and method: which criteria it passes, fails, or was not measured on; then the warnings."""
    lines = []
    for variant, entry in told.items():
        for method in dict.fromkeys(v["explainer"] for v in entry["verdicts"]):
            mine = [v for v in entry["verdicts"] if v["explainer"] == method]
            words = {w: [v for v in mine if v["verdict"] == w] for w in ("passes", "fails", "n/a")}
            said = "; ".join(f"{word}: {_criteria(some)}" for word, some in words.items() if some)
            lines.append(f"{variant} / {method}: {said}")
        lines += [f"warning: {variant}: {line}" for line in entry.get("warnings", ())]
    return lines


def _criteria(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Names of criteria; of those without a verdict also why, where they were measured."""
    reasons: dict[str, list[str]] = {}
    for v in verdicts:
        why = v["rule"] if v["verdict"] == "n/a" and v["rule"] != NOT_MEASURED else ""
        reasons.setdefault(why, []).append(v["criterion"])
    return ", ".join(f"{', '.join(names)}{f' ({why})' if why else ''}" for why, names in reasons.items())
