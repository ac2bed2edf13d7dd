"""The store of codes: what is written comes back bit for bit, and what is broken is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from translucid.errors import ConfigError, InputError, ShapeError
from translucid.io.codes import CodeStore, shard_name, write_header, write_shard

HEADER: dict[str, Any] = {
    "compressor": {"kind": "plain"},
    "framing": {"kind": "centre"},
    "space": [8, 16],
    "channels": 2,
    "code_length": 128,
    "fingerprints": {"manifest": "0123456789abcdef"},
}


def pixels(n: int, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).integers(-3, 4, (n, 2, 128)).cumsum(2)
    return ((steps % 256) / 255).astype(np.float32)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    codes = pixels(25)
    counts = {0: 10, 1: 0, 2: 10, 3: 5}
    for number, rows in ((0, codes[:10]), (2, codes[10:20]), (3, codes[20:])):
        write_shard(tmp_path, number, rows, HEADER)
    write_header(tmp_path, HEADER, counts)
    return tmp_path


def test_rows_come_back_in_the_order_asked_across_shards_with_a_gap(store: Path) -> None:
    opened = CodeStore.open(store)
    assert (len(opened), opened.shape) == (25, (25, 2, 128))
    rows = np.random.default_rng(1).integers(0, 25, 40)
    assert same_bits(opened.read(rows), pixels(25)[rows])
    assert same_bits(opened[rows], opened.read(rows))
    assert same_bits(opened[7], pixels(25)[7])
    assert same_bits(opened[3:22:4], pixels(25)[3:22:4])
    assert opened.read([]).shape == (0, 2, 128)


def test_size_on_disk_is_what_lies_there(store: Path) -> None:
    assert CodeStore.open(store).bytes_on_disk == sum(p.stat().st_size for p in store.iterdir())


def test_same_codes_give_the_same_bytes_in_any_order_of_header_keys(tmp_path: Path) -> None:
    turned = dict(reversed(HEADER.items()))
    for name, header in (("a", HEADER), ("b", turned), ("c", HEADER)):
        write_shard(tmp_path / name, 0, pixels(9), header)
    a, b, c = ((tmp_path / n / shard_name(0)).read_bytes() for n in "abc")
    assert a == b == c


@pytest.mark.parametrize("coding", ["raw", "packed"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_coding_and_dtype_gives_back_the_same_floats(tmp_path: Path, coding: Any, dtype: Any) -> None:
    steps = np.random.default_rng(3).integers(0, 256, (6, 2, 128)).astype(np.uint8)
    codes = steps if dtype == np.uint8 else steps.astype(np.float32) / np.float32(255)
    write_shard(tmp_path, 0, codes, HEADER, coding)
    write_header(tmp_path, HEADER)
    opened = CodeStore.open(tmp_path)
    assert same_bits(opened.read(range(5, -1, -1)), (steps.astype(np.float64) / 255).astype(np.float32)[::-1])
    assert isinstance(opened._shard(0), np.memmap) == (coding == "raw")


def test_cache_keeps_within_its_bound_and_drops_the_least_recent(store: Path) -> None:
    one = 10 * 2 * 128 * 4
    opened = CodeStore.open(store, cache_bytes=2 * one)
    for row in (0, 10, 0, 24, 24):
        opened.read([row])
    assert list(opened._cache) == [0, 2]
    assert same_bits(opened.read([12]), pixels(25)[12:13])


def test_what_was_forgotten_is_read_again(store: Path) -> None:
    opened = CodeStore.open(store)
    rows = np.arange(len(opened))
    before = opened.read(rows)
    opened.forget()
    assert not opened._cache
    assert same_bits(opened.read(rows), before)


def test_headers_name_the_compressor_in_each_shard(store: Path) -> None:
    data = (store / shard_name(0)).read_bytes()
    size = int.from_bytes(data[:8], "little")
    record = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["translucid"])
    assert record == {"header": HEADER, "rows": 10}


def test_a_store_without_header_is_unfinished(store: Path) -> None:
    (store / "header.json").unlink()
    with pytest.raises(InputError, match=r"header\.json is not there.*unfinished; run compress again"):
        CodeStore.open(store)


def test_a_missing_shard_is_named(store: Path) -> None:
    (store / shard_name(2)).unlink()
    with pytest.raises(InputError, match=r"shard-00002\.safetensors is missing"):
        CodeStore.open(store)
    with pytest.raises(InputError, match=r"shard-00002\.safetensors cannot be read"):
        write_header(store, HEADER, {0: 10, 2: 10})


def test_a_short_shard_is_named_at_opening(store: Path) -> None:
    path = store / shard_name(3)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"shard-00003\.safetensors has \d+ bytes, not"):
        CodeStore.open(store)


def test_a_flipped_bit_is_found_when_read_and_by_verify(store: Path) -> None:
    path = store / shard_name(3)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    opened = CodeStore.open(store)
    assert opened.read([0, 19]).shape == (2, 2, 128)
    with pytest.raises(InputError, match=r"shard-00003\.safetensors has changed"):
        opened.read([20])
    with pytest.raises(InputError, match=r"shard-00003\.safetensors has changed"):
        opened.verify()


def test_a_shard_of_another_store_is_refused(store: Path) -> None:
    write_shard(store, 2, pixels(10), HEADER | {"compressor": {"kind": "heartspot"}})
    with pytest.raises(InputError, match=r"shard-00002\.safetensors was made with other settings \(compressor\)"):
        write_header(store, HEADER)


def test_rows_of_a_shard_must_be_those_counted(store: Path) -> None:
    with pytest.raises(InputError, match="holds 5 rows, not 6"):
        write_header(store, HEADER, {0: 10, 2: 10, 3: 6})


def test_a_header_that_points_elsewhere_is_refused(store: Path) -> None:
    header = json.loads((store / "header.json").read_text())
    header["shards"][0]["file"] = "../secret.safetensors"
    (store / "header.json").write_text(json.dumps(header))
    with pytest.raises(InputError, match="missing"):
        CodeStore.open(store)


def test_errors_say_what_came_and_what_was_wanted(store: Path) -> None:
    with pytest.raises(InputError, match=r"rows 0…25 asked, .* has 0…24"):
        CodeStore.open(store).read([0, 25])
    with pytest.raises(ShapeError, match=r"\(3, 2, 127\), but the header says \(n, 2, 128\)"):
        write_shard(store, 9, pixels(3)[..., 1:], HEADER)
    with pytest.raises(InputError, match="float64"):
        write_shard(store, 9, pixels(3).astype(np.float64), HEADER)
    with pytest.raises(ConfigError, match="needs framing, space"):
        write_shard(store, 9, pixels(3), {"compressor": {}, "channels": 2, "code_length": 128})
    with pytest.raises(ConfigError, match="zip"):
        write_shard(store, 9, pixels(3), HEADER, "zip")  # type: ignore[arg-type]
    assert not list(store.glob("*9*"))


def test_a_shard_that_is_no_shard_is_named(store: Path) -> None:
    (store / shard_name(4)).write_bytes(b"no safetensors")
    with pytest.raises(InputError, match=r"shard-00004\.safetensors is no shard"):
        write_header(store, HEADER)
