"""The exception tree: every error a user can cause says what came, what was wanted and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class TranslucidError(Exception):
    """Root of all errors raised on purpose."""


class InputError(TranslucidError, ValueError):
    """The data handed in cannot be used as it is."""


class ShapeError(InputError):
    """An array has the wrong number of axes or the wrong size."""


class UnreadableImage(InputError):
    """One file cannot be read; a batch lists it among the rejects and goes on."""


class ManifestError(InputError):
    """The table of cases is incomplete or contradicts itself."""


class ConfigError(TranslucidError, ValueError):
    """An option is unknown or out of range."""


class LeakError(TranslucidError):
    """A patient would stand in two splits, or an identifier would leave."""


class StaleRun(TranslucidError):
    """Something to the left in the run folder has changed since it was used."""


class MissingExtra(TranslucidError, ImportError):
    """An optional dependency is not installed.

    >>> str(MissingExtra("imagecodecs", "codecs"))
    "imagecodecs is not installed; run: pip install 'translucid[codecs]'"
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'translucid[{extra}]'")


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Say which options exist, the likeliest first.

    >>> did_you_mean("levls", ["levels", "patches"])
    "did you mean 'levels'? (known: levels, patches)"
    """
    known = sorted(options)
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}(known: {', '.join(known)})" if hint else f"known: {', '.join(known)}"


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """Take `name` out of a table of methods, or raise a ConfigError that names the nearest."""
    try:
        return table[name]
    except KeyError:
        raise ConfigError(f"unknown {what} {name!r}: {did_you_mean(name, table)}") from None
