"""In which years images were taken, as their products, names and tags tell, and whether that is one year."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmovseg_geo.rasters.facts import Facts

DATE = re.compile(r"(?<!\d)((?:19|20)\d{2})(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)")
DATED = re.compile(r"(?<!\d)((?:19|20)\d{2})[-:](?:0[1-9]|1[0-2])[-:](?:0[1-9]|[12]\d|3[01])(?!\d)")

WRITTEN = "TIFFTAG_DATETIME"
"""The tag that says when a file was written, not when the image was taken."""


def other_years(optical: Facts, sar: Sequence[Facts]) -> list[str]:
    """A warning where the files tell different years."""
    told = [_year(facts) for facts in (optical, *sar)]
    known = sorted({year for year in told if year})
    if told[0] is None or len(known) < 2:
        return []
    return [f"The images are of different years ({', '.join(known)}): what changed since is seen by one of them only."]


def _year(facts: Facts) -> str | None:
    if facts.product is not None and "acquired" in facts.product.told:
        return facts.product.told["acquired"][:4]
    texts = [
        facts.stem.replace("_", " "),
        *(text for name, text in facts.tags.items() if re.search("DATE|TIME", name.upper()) and name != WRITTEN),
    ]
    for text in texts:
        found = DATE.search(text.replace("T", " ")) or DATED.search(text)
        if found:
            return found[1]
    return None
