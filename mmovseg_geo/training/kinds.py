"""Kinds of land cover by which the compact network's encoders speak to its head."""

from __future__ import annotations

from mmovseg_geo.simulate import LAND_COVERS

MAPPED = {
    "mapped water": ("water", "water body"),
    "mapped trees": ("trees", "forest"),
    "mapped grass": ("grass", "grassland"),
    "mapped crops": ("cropland", "crops"),
    "mapped town": ("built-up area", "urban area"),
    "mapped bare ground": ("bare ground", "bare soil"),
    "mapped shrubs": ("shrubs", "shrubland"),
    "mapped wetland": ("wetland", "marsh"),
}
"""Broad kinds of real maps, in which what the simulator tells apart is mixed, and words for them."""
KINDS = {cover.name: (cover.name, *cover.words) for cover in LAND_COVERS} | MAPPED
"""Those of the simulator first; the mean vector of its words is what each says in the space of the text."""
