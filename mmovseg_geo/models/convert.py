"""Published checkpoints to ours: safetensors that say what they are, where they came from and that they are whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

import mmovseg_geo
from mmovseg_geo.errors import ConfigError, OutputError, WeightsError
from mmovseg_geo.models import hub, registry
from mmovseg_geo.models.mmovseg import compact, named
from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.checkpoint import infer_variant, rules
from mmovseg_geo.models.mmovseg.variants import PUBLISHED
from mmovseg_geo.models.pickled import read_checkpoint
from mmovseg_geo.models.registry import Entry
from mmovseg_geo.models.state_dict import load, rename
from mmovseg_geo.models.weights import metadata

UPSAMPLER = "upsampler."
"""What Lightning puts before the keys of an upsampler it trained."""

CHECKSUM = "content_sha256"
"""Of all tensors, in the metadata of a converted file: `verify` reads it."""


@dataclass(frozen=True)
class Converted:
    """Tensors under our keys, and what the file will say of itself."""

    network: str
    tensors: dict[str, Tensor]
    about: dict[str, str]


def convert(path: Path, *, found: Entry | None = None, trust_pickle: bool = False) -> Converted:
    """An official checkpoint as ours; which network it is for is told from its keys.

    Args:
        path: a torch or safetensors file, or an archive that holds `found.member`.
        found: the name it was published under; None to tell it from the names of the file and its network.
        trust_pickle: as in `read_checkpoint`.

    Raises:
        WeightsError: no checkpoint, or one for another network; the message names the file and the keys.
        ConfigError: it is converted already.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file() and "variant" in metadata(path):
        raise ConfigError(f"{path} is converted already; use it with --model, or see it with `mmovseg models show`.")
    with _member(path, found) as file:
        state = read_checkpoint(file, trust_pickle=trust_pickle)
        network, tensors = _recognized(state, file)
        found = found or _published_as(file.name, network)
        if found is not None and found.network != network:
            raise WeightsError(f"{file}: a checkpoint of {network}; {found.name} is one of {found.network}.")
        about = {
            "variant": network,
            "source_file": file.name,
            "source_sha256": hub.digest(file),
            "converted_by": f"mmovseg-geo {mmovseg_geo.__version__}",
            "licence": "unknown",
            **(_published(found) if found else {}),
            CHECKSUM: checksum(tensors),
        }
        return Converted(network, tensors, about)


def write(converted: Converted, out: Path, *, overwrite: bool = False) -> Path:
    """Write the file; it has its name only when it is complete.

    Raises:
        OutputError: it exists, has another suffix than `.safetensors`, or cannot be written.
    """
    check_output(out, overwrite=overwrite)
    staged = out.with_name(f".{out.name}.unfinished-{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staged.touch()
        mode = staged.stat().st_mode
        save_file(_apart(converted.tensors), staged, metadata=converted.about)
        staged.chmod(mode)  # safetensors makes files that only their owner can read, which a shared cache cannot use
        staged.replace(out)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"Cannot write {out}: {error}. Nothing was left there.") from error
    finally:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
    return out


def check_output(out: Path, *, overwrite: bool = False) -> None:
    """Refuse an output before any work is done for it."""
    if out.suffix != ".safetensors":
        raise OutputError(f"{out}: converted weights are .safetensors files; give such a name.")
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists already. Add --overwrite to replace it, or give another name with -o.")


def check_fits(network: str, tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors that do not fill their network; those on the meta device, which have shapes only, will do.

    Raises:
        WeightsError: entries are missing, unexpected or of another shape, or nobody knows the network.
    """
    layout = registry.layout(network)
    if layout:
        wrong = [
            f"{key} is {tuple(tensors[key].shape) if key in tensors else 'missing'}, expected {shape}"
            for key, shape in layout.items()
            if key not in tensors or tuple(tensors[key].shape) != shape
        ]
        if wrong:
            raise WeightsError(f"{source} is not a checkpoint of {network}: {'; '.join(wrong)}.")
        return
    with torch.device("meta"):
        empty = _empty(network, source)
    load(empty, tensors, source=source)


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of names, types, shapes and values, whatever their order in the file."""
    found = sha256()
    for name in sorted(tensors):
        value = tensors[name].detach()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        flat = value.contiguous().reshape(-1)
        # One number alone may keep the stride of the view it was, which bytes cannot have.
        found.update(flat.as_strided(flat.shape, (1,)).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _empty(network: str, source: str) -> nn.Module:
    """A network of MM-OVSeg by name; the numbers of a custom one are in the file itself."""
    if network in PUBLISHED:
        return build(PUBLISHED[network]())
    if network == named.VARIANT:
        return build(named.from_metadata(metadata(Path(source)), source))
    if network == "mmovseg-compact":
        return compact.build(compact.mmovseg_compact())
    known = ", ".join(("mmovseg-compact", *PUBLISHED, named.VARIANT, *registry.networks()))
    raise WeightsError(f"{source}: made for the unknown network {network!r}. Known: {known}.")


def _recognized(state: dict[str, Tensor], path: Path) -> tuple[str, dict[str, Tensor]]:
    """The network, and the tensors under our keys."""
    if "upsample1.weight" in state:
        try:
            network = infer_variant(state)
            tensors = rename(state, rules(PUBLISHED[network]()))
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
        check_fits(network, tensors, str(path))
        return network, tensors
    state = {key.removeprefix(UPSAMPLER): value for key, value in state.items()}
    for network in registry.networks():
        if all(key in state and tuple(state[key].shape) == shape for key, shape in registry.layout(network).items()):
            return network, state
    listed, known = ", ".join(list(state)[:4]), ", ".join(registry.networks())
    raise WeightsError(
        f"{path}: a checkpoint of a network mmovseg does not know; its {len(state)} entries begin with {listed}.\n"
        f"  Known: MM-OVSeg (modelPIE.pth and the like; an encoder alone is not enough), {known}."
    )


def _published_as(file: str, network: str) -> Entry | None:
    """The entry of a file that has the name it was published under; None where that is nobody's or several names'."""
    entries = [registry.entry(name) for name in registry.names()]
    same = [
        found
        for found in entries
        if found.source and found.network == network and file in (found.member, PurePosixPath(found.source.file).name)
    ]
    return same[0] if len(same) == 1 else None


def _published(found: Entry) -> dict[str, str]:
    """What the registry adds to the metadata."""
    source = found.source
    assert source is not None, found.name
    words = [[word] for word in found.evaluated or found.classes]
    about = {
        "name": found.name,
        "licence": found.licence or "unknown",
        "source": f"{source.repository}, {source.file}" + (f", {found.member}" if found.member else ""),
        "classes": json.dumps(words),
        "trained_classes": json.dumps(found.classes),
    }
    return {key: value for key, value in about.items() if value != "[]"}


@contextmanager
def _member(path: Path, found: Entry | None) -> Iterator[Path]:
    """The checkpoint itself, taken out of the archive it may be in."""
    members = checkpoints_in(path)
    if not members:
        yield path
        return
    wanted = found.member if found else None
    member = next((name for name in members if PurePosixPath(name).name == wanted), None)
    if member is None:
        listed = ", ".join(PurePosixPath(name).name for name in members)
        lacks = f"has no {wanted}" if wanted else "is an archive; say with --as NAME which checkpoint is meant"
        raise WeightsError(f"{path} {lacks}. It holds {listed}.")
    scratch = hub.assets() / "mmovseg"
    scratch.mkdir(parents=True, exist_ok=True)
    # A checkpoint that is still mapped cannot be removed on every system.
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=scratch, ignore_cleanup_errors=True) as folder:
        taken = Path(folder) / PurePosixPath(member).name
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as packed, taken.open("wb") as target:
                shutil.copyfileobj(packed, target, 1 << 22)
        except zipfile.BadZipFile as error:
            raise WeightsError(f"{path}: the archive is damaged ({error}). Get it again.") from error
        yield taken


def checkpoints_in(path: Path) -> list[str]:
    """Checkpoints in an archive; none for a file that is no archive, or that torch wrote itself."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/data.pkl") for name in names):
        return []
    return [name for name in names if name.endswith((".pth", ".pt", ".ckpt")) and "__MACOSX" not in name]


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, none of which shares its memory: safetensors stores no views."""
    apart, seen = {}, set()
    for name, value in tensors.items():
        own = value.detach().contiguous()
        storage = own.untyped_storage()
        if storage.nbytes() != own.nbytes or storage.data_ptr() in seen:
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        apart[name] = own
    return apart
