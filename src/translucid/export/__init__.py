"""Ways out: maps and images in formats that other programs lay over the patient's own."""

from __future__ import annotations

from translucid.export.nifti import save_nifti

__all__ = ["save_nifti"]
