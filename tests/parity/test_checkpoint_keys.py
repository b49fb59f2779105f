"""The checkpoint table against the recorded key lists of the official models, in both directions."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from mmovseg_geo.models.mmovseg.checkpoint import IGNORED, ignored, infer_variant, rules
from mmovseg_geo.models.mmovseg.network import build
from mmovseg_geo.models.mmovseg.params import MMOVSegParams
from mmovseg_geo.models.mmovseg.variants import mmovseg_vitb16, mmovseg_vitl14
from mmovseg_geo.models.state_dict import rename, their_shapes
from tests.parity.test_reference import FOLDER

VARIANTS = [("keys_vitb.json", mmovseg_vitb16), ("keys_vitl.json", mmovseg_vitl14)]


def recorded(name: str) -> dict[str, torch.Tensor]:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"{path} not found; set MMOVSEG_FIXTURES or MMOVSEG_SHARED")
    return {key: torch.empty(about["shape"], device="meta") for key, about in json.loads(path.read_text()).items()}


def our_shapes(params: MMOVSegParams) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in build(params).state_dict().items()}


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_official_keys_fill_every_entry_of_ours_with_its_shape(name: str, variant: Callable[[], MMOVSegParams]) -> None:
    renamed = rename(recorded(name), rules(variant()))
    assert {key: tuple(value.shape) for key, value in renamed.items()} == our_shapes(variant())


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_official_key_is_used_or_on_the_list_of_ignored_ones(
    name: str, variant: Callable[[], MMOVSegParams]
) -> None:
    official = recorded(name)
    left_out = ignored(official)
    used = their_shapes(our_shapes(variant()), rules(variant()))
    assert not set(used) & set(left_out)
    assert {**used, **{key: tuple(official[key].shape) for key in left_out}} == {
        key: tuple(value.shape) for key, value in official.items()
    }


@pytest.mark.parametrize("pattern", IGNORED)
def test_every_ignored_key_is_in_an_official_checkpoint(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    official = [key for name, _ in VARIANTS for key in recorded(name)]
    everything = len(ignored(official))
    monkeypatch.delitem(IGNORED, pattern)
    assert len(ignored(official)) < everything


@pytest.mark.parametrize(
    ("name", "variant"), [("keys_vitb.json", "mmovseg-vitb16"), ("keys_vitl.json", "mmovseg-vitl14")]
)
def test_the_variant_is_inferred_from_the_keys(name: str, variant: str) -> None:
    assert infer_variant(recorded(name)) == variant
