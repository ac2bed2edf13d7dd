"""Lossless coding of compressed records: floats that are really integers are stored as integers.

The steps: write the floats as integers that keep their order, predict each from its neighbours, split the residuals
into byte planes, and hand each plane to an entropy coder. Which way is best is tried on a sample and recorded in the
"plan", so a reader needs no guess.
"""

from __future__ import annotations

import bz2
import json
import lzma
import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np

from translucid.errors import ConfigError, InputError, ShapeError, did_you_mean
from translucid.io.integers import PREDICTORS, as_levels, as_scaled, from_planes, ordered, planes, unordered

Arrays = dict[str, np.ndarray]
SCALES = (255.0, 510.0, 4095.0, 8190.0, 65535.0)
HINTS = {"rows", "scales"}
SAMPLE = 48
TRIAL = 1 << 18
LARGE = 1 << 23

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


# -- integers ⇄ bytes ----------------------------------------------------------------------------------------------


def _arrange(values: np.ndarray, how: Mapping[str, Any]) -> list[bytes]:
    grid = values.reshape(len(values), -1, how["row"])
    rest = PREDICTORS[how["predictor"]][0](grid).reshape(len(values), -1)
    return [p.tobytes() for p in planes(rest.T if how["turned"] else rest)]


def _restore(parts: list[bytes], shape: tuple[int, int], how: Mapping[str, Any]) -> np.ndarray:
    lying = shape[::-1] if how["turned"] else shape
    total = from_planes([np.frombuffer(p, np.int8).reshape(lying) for p in parts])
    rest = (total.T if how["turned"] else total).reshape(shape[0], -1, how["row"])
    return PREDICTORS[how["predictor"]][1](rest).reshape(shape)


def _plan(values: np.ndarray, rows: list[int]) -> tuple[int, dict[str, Any]]:
    """Try predictions, orders and row lengths on a sample with the fastest coder: size in bytes and what won."""
    sample = values[:: -(-len(values) // SAMPLE)]
    best: tuple[int, dict[str, Any]] = (1 << 62, {})
    for predictor, turned, row in product(PREDICTORS, (False, True), rows):
        if row != rows[0] and predictor not in ("left", "plane"):
            continue
        how = {"predictor": predictor, "turned": turned, "row": row}
        size = sum(len(bz2.compress(p[:TRIAL])) for p in _arrange(sample, how))
        if size < best[0]:
            best = (size, how)
    return best


def _encode_integers(values: np.ndarray, rows: list[int], name: str) -> tuple[dict[str, Any], Arrays]:
    how = _plan(values, rows)[1]
    coders: list[str] = []
    arrays: Arrays = {}
    for i, plane in enumerate(_arrange(values, how)):
        trial = plane[:TRIAL]
        quick = [c for c in CODERS if len(plane) <= LARGE or not c.startswith("lzma")]  # lzma packs about 1 MB/s
        coders.append(min(quick, key=lambda c: len(CODERS[c][0](trial))))
        arrays[f"{name}_{i}"] = np.frombuffer(CODERS[coders[-1]][0](plane), np.uint8)
    return how | {"coders": coders, "shape": list(values.shape)}, arrays


def _decode_integers(how: Mapping[str, Any], arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    rows, columns = (int(s) for s in how["shape"])
    coders = enumerate(how["coders"])
    parts = [CODERS[c][1](arrays[f"{name}_{i}"].tobytes(), rows * columns) for i, c in coders]
    return _restore(parts, (rows, columns), how)


# -- the two verbs -------------------------------------------------------------------------------------------------


def _settings(hints: Mapping[str, Any] | None, code: int) -> tuple[list[int], tuple[float, ...]]:
    hints = hints or {}
    for key in hints:
        if key not in HINTS:
            raise ConfigError(f"coding hint {key!r} is unknown: {did_you_mean(key, HINTS)}")
    rows = [int(r) for r in hints.get("rows", ()) if 0 < int(r) < code and code % int(r) == 0]
    return [code, *rows], tuple(float(s) for s in hints.get("scales", SCALES))


def _forms(codes: np.ndarray, scales: tuple[float, ...]) -> dict[str, Arrays]:
    """Every exact integer form of the codes: name → streams of integers, all with two axes."""
    if codes.dtype == np.uint8:
        return {"bytes": {"k": codes.astype(np.int64)}}
    levels = as_levels(codes)
    if levels is not None:
        return {"levels": {"table": levels[0][None], "k": levels[1]}}
    found: dict[str, Arrays] = {"bits": {"k": ordered(codes)}}
    scaled = as_scaled(codes, scales)
    if scaled is not None:
        scale = np.array([[scaled[0]]], np.float64).view(np.int64)
        found["scaled"] = {"scale": scale, "k": scaled[1], "ulp": scaled[2]}
    return found


def _assemble(form: str, streams: Mapping[str, np.ndarray]) -> np.ndarray:
    if form == "bytes":
        return streams["k"]
    if form == "levels":
        return unordered(streams["table"][0])[streams["k"]]
    if form == "scaled":
        scale = streams["scale"].view(np.float64)[0, 0]
        return unordered(ordered((streams["k"] / scale).astype(np.float32)) + streams["ulp"])
    return unordered(streams["k"])


def _cost(streams: Arrays, rows: list[int]) -> int:
    return sum(_plan(values, rows)[0] for values in streams.values() if len(values) > 1)


def encode_array(codes: np.ndarray, hints: Mapping[str, Any] | None = None) -> Arrays:
    """Pack codes without loss: `decode_array` gives back every bit.

    8-bit pixels, their half-steps and any other small set of values become a table and places in it; wider sets
    become k/scale with corrections in units of the last place; the rest keeps its own bits, ordered.

    Args:
        codes: (n, channel, code) float32 or uint8; uint8 stays uint8.
        hints: "rows" – lengths a row of the picture may have inside the code; "scales" – numbers s for which code·s
            may be whole.

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
    plan: dict[str, Any] = {"shape": list(codes.shape), "dtype": str(codes.dtype), "form": "bytes", "streams": {}}
    arrays: Arrays = {}
    if codes.size:
        forms = _forms(codes.reshape(-1, codes.shape[2]), scales)
        plan["form"] = form = min(forms, key=lambda f: _cost(forms[f], rows)) if len(forms) > 1 else next(iter(forms))
        for name, values in forms[form].items():
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
        streams = {k: _decode_integers(how, arrays, k) for k, how in plan["streams"].items()}
        return _assemble(plan["form"], streams).astype(dtype, copy=False).reshape(shape)
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, EOFError, OSError, lzma.LZMAError) as e:
        raise InputError(f"the packed codes are damaged ({type(e).__name__}: {e}); write them again") from e
