"""Clouds and their shadows in the optical image: from a file that marks them, else from the image itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mmovseg_geo.errors import ConfigError, MissingBand
from mmovseg_geo.grid import Window, ground_sampling_m
from mmovseg_geo.rasters.cloud_index import CloudIndex, middles
from mmovseg_geo.rasters.georeference import overlap_share, place_on, require_overlap
from mmovseg_geo.rasters.nearest import StoredBand
from mmovseg_geo.rasters.source import Source, probe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from mmovseg_geo.rasters.facts import Facts
    from mmovseg_geo.rasters.layer import Layer

    Mask = NDArray[np.bool_]

SEEN_SIDE = 512
"""Longest side of the thinned image that the share of clouds is counted in."""


class Clouds(Protocol):
    """Which pixels of a scene's grid are cloud or cloud shadow.

    Attributes:
        why: where that is known from.
        share: of the valid optical pixels that are, 0..1, counted in a thinned image.
        file: that marks them; None where the optical image itself does.
        sure: enough to leave places out by; not so where snow may be taken for clouds.
    """

    @property
    def why(self) -> str: ...

    @property
    def share(self) -> float: ...

    @property
    def file(self) -> str | None: ...

    @property
    def sure(self) -> bool: ...

    def read(self, window: Window) -> Mask:
        """Cloud or shadow (H, W) in a window; a pixel does not depend on the window. False where nothing is known."""
        ...

    def thinned(self, shape: tuple[int, int]) -> Mask:
        """Cloud or shadow in the whole grid, seen in fewer pixels (of `shape`)."""
        ...


@dataclass(frozen=True)
class Kind:
    """A file that marks clouds: which of its bands are read, and which of their values are cloud or shadow."""

    name: str
    bands: tuple[int, ...]
    marked: Callable[[NDArray[Any]], Mask]
    pattern: str


def _classes(*values: int) -> Callable[[NDArray[Any]], Mask]:
    return lambda stored: np.isin(stored, values)


def _bits(*bits: int) -> Callable[[NDArray[Any]], Mask]:
    flags = sum(1 << bit for bit in bits)
    return lambda stored: (stored.astype(np.int64) & flags) != 0


def _at_least(percent: float) -> Callable[[NDArray[Any]], Mask]:
    return lambda stored: stored >= percent


KINDS = {
    "scl": Kind("scene classification of Sentinel-2", (1,), _classes(3, 8, 9, 10), r"(^|_)SCL(_|$)"),
    "classi": Kind("cloud classification of Sentinel-2 L1C", (1, 2), _at_least(1), r"MSK_CLASSI"),
    "cldprb": Kind("cloud probability of Sentinel-2", (1,), _at_least(50), r"CLDPRB|cloud_?prob"),
    "qa_pixel": Kind("QA_PIXEL of Landsat", (1,), _bits(1, 2, 3, 4), r"QA_PIXEL"),
    "fmask": Kind("Fmask of HLS", (1,), _bits(1, 2, 3), r"Fmask"),
    "udm2": Kind("UDM2 of Planet", (3, 5, 6), _at_least(1), r"udm2"),
    "mask": Kind("mask", (1,), lambda stored: stored != 0, r"$^"),
}
"""Cloud and shadow by the name of a kind: classes 3 shadow, 8 to 10 clouds and cirrus; bits 1 dilated, 2 cirrus, 3
cloud, 4 shadow (Fmask: 1 cloud, 2 beside, 3 shadow); bands 3 shadow, 5 heavy haze, 6 cloud."""
FEW_VALUES = 3
"""A plain mask has no more different values; a classification has."""


@dataclass(frozen=True, eq=False)
class CloudFile:
    """Clouds marked in a file, by the nearest of its pixels."""

    bands: tuple[StoredBand, ...]
    kind: str
    why: str
    share: float = 0.0
    sure = True

    def read(self, window: Window) -> Mask:
        """Cloud or shadow (H, W) in a window; where the file has no data there is none."""
        found = np.zeros(window.shape, np.bool_)
        for band in self.bands:
            values, valid = band.read(window)
            found |= KINDS[self.kind].marked(values) & valid
        return found

    def thinned(self, shape: tuple[int, int]) -> Mask:
        """Cloud or shadow in the whole grid, at the middle of each of fewer pixels (of `shape`)."""
        grid = self.bands[0].shape
        rows, cols = (middles(count, side) for count, side in zip(shape, grid, strict=True))
        return np.stack([self.read(Window(int(row), 0, 1, grid[1]))[0, cols] for row in rows])

    @property
    def file(self) -> str:
        return self.bands[0].facts.path

    def counted(self, layer: Layer) -> CloudFile:
        """The same with its share of the valid pixels of an optical layer."""
        valid = layer.source.decimated(SEEN_SIDE)[1]
        if layer.placement.offset is None:  # then the layer's own pixels are not those of the grid
            valid = np.ones_like(valid)
        marked = self.thinned((int(valid.shape[0]), int(valid.shape[1])))
        return replace(self, share=float((marked & valid).sum() / max(int(valid.sum()), 1)))


def find_clouds(layer: Layer, grid: GeoBox, wanted: str, *, gcps: str | None, pixel_grid: bool) -> Clouds | None:
    """The clouds of an optical layer on a scene's grid.

    Args:
        wanted: `auto` takes the product's own mask, or else an index of the image itself; `off` none; else a file,
            whose kind is told by its name or before it: `scl:classes.tif`.

    Raises:
        SceneError: the file cannot be read, or lies elsewhere. ConfigError: what its values mean is not clear.
    """
    if wanted == "off":
        return None
    product = layer.source.facts.product
    if wanted == "auto":
        if product is None or product.cloud_file is None:
            return CloudIndex.of(layer, ground_sampling_m(grid))
        path, kind = product.cloud_file
    else:
        kind, _, path = wanted.rpartition(":") if wanted.partition(":")[0] in KINDS else ("", "", wanted)
    facts = probe(path)
    kind = kind or _kind_of(facts)
    bands = KINDS[kind].bands
    if facts.count < max(bands):
        raise MissingBand(f"{path} has {facts.count} bands; {KINDS[kind].name} has clouds and shadows in {bands}.")
    placement = place_on(grid, facts, gcps=gcps, pixel_grid=pixel_grid)
    shape = (int(grid.shape[0]), int(grid.shape[1]))
    share = overlap_share(placement, shape, facts.shape)
    require_overlap(share, grid, layer.source.facts, facts)
    read = tuple(StoredBand(facts, placement, shape, share, band) for band in bands)
    return CloudFile(read, kind, f"{KINDS[kind].name}, {facts.name}").counted(layer)


def _kind_of(facts: Facts) -> str:
    """The kind of a user's file, by its name, else by its values.

    Raises:
        ConfigError: many values, and no name that tells what they mean.
    """
    for name, kind in KINDS.items():
        if re.search(kind.pattern, facts.stem, re.IGNORECASE):
            return name
    values, valid = Source(facts, (1,)).decimated(SEEN_SIDE)
    found = np.unique(values[0][valid])
    if len(found) > FEW_VALUES:
        shown = ", ".join(f"{value:g}" for value in found[:6])
        raise ConfigError(
            f"--clouds {facts.path}: values {shown}, … mark more than clouds, and the name does not say what they mean."
            f"\n  Say so before it, such as scl:{facts.name}; known are {', '.join(KINDS)}."
        )
    return "mask"
