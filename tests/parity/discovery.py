"""Where the fixtures are: any files of one folder or below it, told apart by what they hold and not by their names."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import shared_folder

FIXTURES = Path(os.environ.get("MMOVSEG_FIXTURES", shared_folder() / "fixtures"))
ABSENT = f"none found in {FIXTURES}; set MMOVSEG_FIXTURES or MMOVSEG_SHARED"


def files(suffix: str) -> list[Path]:
    """All files with the suffix, in an order that does not depend on the disk; links are followed."""
    below = os.walk(FIXTURES, followlinks=True)
    return sorted(Path(folder, name) for folder, _, names in below for name in names if name.endswith(suffix))


def name_of(path: Path) -> str:
    """Of a file in a test's name: its place in the folder."""
    return path.relative_to(FIXTURES).with_suffix("").as_posix()
