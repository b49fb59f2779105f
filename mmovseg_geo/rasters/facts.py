"""What a raster file says of itself: small plain values, gathered once when it is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmovseg_geo.rasters.calibration import Calibration

Meaning = Literal["", "reflectance", "power", "amplitude", "db"]
"""What values are, where metadata say so."""


@dataclass(frozen=True)
class Product:
    """What the metadata of a delivered product, or its name, tell of a file.

    Attributes:
        name: of the product, as its makers gave it.
        told: mission, level, acquired, orbit and the like in words, in the order they are shown.
        meaning: what the file's values are, after its scales and offsets; empty where nothing says so.
        why: where that stands.
        cloud_file: path of a raster that marks clouds, and the kind of its values (see `clouds.KINDS`).
        numbered: a band asked for as 4 is the one named B4, wherever it stands.
    """

    name: str
    told: Mapping[str, str] = field(default_factory=dict)
    meaning: Meaning = ""
    why: str = ""
    cloud_file: tuple[str, str] | None = None
    numbered: bool = False


@dataclass(frozen=True)
class ControlPoint:
    """A pixel position (row, col; corner of the first pixel = 0, 0) and its place x, y."""

    row: float
    col: float
    x: float
    y: float


@dataclass(frozen=True, eq=False)
class Facts:
    """Everything that decides how a file is read.

    Attributes:
        crs: WKT, empty where the file has none.
        gcps: ground control points and `gcp_crs` (WKT); empty for map-projected files.
        alpha: 1-based number of the alpha band.
        has_mask: a mask of the whole dataset (internal or `.msk`), apart from alpha and no-data values.
        colormap: value to (red, green, blue, alpha) of a palette image.
        parts: file and band number of each band, where the bands are spread over files; empty where `path` holds all.
        product: what the metadata of the product say that the file belongs to.
        calibration: what makes backscatter of the stored numbers when they are read.
        block_rows: rows that are decoded together.
    """

    path: str
    driver: str
    shape: tuple[int, int]
    count: int
    dtypes: tuple[str, ...]
    crs: str
    transform: Affine
    gcps: tuple[ControlPoint, ...]
    gcp_crs: str
    has_rpcs: bool
    descriptions: tuple[str, ...]
    colors: tuple[str, ...]
    nodata: tuple[float | None, ...]
    alpha: int | None
    has_mask: bool
    colormap: Mapping[int, tuple[int, int, int, int]] | None
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str, ...]
    tags: Mapping[str, str]
    band_tags: tuple[Mapping[str, str], ...]
    parts: tuple[tuple[str, int], ...] = ()
    product: Product | None = None
    calibration: Calibration | None = None
    block_rows: int = 1

    @property
    def row_bytes(self) -> int:
        """What one row of all bands takes, as it is stored but for compression."""
        return self.shape[1] * sum(np.dtype(dtype).itemsize for dtype in self.dtypes)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that hold the bands."""
        return tuple(dict.fromkeys(path for path, _ in self.parts)) or (self.path,)

    @property
    def stem(self) -> str:
        """File name without folders and suffix; of `/vsizip/` paths and URLs too."""
        return stem_of(self.path)

    @property
    def name(self) -> str:
        """File name without folders, for messages; those of all files where several were listed."""
        paths = self.files if "," in self.path else (self.path,)
        return ",".join(PurePosixPath(path.replace("\\", "/").split("?")[0]).name for path in paths)

    @property
    def grid(self) -> GeoBox:
        """The file's own pixel grid; its CRS is None where the file has none."""
        return GeoBox(self.shape, self.transform, self.crs or None)

    @property
    def only_gcps(self) -> bool:
        """Placed by ground control points alone, not by an affine transform."""
        return bool(self.gcps) and self.transform == Affine.identity()

    @property
    def placed(self) -> bool:
        """Map-projected: a CRS, and a transform that is not the one of files without any."""
        return bool(self.crs) and self.transform != Affine.identity()

    def words_of(self, band: int) -> str:
        """Description, units and tags of a band in one string, for finding names in it."""
        tags = " ".join(f"{k}={v}" for k, v in self.band_tags[band - 1].items() if not k.startswith("STATISTICS"))
        return " ".join(part for part in (self.descriptions[band - 1], self.units[band - 1], tags) if part)


def stem_of(path: str) -> str:
    """File name without folders, suffix and URL query."""
    return PurePosixPath(path.replace("\\", "/").split("?")[0]).stem


def facts_of(dataset: Any, path: str) -> Facts:
    """The facts of an open rasterio dataset."""
    points, point_crs = dataset.gcps
    colors = tuple(color.name for color in dataset.colorinterp)
    alpha = colors.index("alpha") + 1 if "alpha" in colors else None
    flags = {flag.name for flag in dataset.mask_flag_enums[0]} if dataset.count else set()
    palette = dataset.count == 1 and colors[0] == "palette"
    return Facts(
        path=path,
        driver=dataset.driver,
        shape=(dataset.height, dataset.width),
        count=dataset.count,
        dtypes=tuple(dataset.dtypes),
        crs=dataset.crs.to_wkt() if dataset.crs and not _gcp_only(dataset) else "",
        transform=Affine(*tuple(dataset.transform)[:6]),
        gcps=tuple(ControlPoint(p.row, p.col, p.x, p.y) for p in points),
        gcp_crs=point_crs.to_wkt() if point_crs else "",
        has_rpcs=bool(dataset.rpcs),
        descriptions=tuple(text or "" for text in dataset.descriptions),
        colors=colors,
        nodata=tuple(dataset.nodatavals),
        alpha=alpha,
        has_mask="per_dataset" in flags and "alpha" not in flags,
        colormap=dataset.colormap(1) if palette else None,
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        units=tuple(unit or "" for unit in dataset.units),
        tags=dict(dataset.tags()),
        band_tags=tuple(dict(dataset.tags(band)) for band in range(1, dataset.count + 1)),
        block_rows=max((rows for rows, _ in dataset.block_shapes), default=1),
    )


def _gcp_only(dataset: Any) -> bool:
    """rasterio reports the control points' CRS as the dataset's; the pixels themselves are not on that grid."""
    return bool(dataset.gcps[0]) and dataset.transform.is_identity
