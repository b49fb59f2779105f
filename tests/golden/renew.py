"""Renews the golden files: `python -m tests.golden.renew`. Commit them by themselves, and say why they changed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.golden.maps import CLASSES, GOLDEN, numbers

for model in CLASSES:
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(numbers(model, Path(folder) / "map"), indent=2)
    (GOLDEN / f"{model}.json").write_text(text + "\n", encoding="utf-8")
    print(f"{model}.json")
