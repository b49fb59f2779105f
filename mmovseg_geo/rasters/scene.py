"""Optical and SAR on one grid: open files once, then read any window of both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmovseg_geo.errors import ConfigError, MissingBand, SceneError
from mmovseg_geo.grid import Window, crs_name, ground_sampling_m
from mmovseg_geo.rasters.bands import Choice, choose_optical, choose_sar, is_cross
from mmovseg_geo.rasters.caveats import caveats
from mmovseg_geo.rasters.clouds import Clouds, find_clouds
from mmovseg_geo.rasters.displacement import Displacement
from mmovseg_geo.rasters.gcps import ThinPlate
from mmovseg_geo.rasters.georeference import footprint, overlap_share, place_on, reference_grid, require_overlap
from mmovseg_geo.rasters.layer import SAMPLE_SIDE, Layer, Sampled
from mmovseg_geo.rasters.products import image_facts, radar_facts
from mmovseg_geo.rasters.products.names import scene_name
from mmovseg_geo.rasters.ratio import RATIO_DB, require_polarizations, with_ratio
from mmovseg_geo.rasters.scaling_optical import decide_optical
from mmovseg_geo.rasters.scaling_sar import decide_sar
from mmovseg_geo.rasters.source import USUAL_TILE, Source, blanked, cache_bytes_of, caching, is_remote, nodata_of
from mmovseg_geo.rasters.speckle import SpeckleFilter
from mmovseg_geo.tiles import Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from mmovseg_geo.rasters.facts import Facts
    from mmovseg_geo.tiles import Sensor, Speckle

    PathLike = str | os.PathLike[str]
    Seen = tuple[Any, Any]
    """Pixels (N, H, W) of a sensor and their validity (H, W), or None for both."""

SCAN_SIDE = 1024


@dataclass(frozen=True, eq=False)
class Scene:
    """Optical and SAR pixels on one `GeoBox`. Pickles as paths and decisions; a worker opens its own files.

    Attributes:
        grid: the optical file's pixel grid, exactly; the SAR file's own where there is no optical.
        name: stem of the optical file name.
        gsd_m: ground sampling distance in meters at the scene's center; 1 without a CRS.
        displacement: rows and cols of scene pixels that the SAR content was moved by (down and right positive).
        overlap: share of the grid within the SAR extent; None unless there are both.
        clouds: where the optical image shows clouds and their shadows; None where that was not asked for or is unknown.
        mask_clouds: these pixels of the optical image are invalid.
        sar_ratio: SAR tiles have a third band, the ratio of the two.
        warnings: what the user should know, in sentences.
        coregistration: what was found out about the displacement, and why it was applied or not; None if nobody asked.
    """

    grid: GeoBox
    name: str
    gsd_m: float
    optical: Layer | None
    sar: tuple[Layer, ...]
    displacement: Displacement = Displacement()  # noqa: RUF009 - frozen
    overlap: float | None = None
    clouds: Clouds | None = None
    mask_clouds: bool = False
    warnings: list[str] = field(default_factory=list)
    coregistration: Mapping[str, Any] | None = None
    sar_ratio: bool = False

    @property
    def sensors(self) -> frozenset[Sensor]:
        present: list[Sensor] = (["optical"] if self.optical else []) + (["sar"] if self.sar else [])  # type: ignore[assignment]
        return frozenset(present)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the grid."""
        return int(self.grid.shape[0]), int(self.grid.shape[1])

    @property
    def shift(self) -> tuple[float, float]:
        """Rows and cols by which the SAR content was moved at the scene's center."""
        middle = (np.float64(self.shape[0] / 2), np.float64(self.shape[1] / 2))
        rows, cols = self.displacement.at(*middle)
        return float(rows), float(cols)

    def moved(self, displacement: Displacement) -> Scene:
        """The same scene with its SAR content moved by `displacement` from where the files place it."""
        sar = tuple(replace(part, placement=part.placement.displaced(displacement, self.shape)) for part in self.sar)
        return replace(self, sar=sar, displacement=displacement)

    def read(self, window: Window) -> Tile:
        """The pixels of a window, in any thread; those beyond the grid are invalid.

        A pixel's values do not depend on the window it is read in.
        """
        return self.tile(window, self.read_optical(window), self.read_sar(window))

    def read_optical(self, window: Window) -> Seen:
        """The optical part of a window, for those who read both parts at the same time; `tile` puts them together."""
        optical = self.optical.read(window) if self.optical else (None, None)
        if self.mask_clouds and self.clouds is not None and optical[0] is not None:
            clear = optical[1] & ~self.clouds.read(window)
            optical = blanked(optical[0], clear), clear
        return optical

    def read_sar(self, window: Window) -> Seen:
        """The SAR part of a window."""
        return self._radar([layer.read(window) for layer in self.sar])

    def tile(self, window: Window, optical: Seen, sar: Seen) -> Tile:
        """Both parts of a window together."""
        return Tile(window, optical[0], sar[0], optical[1], sar[1], self.gsd_m)

    def overview(self, max_size: int) -> Tile:
        """The whole scene at most `max_size` pixels long and wide, for pictures."""
        stride = max(1, -(-max(self.shape) // max_size))
        optical = self.optical.overview(stride) if self.optical else (None, None)
        sar = self._radar([layer.overview(stride) for layer in self.sar])
        height, width = (-(-side // stride) for side in self.shape)
        return Tile(Window(0, 0, height, width), optical[0], sar[0], optical[1], sar[1], self.gsd_m * stride)

    def overview_bytes(self, max_size: int) -> int:
        """What `overview` takes at most."""
        layers = (*([self.optical] if self.optical else []), *self.sar)
        return max(layer.overview_bytes(max_size) for layer in layers)

    def _radar(self, parts: Sequence[Seen]) -> Seen:
        values, valid = _together(parts)
        return (
            (np.where(valid, with_ratio(values, self.sar), np.float32(0)), valid) if self.sar_ratio else (values, valid)
        )

    def describe(self) -> dict[str, Any]:
        """What is believed about the inputs and why, in JSON-able values."""
        return {
            "name": self.name,
            "grid": {
                "crs": crs_name(self.grid.crs),
                "transform": list(self.grid.transform)[:6],
                "shape": list(self.shape),
                "footprint": footprint(self.grid),
                "bounds": list(self.grid.boundingbox),
            },
            "gsd_m": self.gsd_m,
            "sensors": sorted(self.sensors),
            "optical": _described(self.optical) if self.optical else None,
            "sar": [_described(layer) for layer in self.sar],
            "sar_shift": self._moved_by(),
            "coregistration": None if self.coregistration is None else dict(self.coregistration),
            "overlap": self.overlap,
            "clouds": self._described_clouds(),
            "warnings": list(self.warnings),
        }

    def _described_clouds(self) -> dict[str, Any] | None:
        if self.clouds is None:
            return None
        clouds = self.clouds
        told = {"share": round(clouds.share, 4), "why": clouds.why, "sure": clouds.sure}
        return {**told, "masked": self.mask_clouds, "file": clouds.file}

    def provenance(self) -> dict[str, Any]:
        """Inputs, bands, scalings and shift for a map's tags: JSON-able, without folders."""
        masked = {"clouds": {"masked": self.clouds.why}} if self.mask_clouds and self.clouds else {}
        ratio = {"sar_ratio": list(RATIO_DB)} if self.sar_ratio else {}
        return {
            **masked,
            **ratio,
            "optical": self.optical.provenance() if self.optical else None,
            "sar": [layer.provenance() for layer in self.sar],
            "sar_shift": self._moved_by(),
        }

    def _moved_by(self) -> dict[str, Any]:
        """The shift at the center, and the whole displacement where it is not the same everywhere."""
        told: dict[str, Any] = {"rows": self.shift[0], "cols": self.shift[1]}
        return told if self.displacement.model == "shift" else {**told, "displacement": self.displacement.to_json()}

    def cache_bytes(self, rows: int) -> int:
        """What GDAL must keep so that windows of so many rows have no block decoded twice."""
        layers = (*([self.optical] if self.optical else []), *self.sar)
        return cache_bytes_of((layer.source.facts, layer.source_rows(rows)) for layer in layers)

    @property
    def remote(self) -> bool:
        """Whether any of the files lies on a server."""
        layers = (*([self.optical] if self.optical else []), *self.sar)
        return any(is_remote(path) for layer in layers for path in layer.source.facts.files)

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        for layer in (*([self.optical] if self.optical else []), *self.sar):
            layer.source.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_scene(
    optical: PathLike | Sequence[PathLike] | None = None,
    sar: PathLike | Sequence[PathLike] | None = None,
    *,
    bands: Sequence[int | str] | None = None,
    sar_bands: Sequence[int | str] | None = None,
    optical_scale: str = "auto",
    sar_scale: str = "auto",
    nodata: float | str | None = None,
    speckle: Speckle = "none",
    sar_ratio: bool = False,
    clouds: str = "off",
    mask_clouds: bool = False,
    gcps: str | None = None,
    pixel_grid: bool = False,
    any_size: bool = False,
    shift: tuple[float, float] | Displacement = (0.0, 0.0),
) -> Scene:
    """A scene of an optical file, a SAR file, or both, on the optical file's grid.

    Args:
        optical: path or URL of a raster with red, green and blue, of band files ("B04.jp2,B03.jp2,B02.jp2"), or of a
            product as it is delivered (see `products`).
        sar: path or URL with one or two polarizations, two files ("vv.tif,vh.tif"), or a product.
        bands, sar_bands: 1-based numbers or names; None decides by descriptions and color interpretation.
        optical_scale, sar_scale: `auto`, a word of `OpticalScale` or `SarScale`, or `"MIN,MAX"`.
        nodata: a number, `"nan"`, or `"none"` to ignore what the files declare.
        speckle: the filter of the SAR image; its looks are estimated once from the whole file.
        sar_ratio: a third SAR band, the ratio of co- and cross-polarized backscatter (see `ratio`).
        clouds: `auto`, `off`, or a file that marks them (see `clouds.find_clouds`); mask_clouds: take the optical image
            for invalid there, so that SAR decides alone.
        gcps: `"tps"` accepts files that have only ground control points.
        pixel_grid: pixel (row, col) of both files is the same place, whatever their CRS.
        any_size: with `pixel_grid`, the files may differ in size.
        shift: rows and cols of scene pixels that the SAR content must move by (down and right positive), or these at
            every pixel.

    Raises:
        SceneError: files that cannot be read or cannot become one scene (`MissingCRS`, `NoOverlap`, `MissingBand`).
        ConfigError: a scale that is not known.

    >>> scene = open_scene("s2.tif", "s1.tif")          # doctest: +SKIP
    >>> scene.read(Window(0, 0, 512, 512)).optical.shape  # doctest: +SKIP
    (3, 512, 512)
    """
    if gcps not in (None, "tps"):
        raise ConfigError(f"--gcps {gcps!r} is not known; tps (thin-plate spline) is the only way.")
    optical_facts = image_facts(optical, bands) if optical is not None else None
    sar_facts = radar_facts(sar) if sar is not None else []
    files = [*([optical_facts] if optical_facts else []), *sar_facts]
    if not files:
        raise SceneError("No image was given. Name an optical file, a SAR file, or both.")
    _require_different(files)
    grid = reference_grid(files[0], gcps=gcps, pixel_grid=pixel_grid)
    shape = (int(grid.shape[0]), int(grid.shape[1]))
    choices = _sar_choices(sar_facts, sar_bands)
    warnings: list[str] = []
    layer = None
    if optical_facts:
        choice = choose_optical(optical_facts, bands)
        placement = place_on(grid, optical_facts, gcps=gcps, pixel_grid=pixel_grid)
        source = _source(optical_facts, choice, nodata, every=True)
        sample, found = _sampled(source)
        scaling = decide_optical(optical_facts, choice, sample, optical_scale)
        layer = Layer(source, choice, placement, scaling, shape, found)
    layers, shares = [], []
    moved = shift if isinstance(shift, Displacement) else Displacement((float(shift[0]), float(shift[1])))
    moved = moved if optical_facts else Displacement()
    for facts, choice in choices:
        placement = place_on(grid, facts, gcps=gcps, pixel_grid=pixel_grid, any_size=any_size, shift=moved)
        shares.append(overlap_share(placement, shape, facts.shape))
        require_overlap(shares[-1], grid, files[0], facts)
        source = _source(facts, choice, nodata, every=False)
        sample, found = _sampled(source)
        radar = Layer(source, choice, placement, decide_sar(facts, choice, sample, sar_scale), shape, found)
        if speckle != "none":
            radar = replace(radar, speckle=SpeckleFilter(speckle, radar.looks()))
        layers.append(radar)
    if sar_ratio:
        require_polarizations(layers)
    overlap = min(shares) if optical_facts and shares else None
    name = scene_name(optical if optical is not None else sar or "")
    with caching(cache_bytes_of((facts, USUAL_TILE) for facts in files)):
        found_clouds = find_clouds(layer, grid, clouds, gcps=gcps, pixel_grid=pixel_grid) if layer else None
    if mask_clouds and found_clouds is None:
        raise ConfigError(
            "There is nothing to mask clouds by. Name a file that marks them with --clouds, or leave it out."
        )
    gsd_m = ground_sampling_m(grid)
    scene = Scene(
        grid,
        name,
        gsd_m,
        layer,
        tuple(layers),
        moved,
        overlap,
        found_clouds,
        mask_clouds,
        warnings,
        sar_ratio=sar_ratio,
    )
    warnings.extend(caveats(scene))
    return scene


def _require_different(files: Sequence[Facts]) -> None:
    seen: dict[str, str] = {}
    for path in (path for facts in files for path in facts.files):
        real = os.path.realpath(path) if os.path.exists(path) else path
        if real in seen:
            raise SceneError(
                f"{path} was given twice. Name the optical file first and the SAR file second; they must differ."
            )
        seen[real] = path


def _sar_choices(files: Sequence[Facts], wanted: Sequence[int | str] | None) -> list[tuple[Facts, Choice]]:
    """The bands of each SAR file, co-polarized first."""
    if wanted is not None and len(files) > 1:
        raise MissingBand("--sar-bands picks bands of one SAR file; with two files give one band in each.")
    chosen = [(facts, choose_sar(facts, wanted)) for facts in files]
    if len(chosen) > 1:
        total = sum(len(choice.bands) for _, choice in chosen)
        if len(chosen) > 2 or total > 2:
            raise MissingBand(f"{len(chosen)} SAR files with {total} bands were given, two at most are used.")
        chosen.sort(key=lambda pair: is_cross(pair[1].names[0]))
        if all(choice.names == ("co",) for _, choice in chosen):
            chosen = [
                (facts, Choice(c.bands, (name,), "order of the files", c.warning, c.expand_palette))
                for (facts, c), name in zip(chosen, ("VV", "VH"), strict=True)
            ]
    return chosen


def _source(facts: Facts, choice: Choice, nodata: float | str | None, *, every: bool) -> Source:
    values, undeclared = nodata_of(facts, choice.bands, nodata)
    eight_bit = facts.dtypes[choice.bands[0] - 1] == "uint8"
    masked = facts.alpha is not None or facts.has_mask
    colors = every and all(value == 0 or eight_bit for value in values)
    zero = undeclared and not masked and not eight_bit
    return Source(facts, choice.bands, values, colors, zero, choice.expand_palette)


def _sampled(source: Source) -> tuple[NDArray[np.float32], Sampled]:
    """Valid stored values (N, n) of a decimated read, and what they show.

    Raises:
        SceneError: there are none.
    """
    with caching(cache_bytes_of([(source.facts, USUAL_TILE)])):
        values, valid = source.decimated(SAMPLE_SIDE)
    sample = values[:, valid]
    share = float(valid.mean())
    if sample.shape[1] == 0:
        sample = _first_valid(source)
    ranges = tuple((float(band.min()), float(band.max())) for band in sample)
    return sample, Sampled(ranges, share, float((sample == 0).all(axis=0).mean()))


def _first_valid(source: Source) -> NDArray[np.float32]:
    """Valid values of the first block that holds any, where the decimated read missed them all."""
    for row in range(0, source.shape[0], SCAN_SIDE):
        for col in range(0, source.shape[1], SCAN_SIDE):
            values, valid = source.read(Window(row, col, SCAN_SIDE, SCAN_SIDE))
            if valid.any():
                return values[:, valid]
    raise SceneError(
        f"{source.path} holds no data: every pixel is masked or no-data.\n"
        "  Check the file, or say --nodata none if its no-data value is wrong."
    )


def _together(parts: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """SAR layers as one stack (C, H, W), valid where all of them are."""
    if not parts:
        return None, None
    if len(parts) == 1:
        return parts[0]
    valid = np.logical_and.reduce([part[1] for part in parts])
    return blanked(np.concatenate([part[0] for part in parts]), valid), valid


def _described(layer: Layer) -> dict[str, Any]:
    told = layer.describe()
    spline = layer.placement.locator
    if isinstance(spline, ThinPlate):
        told["gcps"] = {
            "count": len(layer.source.facts.gcps),
            "left_out_rms_px": round(spline.residual_px, 3),
            "left_out_worst_px": round(spline.worst_px, 3),
        }
    return told
