"""Paths from a table stay inside the folder of the table, links followed."""

from __future__ import annotations

import os
import re
from pathlib import Path

from translucid.errors import ManifestError

_DRIVE = re.compile("[A-Za-z]:")
_SIMPLE = re.compile(r"[^./\\:\0][^/\\:\0]*(?:/[^./\\:\0][^/\\:\0]*)*")
"""Names one below the other, none empty or beginning with a dot: most paths, and quickly said to be fine."""


def tidy(relative: str) -> str:
    """The same path without empty steps.

    Example:
        >>> tidy("./images//a.png")
        'images/a.png'
    """
    return "/".join(part for part in relative.split("/") if part not in ("", "."))


class Fence:
    """Joins relative paths to a folder and refuses those that lead out of it.

    Args:
        root: the folder.
        outside: let `..` and links lead out (absolute paths stay refused).

    Example:
        >>> Fence(Path(".")).problem("images/a.png")
        ''
        >>> Fence(Path(".")).path("../secret.png")
        Traceback (most recent call last):
        ...
        translucid.errors.ManifestError: the path leaves the folder: ...

    Fails when: someone else may change links in the folder between the check and the reading.
    """

    def __init__(self, root: Path, outside: bool = False) -> None:
        self.root = Path(root)
        self.outside = outside
        self._real = os.path.realpath(self.root)
        self._below = os.path.join(self._real, "")
        self._folders: dict[str, str] = {}

    def problem(self, relative: str) -> str:
        """Say what is wrong with a path, or nothing where it is fine."""
        if not _SIMPLE.fullmatch(relative):
            if problem := self._spelling(relative):
                return problem
            relative = tidy(relative)
        if self.outside:
            return ""
        if not self._follow(relative).startswith(self._below):
            return "a link leads out of the folder: copy the files there or allow paths outside (allow_outside)"
        return ""

    def _spelling(self, relative: str) -> str:
        """What the words of a path alone tell."""
        parts = relative.replace("\\", "/").split("/")
        if all(part in ("", ".") for part in parts):
            return "the path is empty"
        if "\0" in relative:
            return "the path holds a NUL"
        if not parts[0] or _DRIVE.match(relative):
            return "the path is absolute: write it relative to the folder of the table"
        if ".." in parts and not self.outside:
            return "the path leaves the folder: remove the '..' or allow paths outside (allow_outside)"
        return ""

    def unlinked(self, relative: str) -> str:
        """The full path by a folder that was followed and lies inside, or "" where `problem` must be asked.

        Whoever opens it must refuse a link, which spares one look at the file and leaves no time to swap it.
        """
        folder, _, name = relative.rpartition("/")
        if self.outside or not hasattr(os, "O_NOFOLLOW") or not _SIMPLE.fullmatch(relative):
            return ""
        real = self._folder(folder)
        return os.path.join(real, name) if os.path.join(real, "").startswith(self._below) else ""

    def path(self, relative: str) -> Path:
        """The full path; raises `ManifestError` where it leads out."""
        problem = self.problem(relative)
        if problem:
            raise ManifestError(problem)
        return self.root / relative

    def _follow(self, relative: str) -> str:
        """The real path; a data set has few folders and many files, so each folder is followed only once."""
        folder, _, name = relative.rpartition("/")
        full = f"{self._folder(folder)}{os.sep}{name}"
        return os.path.realpath(full) if os.path.islink(full) else full

    def _folder(self, folder: str) -> str:
        """The real path of a folder."""
        if not folder:
            return self._real
        if folder not in self._folders:
            self._folders[folder] = self._follow(folder)
        return self._folders[folder]
