"""Paths from a table stay inside the folder of the table, links followed."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from translucid.errors import ManifestError


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
        self._folders: dict[str, str] = {}

    def problem(self, relative: str) -> str:
        """Say what is wrong with a path, or nothing where it is fine."""
        posix, windows = PurePosixPath(relative), PureWindowsPath(relative)
        if not relative or not posix.parts:
            return "the path is empty"
        if "\0" in relative:
            return "the path holds a NUL"
        if posix.is_absolute() or windows.drive or windows.root:
            return "the path is absolute: write it relative to the folder of the table"
        if self.outside:
            return ""
        if ".." in posix.parts or ".." in windows.parts:
            return "the path leaves the folder: remove the '..' or allow paths outside (allow_outside)"
        if not self._holds(posix):
            return "a link leads out of the folder: copy the files there or allow paths outside (allow_outside)"
        return ""

    def path(self, relative: str) -> Path:
        """The full path; raises `ManifestError` where it leads out."""
        problem = self.problem(relative)
        if problem:
            raise ManifestError(problem)
        return self.root / relative

    def _holds(self, relative: PurePosixPath) -> bool:
        folder = str(relative.parent)
        # a dataset has few folders and many files: each folder is followed once
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(os.path.join(self._real, folder))
        full = os.path.join(self._folders[folder], relative.name)
        if os.path.islink(full):
            full = os.path.realpath(full)
        return full.startswith(os.path.join(self._real, ""))
