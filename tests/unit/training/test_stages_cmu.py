"""The stage that brings SAR to what optical is seen as."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.mmovseg.encoders import dino
from mmovseg_geo.models.mmovseg.params import hook_layers
from mmovseg_geo.models.mmovseg.start import with_encoders
from mmovseg_geo.training.stages.cmu import FILE, AlignmentStage, Settings
from tests.unit.models.mmovseg.tiny import tiny_params

SIDE = 64


def stage(family: Literal["dinov1", "dinov3"] = "dinov1", **settings: Any) -> AlignmentStage:
    params = tiny_params(family).dino
    torch.manual_seed(0)
    teacher: Any = dino(params, hook_layers(params.depth))
    found = AlignmentStage(teacher, copy.deepcopy(teacher), Settings(**settings))
    found.train()
    return found


def batch(count: int = 3, *, alike: bool = False) -> dict[str, Any]:
    torch.manual_seed(1)
    sar = (
        torch.randint(0, 256, (count, 1, SIDE // 8, SIDE // 8)).float().repeat_interleave(8, 2).repeat_interleave(8, 3)
    )
    optical = sar.expand(-1, 3, -1, -1) if alike else 255 - 0.5 * sar.expand(-1, 3, -1, -1)
    valid = torch.ones(count, SIDE, SIDE)
    names = [str(i) for i in range(count)]
    return {"id": names, "optical": optical, "sar": sar, "optical_valid": valid, "sar_valid": valid.clone()}


@pytest.mark.parametrize("token", ["mean", "cls", "patch"])
@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_a_copy_is_no_distance_away_from_the_same_picture(loss: str, token: str) -> None:
    found = stage(loss=loss, token=token).eval()
    with torch.no_grad():
        assert found(batch(alike=True)).item() == pytest.approx(0, abs=1e-6)
        assert found(batch()).item() > 1e-3


def test_infonce_is_cross_entropy_over_the_other_images() -> None:
    found = stage(temperature=0.5)
    sar, optical = torch.eye(2), torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    wrong = math.log(1 + math.exp(1 / 0.5))
    assert found._loss(sar, optical).item() == pytest.approx(wrong)
    assert found._loss(sar, optical.flip(0)).item() == pytest.approx(math.log(1 + math.exp(-1 / 0.5)))


@pytest.mark.parametrize("projection", ["none", "linear", "mlp"])
@pytest.mark.parametrize("token", ["mean", "cls", "patch"])
def test_a_step_changes_the_sar_encoder_wholly_and_nothing_of_the_optical_one(token: str, projection: str) -> None:
    found = stage(token=token, projection=projection, patches=5)
    before = {name: value.clone() for name, value in found.state_dict().items()}
    optimizer = torch.optim.AdamW(found.groups(weight_decay=0.1), lr=0.1)
    found(batch()).backward()
    assert all(value.grad is not None for value in found.trained().values())
    optimizer.step()
    changed = {name for name, value in found.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(found.trained())
    assert {name.split(".")[0] for name in changed} == ({"student"} if projection == "none" else {"student", "heads"})


def test_what_one_sensor_did_not_see_does_not_count() -> None:
    found, whole = stage(loss="mse").eval(), batch()
    half = {**whole, "optical_valid": whole["optical_valid"].clone(), "sar_valid": whole["sar_valid"].clone()}
    half["sar_valid"][..., SIDE // 2 :] = 0
    with torch.no_grad():
        embedded = [found.embedded(case)[-1][1] for case in (whole, half)]
    assert not torch.allclose(*embedded)
    half["sar_valid"][:] = 0
    with torch.no_grad():
        assert all(torch.isfinite(part).all() for part in found.embedded(half)[-1])


def test_scores_say_how_often_the_own_image_is_found() -> None:
    found = stage().eval()
    with torch.no_grad():
        scores = found.scores(found.sums(batch(alike=True)))
    assert scores["own optical image found"] == 1
    assert scores["loss"] > 0


@pytest.mark.parametrize("family", ["dinov1", "dinov3"])
def test_the_encoder_begins_the_second_stage(family: Literal["dinov1", "dinov3"], tmp_path: Path) -> None:
    found = stage(family)
    with torch.no_grad():
        for value in found.trained().values():
            value.add_(0.01)
    path = found.export(tmp_path, {"licence": "CC0-1.0"})
    assert path.name == FILE
    network: Any = with_encoders(tiny_params(family), sar=path)
    student: Any = found.student
    ours, theirs = student.vit.state_dict(), network.sar.vit.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.parametrize("settings", [{"loss": "nce"}, {"token": "max"}, {"projection": "deep"}, {"temperature": 0}])
def test_unknown_choices_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"settings\."):
        Settings(**settings)
