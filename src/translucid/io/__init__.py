"""Files in and out: readers of images, layouts of public datasets, the manifest, and the store of codes."""

from __future__ import annotations
