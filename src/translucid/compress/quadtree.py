"""The quadtree stage: a patch that holds little is replaced by its mean, level by level for a whole batch at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from translucid.errors import ConfigError
from translucid.types import Space

Planes = Float[Tensor, "batch channel height width"]
Cells = Float[Tensor, "batch channel rows columns"]

BINS = 256
PUBLISHED_PIXELS = 320 * 320
CHUNK_VALUES = 2**24


def edges(n: int, cells: int) -> list[int]:
    """Where `cells` cells of nearly equal size begin and end along n pixels: ⌊i·n / cells⌋.

    Example:
        >>> edges(10, 4)
        [0, 2, 5, 7, 10]
    """
    return [i * n // cells for i in range(cells + 1)]


def fitting_depth(space: Space, depth: int) -> int:
    """The depth asked for, or the largest at which a finest cell still spans two pixels each way.

    Example:
        >>> fitting_depth((320, 320), 6), fitting_depth((20, 400), 6)
        (6, 3)
    """
    return max(0, min(depth, min(space).bit_length() - 2))


def quadtree_means(images: Planes, depth: int = 6, threshold: float = 100.0) -> Cells:
    """Leaf means of a quadtree, written on the finest grid of 2^depth × 2^depth cells.

    A patch P is split in four while its level is below `depth` and

        E(P) = Σ_{pixels i of P} −p(xᵢ)·log₂ p(xᵢ) · 102400 / (h·w)  ≥ threshold,

    p being the patch's histogram in 256 bins of [0, 1], smoothed with a box of three bins and renormalised. The sum
    runs over pixels, so it grows with the patch. Every cell below a leaf holds the leaf's mean: the code has a fixed
    length, and equal neighbours cost an entropy coder next to nothing.

    Our reading: the authors' criterion, but on a fixed balanced grid instead of recursion, with E counted as at
    320×320 pixels for every size, and a depth of 6 where theirs reaches single pixels.

    Args:
        images: (batch, channel, height, width) in [0, 1]; each channel has its own tree.
        depth: number of splits; 2^depth must not exceed either side.
        threshold: in bits, as at 320×320; the authors tried 30, 100 and 200.

    Returns:
        (batch, channel, 2^depth, 2^depth).

    Raises:
        ConfigError: the image has fewer pixels than cells along a side.

    Example:
        >>> flat = torch.full((1, 1, 8, 8), 0.5)
        >>> quadtree_means(flat, depth=1, threshold=1e9)[0, 0]
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])

    Source: Johnson et al., HeartSpot, 2022, arXiv:2210.02241 (the criterion). Finkel and Bentley, Quad trees, 1974,
    doi:10.1007/BF00288933.

    Fails when: noise is strong, as every patch then splits; or the finding is a faint step inside a flat patch.
    """
    if min(images.shape[2:]) < 2**depth:
        raise ConfigError(f"a quadtree of depth {depth} needs {2**depth} pixels a side, got {tuple(images.shape[2:])}")
    per_image = images.shape[1] * (BINS * 4 ** max(depth - 1, 0) + images.shape[2] * images.shape[3])
    step = max(1, CHUNK_VALUES // max(per_image, 1))
    done = [_some(images[i : i + step], depth, threshold) for i in range(0, len(images), step)]
    return torch.cat(done) if done else images.new_empty((0, images.shape[1], 2**depth, 2**depth))


def _some(images: Tensor, depth: int, threshold: float) -> Tensor:
    """The same for as many images as fit into memory."""
    sums = cell_sums(images, 2**depth)
    counts = cell_sums(torch.ones_like(images[:1, :1]), 2**depth)
    out = sums / counts
    if depth == 0:
        return out
    histogram = cell_histograms(images.detach(), 2 ** (depth - 1))
    scale = PUBLISHED_PIXELS / (images.shape[2] * images.shape[3])
    for _ in range(depth):
        sums, counts = quarter(sums), quarter(counts)
        split = patch_entropy(histogram) * scale >= threshold
        width = 2**depth // split.shape[2]
        out = torch.where(enlarge(split, width), out, enlarge(sums / counts, width))
        histogram = quarter(histogram.movedim(-1, 1).flatten(1, 2)).unflatten(1, (BINS, -1)).movedim(1, -1)
    return out


def cell_sums(images: Planes, cells: int) -> Cells:
    """Sum of the pixels of each cell of a balanced grid.

    Example:
        >>> cell_sums(torch.ones(1, 1, 5, 4), 2)[0, 0]
        tensor([[4., 4.],
                [6., 6.]])
    """
    for axis in (2, 3):
        where = owners(images.shape[axis], cells).to(images.device)
        shape = list(images.shape)
        shape[axis] = cells
        images = images.new_zeros(shape).index_add(axis, where, images)
    return images


def owners(n: int, cells: int) -> Tensor:
    """Which cell of a balanced grid each of n pixels belongs to.

    Example:
        >>> owners(5, 2)
        tensor([0, 0, 1, 1, 1])
    """
    bounds = torch.tensor(edges(n, cells))
    return torch.arange(cells).repeat_interleave(bounds.diff())


def cell_histograms(images: Planes, cells: int) -> Float[Tensor, "batch channel rows columns bins"]:
    """Pixel counts in 256 equal bins of [0, 1] for each cell; values outside fall into the outermost bins."""
    batch, channels, height, width = images.shape
    bins = (images * BINS).long().clamp(0, BINS - 1)
    rows, columns = owners(height, cells).to(images.device), owners(width, cells).to(images.device)
    planes = torch.arange(batch * channels, device=images.device).view(batch, channels, 1, 1)
    place = ((planes * cells + rows[:, None]) * cells + columns) * BINS + bins
    counts = torch.bincount(place.flatten(), minlength=batch * channels * cells**2 * BINS)
    return counts.view(batch, channels, cells, cells, BINS).to(torch.float32)


def patch_entropy(histogram: Float[Tensor, "*patch bins"]) -> Float[Tensor, "*patch"]:
    """Σ over pixels of −p·log₂ p, with p the histogram after a box of three bins, renormalised.

    Example:
        >>> one_bin = torch.zeros(256).index_fill(0, torch.tensor([7]), 9.0)
        >>> patch_entropy(one_bin)  # nine pixels, p = 1/3
        tensor(4.7549)
    """
    box = histogram.clone()
    box[..., 1:] += histogram[..., :-1]
    box[..., :-1] += histogram[..., 1:]
    p = box / box.sum(-1, keepdim=True)
    return -(histogram * torch.special.xlogy(p, p)).sum(-1) / torch.log(torch.tensor(2.0, device=histogram.device))


def quarter(cells: Cells) -> Float[Tensor, "batch channel coarse_rows coarse_columns"]:
    """Add up each 2×2 block of cells; a single cell stays."""
    if cells.shape[2] == 1:
        return cells
    blocks = cells.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return blocks.sum((3, 5))


def enlarge(cells: Tensor, times: int) -> Tensor:
    """Repeat every cell `times` times along rows and columns."""
    return cells.repeat_interleave(times, 2).repeat_interleave(times, 3)
