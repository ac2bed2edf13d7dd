"""Layouts: how public data sets lie on disk when they are downloaded → a manifest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from translucid.errors import ConfigError, ManifestError, did_you_mean, lookup
from translucid.io.layouts.chexlocalize import chexlocalize
from translucid.io.layouts.chexpert import chexpert
from translucid.io.layouts.egd_cxr import egd_cxr
from translucid.io.layouts.nih14 import nih14
from translucid.io.layouts.pack import pack
from translucid.io.layouts.plain import folders, manifest
from translucid.io.layouts.rad_chestct import rad_chestct
from translucid.io.layouts.reflacx import reflacx
from translucid.io.layouts.rsna import rsna
from translucid.io.layouts.siim import siim
from translucid.io.layouts.vindr import vindr
from translucid.io.manifest import Manifest

__all__ = ["LAYOUTS", "Layout", "import_layout"]

Layout = Callable[..., Manifest]
"""(root, **options) → Manifest."""

LAYOUTS: Mapping[str, Layout] = {
    "manifest": manifest,
    "folders": folders,
    "chexpert": chexpert,
    "nih14": nih14,
    "pack": pack,
    "rad_chestct": rad_chestct,
    "rsna": rsna,
    "siim": siim,
    "chexlocalize": chexlocalize,
    "egd_cxr": egd_cxr,
    "reflacx": reflacx,
    "vindr": vindr,
}

_LISTS = ("labels", "views", "classes")
"""Options that take several names; one name alone will do."""


def import_layout(layout: str, root: Path, **options: Any) -> Manifest:
    """Read a data set in its own layout; files that are absent are left out and listed in `rejects`.

    Args:
        layout: a name in `LAYOUTS`.
        root: the folder that the data set was unpacked to (for "manifest" also the CSV itself).
        options: what the layout's function takes.

    Raises:
        ConfigError: layout or option is unknown.
        ManifestError: the folder is absent or empty, lacks what the layout looks for, or holds none of the images.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("normal/a.png", "pneumonia/b.png"):
        ...         Path(root, name).parent.mkdir()
        ...         Path(root, name).touch()
        ...     import_layout("folders", Path(root), negative="normal").labels
        ('pneumonia',)

    Fails when: images are there but cut short; only reading them tells.
    """
    read = lookup(LAYOUTS, layout, "layout")
    known = [name for name in inspect.signature(read).parameters if name != "root"]
    for name in options:
        if name not in known:
            raise ConfigError(f"the layout {layout} has no option {name!r}: {did_you_mean(name, known)}")
        if name in _LISTS and isinstance(options[name], str):
            options[name] = (options[name],)
    root = Path(root)
    if not root.exists():
        raise ManifestError(f"there is nothing at {root}: check the path")
    if not root.is_dir() and layout != "manifest":
        raise ManifestError(f"{root} is a file: the layout {layout} needs the folder that the data set was unpacked to")
    if root.is_dir() and not any(root.iterdir()):
        wanted = (
            "a manifest and its images" if layout == "manifest" else f"the unpacked data set of the layout {layout}"
        )
        raise ManifestError(f"{root} is empty: wanted {wanted}; check the path")
    return read(root, **options)
