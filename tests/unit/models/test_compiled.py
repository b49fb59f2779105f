"""A network that is compiled answers as it did, and one that cannot be runs as it is."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmovseg_geo.models.compiled import Compiled
from tests.conftest import ROOT
from tests.unit.models.mmovseg.tiny import HEAD, tiny_network

CPU = torch.device("cpu")


class Scaled(nn.Module):
    """Image (B, 3) times one factor for all."""

    def forward(self, image: Tensor | None, factor: Tensor, mask: Tensor | None = None) -> Tensor:
        assert image is not None
        return image * factor * (1 if mask is None else mask)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images in each batch that reached what was compiled."""
    seen: list[int] = []

    def compiler(network: nn.Module, **_: Any) -> Callable[..., Tensor]:
        def run(*inputs: Any) -> Tensor:
            seen.append(len(inputs[0]))
            assert all(len(one) == len(inputs[0]) for one in (inputs[0], *inputs[2:]) if one is not None)
            out: Tensor = network(*inputs)
            return out

        return run

    monkeypatch.setattr(torch, "compile", compiler)
    return seen


@torch.inference_mode()
def test_every_batch_has_the_shape_of_the_largest(batches: list[int]) -> None:
    run = Compiled(Scaled(), CPU, shared=(1,))
    factor, mask = torch.tensor([2.0, 3.0, 4.0]), torch.ones(4, 3)
    for images in (4, 2, 1, 4):
        image = torch.rand(images, 3)
        assert run(image, factor, mask[:images]).equal(image * factor)
    assert batches == [4, 4, 4, 4]


@torch.inference_mode()
def test_memory_that_runs_out_is_told_and_a_smaller_batch_is_not_filled_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compiler(network: nn.Module, **_: Any) -> Callable[..., Tensor]:
        def run(image: Tensor, factor: Tensor) -> Tensor:
            if len(image) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            out: Tensor = network(image, factor)
            return out

        return run

    monkeypatch.setattr(torch, "compile", compiler)
    run = Compiled(Scaled(), CPU, shared=(1,))
    with pytest.raises(torch.OutOfMemoryError):
        run(torch.rand(4, 3), torch.ones(3))
    assert run(torch.rand(2, 3), torch.ones(3)).shape == (2, 3)


@torch.inference_mode()
def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compiler(network: nn.Module, **_: Any) -> Callable[..., Tensor]:
        def run(*inputs: Tensor) -> Tensor:
            raise RuntimeError("backend failed\nand more") from FileNotFoundError("no compiler: g++")

        return run

    monkeypatch.setattr(torch, "compile", compiler)
    run = Compiled(Scaled(), CPU, shared=(1,))
    image = torch.rand(2, 3)
    with caplog.at_level(logging.WARNING, logger="mmovseg_geo"):
        assert run(image, torch.ones(3)).equal(image)
        assert run(image, torch.ones(3)).equal(image)
    assert [record.getMessage() for record in caplog.records] == [
        "The network runs without being compiled: FileNotFoundError: no compiler: g++"
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ was found")
@torch.inference_mode()
def test_compiled_code_gives_the_numbers() -> None:
    run = Compiled(Scaled(), CPU, shared=(1,))
    for images in (2, 1):
        image = torch.rand(images, 3)
        torch.testing.assert_close(run(image, torch.tensor([2.0, 3.0, 4.0])), image * torch.tensor([2.0, 3.0, 4.0]))
    assert run._run is not None, "it was not compiled"


@pytest.mark.slow
@torch.inference_mode()
def test_a_compiler_sees_the_network_as_one_piece() -> None:
    """Breaks would leave CUDA graphs in pieces. What a compiler makes of the piece is not asked: it takes a minute."""
    network = tiny_network()
    whole = torch.compile(network, backend="eager", fullgraph=True)
    optical, sar = torch.randn(2, 1, 3, 64, 64).unbind()
    text = torch.randn(3, HEAD.text_dim)
    torch.testing.assert_close(whole(optical, sar, text), network(optical, sar, text))


@pytest.mark.slow
def test_without_a_compiler_the_bundled_model_maps_all_the_same() -> None:
    script = (
        "import logging, numpy as np; logging.basicConfig()\n"
        "from mmovseg_geo.grid import Window; from mmovseg_geo.models import load_segmenter\n"
        "from mmovseg_geo.tiles import Batch\n"
        "rng = np.random.default_rng(0); seen = np.ones((1, 64, 64), bool)\n"
        "rgb = rng.uniform(0, 255, (1, 3, 64, 64)).astype('float32')\n"
        "batch = Batch((Window(0, 0, 64, 64),), rgb, None, seen, None, 10.0)\n"
        "plain, asked = (load_segmenter(classes='water,forest', options={'compile': way}) for way in ('no', 'yes'))\n"
        "assert (plain(batch) == asked(batch)).all(); assert asked.forward._run is None"
    )
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert "The network runs without being compiled" in told.stderr
