"""From two images to a displacement: windows, surfaces, vote, model, and whether the result can be believed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmovseg_geo.rasters.displacement import Displacement
from mmovseg_geo.rasters.registration import motion
from mmovseg_geo.rasters.registration.information import mutual_information
from mmovseg_geo.rasters.registration.result import (
    CONFIDENT,
    STILL,
    Registration,
    WindowFound,
    confidence_of,
    doubt,
    of_windows,
    refused,
)
from mmovseg_geo.rasters.registration.structure import features, opponent, polarized
from mmovseg_geo.rasters.registration.surfaces import Surfaces, joined, own_peaks
from mmovseg_geo.rasters.registration.turned import how_turned
from mmovseg_geo.rasters.registration.vote import Vote, refined, vote
from mmovseg_geo.rasters.registration.windows import kinds, matched, structures, tiled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Mask = NDArray[np.bool_]
    Model = Literal["shift", "affine", "field"]

RADIUS = 40
"""Pixels in every direction that are searched."""
SMALLEST = 96
"""Images with a shorter side hold too few windows to vote."""
FEWEST = 4
"""Windows that a vote needs."""
SIDES = ((256, 32), (512, 48))
"""Images up to the first number of pixels have windows of the second; larger ones of LARGEST."""
LARGEST = 64
AT_EDGE = 1.5


@dataclass(frozen=True, eq=False)
class Pair:
    """Both images of one place on one pixel grid, 0..255.

    Attributes:
        optical: (3, H, W); sar: (C, H, W) in decibels; optical_valid, sar_valid: (H, W).
        clouds: (H, W) pixels of the optical image not to use, or None.
        corner: row and column of the first pixel in the scene.
        border: pixels around the inner part, which alone is cut into windows.
    """

    optical: Floats
    optical_valid: Mask
    sar: Floats
    sar_valid: Mask
    clouds: Mask | None = None
    corner: tuple[int, int] = (0, 0)
    border: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.optical_valid.shape[0]), int(self.optical_valid.shape[1])

    @property
    def clear(self) -> Mask:
        """(H, W) pixels of the optical image to use."""
        return self.optical_valid if self.clouds is None else self.optical_valid & ~self.clouds


def register(
    pairs: Sequence[Pair],
    shape: tuple[int, int],
    *,
    model: Model = "shift",
    radius: int = RADIUS,
    near: tuple[int, int] = (0, 0),
    overview: Pair | None = None,
) -> Registration:
    """The displacement of SAR against optical content, from one or more places of a scene of `shape`.

    Args:
        model: the most that may be fitted; a simpler one is kept unless windows that were kept apart confirm it.
        radius: of the search in pixels, around `near`, by which the pairs' SAR images are moved already.
        overview: the scene seen in fewer pixels, in which a turned image is looked for; by default the first pair.
    """
    if min(shape) < SMALLEST:
        return refused(
            f"the image has {shape[0]} x {shape[1]} pixels, too few to tell ({SMALLEST} are needed); shift not applied",
            model,
        )
    measured, counts = _measured(pairs, radius)
    if measured is None or len(measured[0]) < FEWEST:
        said = of_windows(counts) or "hardly any window shows texture"
        return refused(f"{said}; shift not applied", model, counts)
    fine, coarse = measured
    both = fine.plus(coarse)
    whole = vote(both)
    found = refined(fine, whole)
    confidence = confidence_of(found)
    shift = Displacement((found.rows, found.cols))
    displacement, chosen = _modelled(fine, both, shift, model, shape)
    information = _information(pairs, displacement)
    windows = _each(both, displacement, near)
    edge = max(abs(found.rows), abs(found.cols)) > radius - AT_EDGE
    worse = information is not None and information[1] < information[0]
    if edge or worse:
        confidence = min(confidence, CONFIDENT - 0.05)
    confident = confidence >= CONFIDENT
    middle = displacement.at(np.asarray(shape[0] / 2), np.asarray(shape[1] / 2))
    rows, cols = float(middle[0]) + near[0], float(middle[1]) + near[1]
    displacement = _further(displacement, near)
    small = chosen == "shift" and max(abs(rows), abs(cols)) < STILL
    why = _verdict(
        found, counts, overview or pairs[0], confident=confident, small=small, edge=edge, worse=worse, at=(rows, cols)
    )
    apply = confident and not small
    return Registration(
        rows=rows,
        cols=cols,
        confidence=confidence,
        confident=confident,
        displacement=_rounded(displacement) if apply else Displacement(),
        asked=model,
        model=chosen,
        why=why,
        counts=counts,
        votes={name: getattr(found, name) for name in ("height", "prominence", "lead", "agreement", "spread")},
        information=information,
        residual_px=_residual(windows),
        windows=windows,
    )


def _measured(pairs: Sequence[Pair], radius: int) -> tuple[tuple[Surfaces, Surfaces] | None, dict[str, int]]:
    """Surfaces of all useful windows by fine and coarse features, and how many windows there are of each kind."""
    counts: Counter[str] = Counter()
    found = []
    for pair in pairs:
        side = _side(pair.shape)
        place = tiled(pair.shape, side, pair.border)
        seen = pair.optical_valid & pair.sar_valid
        told = kinds(pair.optical, seen, pair.sar[0], pair.clouds, place)
        counts.update(told)
        useful = [part for part, kind in zip(place, told, strict=True) if kind == "used"]
        if useful:
            parts = structures(pair.optical, pair.clear, pair.sar, pair.sar_valid)
            found.append(matched(parts, useful, radius, pair.corner))
    if not found:
        return None, dict(counts)
    return (joined([one[0] for one in found]), joined([one[1] for one in found])), dict(counts)


def _side(shape: tuple[int, int]) -> int:
    return next((side for longest, side in SIDES if min(shape) <= longest), LARGEST)


def _modelled(
    fine: Surfaces, both: Surfaces, shift: Displacement, model: Model, shape: tuple[int, int]
) -> tuple[Displacement, Model]:
    if model == "shift":
        return shift, "shift"

    def linear(surfaces: Surfaces) -> Displacement | None:
        return motion.affine(surfaces, shift)

    def simple(_: Surfaces) -> Displacement:
        return shift

    begin = shift
    chosen: Model = "shift"
    fitted = linear(both)
    if fitted is not None and motion.confirmed(both, linear, simple):
        begin, chosen = motion.affine(fine, fitted) or fitted, "affine"
    if model == "affine":
        return begin, chosen

    def bent(surfaces: Surfaces) -> Displacement | None:
        return motion.field(surfaces, begin, shape)

    def straight(_: Surfaces) -> Displacement:
        return begin

    smooth = bent(both)
    if smooth is None or not motion.confirmed(both, bent, straight):
        return begin, chosen
    return smooth, "field"


def _information(pairs: Sequence[Pair], displacement: Displacement) -> tuple[float, float] | None:
    """Mutual information of brightness and co-polarized SAR before and after, over the same optical pixels."""
    found = [
        mutual_information(pair.optical, pair.clear, pair.sar[0], pair.sar_valid, displacement, pair.corner)
        for pair in pairs
    ]
    told = [one for one in found if one is not None]
    if not told:
        return None
    return float(np.mean([one[0] for one in told])), float(np.mean([one[1] for one in told]))


def _each(both: Surfaces, displacement: Displacement, near: tuple[int, int]) -> list[WindowFound]:
    """What each window would vote for by itself, near the displacement found (without `near`, which is added)."""
    found = []
    for row, col, rows, cols, correlation in own_peaks(both, displacement):
        to = displacement.at(np.asarray(row), np.asarray(col))
        to_rows, to_cols = float(to[0]) + near[0], float(to[1]) + near[1]
        found.append(WindowFound(row, col, rows + near[0], cols + near[1], correlation, to_rows, to_cols))
    return found


def _residual(windows: Sequence[WindowFound]) -> float | None:
    """Median distance in pixels between what windows say by themselves and the displacement."""
    if not windows:
        return None
    return float(np.median([np.hypot(w.rows - w.to_rows, w.cols - w.to_cols) for w in windows]))


def _further(displacement: Displacement, near: tuple[int, int]) -> Displacement:
    if near == (0, 0):
        return displacement
    moved = (displacement.shift[0] + near[0], displacement.shift[1] + near[1])
    return Displacement(moved, displacement.matrix, displacement.center, displacement.field)


def _rounded(displacement: Displacement) -> Displacement:
    """To a thousandth of a pixel, so that a file says exactly what was applied."""
    shift = (round(displacement.shift[0], 3), round(displacement.shift[1], 3))
    return Displacement(shift, displacement.matrix, displacement.center, displacement.field)


def _verdict(
    found: Vote,
    counts: dict[str, int],
    overview: Pair,
    *,
    confident: bool,
    small: bool,
    edge: bool,
    worse: bool,
    at: tuple[float, float],
) -> str:
    used = counts.get("used", 0)
    moved = f"{at[0]:+.1f} rows and {at[1]:+.1f} columns"
    if confident and small:
        return f"aligned already: {used} windows together find {moved}, less than {STILL:g} pixels; nothing moved"
    if confident:
        return f"{used} windows together say: SAR content must move by {moved}"
    reasons = [text for text in (of_windows(counts),) if text and counts.get("used", 0) < 0.5 * sum(counts.values())]
    turned = how_turned(opponent(overview.optical), overview.clear, polarized(overview.sar), overview.sar_valid, found)
    if turned:
        reasons.append(turned)
    elif edge:
        reasons.append("the best fit lies at the edge of the search")
    elif worse and confidence_of(found) >= CONFIDENT:
        reasons.append(f"{moved} would fit the edges, but not the brightness (mutual information falls)")
    else:
        reasons.append(doubt(found))
    return f"{'; '.join(reasons)}; shift not applied"


__all__ = ["Pair", "features", "register"]
