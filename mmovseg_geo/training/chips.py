"""Training chips in memory: both sensors and labels, a byte for every value.

Shape suffixes: N chips, C bands, H rows, W columns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.simulate import simulate

logger = logging.getLogger(__name__)
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

UNKNOWN = 255
"""The label of a pixel that nothing is known about."""
SAR_LOWEST_DB, SAR_STEP_DB = -40.0, 0.2


@dataclass(frozen=True, eq=False)
class Chips:
    """Chips of one size.

    `optical` (N, 3, H, W) is the square root of reflectance in 0..255, `sar` (N, 2, H, W) dB in steps of 0.2 from
    -40; `labels` (N, H, W) index the label table of `concepts.yaml`, 255 unknown; `has_optical` and `has_sar` say
    which sensors a chip has, `gsd_m` (N,) its ground sampling distance, `has_clouds` whether clouds are on it already.
    """

    optical: Bytes
    sar: Bytes
    labels: Bytes
    gsd_m: Floats
    has_optical: NDArray[np.bool_]
    has_sar: NDArray[np.bool_]
    has_clouds: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def join(cls, parts: Iterable[Chips]) -> Chips:
        """All chips of the parts, in order."""
        listed = list(parts)
        return cls(*(np.concatenate([getattr(part, name) for part in listed]) for name in FIELDS))

    def chosen(self, rows: NDArray[np.int64]) -> Chips:
        """The chips of the given numbers."""
        return Chips(*(getattr(self, name)[rows] for name in FIELDS))

    def save(self, path: Path) -> None:
        """Write an uncompressed `.npz`; a half-written file never has the name."""
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **{name: getattr(self, name) for name in FIELDS})
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Chips:
        """What `save` wrote."""
        with np.load(path) as kept:
            return cls(*(kept[name] for name in FIELDS))


FIELDS = ("optical", "sar", "labels", "gsd_m", "has_optical", "has_sar", "has_clouds")


def packed_reflectance(reflectance: Floats) -> Bytes:
    """Reflectance 0..1 to bytes, finer where it is dark."""
    return np.asarray(np.round(255 * np.sqrt(np.clip(reflectance, 0, 1))), np.uint8)


def packed_db(db: Floats) -> Bytes:
    """Backscatter in dB to bytes."""
    return np.asarray(np.clip(np.round((db - SAR_LOWEST_DB) / SAR_STEP_DB), 0, 255), np.uint8)


@dataclass(frozen=True)
class SimulatedChips:
    """How many chips are simulated, and of what.

    Attributes:
        gsd_m: distances that are drawn more often, as (distance, share); the rest is log-uniform over `gsd_range_m`.
        cloudy: share of the chips with clouds.
    """

    count: int = 4000
    size: int = 256
    gsd_m: tuple[tuple[float, float], ...] = ((10.0, 0.35), (30.0, 0.12), (5.0, 0.08))
    gsd_range_m: tuple[float, float] = (0.25, 30.0)
    cloudy: float = 0.33
    misregistration: float = 2.0
    seed: int = 1000
    shard: int = 128

    def make(self, folder: Path, *, processes: int = 1) -> list[Path]:
        """Shards of chips in `folder`; those that are there already are kept."""
        folder.mkdir(parents=True, exist_ok=True)
        shards = [folder / f"simulated_{start:06d}.npz" for start in range(0, self.count, self.shard)]
        missing = [index for index, path in enumerate(shards) if not path.is_file()]
        start = time.monotonic()
        with ProcessPoolExecutor(processes) as pool:
            for done, _ in enumerate(pool.map(self._write, [shards[i] for i in missing], missing), start=1):
                logger.info("simulated %d/%d shards  %.0f s", done, len(missing), time.monotonic() - start)
        return shards

    def _write(self, path: Path, shard: int) -> None:
        first = shard * self.shard
        Chips.join(self.chip(index) for index in range(first, min(first + self.shard, self.count))).save(path)

    def chip(self, index: int) -> Chips:
        """One chip, the same for the same number."""
        rng = np.random.Generator(np.random.PCG64([self.seed, index]))
        gsd_m = self._draw_gsd(rng)
        clouds = float(rng.uniform(0.1, 0.8)) if rng.random() < self.cloudy else 0.0
        scene = simulate(
            (self.size, self.size),
            gsd_m=gsd_m,
            seed=int(rng.integers(2**31)),
            clouds=clouds,
            misregistration=self.misregistration if rng.random() < 0.5 else 0.0,
        )
        yes = np.ones(1, bool)
        return Chips(
            packed_reflectance(scene.optical)[None],
            packed_db(scene.sar)[None],
            scene.labels[None],
            np.array([gsd_m], np.float32),
            yes,
            yes,
            np.array([clouds > 0]),
        )

    def _draw_gsd(self, rng: np.random.Generator) -> float:
        pick = rng.random()
        for gsd_m, share in self.gsd_m:
            pick -= share
            if pick < 0:
                return gsd_m * float(np.exp(rng.normal(0, 0.03)))
        return float(np.exp(rng.uniform(*np.log(self.gsd_range_m))))


def load_all(paths: Sequence[Path]) -> Chips:
    """The chips of several files."""
    return Chips.join(Chips.load(path) for path in paths)
