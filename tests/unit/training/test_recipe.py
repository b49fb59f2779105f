"""Recipes that differ from another one in a few words."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.training.real import RealChips
from mmovseg_geo.training.recipe import read_recipe

RECIPES = Path(__file__).resolve().parents[3] / "configs" / "train"
BUNDLED = RECIPES / "mmovseg-compact.yaml"


def beside_the_bundled(folder: Path, text: str) -> Path:
    """A recipe with that text in a folder that has the bundled one too."""
    shutil.copy(BUNDLED, folder)
    path = folder / "other.yaml"
    path.write_text(text)
    return path


def test_a_recipe_has_the_settings_of_the_one_it_extends(tmp_path: Path) -> None:
    path = beside_the_bundled(tmp_path, "extends: mmovseg-compact.yaml")
    bundled = read_recipe(tmp_path / BUNDLED.name)
    assert read_recipe(path) == bundled
    settings = "licence: MIT\nrounds: []\noptimization: {steps: 7, blend_step: null}"
    path.write_text(f"extends: mmovseg-compact.yaml\n{settings}")
    other = read_recipe(path)
    assert (other.licence, other.num_steps, other.real) == ("MIT", 7, bundled.real)
    # What a group of settings does not name stays as it was.
    assert other.optimization == replace(bundled.optimization, steps=7, blend_step=None)


def test_single_settings_of_real_chips_are_changed_by_name(tmp_path: Path) -> None:
    text = "extends: mmovseg-compact.yaml\nreal: {hls_worldcover: {left_out_clusters: [0, 4], copies: 1}}"
    changed, bundled = read_recipe(beside_the_bundled(tmp_path, text)).real, read_recipe(BUNDLED).real
    assert isinstance(changed[0], RealChips)
    assert isinstance(bundled[0], RealChips)
    dataset = replace(bundled[0].dataset, left_out_clusters=(0, 4))
    assert changed == (replace(bundled[0], dataset=dataset, copies=1), *bundled[1:])


def places(recipe: str) -> tuple[set[int], set[int]]:
    """Clusters that are left out, and those of calibration."""
    real = read_recipe(RECIPES / recipe).real[0]
    assert isinstance(real, RealChips)
    return set(real.dataset.left_out_clusters), set(real.calibration_clusters)


def test_every_place_is_left_out_by_one_fold() -> None:
    folds = [places(f"mmovseg-compact{fold}.yaml") for fold in ("", "-fold2", "-fold3")]
    left_out = [fold for fold, _ in folds]
    assert sum(map(len, left_out)) == len(set.union(*left_out)) == 63
    assert all(not fold & calibration for fold, calibration in folds)


def test_a_run_does_not_go_on_when_the_recipe_extended_has_changed(tmp_path: Path) -> None:
    path = beside_the_bundled(tmp_path, "extends: mmovseg-compact.yaml")
    before = read_recipe(path).digest
    (tmp_path / BUNDLED.name).write_text(BUNDLED.read_text() + "processes: 1\n")
    assert read_recipe(path).digest != before


def test_buildings_are_all_that_the_recipe_without_them_lacks() -> None:
    bundled, without = read_recipe(BUNDLED), read_recipe(RECIPES / "mmovseg-compact-without-buildings.yaml")
    names = [source.name for source in bundled.real]
    names.remove("rgb_buildings")
    assert [source.name for source in without.real] == names
    assert (without.rounds, without.optimization) == (bundled.rounds, bundled.optimization)
    assert set(bundled.sources) - set(without.sources) == {
        "OpenAerialMap orthophoto, Kampala (CC-BY-4.0) with OpenStreetMap building footprints (ODbL)"
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("extends: other.yaml", "another recipe in the same folder"),
        ("extends: ../train/mmovseg-compact.yaml", "another recipe in the same folder"),
        ("extends: missing.yaml", "missing.yaml"),
        ("extends: mmovseg-compact.yaml\nwithout: [roofs]", "no real chips named 'roofs'.*rgb_buildings"),
        ("extends: mmovseg-compact.yaml\nwithout: roofs", "give a list"),
        ("extends: mmovseg-compact.yaml\nreal: {roofs: {copies: 1}}", "no real chips named 'roofs'.*rgb_buildings"),
        ("real: {rgb_buildings: {copies: 2}}", "say which recipe's with `extends: FILE`"),
        ("extends: mmovseg-compact.yaml\nreal: {rgb_buildings: 1}", "give a mapping of settings"),
        ("extends: mmovseg-compact.yaml\nlicense: MIT", "licence"),
    ],
)
def test_what_cannot_be_extended_or_left_out_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_recipe(beside_the_bundled(tmp_path, text))
