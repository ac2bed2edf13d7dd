"""How alike two pictures are: SSIM, MS-SSIM and PSNR with a fixed range, one number per picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from translucid.errors import ShapeError

WINDOW = 7
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def _parts(a: Tensor, b: Tensor, window: int, reach: float) -> tuple[Tensor, Tensor]:
    """Luminance and contrast–structure terms over all windows that lie inside, (n, channel, h', w')."""
    if a.shape != b.shape or a.ndim != 4:
        raise ShapeError(f"pictures must both be (n, channel, h, w), got {tuple(a.shape)} and {tuple(b.shape)}")
    if min(a.shape[2:]) < window:
        raise ShapeError(f"pictures of {tuple(a.shape[2:])} hold no window of {window}")
    c1, c2 = (0.01 * reach) ** 2, (0.03 * reach) ** 2
    n = window * window
    stack = torch.cat([a, b, a * a, b * b, a * b], 1)
    rows = F.avg_pool2d(stack, (window, 1), 1)  # a mean of means: 2·window additions a pixel in place of window²
    ma, mb, maa, mbb, mab = F.avg_pool2d(rows, (1, window), 1).chunk(5, 1)
    unbiased = n / (n - 1)
    va, vb, cov = (unbiased * (x - y) for x, y in ((maa, ma * ma), (mbb, mb * mb), (mab, ma * mb)))
    return (2 * ma * mb + c1) / (ma * ma + mb * mb + c1), (2 * cov + c2) / (va + vb + c2)


def ssim(a: Tensor, b: Tensor, window: int = WINDOW, reach: float = 1.0) -> Tensor:
    """Structural similarity: mean over windows of luminance × contrast–structure.

    Uniform windows, sample covariances and only windows inside the picture, as scikit-image by default.

    Args:
        a, b: (n, channel, h, w).
        window: pixels along each side.
        reach: the fixed range of values; never taken from the pictures.

    Returns:
        (n,).

    Raises:
        ShapeError: shapes differ, or the pictures are smaller than the window.

    Example:
        >>> x = torch.rand(1, 1, 9, 9, dtype=torch.float64)
        >>> round(ssim(x, x).item(), 6)
        1.0

    Source: Wang, Bovik, Sheikh and Simoncelli, TIP 2004, doi:10.1109/TIP.2003.819861.

    Fails when: pictures are smooth; a mean chest already scores high, so read the gain over it.
    """
    light, structure = _parts(a, b, window, reach)
    return (light * structure).flatten(1).mean(1)


def ms_ssim(a: Tensor, b: Tensor, window: int = WINDOW, reach: float = 1.0) -> Tensor:
    """SSIM over scales: Π of the mean contrast–structure terms and the coarsest SSIM, to the published powers.

    Halving is by means of 2×2 pixels. Pictures too small for all five scales use the first ones with their powers
    scaled to sum to 1 (our reading); a negative mean counts as 0.

    Args:
        a, b: (n, channel, h, w).
        window: pixels along each side, at every scale.
        reach: the fixed range of values.

    Returns:
        (n,).

    Example:
        >>> x = torch.rand(1, 1, 32, 32, dtype=torch.float64)
        >>> round(ms_ssim(x, x).item(), 6)
        1.0

    Source: Wang, Simoncelli and Bovik, Asilomar 2003, doi:10.1109/ACSSC.2003.1292216.
    """
    scales = min(len(WEIGHTS), 1 + int(math.log2(max(min(a.shape[2:]) // window, 1))))
    powers = torch.tensor(WEIGHTS[:scales], dtype=a.dtype)
    powers = powers / powers.sum()
    out = torch.ones(len(a), dtype=a.dtype)
    for k in range(scales):
        light, structure = _parts(a, b, window, reach)
        last = light * structure if k == scales - 1 else structure
        out = out * last.flatten(1).mean(1).clamp(min=0) ** powers[k]
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return out


def psnr(a: Tensor, b: Tensor, reach: float = 1.0) -> Tensor:
    """10·log10(range²/mean squared error) in dB, (n,); infinite for equal pictures.

    Example:
        >>> psnr(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.1)).round().item()
        20.0
    """
    error = ((a.double() - b.double()) ** 2).flatten(1).mean(1)
    return 10 * torch.log10(reach * reach / error)
