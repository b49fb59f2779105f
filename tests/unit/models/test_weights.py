"""Weights files: what they say, and what happens when they are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models import load_segmenter
from mmovseg_geo.models.weights import bundled_weights, open_weights, packed

ABOUT = {"variant": "mmovseg-compact", "licence": "CC0-1.0", "classes": json.dumps([["water"], ["forest", "trees"]])}


def written(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, str] | None = None) -> Path:
    save_file(tensors, path, metadata=ABOUT if about is None else about)
    return path


def test_weights_say_what_they_are_for(tmp_path: Path) -> None:
    weights = open_weights(written(tmp_path / "w.safetensors", {"a": torch.ones(2)}))
    assert (weights.variant, weights.licence) == ("mmovseg-compact", "CC0-1.0")
    assert weights.classes == (("water",), ("forest", "trees"))


def test_half_precision_comes_back_as_single(tmp_path: Path) -> None:
    tensors = {"a": torch.full((2,), 0.5, dtype=torch.float16), "n": torch.tensor([3])}
    found = open_weights(written(tmp_path / "w.safetensors", tensors)).tensors()
    assert found["a"].dtype == torch.float32
    assert found["n"].dtype == torch.int64


def test_a_table_in_bytes_comes_back_within_half_a_step(tmp_path: Path) -> None:
    table = torch.linspace(-1, 3, 12).reshape(4, 3)
    found = open_weights(written(tmp_path / "w.safetensors", packed("table", table))).tensors()
    assert set(found) == {"table"}
    assert (found["table"] - table).abs().max() < 3 / 127


@pytest.mark.parametrize("classes", ["water, forest", "[1, 2]", "7"])
def test_classes_that_are_no_lists_of_words_are_quoted(tmp_path: Path, classes: str) -> None:
    path = written(tmp_path / "w.safetensors", {"a": torch.ones(2)}, {**ABOUT, "classes": classes})
    with pytest.raises(WeightsError, match=r"w\.safetensors: the `classes` in its metadata are '"):
        open_weights(path)


def test_a_class_of_one_word_needs_no_list(tmp_path: Path) -> None:
    path = written(tmp_path / "w.safetensors", {"a": torch.ones(2)}, {**ABOUT, "classes": '["water", ["forest"]]'})
    assert open_weights(path).classes == (("water",), ("forest",))


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "cut.safetensors", {"a": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(WeightsError, match=r"(?s)cut\.safetensors.*damaged"):
        open_weights(path).tensors()


def test_text_that_calls_itself_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.safetensors"
    path.write_text("not weights at all, but long enough to look like a header")
    with pytest.raises(WeightsError, match=r"notes\.safetensors"):
        load_segmenter(str(path), "water")


def test_a_checkpoint_that_is_not_converted_yet_says_so(tmp_path: Path) -> None:
    path = tmp_path / "modelPIE.pth"
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match=r"mmovseg models convert .*modelPIE\.pth -o modelPIE\.safetensors"):
        open_weights(path)


def test_a_file_that_does_not_say_its_network_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "w.safetensors", {"a": torch.ones(1)}, about={"made": "elsewhere"})
    with pytest.raises(WeightsError, match="which network"):
        open_weights(path)


def test_weights_of_another_network_list_what_does_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path / "w.safetensors", {"a.strange.key": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"a\.strange\.key"):
        load_segmenter(str(path), "water")


def test_an_unknown_network_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "w.safetensors", {"a": torch.ones(1)}, about={"variant": "mmovseg-giant"})
    with pytest.raises(WeightsError, match="mmovseg-giant"):
        load_segmenter(str(path), "water")


@pytest.mark.parametrize("name", ["mmovseg-vitb16", "mmovseg-vitl14"])
def test_variants_without_weights_say_what_to_do(name: str) -> None:
    with pytest.raises(WeightsError, match="--model PATH"):
        load_segmenter(name, "water")


def test_altered_bundled_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mmovseg_geo.models.weights as room

    folder = tmp_path / "weights"
    folder.mkdir()
    path = written(folder / room.BUNDLED, {"a": torch.ones(3)})
    (folder / f"{room.BUNDLED}.sha256").write_text("0" * 64)
    monkeypatch.setattr(room, "files", lambda package: tmp_path)
    with pytest.raises(WeightsError, match=f"(?s){path.name}.*damaged"):
        bundled_weights()


def test_bundled_weights_are_small_and_name_their_licence() -> None:
    weights = bundled_weights()
    assert weights.path.stat().st_size <= 30e6
    assert weights.licence == "CC-BY-SA-4.0"
    assert (weights.path.parent / "LICENSE-weights.md").is_file()
