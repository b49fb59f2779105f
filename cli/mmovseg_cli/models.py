"""`mmovseg models`: weights by name, what is known of them, and their files on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmovseg_cli.command import command
from mmovseg_cli.talk import Talk

if TYPE_CHECKING:
    from mmovseg_geo.models.registry import Entry

Name = Annotated[str, typer.Argument(metavar="NAME", help="A name of `mmovseg models list`.")]
NameOrFile = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="A name of `mmovseg models list`, or a weights file.")
]
Trust = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Open a file that may run code of its authors; only if you trust them."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

WITHOUT_MEANING = {"network", "source", "licence_note", "member", "classes", "evaluated", "parts", "wanted", "path"}
"""What does not apply where it is empty; other facts are unknown where they are empty."""


def show_list(talk: Talk) -> None:
    """List all names: method, sensors, resolution, size, licence, and whether they are on this machine.

    mmovseg models list
    """
    from mmovseg_geo.models import registry

    entries = [registry.entry(name) for name in registry.names()]
    heading = ("NAME", "METHOD", "SENSORS", "RESOLUTION", "SIZE", "LICENCE", "HERE")
    rows = [heading, *((found.name, *_columns(found)) for found in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    talk.result(lines, {"command": "models list", "models": [_facts(found) for found in entries]})


def show(talk: Talk, name: NameOrFile) -> None:
    """Say all that is known of a name, or what a weights file says of itself.

    mmovseg models show mmovseg-vitb16-pie
    """
    from mmovseg_geo.models import registry

    if _is_file(name):
        from mmovseg_geo.models.weights import open_weights

        details = {"file": name, **open_weights(Path(name)).details}
        talk.result([f"{key:<16} {value}" for key, value in details.items()], {"command": "models show", **details})
        return
    facts = _facts(registry.entry(name))
    lines = [f"{key:<14} {_text(value)}" for key, value in facts.items() if value or key not in WITHOUT_MEANING]
    talk.result(lines, {"command": "models show", **facts})


def pull(
    talk: Talk,
    name: Name,
    given: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Take this file instead of fetching; what is pickled is converted."
        ),
    ] = None,
    trust_pickle: Trust = False,
    overwrite: Overwrite = False,
) -> None:
    """Bring the weights of a name to this machine, checked; an interrupted download goes on where it stopped.

    mmovseg models pull mmovseg-vitb16-pie
    """
    from mmovseg_geo.models.pull import pull as bring

    quiet = talk.quiet or talk.as_json
    got = bring(name, given=given, trust_pickle=trust_pickle, overwrite=overwrite, quiet=quiet)
    talk.result([str(path) for path in got.values()], {"command": "models pull", "name": name, "files": got})


def convert(
    talk: Talk,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint as its authors publish it.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The .safetensors file.", show_default="NAME.safetensors"),
    ] = None,
    published_as: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="The name it is published under, if its file does not tell."),
    ] = None,
    trust_pickle: Trust = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn a published checkpoint into safetensors that say what they are and where they came from.

    mmovseg models convert modelPIE.pth -o mmovseg-vitb16-pie.safetensors
    """
    from mmovseg_geo.models import registry

    found = registry.entry(published_as) if published_as else None
    from mmovseg_geo.models import convert as room

    if out is not None:
        room.check_output(out, overwrite=overwrite)
    made = room.convert(file, found=found, trust_pickle=trust_pickle)
    out = out or Path(f"{made.about.get('name', file.stem)}.safetensors")
    room.write(made, out, overwrite=overwrite)
    talk.note(f"{file.name}: {made.network}, {len(made.tensors)} tensors, licence {made.about['licence']}")
    talk.result([str(out)], {"command": "models convert", "file": out, **made.about})


def verify(talk: Talk, name: NameOrFile) -> None:
    """Read weights wholly and compare them with all that is known of them.

    mmovseg models verify mmovseg-compact
    """
    from mmovseg_geo.models import registry

    entries: list[tuple[Path, Entry | None]]
    if _is_file(name):
        entries = [(Path(name), None)]
    else:
        found = registry.entry(name)
        optional = [part for part in found.wanted if registry.cached(part)]
        whole = [name] if found.source is not None else [*found.parts, *optional]
        entries = [(registry.weights_file(part), registry.entry(part)) for part in whole]
    from mmovseg_geo.models.verify import verify as compare

    results = [compare(path, found) for path, found in entries]
    lines = [f"{result.path}: {result.network}, whole; compared: {', '.join(result.checks)}" for result in results]
    told = [
        {"path": result.path, "network": result.network, "sha256": result.sha256, "checks": result.checks}
        for result in results
    ]
    talk.result(lines, {"command": "models verify", "name": name, "files": told})


def path(talk: Talk, name: Name) -> None:
    """Print where the weights of a name are; exit 1 if they are not on this machine.

    mmovseg models path mmovseg-compact
    """
    from mmovseg_geo.models import registry

    found = registry.entry(name)
    parts = [name] if found.source is not None else list(found.parts)
    files = {part: registry.weights_file(part) for part in parts}
    talk.result([str(file) for file in files.values()], {"command": "models path", "name": name, "files": files})


def _is_file(text: str) -> bool:
    return text.endswith(".safetensors") or Path(text).is_file()


def _columns(found: Entry) -> tuple[str, ...]:
    from mmovseg_geo.models import registry

    return (
        found.method,
        ", ".join(found.sensors),
        _gsd(found),
        _size(found),
        _licence(found),
        registry.here(found.name),
    )


def _gsd(found: Entry) -> str:
    if found.gsd_m is None:
        return "any" if found.source is None else "unknown"
    finest, coarsest = found.gsd_m
    return f"{finest:g} m" if finest == coarsest else f"{finest:g}-{coarsest:g} m"


def _size(found: Entry) -> str:
    size = found.size
    if size is None:
        return "unknown"
    about = "" if found.source is not None and found.source.kind == "package" else "~"
    return f"{about}{size / 1e9:.1f} GB" if size >= 1e9 else f"{about}{size / 1e6:.0f} MB"


def _licence(found: Entry) -> str:
    return "see parts" if found.source is None else found.licence or "unknown"


def _facts(found: Entry) -> dict[str, Any]:
    """An entry as JSON; null is unknown."""
    from dataclasses import asdict

    from mmovseg_geo.models import registry

    facts = asdict(found)
    facts["size"] = found.size
    facts["here"] = registry.here(found.name)
    facts["path"] = registry.cached(found.name)
    return facts


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return "; ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the app."""
    group = typer.Typer(
        name="models",
        no_args_is_help=True,
        help="Weights by name: list, fetch, convert and check them.",
    )
    command(group, name="list")(show_list)
    for function in (show, pull, convert, verify, path):
        command(group)(function)
    app.add_typer(group)
