"""Compressors: what is kept of an image before anything else sees it; a new kind is one line in the table."""

from __future__ import annotations

from translucid.compress.deepfixcx import DeepFixCX
from translucid.compress.heartspot import HeartSpot
from translucid.compress.plain import Plain

COMPRESSORS: dict[str, type] = {
    "deepfixcx": DeepFixCX,
    "heartspot": HeartSpot,
    "plain": Plain,
}
"""Kind → frozen dataclass that fulfils `translucid.tensors.Compressor`."""

__all__ = ["COMPRESSORS", "DeepFixCX", "HeartSpot", "Plain"]
