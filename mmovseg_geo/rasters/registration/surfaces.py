"""How well each small window of the optical image fits the SAR image at every shift: surfaces, by FFT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mmovseg_geo.rasters.displacement import Displacement
    from mmovseg_geo.rasters.registration.structure import Features, Mask

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Products and energies of windows at each shift of the SAR content, -radius..radius rows and columns.

    Attributes:
        products: (N, S, S) sums over a window of optical structure times SAR structure, S = 2 radius + 1.
        optical, sar: (N, S, S) sums of squares over the pixels that both images have at that shift.
        centers: (N, 2) rows and columns of the windows' centers in scene pixels.
        side: of a window in pixels.
    """

    products: Floats
    optical: Floats
    sar: Floats
    centers: Doubles
    side: int

    @property
    def radius(self) -> int:
        return int(self.products.shape[-1]) // 2

    def __len__(self) -> int:
        return len(self.products)

    def fit(self, weights: Doubles | None = None, *, equal: bool = False) -> Doubles:
        """Correlation -1..1 of all windows together, (S, S), or (M, S, S) for weights (M, N) of the windows.

        A window counts by the square root of its energy: neither does one strong edge decide for all, nor noise. With
        `equal` each window has one vote, however strong it is.
        A shift at which few pixels overlap correlates by chance; it counts by the square root of their share.
        """
        every = np.ones((1, len(self))) if weights is None else weights
        if equal:
            voices = every / every.sum(axis=1, keepdims=True)
            mean: Doubles = (voices @ self.each().reshape(len(self), -1)).reshape(-1, *self.products.shape[1:])
            return mean[0] if weights is None else mean
        shape = (len(every), *self.products.shape[1:])
        vote = np.maximum(self.energy(), 1e-6) ** -0.5
        product, optical, sar = (
            ((every * vote) @ part.reshape(len(self), -1).astype(np.float64)).reshape(shape)
            for part in (self.products, self.optical, self.sar)
        )
        found = _correlation(product, optical, sar)
        return found[0] if weights is None else found

    def energy(self) -> Doubles:
        """(N,) of each window, both images together."""
        most = (part.max(axis=(1, 2)).astype(np.float64) for part in (self.optical, self.sar))
        found: Doubles = np.sqrt(np.prod(list(most), axis=0))
        return found

    def cut(self, row: int, col: int, reach: int) -> Surfaces:
        """The part within `reach` pixels of a position in the surfaces, moved inside where it is at the edge."""
        reach = min(reach, self.radius)
        top = int(np.clip(row - reach, 0, 2 * (self.radius - reach)))
        left = int(np.clip(col - reach, 0, 2 * (self.radius - reach)))
        part = (slice(None), slice(top, top + 2 * reach + 1), slice(left, left + 2 * reach + 1))
        return Surfaces(self.products[part], self.optical[part], self.sar[part], self.centers, self.side)

    def each(self) -> Doubles:
        """Correlation (N, S, S) of each window by itself."""
        return _correlation(*(part.astype(np.float64) for part in (self.products, self.optical, self.sar)))

    def plus(self, other: Surfaces) -> Surfaces:
        """The same windows told by the features of both."""
        parts = (self.products + other.products, self.optical + other.optical, self.sar + other.sar)
        return Surfaces(*parts, self.centers, self.side)

    def chosen(self, which: NDArray[np.bool_]) -> Surfaces:
        """The windows that are True in `which` (N,)."""
        return Surfaces(self.products[which], self.optical[which], self.sar[which], self.centers[which], self.side)


def joined(parts: Sequence[Surfaces]) -> Surfaces:
    """The windows of several places."""
    return Surfaces(
        np.concatenate([part.products for part in parts]),
        np.concatenate([part.optical for part in parts]),
        np.concatenate([part.sar for part in parts]),
        np.concatenate([part.centers for part in parts]),
        parts[0].side,
    )


def surface(optical: Features, optical_seen: Mask, sar: Features, sar_seen: Mask) -> tuple[Floats, Floats, Floats]:
    """Products and both energies of one window (K, h, w) against SAR (K, h + 2 radius, w + 2 radius)."""
    span = sar_seen.shape[0] - optical_seen.shape[0] + 1
    size = tuple(fft.next_fast_len(side) for side in sar_seen.shape)
    here, there = fft.fft2(optical, size), fft.fft2(sar, size)
    product = fft.ifft2((np.conj(here) * there).sum(axis=0)).real

    def sums(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = fft.irfft2(np.conj(fft.rfft2(first, size)) * fft.rfft2(second, size), size)
        return found

    own, other = _energy(optical), _energy(sar)
    of_optical = sums(own, sar_seen.astype(np.float32))
    of_sar = sums(optical_seen.astype(np.float32), other)
    # Position t of the correlation is SAR content moved by radius - t.
    turned = [part[:span, :span][::-1, ::-1].astype(np.float32) for part in (product, of_optical, of_sar)]
    return turned[0], turned[1], turned[2]


def _energy(values: Features) -> NDArray[np.float32]:
    squared: NDArray[np.float32] = (values.real**2 + values.imag**2).sum(axis=0)
    return squared


def _correlation(product: Doubles, optical: Doubles, sar: Doubles) -> Doubles:
    most = np.maximum(optical.max(axis=(-1, -2), keepdims=True), 1e-9)
    enough = (optical > 0.05 * most) & (sar > 1e-6)
    found: Doubles = np.where(enough, product / np.sqrt(np.maximum(optical * sar, 1e-9)), 0.0)
    weighed: Doubles = found * np.sqrt(np.clip(optical / most, 0.0, 1.0))
    return weighed


def own_peaks(surfaces: Surfaces, displacement: Displacement, reach: int = 6) -> list[tuple[float, ...]]:
    """For each window its center, its own best shift within `reach` pixels of a displacement, and the correlation."""
    found = []
    moved = displacement.at(surfaces.centers[:, 0], surfaces.centers[:, 1])
    for index, values in enumerate(surfaces.each()):
        last = 2 * surfaces.radius
        middle = [int(np.clip(round(float(part[index])) + surfaces.radius, reach, last - reach)) for part in moved]
        near = values[middle[0] - reach : middle[0] + reach + 1, middle[1] - reach : middle[1] + reach + 1]
        row, col = np.unravel_index(int(near.argmax()), near.shape)
        rows, cols = (int(at) - reach + start - surfaces.radius for at, start in zip((row, col), middle, strict=True))
        found.append((*(float(x) for x in surfaces.centers[index]), float(rows), float(cols), float(near.max())))
    return found
