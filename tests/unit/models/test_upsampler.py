"""Joint bilateral upsampling: the textbook's numbers at any size, in little memory, from any published file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mmovseg_geo.errors import ConfigError, WeightsError
from mmovseg_geo.models.segearth import upsampler as module
from mmovseg_geo.models.segearth.upsampler import JointBilateralUpsampler, build_upsampler, load_upsampler
from tests.benchmarks.upsampling import unfolded
from tests.conftest import ROOT

KINDS = ("jbu_one", "jbu_stack")


def randomized(kind: str, dim: int = 6) -> JointBilateralUpsampler:
    """Weights of the size that trained ones have; fresh ones would hardly look at the guidance."""
    torch.manual_seed(1)
    made = build_upsampler(kind, dim)  # type: ignore[arg-type]
    assert isinstance(made, JointBilateralUpsampler)
    for name, value in made.named_parameters():
        value.data += 0.3 * torch.randn_like(value) if value.ndim < 2 else 0.0
        if name.endswith("range_temp"):
            value.data += 0.5
    return made.eval().requires_grad_(False)


def inputs(cells: tuple[int, int], batch: int = 1, dim: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(batch, dim, *cells), torch.randn(batch, 3, 16 * cells[0], 16 * cells[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cells", [(3, 3), (3, 7), (5, 4), (9, 8)])
def test_the_numbers_are_those_of_the_textbook_form(kind: str, cells: tuple[int, int]) -> None:
    upsampler, (source, guidance) = randomized(kind), inputs(cells)
    expected = unfolded(upsampler, source, guidance)
    torch.testing.assert_close(upsampler(source, guidance), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_batch_do_not_touch_each_other(kind: str) -> None:
    upsampler, (source, guidance) = randomized(kind), inputs((4, 5), batch=3)
    together = upsampler(source, guidance)
    alone = [upsampler(source[i : i + 1], guidance[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_strips_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    upsampler, (source, guidance) = randomized("jbu_one"), inputs((6, 5))
    whole = upsampler(source, guidance)
    monkeypatch.setattr(module, "STRIP_BYTES", 1)
    torch.testing.assert_close(upsampler(source, guidance), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cells", [(1, 1), (2, 5), (4, 1)])
def test_an_image_smaller_than_a_kernel_is_padded(kind: str, cells: tuple[int, int]) -> None:
    upsampler, (source, guidance) = randomized(kind), inputs(cells)
    found = upsampler(source, guidance)
    assert found.shape == guidance.shape[:1] + source.shape[1:2] + guidance.shape[2:]
    assert found.isfinite().all()


def test_the_guidance_parts_what_the_features_blur() -> None:
    """An edge of the image inside a cell becomes an edge of the features where it is in the image."""
    upsampler = build_upsampler("jbu_stack", 1).eval().requires_grad_(False)
    assert isinstance(upsampler, JointBilateralUpsampler)
    for stage in (upsampler.get_submodule(f"up{i}") for i in range(1, 5)):
        for conv in (stage.fixup_proj[3], stage.range_proj[0], stage.range_proj[3]):
            conv.bias.zero_()
            conv.weight.zero_()
        stage.range_proj[0].weight[0], stage.range_proj[0].weight[1] = 1.0, -1.0
        stage.range_proj[3].weight[0, 0], stage.range_proj[3].weight[0, 1] = 10.0, -10.0
    upsampler.fixup_proj[1].weight.zero_()
    upsampler.fixup_proj[1].bias.zero_()
    source = torch.tensor([-1.0, -1.0, -1.0, 0.0, 1.0, 1.0, 1.0]).expand(1, 1, 7, 7)
    guidance = torch.where(torch.arange(112) < 52, -1.0, 1.0).expand(1, 3, 112, 112)
    bilinear = build_upsampler("bilinear", 1)(source, guidance)
    steps = [found[0, 0, 56].diff()[50:52].max() for found in (upsampler(source, guidance), bilinear)]
    assert steps[0] > 4 * steps[1]


def test_bilinear_follows_the_size_of_the_guidance() -> None:
    source = torch.arange(4.0).view(1, 1, 2, 2)
    found = build_upsampler("bilinear", 1, patch=14)(source, torch.zeros(1, 3, 28, 28))
    assert found.shape == (1, 1, 28, 28)
    assert found[0, 0, 0, 0] == 0
    assert found[0, 0, -1, -1] == 3


def test_bfloat16_comes_close() -> None:
    upsampler, (source, guidance) = randomized("jbu_one"), inputs((6, 6))
    exact = upsampler(source, guidance)
    with torch.autocast("cpu", torch.bfloat16):
        rough = upsampler(source, guidance)
    assert (rough - exact).norm() < 0.02 * exact.norm()


def test_other_patch_sizes_are_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"patches of 16 pixels; this one has patches of 14"):
        build_upsampler("jbu_one", 8, patch=14)


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="jbu_stack"):
        build_upsampler("jbu_two", 8)  # type: ignore[arg-type]


def test_guidance_of_another_size_is_a_mistake() -> None:
    source, guidance = inputs((4, 4))
    with pytest.raises(ValueError, match="64 x 60"):
        randomized("jbu_one")(source, guidance[..., :60])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_file_says_which_upsampler_it_is_for(kind: str, suffix: str, tmp_path: Path) -> None:
    upsampler, (source, guidance) = randomized(kind), inputs((3, 3))
    path = tmp_path / f"upsampler{suffix}"
    if suffix == ".ckpt":
        state = {f"upsampler.{key}": value for key, value in upsampler.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        save_file(upsampler.state_dict(), path)
    torch.testing.assert_close(load_upsampler(path)(source, guidance), upsampler(source, guidance))


def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors: not an upsampler.*conv\.weight"):
        load_upsampler(tmp_path / "other.safetensors")


def test_an_incomplete_file_says_what_is_missing(tmp_path: Path) -> None:
    state = randomized("jbu_stack").state_dict()
    del state["up2.sigma_spatial"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"part\.safetensors.*up2\.sigma_spatial"):
        load_upsampler(tmp_path / "part.safetensors")


@pytest.mark.parametrize(("kind", "count"), [("jbu_one", 293_729), ("jbu_stack", 287_588)])
def test_the_number_of_parameters_is_the_published_one(kind: str, count: int) -> None:
    assert sum(value.numel() for value in build_upsampler(kind, 512).parameters()) == count  # type: ignore[arg-type]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is asked of Linux")
def test_a_window_of_224_pixels_takes_little_memory() -> None:
    """One pass with 512 channels; the map itself is 98 MB, unfolded at once it would be 12 GB."""
    command = [sys.executable, "-m", "tests.benchmarks.upsampling", "ours", "224"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert json.loads(told.stdout)["mb"] < 400
