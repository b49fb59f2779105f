"""The checkpoint table against the recorded key lists of the official models, in both directions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from mmovseg_geo.models.convert import check_fits, convert, write
from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.checkpoint import IGNORED, ignored, infer_variant, rules
from mmovseg_geo.models.mmovseg.params import MMOVSegParams
from mmovseg_geo.models.mmovseg.variants import mmovseg_vitb16, mmovseg_vitl14
from mmovseg_geo.models.state_dict import rename, their_shapes
from mmovseg_geo.training.stages.mmovseg import SegmentationStage
from mmovseg_geo.training.stages.networks import Begun
from tests.parity.discovery import ABSENT, files, name_of
from tests.parity.test_training_stage import official_name

VARIANTS = {768: ("mmovseg-vitb16", mmovseg_vitb16), 1024: ("mmovseg-vitl14", mmovseg_vitl14)}
"""Names and numbers of the two sizes, by the width of the CLIP that an official checkpoint adapts."""
ADAPTER = "upsample1.weight"


def listed(path: Path) -> dict[str, Any]:
    """What a file says of each key; nothing where it lists no keys of a checkpoint."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) and isinstance(found.get(ADAPTER), dict) else {}


def key_lists() -> list[pytest.ParameterSet]:
    """Every recorded list of keys, with the name and the numbers of its network."""
    found = []
    for path in files(".json"):
        keys = listed(path)
        if keys:
            found.append(pytest.param(path, *VARIANTS[keys[ADAPTER]["shape"][0]], id=name_of(path)))
    missing = pytest.mark.skip(reason=f"lists of official keys: {ABSENT}")
    return found or [pytest.param(Path(), "", mmovseg_vitb16, id="none", marks=missing)]


def recorded(path: Path) -> dict[str, torch.Tensor]:
    return {key: torch.empty(about["shape"], device="meta") for key, about in listed(path).items()}


Variant = Callable[[], MMOVSegParams]


def our_shapes(params: MMOVSegParams) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in build(params).state_dict().items()}


each_list = pytest.mark.parametrize(("path", "name", "variant"), key_lists())


@each_list
def test_official_keys_fill_every_entry_of_ours_with_its_shape(path: Path, name: str, variant: Variant) -> None:
    renamed = rename(recorded(path), rules(variant()))
    check_fits(name, renamed, path.name)
    assert {key: tuple(value.shape) for key, value in renamed.items()} == our_shapes(variant())


@each_list
def test_every_official_key_is_used_or_on_the_list_of_ignored_ones(path: Path, name: str, variant: Variant) -> None:
    official = recorded(path)
    left_out = ignored(official)
    used = their_shapes(our_shapes(variant()), rules(variant()))
    assert not set(used) & set(left_out)
    assert {**used, **{key: tuple(official[key].shape) for key in left_out}} == {
        key: tuple(value.shape) for key, value in official.items()
    }


@pytest.mark.parametrize("pattern", IGNORED)
def test_every_ignored_key_is_in_an_official_checkpoint(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = [listed(path) for path in files(".json")]
    if {keys[ADAPTER]["shape"][0] for keys in lists if keys} != set(VARIANTS):
        pytest.skip(f"lists of the official keys of both sizes: {ABSENT}")
    official = [key for keys in lists for key in keys]
    everything = len(ignored(official))
    monkeypatch.delitem(IGNORED, pattern)
    assert len(ignored(official)) < everything


@each_list
def test_the_variant_is_inferred_from_the_keys(path: Path, name: str, variant: Variant) -> None:
    assert infer_variant(recorded(path)) == name


@each_list
def test_what_learns_is_what_the_list_says(path: Path, name: str, variant: Variant) -> None:
    """Of the networks of full size, whose steps are too large to record or to run here."""
    params = variant()
    with torch.device("meta"):
        stage = SegmentationStage(Begun(build(params), params, name, {}), ["water"])
    trained = {official_name(params, key, value) for key, value in stage.trained().items()}
    assert trained == {key for key, about in listed(path).items() if about["trained"]}


@pytest.mark.slow
@each_list
def test_a_checkpoint_of_full_size_converts(
    path: Path, name: str, variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With values that take no room in the official file."""
    if name != "mmovseg-vitb16":
        pytest.skip("4.2 GB to write; the smaller network goes the same way")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    state = {key: torch.full((), 0.5).expand(value.shape) for key, value in recorded(path).items()}
    torch.save({"model": state, "iteration": 80000}, tmp_path / "modelPIE.pth")
    made = convert(tmp_path / "modelPIE.pth")
    assert (made.network, made.about["name"]) == (name, f"{name}-pie")
    whole = write(made, tmp_path / "pie.safetensors")
    assert 1.25e9 < whole.stat().st_size < 1.40e9
    with safe_open(whole, framework="pt") as file:
        key = "optical.clip.visual.transformer.resblocks.11.attn.in_proj_weight"
        assert file.get_slice(key).get_shape() == [2304, 768]
        assert torch.equal(file.get_tensor(key), torch.full((2304, 768), 0.5))
    whole.unlink()
