"""What a message advises."""

from __future__ import annotations

import pytest

from mmovseg_geo.errors import a_few, did_you_mean, is_out_of_memory

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


def test_a_long_list_is_cut_and_counted() -> None:
    assert a_few(range(6)) == "0, 1, 2, 3, 4, 5"
    assert a_few(range(9)) == "0, 1, 2, 3, 4, 5 and 3 more"


def test_memory_that_torch_cannot_have_is_no_bug() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))
