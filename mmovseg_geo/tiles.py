"""Which pixels: the windows that cover a scene, and the pixels of one window or of a batch of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.grid import Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Sensor = Literal["optical", "sar"]
Sensors = Literal["optical", "sar", "both"]
Blend = Literal["linear", "cosine", "uniform"]
OpticalScale = Literal["auto", "8bit", "reflectance", "reflectance-10000", "reflectance-10000-offset", "stretch"]
SarScale = Literal["auto", "db", "power", "amplitude", "8bit"]
Speckle = Literal["none", "lee", "refined-lee", "gamma-map"]

SIDE_MULTIPLE = 32
"""Networks halve a tile up to five times."""


@dataclass(frozen=True)
class Tiling:
    """Square windows of `size` pixels that overlap by `overlap`, blended by weights that fall toward the edges."""

    size: int = 512
    overlap: int = 64
    blend: Blend = "linear"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"Tile size {self.size} is not positive; give a number of pixels such as 512.")
        if not 0 <= self.overlap < self.size:
            raise ConfigError(
                f"Overlap {self.overlap} does not fit tiles of {self.size} pixels; give 0 to {self.size - 1}."
            )

    def fitted(self, shape: tuple[int, int]) -> Tiling:
        """No larger tiles than a grid of `shape` can fill, so that a small scene is not mostly padding."""
        size = -(-max(shape) // SIDE_MULTIPLE) * SIDE_MULTIPLE
        return self if size >= self.size else replace(self, size=size, overlap=min(self.overlap, size - 1))

    def starts(self, length: int) -> list[int]:
        """First pixels of the windows along a side of `length` pixels; the last slides back to stay inside."""
        if length <= self.size:
            return [0]
        starts = list(range(0, length - self.size, self.size - self.overlap))
        return [*starts, length - self.size]

    def windows(self, shape: tuple[int, int]) -> Iterator[Window]:
        """Windows over a grid of `shape` (height, width) in row-major order, all of one size.

        Only along a side shorter than a tile does a window reach beyond the grid.
        """
        columns = self.starts(shape[1])
        for row in self.starts(shape[0]):
            for col in columns:
                yield Window(row, col, self.size, self.size)

    def bands(self, length: int) -> list[tuple[int, ...]]:
        """First rows of the windows along a side, those together that a column is better finished with.

        A last window that slid back shares most of its rows with the one before it. Column by column both are done
        at once; one after the other all that they share had to be kept, across the whole scene.
        """
        starts = self.starts(length)
        if len(starts) > 1 and starts[-1] - starts[-2] < self.size - self.overlap:
            return [*((start,) for start in starts[:-2]), (starts[-2], starts[-1])]
        return [(start,) for start in starts]

    def count(self, shape: tuple[int, int]) -> int:
        """How many windows cover a grid of `shape`."""
        return len(self.starts(shape[0])) * len(self.starts(shape[1]))


@dataclass(frozen=True, eq=False)
class Tile:
    """Pixels of one window. An absent sensor is None, with its validity.

    Attributes:
        optical: (3, H, W) float32, red green blue, 0..255 as an 8-bit picture would hold them.
        sar: (C, H, W) float32, 0..255 linear in dB; band 0 co-polarized, band 1 (if any) cross-polarized.
        optical_valid: (H, W) bool. Invalid pixels hold 0 in every band.
        sar_valid: (H, W) bool.
        gsd_m: ground sampling distance in meters.
    """

    window: Window
    optical: NDArray[np.float32] | None
    sar: NDArray[np.float32] | None
    optical_valid: NDArray[np.bool_] | None
    sar_valid: NDArray[np.bool_] | None
    gsd_m: float

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(H, W) bool: pixels that at least one sensor saw."""
        return either(self.optical_valid, self.sar_valid)

    def seen_by(self, sensors: Collection[Sensor]) -> NDArray[np.bool_]:
        """(H, W) bool: pixels that at least one of these sensors saw; the tile carries at least one of them."""
        return either(
            self.optical_valid if "optical" in sensors else None, self.sar_valid if "sar" in sensors else None
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Tiles stacked on a first axis B, with their windows; see `Tile` for ranges."""

    windows: tuple[Window, ...]
    optical: NDArray[np.float32] | None
    sar: NDArray[np.float32] | None
    optical_valid: NDArray[np.bool_] | None
    sar_valid: NDArray[np.bool_] | None
    gsd_m: float

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(B, H, W) bool: pixels that at least one sensor saw."""
        return either(self.optical_valid, self.sar_valid)

    def seen_by(self, sensors: Collection[Sensor]) -> NDArray[np.bool_]:
        """(B, H, W) bool: pixels that at least one of these sensors saw; the batch carries at least one of them."""
        return either(
            self.optical_valid if "optical" in sensors else None, self.sar_valid if "sar" in sensors else None
        )

    def part(self, first: int, below: int) -> Batch:
        """The tiles from the first to before another."""
        some = slice(first, below)

        def cut(pixels: Any) -> Any:
            return None if pixels is None else pixels[some]

        return Batch(
            self.windows[some],
            cut(self.optical),
            cut(self.sar),
            cut(self.optical_valid),
            cut(self.sar_valid),
            self.gsd_m,
        )

    @classmethod
    def stack(cls, tiles: Sequence[Tile]) -> Batch:
        """A batch of tiles of one scene, so that all have the same sensors, shape and ground sampling distance."""
        import numpy as np

        def stacked(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
            present = [part for part in parts if part is not None]
            return np.stack(present) if present else None

        return cls(
            windows=tuple(tile.window for tile in tiles),
            optical=stacked([tile.optical for tile in tiles]),
            sar=stacked([tile.sar for tile in tiles]),
            optical_valid=stacked([tile.optical_valid for tile in tiles]),
            sar_valid=stacked([tile.sar_valid for tile in tiles]),
            gsd_m=tiles[0].gsd_m,
        )


def either(first: NDArray[np.bool_] | None, second: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Where one of two masks holds; an absent sensor (None) holds nowhere."""
    if first is not None and second is not None:
        return first | second
    mask = first if first is not None else second
    assert mask is not None, "a tile has at least one sensor"
    return mask
