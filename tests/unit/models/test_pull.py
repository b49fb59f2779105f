"""Weights brought to this machine from a small hub, whole or not at all."""

from __future__ import annotations

import argparse
import logging
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from mmovseg_geo.errors import ConfigError, OutputError, WeightsError
from mmovseg_geo.models import hub, load_segmenter, registry
from mmovseg_geo.models.pickled import read_checkpoint
from mmovseg_geo.models.pull import pull
from mmovseg_geo.models.verify import verify
from mmovseg_geo.models.weights import open_weights
from tests.small_hub import SmallHub, serving
from tests.unit.models import published
from tests.unit.models.published import ENCODER, REPOSITORY, archive, official, pickled, plain, use_small_registry


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and a registry of small files."""
    use_small_registry(monkeypatch, tmp_path / "home")
    monkeypatch.setattr(hub, "_PAUSE_S", 0)
    return tmp_path / "home"


@pytest.fixture
def small_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    with serving() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        served.files = {
            (REPOSITORY, "encoder.safetensors"): plain(),
            (REPOSITORY, "encoder.pt"): pickled(),
            (REPOSITORY, "B16.zip"): archive(modelPIE=official(), modelDDSK=b"another"),
        }
        yield served


def nothing_passes_for(name: str) -> bool:
    """No file that a run could take for the weights."""
    folder = hub.cache_folder()
    snapshots = [path for path in folder.rglob("snapshots/*/*") if not path.is_dir()]
    blobs = [path for path in folder.rglob("blobs/*") if not path.name.endswith(".incomplete")]
    made = [path for path in hub.assets().rglob("*") if path.is_file()]
    return registry.cached(name) is None and not snapshots and not blobs and not made


def refused(name: str, match: str, **options: object) -> None:
    with pytest.raises(WeightsError, match=match):
        pull(name, **options)  # type: ignore[arg-type]
    assert nothing_passes_for(name)


def test_safetensors_are_kept_where_other_programs_look(small_hub: SmallHub) -> None:
    got = pull("plain")
    assert got == {"plain": registry.weights_file("plain")}
    assert got["plain"].parent.parent.parent == hub.cache_folder() / "models--someone--weights"
    assert torch.equal(read_checkpoint(got["plain"])["encoder.weight"], ENCODER["encoder.weight"])


def test_what_is_here_is_not_asked_for(small_hub: SmallHub) -> None:
    pull("plain")
    small_hub.requests.clear()
    assert pull("plain").keys() == {"plain"}
    assert not small_hub.requests


def test_what_is_here_can_be_fetched_again(small_hub: SmallHub) -> None:
    path = pull("plain")["plain"]
    path.resolve().write_bytes(b"damaged")
    pull("plain", overwrite=True)
    assert path.read_bytes() == plain()


def test_pickled_files_are_converted_once(small_hub: SmallHub) -> None:
    path = pull("pickled")["pickled"]
    assert path == registry.stored("pickled") == registry.weights_file("pickled")
    details = open_weights(path).details
    assert details["source_sha256"] == sha256(pickled()).hexdigest()
    assert (details["variant"], details["licence"], details["source_file"]) == ("encoder", "MIT", "encoder.pt")
    assert torch.equal(read_checkpoint(path)["encoder.weight"], ENCODER["encoder.weight"])


def test_a_published_checkpoint_is_taken_out_of_its_archive_and_runs(small_hub: SmallHub) -> None:
    weights = open_weights(pull("mmovseg-vitb16-pie")["mmovseg-vitb16-pie"])
    assert weights.classes == (("city",), ("road",), ("forest",))
    assert weights.details["source"] == "someone/weights, B16.zip, modelPIE.pth"
    segmenter = load_segmenter("mmovseg-vitb16-pie", device="cpu")
    assert segmenter.provenance["model"] == "mmovseg-vitb16-pie"
    assert segmenter.provenance["weights_sha256"] == weights.sha256
    assert [entry.name for entry in segmenter.vocabulary.scored] == ["city", "road", "forest"]
    assert not list(hub.assets().rglob(".unfinished*"))


def test_an_interrupted_download_goes_on_where_it_stopped(small_hub: SmallHub) -> None:
    small_hub.stops_at = 100
    refused("plain", "(?s)breaks off.*goes on where")
    small_hub.stops_at = None
    small_hub.requests.clear()
    pull("plain")
    asked = [request for request in small_hub.asked("GET") if request.path.startswith("/storage/")]
    assert [request.headers.get("Range") for request in asked] == ["bytes=100-"]
    assert registry.weights_file("plain").read_bytes() == plain()


def test_a_connection_that_breaks_now_and_then_is_opened_again(small_hub: SmallHub) -> None:
    small_hub.breaks_after = 90
    assert pull("plain")["plain"].read_bytes() == plain()
    ranges = [request.headers.get("Range") for request in small_hub.asked("GET") if "/storage/" in request.path]
    assert ranges == [None, "bytes=90-", "bytes=180-"]


def test_a_server_without_ranges_begins_again(small_hub: SmallHub) -> None:
    small_hub.stops_at = 100
    refused("plain", "goes on where")
    small_hub.stops_at, small_hub.knows_ranges = None, False
    assert pull("plain")["plain"].read_bytes() == plain()


def test_a_download_that_is_short_is_incomplete(small_hub: SmallHub) -> None:
    small_hub.shortened = True
    refused("plain", "(?s)incomplete.*goes on where")
    small_hub.shortened = False
    assert pull("plain")["plain"].read_bytes() == plain()


def test_a_file_with_another_sha256_is_discarded(small_hub: SmallHub) -> None:
    altered = bytearray(plain())
    altered[-1] ^= 1
    small_hub.claims = bytes(altered)
    refused("plain", "(?s)has the sha256.*discarded")
    assert not list(hub.cache_folder().rglob("*.incomplete"))


def test_the_sha256_of_the_registry_counts_too(small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    source = registry.Source("hub", REPOSITORY, "encoder.safetensors", sha256="0" * 64)
    monkeypatch.setitem(published.ENTRIES, "plain", published.entry("plain", "", source=source))
    refused("plain", "expected 000000000000")


def test_a_file_for_another_network_is_discarded(small_hub: SmallHub) -> None:
    small_hub.files[REPOSITORY, "encoder.safetensors"] = plain({"decoder.weight": torch.ones(2, 2)})
    refused("plain", "encoder.weight is missing")


def test_a_web_page_instead_of_the_file_is_discarded(small_hub: SmallHub) -> None:
    small_hub.files[REPOSITORY, "encoder.safetensors"] = b"<html>" + 200 * b" " + b"</html>"
    refused("plain", f"encoder.safetensors of {REPOSITORY}: cannot be read as safetensors")
    small_hub.files[REPOSITORY, "encoder.pt"] = b"<html>Sign in</html>"
    refused("pickled", "not a checkpoint")


def test_half_an_archive_is_discarded(small_hub: SmallHub) -> None:
    whole = small_hub.files[REPOSITORY, "B16.zip"]
    small_hub.files[REPOSITORY, "B16.zip"] = whole[: len(whole) // 2]
    refused("mmovseg-vitb16-pie", "end of the archive is missing")


def test_an_archive_without_the_checkpoint_says_what_it_holds(small_hub: SmallHub) -> None:
    small_hub.files[REPOSITORY, "B16.zip"] = archive(modelDDSK=official())
    with pytest.raises(WeightsError, match=r"(?s)B16\.zip has no modelPIE\.pth. It holds modelDDSK\.pth.*--overwrite"):
        pull("mmovseg-vitb16-pie")
    assert registry.cached("mmovseg-vitb16-pie") is None


def test_a_pickle_that_runs_code_is_not_opened_unless_trusted(small_hub: SmallHub) -> None:
    small_hub.files[REPOSITORY, "encoder.pt"] = pickled({"state_dict": ENCODER, "args": argparse.Namespace(lr=1)})
    with pytest.raises(WeightsError, match=r"argparse\.Namespace.*\n.*--trust-pickle"):
        pull("pickled")
    assert registry.cached("pickled") is None
    small_hub.requests.clear()
    pull("pickled", trust_pickle=True)
    assert not small_hub.asked("GET"), "it was fetched already"
    assert registry.weights_file("pickled").is_file()


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "answered 404.*not there"), (401, "answered 401.*HF_TOKEN"), (403, "HF_TOKEN"), (503, "503.*Try again")],
)
def test_a_hub_that_refuses_is_quoted(small_hub: SmallHub, status: int, said: str) -> None:
    small_hub.status = status
    refused("plain", f"(?s){said}.*--from encoder.safetensors")


def test_a_file_that_the_hub_does_not_have_is_named(small_hub: SmallHub) -> None:
    del small_hub.files[REPOSITORY, "encoder.safetensors"]
    refused("plain", r"404 for encoder\.safetensors of someone/weights")


def test_a_repository_that_does_not_exist_looks_like_one_that_is_private(small_hub: SmallHub) -> None:
    small_hub.files.clear()
    refused("plain", "(?s)401.*does not exist, or is not for everyone")


def test_a_hub_that_does_not_answer_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused("plain", r"(?s)http://127\.0\.0\.1:9 cannot be reached.*HF_ENDPOINT")


def test_a_hub_that_closes_the_door_is_named(small_hub: SmallHub) -> None:
    small_hub.silent = True
    refused("plain", "(?s)cannot be reached, or breaks off.*--from")


def test_a_server_that_is_no_hub_is_told_apart(small_hub: SmallHub) -> None:
    small_hub.headless = True
    refused("plain", "does not answer as a hub does")


def test_a_gated_file_needs_a_token_which_stays_with_the_hub(
    small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_hub.token = "secret"
    refused("plain", "(?s)accepted its terms.*HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "secret")
    pull("plain")
    stored = [request for request in small_hub.requests if request.path.startswith("/storage/")]
    assert stored
    assert not any("Authorization" in request.headers for request in stored)


def test_offline_nothing_is_asked(small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused("plain", "HF_HUB_OFFLINE is set")
    assert not small_hub.requests


def test_offline_what_is_here_is_found(small_hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    pull("plain")
    pull("pickled")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert pull("plain").keys() == {"plain"}
    assert pull("pickled").keys() == {"pickled"}


def test_a_system_brings_its_parts_and_says_what_it_would_like(
    small_hub: SmallHub, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert pull("system").keys() == {"plain", "pickled"}
    assert "system runs without brought" in caplog.text
    assert "mmovseg models pull brought --from FILE" in caplog.text
    assert registry.here("system") == "partly"


def test_a_file_for_a_system_has_to_name_the_part(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="plain, pickled, brought"):
        pull("system", given=tmp_path / "encoder.pt")


def test_what_is_not_on_the_hub_is_brought(home: Path, tmp_path: Path) -> None:
    refused("brought", r"(?s)Get encoder\.ckpt from someone/weights.*ask the authors.*--from FILE")
    (tmp_path / "mine.ckpt").write_bytes(pickled())
    assert pull("brought", given=tmp_path / "mine.ckpt")["brought"] == registry.stored("brought")
    with pytest.raises(OutputError, match="--overwrite"):
        pull("brought", given=tmp_path / "mine.ckpt")
    pull("brought", given=tmp_path / "mine.ckpt", overwrite=True)


def test_a_brought_file_may_be_the_archive_its_member_or_the_converted_one(home: Path, tmp_path: Path) -> None:
    name = "mmovseg-vitb16-pie"
    (tmp_path / "B16.zip").write_bytes(archive(modelPIE=official()))
    (tmp_path / "modelPIE.pth").write_bytes(official())
    first = open_weights(pull(name, given=tmp_path / "B16.zip")[name]).details["content_sha256"]
    elsewhere = tmp_path / "carried.safetensors"
    elsewhere.write_bytes(registry.stored(name).read_bytes())
    for given in (tmp_path / "modelPIE.pth", elsewhere):
        path = pull(name, given=given, overwrite=True)[name]
        assert open_weights(path).details["content_sha256"] == first
        verify(path, registry.entry(name))


def test_a_brought_file_that_is_not_the_published_one_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = registry.Source("web", REPOSITORY, "encoder.ckpt", sha256="0" * 64)
    monkeypatch.setitem(published.ENTRIES, "brought", published.entry("brought", "", source=source))
    (tmp_path / "mine.ckpt").write_bytes(pickled())
    refused("brought", "not the published brought", given=tmp_path / "mine.ckpt")


def test_a_brought_file_that_is_missing_is_named(home: Path, tmp_path: Path) -> None:
    refused("brought", r"absent\.ckpt: no such file", given=tmp_path / "absent.ckpt")


def test_verifying_compares_with_all_that_is_known(small_hub: SmallHub) -> None:
    pull("system")
    plain_checks = verify(registry.weights_file("plain"), registry.entry("plain")).checks
    assert plain_checks == ("sha256 that the hub names", "keys and shapes of encoder")
    converted = verify(registry.weights_file("pickled"), registry.entry("pickled")).checks
    assert converted == ("checksum of the tensors, noted when it was converted", "keys and shapes of encoder")


@pytest.mark.parametrize("name", ["plain", "pickled"])
def test_verifying_finds_one_changed_byte(small_hub: SmallHub, name: str) -> None:
    path = pull(name)[name].resolve()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"(?s)altered.*mmovseg models pull {name} --overwrite"):
        verify(registry.weights_file(name), registry.entry(name))


def test_verifying_finds_weights_under_a_wrong_name(small_hub: SmallHub) -> None:
    pull("pickled")
    registry.stored("brought").write_bytes(registry.stored("pickled").read_bytes())
    with pytest.raises(WeightsError, match=r"is pickled.*expected brought"):
        verify(registry.weights_file("brought"), registry.entry("brought"))


def test_the_bundled_weights_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry.entry("mmovseg-compact")
    assert verify(registry.weights_file("mmovseg-compact"), found).checks == ("sha256 that came with the package",)


def test_an_archive_whose_member_is_damaged_is_called_so(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "B16.zip"
    content = bytearray(archive(modelPIE=official()))
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert zipfile.is_zipfile(path)
    refused("mmovseg-vitb16-pie", "damaged", given=path)
