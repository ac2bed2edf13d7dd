"""DeepFixCX: published values, laws, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from translucid.compress.cells import cell_edges
from translucid.compress.deepfixcx import DeepFixCX
from translucid.compress.packet import band, band_names, packet, unpacket
from translucid.config import from_kind, with_kind
from translucid.errors import ConfigError, ShapeError

TABLE = {"deepfixcx": DeepFixCX}
ORTHONORMAL = ["haar", "db2", "coif2", "sym4"]


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_published_values(real_data: Path) -> None:
    """Every wavelet, setting and reducer of the published implementation, value for value (float32 both)."""
    with np.load(real_data / "golden" / "deepfixcx.npz") as golden:
        outputs = [k for k in golden.files if k.startswith("out/")]
        assert len(outputs) > 100
        for key in outputs:
            _, name, wavelet, setting, reducer = key.split("/")
            levels, patches = map(int, setting[1:].split("P"))
            system = DeepFixCX(wavelet, levels, patches, reducer, "published", allow_enlarging=True)
            got = system.encode(torch.from_numpy(golden[f"in/{name}"])).numpy()
            np.testing.assert_allclose(got, golden[key], atol=1e-4, rtol=1e-5, err_msg=key)


# -- laws -----------------------------------------------------------------------------------------------------------


@st.composite
def settings(draw: st.DrawFn, wavelets: Sequence[str] = (*ORTHONORMAL, "bior2.2", "rbio3.1")) -> tuple:  # type: ignore[type-arg]
    space = draw(st.lists(st.integers(8, 33), min_size=1, max_size=3).map(tuple))
    levels = draw(st.integers(1, 2))
    grid = tuple(draw(st.integers(1, max(1, min(4, n >> levels)))) for n in space)
    patches = grid if draw(st.booleans()) else min(grid)
    return draw(st.sampled_from(wavelets)), levels, patches, space


@given(settings())
def test_the_linear_encoder_undoes_lift(setting) -> None:  # type: ignore[no-untyped-def]
    wavelet, levels, patches, space = setting
    system = DeepFixCX(wavelet, levels, patches, "sum", allow_enlarging=True)
    z = rand(1, 2, system.code_length(space))
    torch.testing.assert_close(system.encode(system.lift(z, space)), z, atol=1e-7, rtol=1e-7)


@given(settings(), st.sampled_from(["balanced", "published"]))
def test_adjoint_is_the_transpose(setting, geometry) -> None:  # type: ignore[no-untyped-def]
    wavelet, levels, patches, space = setting
    system = DeepFixCX(wavelet, levels, patches, "sum", geometry, allow_enlarging=True)
    x, z = rand(1, 1, *space), rand(1, 1, system.code_length(space), seed=1)
    left, right = (system.encode(x) * z).sum(), (x * system.adjoint(z, space)).sum()
    torch.testing.assert_close(left, right, atol=1e-8, rtol=1e-8)


@given(settings(ORTHONORMAL))
def test_lift_after_encode_is_an_orthogonal_projection(setting) -> None:  # type: ignore[no-untyped-def]
    wavelet, levels, patches, space = setting
    space = tuple(-(-n // 2**levels) * 2**levels for n in space)
    system = DeepFixCX(wavelet, levels, patches, "sum", allow_enlarging=True)
    x, y = rand(1, 1, *space), rand(1, 1, *space, seed=1)
    shown, other = (system.lift(system.encode(v), space) for v in (x, y))
    torch.testing.assert_close(system.lift(system.encode(shown), space), shown, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close((shown * y).sum(), (x * other).sum(), atol=1e-7, rtol=1e-7)


@given(settings())
def test_contributions_keep_their_sum(setting) -> None:  # type: ignore[no-untyped-def]
    wavelet, levels, patches, space = setting
    system = DeepFixCX(wavelet, levels, patches, ("max", "l1"), allow_enlarging=True)
    z, g = rand(1, 1, system.code_length(space)), rand(1, 1, system.code_length(space), seed=1)
    l1 = slice(1, None, 2)
    total = (system.adjoint(g, space) * system.lift(z, space)).sum()
    torch.testing.assert_close(total, (g[..., l1] * z[..., l1]).sum(), atol=1e-7, rtol=1e-7)


@given(settings(), st.sampled_from(["periodic", "published"]))
def test_unpacket_inverts_packet(setting, boundary) -> None:  # type: ignore[no-untyped-def]
    wavelet, levels, _, space = setting
    assume(boundary == "periodic" or wavelet == "haar")
    x = rand(2, 1, *space)
    back = unpacket(packet(x, wavelet, levels, boundary), space, wavelet, levels, boundary)
    torch.testing.assert_close(back, x, atol=1e-8, rtol=1e-8)


@given(st.integers(1, 60), st.integers(1, 60))
def test_balanced_cells_tile_a_band(size: int, patches: int) -> None:
    assume(patches <= size)
    edges = cell_edges(size, patches, "balanced")
    widths = np.diff(edges)
    assert (edges[0], edges[-1]) == (0, size)
    assert widths.min() >= 1
    assert widths.max() - widths.min() <= 1


def test_a_balanced_code_depends_neither_on_size_nor_on_grid() -> None:
    """A constant image: every cell of band A holds c·2^J, every other 0, at odd sizes too."""
    for space, patches in (((40, 40), 3), ((41, 55), 5)):
        split = DeepFixCX("haar", 2, patches).split(
            DeepFixCX("haar", 2, patches).encode(torch.full((1, 1, *space), 0.5))
        )
        torch.testing.assert_close(split[:, :, 0], torch.full_like(split[:, :, 0], 2.0))
        torch.testing.assert_close(split[:, :, 1:], torch.zeros_like(split[:, :, 1:]), atol=1e-6, rtol=0)


def test_whole_grid_of_sums_loses_nothing() -> None:
    x = rand(1, 1, 16, 24)
    for geometry in ("balanced", "published"):
        system = DeepFixCX("haar", 1, (8, 12), "sum", geometry, allow_enlarging=True)
        torch.testing.assert_close(system.lift(system.encode(x), (16, 24)), x)
        torch.testing.assert_close(system.to_image(system.encode(x), (16, 24)), x)


@pytest.mark.parametrize("geometry", ["balanced", "published"])
def test_lift_stays_in_place(geometry: str) -> None:
    """A bright square comes back where it was, although the padding of 40/2^J to 7 cells is odd."""
    x = torch.zeros(1, 1, 40, 40)
    x[..., 16:24, 16:24] = 1
    system = DeepFixCX("haar", 1, 7, "l1", geometry)
    shown = system.lift(system.encode(x), (40, 40))[0, 0].clamp(min=0)
    centre = (shown.sum(1) * torch.arange(40)).sum() / shown.sum()
    assert abs(float(centre) - 19.5) < 0.7


# -- shapes, names, refusals ----------------------------------------------------------------------------------------


def test_compact_image_has_the_published_size() -> None:
    for levels, patches, side in ((1, 79, 158), (2, 19, 76), (5, 5, 160)):
        system = DeepFixCX("haar", levels, patches, cells="published")
        codes = torch.rand(1, 1, system.code_length((320, 320)))
        assert system.to_image(codes, (320, 320)).shape[-2:] == (side, side)


def test_compact_image_of_a_constant_is_that_constant() -> None:
    x = torch.full((1, 1, 40, 40), 0.25)
    system = DeepFixCX("haar", 2, 5, cells="published")
    torch.testing.assert_close(system.to_image(system.encode(x), (40, 40)), torch.full((1, 1, 20, 20), 0.25))


def test_several_reducers_interleave_last() -> None:
    x = rand(2, 1, 20, 20)
    names = ("max", "l1", "sum")
    for geometry, order in (("balanced", names), ("published", ("l1", "sum", "max"))):
        several = DeepFixCX("db2", 1, 3, names, geometry)
        parts = [DeepFixCX("db2", 1, 3, n, geometry).encode(x) for n in order]
        assert several.reducers == order
        torch.testing.assert_close(several.encode(x), torch.stack(parts, -1).flatten(-2))
        torch.testing.assert_close(several.split(several.encode(x))[..., 0].flatten(2), parts[0])


def test_bands_by_name() -> None:
    assert band_names(1) == ("A", "V", "H", "D")
    system = DeepFixCX(levels=2)
    assert [system.band(n) for n in system.band_names()] == list(range(16))
    assert band("AD") == system.band("AD") == 3
    columns = torch.tensor([0.0, 1.0]).repeat(8).expand(1, 1, 16, 16)  # vertical stripes: high along axis 1 only
    energy = packet(columns, "haar", 1).square().sum((0, 1, 3, 4))
    assert energy[band("V")] > 0
    assert energy[[band("H"), band("D")]].sum() < 1e-6
    with pytest.raises(ConfigError, match="no sub-band 'AAX'"):
        system.band("AAX")
    with pytest.raises(ConfigError, match="no band"):
        band("AX")


def test_cell_edges_in_pixels() -> None:
    assert DeepFixCX(levels=1, patches=5, cells="published").cell_edges((16,)) == ((0, 2, 6, 10, 14, 16),)
    assert DeepFixCX(levels=2, patches=(1, 2)).cell_edges((9, 13)) == ((0, 9), (0, 8, 13))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"wavelet": "harr"}, "did you mean 'haar'"),
        ({"levels": 0}, "at least 1"),
        ({"patches": 0}, "positive"),
        ({"patches": ()}, "positive"),
        ({"pool": "l3"}, "unknown reducer 'l3'"),
        ({"pool": ("l1", "l1")}, "different reducers"),
        ({"cells": "round"}, "known: balanced, published"),
    ],
)
def test_options_are_checked_at_birth(options: dict, complaint: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=complaint):
        from_kind(TABLE, {"kind": "deepfixcx"} | options, "compressor")


def test_refuses_what_does_not_shrink() -> None:
    with pytest.raises(ConfigError, match=r"ratio 1.00.*take patches <= 4"):
        DeepFixCX(levels=6, patches=5).code_length((320, 320))
    with pytest.raises(ConfigError, match=r"take levels <= 3 and fewer patches"):
        DeepFixCX(levels=4, patches=1, pool=("l1", "max")).code_length((17, 17))
    assert DeepFixCX(levels=6, patches=5, allow_enlarging=True).code_length((320, 320)) == 320 * 320
    assert DeepFixCX(levels=6, patches=4).code_length((320, 320)) < 320 * 320


def test_refuses_more_cells_than_samples() -> None:
    with pytest.raises(ConfigError, match=r"sub-bands of 10 samples along axis 0.*patches <= 10 or levels <= 4"):
        DeepFixCX(levels=5, patches=19).encode(torch.rand(1, 1, 320, 320))
    with pytest.raises(ConfigError, match="take a larger image"):
        DeepFixCX(levels=3, patches=9).code_length((5, 5))
    with pytest.raises(ShapeError, match="belong to 2 axes"):
        DeepFixCX(patches=(3, 3)).code_length((32, 32, 32))


def test_refuses_codes_of_another_size() -> None:
    system = DeepFixCX(levels=1, patches=3)
    with pytest.raises(ShapeError, match="36 numbers are codes"):
        system.lift(torch.rand(1, 1, 35), (32, 32))
    with pytest.raises(ShapeError, match="are no codes"):
        system.split(torch.rand(1, 1, 35))


def test_json_round_trip() -> None:
    for system in (DeepFixCX(), DeepFixCX("coif2", 1, (3, 4), ("l1", "max"), "published", True)):
        assert from_kind(TABLE, with_kind(TABLE, system), "compressor") == system


def test_gradients_reach_the_image_and_precision_is_kept() -> None:
    x = rand(1, 1, 16, 16).requires_grad_()
    system = DeepFixCX("db2", 1, 3, ("l1", "max", "median"))
    assert torch.autograd.gradcheck(system.encode, (x,))
    with torch.inference_mode():
        system.encode(torch.rand(1, 1, 18, 18))
    y = torch.rand(1, 1, 18, 18, requires_grad=True)
    system.encode(y).sum().backward()  # the matrices made under inference_mode still serve autograd
    assert y.grad is not None
    assert math.isfinite(float(y.grad.sum()))
