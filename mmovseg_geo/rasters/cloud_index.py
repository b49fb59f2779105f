"""An index of clouds and shadows from the optical image itself: bright, white, not snow; dark beside such a place.

The tests are those of the first pass of Fmask (Zhu and Woodcock 2012), as soft steps: brightness, whiteness, the haze
optimized transformation and, where the bands are there, vegetation, snow, bright soil and cirrus. Without a shortwave
infrared band snow looks like clouds; without a near infrared one no shadow is told from water and forest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import maximum_filter1d

from mmovseg_geo.errors import MissingBand
from mmovseg_geo.rasters.bands import COLORS, find_band
from mmovseg_geo.rasters.box import sums_around
from mmovseg_geo.rasters.radiometry import BRIGHT_REFLECTANCE
from mmovseg_geo.rasters.source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mmovseg_geo.grid import Window
    from mmovseg_geo.rasters.layer import Layer

    Values = NDArray[np.float32]
    Mask = NDArray[np.bool_]

HELPING = {"nir": ("nir", "B8", "B8A"), "swir": ("swir1", "B11"), "cirrus": ("cirrus",)}
"""Names of the bands that help beside red, green and blue."""
FINEST_M = 2.0
"""Where pixels are smaller a roof is as large as a cloud; no index is offered."""
SMOOTH_M, SMOOTH_PX = 60.0, 8
"""A cloud is larger than this; at most so many pixels are averaged on each side."""
SHADOW_M, SHADOW_PX = 1500.0, 128
"""How far from a cloud its shadow is looked for, and at most how many pixels."""
CLOUDY = 0.5
DARK, DARK_VISIBLE, DARK_NIR = 0.6, 0.08, 0.18
"""Share of the scene's medians, and reflectance, below which a place near a cloud is its shadow."""
SAMPLE_SIDE = 1024


@dataclass(frozen=True, eq=False)
class CloudIndex:
    """Clouds and shadows by the image's own bands (see `cloud_probability`).

    Attributes:
        layer: of the optical image, on its own grid.
        source: the bands that are looked at, of the same file.
        names: red, green, blue and those of `HELPING`. gains, offsets: of each to reflectance.
        smooth: pixels averaged on each side. reach: pixels from a cloud to its shadow.
        medians: of the scene's brightness (red, green and blue together) and near infrared, without clouds.
        coarse: cloud or shadow in a decimated read of the whole image.
    """

    layer: Layer
    source: Source
    names: tuple[str, ...]
    gains: tuple[float, ...]
    offsets: tuple[float, ...]
    smooth: int
    reach: int
    medians: tuple[float, float] = (0.0, 0.0)
    share: float = 0.0
    coarse: Mask | None = field(default=None, repr=False)

    @classmethod
    def of(cls, layer: Layer, gsd_m: float) -> CloudIndex | None:
        """The index of an optical layer; None where pixels are too small, or not on the file's own grid."""
        if layer.placement.offset is None or gsd_m < FINEST_M:
            return None
        names, bands, gains, offsets = _looked_at(layer)
        facts, own = layer.source.facts, layer.source
        source = Source(facts, bands, own.nodata, own.every, own.zero, own.expand_palette)
        smooth = min(max(round(SMOOTH_M / gsd_m), 1), SMOOTH_PX)
        reach = min(max(round(SHADOW_M / gsd_m), 1), SHADOW_PX)
        draft = cls(layer, source, names, gains, offsets, smooth, reach)
        pixels, valid = source.decimated(SAMPLE_SIDE)
        seen = draft._reflectance(pixels)
        clear = valid & (cloud_probability(seen) < CLOUDY)
        brightness = _brightness(seen)
        medians = tuple(
            float(np.median(band[clear])) if clear.any() else 0.0 for band in (brightness, seen.get("nir", brightness))
        )
        draft = replace(draft, medians=(medians[0], medians[1]))
        thinned = max(layer.shape) / max(valid.shape)
        marked = draft._marked(pixels, valid, round(smooth / thinned), max(1, round(reach / thinned)))
        return replace(draft, share=float(marked.sum() / max(int(valid.sum()), 1)), coarse=marked)

    def __getstate__(self) -> dict[str, Any]:
        """What crosses to other processes: pixels stay, as only who aligns the images looks at them coarsely."""
        return {**self.__dict__, "coarse": None}

    @property
    def why(self) -> str:
        doubts = [] if "nir" in self.names else ["shadows not looked for"]
        # How bright a picture was made, nobody knows.
        picture = "8bit" in self.layer.scaling.name
        doubts += (
            [] if self.sure else [f"{'bright ground and snow look' if picture else 'snow looks'} like clouds to it"]
        )
        return "; ".join([f"index of {', '.join(self.names)}", *doubts])

    @property
    def sure(self) -> bool:
        """Whether snow is told from clouds."""
        return "swir" in self.names

    @property
    def file(self) -> None:
        return None

    def read(self, window: Window) -> Mask:
        """Cloud or shadow (H, W) in a window; a pixel does not depend on the window."""
        offset = self.layer.placement.offset
        assert offset is not None, "made for files on their own grid"
        halo = 2 * self.smooth + self.reach
        wide = window.moved(*offset).padded(halo)
        found = self._marked(*self.source.read(wide), self.smooth, self.reach)
        return found[halo:-halo, halo:-halo]

    def thinned(self, shape: tuple[int, int]) -> Mask:
        """Cloud or shadow in the whole grid, seen in fewer pixels (of `shape`)."""
        assert self.coarse is not None, "made by `of`, in this process"
        rows, cols = (middles(count, side) for count, side in zip(shape, self.coarse.shape, strict=True))
        thinned: Mask = self.coarse[np.ix_(rows, cols)]
        return thinned

    def _marked(self, pixels: Values, valid: Mask, smooth: int, reach: int) -> Mask:
        seen = self._reflectance(pixels)
        known = valid.astype(np.float32)
        likely = sums_around(np.where(valid, cloud_probability(seen), np.float32(0)), smooth)
        cloud = _grown(valid & (likely >= np.float32(CLOUDY) * np.maximum(sums_around(known, smooth), 1)), smooth)
        if "nir" in seen and cloud.any():
            visible, nir = (
                min(DARK * median, least) for median, least in zip(self.medians, (DARK_VISIBLE, DARK_NIR), strict=True)
            )
            dark = (_brightness(seen) < np.float32(visible)) & (seen["nir"] < np.float32(nir))
            land = seen["nir"] > seen["green"]
            cloud |= dark & land & _grown(cloud, reach)
        found: Mask = cloud & valid
        return found

    def _reflectance(self, pixels: Values) -> dict[str, Values]:
        return {
            name: band * np.float32(gain) + np.float32(offset)
            for name, band, gain, offset in zip(self.names, pixels, self.gains, self.offsets, strict=True)
        }


def middles(count: int, side: int) -> NDArray[np.int64]:
    """Which of `side` pixels lie at the middles of `count` equal parts of them."""
    return ((np.arange(count) + 0.5) * side / count).astype(np.int64)


def cloud_probability(seen: Mapping[str, Values]) -> Values:
    """0..1 for each pixel from reflectance of red, green, blue and, where given, nir, swir and cirrus."""
    red, green, blue = seen["red"], seen["green"], seen["blue"]
    mean = _brightness(seen)
    brightest = np.maximum(mean, np.float32(1e-3))
    whiteness = (np.abs(red - mean) + np.abs(green - mean) + np.abs(blue - mean)) / brightest
    haze = blue - np.float32(0.5) * red
    likely = _step(mean, 0.15, 0.25) * _step(haze, 0.07, 0.11) * (1 - _step(whiteness, 0.4, 0.7))
    likely = likely * _step(blue / np.maximum(red, np.float32(1e-3)), 0.76, 0.84)  # sand is redder than clouds
    if "nir" in seen:
        likely = likely * (1 - _step(_difference(seen["nir"], red), 0.5, 0.8))
    if "swir" in seen:
        likely = likely * (1 - _step(_difference(green, seen["swir"]), 0.55, 0.75))
        if "nir" in seen:
            likely = likely * _step(seen["nir"] / np.maximum(seen["swir"], np.float32(1e-3)), 0.8, 1.0)
    if "cirrus" in seen:
        likely = np.maximum(likely, _step(seen["cirrus"], 0.01, 0.03))
    probability: Values = likely.astype(np.float32)
    return probability


def _brightness(seen: Mapping[str, Values]) -> Values:
    mean: Values = (seen["red"] + seen["green"] + seen["blue"]) / np.float32(3)
    return mean


def _step(values: Values, low: float, high: float) -> Values:
    """0 up to `low`, 1 from `high`, linear in between."""
    rising: Values = np.clip((values - np.float32(low)) / np.float32(high - low), np.float32(0), np.float32(1))
    return rising


def _difference(one: Values, other: Values) -> Values:
    """Normalized difference of two bands."""
    total = np.maximum(np.abs(one) + np.abs(other), np.float32(1e-3))
    normalized: Values = (one - other) / total
    return normalized


def _grown(mask: Mask, reach: int) -> Mask:
    """Pixels at most `reach` rows and columns from one of the mask."""
    grown = mask.astype(np.uint8)
    for axis in (0, 1):
        grown = maximum_filter1d(grown, 2 * reach + 1, axis=axis, mode="constant", cval=0)
    found: Mask = grown > 0
    return found


def _looked_at(layer: Layer) -> tuple[tuple[str, ...], tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Names, bands, and gains and offsets to reflectance, of the bands that the index looks at."""
    facts, scaling = layer.source.facts, layer.scaling
    bands = dict(zip(COLORS, layer.choice.bands, strict=False))
    if layer.source.expand_palette:
        bands = {}
    else:
        for name, spellings in HELPING.items():
            for spelling in spellings:
                try:
                    bands.setdefault(name, find_band(facts, spelling))
                except MissingBand:
                    continue
        if layer.choice.why == "as asked for":  # colors may be false ones
            for name in COLORS:
                try:
                    bands[name] = find_band(facts, name)
                except MissingBand:
                    continue
    if not scaling.name.startswith("reflectance"):
        # pictures: what is shown as 255 is taken for bright reflectance, and only the colors are of one scale
        gain = BRIGHT_REFLECTANCE / (scaling.high[0] - scaling.low[0])
        count = len(COLORS)
        used = layer.choice.bands if bands else (1,)
        return COLORS, used, (gain * scaling.gain,) * count, (gain * (scaling.offset - scaling.low[0]),) * count
    told = facts.product is not None and facts.product.meaning == "reflectance"
    used = tuple(bands.values())
    gains = tuple(facts.scales[band - 1] if told else scaling.gain for band in used)
    offsets = tuple(facts.offsets[band - 1] if told else scaling.offset for band in used)
    return tuple(bands), used, gains, offsets
