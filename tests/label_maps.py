"""Label maps in memory, for tests of what is made from labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from mmovseg_geo.vocabulary import Vocabulary

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)


@dataclass(frozen=True, eq=False)
class MapInMemory:
    """Stands for a `LabelRaster` whose pixels are an array."""

    labels: np.ndarray
    grid: GeoBox
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary.of("water,forest,building"))
    path: Path = Path("scene_labels.tif")

    def read(self, window=None):
        return self.labels if window is None else self.labels[window.slices]


def map_of(labels, affine: Affine = UTM, crs: str | None = "EPSG:32633") -> MapInMemory:
    """A map of rows of class ids; UTM pixels of 10 m unless said otherwise."""
    array = np.array(labels, np.uint8)
    return MapInMemory(array, GeoBox(array.shape, affine, crs))
