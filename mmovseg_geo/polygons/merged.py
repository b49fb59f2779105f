"""A map without its small regions, in strips: one pass learns the regions and their neighbors, the next one recodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.grid import Size
from mmovseg_geo.polygons.components import Components, Seam, components
from mmovseg_geo.polygons.regions import Pairs, fill_holes, merge_small, neighbors, unique_pairs
from mmovseg_geo.polygons.strips import NODATA, Codes, MapStrips, Strip
from mmovseg_geo.polygons.tally import Tally, tally
from mmovseg_geo.stages import ahead

Names = NDArray[np.int64]
"""Numbers of regions for the whole map, in the order in which they begin; regions found to be one keep several."""


@dataclass(frozen=True, eq=False)
class _Named:
    """A strip with its regions and their names.

    Attributes:
        names: (n,) name of each region; where several from above are one, the first.
        same: (m, 2) names from above and the name of the region that they turned out to be.
    """

    strip: Strip
    found: Components
    names: Names
    same: Pairs


def _named(strips: Iterable[Strip]) -> Iterator[_Named]:
    """Strips with names of their regions; equal strips give equal names."""
    seam: Seam | None = None
    open_names = np.empty(0, np.int64)
    known = 0
    for strip in strips:
        found, seam = components(strip, seam)
        names = np.full(len(found.codes), np.iinfo(np.int64).max)
        np.minimum.at(names, found.of_slot, open_names)
        new = names == np.iinfo(np.int64).max
        names[new] = known + np.arange(np.count_nonzero(new))
        known += np.count_nonzero(new)
        inherited = names[found.of_slot]
        joined = open_names != inherited
        yield _Named(strip, found, names, np.stack([open_names[joined], inherited[joined]], axis=1))
        open_names = names[found.going_on]


def merged(strips: MapStrips, *, holes: Size, smallest: Size, nodata: int = NODATA) -> Iterator[Strip]:
    """The strips of a map in which holes were filled and then small regions merged; no-data has the code `nodata`.

    Which region a small one joins depends on sizes that are known at the end of the map only, so it is read twice.
    Between the passes, memory holds the regions of the map and the pairs that touch, not its pixels. The first one is
    over when this returns.
    """
    recoded = _recoded(replace(strips, confidence=None), (holes, smallest))
    recoded[recoded == NODATA] = nodata
    return _with_codes(strips, recoded)


def _with_codes(strips: MapStrips, recoded: Codes) -> Iterator[Strip]:
    """The strips of a map with other class codes, of each name."""
    above = None
    for part in _named(strips.read()):
        found, pixels = part.found, part.strip.codes.size
        runs = np.diff(found.run_starts, append=pixels)
        of_run: Codes = recoded[part.names][found.of_run]
        codes = of_run.repeat(runs).reshape(part.strip.codes.shape)
        yield Strip.of(part.strip.row, codes, above, is_last=part.strip.is_last, measures=part.strip.measures)
        above = codes[-1]


def _recoded(strips: MapStrips, limits: tuple[Size, Size]) -> Codes:
    """Class code of each name after holes were filled and small regions merged."""
    ended, touching, rims, same = [], [], [], []
    open_counts = Tally.none()
    for part in ahead(_named(strips.read()), name="strips"):
        counts = tally(part.strip, part.found, open_counts)
        open_counts = counts.taken(part.found.going_on)
        ends = part.found.slots < 0
        ended.append((part.names[ends], part.found.codes[ends], counts.pixels[ends], counts.ground[ends]))
        touching.append(part.names[_touching(part.strip, part.found)])
        rims.append(part.names[_rim(part.strip, part.found)])
        same.append(part.same)
    names, codes, pixels, ground = (np.concatenate(each) for each in zip(*ended, strict=True))
    number = _numbers(len(names), np.concatenate(same))
    values, in_pixels, in_m2 = np.empty(len(names), np.int64), np.empty(len(names)), np.empty(len(names))
    at = number[names]
    values[at], in_pixels[at], in_m2[at] = codes, pixels, ground * strips.ground.unit
    regions = neighbors(values, number[np.concatenate(touching)], number[np.unique(np.concatenate(rims))], NODATA)
    for limit, merge in zip(limits, (fill_holes, merge_small), strict=True):
        regions = merge(regions.measured(in_pixels if limit.unit == "px" else in_m2), limit.value, NODATA)
    return np.asarray(regions.values[regions.merged[: len(names)]].astype(codes.dtype)[number])


def _numbers(count: int, same: Pairs) -> NDArray[np.int64]:
    """Number of the region of each name, 0 to `count` - 1; `same` holds names and earlier names of the same region."""
    first = np.arange(count + len(same))
    first[same[:, 0]] = same[:, 1]
    while True:
        further = first[first]
        if (further == first).all():
            break
        first = further
    return np.asarray((np.cumsum(first == np.arange(len(first))) - 1)[first])


def _touching(strip: Strip, found: Components) -> Pairs:
    """Pairs of regions of a strip that share an edge, that to the row above included; each once."""
    height, width = strip.codes.shape
    run, at = found.run.ravel(), np.flatnonzero
    row, column = np.divmod(at(strip.upright[1 : height + 1, 1:-1]), max(width - 1, 1))
    beside, below = row * width + column, at(strip.level[1:height, 1:-1])
    first, second = [found.of_run[run[beside]], found.of_run[run[below]]], []
    second = [found.of_run[run[beside + 1]], found.of_run[run[below + width]]]
    if len(found.of_above):
        crossed = at(strip.level[0, 1:-1])
        first.append(found.of_above[crossed])
        second.append(found.of_run[run[crossed]])
    return unique_pairs(np.concatenate(first), np.concatenate(second), len(found.codes))


def _rim(strip: Strip, found: Components) -> NDArray[np.int32]:
    """Regions of a strip that lie at the frame of the map."""
    run = found.run
    at_rim = [run[:, 0], run[:, -1], run[0] if strip.row == 0 else run[:0, 0], run[-1] if strip.is_last else run[:0, 0]]
    return np.unique(found.of_run[np.concatenate(at_rim)])
