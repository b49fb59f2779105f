"""A label raster's values as they are stored, on its own grid or, by the nearest pixel, on that of another raster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.windows import Window as RasterWindow

from mmovseg_geo.errors import MissingCRS, SceneError
from mmovseg_geo.grid import Window, crs_name, ground_sampling_m
from mmovseg_geo.rasters.georeference import overlap_share, place_on, require_overlap
from mmovseg_geo.rasters.source import Handles, probe, reading

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from mmovseg_geo.rasters.facts import Facts
    from mmovseg_geo.rasters.placement import Placement

    Stored = tuple[NDArray[Any], NDArray[np.bool_]]
    """Stored values (H, W) and validity (H, W)."""

MOST_PIXELS = 16 * 2**20
"""Source pixels read at once, so that memory does not grow with how much finer a source is."""


@dataclass(frozen=True, eq=False)
class StoredBand:
    """One band of a file on a grid of `shape`; nothing is scaled, colored or averaged.

    Attributes:
        share: of the grid that the file covers, 0..1.
        band: its number, from 1.
    """

    facts: Facts
    placement: Placement
    shape: tuple[int, int]
    share: float
    band: int = 1
    handles: Handles = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "handles", Handles(self.facts.path))

    @property
    def resampled(self) -> bool:
        """Whether its pixels are not those of the grid."""
        return self.placement.offset is None

    @property
    def _dtype(self) -> str:
        return self.facts.dtypes[self.band - 1]

    def read(self, window: Window) -> Stored:
        """Pixels of a window of the grid: not valid are those beyond the file, masked, or of its no-data value."""
        offset = self.placement.offset
        if offset is not None:
            return self._own(Window(window.row + offset[0], window.col + offset[1], window.height, window.width))
        at_rows, at_cols = self.placement.centers(window)
        inside = (at_rows >= 0) & (at_cols >= 0) & (at_rows < self.facts.shape[0]) & (at_cols < self.facts.shape[1])
        if not inside.any():
            return np.zeros(window.shape, self._dtype), inside
        rows, cols = (np.where(inside, at, at[inside].min()).astype(np.int64) for at in (at_rows, at_cols))
        top, left = int(rows.min()), int(cols.min())
        span = Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)
        if span.height * span.width > MOST_PIXELS and window.height * window.width > 1:
            return self._halves(window)
        values, valid = self._own(span)
        return values[rows - top, cols - left], valid[rows - top, cols - left] & inside

    def close(self) -> None:
        self.handles.close()

    def _halves(self, window: Window) -> Stored:
        if window.height >= window.width:
            half = window.height // 2
            parts = [
                Window(window.row, window.col, half, window.width),
                Window(window.row + half, window.col, window.height - half, window.width),
            ]
        else:
            half = window.width // 2
            parts = [
                Window(window.row, window.col, window.height, half),
                Window(window.row, window.col + half, window.height, window.width - half),
            ]
        values, valid = zip(*(self.read(part) for part in parts), strict=True)
        axis = 0 if window.height >= window.width else 1
        return np.concatenate(values, axis=axis), np.concatenate(valid, axis=axis)

    def _own(self, window: Window) -> Stored:
        """Pixels of a window of the file's own grid, which may reach beyond it."""
        values, valid = np.zeros(window.shape, self._dtype), np.zeros(window.shape, np.bool_)
        inside = window.intersection(Window(0, 0, *self.facts.shape))
        if inside is not None:
            at = (
                slice(inside.row - window.row, inside.row - window.row + inside.height),
                slice(inside.col - window.col, inside.col - window.col + inside.width),
            )
            area = RasterWindow(inside.col, inside.row, inside.width, inside.height)
            with reading(self.facts.path):
                dataset = self.handles.get()
                values[at] = dataset.read(self.band, window=area)
                valid[at] = dataset.read_masks(self.band, window=area) != 0
        return values, valid


def stored_band(path: str, reference: Facts | None = None, *, pixel_grid: bool = False) -> StoredBand:
    """The band of a label raster, on its own grid or on that of `reference`.

    Two rasters without a CRS lie on each other pixel by pixel.

    Args:
        pixel_grid: they do so whatever their CRS.

    Raises:
        SceneError: not a raster of one band; sizes that differ where pixel grids are to be equal; `NoOverlap`;
            `MissingCRS` where only one of them has a CRS.
    """
    facts = probe(path)
    if facts.count - (facts.alpha is not None) != 1:
        raise SceneError(
            f"{path} has {facts.count} bands; a raster of labels has one band of class values. Name the labels, not "
            "the image."
        )
    if reference is None or (reference.path == facts.path):
        reference = facts
    pixel_grid = pixel_grid or not (facts.placed or reference.placed)
    if not pixel_grid and not (facts.placed and reference.placed):
        lacking, other = (facts, reference) if reference.placed else (reference, facts)
        raise MissingCRS(
            f"{lacking.path} has no coordinate reference system, {other.path} has one ({crs_name(other.grid.crs)}).\n"
            "  Georeference it, or say --pixel-grid if pixel for pixel they show the same place."
        )
    if pixel_grid and facts.shape != reference.shape:
        raise SceneError(
            f"{path} has {facts.shape[0]} x {facts.shape[1]} pixels (rows x columns), {reference.path} "
            f"{reference.shape[0]} x {reference.shape[1]}; without a place on Earth they must have the same size.\n"
            "  Georeference both, or give labels of the size of the map."
        )
    grid = reference.grid
    placement = place_on(grid, facts, gcps=None, pixel_grid=pixel_grid)
    share = 1.0 if pixel_grid else overlap_share(placement, reference.shape, facts.shape)
    require_overlap(share, grid, reference, facts)
    return StoredBand(facts, placement, reference.shape, share)


def resampling_note(band: StoredBand, grid: GeoBox) -> str:
    """That and how a band was laid on another grid, in one sentence."""
    own = band.facts.grid
    return (
        f"{band.facts.name} ({crs_name(own.crs)}, {ground_sampling_m(own):.4g} m) is laid on the grid of the map "
        f"({crs_name(grid.crs)}, {ground_sampling_m(grid):.4g} m): nearest pixel"
    )
