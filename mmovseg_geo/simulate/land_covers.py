"""The materials of simulated scenes: their words, colors and backscatter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LandCover:
    """One simulated material, with the words for it and what the two sensors see.

    `rgb` and `rgb_other` are surface reflectances (red, green, blue) between which scenes and objects vary: green and
    dry, clear and muddy, new and weathered. `vv_db` and `vh_db` are mean gamma0; `spread_db` is how far objects of one
    scene differ (scenes differ by about as much again). `grain_m` and `contrast` are the size and the relative
    amplitude of the optical texture, `height_m` the height above ground that casts shadows.
    """

    name: str
    words: tuple[str, ...]
    rgb: tuple[float, float, float]
    rgb_other: tuple[float, float, float]
    vv_db: float
    vh_db: float
    spread_db: float
    grain_m: float
    contrast: float
    height_m: float = 0.0


RGB = tuple[float, float, float]


def _cover(
    names: str, rgb: RGB, rgb_other: RGB, radar: tuple[float, float, float], look: tuple[float, float, float]
) -> LandCover:
    """A row of the table: names joined by bars, colors, (VV, VH, spread) in dB, (grain in m, contrast, height in m)."""
    words = tuple(names.split("|"))
    return LandCover(words[0], words, rgb, rgb_other, *radar, *look)


# Reflectances follow surface-reflectance products (medians over open HLS and Sentinel-2 chips); backscatter follows
# terrain-corrected Sentinel-1 gamma0 at 30-45 degrees incidence.
# fmt: off
LAND_COVERS: tuple[LandCover, ...] = (
    _cover(
        "lake|water|pond|open water|inland water",
        (0.022, 0.034, 0.028), (0.045, 0.070, 0.055), (-20, -27, 1.5), (60, 0.05, 0),
    ),
    _cover(
        "river|water|stream|canal",
        (0.030, 0.045, 0.030), (0.108, 0.090, 0.050), (-19.5, -27, 1.5), (80, 0.05, 0),
    ),
    _cover(
        "sea|water|ocean|sea water|bay",
        (0.015, 0.035, 0.045), (0.045, 0.095, 0.095), (-17, -26, 2.5), (120, 0.06, 0),
    ),
    _cover(
        "flood water|water|flooded area|inundation|muddy water",
        (0.072, 0.068, 0.038), (0.125, 0.104, 0.058), (-19.5, -26.5, 1.5), (150, 0.08, 0),
    ),
    _cover(
        "swimming pool|pool|water",
        (0.070, 0.190, 0.240), (0.120, 0.240, 0.270), (-16, -24, 1), (1, 0.06, 0),
    ),
    _cover(
        "broadleaf forest|forest|trees|deciduous forest|woodland",
        (0.028, 0.048, 0.020), (0.075, 0.060, 0.038), (-8.5, -14, 0.6), (7, 0.30, 17),
    ),
    _cover(
        "coniferous forest|forest|trees|pine forest|evergreen forest",
        (0.018, 0.030, 0.017), (0.035, 0.040, 0.025), (-9, -14.5, 0.6), (5, 0.32, 20),
    ),
    _cover(
        "tree|trees|tree canopy|vegetation",
        (0.035, 0.055, 0.022), (0.070, 0.080, 0.040), (-8.5, -14, 1), (4, 0.28, 8),
    ),
    _cover(
        "shrubland|shrubs|bushes|scrub|heath",
        (0.055, 0.060, 0.032), (0.100, 0.082, 0.050), (-10.5, -16.5, 1), (5, 0.28, 1.5),
    ),
    _cover(
        "grassland|grass|meadow|rangeland|savanna",
        (0.060, 0.080, 0.035), (0.125, 0.105, 0.064), (-12, -18.5, 1.2), (12, 0.12, 0.3),
    ),
    _cover(
        "wetland|marsh|swamp|bog|reed bed",
        (0.038, 0.045, 0.026), (0.085, 0.074, 0.045), (-9.5, -17, 1.8), (18, 0.28, 0.8),
    ),
    _cover(
        "flooded forest|mangrove|flooded vegetation|swamp forest",
        (0.025, 0.040, 0.022), (0.055, 0.055, 0.034), (-6.5, -13.5, 1), (8, 0.30, 9),
    ),
    _cover(
        "bare soil|bare ground|bare land|soil|barren land",
        (0.140, 0.110, 0.075), (0.230, 0.165, 0.105), (-14, -22, 1.6), (25, 0.10, 0),
    ),
    _cover(
        "plowed field|cropland|arable land|farmland|bare field",
        (0.100, 0.078, 0.055), (0.190, 0.150, 0.105), (-12.5, -20.5, 2.2), (15, 0.08, 0),
    ),
    _cover(
        "beach|sand|sandy beach|shore|bare ground",
        (0.260, 0.220, 0.160), (0.400, 0.355, 0.280), (-17.5, -25, 1.8), (20, 0.08, 0),
    ),
    _cover(
        "desert|sand|sand dunes|bare ground|arid land",
        (0.300, 0.205, 0.120), (0.420, 0.310, 0.200), (-16, -24, 2.2), (90, 0.10, 0),
    ),
    _cover(
        "rock|bare rock|rocky ground|cliff|scree",
        (0.130, 0.122, 0.108), (0.230, 0.205, 0.175), (-9.5, -17, 1.5), (30, 0.25, 0),
    ),
    _cover(
        "snow|snow cover|snow field",
        (0.620, 0.640, 0.680), (0.850, 0.860, 0.880), (-14.5, -21.5, 2.0), (60, 0.07, 0),
    ),
    _cover(
        "ice|glacier|frozen lake|sea ice",
        (0.420, 0.470, 0.520), (0.660, 0.700, 0.730), (-13, -21.5, 2.2), (50, 0.12, 0),
    ),
    _cover(
        "cereal field|cropland|wheat|crops|farmland",
        (0.038, 0.062, 0.022), (0.160, 0.128, 0.075), (-12.5, -19.5, 1.8), (14, 0.07, 0.8),
    ),
    _cover(
        "maize field|cropland|corn|crops|farmland",
        (0.036, 0.058, 0.024), (0.120, 0.105, 0.060), (-10, -16, 1.3), (12, 0.10, 2.2),
    ),
    _cover(
        "rice paddy|cropland|rice field|crops",
        (0.040, 0.062, 0.030), (0.075, 0.078, 0.055), (-13.5, -20, 2.8), (15, 0.08, 0.5),
    ),
    _cover(
        "rapeseed field|cropland|canola|crops|farmland",
        (0.150, 0.160, 0.040), (0.060, 0.085, 0.030), (-10.5, -15.5, 1.2), (12, 0.08, 1.2),
    ),
    _cover(
        "vegetable field|cropland|potato field|crops|farmland",
        (0.048, 0.075, 0.032), (0.130, 0.110, 0.070), (-10.5, -16.8, 1.4), (5, 0.14, 0.5),
    ),
    _cover(
        "stubble field|cropland|harvested field|farmland",
        (0.165, 0.135, 0.085), (0.235, 0.195, 0.125), (-12.5, -19.5, 1.4), (18, 0.08, 0),
    ),
    _cover(
        "pasture|grassland|meadow|hay field|grazing land",
        (0.045, 0.075, 0.028), (0.100, 0.100, 0.052), (-12, -18.5, 1.1), (14, 0.09, 0.3),
    ),
    _cover(
        "orchard|fruit trees|plantation|olive grove|trees",
        (0.055, 0.072, 0.036), (0.120, 0.105, 0.065), (-9.5, -15.5, 1), (4, 0.20, 4),
    ),
    _cover(
        "vineyard|grapevines|plantation",
        (0.075, 0.085, 0.048), (0.150, 0.125, 0.085), (-10.5, -17.5, 1.2), (2, 0.18, 1.5),
    ),
    _cover(
        "greenhouse|greenhouses|plastic cover|polytunnel",
        (0.300, 0.310, 0.310), (0.480, 0.490, 0.480), (-6.5, -14.5, 2.0), (6, 0.15, 4),
    ),
    _cover(
        "solar panels|solar farm|photovoltaic panels|solar park",
        (0.040, 0.045, 0.070), (0.075, 0.078, 0.100), (-9, -18, 2.8), (4, 0.20, 2),
    ),
    _cover(
        "tiled roof|building|house|roof|residential building",
        (0.200, 0.105, 0.075), (0.290, 0.165, 0.120), (-4, -12, 2.5), (3, 0.12, 6),
    ),
    _cover(
        "gray roof|building|house|roof|apartment building",
        (0.130, 0.128, 0.125), (0.290, 0.280, 0.265), (-3.5, -12, 2.5), (4, 0.12, 9),
    ),
    _cover(
        "metal roof|building|house|roof|tin roof|shack",
        (0.210, 0.140, 0.100), (0.360, 0.350, 0.330), (-3, -12, 3.0), (3, 0.20, 4),
    ),
    _cover(
        "industrial building|building|warehouse|roof|factory|hangar",
        (0.200, 0.205, 0.205), (0.520, 0.520, 0.510), (-3, -12.5, 3.2), (12, 0.08, 9),
    ),
    _cover(
        "residential area|built-up area|building|houses|town|village",
        (0.078, 0.076, 0.052), (0.145, 0.126, 0.092), (-6.5, -13, 2.0), (14, 0.32, 5),
    ),
    _cover(
        "city center|built-up area|building|dense urban area|city",
        (0.108, 0.100, 0.080), (0.182, 0.168, 0.142), (-3, -10.5, 2.0), (18, 0.32, 14),
    ),
    _cover(
        "asphalt road|road|street|highway|paved road",
        (0.075, 0.075, 0.072), (0.150, 0.145, 0.138), (-16.5, -23.5, 1.5), (6, 0.07, 0),
    ),
    _cover(
        "dirt road|road|track|unpaved road|path",
        (0.190, 0.145, 0.100), (0.300, 0.245, 0.180), (-14, -22, 1.5), (5, 0.09, 0),
    ),
    _cover(
        "pavement|paved area|concrete|yard|plaza",
        (0.150, 0.146, 0.138), (0.270, 0.262, 0.245), (-11.5, -19, 2.5), (6, 0.12, 0),
    ),
    _cover(
        "parking lot|car park|parking|paved area",
        (0.095, 0.095, 0.092), (0.170, 0.168, 0.160), (-10, -17.5, 2.0), (4, 0.12, 0),
    ),
    _cover(
        "railway|railroad|train tracks|rails",
        (0.105, 0.095, 0.085), (0.160, 0.145, 0.130), (-8.5, -16, 2.0), (2, 0.18, 0),
    ),
    _cover(
        "runway|airport runway|airstrip|paved area",
        (0.120, 0.120, 0.118), (0.230, 0.228, 0.220), (-18.5, -25.5, 1.2), (15, 0.06, 0),
    ),
    _cover(
        "bridge|road|overpass",
        (0.150, 0.148, 0.142), (0.260, 0.255, 0.245), (-8, -17, 2.5), (6, 0.07, 6),
    ),
    _cover(
        "park|lawn|garden|grass|urban green",
        (0.042, 0.072, 0.028), (0.090, 0.098, 0.048), (-12, -18.5, 1.2), (6, 0.16, 0.3),
    ),
    _cover(
        "sports field|football field|stadium|playground|lawn",
        (0.045, 0.095, 0.035), (0.110, 0.120, 0.060), (-13, -20, 1.2), (8, 0.06, 0),
    ),
    _cover(
        "quarry|mine|open-pit mine|mining area|bare ground",
        (0.210, 0.190, 0.160), (0.370, 0.340, 0.290), (-11.5, -19.5, 2.0), (25, 0.22, 0),
    ),
    _cover(
        "construction site|bare ground|building site|earthworks",
        (0.200, 0.160, 0.115), (0.310, 0.265, 0.205), (-10.5, -18.5, 2.0), (10, 0.22, 0),
    ),
    _cover(
        "burned area|burn scar|burnt forest|ash",
        (0.035, 0.032, 0.028), (0.065, 0.055, 0.045), (-11.5, -19, 1.2), (15, 0.18, 0),
    ),
    _cover(
        "salt flat|salt pan|salt lake|bare ground",
        (0.420, 0.410, 0.390), (0.620, 0.610, 0.590), (-17.5, -25, 3.0), (60, 0.06, 0),
    ),
    _cover(
        "car|vehicle|cars|truck",
        (0.060, 0.060, 0.062), (0.450, 0.450, 0.450), (-4, -13, 3.0), (1, 0.20, 1.5),
    ),
    _cover(
        "ship|boat|vessel",
        (0.160, 0.155, 0.150), (0.360, 0.355, 0.345), (3, -8, 3.0), (6, 0.20, 5),
    ),
)
# fmt: on

INDEX: dict[str, int] = {cover.name: index for index, cover in enumerate(LAND_COVERS)}
