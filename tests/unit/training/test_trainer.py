"""A run of training in miniature: from a recipe to weights that segment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models import load_segmenter
from mmovseg_geo.models.mmovseg.compact import mmovseg_compact
from mmovseg_geo.models.mmovseg.text_tower import TextTower
from mmovseg_geo.simulate import LAND_COVERS
from mmovseg_geo.training import train
from mmovseg_geo.training.chips import UNKNOWN
from mmovseg_geo.training.concepts import read_concepts

RECIPES = Path(__file__).resolve().parents[3] / "configs" / "train"


def recipe(folder: Path, **optimization: object) -> Path:
    """A recipe of eight small chips and no real data, beside a text tower that needs no distillation."""
    listed = yaml.safe_load((RECIPES / "mmovseg-compact.yaml").read_text())
    listed |= {
        "concepts": str(RECIPES / "compact-concepts.yaml"),
        "text": {"phrases": str(RECIPES / "compact-phrases.yaml")},
        "simulated": {"count": 8, "size": 64, "shard": 8, "gsd_m": [], "gsd_range_m": [10, 10.1]},
        "real": [],
        "augmentation": {"crop": 64},
        "optimization": {
            "steps": 2,
            "warmup_steps": 1,
            "blend_step": 3,
            "batch_size": 2,
            "statistics_batches": 2,
            "check_every": 2,
        }
        | optimization,
        "rounds": [{"steps": 1}, {"steps": 1, "encoders_only": True}],
        "processes": 1,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(listed))
    return path


def run_folder(folder: Path) -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(TextTower(mmovseg_compact().text).state_dict(), folder / "text.pt")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _from_nothing() -> Iterator[None]:
    """Encoders start at random, so that no package with weights is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmovseg_geo.training.trainer.start_from_photographs", lambda stages: None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of four steps, the last two of which are rounds."""
    folder = tmp_path_factory.mktemp("training")
    train(recipe(folder), run_folder(folder / "run"))
    return folder / "run"


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_run_gives_weights_that_segment(finished: Path) -> None:
    segmenter = load_segmenter(str(finished / "compact.safetensors"))
    assert segmenter.vocabulary.names == ("water", "trees", "grass", "cropland", "built-up area", "bare ground")
    assert segmenter.provenance["weights_licence"] == "CC-BY-SA-4.0"


def test_weights_come_out_midway_between_an_earlier_step_and_the_last(finished: Path) -> None:
    state = torch.load(finished / "checkpoint.pt", weights_only=True)
    name = "optical.to_kinds.weight"
    earlier, last = state["earlier"][name], state["averaged"][name]
    assert not torch.equal(earlier, last)
    written = load_file(finished / "compact.safetensors")[name].float()
    torch.testing.assert_close(written, (earlier + last) / 2, atol=1e-3, rtol=1e-3)


def test_a_round_may_begin_midway_and_leave_the_optical_side_as_it_is(tmp_path: Path) -> None:
    path = recipe(tmp_path, blend_step=1, check_every=1)
    listed = yaml.safe_load(path.read_text())
    states = []
    for number, rounds in enumerate(([], [{"steps": 1, "learns": ["sar", "adapters.sar"], "blended": True}])):
        path.write_text(yaml.safe_dump(listed | {"rounds": [{"steps": 1}, *rounds]}))
        folder = run_folder(tmp_path / str(number))
        train(path, folder)
        states.append(torch.load(folder / "checkpoint.pt", weights_only=True))
    before, after = states
    moved = set()
    for name, value in after["averaged"].items():
        midway = torch.lerp(before["averaged"][name].double(), before["earlier"][name].double(), 0.5)
        if value.dtype.is_floating_point and not torch.allclose(value.double(), midway, atol=1e-6):
            moved.add(name.partition(".")[0] if name.startswith("sar.") else name.rpartition(".")[0][:12])
    assert moved == {"sar", "adapters.sar"}
    for name, value in load_file(folder / "compact.safetensors").items():
        if name.startswith("adapters."):
            assert torch.allclose(value.float(), after["averaged"][name], atol=1e-3, rtol=1e-3)


def test_a_check_measures_every_word(finished: Path) -> None:
    checks = [entry for entry in metrics(finished) if "simulated both: water" in entry]
    assert [entry["step"] for entry in checks] == [2, 4]
    assert all(0 <= value <= 1 for entry in checks for name, value in entry.items() if name != "step")


def test_a_folder_with_a_run_is_not_overwritten(finished: Path) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        train(finished.parent / "recipe.yaml", finished)


def test_another_recipe_does_not_go_on_with_a_run(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another recipe"):
        train(recipe(tmp_path, learning_rate=1e-4), finished, resume=True)


def test_a_checkpoint_of_another_version_is_refused_with_what_to_do(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    del state["network"]["head.heard"]
    torch.save(state, run / "checkpoint.pt")
    with pytest.raises(ConfigError, match=r"checkpoint.pt: of another network.*\n.*another folder"):
        train(finished.parent / "recipe.yaml", run, resume=True)


def test_a_resumed_run_ends_like_an_uninterrupted_one(finished: Path, tmp_path: Path) -> None:
    from mmovseg_geo.training import trainer as room

    class Interrupted(Exception):
        pass

    run = run_folder(tmp_path / "run")
    save = room.Trainer.save

    def save_and_stop(self: room.Trainer) -> None:
        save(self)
        if self.step == 2:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room.Trainer, "save", save_and_stop)
        with pytest.raises(Interrupted):
            train(finished.parent / "recipe.yaml", run)
    assert not (run / "compact.safetensors").exists()
    train(finished.parent / "recipe.yaml", run, resume=True)
    resumed, whole = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (run, finished))
    for name, value in whole["averaged"].items():
        torch.testing.assert_close(resumed["averaged"][name], value, atol=1e-4, rtol=1e-3)


def test_an_unknown_setting_is_answered_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        train(recipe(tmp_path, learnin_rate=1.0), tmp_path / "run")


@pytest.mark.parametrize("step", [-1, 4, 2120])
def test_a_step_to_blend_with_that_never_comes_is_refused(tmp_path: Path, step: int) -> None:
    with pytest.raises(ConfigError, match="steps, 0 to 3"):
        train(recipe(tmp_path, blend_step=step), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def with_rounds(path: Path, *rounds: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"rounds": [*rounds]}))
    return path


def test_a_part_that_is_not_there_cannot_learn_and_costs_no_folder(tmp_path: Path) -> None:
    path = with_rounds(recipe(tmp_path, blend_step=1), {"steps": 1, "learns": ["radar"]})
    with pytest.raises(ConfigError, match=r"'radar', which is no part of the network\. Parts: optical, sar, adapters"):
        train(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("blend_step", [None, 2])
def test_a_round_cannot_begin_midway_to_weights_that_come_later(tmp_path: Path, blend_step: int | None) -> None:
    path = with_rounds(recipe(tmp_path, blend_step=blend_step), {"steps": 1, "blended": True})
    with pytest.raises(ConfigError, match=r"give an earlier step as blend_step"):
        train(path, tmp_path / "run")


def test_a_label_that_is_not_there_is_answered_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"no label 'worldcover 81'\. Did you mean"):
        read_concepts(RECIPES / "compact-concepts.yaml").number("worldcover 81")


def test_an_unknown_precision_is_refused_at_the_door(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bf16"):
        train(recipe(tmp_path, precision="half"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bfloat16_learns_what_float32_learns(tmp_path: Path) -> None:
    states = {}
    for precision in ("fp32", "bf16"):
        folder = tmp_path / precision
        folder.mkdir()
        train(recipe(folder, precision=precision), run_folder(folder / "run"))
        states[precision] = torch.load(folder / "run" / "checkpoint.pt", weights_only=True)["averaged"]
    near = [
        torch.isclose(states["bf16"][name].double(), value.double(), atol=0.05, rtol=0.1).flatten()
        for name, value in states["fp32"].items()
    ]
    # Statistics of deep layers that have seen a few pixels of two small crops depend on every rounding.
    assert torch.cat(near).double().mean() > 0.999


def test_every_simulated_land_cover_is_true_of_some_word() -> None:
    concepts = read_concepts(RECIPES / "compact-concepts.yaml")
    silent = [cover.name for row, cover in zip(concepts.truth, LAND_COVERS, strict=False) if not (row == 1).any()]
    assert not silent


def test_labels_that_are_neither_water_nor_dry_say_nothing_beside_an_outdated_image() -> None:
    concepts = read_concepts(RECIPES / "compact-concepts.yaml")
    said = {name: concepts.water_or_dry[concepts.number(name)] for name in concepts.labels}
    assert said["river"] == said["worldcover 80"] == concepts.number("worldcover 80")
    assert said["grassland"] == said["land 5"] == concepts.number("dry")
    assert said["ship"] == said["ice"] == UNKNOWN
    assert (concepts.water_or_dry[len(concepts.labels) :] == UNKNOWN).all()


def test_held_out_words_are_not_trained() -> None:
    concepts = read_concepts(RECIPES / "compact-concepts.yaml")
    assert not set(concepts.held_out) & set(concepts.words)


def test_the_same_step_learns_from_the_same_batch() -> None:
    from mmovseg_geo.training.augment import Augmentation, augmented
    from mmovseg_geo.training.chips import Chips, SimulatedChips

    chips = Chips.join(SimulatedChips(size=64).chip(index) for index in range(2))
    first, second = (augmented([chips], Augmentation(crop=32), np.random.default_rng(4)) for _ in range(2))
    torch.testing.assert_close(first.labels, second.labels)
    torch.testing.assert_close(first.gsd_m, second.gsd_m)
