"""Guesses against the secret: each part's measures, with intervals and what chance would give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from translucid.audit import picture
from translucid.audit.adaptive import of_person, pooled
from translucid.audit.attributes import attribute_measures, kind_of, known
from translucid.audit.lettering import least_read
from translucid.audit.linear import Matcher
from translucid.audit.pairs import PAIR_MEASURES, TwoSamples, pair_measures
from translucid.audit.records import Release
from translucid.audit.resample import mean_of_patients, patient_counts, quantile_of_patients
from translucid.audit.search import map_at_r, search_measures
from translucid.audit.staging import Secret, Stage
from translucid.audit.unlink import global_linkability
from translucid.types import Estimate

Measured = dict[str, tuple[Estimate, float]]
CHANCE = {name: chance for name, (_, chance) in PAIR_MEASURES.items()}


def judge_verification(fitted: Any, stage: Stage, resamples: int, seed: int) -> Measured:
    """All pairs of scored films; and each person's last film sought among the first ones of all."""
    secret = stage.secret
    scores = fitted.guess(stage.release)
    samples = TwoSamples.of_pairs(scores, secret.patient, seed=seed)
    found: Measured = {k: (v, CHANCE[k]) for k, v in pair_measures(samples, resamples, seed).items()}
    found["d_sys"] = (global_linkability(samples, resamples, seed), 0.0)
    counts = patient_counts(int(secret.patient.max()) + 1, resamples, seed)
    value, chance = map_at_r(scores, secret.patient, seed)
    found["map@r"] = (mean_of_patients(value, secret.patient, counts), float(np.nanmean(chance)))
    return found | search_measures(scores[np.ix_(secret.last, secret.first)], resamples, seed)


def judge_linkage(fitted: Any, stage: Stage, resamples: int, seed: int, same: bool, pools: bool = False) -> Measured:
    """Each person's film in the attacker's hands, sought among one record of each: of the same film, or of another.

    Where records are pooled, it is sought among the means of all other records of each person.
    """
    secret, again = stage.secret, stage.again
    assert again is not None, "linkage is not planned without an encoder"
    held = secret.first
    if pools:
        records = pooled(stage.release, of_person(secret.patient, held))
    else:
        records = stage.release.take(held if same else secret.last)
    return _one_each(fitted, records, again.take(held), resamples, seed)


def judge_unlinkability(fitted: Any, stage: Stage, resamples: int, seed: int) -> Measured:
    """The same film under two keys: can the records be seen to belong together?"""
    assert stage.again is not None, "unlinkability is not planned without another key"
    rows = stage.secret.last
    return _one_each(fitted, stage.release.take(rows), stage.again.take(rows), resamples, seed, linkability=True)


def _one_each(
    fitted: Any, release: Release, probe: Release, resamples: int, seed: int, linkability: bool = False
) -> Measured:
    scores = fitted.guess(replace(release, probe=probe))
    who = np.arange(len(release))
    samples = TwoSamples.of_pairs(scores, who, who, seed)
    found: Measured = {k: (v, CHANCE[k]) for k, v in pair_measures(samples, resamples, seed).items()}
    if linkability:
        found["d_sys"] = (global_linkability(samples, resamples, seed), 0.0)
    return found | search_measures(scores, resamples, seed)


def judge_attributes(fitted: Any, stage: Stage, resamples: int, seed: int) -> Measured:
    """What was read of each attribute."""
    secret = stage.secret
    return attribute_measures(fitted.guess(stage.release), secret.attributes, secret.patient, resamples, seed)


# -- reconstruction ----------------------------------------------------------------------------------------------


def judge_reconstruction(fitted: Any, stage: Stage, resamples: int, seed: int, pools: bool = False) -> Measured:
    """How like the films the pictures are, how much more than the mean film, and whether they still show who it is.

    Where records are pooled, each film is drawn from the mean of its person's records.
    """
    secret = stage.secret
    seen = pooled(stage.release, of_person(secret.patient)) if pools else stage.release
    made: Tensor = fitted.guess(seen)
    mean = stage.public.films[torch.from_numpy(stage.public.original)].mean(0, keepdim=True).expand_as(secret.films)
    counts = patient_counts(int(secret.patient.max()) + 1, resamples, seed)
    found: Measured = {}
    for name, measure in (("ssim", picture.ssim), ("ms_ssim", picture.ms_ssim), ("psnr", picture.psnr)):
        value, floor = (measure(x, secret.films).double().numpy() for x in (made, mean))
        value, floor = (np.minimum(v, 100.0) if name == "psnr" else v for v in (value, floor))
        found[name] = (mean_of_patients(value, secret.patient, counts), float(floor.mean()))
        if name == "ssim":
            found |= _gains(value, floor, secret, counts)
    other = secret.films[torch.from_numpy(others(secret.patient))]
    own = (picture.ssim(made, secret.films) - picture.ssim(made, other)).double().numpy()
    found["own_minus_other"] = (mean_of_patients(np.round(own, 6), secret.patient, counts), 0.0)
    return found | _seen_again(made, secret, stage.eye, resamples, seed)


def _gains(value: np.ndarray, floor: np.ndarray, secret: Secret, counts: np.ndarray) -> Measured:
    gain = (value - floor) / np.maximum(1 - floor, 1e-9)
    found: Measured = {"gain": (mean_of_patients(gain, secret.patient, counts), 0.0)}
    for name, share in (("median", 0.5), ("p99", 0.99), ("max", 1.0)):
        chance = float(np.quantile(floor, share, method="inverted_cdf"))
        found[f"ssim_{name}"] = (quantile_of_patients(value, secret.patient, counts, share), chance)
    return found


def others(patient: np.ndarray) -> np.ndarray:
    """For each film one of another patient, every film once; so one picture for all gains nothing on its own film.

    Example:
        >>> others(np.array([0, 0, 1, 1])).tolist()
        [2, 3, 0, 1]
    """
    order = np.argsort(patient, kind="stable")
    out = np.empty(len(patient), int)
    out[order] = np.roll(order, -int(np.bincount(patient).max()))
    return out


def _seen_again(made: Tensor, secret: Secret, eye: Matcher, resamples: int, seed: int) -> Measured:
    """The picture of each person's last record, sought among the first plain films of all."""
    drawn, films = made[torch.from_numpy(secret.last)], secret.films[torch.from_numpy(secret.first)]
    scores = eye.guess(Release(films, films, probe=Release(drawn, drawn)))
    who = np.arange(len(scores))
    auc = pair_measures(TwoSamples.of_pairs(scores, who, who, seed), resamples, seed, ("auc",))["auc"]
    ranks = search_measures(scores, resamples, seed)
    whole = f"rank1@{len(scores)}"
    return {"reid_auc": (auc, 0.5), f"reid_{whole}": ranks[whole]}


# -- controls ----------------------------------------------------------------------------------------------------

SUCCEEDS = {
    "verification": 0.95,
    "linkage_same": 0.95,
    "linkage_other": 0.95,
    "unlinkability": 0.95,
    "reconstruction": 0.5,
    "attributes": 0.95,
    "text": 0.95,
    "membership": 0.95,
}
"""What an attack must reach when nothing is hidden: AUC of exact copies (of attributes written into the code, of a
model that gives its members away), relative gain over the mean film on films the attacker holds himself, share of the
letters that are read from the plain image."""


@dataclass(frozen=True)
class Control:
    """How well a fitted attack does where nothing is hidden, with its interval."""

    part: str
    pools: bool
    resamples: int
    seed: int

    def shown(self, fitted: Any, attack: Any, stage: Stage, found: Measured) -> Estimate:
        """`stage` is that of the plain image, `found` what was measured there."""
        if self.part == "reconstruction":
            return self._redrawn(fitted, stage)
        if self.part == "attributes":
            return self._read(attack, stage)
        if self.part == "text":
            return least_read(found)
        rows = stage.secret.first
        probe = stage.again if stage.again is not None else stage.release
        scores = fitted.guess(replace(stage.release.take(rows), probe=probe.take(rows)))
        samples = TwoSamples.of_pairs(scores, np.arange(len(rows)), np.arange(len(rows)), seed=self.seed)
        return pair_measures(samples, self.resamples, self.seed, ("auc",))["auc"]

    def _redrawn(self, fitted: Any, stage: Stage) -> Estimate:
        """The gain on films that the attacker holds himself; where records are pooled, on a person's mean film."""
        mine = stage.public.take(np.flatnonzero(stage.public.original))
        patient = np.unique(mine.patient, return_inverse=True)[1].reshape(-1)
        seen, films = replace(mine.release, probe=None), mine.films
        if self.pools:
            groups = of_person(patient)
            seen, films = pooled(seen, groups), pooled(Release(films, films), groups).codes
        value = picture.ssim(fitted.guess(seen), films)
        floor = picture.ssim(films.mean(0, keepdim=True).expand_as(films), films)
        gain = ((value - floor) / (1 - floor).clamp(min=1e-9)).double().numpy()
        return mean_of_patients(gain, patient, patient_counts(int(patient.max()) + 1, self.resamples, self.seed))

    def _read(self, attack: Any, stage: Stage) -> Estimate:
        """The least AUC (or R²) on codes into which the attributes are written."""
        public, secret = stage.public, stage.secret
        shown = replace(public, release=_written(public.attributes, public.attributes))
        guess = attack.fit(shown.release, shown, self.seed).guess(_written(secret.attributes, public.attributes))
        found = attribute_measures(guess, secret.attributes, secret.patient, self.resamples, self.seed)
        each = [v for k, (v, _) in found.items() if not k.endswith(".mae")]
        return min(each, key=lambda v: v.value) if each else Estimate(np.nan, np.nan, np.nan, 0)


def _written(attributes: Mapping[str, np.ndarray], known_to_all: Mapping[str, np.ndarray]) -> Release:
    columns = []
    for name, values in attributes.items():
        if kind_of(known_to_all[name]) == "number":
            columns.append(np.where(known(values), np.nan_to_num(values.astype(float)), 0.0))
        else:
            columns += [(values == v) * 1.0 for v in np.unique(known_to_all[name])]
    codes = torch.from_numpy(np.stack(columns, 1)).float()[:, None]
    return Release(codes, codes[..., None])
