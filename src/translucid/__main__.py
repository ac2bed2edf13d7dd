"""`python -m translucid`."""

from __future__ import annotations

from translucid.cli import main

if __name__ == "__main__":
    main()
