"""Attackers who draw the film from its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from translucid.audit import nets
from translucid.audit.learned import steps_of
from translucid.audit.linear import Fixed, Scale, flat, spent
from translucid.audit.picture import ssim
from translucid.audit.records import Public, Release, to_grid
from translucid.audit.staging import AT_ONCE
from translucid.errors import InputError

Draw = Callable[[Release], Tensor]
GAINS = tuple(10.0**k for k in range(-6, 4))


def _fitted(draw: Draw, public: Public, held: Public, epochs: float = 0) -> Fixed:
    quality = float(ssim(draw(held.release), held.films).mean())
    return Fixed(draw, spent(public, epochs=epochs), quality)


@dataclass(frozen=True)
class MeanImage:
    """The mean film, whatever the record: what can be drawn without it.

    Example:
        >>> MeanImage()
        MeanImage()

    Source: the natural floor; our own.

    Fails when: it is read as an attack. It is the line that others must pass.
    """

    def fit(self, release: Release, public: Public, seed: int) -> Fixed:
        """Take the mean of the attacker's films."""
        mean = public.films[torch.from_numpy(public.original)].mean(0, keepdim=True)
        return _fitted(lambda seen: mean.expand(len(seen), *mean.shape[1:]), public, public.split(seed)[1])


@dataclass(frozen=True)
class Nearest:
    """The attacker's own film whose record is nearest, numbers scaled to unit variance.

    Example:
        >>> Nearest()
        Nearest()

    Source: our own; the simplest of all inversions.

    Fails when: the attacker has few films; the nearest is then far.
    """

    def fit(self, release: Release, public: Public, seed: int) -> Fixed:
        """Keep the attacker's records beside his films."""
        learn, held = public.split(seed)
        return Fixed(_nearest(public), spent(public), float(ssim(_nearest(learn)(held.release), held.films).mean()))


def _nearest(public: Public) -> Draw:
    x = flat(public.release.codes)
    scale = Scale.fit(x)
    mine, films = scale(x), public.films
    size = (mine**2).sum(1)

    def draw(seen: Release) -> Tensor:
        far = size - 2 * scale(flat(seen.codes)) @ mine.T  # less what is the same for all
        return films[torch.from_numpy(far.argmin(1))]

    return draw


@dataclass(frozen=True)
class Inverse:
    """The compressor's own analytic inverse, with the gain and offset that fit the attacker's films best.

    Example:
        >>> Inverse()
        Inverse()

    Source: the only reconstruction tried by Gaudio et al., DeepFixCX, 2023, doi:10.1002/widm.1495.

    Fails when: the code has lost its signs; a trained decoder then draws far more. Never report it alone.
    """

    def fit(self, release: Release, public: Public, seed: int) -> Fixed:
        """Fit two numbers.

        Raises:
            InputError: the codec has no inverse.
        """
        return _fitted(_inverse(public), public, public.split(seed)[1])


def lifted(public: Public) -> Draw:
    """The analytic inverse on the budget's grid, unless it is as large as the films already.

    Raises:
        InputError: the codec has none.
    """
    lift, grid = public.codec.lift, public.budget.grid
    if lift is None:
        raise InputError(f"{public.codec.name} has no analytic inverse: hand in `lift`, or leave the attack out")
    size = public.films.shape[2:]

    def draw(seen: Release) -> Tensor:
        parts = [lift(part) for part in seen.codes.split(AT_ONCE)]
        return torch.cat([part if part.shape[2:] == size else to_grid(part, grid) for part in parts])

    return draw


def _inverse(public: Public) -> Draw:
    lift = lifted(public)
    mine = public.take(np.flatnonzero(public.original))
    x, y = lift(mine.release).double().flatten(), mine.films.double().flatten()
    x0, y0 = x.mean(), y.mean()
    spread = ((x - x0) ** 2).mean()
    gain = float(((x - x0) * (y - y0)).mean() / spread) if spread > 1e-12 else 0.0
    return lambda seen: ((lift(seen) - float(x0)) * gain + float(y0)).clamp(0, 1)


@dataclass(frozen=True)
class Ridge:
    """The best linear inverse: least squares from all numbers of the code to all pixels, in closed form.

    ŷ = ȳ + K(z, Z)(K + γ·tr(K)/n·I)⁻¹(Y − Ȳ) with K the inner products of standardised records; γ is chosen on the
    attacker's validation patients.

    Attributes:
        gains: choices for γ.

    Example:
        >>> Ridge(gains=(0.1,)).gains
        (0.1,)

    Source: Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634.

    Fails when: code and film are linked by more than sums, as when signs are dropped; the decoder then sees more.
    """

    gains: tuple[float, ...] = GAINS

    def fit(self, release: Release, public: Public, seed: int) -> Fixed:
        """Solve for all choices at once, then again with all films."""
        learn, held = public.split(seed)
        quality, gain = choose_gain(learn, held, self.gains)
        return Fixed(ridge(public, gain), spent(public), quality)


def _dense(public: Public) -> Public:
    most = public.budget.most
    return public if len(public) <= most else public.take(np.argsort(~public.original, kind="stable")[:most])


@dataclass(frozen=True)
class _Solved:
    """Everything of a ridge regression but its γ."""

    scale: Scale
    rows: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    target: np.ndarray
    mean: np.ndarray
    shape: tuple[int, ...]

    def predict(self, kernel: np.ndarray, gain: float) -> Tensor:
        size = max(float(self.values.sum()) / len(self.values), 1e-12)
        answer = (kernel @ self.vectors / (np.maximum(self.values, 0) + gain * size)) @ self.target + self.mean
        return torch.from_numpy(answer.astype(np.float32)).reshape(-1, *self.shape).clamp(0, 1)

    def kernel(self, seen: Release) -> np.ndarray:
        return (self.scale(flat(seen.codes)) @ self.rows.T).astype(np.float64)


def _solve(public: Public) -> _Solved:
    public = _dense(public)
    x = flat(public.release.codes)
    scale = Scale.fit(x)
    rows = scale(x)
    values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    y = flat(public.films).astype(np.float64)
    mean = y.mean(0)
    return _Solved(scale, rows, values, vectors, vectors.T @ (y - mean), mean, tuple(public.films.shape[1:]))


def choose_gain(learn: Public, held: Public, gains: tuple[float, ...]) -> tuple[float, float]:
    """(SSIM, γ) of the best choice on validation patients."""
    solved = _solve(learn)
    kernel = solved.kernel(held.release)
    found = [float(ssim(solved.predict(kernel, g), held.films).mean()) for g in gains]
    best = int(np.argmax(found))
    return found[best], gains[best]


def ridge(public: Public, gain: float) -> Draw:
    """The regression learnt from all the attacker's films."""
    solved = _solve(public)
    return lambda seen: solved.predict(solved.kernel(seen), gain)


@dataclass(frozen=True)
class Decoder:
    """A U-Net that improves the best linear inverse, seeing the analytic one and the compact image beside it.

    Trained with L1 + 1 − SSIM; the linear inverses it learns from are made by regressions that did not see the film.

    Attributes:
        epochs: times the budget's epochs.
        rate: highest learning rate.

    Example:
        >>> Decoder().rate
        0.002

    Source: U-Net, Ronneberger et al. 2015, arXiv:1505.04597; the loss as in Zhao et al. 2017,
    doi:10.1109/TCI.2016.2644865.

    Fails when: films are few: it draws a likely chest, not this one. Read the re-identification from its pictures.
    """

    epochs: float = 0.5
    rate: float = 2e-3

    def fit(self, release: Release, public: Public, seed: int) -> Fixed:
        """Cross-fit the linear inverse by patients, then train the network."""
        learn, held = public.split(seed)
        gain = choose_gain(learn, held, GAINS)[1]
        made = _cross_fitted(learn, gain, seed)
        stack = _Stack.of(public)
        x = stack(learn.release, made)
        net = nets.unet(x.shape[1], public.films.shape[1], public.budget.width, seed)
        size = max(8, public.budget.batch // 8)
        steps = max(1, round(steps_of(learn, self.epochs) * public.budget.batch / size))
        nets.train(net, _rows(x, learn.films, size, seed), lambda a, b: nets.picture_loss(net(a), b), steps, self.rate)
        linear = ridge(learn, gain)

        def draw(seen: Release) -> Tensor:
            return nets.run(net, stack(seen, linear(seen)), 64).clamp(0, 1)

        return _fitted(draw, public, held, self.epochs * public.budget.epochs)


@dataclass(frozen=True)
class _Stack:
    """Linear inverse, analytic inverse and compact image, one above the other on the grid."""

    lift: Draw | None
    grid: int
    mean: tuple[Tensor, ...]
    factor: tuple[float, ...]

    @staticmethod
    def of(public: Public) -> _Stack:
        lift = None if public.codec.lift is None else lifted(public)
        bare = _Stack(lift, public.budget.grid, (), ())
        parts = bare.parts(public.take(np.flatnonzero(public.original)).release)
        spread = [float((p - p.mean(0)).std()) for p in parts]
        factor = tuple(0.2 / s if s > 1e-5 else 0.0 for s in spread)
        return _Stack(lift, bare.grid, tuple(p.mean(0) for p in parts), factor)

    def parts(self, seen: Release) -> list[Tensor]:
        size = (self.grid, self.grid)
        picture = F.interpolate(seen.pictures, size=size, mode="bilinear", align_corners=False)
        return [picture] if self.lift is None else [picture, self.lift(seen)]

    def __call__(self, seen: Release, linear: Tensor) -> Tensor:
        parts = zip(self.parts(seen), self.mean, self.factor, strict=True)
        return torch.cat([linear, *((p - m) * f for p, m, f in parts)], 1)


def _cross_fitted(public: Public, gain: float, seed: int) -> Tensor:
    """(n, channel, grid, grid) each film's linear inverse by a regression on the other half of the patients."""
    names = np.unique(public.patient)
    first = np.isin(public.patient, np.random.default_rng([seed, 31]).permutation(names)[: len(names) // 2])
    made = torch.empty_like(public.films)
    for side in (first, ~first):
        rows = np.flatnonzero(side)
        made[torch.from_numpy(rows)] = ridge(public.take(np.flatnonzero(~side)), gain)(public.release.take(rows))
    return made


def _rows(x: Tensor, y: Tensor, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    draw = np.random.default_rng([seed, 37])
    while True:
        for rows in torch.from_numpy(draw.permutation(len(x))).split(size):
            yield x[rows], y[rows]
