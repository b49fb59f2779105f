"""The command `mmovseg`."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from mmovseg_cli import batch, benchmark, coregister, doctor, info, models, polygonize, segment, train
from mmovseg_cli import eval as evaluate
from mmovseg_geo import __version__

app = typer.Typer(
    name="mmovseg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"mmovseg {__version__}")
        raise typer.Exit


@app.callback()
def mmovseg(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Label every pixel of a satellite or aerial scene with words you choose, from optical and SAR images together."""


for room in (segment, batch, coregister, polygonize, info, train, evaluate, models, doctor, benchmark):
    room.add_to(app)


def main() -> None:
    """Run the command line; a request to end the process (SIGTERM) cleans up as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()
