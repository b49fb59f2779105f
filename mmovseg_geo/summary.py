"""What was understood of a scene, as a few short lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summary(description: Mapping[str, Any]) -> list[str]:
    """Short lines of what `Scene.describe()` returns: for each sensor its bands, values and scaling, then the grid."""
    return []
