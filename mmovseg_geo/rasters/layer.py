"""One file's bands as the scene sees them: placed on its grid, scaled to 0..255."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmovseg_geo.grid import Window, crs_name
from mmovseg_geo.rasters.resample import bilinear, block_means, factors_of, shrunk
from mmovseg_geo.rasters.source import blanked
from mmovseg_geo.rasters.speckle import HALO, estimated_looks, looks_of, sample_windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmovseg_geo.rasters.bands import Choice
    from mmovseg_geo.rasters.placement import Placement
    from mmovseg_geo.rasters.radiometry import Scaling
    from mmovseg_geo.rasters.source import Source
    from mmovseg_geo.rasters.speckle import SpeckleFilter

    Pixels = tuple[NDArray[np.float32], NDArray[np.bool_]]

SAMPLE_SIDE = 1024
"""Longest side of the decimated read that decides the scaling."""
OVERSAMPLED = 3
"""An overview is read this much finer, then averaged: speckle and thin roads need it."""
ROWS = 64
"""Of an overview that are averaged at a time."""
FLOAT = 4
POSITIONS = 8 * 8
"""Bytes of the places in the file that a pixel is looked up at, while they are computed."""


@dataclass(frozen=True)
class Sampled:
    """What a decimated read showed: lowest and highest stored value by band, shares of valid and of black pixels."""

    ranges: tuple[tuple[float, float], ...]
    valid_share: float
    black_share: float


@dataclass(frozen=True, eq=False)
class Layer:
    """Bands of one source on a scene's grid of `shape`; `found` is what a sample of its values showed.

    A speckle filter works on the source's own pixels, before they are averaged or interpolated.
    """

    source: Source
    choice: Choice
    placement: Placement
    scaling: Scaling
    shape: tuple[int, int]
    found: Sampled
    speckle: SpeckleFilter | None = None

    @property
    def planes(self) -> int:
        return 1 if self._gray else self.source.planes

    @property
    def resampled(self) -> bool:
        """Whether its pixels are not those of the scene's grid."""
        return self.placement.offset is None

    @property
    def masked(self) -> bool:
        """Whether the file itself says which pixels hold no data."""
        facts = self.source.facts
        return bool(self.source.nodata) or facts.alpha is not None or facts.has_mask

    def read(self, window: Window) -> Pixels:
        """Values (N, H, W) 0..255 and validity (H, W) of a window of the scene's grid."""
        offset = self.placement.offset
        if offset is not None:
            here = window.moved(*offset)
            if self.speckle is None:
                raw, valid = self.source.read(here)
                values = self.scaling.apply(self.merged(raw))
            else:
                averageable, valid = self._averageable(here)
                values = self.scaling.finished(averageable)
        else:
            values, valid = self._resampled(window)
        inside = window.intersection(Window(0, 0, *self.shape))
        if inside != window:
            beyond = np.ones(window.shape, np.bool_)
            if inside is not None:
                beyond[replace(inside, row=inside.row - window.row, col=inside.col - window.col).slices] = False
            valid = valid & ~beyond
        return blanked(values, valid), valid

    def overview(self, stride: int) -> Pixels:
        """The whole grid with every `stride` x `stride` pixels made one."""
        longest = max(self.source.shape)
        finest = max(self.placement.scale)
        wanted = min(longest, max(1, round(longest * OVERSAMPLED / max(stride * finest, 1.0))))
        read = _decimated(self.source.shape, wanted)
        block = max(1, min(OVERSAMPLED, *read)) if stride * finest >= OVERSAMPLED else 1
        values, valid = self._averaged(wanted, block)
        ratio = [side / had for side, had in zip(read, self.source.shape, strict=True)]
        middles = (_middles(side, stride) for side in self.shape)
        at_rows, at_cols = self.placement.exact(*np.meshgrid(*middles, indexing="ij"))
        shown, seen = bilinear(
            lambda area: (values[:, area.slices[0], area.slices[1]], valid[area.slices]),
            len(values),
            valid.shape,
            at_rows * ratio[0] / block,
            at_cols * ratio[1] / block,
        )
        return np.where(seen, self.scaling.finished(shown), np.float32(0)), seen

    def source_rows(self, rows: int) -> int:
        """How many rows of the file a window of so many rows of the scene looks at."""
        if not self.resampled:
            return rows
        # Where the file lies askew, a row of windows reaches further.
        return int(np.ceil(rows * max(self.placement.scale))) + self.source.facts.block_rows

    def overview_bytes(self, longest: int) -> int:
        """What `overview` takes at most, of a scene that is shown `longest` pixels long."""
        rows, cols = _decimated(self.source.shape, min(OVERSAMPLED * longest, max(self.source.shape)))
        planes, stored = self.source.planes, max(np.dtype(dtype).itemsize for dtype in self.source.facts.dtypes)
        # Values as they are stored, as float32 and where they are no data; masks.
        read = rows * cols * (planes * (stored + 5) + 4)
        # Values as read, and two more of those that are averaged at a time: of all where the file is small.
        few = rows if max(self.source.shape) <= OVERSAMPLED * longest else min(rows, OVERSAMPLED * ROWS)
        averaged = rows * cols * (planes * FLOAT + 2) + few * cols * (2 * planes * FLOAT + 2)
        stride = max(1, -(-max(self.shape) // longest))
        shown = math.prod(-(-side // stride) for side in self.shape) * (planes * 2 * FLOAT + POSITIONS)
        shown += rows * cols * (planes * FLOAT + 1) if few == rows else 0
        return int(max(read, averaged, shown))

    def _averaged(self, longest: int, block: int) -> Pixels:
        """The source at most `longest` pixels long, what may be averaged of it averaged over blocks."""
        raw, valid = self.source.decimated(longest)
        if block == 1:
            return self._values(raw, valid), valid
        spans = (slice(first, first + ROWS * block) for first in range(0, len(valid), ROWS * block))
        parts = [self._means(raw[:, rows], valid[rows], block) for rows in spans]
        return np.concatenate([part for part, _ in parts], axis=1), np.concatenate([part for _, part in parts])

    def _means(self, raw: NDArray[np.float32], valid: NDArray[np.bool_], block: int) -> Pixels:
        """What may be averaged of stored values, averaged over blocks."""
        return shrunk(*_padded(self._values(raw, valid), valid, block), (block, block))

    def _values(self, raw: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """What may be averaged of stored values; invalid ones are 0, whatever stands there."""
        return np.where(valid, self.scaling.averageable(self.merged(raw)), np.float32(0))

    def _resampled(self, window: Window) -> Pixels:
        factors = factors_of(self.placement.scale)
        rows, cols = self.placement.centers(window)
        shape = (-(-self.source.shape[0] // factors[0]), -(-self.source.shape[1] // factors[1]))
        averaged, valid = bilinear(
            lambda area: block_means(self._averageable, area, factors),
            self.planes,
            shape,
            rows / factors[0],
            cols / factors[1],
        )
        return self.scaling.finished(averaged), valid

    def _averageable(self, area: Window) -> Pixels:
        """A window of the source, without speckle if so wished, as what may be averaged; invalid values are 0."""
        halo = 0 if self.speckle is None else HALO
        raw, valid = self.source.read(area.padded(halo))
        values = self._values(raw, valid)
        if self.speckle is None:
            return values, valid
        own = valid[halo:-halo, halo:-halo]
        return np.where(own, self.speckle(values, valid), np.float32(0)), own

    def looks(self) -> tuple[float, ...]:
        """The equivalent number of looks of each band, estimated from places all over the file."""
        parts = []
        for window in sample_windows(self.source.shape):
            raw, valid = self.source.read(window)
            values = self._values(raw, valid)
            parts.append(estimated_looks(values, valid))
        return looks_of(np.concatenate(parts, axis=1))

    @property
    def _gray(self) -> bool:
        return self.source.expand_palette and self.choice.names != ("palette",)

    def merged(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """A palette image that stands for SAR becomes one band of brightness (the mean of its colors)."""
        return ((raw[:1] + raw[1:2] + raw[2:]) / np.float32(3)) if self._gray else raw

    def describe(self) -> dict[str, Any]:
        """What is read from the file and how, in JSON-able values."""
        facts = self.source.facts
        return {
            "path": facts.path,
            "driver": facts.driver,
            "shape": list(facts.shape),
            "dtype": facts.dtypes[self.choice.bands[0] - 1],
            "crs": crs_name(facts.grid.crs),
            "transform": list(facts.transform)[:6],
            "bands": [
                {"band": band, "as": name, "description": facts.descriptions[band - 1] or None}
                for band, name in zip(self.choice.bands, self.choice.names, strict=True)
            ],
            "bands_why": self.choice.why,
            "range": [list(span) for span in self.found.ranges],
            "valid_share": self.found.valid_share,
            "nodata": [str(value) for value in self.source.nodata],
            "validity": self._validity(),
            "scaling": self.scaling.describe(),
            "speckle": self.speckle.words if self.speckle else None,
            "resampled": self.resampled,
            "product": {"name": facts.product.name, **facts.product.told} if facts.product else None,
            "calibration": facts.calibration.words if facts.calibration else None,
            "files": list(facts.files),
            "averaged_pixels": list(factors_of(self.placement.scale)) if self.resampled else [1, 1],
        }

    def provenance(self) -> dict[str, Any]:
        """What of `describe` decides the pixels, without folders, so that equal runs say the same anywhere."""
        told = self.describe()
        kept = {key: told[key] for key in ("bands", "nodata", "validity", "resampled")}
        done = {key: told[key] for key in ("product", "calibration", "speckle") if told[key]}
        return {"file": self.source.facts.name, **kept, "scaling": self.scaling.describe()["words"], **done}

    def _validity(self) -> str:
        parts = [f"no-data {value:g}" for value in self.source.nodata]
        parts += ["undeclared zeros"] if self.source.zero else []
        if self.source.facts.alpha is not None:
            parts.append(f"alpha (band {self.source.facts.alpha})")
        elif self.source.facts.has_mask:
            parts.append("mask of the dataset")
        return ", ".join(parts) or "every pixel"


def _decimated(shape: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _padded(values: NDArray[np.float32], valid: NDArray[np.bool_], block: int) -> Pixels:
    rows, cols = (-side % block for side in valid.shape)
    return (
        np.pad(values, ((0, 0), (0, rows), (0, cols)), mode="edge"),
        np.pad(valid, ((0, rows), (0, cols)), mode="edge"),
    )


def _middles(side: int, stride: int) -> NDArray[np.float64]:
    """Middles of the pieces of `stride` pixels, the last one maybe shorter."""
    first = np.arange(0, side, stride, dtype=np.float64)
    return (first + np.minimum(first + stride, side)) / 2.0
