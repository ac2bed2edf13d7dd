"""Lossless coding of compressed records: floats that are really integers are stored as integers.

The steps: write the floats as whole numbers (`translucid.io.integers`), then write each stream of numbers either with
the adaptive range coder, which predicts them, or as byte planes packed by a coder of the standard library. Which way
is best is tried on a sample and recorded in the "plan", so a reader needs no guess. Where speed counts, there is one
way without trials (`translucid.io.multiples`, `translucid.io.ricecoder`).
"""

from __future__ import annotations

import bz2
import json
import lzma
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from translucid.errors import ConfigError, InputError, ShapeError, did_you_mean
from translucid.io.integers import (
    MOST_LEVELS,
    PREDICTORS,
    as_levels,
    as_steps,
    from_planes,
    from_steps,
    ordered,
    planes,
    unordered,
)

Arrays = dict[str, np.ndarray]
DAMAGE = (
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    EOFError,
    OSError,
    MemoryError,
    lzma.LZMAError,
    zlib.error,
)
SCALES = (*(255.0 * 2**j for j in range(8)), 4095.0, 8190.0, 65535.0, 131070.0)
HINTS = {"rows", "scales"}
SAMPLE = 1 << 15
FEW = 1 << 12
CLEAR = 1.1
TRIAL = 1 << 16
LARGE = 1 << 20

_FILTERS = {
    "lzma": [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 4, "lp": 0, "pb": 0}],
    "lzma-plain": [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}],
}


# -- entropy coders ------------------------------------------------------------------------------------------------


def _pack_lzma(name: str) -> Callable[[bytes], bytes]:
    return lambda data: lzma.compress(data, format=lzma.FORMAT_RAW, filters=_FILTERS[name])


def _unpack_lzma(name: str) -> Callable[[bytes, int], bytes]:
    def unpack(data: bytes, size: int) -> bytes:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS[name]).decompress(data, size)

    return unpack


CODERS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes, int], bytes]]] = {
    "lzma": (_pack_lzma("lzma"), _unpack_lzma("lzma")),
    "lzma-plain": (_pack_lzma("lzma-plain"), _unpack_lzma("lzma-plain")),
    "bz2": (bz2.compress, lambda data, size: bz2.BZ2Decompressor().decompress(data, size)),
    "stored": (bytes, lambda data, size: data[:size]),
}
"""Name → (pack, unpack to a known size: a damaged stream cannot ask for more memory)."""


# -- whole numbers ⇄ bytes -----------------------------------------------------------------------------------------


def _arrange(values: np.ndarray, how: Mapping[str, Any]) -> list[bytes]:
    rest = PREDICTORS[how["predictor"]][0](values)
    return [p.tobytes() for p in planes(rest.T if how["turned"] else rest)]


def _packed_planes(values: np.ndarray) -> tuple[int, dict[str, Any]]:
    """The best prediction and order for byte planes: size in bytes with the fastest coder, and what won."""
    ways = [{"predictor": p, "turned": t} for p in PREDICTORS for t in (False, True)]
    sizes = [sum(len(bz2.compress(p)) for p in _arrange(values, way)) for way in ways]
    best = int(np.argmin(sizes))
    return sizes[best], ways[best]


def _ranged(values: np.ndarray, rows: list[int]) -> tuple[int, dict[str, Any]] | None:
    """The best row length and context for the range coder: size in bytes and what won; None where it cannot serve."""
    from translucid.io import rangecoder

    grids = {row: values.reshape(len(values), -1, row) for row in rows}
    rules = {row: rangecoder.fit_rule(grid, rounds=2) for row, grid in grids.items()}
    row = min(rows, key=lambda r: rangecoder.residual_bits(grids[r], rules[r]))
    best: tuple[int, dict[str, Any]] | None = None
    for textured in (True, False):
        data = rangecoder.encode(grids[row], rules[row], textured)
        if data is not None and (best is None or len(data) < best[0]):
            best = len(data), {"coder": "range", "row": row, "textured": textured}
    return best


def _plans(values: np.ndarray, rows: list[int]) -> list[dict[str, Any]]:
    """How to write a stream, tried on a sample of its cases; two ways where the sample does not decide."""
    cases = max(1, SAMPLE // values.shape[1])
    sample = values[:: -(-len(values) // cases)]
    size, way = _packed_planes(sample)
    ways: list[tuple[float, dict[str, Any]]] = [(size, way | {"coder": "planes"})]
    ranged = _ranged(sample, rows) if values.size >= FEW else None
    if ranged is not None:
        ways.append((ranged[0] + sample.size / 256, ranged[1]))  # reading costs time even where it costs no room
    least = min(size for size, _ in ways)
    return [way for size, way in ways if size < CLEAR * least or size == least]


def _encode_integers(values: np.ndarray, rows: list[int], name: str) -> tuple[dict[str, Any], Arrays]:
    tried = [_written(values, how | {"shape": list(values.shape)}, name) for how in _plans(values, rows)]
    return min(tried, key=lambda t: sum(a.size for a in t[1].values()))


def _written(values: np.ndarray, how: dict[str, Any], name: str) -> tuple[dict[str, Any], Arrays]:
    if how["coder"] == "range":
        from translucid.io import rangecoder

        grid = values.reshape(len(values), -1, how["row"])
        how["rule"] = rangecoder.fit_rule(grid)
        data = rangecoder.encode(grid, how["rule"], how["textured"])
        if data is not None:
            return how, {f"{name}_0": data}
        how |= {"coder": "planes", "predictor": "none", "turned": False}
    packers: list[str] = []
    arrays: Arrays = {}
    for i, plane in enumerate(_arrange(values, how)):
        quick = [c for c in CODERS if len(plane) <= LARGE or not c.startswith("lzma")]  # lzma packs about 1 MB/s
        packers.append(min(quick, key=lambda c: len(CODERS[c][0](plane[:TRIAL]))))
        arrays[f"{name}_{i}"] = np.frombuffer(CODERS[packers[-1]][0](plane), np.uint8)
    return how | {"packers": packers}, arrays


def _decode_integers(how: Mapping[str, Any], arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    cases, columns = (int(s) for s in how["shape"])
    if how["coder"] == "range":
        from translucid.io import rangecoder

        row = int(how["row"])
        shape = (cases, columns // row, row)
        return rangecoder.decode(arrays[f"{name}_0"], shape, how["rule"], how["textured"]).reshape(cases, columns)
    packers = enumerate(how["packers"])
    parts = [CODERS[p][1](arrays[f"{name}_{i}"].tobytes(), cases * columns) for i, p in packers]
    lying = (columns, cases) if how["turned"] else (cases, columns)
    total = from_planes([np.frombuffer(p, np.int8).reshape(lying) for p in parts])
    return PREDICTORS[how["predictor"]][1](total.T if how["turned"] else total)


# -- the two verbs -------------------------------------------------------------------------------------------------


def _settings(hints: Mapping[str, Any] | None, code: int) -> tuple[list[int], tuple[float, ...]]:
    hints = hints or {}
    for key in hints:
        if key not in HINTS:
            raise ConfigError(f"coding hint {key!r} is unknown: {did_you_mean(key, HINTS)}")
    rows = [int(r) for r in hints.get("rows", ()) if 0 < int(r) < code and code % int(r) == 0]
    return [code, *rows], tuple(float(s) for s in hints.get("scales", SCALES))


def _form(codes: np.ndarray, scales: tuple[float, ...]) -> tuple[dict[str, Any], Arrays]:
    """An exact form in whole numbers: what it is, and its streams, all with two axes."""
    if codes.dtype == np.uint8:
        return {"form": "bytes"}, {"k": codes.astype(np.int64)}
    steps = as_steps(codes, scales)
    levels = None if steps is not None and _dense(steps[1]) else as_levels(codes)
    if levels is not None:
        return {"form": "levels"}, {"table": levels[0][None], "k": levels[1]}
    if steps is not None:
        return {"form": "steps", "scale": steps[0]}, steps[1]
    return {"form": "bits"}, {"k": ordered(codes)}


def _dense(streams: Arrays) -> bool:
    """Whether the steps are the codes' own: most whole numbers between the least and the largest occur."""
    k = streams["k"]
    exact = np.count_nonzero(streams.get("ulp", 0)) <= k.size // 10
    return bool(exact) and int(np.ptp(k)) < 8 * len(np.unique(k))


def _assemble(plan: Mapping[str, Any], streams: Mapping[str, np.ndarray]) -> np.ndarray:
    if plan["form"] == "steps":
        return from_steps(float(plan["scale"]), streams)
    if plan["form"] == "levels":
        return unordered(streams["table"][0])[streams["k"]]
    return unordered(streams["k"]) if plan["form"] == "bits" else streams["k"]


def _quick(codes: np.ndarray) -> tuple[dict[str, Any], Arrays]:
    """One form and one coder for all, without trials."""
    from translucid.io import multiples, ricecoder

    if codes.dtype == np.uint8:
        return {"form": "rice"}, {"k": ricecoder.encode(codes)}
    numbers, kinds, steps = multiples.as_multiples(codes)
    packed = np.frombuffer(zlib.compress(kinds.tobytes()), np.uint8)
    return {"form": "rice", "steps": steps}, {"k": ricecoder.encode(numbers), "kinds": packed}


def _quick_back(plan: Mapping[str, Any], arrays: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    from translucid.io import multiples, ricecoder

    numbers = ricecoder.decode(arrays["k"], (math.prod(shape[:-1]), shape[-1]))
    if "steps" not in plan:
        return numbers
    kinds = np.frombuffer(zlib.decompressobj().decompress(arrays["kinds"].tobytes(), max(shape[-1], 1)), np.uint8)
    return multiples.from_multiples(numbers, kinds, plan["steps"])


def encode_array(codes: np.ndarray, hints: Mapping[str, Any] | None = None, quick: bool = False) -> Arrays:
    """Pack codes without loss: `decode_array` gives back every bit.

    Pixels, their half-steps and sums become k/scale with corrections in units of the last place; other small sets of
    values become a table and places in it; the rest keeps its own bits, ordered.

    Args:
        codes: (n, channel, code) float32 or uint8; uint8 stays uint8.
        hints: "rows" – lengths a row of the picture may have inside the code; "scales" – numbers s for which code·s
            may be whole.
        quick: try nothing out: each place of the code in its own step (`multiples`), written by `ricecoder`. A hundred
            times faster; smaller for sums over cells, larger for pictures.

    Returns:
        Arrays of bytes, and "plan", the JSON that says how to undo them.

    Raises:
        ShapeError: not three axes.
        InputError: another dtype.
        ConfigError: an unknown hint.

    Example:
        >>> codes = (np.arange(600).reshape(2, 1, 300) % 256 / 255).astype(np.float32)
        >>> packed = encode_array(codes, {"rows": [30]})
        >>> bool((decode_array(packed) == codes).all())
        True

    Fails when: the codes are noise; they then take as much room as their own bytes.
    """
    if codes.ndim != 3:
        raise ShapeError(f"codes need (n, channel, code), got shape {codes.shape}")
    if codes.dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
        raise InputError(f"codes need float32 or uint8, got {codes.dtype}; convert them first")
    rows, scales = _settings(hints, codes.shape[2])
    plan: dict[str, Any] = {"shape": list(codes.shape), "dtype": str(codes.dtype), "streams": {}}
    arrays: Arrays = {}
    if codes.size and quick:
        form, arrays = _quick(codes.reshape(-1, codes.shape[2]))
        plan |= form
    elif codes.size:
        form, streams = _form(codes.reshape(-1, codes.shape[2]), scales)
        plan |= form
        for name, values in streams.items():
            lengths = rows if values.shape[1] == codes.shape[2] else [values.shape[1]]
            plan["streams"][name], parts = _encode_integers(values, lengths, name)
            arrays |= parts
    text = json.dumps(plan, sort_keys=True).encode()
    return arrays | {"plan": np.frombuffer(text, np.uint8)}


def decode_array(arrays: Mapping[str, np.ndarray], expected: tuple[int, ...] | None = None) -> np.ndarray:
    """Undo `encode_array`, bit for bit.

    Args:
        arrays: what `encode_array` returned.
        expected: the shape that must come out, where it is known.

    Raises:
        InputError: a stream is missing or damaged, or the shape is another.

    Example:
        >>> decode_array(encode_array(np.zeros((1, 1, 4), np.uint8)))
        array([[[0, 0, 0, 0]]], dtype=uint8)

    Fails when: a damaged stream happens to decode; the store therefore checks each file's SHA-256 as well.
    """
    try:
        plan = json.loads(arrays["plan"].tobytes())
        shape, dtype = tuple(int(s) for s in plan["shape"]), np.dtype(plan["dtype"])
        if expected is not None and shape != expected:
            raise InputError(f"the packed codes have shape {shape}, not {expected}")
        if not math.prod(shape):
            return np.zeros(shape, dtype)
        if plan["form"] == "rice":
            return _quick_back(plan, arrays, shape).astype(dtype, copy=False).reshape(shape)
        if any(math.prod(how["shape"]) > math.prod(shape) + MOST_LEVELS for how in plan["streams"].values()):
            raise InputError("the packed codes ask for more numbers than they hold")
        streams = {k: _decode_integers(how, arrays, k) for k, how in plan["streams"].items()}
        return _assemble(plan, streams).astype(dtype, copy=False).reshape(shape)
    except InputError:
        raise
    except DAMAGE as e:
        raise InputError(f"the packed codes are damaged ({type(e).__name__}: {e}); write them again") from e
