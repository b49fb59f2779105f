"""The registry as it is shipped, and where it says that weights are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmovseg_geo.errors import ConfigError, WeightsError
from mmovseg_geo.models import SEGMENTERS, hub, load_segmenter, registry
from tests.conftest import shared_folder

ENTRIES = [registry.entry(name) for name in registry.names()]
FILES = [found for found in ENTRIES if found.source is not None]
HUB_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ASSETS_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT")


def called(found: registry.Entry) -> str:
    return found.name


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    for variable in (*HUB_VARIABLES, "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_every_published_checkpoint_of_both_variants_has_a_name() -> None:
    members = {"modelPIE", "modelPIEclean", "modelOEMthin", "modelOEMthick", "modelDDSK", "modelDDCH"}
    for network, archive in (("mmovseg-vitb16", "B16.zip"), ("mmovseg-vitl14", "L14.zip")):
        published = [found for found in FILES if found.network == network]
        assert {found.member for found in published} == {f"{member}.pth" for member in members}
        assert {found.source.file for found in published if found.source} == {archive}


@pytest.mark.parametrize("found", FILES, ids=called)
def test_what_a_file_is_for_is_known(found: registry.Entry) -> None:
    assert found.network in SEGMENTERS or registry.layout(found.network or "")
    assert set(found.sensors) <= {"optical", "sar"}
    assert found.normalization is not None
    assert found.normalization.keys() == {"range", "mean", "std", "bands"}
    assert found.source is not None
    assert found.source.sha256 is None or re.fullmatch("[0-9a-f]{64}", found.source.sha256)
    assert found.licence or found.licence_note, "an unknown licence is explained"


@pytest.mark.parametrize("found", [found for found in ENTRIES if found.source is None], ids=called)
def test_a_system_is_a_segmenter_made_of_known_parts(found: registry.Entry) -> None:
    assert found.parts
    assert all(registry.entry(part).source for part in (*found.parts, *found.wanted))


@pytest.mark.parametrize("found", [found for found in FILES if found.classes], ids=called)
def test_unseen_words_are_asked_for_beside_the_trained_ones(found: registry.Entry) -> None:
    assert set(found.classes) < set(found.evaluated)


def test_known_files_have_the_size_and_sha256_of_the_registry() -> None:
    folder = shared_folder() / "weights"
    known = [found for found in FILES if found.source and found.source.sha256]
    assert known
    for found in known:
        assert found.source is not None
        path = folder / Path(found.source.file).name
        if not path.is_file():
            pytest.skip(f"{path} not found; set MMOVSEG_SHARED")
        assert (path.stat().st_size, hub.digest(path)) == (found.source.size, found.source.sha256)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean mmovseg-vitb16-pie\?"):
        registry.entry("mmovseg-vitb16-pei")


def test_a_name_that_is_not_here_says_the_next_step(home: Path) -> None:
    assert registry.cached("alignearth-sar-vitb16") is None
    with pytest.raises(WeightsError, match="mmovseg models pull alignearth-sar-vitb16"):
        registry.weights_file("alignearth-sar-vitb16")
    assert not home.exists(), "looking makes no folder"


def test_what_is_not_on_the_hub_says_where_it_is(home: Path) -> None:
    with pytest.raises(WeightsError, match=r"(?s)xclip_jbu_one_million_aid\.ckpt from https://github.*--from FILE"):
        registry.weights_file("simfeatup-jbu-one")


def test_offline_the_next_step_is_another_machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"(?s)HF_HUB_OFFLINE is set.*HF_HOME.*--from FILE"):
        registry.weights_file("clip-vitb16-openai")


def test_files_that_other_programs_fetched_are_found(home: Path) -> None:
    folder = home / "hub" / "models--timm--vit_base_patch16_clip_224.openai"
    commit = "f" * 40
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    save_file({"a": torch.ones(1)}, snapshot / "open_clip_model.safetensors")
    assert registry.weights_file("clip-vitb16-openai") == snapshot / "open_clip_model.safetensors"
    assert registry.here("clip-vitb16-openai") == "cached"
    assert registry.here("segearth-ov") == "partly"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HOME": "/a"}, "/a/hub"),
        ({"HF_HOME": "/a", "HF_HUB_CACHE": "/b"}, "/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_the_cache_is_where_the_environment_says(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HF_HOME", "XDG_CACHE_HOME", *HUB_VARIABLES):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert hub.cache_folder() == Path(expected)


def test_the_bundled_model_is_always_here(home: Path) -> None:
    assert registry.here("mmovseg-compact") == "bundled"
    assert registry.weights_file("mmovseg-compact").is_file()


def test_a_part_is_no_model(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)clip-vitb16-openai is no whole model.*comes with segearth-ov and"):
        load_segmenter("clip-vitb16-openai", "water")
    with pytest.raises(ConfigError, match=r"upsampler FeatUp.*\n.*--model segearth-ov --model-option upsampler=FILE"):
        load_segmenter("featup-jbu-stack-clip", "water")


def test_every_part_belongs_to_an_option() -> None:
    assert set(registry.PART_OPTIONS) == set(registry.networks())


def test_a_published_checkpoint_that_is_not_here_says_how_to_get_it(home: Path) -> None:
    with pytest.raises(WeightsError, match="mmovseg models pull mmovseg-vitb16-pie"):
        load_segmenter("mmovseg-vitb16-pie", "water")


def test_a_checkpoint_as_published_is_to_be_converted(tmp_path: Path) -> None:
    path = tmp_path / "modelPIE.pth"
    torch.save({"model": {}}, path)
    with pytest.raises(WeightsError, match=r"mmovseg models convert .*modelPIE\.pth -o modelPIE\.safetensors"):
        load_segmenter(str(path), "water")


def test_the_nearest_model_may_be_a_published_one() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean mmovseg-vitl14-oem-thin\?"):
        load_segmenter("mmovseg-vitl14-oem-thn", "water")


def test_asking_where_weights_are_loads_no_torch_and_no_hub() -> None:
    script = (
        "import sys; from mmovseg_geo.models import registry\n"
        "[registry.here(name) for name in registry.names()]\n"
        "print([name for name in ('torch', 'huggingface_hub', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[]", result.stderr


def test_one_room_talks_to_the_hub() -> None:
    root = Path(registry.__file__).parents[2]
    sources = [*(root / "mmovseg_geo").rglob("*.py"), *(root / "cli").rglob("*.py")]
    asking = [path.name for path in sources if re.search(r"^\s*(from|import) huggingface_hub", path.read_text(), re.M)]
    assert asking == ["hub.py"]
