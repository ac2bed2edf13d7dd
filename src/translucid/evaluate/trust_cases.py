"""What the trust protocol is given: cases with their truth, models to compare, and options that set its cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from translucid.errors import ConfigError, ShapeError
from translucid.evaluate.faithful import FILLS, Fill, Logits, scored
from translucid.evaluate.road import SHARES
from translucid.tensors import Explainer
from translucid.types import Space

Explainers = Mapping[str, Explainer]

LEAST = 2
"""Patients without whom there is no interval, and so no verdict."""
ENOUGH = 20
"""Patients below which an interval is rough, and a test seldom decides."""


@dataclass(frozen=True)
class TrustSettings:
    """How much the protocol does, and where its verdicts draw the line.

    A pair is an image and one of its labels. Forward passes per drawn pair: (steps − 1)·2 + 2·len(shares) for each map,
    and removals + 2 once for all maps. On top each explainer runs once per pair, `nearby` times for sensitivity,
    `stages` times for the weights, and once for each further model; labels of one image are explained together.

    Attributes:
        localisation: which of `LOCALISATION`.
        pairs: drawn for faithfulness and sensitivity; 0 takes all.
        sanity: drawn of those for randomisation, repeatability and reproducibility (100 images in Arun et al.).
        steps, fill: of insertion and deletion.
        shares: of ROAD.
        removals, side: squares of infidelity, and their share of each side.
        nearby, radius: noisy copies of max-sensitivity, and their noise as a share of the image's range.
        stages: of the cascading randomisation.
        rows: images in one forward pass.
        resamples, level: of the intervals.
        alpha: of the tests against the best trivial map, after Holm's correction.
        unlike: below this similarity two maps have nothing in common (our choice).
        alike: from this similarity on two maps say the same (our choice).
        changed: from this max-sensitivity on a map changes as much as it holds (our choice).
        seed: of every draw.

    Raises:
        ConfigError: an option is out of range.

    Example:
        >>> TrustSettings(stages=2).stages
        2

    Fails when: `sanity` is so small that every interval is wide; nothing passes then.
    """

    localisation: tuple[str, ...] = ("map_average_precision", "pointing_game", "energy_share", "iou_otsu")
    pairs: int = 64
    sanity: int = 32
    steps: int = 6
    fill: Fill = "blur"
    shares: tuple[float, ...] = SHARES
    removals: int = 24
    side: float = 0.25
    nearby: int = 2
    radius: float = 0.02
    stages: int = 3
    rows: int = 32
    resamples: int = 2000
    level: float = 0.95
    alpha: float = 0.05
    unlike: float = 0.2
    alike: float = 0.5
    changed: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "removals", "nearby", "stages", "rows", "resamples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: at least 1")
        for name in ("pairs", "sanity", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: 0 or more")
        for name in ("side", "alpha", "unlike", "alike"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: needs a value in (0, 1]")
        if self.fill not in FILLS:
            raise ConfigError(f"fill = {self.fill!r}: known are {', '.join(FILLS)}")
        if not self.shares or not all(0 < s < 1 for s in self.shares):
            raise ConfigError(f"shares = {self.shares}: parts of the pixels, each between 0 and 1")


@dataclass(frozen=True)
class TrustCases:
    """The cases a model is explained on, all on the images' grid.

    Attributes:
        images: (case, channel, *space).
        labels: (label,) names, in the order of the model's logits.
        patients: (case,) any names.
        masks: (case, label, *space) bool, where each finding is; None where unknown.
        present: (case, label) 1 where the label is; None takes the labels that have a mask.
        gaze: (case, *space) where a reader looked, smoothed; zero for cases without gaze.
        fixations: (case, *space) fixations per cell, not smoothed.
        average: (label, *space) where findings were in training, in share of masks.

    Raises:
        ShapeError: shapes do not agree.

    Example:
        >>> TrustCases(torch.zeros(2, 1, 4, 4), ("mass",), ("a", "b")).space
        (4, 4)
    """

    images: Tensor
    labels: tuple[str, ...]
    patients: tuple[str, ...]
    masks: np.ndarray | None = None
    present: np.ndarray | None = None
    gaze: np.ndarray | None = None
    fixations: np.ndarray | None = None
    average: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, k = len(self.images), len(self.labels)
        if self.images.ndim < 3 or n == 0 or len(self.patients) != n:
            raise ShapeError(f"images {tuple(self.images.shape)} and {len(self.patients)} patients: need one each")
        wanted = {
            "masks": (n, k, *self.space),
            "present": (n, k),
            "gaze": (n, *self.space),
            "fixations": (n, *self.space),
            "average": (k, *self.space),
        }
        for name, shape in wanted.items():
            given = getattr(self, name)
            if given is not None and np.shape(given) != shape:
                raise ShapeError(f"{name} has shape {np.shape(given)}, wanted {shape}")

    @property
    def space(self) -> Space:
        """Size of the images without channels."""
        return tuple(self.images.shape[2:])


@dataclass(frozen=True)
class TrustModels:
    """The model that is judged, and those its maps are held against.

    Attributes:
        model: the judged one.
        seed: the same network trained from another seed, for repeatability.
        architectures: name → another network trained on the same task, for reproducibility.
        random_labels: the same network trained on shuffled labels.
    """

    model: Any
    seed: Any = None
    architectures: Mapping[str, Any] = field(default_factory=dict)
    random_labels: Any = None


@dataclass(frozen=True)
class Pairs:
    """Which label of which image is explained.

    Attributes:
        image, label: (pair,).
        drawn: (drawn pair,) indices of the pairs for what is costly, in the order they were drawn.
    """

    image: np.ndarray
    label: np.ndarray
    drawn: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def table(self, values: np.ndarray, rows: np.ndarray, cases: TrustCases) -> np.ndarray:
        """One number per pair → (case, label), nan for all other pairs."""
        out = np.full((len(cases.images), len(cases.labels)), np.nan)
        out[self.image[rows], self.label[rows]] = values
        return out


def choose_pairs(cases: TrustCases, model: Any, settings: TrustSettings) -> Pairs:
    """Labels that are there, with a mask where masks are given; without any truth each image's highest logit.

    Example:
        >>> cases = TrustCases(torch.eye(2).view(2, 1, 2), ("a", "b"), ("p", "q"))
        >>> choose_pairs(cases, lambda x: x[:, 0], TrustSettings()).label
        array([0, 1])
    """
    there = None if cases.present is None else np.asarray(cases.present) == 1
    if cases.masks is not None:
        drawn_on = np.asarray(cases.masks).reshape(*np.shape(cases.masks)[:2], -1).any(-1)
        there = drawn_on if there is None else there & drawn_on
    if there is None:
        there = _highest(cases, forward_of(model), settings.rows)
    image, label = np.nonzero(there)
    order = np.random.default_rng(settings.seed).permutation(len(image))
    return Pairs(image, label, order[: settings.pairs or None])


def by_labels(image: np.ndarray, label: np.ndarray) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Images that ask for the same labels, so that one call explains all labels of an image.

    Args:
        image, label: (pair,), each pair once.

    Returns:
        (labels, (image, label) places of the pairs) for each set of labels that some image asks for.

    Example:
        >>> by_labels(np.array([7, 8, 7, 9]), np.array([1, 0, 0, 0]))
        [((0,), array([[1],
               [3]])), ((0, 1), array([[2, 0]]))]
    """
    asked: dict[int, list[int]] = {}
    for place in np.lexsort((label, image)).tolist():
        asked.setdefault(int(image[place]), []).append(place)
    sets: dict[tuple[int, ...], list[list[int]]] = {}
    for places in asked.values():
        sets.setdefault(tuple(int(k) for k in label[places]), []).append(places)
    return [(labels, np.array(places)) for labels, places in sorted(sets.items())]


def shortage(cases: TrustCases, pairs: Pairs, settings: TrustSettings) -> list[str]:
    """What too few patients mean for the verdicts, in words; nothing where there are enough.

    Example:
        >>> cases = TrustCases(torch.zeros(2, 1, 4), ("mass",), ("a", "b"), present=np.array([[1], [0]]))
        >>> (said,) = shortage(cases, choose_pairs(cases, None, TrustSettings()), TrustSettings())
        >>> said.partition(":")[0]
        'every verdict is n/a'
    """
    patient, few = np.asarray(cases.patients), pairs.drawn[: settings.sanity or None]
    whole, some, least = (
        len(np.unique(patient[pairs.image[rows]])) for rows in (np.arange(len(pairs)), pairs.drawn, few)
    )
    if least >= ENOUGH:
        return []
    drawn = "" if cases.masks is None else " and drawn"
    counts = (
        f"{len(patient)} cases hold {len(pairs)} labels that are present{drawn}; judged are {whole} patients in "
        f"utility and gaze, {some} in insertion, deletion, ROAD and infidelity, {least} in the other criteria"
    )
    if whole < LEAST:
        return [f"every verdict is n/a: {counts}; an interval needs {LEAST} patients, a reliable one {ENOUGH} or more"]
    if least < LEAST:
        return [f"some verdicts are n/a: {counts}; an interval needs {LEAST}: raise trust.options.pairs and sanity"]
    return [f"few patients: {counts}; with fewer than {ENOUGH}, “fails” may only mean not shown to pass"]


def _highest(cases: TrustCases, forward: Logits, rows: int) -> np.ndarray:
    n, k = len(cases.images), len(cases.labels)
    every = [scored(forward, cases.images, torch.full((n,), j), rows).numpy() for j in range(k)]
    return np.asarray(np.stack(every, 1).argmax(1)[:, None] == np.arange(k))


def forward_of(model: Any) -> Logits:
    """Images → logits in evaluation mode; every module's flag is put back after each call.

    Example:
        >>> net = nn.Dropout().train()
        >>> bool((forward_of(net)(torch.ones(1, 3)) == 1).all()), net.training
        (True, True)
    """

    def forward(x: Tensor) -> Tensor:
        with _evaluating(model):
            found = model(x)
        return getattr(found, "logits", found)

    return forward


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    flags = [m.training for m in modules]
    try:
        for m in modules:
            m.training = False
        yield
    finally:
        for m, flag in zip(modules, flags, strict=True):
            m.training = flag


Progress = Callable[[int, int], None]
"""Called with (done, total)."""


def partner(pairs: Pairs, rows: np.ndarray, patients: Sequence[str], seed: int) -> np.ndarray:
    """For each row a row of another patient, of the same label where there is one; −1 where nobody else is there.

    Example:
        >>> pairs = Pairs(np.arange(3), np.zeros(3, int), np.arange(3))
        >>> partner(pairs, np.arange(3), ["a", "b", "b"], 0)[1:]
        array([0, 0])
    """
    who, what = np.asarray(patients)[pairs.image[rows]], pairs.label[rows]
    rng = np.random.default_rng(seed)
    found = np.full(len(rows), -1)
    for i in range(len(rows)):
        other = who != who[i]
        same = np.flatnonzero(other & (what == what[i]))
        choice = same if len(same) else np.flatnonzero(other)
        if len(choice):
            found[i] = rows[rng.choice(choice)]
    return found


def undefined(count: int) -> np.ndarray:
    """So many nan.

    Example:
        >>> undefined(2)
        array([nan, nan])
    """
    return np.full(count, math.nan)
