"""The sampled median against a loop over windows, and its networks against all inputs of zeros and ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from translucid.compress import HeartSpot
from translucid.compress.median import median_sample, published_window
from translucid.compress.networks import COPY, Window, median_program, merge_network, reflect, sort_network
from translucid.errors import ConfigError, ShapeError


def slowly(x: np.ndarray, size: int, stride: int, wanted: list[int] | None = None) -> np.ndarray:
    """Pad by reflection, cut out every window, take its 0.5 quantile."""
    padding = []
    for n in x.shape:
        total = max((-(-n // stride) - 1) * stride + size - n, 0)
        padding.append((total // 2, total - total // 2))
    padded = np.pad(x, padding, mode="reflect") if min(x.shape) > 1 else np.pad(x, padding, mode="edge")
    rows, columns = (-(-n // stride) for n in x.shape)
    out = np.empty((rows, columns))
    for i in range(rows) if wanted is None else wanted:
        for j in range(columns):
            window = padded[i * stride : i * stride + size, j * stride : j * stride + size]
            out[i, j] = np.quantile(window, 0.5)
    return out


def test_published_setting_against_the_loop() -> None:
    x = torch.rand(1, 1, 320, 320, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert published_window((320, 320)) == Window(12, 2)
    rows = [0, 50, 145, 159]
    expected = slowly(x[0, 0].numpy(), 12, 2, rows)
    assert expected.shape == (160, 160)
    np.testing.assert_allclose(median_sample(x, rows)[0, 0], expected[rows], atol=1e-12)
    np.testing.assert_array_equal(
        Window(12, 2).sources(320)[-1], [313, 314, 315, 316, 317, 318, 319, 318, 317, 316, 315, 314]
    )


@given(
    space=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    size=st.integers(1, 9),
    stride=st.integers(1, 5),
    seed=st.integers(0, 9),
    levels=st.sampled_from([3, 256, 10**6]),
)
def test_both_paths_against_the_loop(space: tuple[int, int], size: int, stride: int, seed: int, levels: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(levels, (2, 1, *space), generator=draw).double() / levels
    window = Window(size, stride)
    plain = median_sample(x, window=window, compiled=False)
    expected = np.stack([slowly(image.numpy(), size, stride) for image in x[:, 0]])
    np.testing.assert_allclose(plain[:, 0], expected, atol=1e-12)
    assert torch.equal(median_sample(x, window=window, compiled=True), plain)
    single = x.float()
    assert torch.equal(
        median_sample(single, window=window, compiled=True), median_sample(single, window=window, compiled=False)
    )


@pytest.mark.parametrize(
    "window", [Window(12, 2), Window(18, 3), Window(6, 1), Window(14, 2), Window(7, 7), Window(11, 4)]
)
def test_paths_agree_to_the_last_bit_at_larger_sizes(window: Window) -> None:
    x = torch.rand(3, 2, 61, 47, generator=torch.Generator().manual_seed(1))
    rows = [0, 3, 5]
    fast = median_sample(x, rows, window, compiled=True)
    assert torch.equal(fast, median_sample(x, rows, window, compiled=False))
    assert torch.equal(fast, median_sample(x, None, window)[:, :, rows])


@given(n=st.integers(1, 9), before=st.integers(0, 30), after=st.integers(0, 30))
def test_reflection_is_numpys(n: int, before: int, after: int) -> None:
    expected = np.pad(np.arange(n), (before, after), mode="reflect")
    np.testing.assert_array_equal(reflect(np.arange(-before, n + after), n), expected)


def run(pairs: list[tuple[int, int]], order: list[int], values: list[int]) -> list[int]:
    values = list(values)
    for low, high in pairs:
        values[low], values[high] = min(values[low], values[high]), max(values[low], values[high])
    return [values[wire] for wire in order]


@pytest.mark.parametrize("n", range(1, 11))
def test_sorting_network_by_the_zero_one_principle(n: int) -> None:
    pairs, order = sort_network([[wire] for wire in range(n)])
    for bits in itertools.product((0, 1), repeat=n):
        assert run(pairs, order, list(bits)) == sorted(bits)


@pytest.mark.parametrize(("m", "n"), [(0, 3), (1, 1), (1, 6), (5, 2), (7, 7), (12, 12), (24, 10), (48, 48)])
def test_merging_network_by_the_zero_one_principle(m: int, n: int) -> None:
    pairs, order = merge_network(range(m), range(m, m + n))
    for a, b in itertools.product(range(m + 1), range(n + 1)):
        bits = [0] * a + [1] * (m - a) + [0] * b + [1] * (n - b)
        assert run(pairs, order, bits) == sorted(bits)


def test_program_is_as_short_as_announced() -> None:
    program = median_program(Window(12, 2))
    assert program.blocks == 6
    assert (program.steps[:, 0] != COPY).sum() < 600, "a window of 144 values costs less than 600 comparisons"


def test_gradient_flows_to_the_two_middle_values() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4).requires_grad_()
    median_sample(x, [1], Window(2, 2)).sum().backward()
    assert x.grad is not None
    expected = torch.zeros(4, 4)
    expected[2, 1] = expected[2, 3] = expected[3, 0] = expected[3, 2] = 0.5
    assert torch.equal(x.grad[0, 0], expected)


def test_code_is_the_median_at_the_kept_places() -> None:
    x = torch.rand(2, 1, 64, 56, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    spot = HeartSpot("median+rhline+heart", size=6, stride=2)
    small = torch.stack([torch.from_numpy(slowly(image.numpy(), 6, 2)) for image in x[:, 0]])[:, None]
    mask = spot.mask((64, 56))
    assert mask.shape == (32, 28)
    torch.testing.assert_close(spot.encode(x), small[:, :, mask])
    assert torch.equal(spot.to_image(spot.encode(x), (64, 56)) != 0, mask.expand(2, 1, -1, -1))


def test_a_single_bright_line_vanishes_and_a_broad_one_stays() -> None:
    x = torch.zeros(1, 1, 80, 80)
    x[..., 40] = 1
    assert not median_sample(x, window=Window(12, 2)).any()
    x[..., 30:50] = 1
    assert median_sample(x, window=Window(12, 2))[..., 20].all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_precisions_take_the_plain_path(dtype: torch.dtype) -> None:
    x: Tensor = (torch.arange(36.0).view(1, 1, 6, 6) / 64).to(dtype)
    out = median_sample(x, window=Window(2, 2))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), median_sample(x.float(), window=Window(2, 2)), rtol=0.01, atol=0)


def test_wrong_windows_rows_and_images() -> None:
    for size, stride in ((0, 1), (1, 0)):
        with pytest.raises(ConfigError, match="size and stride"):
            Window(size, stride)
    with pytest.raises(ConfigError, match=r"0…1"):
        median_sample(torch.rand(1, 1, 4, 4), [2], Window(2, 2))
    with pytest.raises(ShapeError):
        median_sample(torch.rand(1, 1, 0, 4))
