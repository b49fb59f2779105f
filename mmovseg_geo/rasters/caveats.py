"""What the user should know of a scene before trusting its map, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmovseg_geo.rasters.gcps import ThinPlate
from mmovseg_geo.rasters.years import other_years

if TYPE_CHECKING:
    from mmovseg_geo.rasters.layer import Layer
    from mmovseg_geo.rasters.scene import Scene

COVERS_LITTLE = 0.5
"""Below this share of the optical extent, SAR coverage is worth a warning."""
MUCH_BLACK = 0.05
"""A larger share of pure black pixels may be an undeclared border."""


def caveats(scene: Scene) -> list[str]:
    """Doubts about bands, dates, places, borders and coverage, each once."""
    layers = [*([scene.optical] if scene.optical else []), *scene.sar]
    found = [layer.choice.warning for layer in layers if layer.choice.warning]
    found += (
        other_years(scene.optical.source.facts, [layer.source.facts for layer in scene.sar]) if scene.optical else []
    )
    found += _by_spline(layers)
    found += [
        f"{layer.found.black_share:.0%} of {layer.source.facts.name} is pure black; if that is no data, say --nodata 0."
        for layer in layers
        if not layer.masked and not layer.source.zero and layer.found.black_share > MUCH_BLACK
    ]
    if scene.overlap is not None and scene.overlap < COVERS_LITTLE:
        found.append(f"SAR covers {scene.overlap:.0%} of the scene; elsewhere the optical image decides alone.")
    return list(dict.fromkeys(found))


def _by_spline(layers: Sequence[Layer]) -> list[str]:
    """One for all files that are placed alike, as the polarizations of a product are."""
    names: dict[str, list[str]] = {}
    for layer in layers:
        spline, facts = layer.placement.locator, layer.source.facts
        if isinstance(spline, ThinPlate):
            missed = f"{spline.residual_px:.2f} of its pixels"
            told = f"{len(facts.gcps)} control points; a point left out is missed by {missed}"
            names.setdefault(told, []).append(facts.name)
    return [
        f"{' and '.join(files)} {'are' if len(files) > 1 else 'is'} placed by a spline through {told}. Terrain between "
        "the points is not corrected: in hills places are off by up to hundreds of meters, slopes too bright or dark."
        for told, files in names.items()
    ]
