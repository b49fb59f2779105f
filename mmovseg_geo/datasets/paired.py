"""Paired chips on disk: optical, SAR and labels of the same place, described by a few lines of YAML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.rasters.source import Source, probe

Floats = NDArray[np.float32]
WHOLE = 1_000_000
"""Longer than any chip is: read without decimation."""


@dataclass(frozen=True)
class PairedDataset:
    """Files of one dataset, paired by the name that `{id}` stands for.

    Attributes:
        ids: names of the chips; or `manifest` names a JSON list of `{id, place_cluster}`.
        optical, sar, labels: paths relative to the data folder with `{id}`, or None where there is no such sensor.
        bands: 1-based red, green and blue of the optical files.
        gain: what a stored optical value is multiplied by to become reflectance.
        water_bands: 1-based green and short-wave infrared, from which open water is told (MNDWI).
        values: label value to label name of the concepts; others are unknown.
        reduce: pixels along one axis that are averaged to one.
        left_out_clusters: place clusters of the manifest that training does not see.
    """

    name: str
    gsd_m: float
    ids: tuple[str, ...] = ()
    manifest: str | None = None
    optical: str | None = None
    sar: str | None = None
    labels: str | None = None
    bands: tuple[int, int, int] = (1, 2, 3)
    gain: float = 1.0
    water_bands: tuple[int, int] | None = None
    values: Mapping[int, str] = field(default_factory=dict)
    reduce: int = 1
    left_out_clusters: tuple[int, ...] = ()

    def split(self, root: Path) -> tuple[list[str], list[str]]:
        """Names of the chips of training, and of those left out: whole place clusters."""
        if self.manifest is None:
            return list(self.ids), []
        path = root / self.manifest
        if not path.is_file():
            raise ConfigError(f"{path}: no such manifest. Give the data folder as `data` or in MMOVSEG_SHARED.")
        entries = json.loads(path.read_text(encoding="utf-8"))
        left_out = {entry["id"] for entry in entries if entry["place_cluster"] in self.left_out_clusters}
        names = [str(entry["id"]) for entry in entries]
        return [name for name in names if name not in left_out], [name for name in names if name in left_out]

    def read(self, root: Path, names: list[str]) -> Iterator[PairedChip]:
        """The chips of these names."""
        for name in names:
            optical = None if self.optical is None else self._optical(root, name)
            sar = None if self.sar is None else _bands(root / self.sar.format(id=name), (1, 2))
            labels = None if self.labels is None else self._labels(root, name)
            water = None if self.water_bands is None else self._water_index(root, name)
            yield PairedChip(optical, sar, labels, water, self.gsd_m * self.reduce)

    def _optical(self, root: Path, name: str) -> Floats:
        assert self.optical is not None, "asked for only where there is optical"
        bands = _bands(root / self.optical.format(id=name), self.bands) * self.gain
        return _averaged(bands, self.reduce)

    def _labels(self, root: Path, name: str) -> NDArray[np.uint8]:
        assert self.labels is not None, "asked for only where there are labels"
        labels = _bands(root / self.labels.format(id=name), (1,))[0]
        middle = slice(self.reduce // 2, None, self.reduce)
        return np.asarray(labels[middle, middle], np.uint8)

    def _water_index(self, root: Path, name: str) -> Floats:
        assert self.optical is not None, "asked for only where there is optical"
        assert self.water_bands is not None, "asked for only where there are such bands"
        green, infrared = _bands(root / self.optical.format(id=name), self.water_bands)
        return np.asarray((green - infrared) / np.maximum(np.abs(green) + np.abs(infrared), 1), np.float32)


@dataclass(frozen=True, eq=False)
class PairedChip:
    """One chip: `optical` (3, H, W) reflectance, `sar` (2, H, W) dB, `labels` (H, W) as stored, `water_index` (H, W).

    What a dataset does not have is None.
    """

    optical: Floats | None
    sar: Floats | None
    labels: NDArray[np.uint8] | None
    water_index: Floats | None
    gsd_m: float


def _bands(path: Path, bands: tuple[int, ...]) -> Floats:
    return Source(probe(str(path)), bands).decimated(WHOLE)[0]


def _averaged(bands: Floats, by: int) -> Floats:
    count, height, width = bands.shape
    cut = bands[:, : height // by * by, : width // by * by]
    return np.asarray(cut.reshape(count, height // by, by, width // by, by).mean((2, 4)), np.float32)
