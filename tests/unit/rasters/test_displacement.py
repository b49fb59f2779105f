"""Content moved everywhere alike, linearly or by a field; and how that is written down and read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from affine import Affine

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.displacement import LATTICE, Displacement, Field
from mmovseg_geo.rasters.placement import AffineLocator, place

GRID = Affine(10, 0, 500000, 0, -10, 5000000)
SHAPE = (200, 300)
TURNED = Displacement((1.5, -2.0), ((0.01, 0.002), (-0.003, 0.02)), (100.0, 150.0))
BENT = Displacement((1.0, 2.0), field=Field(LATTICE, ((0.0, 1.0), (2.0, -1.0)), ((0.5, 0.0), (0.0, 0.0))))
WHOLE = Window(0, 0, *SHAPE)


def placed(displacement):
    return place(GRID, SHAPE, AffineLocator(~GRID), shift=displacement)


@pytest.mark.parametrize("displacement", [Displacement((2.0, 3.0)), TURNED, BENT])
def test_content_is_looked_up_where_it_lies_now(displacement):
    rows, cols = placed(displacement).centers(WHOLE)
    at = np.mgrid[0:200, 0:300] + 0.5
    down, right = displacement.at(*at)
    np.testing.assert_allclose(rows, at[0] - down, atol=1e-6)
    np.testing.assert_allclose(cols, at[1] - right, atol=1e-6)


@pytest.mark.parametrize("displacement", [TURNED, BENT])
def test_a_pixel_comes_from_one_place_in_every_window(displacement):
    placement = placed(displacement)
    whole, part = placement.centers(WHOLE), placement.centers(Window(37, 91, 50, 60))
    for every, some in zip(whole, part, strict=True):
        np.testing.assert_array_equal(every[37:87, 91:151], some)


def test_an_affine_motion_stays_one_transform_and_a_field_takes_a_lattice():
    assert placed(TURNED).affine is not None
    assert placed(BENT).affine is None
    assert placed(BENT).step == LATTICE


def test_whole_pixels_are_read_without_resampling():
    assert placed(Displacement((2.0, -3.0))).offset == (-2, 3)


def test_a_placement_is_displaced_from_where_the_file_places_it():
    once = place(GRID, SHAPE, AffineLocator(~GRID), shift=(5.0, 5.0)).displaced(Displacement((2.0, 3.0)), SHAPE)
    assert once.offset == (-2, -3)


def test_a_field_is_linear_between_its_nodes_and_constant_beyond():
    rows, cols = BENT.field.at(np.array([0.0, 32.0, 64.0, 500.0]), np.array([0.0, 32.0, 0.0, 500.0]))
    np.testing.assert_allclose(rows, [0.0, 0.5, 2.0, -1.0])
    np.testing.assert_allclose(cols, [0.5, 0.125, 0.0, 0.0])


@pytest.mark.parametrize("displacement", [Displacement((2.0, 3.5)), TURNED, BENT])
def test_what_is_written_is_read_back(displacement):
    assert Displacement.from_json(json.loads(json.dumps(displacement.to_json()))) == displacement


@pytest.mark.parametrize(
    "told",
    [
        [],
        {},
        {"shift": [1, "x"], "matrix": [[0, 0], [0, 0]], "center": [0, 0]},
        {"shift": [1, float("nan")], "matrix": [[0, 0], [0, 0]], "center": [0, 0]},
        {**BENT.to_json(), "field": {"spacing": 10, "rows": [[0]], "cols": [[0]]}},
        {**BENT.to_json(), "field": {"spacing": 64, "rows": [[0, 1]], "cols": [[0]]}},
    ],
)
def test_anything_else_is_refused(told):
    with pytest.raises(ConfigError):
        Displacement.from_json(told)


def test_models_have_names_and_nothing_is_still():
    assert [one.model for one in (Displacement((1, 2)), TURNED, BENT)] == ["shift", "affine", "field"]
    assert Displacement().still
    assert not TURNED.still
