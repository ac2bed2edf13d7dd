"""The store of compressed records: a folder with `header.json` and safetensors shards, packed without loss.

    codes/<name>/header.json  shard-00000.safetensors  shard-00001.safetensors  …

Every shard carries the header in its own metadata, so a shard that strays is known again. `header.json` is written
last and lists each shard's rows, bytes and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from translucid.config import fingerprint, read_json, to_plain, whole_file, write_json
from translucid.errors import ConfigError, InputError, ShapeError
from translucid.io.coding import decode_array, encode_array

NEEDED = ("compressor", "framing", "space", "channels", "code_length")
KEY = "translucid"
FORMAT = 1
UNIT = np.float32(255)
Coding = Literal["packed", "quick", "raw"]
"""How a shard is written."""


def shard_name(number: int) -> str:
    """File name of a shard.

    >>> shard_name(3)
    'shard-00003.safetensors'
    """
    return f"shard-{number:05d}.safetensors"


def write_shard(
    folder: Path,
    number: int,
    codes: np.ndarray,
    header: Mapping[str, Any],
    coding: Coding = "packed",
) -> int:
    """Write one shard whole or not at all; the same input gives the same bytes.

    Args:
        folder: the store.
        number: the shard's number from 0.
        codes: (n, channel, code) float32, or uint8 for k/255.
        header: compressor, framing, space, channels, code_length, and what else describes the whole store
            ("hints" are handed to `encode_array`). The same for every shard.
        coding: "packed" is coded without loss, as small as can be; "quick" without loss and without trials (see
            `encode_array`); "raw" is a plain array that can be memory-mapped.

    Returns:
        Size of the file in bytes.

    Raises:
        ShapeError: the codes do not have the announced shape. ConfigError: a header field is missing or a coding
            unknown. InputError: another dtype.

    Example:
        >>> import tempfile
        >>> header = {"compressor": {"kind": "plain"}, "framing": {}, "space": [2, 2], "channels": 1, "code_length": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = write_shard(Path(folder), 0, np.ones((3, 1, 4), np.float32), header)
        ...     write_header(Path(folder), header, {0: 3})
        ...     CodeStore.open(Path(folder)).read([2, 0]).shape
        (2, 1, 4)

    Fails when: two jobs write the same number with different codes; the later one stays.
    """
    record = _record(header)
    codes = np.asarray(codes)
    expected = (len(codes), record["channels"], record["code_length"])
    if codes.shape != expected:
        raise ShapeError(f"codes of shape {codes.shape}, but the header says (n, {expected[1]}, {expected[2]})")
    if codes.dtype not in (np.dtype(np.float32), np.dtype(np.uint8)):
        raise InputError(f"codes need float32 or uint8, got {codes.dtype}; convert them first")
    if coding not in get_args(Coding):
        raise ConfigError(f"unknown coding {coding!r}: known are {', '.join(get_args(Coding))}")
    hints = {"rows": _row_lengths(record)} | dict(header.get("hints") or {})
    whole = {"codes": np.ascontiguousarray(codes)}
    arrays = whole if coding == "raw" else encode_array(codes, hints, quick=coding == "quick")
    # one key only: the metadata is a hash map whose order is not fixed
    meta = {KEY: json.dumps({"header": record, "rows": len(codes)}, sort_keys=True, allow_nan=False)}
    data = save(arrays, metadata=meta)
    with whole_file(Path(folder) / shard_name(number)) as temporary:
        temporary.write_bytes(data)
    return len(data)


def _record(header: Mapping[str, Any]) -> dict[str, Any]:
    missing = [k for k in NEEDED if k not in header]
    if missing:
        raise ConfigError(f"a store's header needs {', '.join(missing)}")
    plain: dict[str, Any] = to_plain(header)
    return {k: v for k, v in plain.items() if k not in ("rows", "shards", "format", "bytes")}


def _row_lengths(record: Mapping[str, Any]) -> list[int]:
    """Lengths a row of the picture may have inside the code: the image's own, or halved a few times."""
    width = int(record["space"][-1]) if record["space"] else 0
    halves = {width >> k for k in range(6)}
    return sorted((w for w in halves if w > 4 and record["code_length"] % w == 0), reverse=True)


def write_header(folder: Path, header: Mapping[str, Any], counts: Mapping[int, int] | None = None) -> None:
    """Finish a store: check that its shards are there and belong together, then write `header.json`.

    Args:
        folder: the store.
        header: as given to `write_shard`.
        counts: shard number → rows it must hold (0: no file); None takes the shards that lie there.

    Raises:
        InputError: a shard is missing, unreadable, has other rows or another header.

    Fails when: `counts` is None and the last shards were never written; nothing then tells that they are missing.
    """
    folder, record = Path(folder), _record(header)
    numbers = sorted(n for n, rows in counts.items() if rows) if counts is not None else _numbers(folder)
    shards = []
    for number in numbers:
        path = folder / shard_name(number)
        data = _bytes(path)
        found = _metadata(path, data)
        _check_header(path, found["header"], record)
        if counts is not None and found["rows"] != counts[number]:
            raise InputError(f"{path} holds {found['rows']} rows, not {counts[number]}: delete it and run compress")
        digest = hashlib.sha256(data).hexdigest()
        shards.append({"file": path.name, "rows": found["rows"], "bytes": len(data), "sha256": digest})
    total = {"rows": sum(s["rows"] for s in shards), "shards": shards, "format": FORMAT}
    write_json(folder / "header.json", record | total)


def _numbers(folder: Path) -> list[int]:
    return sorted(int(p.stem.removeprefix("shard-")) for p in folder.glob("shard-[0-9]*.safetensors"))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise InputError(
            f"{path} cannot be read ({e.strerror}): run compress again, it writes what is missing"
        ) from None


def _metadata(path: Path, data: bytes) -> dict[str, Any]:
    """The record a shard carries; a safetensors file begins with the length of its JSON header."""
    try:
        length = int.from_bytes(data[:8], "little")
        found = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][KEY])
        return {"header": dict(found["header"]), "rows": int(found["rows"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is no shard of codes, or damaged: delete it and run compress again") from None


def _check_header(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if fingerprint(found) != fingerprint(wanted):
        keys = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
        raise InputError(f"{path} was made with other settings ({', '.join(keys)}): delete it and run compress again")


@dataclass
class CodeStore:
    """Random access to a finished store.

    Attributes:
        folder: where it lies.
        header: `header.json` as it stands there.
        cache_bytes: how much of decoded shards is kept; the least recently used goes first.

    Fails when: rows are read in random order and the cache holds only a few of the shards; each read then decodes one.
    """

    folder: Path
    header: Mapping[str, Any]
    cache_bytes: int = 1 << 29
    _cache: OrderedDict[int, np.ndarray] = field(default_factory=OrderedDict, repr=False)

    @staticmethod
    def open(folder: Path, cache_bytes: int = 1 << 29) -> CodeStore:
        """Open a store and check that every shard lies there in its full length.

        Args:
            folder: e.g. run/codes/heartspot.
            cache_bytes: bound on decoded shards kept in memory.

        Raises:
            InputError: no header, no such format, or a shard is missing or cut short.

        Fails when: bytes inside a shard have changed; that is found when it is read, or by `verify`.
        """
        folder = Path(folder)
        if not (folder / "header.json").is_file():
            raise InputError(f"{folder / 'header.json'} is not there: the store is unfinished; run compress again")
        header = read_json(folder / "header.json")
        _check_store(folder, header)
        return CodeStore(folder, header, cache_bytes)

    def __len__(self) -> int:
        return int(self.header["rows"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, channel, code)."""
        return len(self), int(self.header["channels"]), int(self.header["code_length"])

    @property
    def bytes_on_disk(self) -> int:
        """Size of the shards and the header."""
        shards = sum(int(s["bytes"]) for s in self.header["shards"])
        return shards + (self.folder / "header.json").stat().st_size

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Codes of some rows, in the order asked.

        Args:
            rows: numbers from 0, repeated if wanted.

        Returns:
            (len(rows), channel, code) float32; a uint8 store gives k/255.

        Raises:
            InputError: a row is out of range, or a shard is damaged.

        Fails when: memory is short; all the rows asked for are held at once.
        """
        wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise InputError(f"rows {wanted.min()}…{wanted.max()} asked, {self.folder} has 0…{len(self) - 1}")
        ends = np.cumsum([s["rows"] for s in self.header["shards"]])
        shard = np.searchsorted(ends, wanted, side="right")
        out = np.empty((wanted.size, *self.shape[1:]), np.float32)
        for number in np.unique(shard):
            here = shard == number
            first = ends[number] - self.header["shards"][number]["rows"]
            part = self._shard(int(number))[wanted[here] - first]
            out[here] = part / UNIT if part.dtype == np.uint8 else part
        return out

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            return self.read(np.arange(len(self))[rows])
        if np.ndim(rows) == 0:
            return self.read([int(rows)])[0]  # type: ignore[arg-type]
        return self.read(rows)  # type: ignore[arg-type]

    def verify(self) -> None:
        """Read every shard and compare its SHA-256.

        Raises:
            InputError: a shard is missing or damaged.

        Fails when: header and shards were replaced together.
        """
        for entry in self.header["shards"]:
            _checked(self.folder / entry["file"], entry)

    def forget(self) -> None:
        """Give back the memory of decoded shards; reading on decodes them again."""
        self._cache.clear()

    def _shard(self, number: int) -> np.ndarray:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        codes = self._load(number)
        self._cache[number] = codes
        while len(self._cache) > 1 and sum(c.nbytes for c in self._cache.values()) > self.cache_bytes:
            self._cache.popitem(last=False)
        return codes

    def _load(self, number: int) -> np.ndarray:
        entry = self.header["shards"][number]
        path = self.folder / entry["file"]
        expected = (int(entry["rows"]), *self.shape[1:])
        mapped = _mapped(path, expected)
        if mapped is not None:
            return mapped
        data = _checked(path, entry)
        _check_header(path, _metadata(path, data)["header"], _record(self.header))
        try:
            codes = decode_array(load(data), expected)
        except (SafetensorError, InputError) as e:
            raise InputError(f"{path} is damaged ({e}): delete it and run compress again") from None
        return codes


def _check_store(folder: Path, header: Any) -> None:
    where = folder / "header.json"
    if not isinstance(header, dict) or any(k not in header for k in (*NEEDED, "rows", "shards")):
        raise InputError(f"{where} is no header of a store: run compress again")
    if header.get("format") != FORMAT:
        raise InputError(f"{where} has format {header.get('format')}, this version reads {FORMAT}: compress again")
    for entry in header["shards"]:
        path = folder / str(entry["file"])
        if path.name != entry["file"] or not path.is_file():
            raise InputError(f"{path} is missing: run compress again, it writes only what is missing")
        if path.stat().st_size != entry["bytes"]:
            raise InputError(
                f"{path} has {path.stat().st_size} bytes, not {entry['bytes']}: delete it and compress again"
            )


def _checked(path: Path, entry: Mapping[str, Any]) -> bytes:
    data = _bytes(path)
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise InputError(f"{path} has changed since it was written: delete it and run compress again")
    return data


def _mapped(path: Path, expected: tuple[int, ...]) -> np.ndarray | None:
    """A raw shard as a read-only memory map; None for a packed one."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            tensor = json.loads(file.read(min(length, 1 << 24))).get("codes")
        if tensor is None:
            return None
        dtype = {"F32": np.float32, "U8": np.uint8}[tensor["dtype"]]
        offset = 8 + length + int(tensor["data_offsets"][0])
        if tuple(tensor["shape"]) != expected:
            raise ValueError(f"shape {tensor['shape']}, not {expected}")
        return np.memmap(path, dtype, "r", offset, expected)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{path} is damaged ({e}): delete it and run compress again") from None
