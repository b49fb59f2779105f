"""The graph of neighboring regions of a map, on which small ones are merged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.int64]

_SCATTER = 2654435761
"""Knuth's multiplicative hash: breaks ties between equal regions without a direction."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of equal value, numbered from 0: what they hold and which touch along an edge.

    Attributes:
        values: (n,) class value of each region.
        sizes: (n,) size in the unit that limits are given in.
        pairs: (m, 2) numbers of neighbors, each pair once.
        merged: region each original region now belongs to.
    """

    values: NDArray[np.int64]
    sizes: NDArray[np.float64]
    pairs: Pairs
    merged: NDArray[np.int64]

    def measured(self, sizes: NDArray[Any]) -> Regions:
        """The same regions, with the sizes given for the original ones."""
        original = self.merged[: len(sizes)]
        return replace(self, sizes=np.bincount(original, sizes, minlength=len(self.values)).astype(np.float64))


def neighbors(values: NDArray[np.int64], pairs: Pairs, rim: NDArray[np.int64], nodata: int) -> Regions:
    """Regions with their neighbors, not yet measured; one more, of value `nodata`, stands for the outside.

    Args:
        pairs: (m, 2) numbers of regions that touch, also more than once.
        rim: regions at the frame of the map.
    """
    outside = len(values)
    beyond = np.stack([rim, np.full_like(rim, outside)], axis=1)
    first, second = np.concatenate([pairs, beyond]).T
    return Regions(
        values=np.append(values, nodata),
        sizes=np.zeros(outside + 1),
        pairs=unique_pairs(first, second, outside + 1),
        merged=np.arange(outside + 1),
    )


def fill_holes(regions: Regions, smallest: float, nodata: int) -> Regions:
    """Regions with one neighbor only, smaller than `smallest`, take its class. No-data is neither filled nor taken."""
    while True:
        degree = np.bincount(regions.pairs.ravel(), minlength=len(regions.values))
        holes = (degree == 1) & (regions.sizes < smallest) & (regions.values != nodata)
        both = np.concatenate([regions.pairs, regions.pairs[:, ::-1]])
        both = both[holes[both[:, 0]] & (regions.values[both[:, 1]] != nodata)]
        if not len(both):
            return regions
        regions = _contract(regions, both[:, 0], both[:, 1])


def merge_small(regions: Regions, smallest: float, nodata: int) -> Regions:
    """Regions smaller than `smallest` take the class of their largest neighbor; without a neighbor they are nodata.

    Every region that is left has at least that size. Rounds go on until none is smaller, so that speckle grows into
    patches around its larger parts.
    """
    while True:
        source, target = _largest_neighbors(regions, smallest, nodata)
        if not len(source):
            lost = (regions.sizes < smallest) & (regions.values != nodata)
            values = np.where(lost, nodata, regions.values)
            return replace(regions, values=values)
        regions = _contract(regions, source, target)


def _largest_neighbors(regions: Regions, smallest: float, nodata: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    count = len(regions.values)
    labeled = regions.values != nodata
    both = np.concatenate([regions.pairs, regions.pairs[:, ::-1]])
    small = labeled & (regions.sizes < smallest)
    both = both[small[both[:, 0]] & labeled[both[:, 1]]]
    scattered = np.arange(count, dtype=np.uint64) * np.uint64(_SCATTER) % np.uint64(2**32)
    by_rank = np.lexsort((scattered, regions.sizes))
    rank = np.empty(count, np.int64)
    rank[by_rank] = np.arange(count)
    best = np.full(count, -1, np.int64)
    np.maximum.at(best, both[:, 0], rank[both[:, 1]])
    leaves = best > rank
    source = np.flatnonzero(leaves)
    target = by_rank[best[source]]
    # Who joins a region that joins another in this round would take a class that is gone: it waits.
    stays = ~leaves[target]
    return source[stays], target[stays]


def _contract(regions: Regions, source: NDArray[np.int64], target: NDArray[np.int64]) -> Regions:
    """The graph after `source` took the class of `target`: neighbors of equal value become one region."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(regions.values)
    values = regions.values.copy()
    values[source] = values[target]
    equal = regions.pairs[values[regions.pairs[:, 0]] == values[regions.pairs[:, 1]]]
    links = coo_array((np.ones(len(equal), np.int8), (equal[:, 0], equal[:, 1])), shape=(count, count))
    number, region = connected_components(links, directed=False)
    new_values = np.zeros(number, np.int64)
    new_values[region] = values
    pairs = region[regions.pairs].astype(np.int64)
    return Regions(
        values=new_values,
        sizes=np.bincount(region, regions.sizes, minlength=number).astype(np.float64),
        pairs=unique_pairs(pairs[:, 0], pairs[:, 1], number),
        merged=region[regions.merged].astype(np.int64),
    )


def unique_pairs(first: NDArray[np.integer], second: NDArray[np.integer], count: int) -> Pairs:
    """Pairs of two different numbers below `count`, each once: (m, 2), the smaller number first."""
    low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second)
    keys = np.unique((low * count + high)[low != high])
    return np.stack([keys // count, keys % count], axis=1)
