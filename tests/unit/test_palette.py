"""Colors of classes: what a map reader expects, and all different."""

from __future__ import annotations

import colorsys
from itertools import islice, pairwise

import pytest

from mmovseg_geo.errors import VocabularyError
from mmovseg_geo.palette import color_wheel, expected_color, normalized_color
from mmovseg_geo.vocabulary import Vocabulary


def hue(color: str) -> float:
    return colorsys.rgb_to_hls(*(int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)))[0]


def test_water_is_blue_and_forest_green():
    water, forest = (entry.color for entry in Vocabulary.of("water,forest").classes)
    assert 0.5 < hue(water) < 0.7
    assert 0.25 < hue(forest) < 0.45


def test_the_last_noun_names_the_thing():
    assert expected_color(("forest road",), ()) == expected_color(("road",), ())


def test_a_synonym_tells_the_color_too():
    assert expected_color(("abode", "house"), ()) == expected_color(("building",), ())


def test_a_taken_color_is_not_given_again():
    lake, river = (entry.color for entry in Vocabulary.of("lake,river").classes)
    assert lake != river


def test_words_without_an_expectation_have_none():
    assert expected_color(("zeppelin",), ()) == ""


def test_a_given_color_is_kept_and_not_given_to_others():
    entries = [{"name": "water"}, {"name": "lava", "color": "#3f7fbf"}]
    water, lava = (entry.color for entry in Vocabulary.from_entries(entries).classes)
    assert lava == "#3f7fbf"
    assert water != lava


def test_thousands_of_classes_have_colors_of_their_own():
    colors = [entry.color for entry in Vocabulary.of([f"thing {number}" for number in range(4000)]).classes]
    assert len(set(colors)) == 4000


def test_neighbors_on_the_wheel_are_far_in_hue():
    hues = [hue(color) for color in islice(color_wheel(), 40)]
    assert all(abs(one - other) > 0.2 for one, other in pairwise(hues))


@pytest.mark.parametrize(
    ("text", "color"),
    [("#ABC", "#aabbcc"), ("#0a0b0c", "#0a0b0c"), ("10, 11,12", "#0a0b0c"), ("(10,11,12)", "#0a0b0c"), ("", "")],
)
def test_colors_are_written_in_one_way(text, color):
    assert normalized_color(text, "water") == color


@pytest.mark.parametrize("text", ["blue", "#12", "256,0,0", "1,2"])
def test_what_is_no_color_is_refused(text):
    with pytest.raises(VocabularyError, match="water"):
        normalized_color(text, "water")
