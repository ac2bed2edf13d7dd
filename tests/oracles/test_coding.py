"""Lossless coding: every bit comes back, and the size comes near what theory allows."""

from __future__ import annotations

import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from translucid.errors import ConfigError, InputError, ShapeError
from translucid.io import rangecoder
from translucid.io.coding import decode_array, encode_array
from translucid.io.integers import as_steps, from_planes, from_steps, ordered, planes, unordered


def size(packed: dict[str, np.ndarray]) -> int:
    return sum(a.nbytes for a in packed.values())


def plan(packed: dict[str, np.ndarray]) -> dict[str, Any]:
    return json.loads(packed["plan"].tobytes())


def there_and_back(codes: np.ndarray, hints: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
    before = codes.tobytes()
    packed = encode_array(codes, hints)
    back = decode_array(packed, codes.shape)
    assert (back.shape, back.dtype) == (codes.shape, codes.dtype)
    assert back.tobytes() == codes.tobytes() == before
    again = encode_array(codes, hints)
    assert packed.keys() == again.keys()
    assert all(packed[k].tobytes() == again[k].tobytes() for k in packed)
    return packed


def walk(n: int, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Smooth 8-bit pictures, (n, rows, columns)."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(n, rows, columns)).cumsum(2) * 3 + rng.normal(size=(n, 1, columns)).cumsum(2) * 6
    return np.rint(128 + steps - steps.mean((1, 2), keepdims=True)).clip(0, 255).astype(np.uint8)


@given(arrays(np.uint32, st.tuples(st.integers(0, 3), st.integers(1, 2), st.integers(1, 40))))
def test_any_bit_pattern_comes_back(bits: np.ndarray) -> None:
    there_and_back(bits.view(np.float32))


@given(arrays(np.uint8, st.tuples(st.integers(0, 3), st.integers(1, 2), st.integers(1, 40))))
def test_any_bytes_come_back_as_bytes(codes: np.ndarray) -> None:
    there_and_back(codes)


@pytest.mark.parametrize("value", [0.0, -0.0, np.nan, np.inf, 1e-42, -3.5])
def test_constant_codes_take_almost_no_room(value: float) -> None:
    packed = there_and_back(np.full((40, 1, 500), value, np.float32))
    assert size(packed) < 1500


def test_odd_values_among_pixels_come_back() -> None:
    codes = (walk(20, 10, 40) / np.float32(255)).reshape(20, 1, 400)
    codes[3, 0, 7:12] = [np.nan, np.inf, -np.inf, -0.0, 1e-40]
    there_and_back(codes, {"rows": [40]})


def test_pixels_cost_what_their_residuals_do() -> None:
    pixels = walk(40, 20, 64)
    packed = there_and_back((pixels / np.float32(255)).reshape(40, 1, 1280), {"rows": [64]})
    assert (plan(packed)["form"], plan(packed)["streams"]["k"]["coder"]) == ("steps", "range")
    assert "ulp" not in plan(packed)["streams"]
    whole = there_and_back(pixels.reshape(40, 1, 1280), {"rows": [64]})
    assert size(whole) < size(packed) < size(whole) + 300


def test_medians_of_an_even_count_stay_cheap_though_rounding_makes_twins() -> None:
    rng = np.random.default_rng(0)
    low = walk(60, 1, 800).reshape(60, 1, 800)
    high = low + (rng.random(low.shape) < 0.1) * rng.integers(1, 3, low.shape)
    codes = ((low / np.float32(255) + high.astype(np.float32) / np.float32(255)) * np.float32(0.5)).astype(np.float32)
    exact = (low.astype(np.int64) + high) / 510
    assert np.any(codes != exact.astype(np.float32))
    packed = there_and_back(codes)
    assert plan(packed)["form"] == "steps"
    assert size(packed) < codes.nbytes / 6


def test_haar_sums_are_whole_numbers_of_a_finer_step() -> None:
    rng = np.random.default_rng(1)
    x = (rng.integers(0, 256, (30, 400, 16)) / 255).astype(np.float32)
    signs = np.sign(rng.normal(size=(16,))).astype(np.float32)
    codes = (x * signs).sum(2, dtype=np.float32)[:, None] * np.float32(0.25)
    packed = there_and_back(codes)
    assert plan(packed)["form"] == "steps"
    assert size(packed) < 0.6 * codes.nbytes


def test_a_strange_window_becomes_a_table() -> None:
    codes = (np.float32(walk(40, 20, 50)) * np.float32(1.2345) - np.float32(0.987)).reshape(40, 1, 1000)
    packed = there_and_back(codes, {"rows": [50]})
    assert plan(packed)["form"] == "levels"
    assert size(packed) < codes.nbytes / 5


def test_noise_takes_no_more_than_its_bytes() -> None:
    codes = np.random.default_rng(2).normal(size=(40, 1, 400)).astype(np.float32)
    assert size(there_and_back(codes)) < 1.02 * codes.nbytes + 500


def test_damage_is_an_input_error() -> None:
    packed = encode_array((walk(20, 10, 64) / np.float32(255)).reshape(20, 1, 640))
    with pytest.raises(InputError, match="damaged"):
        decode_array({k: v for k, v in packed.items() if k != "k_0"})
    with pytest.raises(InputError, match=r"not \(20, 1, 641\)"):
        decode_array(packed, (20, 1, 641))
    good = plan(packed)
    stream = good["streams"]["k"]
    for bad in ({"row": 0}, {"row": -3}, {"rule": [9e99] * 7}, {"rule": [1 << 20] * 7}, {"shape": [10**6, 10**6]}):
        text = json.dumps(good | {"streams": good["streams"] | {"k": stream | bad}}).encode()
        with pytest.raises(InputError):
            decode_array(packed | {"plan": np.frombuffer(text, np.uint8)})
    with pytest.raises(InputError, match="damaged"):
        decode_array(packed | {"k_0": packed["k_0"][:50]})


@given(st.binary(max_size=300), st.booleans(), st.lists(st.integers(-32767, 32767), min_size=7, max_size=7))
def test_any_bytes_decode_to_something_or_an_error(data: bytes, textured: bool, rule: list[int]) -> None:
    try:
        out = rangecoder.decode(np.frombuffer(data, np.uint8), (2, 5, 7), rule, textured)
    except ValueError:
        return
    assert np.abs(out).max() <= 1 << 43


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 3\)"):
        encode_array(np.zeros((2, 3), np.float32))
    with pytest.raises(InputError, match="float64"):
        encode_array(np.zeros((2, 3, 4)))
    with pytest.raises(ConfigError, match="did you mean 'rows'"):
        encode_array(np.zeros((2, 3, 4), np.float32), {"row": 3})


@given(arrays(np.uint32, st.integers(0, 50)))
def test_numbering_of_floats_is_a_bijection_in_order(bits: np.ndarray) -> None:
    floats = bits.view(np.float32)
    numbers = ordered(floats)
    assert unordered(numbers).tobytes() == floats.tobytes()
    real = ~np.isnan(floats)
    a, b = floats[real][:-1], floats[real][1:]
    np.testing.assert_array_equal((numbers[real][:-1] < numbers[real][1:])[a != b], (a < b)[a != b])


@given(arrays(np.int64, st.integers(1, 30), elements=st.integers(-(1 << 60), 1 << 60)))
def test_planes_come_back(values: np.ndarray) -> None:
    np.testing.assert_array_equal(from_planes(planes(values)), values)


def test_steps_take_the_coarsest_scale_that_serves() -> None:
    x = (np.arange(511) / 510).astype(np.float32)[None]
    found = as_steps(x, (255.0, 510.0, 1020.0))
    assert found is not None
    assert found[0] == 510
    assert from_steps(*found).tobytes() == x.tobytes()
    assert as_steps(np.float32(np.random.default_rng(0).normal(size=(9, 99))), (255.0, 510.0)) is None


# -- the range coder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("textured", [True, False])
@given(
    values=arrays(
        np.int64,
        st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9)),
        elements=st.one_of(st.integers(-3, 3), st.integers(-(1 << 40) + 1, (1 << 40) - 1)),
    )
)
def test_any_whole_numbers_come_back(textured: bool, values: np.ndarray) -> None:
    rule = rangecoder.fit_rule(values)
    packed = rangecoder.encode(values, rule, textured)
    assert packed is not None
    np.testing.assert_array_equal(rangecoder.decode(packed, values.shape, rule, textured), values)


def test_numbers_too_large_are_left_to_others() -> None:
    assert rangecoder.encode(np.full((1, 1, 1), 1 << 40), [0] * 7, True) is None


@pytest.mark.parametrize("share", [0.02, 0.2, 0.6])
def test_independent_numbers_cost_their_entropy(share: float) -> None:
    rng = np.random.default_rng(3)
    p = 1 - share
    values = (rng.geometric(p, (20, 40, 100)) - 1) * rng.choice([-1, 1], (20, 40, 100))
    # H of a two-sided geometric: magnitude, and one bit of sign unless zero
    entropy = -(math.log2(p) + share / p * math.log2(share)) + share
    packed = rangecoder.encode(values, [0] * 7, False)
    assert packed is not None
    assert entropy - 0.02 < 8 * packed.size / values.size < 1.03 * entropy + 0.01


def test_prediction_finds_the_rule_that_made_the_numbers() -> None:
    rng = np.random.default_rng(4)
    x = np.zeros((4, 60, 200))
    for y in range(60):
        for k in range(200):
            left, above = x[:, y, k - 1] if k else 0, x[:, y - 1, k] if y else 0
            x[:, y, k] = 0.5 * left + 0.4 * above + rng.normal(size=4) * 50
    rule = np.array(rangecoder.fit_rule(np.rint(x).astype(np.int64))) / rangecoder.UNIT
    assert rule[[0, 2]] == pytest.approx([0.5, 0.4], abs=0.03)
    assert np.abs(rule[[1, 3, 4]]).max() < 0.03


def test_bytes_are_the_same_on_every_machine() -> None:
    values = (np.arange(6000).reshape(3, 20, 100) ** 2 // 97) % 251
    rule = [4096, -1024, 1024, -512, 512, 3, 7]
    digests = [hashlib.sha256(rangecoder.encode(values, rule, t).tobytes()).hexdigest()[:16] for t in (True, False)]
    assert digests == ["82d9a705f988cc0f", "be560ea84af5649d"]


def test_medians_on_lines_of_real_chests_are_far_below_jpeg(real_data: Path) -> None:
    import torch

    from translucid.compress import HeartSpot

    pixels, jpeg = [], 0
    for path in sorted((real_data / "cxr-nih14" / "images").glob("*.jpg"))[::8]:
        picture = Image.open(path).convert("L")
        scale = 320 / min(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR
        )
        left, top = (picture.width - 320) // 2, (picture.height - 320) // 2
        picture = picture.crop((left, top, left + 320, top + 320))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=95)
        jpeg += buffer.tell()
        pixels.append(np.asarray(picture))
    images = torch.from_numpy(np.stack(pixels)[:, None] / np.float32(255))
    codes = HeartSpot("median+hline").encode(images).numpy()
    assert codes.shape[1:] == (1, 3200)
    packed = there_and_back(codes, {"rows": [320, 160, 80, 40, 20, 10]})
    assert jpeg / size(packed) > 15  # 11 was published, for one image
