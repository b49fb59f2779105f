"""Label every pixel of a satellite or aerial scene with your own words, from optical and SAR images together.

>>> import mmovseg_geo as mm
>>> scene = mm.open_scene(optical="s2.tif", sar="s1.tif")                        # doctest: +SKIP
>>> segmenter = mm.load_segmenter(classes=["water", "forest", ["building", "house"]])  # doctest: +SKIP
>>> labels = mm.segment(scene, segmenter, out="labels.tif")                      # doctest: +SKIP
>>> mm.polygonize_to(labels, "labels.gpkg", min_area=400)                       # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mmovseg_geo.batch import map_scenes as map_scenes
    from mmovseg_geo.errors import MmovsegError as MmovsegError
    from mmovseg_geo.grid import Size as Size
    from mmovseg_geo.grid import Window as Window
    from mmovseg_geo.maps import map_scene as map_scene
    from mmovseg_geo.models import load_segmenter as load_segmenter
    from mmovseg_geo.pipeline import segment as segment
    from mmovseg_geo.polygons import polygonize as polygonize
    from mmovseg_geo.polygons import polygonize_to as polygonize_to
    from mmovseg_geo.polygons import write_polygons as write_polygons
    from mmovseg_geo.rasters.labels import LabelRaster as LabelRaster
    from mmovseg_geo.rasters.scene import Scene as Scene
    from mmovseg_geo.rasters.scene import open_scene as open_scene
    from mmovseg_geo.tiles import Tiling as Tiling
    from mmovseg_geo.vocabulary import Vocabulary as Vocabulary

_ROOMS = {
    "LabelRaster": "rasters.labels",
    "MmovsegError": "errors",
    "Scene": "rasters.scene",
    "Size": "grid",
    "Tiling": "tiles",
    "Vocabulary": "vocabulary",
    "Window": "grid",
    "load_segmenter": "models",
    "map_scene": "maps",
    "map_scenes": "batch",
    "open_scene": "rasters.scene",
    "polygonize": "polygons",
    "polygonize_to": "polygons",
    "segment": "pipeline",
    "write_polygons": "polygons",
}
"""Public name to the room it lives in; loaded on first use, so that importing the package costs nothing."""

__all__ = [*_ROOMS, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
