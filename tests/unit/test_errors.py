"""What a message advises."""

from __future__ import annotations

import pytest

from mmovseg_geo.errors import did_you_mean

KNOWN = ["threshold", "ViT-B-16", "segearth-ov"]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("treshold", "Did you mean threshold?"),
        ("SegEarth-OV", "Did you mean segearth-ov?"),
        ("vit-b16", "Did you mean ViT-B-16?"),
        ("water", "Known: threshold, ViT-B-16, segearth-ov."),
    ],
)
def test_advice_is_the_likeliest_name_or_else_all_of_them(name: str, advice: str) -> None:
    assert did_you_mean(name, KNOWN) == advice


def test_a_sentence_may_stand_for_a_list_that_is_long() -> None:
    assert did_you_mean("water", KNOWN, otherwise="See the manual.") == "See the manual."
    assert did_you_mean("treshold", KNOWN, otherwise="See the manual.") == "Did you mean threshold?"
