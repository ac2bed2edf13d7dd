"""The full wavelet packet in any number of dimensions, one matrix per axis.

A separable transform acts along each axis on its own, so J levels of it are one matrix per axis, built once per size
and kept: rows are the axis' 2^J bands, one below the other. One product then does all levels, on any device, for 2-D
and 3-D, forwards, backwards and transposed alike. The price is size/2^J times the operations of a cascade, paid at the
speed of a matrix product; `packet_kernel` is the cascade for the processor.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import pywt
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from translucid.errors import ConfigError, ShapeError, did_you_mean
from translucid.tensors import Images
from translucid.types import Space

Boundary = Literal["periodic", "published"]
Packet = Float[Tensor, "batch channel band *sub"]
LETTERS = "AVHD"


class Taps(NamedTuple):
    """Filters as correlations: analysis reads x[2k + j − p], synthesis adds to it; p = length/2 − 1."""

    analysis: np.ndarray
    synthesis: np.ndarray


class AxisPacket(NamedTuple):
    """One axis of the packet on a uniform layout: band b holds rows b·width … b·width + sizes[b] − 1, the rest is 0."""

    analysis: sp.csr_matrix
    synthesis: sp.csr_matrix
    sizes: tuple[int, ...]

    @property
    def width(self) -> int:
        """Samples of the widest band."""
        return max(self.sizes)


@lru_cache(maxsize=64)
def taps(wavelet: str, boundary: Boundary) -> Taps:
    """The two filter pairs of a discrete wavelet of PyWavelets, (2, length) each, low-pass first.

    A wavelet transform convolves, i.e. reads the filter backwards; the published implementation does not turn it round
    (for Haar: the sign of every difference; for an asymmetric wavelet: its mirror image).

    Raises:
        ConfigError: unknown wavelet or boundary.

    Example:
        >>> taps("haar", "periodic").analysis.round(3).tolist()
        [[0.707, 0.707], [0.707, -0.707]]
    """
    if wavelet not in pywt.wavelist(kind="discrete"):
        raise ConfigError(f"unknown discrete wavelet {wavelet!r}: {did_you_mean(wavelet, _families())}")
    if boundary not in get_args(Boundary):
        raise ConfigError(f"unknown boundary {boundary!r}: {did_you_mean(boundary, get_args(Boundary))}")
    w = pywt.Wavelet(wavelet)
    analysis, synthesis = np.array([w.dec_lo, w.dec_hi]), np.array([w.rec_lo, w.rec_hi])
    if boundary == "periodic":
        return Taps(analysis[:, ::-1], synthesis)
    return Taps(analysis, synthesis[:, ::-1])


def _families() -> list[str]:
    return ["haar", "dmey", "db1 … db38", "sym2 … sym20", "coif1 … coif17", "bior1.1 … bior6.8", "rbio1.1 … rbio6.8"]


def halves(size: int, boundary: Boundary) -> tuple[int, int]:
    """Samples of the low and of the high band after one level.

    Published: an odd axis gets one zero, both bands have ⌈n/2⌉. Periodic: ⌈n/2⌉ and ⌊n/2⌋, together n.

    Example:
        >>> halves(5, "periodic"), halves(5, "published")
        ((3, 2), (3, 3))
    """
    up = (size + 1) // 2
    return (up, size // 2) if boundary == "periodic" else (up, up)


def band_sizes(size: int, levels: int, boundary: Boundary) -> tuple[int, ...]:
    """Samples of each of the 2^J bands along one axis: ⌈n/2^J⌉ or, periodic at odd sizes, one fewer.

    Example:
        >>> band_sizes(7, 2, "periodic"), band_sizes(7, 2, "published")
        ((2, 2, 2, 1), (2, 2, 2, 2))
    """
    sizes: tuple[int, ...] = (size,)
    for _ in range(levels):
        sizes = tuple(itertools.chain.from_iterable(halves(n, boundary) for n in sizes))
    return sizes


def _step(size: int, filters: Taps, boundary: Boundary) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """One level on one axis: (bands × size) and its inverse (size × bands).

    Periodic, even n: the filters wrap round, so an orthonormal wavelet gives an orthogonal matrix, and every wavelet
    of PyWavelets is inverted exactly up to the border (but "dmey": its taps are approximate, to 2e-3). Odd n: the
    first n − 1 samples are transformed so; the last one goes to the low band times √2 (the sum of the low-pass
    filter), where it is as bright as its neighbours. For Haar that is the extension by the edge value, less the detail
    which is always 0. So there are exactly as many coefficients as samples whatever the size, and the inverse stays
    exact; at odd sizes it is no longer the transpose.
    """
    low, high = halves(size, boundary)
    pairs = size // 2 if boundary == "periodic" else low
    length = filters.analysis.shape[1]
    at = 2 * np.arange(pairs)[:, None] + np.arange(length)[None, :] - (length // 2 - 1)
    keep = np.ones_like(at, dtype=bool) if boundary == "periodic" else (at >= 0) & (at < size)
    if boundary == "periodic" and pairs:
        at = at % (2 * pairs)
    k = np.broadcast_to(np.arange(pairs)[:, None], at.shape)[keep]
    rows, columns = np.concatenate([k, k + low]), np.tile(at[keep], 2)

    def entries(pair: np.ndarray) -> np.ndarray:
        return np.concatenate([np.broadcast_to(t, at.shape)[keep] for t in pair])

    forward = sp.coo_matrix((entries(filters.analysis), (rows, columns)), shape=(low + high, size)).tolil()
    inverse = sp.coo_matrix((entries(filters.synthesis), (columns, rows)), shape=(size, low + high)).tolil()
    if boundary == "periodic" and size % 2:
        forward[low - 1, size - 1] = math.sqrt(2)
        inverse[size - 1, low - 1] = 1 / math.sqrt(2)
    return forward.tocsr(), inverse.tocsr()


@lru_cache(maxsize=64)
def axis_packet(size: int, wavelet: str, levels: int, boundary: Boundary) -> AxisPacket:
    """All levels on one axis as two sparse matrices; bands in the order of the tree, level 1 the first binary digit.

    Example:
        >>> axis_packet(4, "haar", 2, "periodic").analysis.toarray()
        array([[ 0.5,  0.5,  0.5,  0.5], [ 0.5,  0.5, -0.5, -0.5], [ 0.5, -0.5,  0.5, -0.5], [ 0.5, -0.5, -0.5,  0.5]])
    """
    filters = taps(wavelet, boundary)
    analysis, synthesis = sp.identity(size, format="csr"), sp.identity(size, format="csr")
    for level in range(levels):
        steps = [_step(n, filters, boundary) for n in band_sizes(size, level, boundary)]
        analysis = sp.block_diag([s[0] for s in steps], format="csr") @ analysis
        synthesis = synthesis @ sp.block_diag([s[1] for s in steps], format="csr")
    sizes = band_sizes(size, levels, boundary)
    spread = _spread(sizes)
    return AxisPacket((spread @ analysis).tocsr(), (synthesis @ spread.T).tocsr(), sizes)


def _spread(sizes: tuple[int, ...]) -> sp.csr_matrix:
    """Gives every band the width of the widest: (bands · width × Σ sizes)."""
    width = max(sizes)
    rows = np.concatenate([b * width + np.arange(n) for b, n in enumerate(sizes)])
    ones = np.ones(len(rows))
    return sp.csr_matrix((ones, (rows, np.arange(len(rows)))), shape=(len(sizes) * width, len(rows)))


def along_axes(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Multiply the last len(matrices) axes of x by one matrix (out × in) each; never in reduced precision.

    Example:
        >>> along_axes(torch.ones(1, 2, 3), [torch.ones(1, 2), torch.ones(1, 3)])
        tensor([[[6.]]])
    """
    with torch.autocast(x.device.type, enabled=False):
        first = x.ndim - len(matrices)
        x = x @ matrices[-1].T
        for axis, matrix in enumerate(matrices[:-1], first):
            shape = x.shape
            flat = x.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
            x = (matrix @ flat).reshape(*shape[:axis], matrix.shape[0], *shape[axis + 1 :])
    return x


def to_tensor(matrix: sp.csr_matrix, like: Tensor) -> Tensor:
    """A dense copy with the type and the place of `like`."""
    with torch.inference_mode(False):  # what is kept must serve autograd later
        return torch.from_numpy(matrix.toarray()).to(like.dtype).to(like.device)


def interleave(x: Tensor, dims: int, levels: int) -> Tensor:
    """(…, 2^J·n_1, …, 2^J·n_d) → (…, 2^(dJ), n_1, …, n_d): binary digits of the axes become one base-2^d number."""
    lead = x.shape[: x.ndim - dims]
    sizes = [n >> levels for n in x.shape[-dims:]]
    split = x.reshape(*lead, *itertools.chain.from_iterable([2] * levels + [n] for n in sizes))
    start, stride = len(lead), levels + 1
    digits = [start + a * stride + level for level in range(levels) for a in range(dims)]
    places = [start + a * stride + levels for a in range(dims)]
    return split.permute(*range(start), *digits, *places).reshape(*lead, 2 ** (dims * levels), *sizes)


def deinterleave(x: Tensor, dims: int, levels: int) -> Tensor:
    """The inverse of `interleave`."""
    lead, sizes = x.shape[: x.ndim - dims - 1], x.shape[-dims:]
    split = x.reshape(*lead, *[2] * (dims * levels), *sizes)
    start = len(lead)
    order: list[int] = []
    for a in range(dims):
        order += [start + level * dims + a for level in range(levels)] + [start + dims * levels + a]
    return split.permute(*range(start), *order).reshape(*lead, *[n << levels for n in sizes])


def packet(images: Images, wavelet: str = "haar", levels: int = 2, boundary: Boundary = "periodic") -> Packet:
    """All 2^(dJ) sub-bands of the full wavelet packet.

    W = T_1 ⊗ … ⊗ T_d, one factor per axis; each T splits every band of the level before into low and high.

    Args:
        images: (batch, channel, *space), d axes of space.
        wavelet: any discrete wavelet of PyWavelets, e.g. "haar" (= "db1"), "db2", "coif2", "bior2.2".
        levels: J.
        boundary: "periodic" wraps round and inverts exactly (PyWavelets' mode "periodization"; see `_step` for odd
            sizes); "published" correlates with unturned filters and pads with zeros.

    Returns:
        (batch, channel, band, *sub). The band is a base-2^d number, level 1 (the finest) its most significant digit;
        in 2-D a digit is 2·(high along rows' axis 0) + (high along axis 1), in letters A, V, H, D. At sizes that 2^J
        does not divide, periodic bands differ by one sample and the shorter ones end in a 0.

    Example:
        >>> packet(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), "haar", 1).flatten().round(decimals=3)
        tensor([ 5., -1., -2.,  0.])

    Source: Gaudio et al., DeepFixCX, 2023; R. R. Coifman and M. V. Wickerhauser, 1992, doi:10.1109/18.119732.

    Fails when: the wavelet is longer than Haar and opposite borders differ much; "periodic" then shows the jump from
    one border to the other as an edge, "published" the jump to 0.
    """
    space = tuple(images.shape[2:])
    axes = [axis_packet(n, wavelet, levels, boundary) for n in space]
    x = images if images.dtype == torch.float64 else images.float()
    return interleave(along_axes(x, [to_tensor(a.analysis, x) for a in axes]), len(space), levels)


def unpacket(
    bands: Packet, space: Space, wavelet: str = "haar", levels: int = 2, boundary: Boundary = "periodic"
) -> Images:
    """The inverse of `packet`: exact for "periodic"; for "published" exact for Haar, else away from the border.

    Raises:
        ShapeError: the bands do not belong to an image of this size.

    Example:
        >>> x = torch.arange(35.0).view(1, 1, 5, 7)
        >>> bool(torch.allclose(unpacket(packet(x, "db2", 1), (5, 7), "db2", 1), x, atol=1e-4))
        True

    Source: as `packet`. The published inverse crops the centre of its padded image, which shifts odd sizes; ours takes
    off just what was put on.

    Fails when: the bands were altered in their unused last samples; those are ignored.
    """
    axes = [axis_packet(n, wavelet, levels, boundary) for n in space]
    wanted = (2 ** (len(space) * levels), *(a.width for a in axes))
    if tuple(bands.shape[2:]) != wanted:
        raise ShapeError(f"an image of {space} has bands {wanted} at levels={levels}, got {tuple(bands.shape[2:])}")
    tiled = deinterleave(bands, len(space), levels)
    return along_axes(tiled, [to_tensor(a.synthesis, tiled) for a in axes])


def band_names(levels: int, dims: int = 2) -> tuple[str, ...]:
    """Names of the bands in their order, one letter per level, the finest level first.

    2-D: A = low ⊗ low, V = low along axis 0 ⊗ high along axis 1 (vertical edges), H = high ⊗ low (horizontal edges),
    D = high ⊗ high. Other dimensions: PyWavelets' words of a and d, one letter per axis, levels joined by dots.

    Example:
        >>> band_names(1), band_names(2)[3], band_names(1, 3)[1]
        (('A', 'V', 'H', 'D'), 'AD', 'aad')
    """
    if dims == 2:
        return tuple("".join(word) for word in itertools.product(LETTERS, repeat=levels))
    letters = ["".join(word) for word in itertools.product("ad", repeat=dims)]
    return tuple(".".join(word) for word in itertools.product(letters, repeat=levels))


def band(name: str, dims: int = 2) -> int:
    """The index of a band by its name.

    Example:
        >>> band("AD"), band("DA"), band("aad.aaa", 3)
        (3, 12, 8)
    """
    levels = len(name) if dims == 2 else name.count(".") + 1
    digits = list(name) if dims == 2 else name.split(".")
    alphabet = band_names(1, dims)
    wrong = [d for d in digits if d not in alphabet]
    if wrong or not levels:
        raise ConfigError(f"no band {name!r} in {dims} dimensions: {did_you_mean(''.join(wrong[:1]), alphabet)}")
    index = 0
    for digit in digits:
        index = index * len(alphabet) + alphabet.index(digit)
    return index
