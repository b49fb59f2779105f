"""What crosses between machines: small values that say what to do and what came of it. Pixels stay on the disks."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import mmovseg_geo
from mmovseg_geo.config import MAYBE_PATHS, SegmentConfig
from mmovseg_geo.manifest import ScenePair, is_address

if TYPE_CHECKING:
    from mmovseg_geo.rasters.scene import Scene

Kind = Literal["scene", "cut", "strip"]
"""scene: map one from what is there, or finish one whose strips are. cut: open one and say its strips. strip: one."""


@dataclass(frozen=True)
class Order:
    """A piece of work for one worker.

    Attributes:
        number: of the scene in its batch, from 0.
        folder: that gets the scene's files, as workers see it.
        parts: into how many strips a scene is cut at most.
        rows: of a strip, from the first to the one below it, counted from the top of the map.
        scene: opened before, see `packed`; its shift is estimated once.
        version: of the software that wrote this.
    """

    kind: Kind
    number: int
    pair: ScenePair
    folder: str
    config: SegmentConfig
    parts: int = 1
    rows: tuple[int, int] | None = None
    scene: bytes | None = None
    version: str = mmovseg_geo.__version__

    def strip(self, rows: tuple[int, int], scene: bytes) -> Order:
        """The order for a strip of the same scene."""
        return replace(self, kind="strip", rows=rows, scene=scene)

    def joined(self, scene: bytes) -> Order:
        """The order to make the map of the finished strips."""
        return replace(self, kind="scene", scene=scene, config=replace(self.config, resume=True))


@dataclass(frozen=True)
class Outcome:
    """What became of an order.

    Attributes:
        status: `cut` and `strip` where work remains to be done for the scene.
        spans: rows that a scene was cut into.
        lost: its GPU stopped working, so that the worker should start anew.
    """

    status: Literal["done", "skipped", "failed", "cut", "strip"]
    message: str = ""
    seconds: float = 0.0
    spans: tuple[tuple[int, int], ...] = ()
    scene: bytes | None = field(default=None, repr=False)
    lost: bool = False


def packed(scene: Scene) -> bytes:
    """A scene as the paths and decisions that it pickles as, compressed."""
    found: bytes = zlib.compress(import_module("cloudpickle").dumps(scene))
    return found


def unpacked(content: bytes) -> Scene:
    """The scene that was packed; its files are opened when it is read."""
    scene: Scene = pickle.loads(zlib.decompress(content))
    return scene


def placed(pairs: Sequence[ScenePair], config: SegmentConfig) -> tuple[list[ScenePair], SegmentConfig]:
    """The same scenes and settings with whole paths, because a worker has another current folder."""
    found = {name: value for name in (*MAYBE_PATHS, "classes_file") if (value := getattr(config, name)) is not None}
    changed = {name: type(value)(_whole(str(value))) for name, value in found.items() if Path(value).exists()}
    absolute = [replace(pair, optical=_files(pair.optical), sar=_files(pair.sar)) for pair in pairs]
    return absolute, replace(config, **changed)


def _files(given: str | None) -> str | None:
    return None if given is None else ",".join(_whole(path) for path in given.split(","))


def _whole(path: str) -> str:
    return path if is_address(path) else str(Path(path).absolute())
