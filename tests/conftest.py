"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("laws", deadline=None)  # a law holds however busy the machine is
settings.load_profile("laws")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests that run beside each other share the cores; threads of one would wait for those of another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path:
    """Folder of shared data, weights and fixtures; it need not exist."""
    return Path(os.environ.get("MMOVSEG_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared folder with real data; the test is skipped where it is absent."""
    folder = shared_folder()
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not found at {folder}; set MMOVSEG_SHARED to run this test")
    return folder


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The simulated sample scene of the repository."""
    return ROOT / "sample_data"
