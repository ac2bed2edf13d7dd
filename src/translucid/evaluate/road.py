"""ROAD: remove pixels by putting in what their neighbours say, and see whether the model misses them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from translucid.errors import ConfigError, InputError, ShapeError
from translucid.evaluate.faithful import Logits, One, check_rows, constant, ranks, scored
from translucid.tensors import Images

Removed = Bool[Tensor, "batch *space"]

SHARES = (0.2, 0.5, 0.8)
"""Shares of the pixels that are removed (the paper takes 10 % to 90 %)."""


def neighbour_mean(x: Tensor, axes: int) -> Tensor:
    """Weighted sum of the neighbours within one cell, W x, nothing beyond the border.

    A neighbour off in k axes weighs 2⁻ᵏ/(2ᵃ − 1): 1/6 and 1/12 in two dimensions, as published; 1/14, 1/28 and 1/56 in
    three (our reading).

    Args:
        x: (…, *space).
        axes: a, how many axes space has.

    Example:
        >>> neighbour_mean(torch.tensor([[0.0, 12.0, 0.0], [0.0, 0.0, 0.0]]), 2)
        tensor([[2., 0., 2.],
                [1., 2., 1.]])
    """
    total = x
    for axis in range(x.ndim - axes, x.ndim):
        n = x.shape[axis]
        wider = total.clone()
        if n > 1:
            wider.narrow(axis, 1, n - 1).add_(total.narrow(axis, 0, n - 1), alpha=0.5)
            wider.narrow(axis, 0, n - 1).add_(total.narrow(axis, 1, n - 1), alpha=0.5)
        total = wider
    return total.sub_(x).div_(2**axes - 1)


def impute(
    x: Images,
    removed: Removed,
    *,
    noise: float = 0.0,
    seed: int = 0,
    tolerance: float = 3e-4,
    iterations: int = 1000,
) -> Images:
    """Replace removed pixels by the solution of "each is the weighted mean of its neighbours", plus a little noise.

    On the removed pixels (D − W) u = W x_known, D the weights of the neighbours that exist. The matrix is symmetric and
    positive definite, so conjugate gradients solve all images at once; they start from a coarse-to-fine guess.

    Args:
        x: (batch, channel, *space).
        removed: which pixels; at least one must stay in each image.
        noise: standard deviation, as a share of each image's range (0.01 in the published code, on images of range 1).
        seed: of the noise; the same draw for every image.
        tolerance: of the residual's norm relative to that of the right-hand side.
        iterations: at most.

    Raises:
        ShapeError: `removed` does not fit.
        InputError: nothing is left of an image.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0, 0.0, 4.0]]])
        >>> impute(x, torch.tensor([[False, True, True, False]]), tolerance=1e-6).round(decimals=3)
        tensor([[[1., 2., 3., 4.]]])

    Source: Rong et al., A consistent and efficient evaluation strategy for attribution methods, ICML 2022,
    arXiv:2202.00449.

    Fails when: almost nothing is left; the picture is then one smooth blur, whatever was removed.
    """
    axes = x.ndim - 2
    if removed.shape != (len(x), *x.shape[2:]):
        raise ShapeError(f"removed {tuple(removed.shape)} does not fit images {tuple(x.shape)}")
    if bool(removed.flatten(1).all(1).any()):
        raise InputError("all pixels of an image are removed: leave some to fill the rest from")
    out = removed.unsqueeze(1).to(x.dtype)
    solved = _solve(x, out, axes, tolerance, iterations)
    if noise:
        draw = torch.Generator().manual_seed(seed)
        drawn = torch.randn(x.shape[1:], generator=draw, dtype=torch.float64).to(device=x.device, dtype=x.dtype)
        flat = x.flatten(1)
        wide = (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (x.ndim - 1))
        solved = solved + noise * wide * drawn
    return torch.where(removed.unsqueeze(1), solved, x)


def _solve(x: Tensor, out: Tensor, axes: int, tolerance: float, iterations: int) -> Tensor:
    """Conjugate gradients for every image and channel by itself."""
    degree = neighbour_mean(torch.ones_like(x[:1, :1]), axes)
    target = neighbour_mean(x * (1 - out), axes) * out

    def apply(v: Tensor) -> Tensor:
        return (degree * v).sub_(neighbour_mean(v, axes)).mul_(out)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).flatten(2).sum(2).view(*a.shape[:2], *[1] * axes)

    u = pyramid_fill(x, 1 - out) * out
    rest = target - apply(u)
    # a scale that counts for black surroundings too, where the right-hand side is zero
    goal = (tolerance**2) * dot(target, target).clamp(min=torch.finfo(x.dtype).tiny)
    way, size = rest.clone(), dot(rest, rest)
    for _ in range(iterations):
        if bool((size <= goal).all()):
            break
        pushed = apply(way)
        steep = dot(way, pushed)
        step = torch.where(steep > 0, size / steep.where(steep > 0, 1), 0)
        u.add_(step * way)
        rest.sub_(pushed.mul_(step))
        new = dot(rest, rest)
        way.mul_(torch.where(size > 0, new / size.where(size > 0, 1), 0)).add_(rest)
        size = new
    return u


def pyramid_fill(x: Images, known: Float[Tensor, "batch 1 *space"]) -> Images:
    """A smooth guess for unknown pixels: known ones averaged into ever coarser cells, and spread again.

    Example:
        >>> pyramid_fill(torch.tensor([[[2.0, 0.0, 0.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]))
        tensor([[[2., 2., 2., 2.]]])
    """
    space = x.shape[2:]
    if max(space) == 1 or bool((known > 0).all()):
        return x
    pool = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[len(space)]
    window = tuple(min(2, n) for n in space)
    share = pool(known, window, ceil_mode=True)
    mean = pool(x * known, window, ceil_mode=True) / share.clamp(min=torch.finfo(x.dtype).tiny)
    coarse = pyramid_fill(mean * (share > 0), (share > 0).to(x.dtype))
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(space)]
    fine = functional.interpolate(coarse, size=space, mode=mode, align_corners=False)
    return torch.where(known > 0, x, fine)


def road(
    model: Logits,
    x: Images,
    maps: One,
    labels: Int[Tensor, " batch"],
    *,
    shares: Sequence[float] = SHARES,
    noise: float = 0.01,
    seed: int = 0,
    rows: int = 64,
    tolerance: float = 3e-4,
    order: Int[Tensor, "batch cell"] | None = None,
) -> Float[Tensor, " batch"]:
    """How much more the model misses what a map calls important than what it calls unimportant.

    ROAD = mean over shares of ½ (p(least important removed) − p(most important removed)), p the probability
    of the label after the removed pixels were imputed (`impute`).

    Args:
        model: images → logits (batch, label).
        x: (batch, channel, *space).
        maps: (batch, *space), one label per image; only the order of the cells counts, ties are broken by the seed.
        labels: which label each map explains.
        shares: of the pixels removed, each in (0, 1).
        noise: of the imputation, as a share of each image's range.
        seed: of the noise and of the ties.
        rows: images in one forward pass.
        tolerance: of the imputation.
        order: `ranks` of the maps with this seed, where they are at hand.

    Returns:
        (batch,) in [−½, ½], 0 for chance; nan where the map is constant.

    Raises:
        ShapeError: shapes do not agree.
        ConfigError: a share outside (0, 1).

    Example:
        >>> x = torch.zeros(1, 1, 6, 6)
        >>> x[0, 0, 2:4, 2:4] = 1
        >>> score = road(lambda x: x.sum((1, 2, 3))[:, None] - 2, x, x[:, 0], torch.zeros(1, dtype=torch.long))
        >>> bool(score > 0.3)
        True

    Source: Rong et al. 2022, arXiv:2202.00449; that most and least relevant are set against each other per image, on
    probabilities instead of accuracy, is our reading.

    Fails when: the evidence is a texture that the neighbours repeat; imputation then removes nothing.
    """
    check_rows(x, maps, labels, rows)
    for share in shares:
        if not 0 < share < 1:
            raise ConfigError(f"share = {share}: needs a part of the pixels, such as 0.2")
    cells = math.prod(x.shape[2:])
    order = ranks(maps, seed) if order is None else order
    found = torch.zeros(len(x), dtype=torch.float64)
    for i in range(0, len(x), rows):
        part = slice(i, i + rows)
        for share in shares:
            count = min(max(1, round(share * cells)), cells - 1)
            for sign, gone in ((-1, order[part] < count), (1, order[part] >= cells - count)):
                gone = gone.view(-1, *x.shape[2:])
                filled = impute(x[part], gone, noise=noise, seed=seed, tolerance=tolerance)
                found[part] += sign * scored(model, filled, labels[part], rows).sigmoid() / (2 * len(shares))
    return torch.where(constant(maps), math.nan, found)
