"""A scene under construction: which object every pixel belongs to, and what the objects are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.simulate.land_covers import INDEX
from mmovseg_geo.simulate.noise import Field, fractal

Mask = NDArray[np.bool_]
ObjectIds = NDArray[np.int32]


@dataclass(frozen=True)
class Setting:
    """What is the same all over one scene: season, light, wind, sensor geometry and the shares of land use."""

    water: float
    river: float
    forest: float
    farm: float
    town: float
    arid: float
    snow: float
    flood: float
    coast: bool
    dryness: float
    mud: float
    wind: float
    relief: float
    sun_azimuth: float
    sun_elevation: float
    look_azimuth: float
    incidence: float


@dataclass
class Canvas:
    """Pixels as objects: `objects` (H, W) are rows of the growing list `covers`.

    `x`, `y` are meters (H, W). `shade` multiplies the optical brightness, `height` is meters above ground (NaN: that of
    the object's land cover), `terrain` is the ground in meters, `thin` are (object, coverage 0..1) of what is narrower
    than a pixel.
    """

    rng: np.random.Generator
    shape: tuple[int, int]
    gsd_m: float
    setting: Setting
    terrain: Field
    x: Field = field(init=False)
    y: Field = field(init=False)
    objects: ObjectIds = field(init=False)
    shade: Field = field(init=False)
    height: Field = field(init=False)
    covers: list[int] = field(default_factory=list)
    thin: list[tuple[int, Field]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows, cols = self.shape
        offset = self.rng.uniform(0, 1e4, 2)
        self.y = np.broadcast_to((np.arange(rows, dtype=np.float32) * self.gsd_m + offset[0])[:, None], self.shape)
        self.x = np.broadcast_to((np.arange(cols, dtype=np.float32) * self.gsd_m + offset[1])[None, :], self.shape)
        self.objects = np.zeros(self.shape, np.int32)
        self.shade = np.ones(self.shape, np.float32)
        self.height = np.full(self.shape, np.nan, np.float32)

    @property
    def extent_m(self) -> float:
        return float(min(self.shape) * self.gsd_m)

    def add(self, *names: str, each: int = 1) -> int:
        """Make `each` objects of every named land cover; the first one's number."""
        first = len(self.covers)
        for name in names:
            self.covers += [INDEX[name]] * each
        return first

    def add_choice(self, weights: dict[str, float], n: int) -> int:
        """Make `n` objects whose land covers are drawn by weight; the first one's number."""
        first = len(self.covers)
        names = list(weights)
        share = np.array([weights[name] for name in names])
        drawn = self.rng.choice(len(names), n, p=share / share.sum())
        self.covers += [INDEX[names[k]] for k in drawn]
        return first

    def paint(self, where: Mask, objects: int | np.ndarray, height: float = np.nan) -> None:
        """Give the pixels of a mask to an object (or to an object each), flat and unshaded."""
        np.copyto(self.objects, np.asarray(objects, np.int32), where=where)
        np.copyto(self.shade, np.float32(1), where=where)
        np.copyto(self.height, np.float32(height), where=where)

    def is_cover(self, *names: str) -> Mask:
        """Pixels whose object is one of the named land covers."""
        wanted = np.isin(np.array(self.covers), [INDEX[name] for name in names])
        return np.asarray(wanted[self.objects])

    def rotated(self, angle: float) -> tuple[Field, Field]:
        """Coordinates in meters along and across a direction."""
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return self.x * c + self.y * s, self.y * c - self.x * s

    def bent(self, coordinate: Field, wavelength_m: float, amplitude_m: float) -> Field:
        """The coordinate with smooth bends; in a picture smaller than the wavelength only a part of a bend is seen."""
        bends = fractal(self.rng, self.shape, wavelength_m / self.gsd_m, 2.8)
        # Steeper bends would fold the coordinate over: roads would close into rings.
        slope = float(np.abs(np.diff(bends[::4], axis=1)).max(initial=0.0)) / self.gsd_m
        amplitude = min(amplitude_m * min(1.0, self.extent_m / wavelength_m), 0.6 / max(slope, 1e-9))
        return np.asarray(coordinate + np.float32(amplitude) * bends, np.float32)

    def feature_m(self, low: float, high: float) -> float:
        """A feature size that this scene can show: between bounds in meters, and within the picture."""
        size = self.extent_m * self.rng.uniform(0.35, 1.6)
        return float(np.clip(size, low, high))
