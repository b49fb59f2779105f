"""Checkpoints of others: which open, which are refused, and what is said."""

from __future__ import annotations

import argparse
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models.pickled import read_checkpoint

WEIGHTS = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.ones(40, 40, dtype=torch.float16))
RAN: list[str] = []


def remember(what: str) -> str:
    RAN.append(what)
    return what


class RunsCode:
    """Unpickling it calls a function of this file."""

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return remember, ("unpickled",)


def saved(path: Path, content: object, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3},
        {"model": WEIGHTS, "optimizer": {"step": 1}},
        {"model": {"teacher": WEIGHTS}},
    ],
)
def test_wrappers_are_opened(tmp_path: Path, content: object, legacy: bool) -> None:
    found = read_checkpoint(saved(tmp_path / "c.pth", content, legacy=legacy))
    assert found.keys() == WEIGHTS.keys()
    assert torch.equal(found["a"], WEIGHTS["a"])
    assert found["b"].dtype == torch.float16


def test_safetensors_come_as_they_are(tmp_path: Path) -> None:
    save_file(dict(WEIGHTS), tmp_path / "c.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "c.safetensors")["b"], WEIGHTS["b"])


def test_the_prefix_of_data_parallel_training_is_dropped(tmp_path: Path) -> None:
    content = {f"module.{key}": value for key, value in WEIGHTS.items()}
    assert read_checkpoint(saved(tmp_path / "c.pt", content)).keys() == WEIGHTS.keys()


def test_what_is_no_tensor_is_left_out(tmp_path: Path) -> None:
    assert read_checkpoint(saved(tmp_path / "c.pt", {**WEIGHTS, "input_resolution": 224})).keys() == WEIGHTS.keys()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_is_refused_and_nothing_runs(tmp_path: Path, legacy: bool) -> None:
    path = saved(tmp_path / "c.pth", {"model": WEIGHTS, "extra": RunsCode()}, legacy=legacy)
    RAN.clear()
    with pytest.raises(WeightsError, match=r"(?s)c\.pth.*remember.*--trust-pickle"):
        read_checkpoint(path)
    assert not RAN


def test_what_a_refused_file_carries_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pth", {"model": WEIGHTS, "args": argparse.Namespace(lr=1)})
    with pytest.raises(WeightsError, match=r"argparse\.Namespace"):
        read_checkpoint(path)


def test_a_trusted_file_opens(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pth", {"model": WEIGHTS, "args": argparse.Namespace(lr=1)})
    assert torch.equal(read_checkpoint(path, trust_pickle=True)["a"], WEIGHTS["a"])


def test_a_program_opens_only_when_trusted(tmp_path: Path) -> None:
    path = tmp_path / "program.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(path))
    with pytest.raises(WeightsError, match=r"TorchScript.*\n.*--trust-pickle"):
        read_checkpoint(path)
    assert read_checkpoint(path, trust_pickle=True).keys() == {"weight", "bias"}


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_cut_off_is_called_incomplete(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / ("cut.safetensors" if kind == "safetensors" else "cut.pth")
    if kind == "safetensors":
        save_file(dict(WEIGHTS), path)
    else:
        saved(path, WEIGHTS, legacy=kind == "legacy")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match=r"cut\..*(incomplete|no tensors)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "not a checkpoint.*web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "Git LFS"),
        (b"\x80\x04]\x94(K\x01K\x02e.", "damaged"),
    ],
)
def test_other_files_are_told_from_checkpoints(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        read_checkpoint(tmp_path / "c.pth")


def test_an_archive_of_checkpoints_is_to_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "B16.zip", "w") as archive:
        archive.writestr("B16/modelPIE.pth", b"weights")
    with pytest.raises(WeightsError, match=r"B16/modelPIE\.pth"):
        read_checkpoint(tmp_path / "B16.zip")


def test_a_checkpoint_without_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no tensors"):
        read_checkpoint(saved(tmp_path / "c.pt", {"epoch": 3}))
    with pytest.raises(WeightsError, match="instead of tensors"):
        read_checkpoint(saved(tmp_path / "d.pt", [1, 2, 3]))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pth"):
        read_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize("name", ["clip", "maskclip"])
def test_published_upsamplers_equal_their_safetensors(name: str) -> None:
    from tests.conftest import shared_folder

    folder = shared_folder() / "weights"
    path = folder / f"{name}_jbu_stack_cocostuff.ckpt"
    if not path.is_file():
        pytest.skip(f"{path} not found; set MMOVSEG_SHARED")
    found = {key.removeprefix("upsampler."): value for key, value in read_checkpoint(path).items()}
    expected = read_checkpoint(path.with_suffix(".safetensors"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
