"""Whether files cover one place, and how one lies on the grid of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from rasterio.control import GroundControlPoint
from rasterio.warp import calculate_default_transform

from mmovseg_geo.errors import MissingCRS, NoOverlap, SceneError
from mmovseg_geo.grid import crs_name
from mmovseg_geo.rasters.gcps import thin_plate
from mmovseg_geo.rasters.placement import AffineLocator, Placement, place

if TYPE_CHECKING:
    from mmovseg_geo.rasters.displacement import Displacement
    from mmovseg_geo.rasters.facts import Facts

SAMPLED = 128
"""Points along each side of a scene that are looked up to find how much of it another file covers."""
DOUBTFUL = 0.03
"""Difference between the sampled and the exact share of overlap that speaks against the exact one."""
NOTHING = 1e-6
"""A change of CRS that moves no corner by more than this many pixels is none."""


def reference_grid(facts: Facts, *, gcps: str | None, pixel_grid: bool) -> GeoBox:
    """The pixel grid that the map will have: the file's own.

    Raises:
        MissingCRS: no CRS or no transform, unless `pixel_grid`.
        SceneError: placed by control points alone, unless `gcps` is "tps".
    """
    if facts.only_gcps and not pixel_grid:
        _allow_gcps(facts, gcps)
        points = [GroundControlPoint(row=p.row, col=p.col, x=p.x, y=p.y, z=0.0) for p in facts.gcps]
        transform, width, height = calculate_default_transform(
            facts.gcp_crs, facts.gcp_crs, facts.shape[1], facts.shape[0], gcps=points
        )
        return GeoBox((height, width), Affine(*tuple(transform)[:6]), facts.gcp_crs)
    if not facts.placed and not pixel_grid:
        raise MissingCRS(_missing_crs(facts))
    return facts.grid


def place_on(
    grid: GeoBox,
    facts: Facts,
    *,
    gcps: str | None,
    pixel_grid: bool,
    any_size: bool = False,
    shift: tuple[float, float] | Displacement = (0.0, 0.0),
) -> Placement:
    """How the file's pixels lie on `grid`.

    Raises:
        MissingCRS: no CRS or no transform, unless `pixel_grid`.
        SceneError: sizes that differ where pixel grids are to be equal; control points alone; no way between the CRS.
    """
    shape = (int(grid.shape[0]), int(grid.shape[1]))
    if pixel_grid:
        if facts.shape != shape and not any_size:
            raise SceneError(
                f"{facts.path} has {facts.shape[0]} x {facts.shape[1]} pixels (rows x columns), the scene {shape[0]} x "
                f"{shape[1]}.\n  --pixel-grid needs equal sizes: crop or resample one, or georeference both."
            )
        return place(Affine.identity(), shape, AffineLocator(Affine.identity()), shift=shift)
    if facts.only_gcps:
        _allow_gcps(facts, gcps)
        source_crs = CRS.from_user_input(facts.gcp_crs)
        spline = thin_plate(facts.gcps, facts.name)
        transformer = _transformer(grid, source_crs, facts)
        around = float(spline.center[0]) if source_crs.is_geographic else None
        return place(grid.transform, shape, spline, transformer=transformer, around=around, shift=shift)
    if not facts.placed:
        raise MissingCRS(_missing_crs(facts))
    source_crs = CRS.from_user_input(facts.crs)
    around = _middle(facts.transform, facts.shape) if source_crs.is_geographic else None
    transformer = _transformer(grid, source_crs, facts)
    affine = grid.transform
    if transformer is None and around is not None:
        turns = round((_middle(affine, shape) - around) / 360.0)
        affine = Affine.translation(-360.0 * turns, 0.0) @ affine
    return place(affine, shape, AffineLocator(~facts.transform), transformer=transformer, around=around, shift=shift)


def overlap_share(placement: Placement, shape: tuple[int, int], source_shape: tuple[int, int]) -> float:
    """Share of the scene's area, 0..1, that lies within the source's extent."""
    height, width = source_shape
    at_rows, at_cols = placement.exact(*np.meshgrid(*(_sampled(side) for side in shape), indexing="ij"))
    within = (at_rows >= 0) & (at_rows <= height) & (at_cols >= 0) & (at_cols <= width)
    sampled = float(within.mean())
    at_rows, at_cols = placement.exact(*_outline(shape))
    if not (np.isfinite(at_rows).all() and np.isfinite(at_cols).all()):
        return sampled
    outline = shapely.make_valid(shapely.Polygon(np.stack([at_cols, at_rows], axis=1)))
    if outline.area == 0.0:
        return sampled
    exact = float(shapely.intersection(outline, shapely.box(0, 0, width, height)).area / outline.area)
    if abs(exact - sampled) > DOUBTFUL:  # an outline around a pole or over the edge of the world has no inside
        return sampled
    return 1.0 if exact > 1.0 - 1e-9 else exact


def _sampled(side: int) -> Any:
    return (np.arange(SAMPLED) + 0.5) * side / SAMPLED


def require_overlap(share: float, grid: GeoBox, reference: Facts, other: Facts) -> None:
    """Raise `NoOverlap`, with both footprints, when the share is nothing."""
    if share > 0.0:
        return
    lines = [(reference.name, footprint(grid))]
    place_of_other = footprint(other.grid) if other.crs else "placed by control points"
    lines.append((other.name, place_of_other))
    width = max(len(name) for name, _ in lines)
    listing = "\n".join(f"  {name:<{width}}  {where}" for name, where in lines)
    raise NoOverlap(
        f"{reference.name} and {other.name} do not overlap.\n{listing}\n"
        "  Check that both cover the same place and that their coordinate systems are the true ones."
    )


def footprint(grid: GeoBox) -> str:
    """The extent in words: `EPSG:32654  399960 … 509760 E, 3890220 … 4000020 N`."""
    box = grid.boundingbox
    name = crs_name(grid.crs)
    if grid.crs is None:
        return f"{name}  {grid.shape[1]} x {grid.shape[0]} pixels"
    digits = ".4f" if grid.crs.geographic else ".0f"
    return f"{name}  {box.left:{digits}} … {box.right:{digits}} E, {box.bottom:{digits}} … {box.top:{digits}} N"


def _transformer(grid: GeoBox, source: CRS, facts: Facts) -> Any:
    """From the grid's CRS to the source's, or None where that changes nothing."""
    if grid.crs is None:
        raise MissingCRS(f"The scene has no coordinate reference system, {facts.name} has one. Georeference both.")
    if grid.crs.proj.equals(source, ignore_axis_order=True):
        return None
    try:
        transformer = Transformer.from_crs(grid.crs.proj, source, always_xy=True)
    except ProjError as error:
        raise SceneError(
            f"{facts.path}: no way leads from the scene's coordinate system ({grid.crs.proj.name}) to this file's "
            f"({source.name}): {error}."
        ) from error
    m = grid.transform
    rows, cols = _outline((int(grid.shape[0]), int(grid.shape[1])))
    x, y = m.a * cols + m.b * rows + m.c, m.d * cols + m.e * rows + m.f
    there = transformer.transform(x, y)
    tiny = NOTHING * min(abs(m.a) + abs(m.b), abs(m.d) + abs(m.e))
    return None if max(np.abs(there[0] - x).max(), np.abs(there[1] - y).max()) < tiny else transformer


def _outline(shape: tuple[int, int]) -> tuple[Any, Any]:
    """Rows and cols of points around the border of a grid, dense enough for its bends."""
    along = np.linspace(0.0, 1.0, 33)[:-1]
    rows = np.concatenate([0 * along, along, 1 + 0 * along, 1 - along]) * shape[0]
    cols = np.concatenate([along, 1 + 0 * along, 1 - along, 0 * along]) * shape[1]
    return rows, cols


def _middle(transform: Affine, shape: tuple[int, int]) -> float:
    return float(transform.a * shape[1] / 2 + transform.b * shape[0] / 2 + transform.c)


def _allow_gcps(facts: Facts, gcps: str | None) -> None:
    if gcps != "tps":
        raise SceneError(
            f"{facts.path} is placed by {len(facts.gcps)} ground control points, not map-projected (Sentinel-1 GRD?).\n"
            "  Use a terrain-corrected product (RTC), or accept an error of up to hundreds of meters in hills with "
            "--gcps tps."
        )


def _missing_crs(facts: Facts) -> str:
    rpcs = " It has rational polynomials (RPC): orthorectify it first." if facts.has_rpcs else ""
    lacks = "transform: its pixels have no place in its " if facts.crs else ""
    return (
        f"{facts.path} has no {lacks}coordinate reference system.{rpcs}\n"
        f"  Assign one (gdal_edit.py {'-a_ullr ...' if facts.crs else '-a_srs EPSG:...'}), or say --pixel-grid if the "
        "pixel grids of all inputs are equal."
    )
