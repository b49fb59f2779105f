"""Real images as chips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from mmovseg_geo.training.chips import SAR_LOWEST_DB, SAR_STEP_DB, UNKNOWN
from mmovseg_geo.training.concepts import Concepts, read_concepts
from mmovseg_geo.training.real import RadarWater

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def concepts() -> Concepts:
    return read_concepts(ROOT / "configs" / "train" / "compact-concepts.yaml")


def radar(folder: Path, vh_db: np.ndarray) -> RadarWater:
    """VV is 6 dB above VH; 0 dB has an amplitude of 1000."""
    amplitudes = {"vv": 1000 * 10 ** ((vh_db + 6) / 20), "vh": 1000 * 10 ** (vh_db / 20)}
    for name, values in amplitudes.items():
        height, width = values.shape
        options = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": height, "width": width}
        with rasterio.open(folder / f"{name}.tif", "w", **options) as target:
            target.write(np.round(values).astype(np.uint16), 1)
    return RadarWater(
        "sea", 0.1, "vv.tif", "vh.tif", 60, water_below_db=-22, dry_above_db=-18, gsd_m=20, looks=(1e5, 2e5)
    )


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_radar_tells_water_from_land_and_nothing_between(tmp_path, concepts):
    vh_db = np.full((32, 96), -26.0)
    vh_db[:, 32:64], vh_db[:, 64:] = -20, -14
    chips = radar(tmp_path, vh_db).make(tmp_path, concepts, 32)
    assert chips.labels.shape == (5, 32, 32)
    water, between, land = chips.labels[0], chips.labels[2], chips.labels[4]
    assert (water[:, :-4] == concepts.number("worldcover 80")).all()
    assert (between[:, 4:-4] == UNKNOWN).all()
    assert (land[:, 4:] == concepts.number("dry")).all()
    db = chips.sar[0].astype(float) * SAR_STEP_DB + SAR_LOWEST_DB
    assert np.abs(db - np.array([-20, -26])[:, None, None]).max() < 0.5
    assert not chips.has_optical.any()
    assert chips.has_sar.all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_chips_beyond_the_swath_are_left_out(tmp_path, concepts):
    vh_db = np.full((32, 64), -14.0)
    vh_db[:, 40:] = -200
    assert len(radar(tmp_path, vh_db).make(tmp_path, concepts, 32)) == 1


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_coast_of_kerala_has_sea_and_land(shared, concepts):
    from mmovseg_geo.training.recipe import read_recipe

    recipe = read_recipe(ROOT / "configs" / "train" / "mmovseg-compact.yaml")
    real = next(real for real in recipe.real if isinstance(real, RadarWater))
    chips = real.make(shared / "data", concepts, 256)
    sea = (chips.labels == concepts.number("worldcover 80")).mean((1, 2))
    dry = (chips.labels == concepts.number("dry")).mean((1, 2))
    assert sea.max() > 0.5
    assert dry.max() > 0.95
    assert 0.02 < sea.mean() < 0.4
