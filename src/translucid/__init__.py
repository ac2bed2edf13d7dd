"""translucid: medical image classification that explains itself and does not give the patient away."""

from __future__ import annotations

__version__ = "0.1.0"
