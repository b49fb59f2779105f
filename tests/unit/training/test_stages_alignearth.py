"""The stage that adapts CLIP's image tower to SAR."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.segearth.encoder import load_encoder
from mmovseg_geo.training.stages.alignearth import DistillationStage, Settings
from tests.unit.models.segearth.tiny import tiny_clip, tiny_encoder

SIDE = 64


def stage(**settings: Any) -> DistillationStage:
    teacher = tiny_clip()
    found = DistillationStage(teacher, copy.deepcopy(teacher), Settings(size=SIDE, **settings))
    found.train()
    return found


def batch(*, alike: bool = False) -> dict[str, Any]:
    torch.manual_seed(1)
    sar = torch.randint(0, 256, (2, 1, 8, 8)).float().repeat_interleave(8, 2).repeat_interleave(8, 3)
    optical = sar.expand(-1, 3, -1, -1) if alike else (255 - sar).expand(-1, 3, -1, -1)
    valid = torch.ones(2, SIDE, SIDE)
    return {"id": ["a", "b"], "optical": optical, "sar": sar, "optical_valid": valid, "sar_valid": valid.clone()}


@pytest.mark.parametrize("attention", ["sclip", "segearth", "vanilla"])
def test_a_copy_sees_a_gray_picture_as_the_teacher_does(attention: str) -> None:
    found = stage(attention=attention)
    with torch.no_grad():
        assert found(batch(alike=True)).item() == pytest.approx(0, abs=1e-5)
        assert found(batch()).item() > 0.01


def test_a_step_changes_the_image_tower_as_far_as_it_is_looked_at() -> None:
    found = stage()
    before = {name: value.clone() for name, value in found.state_dict().items()}
    optimizer = torch.optim.AdamW(found.groups(weight_decay=0.1), lr=0.1)
    found(batch()).backward()
    assert all(value.grad is not None for value in found.trained().values())
    optimizer.step()
    changed = {name for name, value in found.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(found.trained())
    assert all(name.startswith("student.visual.") for name in changed)
    rest = {name.removeprefix("student.visual.") for name in before if name.startswith("student.visual.")} - {
        name.removeprefix("student.visual.") for name in changed
    }
    assert {name.rsplit(".", 2)[0] for name in rest} <= {"transformer.resblocks.2.mlp", "transformer.resblocks.2"}
    assert not [name for name in rest if "attn" in name or "ln_1" in name]


def test_places_that_one_sensor_did_not_see_do_not_count() -> None:
    found, whole = stage(), batch()
    half = {**whole, "sar_valid": whole["sar_valid"].clone()}
    half["sar_valid"][..., SIDE // 2 :] = 0
    with torch.no_grad():
        assert not torch.allclose(found.apart(whole)[0], found.apart(half)[0])
        half["sar_valid"][:] = 0
        assert float(found.apart(half)[0].abs().max()) == 0


def test_scores_are_cosines_and_the_loss() -> None:
    found = stage(cls_weight=0.5).eval()
    with torch.no_grad():
        scores = found.scores(found.sums(batch()))
    expected = (1 - scores["cosine of patches"]) + 0.5 * (1 - scores["cosine of CLS"])
    assert scores["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_file_is_a_clip_of_the_same_architecture(tmp_path: Path) -> None:
    found, named = stage(), tiny_encoder(tmp_path)
    with torch.no_grad():
        for value in found.trained().values():
            value.add_(0.01)
    model = load_encoder(found.export(tmp_path, {}), named["encoder"], "quickgelu")
    state: Any = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in found.student.state_dict().items())


def test_attention_without_cls_cannot_teach() -> None:
    with pytest.raises(ConfigError, match=r"'gem' cannot be used here"):
        Settings(attention="gem")
