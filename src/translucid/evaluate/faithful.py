"""Does the model react where a map says it should? Curves of insertion and deletion, infidelity, sensitivity."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from translucid.errors import ConfigError, ShapeError
from translucid.tensors import Images
from translucid.types import Space

Logits = Callable[[Tensor], Tensor]
"""Images (batch, channel, *space) → logits (batch, label)."""

One = Float[Tensor, "batch *space"]
"""One map per image, on the image's grid."""

Masks = Bool[Tensor, "sample *space"]
"""Which pixels each perturbation removes, in every image alike."""

Fill = Literal["zero", "mean", "blur"]
FILLS = ("zero", "mean", "blur")


# -- what covers, and in which order -------------------------------------------------------------------------------


def fills(x: Images, fill: Fill, width: float = 0.05) -> Images:
    """What stands in the place of removed pixels.

    Args:
        x: (batch, channel, *space).
        fill: "zero", the "mean" of each image and channel, or the image under a Gaussian "blur".
        width: standard deviation of the blur as a share of each side (our choice).

    Raises:
        ConfigError: an unknown fill.

    Example:
        >>> fills(torch.tensor([[[1.0, 3.0]]]), "mean")
        tensor([[[2., 2.]]])

    Fails when: the fill looks like a finding; zero is air, and a black patch a pneumothorax.
    """
    if fill == "zero":
        return torch.zeros_like(x)
    if fill == "mean":
        return x.mean(tuple(range(2, x.ndim)), keepdim=True).expand_as(x)
    if fill != "blur":
        raise ConfigError(f"fill = {fill!r}: known are {', '.join(FILLS)}")
    for axis in range(2, x.ndim):
        x = _smooth(x, axis, width * x.shape[axis])
    return x


def _smooth(x: Tensor, axis: int, sigma: float) -> Tensor:
    """Gaussian along one axis, cut at three standard deviations, edges repeated."""
    reach = max(1, math.ceil(3 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    weight = torch.exp(-((at / max(sigma, 1e-6)) ** 2) / 2)
    moved = x.movedim(axis, -1)
    flat = functional.pad(moved.reshape(-1, 1, x.shape[axis]), (reach, reach), mode="replicate")
    smooth = functional.conv1d(flat, (weight / weight.sum()).view(1, 1, -1))
    return smooth.view(moved.shape).movedim(-1, axis)


def ranks(maps: One, seed: int = 0) -> Int[Tensor, "batch cell"]:
    """Rank of every cell, 0 for the highest; equal values are ordered by chance, not by place.

    Example:
        >>> ranks(torch.tensor([[0.5, 2.0, 1.0]]))
        tensor([[2, 0, 1]])
    """
    flat = maps.flatten(1)
    draw = torch.Generator().manual_seed(seed)
    shuffle = torch.randperm(flat.shape[1], generator=draw).to(flat.device)
    order = shuffle[torch.sort(flat[:, shuffle], dim=1, descending=True, stable=True).indices]
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def constant(maps: Tensor) -> Bool[Tensor, " batch"]:
    """Which maps say nothing.

    Example:
        >>> constant(torch.tensor([[1.0, 1.0], [1.0, 2.0]]))
        tensor([ True, False])
    """
    flat = maps.flatten(1)
    return flat.amax(1) <= flat.amin(1)


def check_rows(x: Tensor, maps: Tensor, labels: Tensor, rows: int) -> None:
    """Raise unless there is one map of the image's size and one label for every image.

    Example:
        >>> check_rows(torch.zeros(2, 1, 4), torch.zeros(2, 4), torch.zeros(2), 8)
    """
    if maps.shape != (len(x), *x.shape[2:]) or labels.shape != (len(x),):
        raise ShapeError(
            f"images {tuple(x.shape)}, maps {tuple(maps.shape)}, labels {tuple(labels.shape)}: need (batch, channel, "
            "*space), (batch, *space) and (batch,); resize maps first"
        )
    if rows < 1:
        raise ConfigError(f"rows = {rows}: at least one image in a forward pass")


def scored(model: Logits, x: Images, labels: Tensor, rows: int = 64) -> Float[Tensor, " batch"]:
    """Each image's logit of its own label, in double precision, `rows` images at a time and without a graph.

    Example:
        >>> scored(lambda x: x.flatten(1), torch.tensor([[[1.0, 2.0]]]), torch.tensor([1]))
        tensor([2.], dtype=torch.float64)
    """
    with torch.no_grad():
        parts = [
            model(x[i : i + rows]).gather(1, labels[i : i + rows, None].to(x.device))[:, 0].double().cpu()
            for i in range(0, len(x), rows)
        ]
    return torch.cat(parts)


class Ends(NamedTuple):
    """Where every curve begins and ends, whatever the map: the image, and the image wholly covered.

    Attributes:
        cover: (batch, channel, *space) what stands in the place of removed pixels.
        whole, bare: (batch,) logit of each image's label, and of its cover.
    """

    cover: Tensor
    whole: Tensor
    bare: Tensor


def ends(model: Logits, x: Images, labels: Tensor, fill: Fill = "blur", rows: int = 64) -> Ends:
    """What all maps of these images share, so that it is computed once.

    Example:
        >>> found = ends(lambda x: x.sum(2), torch.tensor([[[4.0, 1.0]]]), torch.zeros(1, dtype=torch.long), "zero")
        >>> found.whole, found.bare
        (tensor([5.], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    cover = fills(x, fill)
    return Ends(cover, scored(model, x, labels, rows), scored(model, cover, labels, rows))


# -- insertion and deletion ----------------------------------------------------------------------------------------


def perturbation_curve(
    model: Logits,
    x: Images,
    maps: One,
    labels: Int[Tensor, " batch"],
    mode: Literal["insertion", "deletion"],
    *,
    steps: int = 8,
    fill: Fill = "blur",
    rows: int = 64,
    seed: int = 0,
    known: Ends | None = None,
    order: Int[Tensor, "batch cell"] | None = None,
) -> Float[Tensor, "batch point"]:
    """The label's probability while pixels go out, or come in, from the highest of the map to the lowest.

    Args:
        model: images → logits (batch, label).
        x: (batch, channel, *space).
        maps: (batch, *space), one label per image; only the order of the cells counts.
        labels: which label each map explains.
        mode: "deletion" covers pixels of the image, "insertion" uncovers them.
        steps: equal shares in which the pixels go; steps + 1 forward passes per image, two of them the same for every
            map.
        fill: what covers, see `fills`.
        rows: images in one forward pass.
        seed: breaks ties.
        known: `ends` of these images with this fill, where they are at hand.
        order: `ranks` of the maps with this seed, where they are at hand.

    Returns:
        (batch, steps + 1).

    Raises:
        ShapeError: shapes do not agree.
        ConfigError: an unknown mode or fill, or no step.

    Example:
        >>> x, label = torch.tensor([[[4.0, 0.0]]]), torch.zeros(1, dtype=torch.long)
        >>> curve = perturbation_curve(lambda x: x[:, :, 0], x, x[:, 0], label, "deletion", steps=2, fill="zero")
        >>> [round(p, 3) for p in curve[0].tolist()]
        [0.982, 0.5, 0.5]

    Source: Petsiuk, Das & Saenko, RISE, BMVC 2018, arXiv:1806.07421 (there softmax; labels need not exclude one another
    here, so it is the sigmoid of the label's own logit).

    Fails when: the covered image is nothing the model knows; what the curve shows is then the fill.
    """
    check_rows(x, maps, labels, rows)
    if mode not in ("insertion", "deletion"):
        raise ConfigError(f"mode = {mode!r}: known are insertion, deletion")
    if steps < 1:
        raise ConfigError(f"steps = {steps}: at least one")
    whole = ends(model, x, labels, fill, rows) if known is None else known
    start, end = (x, whole.cover) if mode == "deletion" else (whole.cover, x)
    order, cells = ranks(maps, seed) if order is None else order, math.prod(x.shape[2:])
    counts = [round(k * cells / steps) for k in range(1, steps)]
    together = max(1, rows // len(x))
    outer = (whole.whole, whole.bare) if mode == "deletion" else (whole.bare, whole.whole)
    points = [outer[0][None]]
    for i in range(0, len(counts), together):
        some = counts[i : i + together]
        moved = torch.cat([(order < c).view(-1, 1, *x.shape[2:]) for c in some])
        many = [1] * (x.ndim - 1)
        mixed = torch.where(moved, end.repeat(len(some), *many), start.repeat(len(some), *many))
        points.append(scored(model, mixed, labels.repeat(len(some)), rows).view(len(some), len(x)))
    return torch.cat([*points, outer[1][None]]).T.sigmoid()


def area_under(curve: Float[Tensor, "batch point"]) -> Float[Tensor, " batch"]:
    """Area under a curve of evenly spaced points on [0, 1], by trapezoids.

    Example:
        >>> area_under(torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([0.2500])
    """
    return (curve[:, 1:] + curve[:, :-1]).mean(1) / 2


# -- infidelity ----------------------------------------------------------------------------------------------------


def infidelity(
    explained: Float[Tensor, "sample batch"], dropped: Float[Tensor, "sample batch"], normalise: bool = False
) -> Float[Tensor, " batch"]:
    """Mean squared gap between the drop a map predicts and the drop there is, E_I[(⟨I, Φ⟩ − (f(x) − f(x − I)))²].

    Args:
        explained: ⟨I, Φ⟩ for each perturbation and image.
        dropped: f(x) − f(x − I).
        normalise: scale each map by the factor β = E[⟨I, Φ⟩ f']/E[⟨I, Φ⟩²] that suits it best, and give the share of
            E[f'²] that is left: 0 is best, 1 says no more than an empty map. Maps in other units can then be compared.

    Returns:
        (batch,); normalised, nan where nothing dropped.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> infidelity(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [4.0]]))
        tensor([2.5000])
        >>> infidelity(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [4.0]]), normalise=True)
        tensor([0.])

    Source: Yeh et al., On the (in)fidelity and sensitivity of explanations, NeurIPS 2019, arXiv:1901.09392; the share
    is ours.

    Fails when: few perturbations are drawn; a map may fit them by luck.
    """
    if explained.shape != dropped.shape or explained.ndim != 2:
        raise ShapeError(f"explained {tuple(explained.shape)} and dropped {tuple(dropped.shape)} need (sample, batch)")
    if not normalise:
        return ((explained - dropped) ** 2).mean(0)
    own, both, all_ = ((a * b).mean(0) for a, b in ((explained,) * 2, (explained, dropped), (dropped,) * 2))
    fitted = torch.where(own > 0, both**2 / own.where(own > 0, 1), 0)
    return torch.where(all_ > 0, (1 - fitted / all_.where(all_ > 0, 1)).clamp(min=0), math.nan)


def squares(space: Space, samples: int, side: float = 0.25, seed: int = 0) -> Masks:
    """Squares (cubes) at random places, for removing what lies under them.

    Args:
        space: size of the image.
        samples: how many.
        side: share of each axis.
        seed: of the places.

    Example:
        >>> squares((8, 8), 3).sum((1, 2))
        tensor([4, 4, 4])

    Source: Yeh et al. 2019, arXiv:1901.09392 (square removal).

    Fails when: the finding is much smaller than the square; a coarse map then explains as well as a fine one.
    """
    if samples < 1 or not 0 < side <= 1:
        raise ConfigError(f"samples = {samples} and side = {side}: at least one square, of a share of the side")
    draw = torch.Generator().manual_seed(seed)
    found = torch.ones(samples, *space, dtype=torch.bool)
    for axis, n in enumerate(space):
        size = max(1, round(side * n))
        start = torch.randint(0, n - size + 1, (samples, 1), generator=draw)
        at = torch.arange(n)[None]
        shape = [samples, *[1] * len(space)]
        shape[axis + 1] = n
        found &= ((at >= start) & (at < start + size)).view(shape)
    return found


def removal_drops(
    model: Logits,
    x: Images,
    labels: Int[Tensor, " batch"],
    masks: Masks,
    fill: Fill = "blur",
    rows: int = 64,
    known: Ends | None = None,
) -> Float[Tensor, "sample batch"]:
    """f(x) − f(x with the pixels under each mask covered); the same for all maps of these images.

    `known` are the `ends` of these images with this fill, where they are at hand.

    Example:
        >>> x, mask = torch.tensor([[[4.0, 1.0]]]), torch.tensor([[True, False]])
        >>> removal_drops(lambda x: x.sum(2), x, torch.zeros(1, dtype=torch.long), mask, "zero")
        tensor([[4.]], dtype=torch.float64)
    """
    whole = ends(model, x, labels, fill, rows) if known is None else known
    covered = (torch.where(m, whole.cover, x) for m in masks.to(x.device))
    return torch.stack([whole.whole - scored(model, some, labels, rows) for some in covered])


def explained_drops(maps: One, masks: Masks) -> Float[Tensor, "sample batch"]:
    """What a map of contributions says the logit loses with the pixels under each mask: their sum.

    Example:
        >>> explained_drops(torch.tensor([[4.0, 1.0]]), torch.tensor([[True, False]]))
        tensor([[4.]], dtype=torch.float64)
    """
    return masks.flatten(1).to(maps.device, torch.float64) @ maps.flatten(1).double().T


# -- sensitivity ---------------------------------------------------------------------------------------------------


def max_sensitivity(maps: Tensor, others: Iterable[Tensor]) -> Float[Tensor, " batch"]:
    """The most a map changes under a small change of the image, max_j ‖Φ(x + δ_j) − Φ(x)‖/‖Φ(x)‖.

    Args:
        maps: (batch, …).
        others: maps of the same images after a small change, for example those of `nearby`.

    Returns:
        (batch,) 0 or more; nan where the map is zero.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> max_sensitivity(torch.tensor([[3.0, 4.0]]), [torch.tensor([[3.0, 5.0]]), torch.tensor([[3.0, 4.0]])])
        tensor([0.2000])

    Source: Yeh et al. 2019, arXiv:1901.09392.

    Fails when: the model itself changes that much; a faithful map then has to follow.
    """
    flat = maps.flatten(1)
    size = flat.norm(dim=1)
    worst = torch.full_like(size, -math.inf)
    for other in others:
        if other.shape != maps.shape:
            raise ShapeError(f"maps {tuple(maps.shape)} and {tuple(other.shape)} must be of the same images")
        worst = torch.maximum(worst, (other.flatten(1) - flat).norm(dim=1))
    return torch.where((size > 0) & (worst >= 0), worst / size.where(size > 0, 1), math.nan)


def nearby(x: Images, samples: int = 4, radius: float = 0.02, seed: int = 0) -> Iterator[Images]:
    """The images with uniform noise up to a share of each image's range, the same draws for every image.

    Example:
        >>> x = torch.tensor([[[0.0, 1.0]]])
        >>> bool(max((n - x).abs().max() for n in nearby(x, 3)) <= 0.02)
        True
    """
    if samples < 1 or not 0 <= radius < math.inf:
        raise ConfigError(f"samples = {samples} and radius = {radius}: at least one sample, a radius such as 0.02")
    draw = torch.Generator().manual_seed(seed)
    flat = x.flatten(1)
    wide = (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (x.ndim - 1))
    for _ in range(samples):
        drawn = 2 * torch.rand(x.shape[1:], generator=draw, dtype=torch.float64) - 1
        yield x + radius * wide * drawn.to(device=x.device, dtype=x.dtype)
