"""Maps that know nothing of the model: what an explanation has to beat before it has explained anything."""

from __future__ import annotations

import math

import numpy as np

from translucid.errors import ConfigError, ShapeError
from translucid.types import Space


def random_maps(cases: int, grid: Space, seed: int = 0) -> np.ndarray:
    """Noise, uniform in [0, 1), independent in every cell.

    Args:
        cases: how many maps.
        grid: their size.
        seed: of the generator.

    Returns:
        (case, *grid).

    Example:
        >>> random_maps(2, (4, 5)).shape
        (2, 4, 5)

    Fails when: it is the only baseline; real findings are not spread evenly, so noise is too easy to beat.
    """
    return np.random.default_rng(seed).random((cases, *grid))


def centre_prior(cases: int, grid: Space, width: float = 0.25) -> np.ndarray:
    """A blob in the middle, exp(−Σ_d ((x_d − c_d)/(w·n_d))²/2), the same for every case.

    Args:
        cases: how many maps.
        grid: their size n.
        width: w, standard deviation as a share of each side (our choice).

    Returns:
        (case, *grid), read-only.

    Raises:
        ConfigError: a width that is not positive.

    Example:
        >>> centre_prior(1, (5,), width=0.2).round(2)
        array([[0.14, 0.61, 1.  , 0.61, 0.14]])

    Fails when: images are not framed alike; the middle then means nothing.
    """
    if not (width > 0 and math.isfinite(width)):
        raise ConfigError(f"width = {width}: needs a positive share of the side, such as 0.25")
    out = np.ones(grid)
    for axis, n in enumerate(grid):
        shape = [1] * len(grid)
        shape[axis] = n
        off = (np.arange(n) - (n - 1) / 2) / (width * n)
        out = out * np.exp(-(off**2) / 2).reshape(shape)
    return np.broadcast_to(out, (cases, *grid))


def average_mask(training: np.ndarray, cases: int) -> np.ndarray:
    """Where findings of this label were in training, in share of masks: the map that looks at no image.

    Args:
        training: (training case, *grid) bool, masks of one label; empty ones are left out.
        cases: how many maps.

    Returns:
        (case, *grid), read-only; all zero where training has no mask.

    Raises:
        ShapeError: no grid.

    Example:
        >>> average_mask(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool), 1)
        array([[1. , 0.5, 0. ]])

    Source: Arun et al., Radiology: Artificial Intelligence 2021, doi:10.1148/ryai.2021200267.

    Fails when: the test cases' own masks are handed in.
    """
    training = np.asarray(training)
    if training.ndim < 2:
        raise ShapeError(f"training masks need (case, *grid), got {training.shape}")
    some = training[training.reshape(len(training), -1).any(1)] != 0
    mean = some.mean(0) if len(some) else np.zeros(training.shape[1:])
    return np.broadcast_to(mean, (cases, *training.shape[1:]))


def edges(images: np.ndarray) -> np.ndarray:
    """Magnitude of the image's gradient, √Σ_d (∂I/∂x_d)², by central differences.

    Args:
        images: (case, *grid) on the maps' grid; an axis of one cell has no gradient.

    Returns:
        (case, *grid) in the image's unit per cell.

    Raises:
        ShapeError: no grid.

    Example:
        >>> edges(np.array([[0.0, 0.0, 4.0, 4.0]]))
        array([[0., 2., 2., 0.]])

    Source: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, arXiv:1810.03292 (edges look like
    explanations).

    Fails when: the grid is much coarser than the image's structures; nothing of the edges is left.
    """
    images = np.asarray(images, np.float64)
    if images.ndim < 2:
        raise ShapeError(f"images need (case, *grid), got {images.shape}")
    total = np.zeros(images.shape)
    for axis in range(1, images.ndim):
        if images.shape[axis] > 1:
            total += np.gradient(images, axis=axis) ** 2
    return np.sqrt(total)


def baseline_maps(images: np.ndarray, training: np.ndarray | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    """All trivial maps of one label, by name, to be scored like any explainer.

    Args:
        images: (case, *grid) on the maps' grid.
        training: (training case, *grid) bool, masks of the label from the training split.
        seed: of the noise.

    Returns:
        "random", "centre", "edges" and, with training masks, "average_mask"; each (case, *grid).

    Raises:
        ShapeError: the training masks lie on another grid.

    Example:
        >>> sorted(baseline_maps(np.zeros((2, 4, 4)), np.ones((1, 4, 4), bool)))
        ['average_mask', 'centre', 'edges', 'random']

    Fails when: an explainer is compared with the weakest of them only.
    """
    images = np.asarray(images)
    cases, grid = len(images), tuple(images.shape[1:])
    found = {"random": random_maps(cases, grid, seed), "centre": centre_prior(cases, grid), "edges": edges(images)}
    if training is not None:
        if np.shape(training)[1:] != grid:
            raise ShapeError(f"training masks {np.shape(training)[1:]} and images {grid} need one grid")
        found["average_mask"] = average_mask(training, cases)
    return found
