"""The cells of a manifest ⇄ the fields of a `Case`: labels, boxes, masks, splits, frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from translucid.errors import ManifestError, did_you_mean
from translucid.types import Box

Uncertain = Literal["ignore", "ones", "zeros"]

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {w: w for w in SPLITS} | {"valid": "val", "validation": "val", "training": "train", "testing": "test"}
LABEL_WORDS: Mapping[str, float | None] = {"": None, "0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0}
UNCERTAIN_WORDS = frozenset({"-1", "-1.0", "u", "U"})
UNCERTAIN: Mapping[str, float | None] = {"ignore": None, "ones": 1.0, "zeros": 0.0}


def is_label(cell: str) -> bool:
    """Whether a cell can be a label's value."""
    return cell in LABEL_WORDS or cell in UNCERTAIN_WORDS


def read_label(cell: str, uncertain: float | None) -> float | None:
    """1.0, 0.0 or None (unknown); an uncertain cell becomes `uncertain`."""
    if cell in UNCERTAIN_WORDS:
        return uncertain
    if cell not in LABEL_WORDS:
        raise ManifestError(f"a label must be 0, 1, -1 (or u) for uncertain, or empty for unknown, not {cell!r}")
    return LABEL_WORDS[cell]


def write_label(value: float | None) -> str:
    """The inverse of `read_label`."""
    return "" if value is None else str(int(value))


def read_names(cell: str) -> tuple[str, ...]:
    """Names separated by `|`, each once."""
    return tuple(dict.fromkeys(name.strip() for name in cell.split("|") if name.strip()))


def read_split(cell: str) -> str:
    """Train, val or test in small letters; "valid" and the like are understood."""
    if not cell:
        return ""
    if cell.lower() not in SPLIT_WORDS:
        raise ManifestError(f"unknown split {cell!r}: {did_you_mean(cell.lower(), SPLITS)}")
    return SPLIT_WORDS[cell.lower()]


def read_frame(cell: str) -> int | None:
    """A frame's number from 0, or None for the whole file."""
    if not cell:
        return None
    digits = cell.removesuffix(".0")
    if not (digits.isascii() and digits.isdigit()):
        raise ManifestError(f"a frame must be a number 0, 1, 2, … or empty, not {cell!r}")
    return int(digits)


def make_box(label: str, numbers: Iterable[str | float]) -> Box:
    """A box from four numbers (x, y, width, height), checked."""
    try:
        values = [float(n) for n in numbers]
    except ValueError:
        values = []
    if not label or len(values) != 4 or not all(map(math.isfinite, values)) or min(values[2:]) <= 0:
        raise ManifestError("a box must be label:x,y,w,h with four numbers, w and h above 0")
    return Box(label, *values)


def read_boxes(cell: str) -> tuple[Box, ...]:
    """`label:x,y,w,h;label:…`; the label may itself hold colons.

    Example:
        >>> read_boxes("Mass:10,20,30,40.5")
        (Box(label='Mass', x=10.0, y=20.0, width=30.0, height=40.5),)
    """
    boxes = []
    for part in filter(None, (p.strip() for p in cell.split(";"))):
        label, _, numbers = part.rpartition(":")
        boxes.append(make_box(label.strip(), numbers.split(",")))
    return tuple(boxes)


def write_boxes(boxes: Iterable[Box]) -> str:
    """The inverse of `read_boxes`."""
    parts = []
    for box in boxes:
        if ";" in box.label or not box.label or box.label != box.label.strip():
            raise ManifestError(f"a box's label cannot be {box.label!r}: no ';', no blanks around it, not empty")
        parts.append(f"{box.label}:{','.join(_number(v) for v in box[1:])}")
    return ";".join(parts)


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def read_masks(cell: str) -> dict[str, str]:
    """`name=path;name=path` as a mapping.

    Example:
        >>> read_masks("heart=masks/h.png;lungs=masks/l.png")
        {'heart': 'masks/h.png', 'lungs': 'masks/l.png'}
    """
    masks: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in cell.split(";"))):
        name, _, path = (p.strip() for p in part.partition("="))
        if not name or not path or name in masks:
            raise ManifestError("masks must be name=path;name=path, each name once")
        masks[name] = path
    return masks


def write_masks(masks: Mapping[str, str]) -> str:
    """The inverse of `read_masks`."""
    for name, path in masks.items():
        plain = name and path and name == name.strip() and path == path.strip()
        if not plain or "=" in name or ";" in name or ";" in path:
            raise ManifestError(
                f"the mask named {name!r} cannot be written: no ';' in name or path, no '=' in the name"
            )
    return ";".join(f"{name}={path}" for name, path in masks.items())
