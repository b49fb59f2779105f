"""Keys of other layouts, and state dicts that do not fit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models.state_dict import Rule, load, rename, same, their_shapes
from tests.unit.models.mmovseg.tiny import tiny_network

TABLE = (
    Rule(("blocks.{}.q", "blocks.{}.k"), ("layers.{}.qk",)),
    Rule(("blocks.{}.bias",), ("layers.{}.q_bias", None)),
    Rule(("step",), ()),
    same("blocks.{*}", "layers.{*}"),
)


def theirs() -> dict[str, Tensor]:
    return {
        "blocks.10.q": torch.zeros(2, 3),
        "blocks.10.k": torch.ones(2, 3),
        "blocks.10.bias": torch.arange(4.0),
        "blocks.10.norm.weight": torch.full((3,), 7.0),
        "step": torch.tensor(5),
    }


def test_parts_are_joined_and_cut_by_rows_and_what_nobody_needs_is_left_out() -> None:
    ours = rename(theirs(), TABLE)
    assert {key: value.tolist() for key, value in ours.items()} == {
        "layers.10.qk": [[0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 1, 1]],
        "layers.10.q_bias": [0, 1],
        "layers.10.norm.weight": [7, 7, 7],
    }


def test_a_number_in_a_rule_is_no_word() -> None:
    with pytest.raises(WeightsError, match=r"unknown keys blocks\.x\.q"):
        rename({"blocks.x.q": torch.zeros(1)}, TABLE[:3])


def test_the_way_back_has_every_key_that_is_kept() -> None:
    shapes = {key: tuple(value.shape) for key, value in rename(theirs(), TABLE).items()}
    expected = {key: tuple(value.shape) for key, value in theirs().items() if key != "step"}
    assert their_shapes(shapes, TABLE) == expected


def test_a_key_of_ours_that_nothing_fills_is_named() -> None:
    with pytest.raises(WeightsError, match="fills head"):
        their_shapes({"head": (1,)}, TABLE)


def test_a_mismatch_lists_missing_unexpected_and_reshaped_entries() -> None:
    network = tiny_network()
    state = dict(network.state_dict())
    del state["adapters.clip.0.bias"]
    state["adapters.clip.9.bias"] = torch.zeros(1)
    state["adapters.clip.1.bias"] = torch.zeros(3)
    with pytest.raises(WeightsError) as error:
        load(network, state, source="weights.safetensors")
    message = str(error.value)
    assert message.startswith("weights.safetensors")
    for part in ("1 missing: adapters.clip.0.bias", "1 unexpected: adapters.clip.9.bias", "(3,) instead of (8,)"):
        assert part in message


def test_a_long_list_of_keys_is_cut() -> None:
    with pytest.raises(WeightsError, match=r"and \d+ more"):
        load(tiny_network(), {})
