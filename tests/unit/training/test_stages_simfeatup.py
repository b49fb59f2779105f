"""The stage that trains an upsampler of features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.segearth.upsampler import load_upsampler
from mmovseg_geo.training.stages.simfeatup import (
    OPTIMIZATION,
    Averaging,
    Settings,
    UpsamplerStage,
    drawn_move,
)
from tests.unit.models.segearth.tiny import tiny_clip

SIDE = 64
SMALL = Settings(size=SIDE, jitters=2, pad=6, projection=5)


def stage(settings: Settings = SMALL) -> UpsamplerStage:
    model = tiny_clip()
    torch.manual_seed(0)
    found = UpsamplerStage(model, settings)
    found.train()
    return found


def batch(count: int = 2) -> dict[str, Any]:
    torch.manual_seed(1)
    optical = torch.randint(0, 256, (count, 3, 8, 8)).float().repeat_interleave(8, 2).repeat_interleave(8, 3)
    return {"id": [str(i) for i in range(count)], "optical": optical}


@pytest.mark.parametrize("kind", ["jbu_one", "jbu_stack"])
def test_a_step_changes_the_upsampler_and_its_helpers_but_not_clip(kind: Any) -> None:
    found = stage(Settings(size=SIDE, jitters=1, pad=6, projection=5, kind=kind))
    before = {name: value.clone() for name, value in found.state_dict().items()}
    optimizer = torch.optim.NAdam(found.groups(weight_decay=0.0), lr=1e-3)
    found(batch()).backward()
    assert all(value.grad is not None for value in found.trained().values())
    optimizer.step()
    changed = {name for name, value in found.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= set(found.trained())
    parts = {name.split(".")[0] for name in changed}
    assert parts == {"upsampler", "averaging", "spread", "rebuilding"}
    unmoved = set(found.trained()) - changed
    assert unmoved <= {"averaging.choice.bias"}  # a softmax does not feel what is added to all alike


def test_the_loss_falls() -> None:
    found, shown = stage(), batch()
    optimizer = torch.optim.NAdam(found.groups(weight_decay=0.0), lr=1e-2)
    losses = []
    for step in range(12):
        torch.manual_seed(step % 3)
        optimizer.zero_grad()
        loss = found(shown)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < sum(losses[:3])


def test_what_is_averaged_back_of_flat_features_is_the_same() -> None:
    torch.manual_seed(0)
    averaging = Averaging(4, 16).eval()
    flat = torch.arange(4.0).view(1, 4, 1, 1).expand(2, -1, 32, 48)
    torch.testing.assert_close(averaging(flat), flat[..., :2, :3], atol=1e-5, rtol=1e-5)


def test_one_move_is_the_same_for_image_and_features() -> None:
    torch.manual_seed(3)
    image = torch.rand(1, 3, SIDE, SIDE)
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        move = drawn_move(SMALL)
        together = move(torch.cat([image, image[:, :2]], dim=1))
        torch.testing.assert_close(together[:, :3], move(image))
        assert together.shape[-2:] == (SIDE, SIDE)
        seen.add(tuple(together[0, 0, 0, :3].tolist()))
    assert len(seen) > 10


def test_validation_moves_are_the_same_every_time() -> None:
    found = stage().eval()
    with torch.no_grad():
        one = found.sums(batch(1))
        torch.rand(5)
        assert torch.equal(one, found.sums(batch(1)))


def test_the_file_is_an_upsampler(tmp_path: Path) -> None:
    found = stage()
    path = found.export(tmp_path, {"licence": "CC0-1.0"})
    loaded, image = load_upsampler(path), torch.rand(1, 3, SIDE, SIDE)
    source = torch.rand(1, 16, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(loaded(source, image), found.upsampler(source, image))


def test_pictures_show_features_before_and_after() -> None:
    shown = stage().eval().pictures(batch(1))
    assert [name for name, _ in shown] == ["optical", "features", "upsampled"]
    assert all(pixels.shape == (SIDE, SIDE, 3) for _, pixels in shown)


def test_the_published_numbers_are_the_defaults() -> None:
    assert (OPTIMIZATION.optimizer, OPTIMIZATION.learning_rate, OPTIMIZATION.batch_size) == ("nadam", 1e-3, 8)
    assert (OPTIMIZATION.gradient_clip, OPTIMIZATION.clip_steps, OPTIMIZATION.weight_decay) == (1e-4, 10, 0.0)
    published = Settings()
    assert (published.jitters, published.pad, published.zoom, published.projection) == (5, 20, 2.0, 30)
    assert (published.content_weight, published.normalization, published.kind) == (0.1, "imagenet", "jbu_one")
    with pytest.raises(ConfigError, match="multiple of 16"):
        Settings(size=100)
