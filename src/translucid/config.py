"""Dataclasses ⇄ JSON and TOML, fingerprints, and files that are written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import stat
import tempfile
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from translucid.errors import ConfigError, InputError, did_you_mean, lookup

T = TypeVar("T")

SECRET_BYTES, LONGEST_SECRET = 32, 4096
"""How many bytes a key or a secret has."""
_FEWEST_VALUES = 8


# -- dataclass ⇄ plain values ------------------------------------------------------------------------------------


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples, paths → what JSON can hold; nan and infinity become null.

    >>> to_plain((1, float("nan"), Path("a/b")))
    [1, None, 'a/b']
    """
    if hasattr(value, "to_json") and not isinstance(value, type):
        return to_plain(value.to_json())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return to_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Make a dataclass from plain values; an unknown key or a wrong type is a `ConfigError` that names the place.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Settings:
        ...     epochs: int = 3
        >>> build(Settings, {"epochs": 5})
        Settings(epochs=5)
        >>> build(Settings, {"epoch": 5}, "train")
        Traceback (most recent call last):
        ...
        translucid.errors.ConfigError: train.epoch is unknown: did you mean 'epochs'? (known: epochs)
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in fields:
            raise ConfigError(f"{prefix}{key} is unknown: {did_you_mean(key, fields)}")
    hints = _hints(cls)
    missing = [
        n
        for n, f in fields.items()
        if n not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where or cls.__name__} needs {', '.join(missing)}")
    return cls(**{k: _coerce(v, hints[k], prefix + k) for k, v in values.items()})


def _coerce(value: Any, hint: Any, where: str) -> Any:
    """Fit a plain value to an annotation: nested dataclasses, tuples, optional, literals, numbers."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, args, where)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where} = {value!r}: {did_you_mean(str(value), map(str, args))}")
        return value
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        return build(hint, _need(value, Mapping, where), where)  # type: ignore[arg-type]
    if origin is tuple:
        items = _need(value, (list, tuple), where)
        kinds = [args[0]] * len(items) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(kinds) != len(items):
            raise ConfigError(f"{where} needs {len(kinds)} values, got {len(items)}")
        return tuple(_coerce(v, k, f"{where}[{i}]") for i, (v, k) in enumerate(zip(items, kinds, strict=True)))
    if origin in (dict, Mapping) or (origin is not None and isinstance(origin, type) and issubclass(origin, Mapping)):
        return {k: _coerce(v, args[1], f"{where}.{k}") for k, v in _need(value, Mapping, where).items()}
    return _coerce_scalar(value, hint, where)


def _coerce_union(value: Any, kinds: Iterable[Any], where: str) -> Any:
    if value is None:
        return None
    error: ConfigError | None = None
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _coerce(value, kind, where)
        except ConfigError as e:
            error = error or e
    raise error or ConfigError(f"{where} cannot be {value!r}")


def _coerce_scalar(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is int and isinstance(value, bool):
        raise ConfigError(f"{where} needs int, got bool {value!r}")
    return _need(value, hint, where) if isinstance(hint, type) else value


def _need(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, kind):
        name = getattr(kind, "__name__", " or ".join(getattr(k, "__name__", str(k)) for k in _tuple(kind)))
        raise ConfigError(f"{where} needs {name}, got {type(value).__name__} {value!r}")
    return value


def _tuple(kind: Any) -> tuple[Any, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def from_kind(table: Mapping[str, type[T]], values: Mapping[str, Any], what: str) -> T:
    """Make the member of a table of dataclasses that {"kind": …, fields} describes."""
    if "kind" not in values:
        raise ConfigError(f"{what} needs a kind: {', '.join(sorted(table))}")
    cls = lookup(table, values["kind"], f"{what} kind")
    return build(cls, {k: v for k, v in values.items() if k != "kind"}, what)


def with_kind(table: Mapping[str, type[Any]], value: Any) -> dict[str, Any]:
    """The inverse of `from_kind`: {"kind": …, fields}."""
    for kind, cls in table.items():
        if type(value) is cls:
            return {"kind": kind} | {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    raise ConfigError(f"{type(value).__name__} is in no table: {', '.join(sorted(table))}")


# -- recipes ------------------------------------------------------------------------------------------------------


def read_toml(path: Path) -> dict[str, Any]:
    """Read a recipe; a missing or malformed file is a `ConfigError` that names it."""
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no recipe at {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as e:
        raise ConfigError(f"{path} is not a readable TOML recipe: {e}") from None


def override(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Apply `--set a.b=value`; values are read as TOML, and as bare text where they are not TOML.

    >>> override({"train": {"epochs": 3}}, ["train.epochs=5", "data.root=some/where"])
    {'train': {'epochs': 5}, 'data': {'root': 'some/where'}}
    """
    result = json.loads(json.dumps(to_plain(values)))
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set needs key=value, got {setting!r}")
        node = result
        *parents, last = key.strip().split(".")
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {key}: {part} is not a table")
        node[last] = _toml_value(text.strip())
    return result


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


# -- fingerprints and files ---------------------------------------------------------------------------------------


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value, first 16 hex digits.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file's bytes, first 16 hex digits."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()[:16]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to and rename it on success; on any error nothing is left behind."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all; keys keep their order."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(to_plain(value), indent=1, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or malformed file is an `InputError` that names it."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path} is not there: is the run folder right, and has the step before it been run?"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        raise InputError(f"{path} is not JSON: {e}") from None


def read_private(path: Path, what: str) -> bytes:
    """Read a key or a secret: 32 to 4096 bytes that look random and that only their owner can read.

    Args:
        path: the file.
        what: its name in messages.

    Raises:
        InputError: it is absent, others can read it, or it is no key.

    Fails when: the bytes are a phrase; a phrase can be guessed.
    """
    path, advice = Path(path), "make a key with new_key of translucid.io.pseudonym"
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            found = file.read(LONGEST_SECRET + 1)
    except OSError as error:
        raise InputError(f"the {what} {path} cannot be read ({error.strerror}): {advice}") from None
    if os.name == "posix" and mode & ~0o600:
        raise InputError(f"others may read the {what} {path} (mode {mode:04o}); run: chmod 600 {path}")
    if not SECRET_BYTES <= len(found) <= LONGEST_SECRET or len(set(found)) < _FEWEST_VALUES:
        raise InputError(f"the {what} {path} must hold {SECRET_BYTES} to {LONGEST_SECRET} random bytes: {advice}")
    return found


def versions() -> dict[str, str]:
    """Versions of what a result depends on, for the run record."""
    names = ["translucid", "torch", "numpy", "PyWavelets", "monai", "pydicom", "pillow", "lightning-fabric"]
    found = {"python": platform.python_version(), "machine": platform.machine(), "cores": str(os.cpu_count())}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
