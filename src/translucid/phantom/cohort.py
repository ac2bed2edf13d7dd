"""A cohort of made-up patients: options, draws, labels. Nothing is drawn later than here but quantum noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from translucid.errors import ConfigError, did_you_mean
from translucid.phantom import anatomy, findings, skeleton, vessels
from translucid.phantom.anatomy import Parameters
from translucid.phantom.shapes import Array

LABELS = ("cardiomegaly", "effusion", "nodule", "pneumonia")

# fmt: off
_TRAITS = (
    "size", "slim", "depth", "height", "air", "bow", "dome_right", "dome_left",
    "dome_shape", "neck", "shoulder", "heart_turn", "heart_high", "heart_shift", "knob", "knob_high",
    "trunk", "pedicle", "breast", "breast_low", "stomach", "bone", "rib_tilt", "rib_hang",
    "rib_size", "rib_wave", "rib_phase", "rib_uneven", "spine_shift", "spine_bend", "spine_phase", "clavicle_up",
    "shoulder_uneven", "blade_out", "trachea_lean", "hilum_high", "hilum_out", "vessel_size", "calcium", "nipple",
    "age", "will_0", "will_1", "will_2", "will_3",
)
_STATES = (
    "breath", "turn", "yaw", "pitch", "zoom", "shift_x", "shift_z", "exposure",
    "gamma", "grain", "stomach", "will_0", "will_1", "will_2", "will_3",

)
# fmt: on
_TRAIT_ROOM, _STATE_ROOM = 96, 48


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} = {value} must lie in {low} … {high}")


SPLITS = (("train", 0.60), ("val", 0.15), ("test", 0.25))


@dataclass(frozen=True)
class ChestCohort:
    """Options of a synthetic chest cohort with a known label rule.

    Each label has a liability, partly the patient's own and partly the visit's; it is positive where the liability
    passes the quantile of its prevalence. The heart is then drawn so that its cardiothoracic ratio follows the
    liability of `cardiomegaly` and passes 0.5 exactly where the label does.

    Attributes:
        patients: number of patients.
        visits: fewest and most visits of a patient.
        size: pixels along each side of the radiograph.
        seed: everything follows from it; patient k is the same in cohorts of any size.
        prevalence: label → share of positive visits.
        persistence: share of a liability's variance that stays with the patient.
        lesion_contrast: density of nodules and consolidations; at 0.8 a consolidation half fills the air,
            and a nodule is denser than soft tissue by a third, as one partly calcified.
        nodule_radius: smallest and largest radius in mm.
        ctr_margin: how far from 0.5 the ratio stays at least.
        mimics: 0 … 1, how many calcified spots and nipple shadows there are.
        noise: scale of the quantum noise, 1 = a well-exposed film, 0 = none.
        sway: scale of what changes between visits: posture, place, exposure.
        label_noise: share of recorded labels that are flipped.
        text: burn a side marker and the patient's number into the film.
        confounder: label that a marker on the film goes with, or "".
        confounder_strength: chance that marker and that label agree.
        confounder_test: the same in the test split, where a shortcut may no longer hold; None leaves it alike.
        volume: voxels (depth, height, width) of computed tomograms, written in place of films; empty for films.
        gaze: write a made-up reader's fixations with the films.

    Raises:
        ConfigError: an option is out of range.

    Example:
        >>> plan = ChestCohort(patients=4, seed=1).draw()
        >>> plan.patient[:3].tolist(), plan.truth.shape[1]
        ([0, 0, 0], 4)

    Source: our own; the threshold 0.5 of the cardiothoracic ratio is Danzer (1919), Am J Med Sci 157:513.

    Fails when: a study needs real texture; a network tells these films from real ones at a glance.
    """

    patients: int = 400
    visits: tuple[int, int] = (1, 3)
    size: int = 128
    seed: int = 0
    prevalence: Mapping[str, float] = field(
        default_factory=lambda: {"cardiomegaly": 0.3, "effusion": 0.2, "nodule": 0.2, "pneumonia": 0.25}
    )
    persistence: float = 0.5
    lesion_contrast: float = 0.8
    nodule_radius: tuple[float, float] = (9.0, 19.0)
    ctr_margin: float = 0.01
    mimics: float = 0.4
    noise: float = 1.0
    sway: float = 1.0
    label_noise: float = 0.02
    text: bool = False
    confounder: str = ""
    confounder_strength: float = 0.9
    confounder_test: float | None = None
    volume: tuple[int, ...] = ()
    gaze: bool = False

    def __post_init__(self) -> None:
        if self.patients < 1 or not 1 <= self.visits[0] <= self.visits[1]:
            raise ConfigError(f"patients = {self.patients}, visits = {self.visits}: need at least one of each")
        _within("size", self.size, 32, 4096)
        if self.seed < 0:
            raise ConfigError(f"seed = {self.seed} must not be negative")
        for name in (*self.prevalence, *([self.confounder] if self.confounder else [])):
            if name not in LABELS:
                raise ConfigError(f"unknown label {name!r}: {did_you_mean(name, LABELS)}")
        shares = {f"prevalence of {name}": share for name, share in self.prevalence.items()}
        shares |= {k: getattr(self, k) for k in ("persistence", "mimics", "label_noise", "confounder_strength")}
        shares["confounder_test"] = self.confounder_test or 0.0
        for name, share in shares.items():
            _within(name, share, 0, 1)
        if not 2 <= self.nodule_radius[0] <= self.nodule_radius[1] <= 24:
            raise ConfigError(f"nodule_radius = {self.nodule_radius} mm must rise within 2 … 24")
        if self.volume and (len(self.volume) != 3 or min(self.volume) < 8 or self.gaze):
            raise ConfigError(
                f"volume = {self.volume}: wanted three numbers of at least 8 (depth, height, width), without gaze"
            )
        _within("ctr_margin", self.ctr_margin, 0, 0.08)
        if min(self.lesion_contrast, self.noise, self.sway) < 0:
            raise ConfigError("lesion_contrast, noise and sway must not be negative")

    def draw(self) -> ChestPlan:
        """Draw every patient and visit; the same seed gives the same plan."""
        return _draw(self)


@dataclass(frozen=True)
class ChestPlan:
    """All that was drawn, one row per image; images and volumes follow from it without further choice.

    Attributes:
        cohort: the options.
        patient, visit: (n,) numbers from 0.
        sex: (n,) "F" or "M".
        age: (n,) years.
        truth: (n, 4) bool, the labels by rule, in the order of `LABELS`.
        labels: (n, 4) bool, as recorded: some are flipped.
        ctr: (n,) cardiothoracic ratio in closed form.
        marked: (n,) bool, whether the confounding marker is shown.
        parameters: name → (n,) float32, millimetres and densities.
    """

    cohort: ChestCohort
    patient: Array
    visit: Array
    sex: Array
    age: Array
    truth: Array
    labels: Array
    ctr: Array
    marked: Array
    parameters: Parameters

    def __len__(self) -> int:
        return len(self.patient)

    def rows(self, rows: Any = None) -> Array:
        """Row numbers as an array; None means all."""
        return np.arange(len(self)) if rows is None else np.atleast_1d(np.asarray(rows))


def _draws(c: ChestCohort) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Patient and visit numbers, standard normal traits and states, uniform draws of patient and visit."""
    index, trait, state, own, chance = [], [], [], [], []
    for k in range(c.patients):
        r = np.random.default_rng([c.seed, 1, k])
        t, u = r.standard_normal(_TRAIT_ROOM), r.random(_STATE_ROOM)
        count = c.visits[0] + int(u[0] * (c.visits[1] - c.visits[0] + 1))
        for j in range(count):
            v = np.random.default_rng([c.seed, 2, k, j])
            index.append((k, j))
            trait.append(t)
            own.append(u)
            state.append(v.standard_normal(_STATE_ROOM))
            chance.append(v.random(_STATE_ROOM))
    at = np.array(index)
    return at[:, 0], at[:, 1], np.array(trait), np.array(state), np.array(own), np.array(chance)


def _liability(c: ChestCohort, t: Mapping[str, Array], v: Mapping[str, Array]) -> tuple[Array, Array]:
    """Liability less its threshold (n, 4), and the labels by rule."""
    from scipy.special import ndtri

    own, now = np.sqrt(c.persistence), np.sqrt(1 - c.persistence)
    share = np.array([c.prevalence.get(name, 0.0) for name in LABELS])
    will = np.stack([own * t[f"will_{k}"] + now * v[f"will_{k}"] for k in range(len(LABELS))], axis=1)
    excess = np.clip(will - ndtri(1 - share), -6, 6)
    return excess, excess > 0


def ratio_of(excess: Array, margin: float) -> Array:
    """Cardiothoracic ratio that follows a liability and never lies within `margin` of 0.5.

    >>> ratio_of(np.array([-1.0, 0.0, 1.0]), 0.01).round(3).tolist()
    [0.449, 0.49, 0.561]
    """
    low = 0.5 - margin - 0.12 * np.tanh(-np.minimum(excess, 0) / 2.8)
    high = 0.5 + margin + 0.15 * np.tanh(np.maximum(excess, 0) / 2.8)
    return np.where(excess > 0, high, low)


def _draw(c: ChestCohort) -> ChestPlan:
    patient, visit, trait, state, own, chance = _draws(c)
    t = {name: trait[:, k] for k, name in enumerate(_TRAITS)}
    v = {name: state[:, k] for k, name in enumerate(_STATES)}
    female = own[:, 1] < 0.5
    age = np.clip(np.round(56 + 16 * t["age"]) + visit, 19, 94).astype(int)
    excess, truth = _liability(c, t, v)
    p = anatomy.physique(female, age, t, v) | skeleton.traits(t)
    p |= anatomy.pose(p, v, c.sway)
    ctr = ratio_of(excess[:, 0], c.ctr_margin)
    unit = p | {"heart": np.float32(1) + 0 * p["width"]}
    flat = {"dome_left", "yaw"}  # what moves the heart as a whole does not change its width
    unit = {k: 0 * x if k in flat else x for k, x in unit.items()}
    p["heart"] = (ctr * anatomy.chest_width(p) / anatomy.heart_width(unit)).astype(np.float32)
    p |= findings.place(c, p, truth, own, chance, t, patient, age)
    flips = chance[:, :4] < c.label_noise
    labels = truth ^ flips
    marked = _marks(c, patient, labels, chance[:, 4])
    sex = np.where(female, "F", "M")
    return ChestPlan(c, patient, visit, sex, age, truth, labels, ctr, marked, p)


def _marks(c: ChestCohort, patient: Array, labels: Array, u: Array) -> Array:
    if not c.confounder:
        return np.zeros(len(labels), dtype=bool)
    test = c.confounder_strength if c.confounder_test is None else c.confounder_test
    strength = np.where(split_names(c, patient) == "test", test, c.confounder_strength)
    return labels[:, LABELS.index(c.confounder)] == (u < strength)


def split_names(c: ChestCohort, patient: Array) -> Array:
    """(n,) "train", "val" or "test": 60, 15 and 25 % of the patients, in an order that only the seed decides.

    >>> split_names(ChestCohort(patients=4, seed=3), np.arange(4)).tolist()
    ['train', 'val', 'test', 'train']
    """
    order = np.random.default_rng([c.seed, 8]).permutation(c.patients)
    ends = np.round(np.cumsum([share for _, share in SPLITS]) * c.patients).astype(int)
    place = np.empty(c.patients, int)
    place[order] = np.searchsorted(ends, np.arange(c.patients), side="right")
    return np.array([name for name, _ in SPLITS])[place[patient]]


def tree_draws(plan: ChestPlan, rows: Array) -> Array:
    """(n, SEGMENTS, 4) draws in [0, 1] of each row's patient; the visits of one patient share them."""
    who, back = np.unique(plan.patient[rows], return_inverse=True)
    draws = [np.random.default_rng([plan.cohort.seed, 3, int(k)]).random((vessels.SEGMENTS, 4)) for k in who]
    return np.array(draws, dtype=np.float32)[back]


def spot_draws(plan: ChestPlan, rows: Array) -> Array:
    """(n, SPOTS, 4) draws in [0, 1] for the calcified spots of each row's patient."""
    draws = [
        np.random.default_rng([plan.cohort.seed, 4, int(k)]).random((skeleton.SPOTS, 4)) for k in plan.patient[rows]
    ]
    return np.array(draws, dtype=np.float32)
