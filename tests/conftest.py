"""Shared fixtures; shape annotations of the tensor modules are checked while testing, and only then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

CHECKED = ["maps", "compress", "models", "losses", "explain"]
install_import_hook([f"translucid.{name}" for name in CHECKED], "beartype.beartype")

settings.register_profile(
    "house", deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TRANSLUCID_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that ask for it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip("no real data here (TRANSLUCID_DATA)")
    return DATA


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small tensors gain nothing from threads, and waiting for each other costs a busy machine dearly."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_draw_every_time() -> None:
    """Tests that draw without a generator of their own draw the same numbers in every run."""
    import torch

    torch.manual_seed(1)
