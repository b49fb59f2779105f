"""Weights by name: what is known of them, and where they are on this machine. Loads no torch and opens no socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from mmovseg_geo.errors import ConfigError, WeightsError, a_few, did_you_mean
from mmovseg_geo.models import hub

Here = Literal["bundled", "cached", "partly", "no"]
BYTES_PER_PARAMETER = 4
PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".zip")
"""Suffixes of sources that are converted once, when they are fetched; what runs afterwards is never a pickle."""
PART_OPTIONS = {"clip-vitb16": "checkpoint", "jbu-one": "upsampler", "jbu-stack": "upsampler"}
"""Networks that are parts of a model, and the option of SegEarth-OV models that takes a file of one."""


@dataclass(frozen=True)
class Source:
    """Where a file was published.

    Attributes:
        kind: `hub` (fetched by name), `web` (the user brings the file), or `package` (it came with mmovseg).
        repository: `owner/name` on the hub, an address, or the package that holds the file.
        revision: commit, branch or tag; None for what the repository shows first.
        size: bytes of the file.
        sha256: of the file.
    """

    kind: Literal["hub", "web", "package"]
    repository: str
    file: str
    revision: str | None = None
    size: int | None = None
    sha256: str | None = None

    @property
    def address(self) -> str:
        """Where a person finds it."""
        return f"{hub.endpoint()}/{self.repository}" if self.kind == "hub" else self.repository


@dataclass(frozen=True)
class Entry:
    """One name. None is what nobody told us, not a default.

    Attributes:
        about: a few words.
        method: the published system, or the one it is a part of.
        network: which network the tensors fit: a name of `SEGMENTERS`, or a part such as `clip-vitb16`.
        sensors: what it reads.
        gsd_m: finest and coarsest ground sampling distance of the images it was trained on, in meters.
        licence: of the weights.
        licence_note: what is known beside it.
        normalization: `range` of the values before it, `mean` and `std` that are subtracted and divided by.
        parameters: how many numbers it has.
        source: None for a system that is put together from `parts`.
        member: the file inside `source.file`, where that is an archive.
        classes: words it was trained on, in label order; empty for none (training-free).
        evaluated: words that its publication asks for.
        parts: names it cannot run without.
        wanted: names it runs better with.
    """

    name: str
    about: str
    method: str
    sensors: tuple[str, ...]
    network: str | None = None
    gsd_m: tuple[float, float] | None = None
    licence: str | None = None
    licence_note: str | None = None
    normalization: Mapping[str, Any] | None = None
    parameters: int | None = None
    source: Source | None = None
    member: str | None = None
    classes: tuple[str, ...] = ()
    evaluated: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()

    @property
    def converted(self) -> bool:
        """Whether its file is made here from the published one, which is pickled."""
        return self.source is not None and self.source.file.endswith(PICKLED)

    @property
    def size(self) -> int | None:
        """Bytes of the file that runs, about; for a system the sum of all its parts."""
        if self.source is None:
            sizes = [entry(part).size for part in (*self.parts, *self.wanted)]
            return sum(size for size in sizes if size is not None) or None
        if self.source.kind == "package":
            return bundled(self).stat().st_size
        if self.source.size is not None and not self.converted:
            return self.source.size
        return None if self.parameters is None else self.parameters * BYTES_PER_PARAMETER


def names() -> tuple[str, ...]:
    """Every name, systems first."""
    return tuple(_table()[0])


def entry(name: str) -> Entry:
    """What is known of a name.

    Raises:
        ConfigError: there is no such name.

    >>> entry("mmovseg-vitb16-pie").sensors
    ('optical', 'sar')
    """
    entries = _table()[0]
    if name not in entries:
        advice = did_you_mean(name, entries, otherwise="`mmovseg models list` shows all.")
        raise ConfigError(f"Unknown model {name!r}. {advice}")
    return entries[name]


def as_published(path: Path) -> str:
    """The message for a pickled checkpoint where a converted one is needed."""
    return (
        f"{path}: a checkpoint as its authors publish it. Convert it once, then use what comes out:\n"
        f"  mmovseg models convert {path} -o {path.stem}.safetensors"
    )


def as_part(network: str, file: str | Path) -> str:
    """How a part is given to the model it belongs to, indented as the second line of a message."""
    option = f"--model-option {PART_OPTIONS[network]}={file}"
    return f"  Give it to a model of SegEarth-OV, such as --model segearth-ov {option}"


def absent(path: Path) -> str:
    """The message for a path that is no file; for a folder it names the checkpoints inside."""
    if not path.is_dir():
        return f"{path}: no such file."
    inside = sorted(child.name for child in path.iterdir() if child.name.endswith((".safetensors", *PICKLED)))
    advice = f"Give one of the files in it: {a_few(inside)}." if inside else "There is none in it."
    return f"{path} is a folder; expected a checkpoint file, such as modelPIE.pth or model.safetensors.\n  {advice}"


def layout(network: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes that tell a part's network from others; empty where the registry keeps none."""
    return _table()[1].get(network, {})


def networks() -> tuple[str, ...]:
    """Networks with a layout."""
    return tuple(_table()[1])


def stored(name: str) -> Path:
    """Where the converted weights of a name are kept; the file need not exist."""
    return hub.assets() / "mmovseg" / f"{name}.safetensors"


def bundled(found: Entry) -> Path:
    """The file of an entry that comes in the package."""
    assert found.source is not None
    return Path(str(files(found.source.repository))) / found.source.file


def cached(name: str) -> Path | None:
    """The file that runs, if it is on this machine; None for a system, which has parts instead of a file."""
    found = entry(name)
    if found.source is None:
        return None
    if found.source.kind == "package":
        return bundled(found)
    if stored(name).is_file():
        return stored(name)
    if found.source.kind == "hub" and not found.converted:
        return hub.in_cache(found.source.repository, found.source.file, found.source.revision)
    return None


def here(name: str) -> Here:
    """Whether a name, with all that it needs, is on this machine."""
    found = entry(name)
    if found.source is not None:
        return "bundled" if found.source.kind == "package" else "cached" if cached(name) else "no"
    there = [cached(part) is not None for part in (*found.parts, *found.wanted)]
    if all(there):
        return "cached"
    return "partly" if any(there) else "no"


def weights_file(name: str) -> Path:
    """The file that runs; nothing is fetched.

    Raises:
        ConfigError: there is no such name.
        WeightsError: it is not on this machine; the message says how to get it.
    """
    found = entry(name)
    if found.source is None:
        raise WeightsError(f"{name} has no file of its own: it is put together from {', '.join(found.parts)}.")
    path = cached(name)
    if path is None:
        raise WeightsError(f"The weights {name} are not on this machine.\n{how_to_get(found)}")
    return path


def how_to_get(found: Entry) -> str:
    """The next step, indented as the second line of a message."""
    source = found.source
    assert source is not None, found.name
    if source.kind == "hub" and not hub.offline():
        return f"  Fetch them with: mmovseg models pull {found.name}"
    bring = f"mmovseg models pull {found.name} --from FILE"
    if source.kind == "hub":
        return (
            f"  HF_HUB_OFFLINE is set, and they are neither in {hub.cache_folder()} nor in {hub.assets()}.\n"
            f"  Fetch them where there is a network (mmovseg models pull {found.name}) and bring the folder HF_HOME;\n"
            f"  or bring {source.file} of {source.address} and say: {bring}"
        )
    licence = found.licence or found.licence_note or "unknown"
    return (
        f"  They are not on the hub. Get {source.file} from {source.address} (licence: {licence}), then say:\n  {bring}"
    )


@cache
def _table() -> tuple[dict[str, Entry], dict[str, dict[str, tuple[int, ...]]]]:
    import yaml

    text = files("mmovseg_geo.models").joinpath("registry.yaml").read_text(encoding="utf-8")
    # The C parser, where PyYAML has it, saves a tenth of a second.
    read = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    entries = {name: _entry(name, fields) for name, fields in read["models"].items()}
    layouts = {name: {key: tuple(shape) for key, shape in keys.items()} for name, keys in read["networks"].items()}
    return entries, layouts


def _entry(name: str, fields: dict[str, Any]) -> Entry:
    lists: dict[str, Any] = {
        key: tuple(fields.pop(key, ())) for key in ("sensors", "classes", "evaluated", "parts", "wanted")
    }
    gsd_m = fields.pop("gsd_m", None)
    source = fields.pop("source", None)
    return Entry(name, **fields, **lists, gsd_m=gsd_m and tuple(gsd_m), source=source and _source(source))


def _source(fields: dict[str, Any]) -> Source:
    kind = next(kind for kind in ("hub", "web", "package") if kind in fields)
    return Source(kind, fields[kind], **{key: value for key, value in fields.items() if key != kind})
