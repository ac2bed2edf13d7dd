"""CSV tables read strictly and written so that no spreadsheet runs what is in them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from translucid.config import whole_file
from translucid.errors import ManifestError

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula, or strips to find one."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MARK = "'"
_RISKY = re.compile(f"{_MARK}*[{re.escape(''.join(FORMULA))}]")


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file as text; `rows[i]` is row `i + 2` of the file, the header is row 1."""

    name: str
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


def guard(text: str) -> str:
    """Put an apostrophe before a cell that a spreadsheet would run; numbers stay as they are.

    A cell that already begins with apostrophes and then a formula gets one more, so that `unguard` is exact.

    Args:
        text: a cell, without blanks around it.

    Example:
        >>> guard("=SUM(A1)"), guard("-1.5"), guard("heart")
        ("'=SUM(A1)", '-1.5', 'heart')

    Source: OWASP, "CSV Injection".

    Fails when: the file is opened by a program that takes other characters for a formula.
    """
    return _MARK + text if _RISKY.match(text) and not _NUMBER.fullmatch(text) else text


def unguard(text: str) -> str:
    """Take off the apostrophe that `guard` has put on.

    Example:
        >>> unguard("'=SUM(A1)"), unguard("'tis")
        ('=SUM(A1)', "'tis")

    Fails when: a foreign file means an apostrophe before a sign as part of the value; it is lost.
    """
    return text[1:] if text.startswith(_MARK) and text.lstrip(_MARK).startswith(FORMULA) else text


def read_table(path: Path) -> Table:
    """Read a CSV file with a header; blanks around cells are not kept, columns without a name are left out.

    Args:
        path: a comma-separated file in UTF-8, with or without byte-order mark.

    Raises:
        ManifestError: the file is absent, empty, not UTF-8, not comma-separated, or a row does not fit the header.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.csv")
        ...     _ = path.write_text("file,patient\\nx.png,7\\n")
        ...     read_table(path).rows
        ({'file': 'x.png', 'patient': '7'},)

    Fails when: a cell in the middle of a file was lost together with its comma and another gained one.
    """
    path = Path(path)
    records = _records(path)
    while records and not any(cell.strip() for cell in records[-1]):
        records.pop()
    if not records:
        raise ManifestError(f"{path.name} is empty: it needs a header and at least one row")
    header = [unguard(cell.strip()) for cell in records[0]]
    _check_header(path.name, header)
    rows = tuple(_row(path.name, header, cells, number) for number, cells in enumerate(records[1:], 2))
    return Table(path.name, tuple(h for h in header if h), rows)


def _records(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise ManifestError(f"there is no file {path}") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path.name} is not UTF-8 text: save it as 'CSV UTF-8'") from None
    except csv.Error as error:
        raise ManifestError(f"{path.name} is not a readable CSV: {error}") from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from None


def _check_header(name: str, header: Sequence[str]) -> None:
    twice = sorted({h for h in header if h and header.count(h) > 1})
    if twice:
        raise ManifestError(f"{name} has two columns named {', '.join(twice)}: rename or remove one")
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise ManifestError(f"{name} is not separated by commas: save it as a comma-separated CSV")


def _row(name: str, header: Sequence[str], cells: Sequence[str], number: int) -> dict[str, str]:
    plain = [cell.strip() for cell in cells]
    if not any(plain):
        raise ManifestError(f"{name} row {number} is empty: remove it")
    if len(cells) < len(header) or any(plain[len(header) :]):
        raise ManifestError(f"{name} row {number} has {len(cells)} cells, the header has {len(header)}")
    return {h: unguard(cell) if cell.startswith(_MARK) else cell for h, cell in zip(header, plain, strict=False) if h}


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file whole or not at all, its cells made harmless with `guard`.

    Args:
        path: where to; its folder is made.
        header: names of the columns.
        rows: the cells as text.

    Raises:
        ManifestError: a cell cannot be written as UTF-8.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_table(Path(folder, "a.csv"), ["file"], [["=x.png"]])
        ...     Path(folder, "a.csv").read_text()
        "file\\n'=x.png\\n"

    Fails when: cells carry blanks around them; reading does not give those back.
    """
    try:
        with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            # \r\n, because the writer quotes a cell only for the characters of its own line end
            writer = csv.writer(file, lineterminator="\r\n")
            writer.writerow([guard(h) for h in header])
            writer.writerows([guard(cell) for cell in row] for row in rows)
    except UnicodeEncodeError:
        raise ManifestError(
            f"{Path(path).name}: a cell holds bytes that are no text; rename the file it names"
        ) from None
