"""Trained attackers: siamese and contrastive networks, and two-sided ones that link films to records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from translucid.audit import nets
from translucid.audit.linear import Matcher, Pca, flat, inner, mated_pairs, own_auc, own_points, spent, unit
from translucid.audit.pairs import quick_auc
from translucid.audit.records import Public, Release
from translucid.audit.staging import moved
from translucid.errors import ConfigError

Kind = Literal["codes", "pictures"]
Input = Callable[[Release], Tensor]
KINDS = ("codes", "pictures")
EACH = 3
"""Films of one person in a batch at most: the more people in it, the more there is to tell apart."""
SHAKE = 0.06
"""Standard deviation of shift, turn and zoom of a picture while a network learns, so that it looks past posture."""
TOP_UP = 0.4
"""After validation a network learns from all of the attacker's films, for this share of the epochs."""


def _check(name: str) -> None:
    if name not in KINDS:
        raise ConfigError(f"a network sees {name!r}: known are codes, pictures")


def picture_input(release: Release) -> Input:
    """Pictures standardised pixel by pixel over the attacker's films."""
    x = release.pictures
    mean, deviation = x.mean(0), x.std(0)
    alive = deviation > 1e-5
    factor = alive / deviation.where(alive, torch.ones(()))
    return lambda seen: (seen.pictures - mean) * factor


def code_input(release: Release, components: int, kept: Callable[[Release], Tensor] | None = None) -> Input:
    """Principal components of the codes, of unit variance."""
    get = kept or (lambda seen: seen.codes)
    pca = Pca.fit(flat(get(release)), components)
    if not len(pca.deviation):
        return lambda seen: torch.zeros(len(seen), 1)
    return lambda seen: torch.from_numpy(pca.whitened(flat(get(seen))))


def batches(x: Tensor, who: Tensor, size: int, seed: int, shake: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Patients in random order without end, up to three films of each, about `size` films at a time."""
    draw = np.random.default_rng([seed, 29])
    order = np.argsort(who.numpy(), kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(who.numpy()[order])) + 1)
    per = max(2, round(size / min(EACH, len(order) / len(groups))))
    while True:
        turn = draw.permutation(len(groups))
        for start in range(0, max(len(turn) - per // 2, 1), per):
            some = [draw.permutation(groups[k])[:EACH] for k in turn[start : start + per]]
            rows = torch.from_numpy(np.concatenate(some))
            yield (_shake(x[rows], int(draw.integers(1 << 31))) if shake else x[rows]), who[rows]


def _shake(x: Tensor, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    gain, shift = (0.1 * torch.randn(len(x), 1, 1, 1, generator=draw) for _ in range(2))
    return moved(x, seed, SHAKE) * (1 + gain) + shift


def numbered(patient: np.ndarray) -> Tensor:
    """Patients as numbers from 0."""
    return torch.from_numpy(np.unique(patient, return_inverse=True)[1].reshape(-1))


def steps_of(public: Public, share: float = 1.0) -> int:
    """Steps that make up the budget's epochs."""
    return max(1, round(share * public.budget.epochs * len(public) / public.budget.batch))


@dataclass(frozen=True)
class Lesson:
    """How a network is taught: on part of the films, then, once validated, a little on all.

    Attributes:
        net: with weights drawn.
        look: an attacker's films → inputs of the network.
        loss: (inputs, patients) → scalar.
        rate: highest learning rate.
        epochs: times the budget's epochs.
        shake: whether inputs are pictures that may be moved a little.
    """

    net: nn.Module
    look: Callable[[Public], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    rate: float
    epochs: float
    shake: bool = False

    def teach(
        self, public: Public, seed: int, validate: Callable[[Public], tuple[float, float]]
    ) -> tuple[float, float]:
        """Change the network's weights; returns how well it did on untouched patients before it saw them."""
        learn, held = public.split(seed)
        self._train(learn, seed, self.epochs, self.rate)
        reached = validate(held)
        self._train(public, seed + 1, self.epochs * TOP_UP, self.rate / 3)
        return reached

    def _train(self, part: Public, seed: int, epochs: float, rate: float) -> None:
        feed = batches(self.look(part), numbered(part.patient), part.budget.batch, seed, self.shake)
        nets.train(self.net, feed, self.loss, steps_of(part, epochs), rate)

    def spent(self, public: Public) -> dict[str, float]:
        """What was used."""
        return spent(public, mated_pairs(public.patient), self.epochs * (1 + TOP_UP) * public.budget.epochs)


def _points(net: nn.Module, x: Tensor) -> np.ndarray:
    return unit(nets.run(net, x).double().numpy())


def _network(sees: str, learn: Public, dims: int, seed: int) -> tuple[nn.Module, Input]:
    if sees == "pictures":
        shape = picture_input(learn.release)
        x = learn.release.pictures
        return nets.picture_net(x.shape[1], tuple(x.shape[2:]), learn.budget.width, dims, seed), shape
    shape = code_input(learn.release, 200)
    return nets.code_net(shape(learn.release.take(np.arange(1))).shape[1], 256, dims, seed), shape


@dataclass(frozen=True)
class Contrastive:
    """A network whose points of one person lie together, away from those of all others in a large batch.

    Attributes:
        sees: "pictures" (a small convolutional network) or "codes" (a perceptron on principal components).
        dims: of the points.
        heat: temperature of the contrast.
        epochs: times the budget's epochs.
        rate: highest learning rate.

    Raises:
        ConfigError: an unknown input.

    Example:
        >>> Contrastive().dims
        128

    Source: Khosla et al., Supervised contrastive learning, NeurIPS 2020, arXiv:2004.11362.

    Fails when: films are few; a weak attacker is then read as a private code. Look at the plain row.
    """

    sees: Kind = "pictures"
    dims: int = 128
    heat: float = 0.1
    epochs: float = 1.0
    rate: float = 3e-3

    def __post_init__(self) -> None:
        _check(self.sees)

    def fit(self, release: Release, public: Public, seed: int) -> Matcher:
        """Learn from the attacker's own films."""
        net, shape = _network(self.sees, public.split(seed)[0], self.dims, seed)

        def loss(x: Tensor, who: Tensor) -> Tensor:
            z = net(x)
            return nets.contrastive_loss(z, z, who, who, self.heat)

        def embed(seen: Release) -> np.ndarray:
            return _points(net, shape(seen))

        shake = self.sees == "pictures"
        lesson = Lesson(net, lambda mine: shape(mine.release), loss, self.rate, self.epochs, shake)
        validation = lesson.teach(public, seed, lambda held: own_auc(embed, held))
        own = own_points(embed, public)
        return Matcher(embed, lesson.spent(public), *validation, own=(own, own))


class _Pairs(nn.Module):
    """Two branches with the same weights, and how much each difference speaks against the same person."""

    def __init__(self, branch: nn.Module, dims: int) -> None:
        super().__init__()
        self.branch = branch
        self.weight = nn.Parameter(torch.full((dims,), -4.0 / dims))
        self.start = nn.Parameter(torch.full((), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        """Points."""
        points: Tensor = self.branch(x)
        return points

    def logits(self, a: Tensor, b: Tensor) -> Tensor:
        """(n, m) log-odds that each pair is one person: b + w·|a − b|."""
        near = (a[:, None] - b[None]).abs() @ self.weight
        return near + self.start


@dataclass(frozen=True)
class Siamese:
    """Two equal branches and a decision on the absolute difference, trained by cross-entropy on all pairs of a batch.

    Attributes:
        sees: "codes" or "pictures".
        dims: of the branches' output.
        epochs: times the budget's epochs.
        rate: highest learning rate.

    Raises:
        ConfigError: an unknown input.

    Example:
        >>> Siamese("pictures").sees
        'pictures'

    Source: the attacker of Packhäuser et al., Scientific Reports 2022, doi:10.1038/s41598-022-19045-3, made small.

    Fails when: films are few, as every trained attacker.
    """

    sees: Kind = "codes"
    dims: int = 64
    epochs: float = 2.0
    rate: float = 2e-3

    def __post_init__(self) -> None:
        _check(self.sees)

    def fit(self, release: Release, public: Public, seed: int) -> Matcher:
        """Learn from the attacker's own films."""
        branch, shape = _network(self.sees, public.split(seed)[0], self.dims, seed)
        net = _Pairs(branch, self.dims)

        def embed(seen: Release) -> np.ndarray:
            return np.asarray(nets.run(net, shape(seen)).numpy())

        def compare(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                rows = [net.logits(part, torch.from_numpy(b)) for part in torch.from_numpy(a).split(64)]
            return torch.cat(rows).double().numpy()

        def loss(x: Tensor, who: Tensor) -> Tensor:
            z = net(x)
            return nets.siamese_loss(net.logits(z, z), who)

        shake = self.sees == "pictures"
        lesson = Lesson(net, lambda mine: shape(mine.release), loss, self.rate, self.epochs, shake)
        validation = lesson.teach(public, seed, lambda held: own_auc(embed, held, compare))
        return Matcher(embed, lesson.spent(public), *validation, compare)


@dataclass(frozen=True)
class Cross:
    """Two different branches, one for what the attacker holds and one for what was released, brought together.

    The held side is the plain film, or the record under another key. So it needs no knowledge of how the records
    were made, only examples of both.

    Attributes:
        dims: of the points.
        heat: temperature of the contrast.
        epochs: times the budget's epochs.
        rate: highest learning rate.

    Example:
        >>> Cross().heat
        0.1

    Source: contrast between two sides as in Oord et al. 2018, arXiv:1807.03748, with all mates of a person.

    Fails when: the compressor can be run on the held film; then compressing it is the stronger attack.
    """

    dims: int = 64
    heat: float = 0.1
    epochs: float = 2.0
    rate: float = 2e-3

    def fit(self, release: Release, public: Public, seed: int) -> Matcher:
        """Learn from the attacker's own films in both forms."""
        learn = public.split(seed)[0]
        left_in, right_in = code_input(_side(learn), 200, _held), code_input(learn.release, 200)
        one = learn.take(np.arange(1))
        cut, rest = left_in(_side(one)).shape[1], right_in(one.release).shape[1]
        left, right = (nets.code_net(n, 256, self.dims, seed + k) for k, n in enumerate((cut, rest)))

        def loss(x: Tensor, who: Tensor) -> Tensor:
            a, b = left(x[:, :cut]), right(x[:, cut:])
            there = nets.contrastive_loss(a, b, who, who, self.heat)
            return (there + nets.contrastive_loss(b, a, who, who, self.heat)) / 2

        def look(mine: Public) -> Tensor:
            return torch.cat([left_in(_side(mine)), right_in(mine.release)], 1)

        def embed(seen: Release) -> np.ndarray:
            return _points(right, right_in(seen))

        def embed_probe(seen: Release) -> np.ndarray:
            return _points(left, left_in(seen))

        def validate(held: Public) -> tuple[float, float]:
            scores = embed_probe(_side(held)) @ embed(held.release).T
            reached = quick_auc((scores + scores.T) / 2, held.patient)
            return reached, reached

        lesson = Lesson(nn.ModuleList([left, right]), look, loss, self.rate, self.epochs)
        validation = lesson.teach(public, seed, validate)
        mine = public.take(np.flatnonzero(public.original))
        own = (embed_probe(_side(mine)), embed(mine.release))
        return Matcher(embed, lesson.spent(public), *validation, inner, embed_probe, own)


def _held(seen: Release) -> Tensor:
    """What the probe's side shows: the plain film where there is one."""
    return seen.codes if seen.films is None else seen.films


def _side(public: Public) -> Release:
    return public.release if public.release.probe is None else public.release.probe
