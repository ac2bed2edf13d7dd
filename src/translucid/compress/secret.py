"""Secret draws: masks and projections that depend on a key file, of which a header shows the fingerprint alone.

A compressor names its secret by fingerprint, and looks for the file among those that the environment variable
TRANSLUCID_SECRET names (several are separated as in PATH). So neither the secret nor the place where it lies stands in
a recipe, a header or a process's arguments, and worker processes find it as well. Draws come from SHAKE-256 under the
key, never from a generator that was made for simulations.

What it does not hide: how many numbers are kept, and their values. Whoever gets the mask (from a picture of it, or of
a lifted code) can do without the secret. A secret mask is no guarantee; measure it with `link_scores`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from translucid.config import read_private
from translucid.errors import ConfigError, ShapeError

VARIABLE = "TRANSLUCID_SECRET"
_FORM = re.compile(r"[0-9a-f]{16}")

One = Float[Tensor, "one channel *length"]
Other = Float[Tensor, "other channel *size"]
Scores = Float[Tensor, "one other"]


def secret_fingerprint(path: Path) -> str:
    """What a recipe and a header call the secret in a file: 16 digits that tell nothing of it.

    HMAC-SHA256(secret, "translucid secret"), cut.

    Args:
        path: 32 random bytes or more that only their owner can read, e.g. from `io.pseudonym.new_key`.

    Raises:
        InputError: the file is absent, too short, or others can read it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mask.key")
        ...     size = file.write_bytes(bytes(range(32)))
        ...     file.chmod(0o600)
        ...     secret_fingerprint(file)
        'e857f4415e64c63f'

    Fails when: the secret is a phrase; guesses can be tried against the fingerprint.
    """
    return _fingerprint(read_private(path, "secret"))


def _fingerprint(secret: bytes) -> str:
    return hmac.new(secret, b"translucid secret", hashlib.sha256).hexdigest()[:16]


def check_secret(fingerprint: str) -> None:
    """A `ConfigError` unless this is "" or the form of a fingerprint; so no path or secret is ever written down."""
    if fingerprint and not _FORM.fullmatch(fingerprint):
        raise ConfigError(
            "secret must be a fingerprint of 16 hexadecimal digits (see secret_fingerprint), not the secret or its "
            f"path; name the file in the environment variable {VARIABLE}"
        )


def find_secret(fingerprint: str) -> bytes:
    """The secret with this fingerprint, among the files that the environment names; no secret for "".

    Raises:
        ConfigError: it is not among them. InputError: a file cannot be used.
    """
    if not fingerprint:
        return b""
    check_secret(fingerprint)
    paths = [p for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p]
    for path in paths:
        secret = read_private(Path(path), "secret")
        if hmac.compare_digest(_fingerprint(secret), fingerprint):
            return secret
    raise ConfigError(
        f"the secret {fingerprint} is needed and none of {len(paths)} files in {VARIABLE} has it: set {VARIABLE} to "
        "its file (several are separated as in PATH); without it codes can neither be made nor shown as images"
    )


class SecretStream:
    """Random words that depend on a secret, a purpose and a seed, and on nothing else: SHAKE-256 of all three.

    Example:
        >>> stream = SecretStream("", "example", 1)
        >>> bool((stream.words(3) == SecretStream("", "example", 1).words(3)).all())
        True
    """

    def __init__(self, fingerprint: str, purpose: str, seed: int) -> None:
        self._key = hmac.new(find_secret(fingerprint), f"{purpose}|{seed}".encode(), hashlib.sha256).digest()
        self._drawn = 0

    def words(self, count: int) -> np.ndarray:
        """The next words of 64 bits; every call is a part of its own."""
        part = self._key + self._drawn.to_bytes(8, "big")
        self._drawn += 1
        return np.frombuffer(hashlib.shake_256(part).digest(8 * count), "<u8").astype(np.uint64)

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers in [0, 1) with 53 random bits."""
        words = self.words(int(np.prod(shape)))
        return ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


# -- unlinkability ------------------------------------------------------------------------------------------------


def by_correlation(one: One, other: Other) -> Scores:
    """Correlation of all pairs, number by number: for codes (or lifted images) that lie in the same order.

    Example:
        >>> a = torch.tensor([[[0.0, 1.0, 2.0]], [[2.0, 1.0, 0.0]]])
        >>> by_correlation(a, a).round().float()
        tensor([[ 1., -1.],
                [-1.,  1.]])

    Fails when: the two were cut by different masks; lift them first, or compare `by_values`.
    """
    if one.shape[1:] != other.shape[1:]:
        raise ShapeError(f"codes of shape {tuple(one.shape[1:])} and {tuple(other.shape[1:])} have no common order")
    a, b = (_standardised(x.flatten(1).double()) for x in (one, other))
    return a @ b.T


def _standardised(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


def by_values(one: One, other: Other, quantiles: int = 128) -> Scores:
    """Minus the mean distance of equal quantiles of the values: needs neither order, mask nor secret.

    Example:
        >>> a = torch.tensor([[[0.0, 1.0, 2.0]]])
        >>> by_values(a, a.flip(2)) == 0
        tensor([[True]])

    Fails when: every image was brought to the same histogram; the values then tell nobody apart.
    """
    levels = (torch.arange(quantiles, dtype=torch.float64, device=one.device) + 0.5) / quantiles
    a, b = (torch.quantile(x.flatten(1).double(), levels, dim=1).T for x in (one, other))
    return -torch.cdist(a, b, p=1.0) / quantiles


def link_scores(
    one: One, other: Other, score: Callable[[Tensor, Tensor], Tensor] = by_values
) -> tuple[np.ndarray, np.ndarray]:
    """Mated and non-mated scores: the same images under two secrets, row i of one belonging to row i of the other.

    If the two lie apart, records of two projects can be linked without the secrets; the measure of how far apart is
    taken elsewhere (D_sys of Gomez-Barrero and others).

    Args:
        one, other: codes (batch, channel, code) of the same images, of different patients, under two masks.
        score: of all pairs, larger where they are more alike: `by_values` is an attacker without secrets;
            `by_correlation` of the lifted codes one who has both.

    Returns:
        Scores of the same image (batch,), and of different images (batch·(batch − 1),).

    Raises:
        ShapeError: the two have different numbers of rows, or fewer than two.

    Example:
        >>> a = torch.rand(4, 1, 50, generator=torch.Generator().manual_seed(0))
        >>> mated, others = link_scores(a, a[:, :, :40])
        >>> mated.shape, others.shape
        ((4,), (12,))

    Source: M. Gomez-Barrero, J. Galbally, C. Rathgeb, C. Busch, General framework to evaluate unlinkability in
    biometric template protection systems, 2018, doi:10.1109/TIFS.2017.2788000; ISO/IEC 24745 for what is asked.

    Fails when: a patient has several rows; pairs of the same patient then count as different.
    """
    if len(one) != len(other) or len(one) < 2:
        raise ShapeError(f"link_scores needs the same two or more images twice, got {len(one)} and {len(other)} rows")
    scores = score(one, other)
    same = torch.eye(len(one), dtype=torch.bool, device=scores.device)
    return scores[same].cpu().numpy(), scores[~same].cpu().numpy()
