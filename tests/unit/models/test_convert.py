"""Published checkpoints turned into ours: what comes out, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mmovseg_geo.errors import ConfigError, OutputError, WeightsError
from mmovseg_geo.models import load_segmenter, registry
from mmovseg_geo.models.convert import Converted, checksum, convert, write
from mmovseg_geo.models.mmovseg.checkpoint import rules
from mmovseg_geo.models.pickled import read_checkpoint
from mmovseg_geo.models.state_dict import rename
from mmovseg_geo.models.weights import open_weights
from tests.conftest import shared_folder
from tests.unit.models.mmovseg.test_checkpoint import official_state
from tests.unit.models.mmovseg.tiny import tiny_params
from tests.unit.models.published import archive, official, pickled, use_small_registry


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, with the registry of small files."""
    use_small_registry(monkeypatch, tmp_path / "home")
    return tmp_path


@pytest.fixture
def made(folder: Path) -> Path:
    """A converted checkpoint of a small MM-OVSeg."""
    (folder / "modelPIE.pth").write_bytes(official())
    return write(convert(folder / "modelPIE.pth"), folder / "pie.safetensors")


def test_a_converted_file_says_what_it_is_and_where_it_came_from(made: Path) -> None:
    details = open_weights(made).details
    assert details["variant"] == "mmovseg-vitb16"
    assert details["name"] == "mmovseg-vitb16-pie"
    assert details["licence"] == "unknown"
    assert details["source_file"] == "modelPIE.pth"
    assert details["source_sha256"] == sha256(official()).hexdigest()
    assert json.loads(details["classes"]) == [["city"], ["road"], ["forest"]]
    assert json.loads(details["trained_classes"]) == ["city", "forest"]


def test_its_tensors_are_the_official_ones_under_our_keys(made: Path) -> None:
    expected = rename(official_state("dinov1"), rules(tiny_params("dinov1")))
    found = read_checkpoint(made)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_its_checksum_does_not_depend_on_the_order_of_its_tensors(made: Path) -> None:
    tensors = read_checkpoint(made)
    assert checksum(dict(reversed(tensors.items()))) == open_weights(made).details["content_sha256"]
    key = next(iter(tensors))
    assert checksum({**tensors, key: tensors[key] + 1}) != open_weights(made).details["content_sha256"]


def test_it_runs_by_its_path(made: Path) -> None:
    segmenter = load_segmenter(str(made), "water,forest", device="cpu")
    assert segmenter.planes == 2
    assert segmenter.provenance["model"] == "mmovseg-vitb16-pie"


def test_others_may_read_it(made: Path) -> None:
    plain = made.with_name("plain")
    plain.touch()
    assert made.stat().st_mode == plain.stat().st_mode


def test_a_file_of_another_name_is_converted_without_a_licence(folder: Path) -> None:
    (folder / "mine.pth").write_bytes(official())
    about = convert(folder / "mine.pth").about
    assert about["licence"] == "unknown"
    assert "name" not in about
    assert "classes" not in about
    assert (
        convert(folder / "mine.pth", found=registry.entry("mmovseg-vitb16-pie")).about["name"] == "mmovseg-vitb16-pie"
    )


def test_a_checkpoint_under_the_name_of_another_variant_is_refused(folder: Path) -> None:
    (folder / "modelPIE.pth").write_bytes(official())
    with pytest.raises(WeightsError, match=r"modelPIE\.pth: a checkpoint of mmovseg-vitb16; mmovseg-vitl14-pie is one"):
        convert(folder / "modelPIE.pth", found=registry.entry("mmovseg-vitl14-pie"))


def test_an_archive_needs_to_know_which_checkpoint(folder: Path) -> None:
    (folder / "B16.zip").write_bytes(archive(modelPIE=official(), modelDDSK=b"another"))
    with pytest.raises(WeightsError, match=r"--as NAME.*It holds modelPIE\.pth, modelDDSK\.pth"):
        convert(folder / "B16.zip")
    assert convert(folder / "B16.zip", found=registry.entry("mmovseg-vitb16-pie")).network == "mmovseg-vitb16"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("upsample2.bias"), r"1 missing: adapters\.clip\.1\.bias"),
        (lambda state: state.update({"roi_heads.weight": torch.zeros(1)}), r"unknown keys roi_heads\.weight"),
        (lambda state: state.update({"upsample2.bias": torch.zeros(3)}), r"\(3,\) instead of"),
    ],
)
def test_what_does_not_fit_is_named_with_the_file(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], None], said: str
) -> None:
    state = official_state("dinov1")
    change(state)
    torch.save({"model": state}, folder / "odd.pth")
    with pytest.raises(WeightsError, match=rf"odd\.pth.*{said}"):
        convert(folder / "odd.pth")


def test_a_checkpoint_of_another_network_shows_its_keys(folder: Path) -> None:
    (folder / "resnet.pth").write_bytes(pickled({"layer1.0.conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}))
    with pytest.raises(
        WeightsError, match=r"(?s)resnet\.pth.*does not know.*layer1\.0\.conv1\.weight, fc\.bias.*Known"
    ):
        convert(folder / "resnet.pth")


def test_a_converted_file_is_not_converted_again(made: Path) -> None:
    with pytest.raises(ConfigError, match="converted already"):
        convert(made)


def test_an_existing_file_is_kept_unless_told_otherwise(made: Path) -> None:
    before = made.read_bytes()
    other = Converted("encoder", {"a": torch.ones(1)}, {"variant": "encoder"})
    with pytest.raises(OutputError, match="--overwrite"):
        write(other, made)
    assert made.read_bytes() == before
    write(other, made, overwrite=True)
    assert open_weights(made).variant == "encoder"


def test_only_safetensors_are_written(folder: Path) -> None:
    with pytest.raises(OutputError, match=r"out\.pth.*\.safetensors"):
        write(Converted("encoder", {"a": torch.ones(1)}, {}), folder / "out.pth")


def test_a_folder_that_cannot_be_written_leaves_nothing(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Cannot write"):
        write(Converted("encoder", {"a": torch.ones(1)}, {}), folder / "file" / "out.safetensors")
    assert os.listdir(folder) == ["file"]


def test_views_of_one_memory_are_stored_apart(folder: Path) -> None:
    whole = torch.arange(6.0)
    tensors = {"first": whole[:2], "last": whole[4:], "same": whole, "again": whole, "turned": whole.reshape(2, 3).T}
    tensors |= {"one": whole[3].expand(1), "spread": whole[3].expand(4), "alone": whole[3]}
    path = write(Converted("encoder", tensors, {"variant": "encoder"}), folder / "views.safetensors")
    found = read_checkpoint(path)
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert checksum(found) == checksum(tensors)


@pytest.mark.parametrize("name", ["featup-jbu-stack-clip", "featup-jbu-stack-maskclip"])
def test_published_upsamplers_are_recognized(name: str, tmp_path: Path) -> None:
    source = registry.entry(name).source
    assert source is not None
    path = shared_folder() / "weights" / Path(source.file).name
    if not path.is_file():
        pytest.skip(f"{path} not found; set MMOVSEG_SHARED")
    made = convert(path)
    assert (made.network, made.about["name"], made.about["licence"]) == ("jbu-stack", name, "MIT")
    assert made.about["source_sha256"] == source.sha256
    with safe_open(write(made, tmp_path / "up.safetensors"), framework="pt") as file:
        assert "up1.range_temp" in file.keys()  # noqa: SIM118
