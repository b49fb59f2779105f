"""A scene that lives in memory, for tests of what happens to its tiles."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from mmovseg_geo.tiles import Tile


class MemoryScene:
    """A gray optical scene, and optionally SAR, held as arrays with NaN where there is no data."""

    def __init__(self, optical=None, sar=None):
        self.layers = {"optical": optical, "sar": sar}
        shape = next(layer.shape for layer in (optical, sar) if layer is not None)
        self.grid, self.shape = SimpleNamespace(shape=shape), shape
        self.sensors = frozenset(name for name, layer in self.layers.items() if layer is not None)
        self.name = "memory"
        self.reads, self.remote = 0, False

    def read(self, window):
        self.reads += 1
        pixels = {"optical": (None, None), "sar": (None, None)}
        for name, bands in (("optical", 3), ("sar", 2)):
            layer = self.layers[name]
            if layer is not None:
                tile = np.full(window.shape, np.nan, dtype=np.float32)
                part = layer[window.slices]
                tile[: part.shape[0], : part.shape[1]] = part
                valid = ~np.isnan(tile)
                pixels[name] = (np.stack([np.where(valid, tile, 0)] * bands), valid)
        (optical, optical_valid), (sar, sar_valid) = pixels["optical"], pixels["sar"]
        return Tile(window, optical, sar, optical_valid, sar_valid, 10.0)

    def cache_bytes(self, rows):
        return 64 * 2**20
