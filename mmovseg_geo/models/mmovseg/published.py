"""How a batch of tiles is shown to the published variants, and how their scores come back (sections 3, 4.1 and 10).

Their encoders look at one size, `native` pixels a side; tiles of any size are brought to it, and scores back.

Shape suffixes: B tiles, C bands, T words, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.clip import IMAGENET_TEMPLATES, TEMPLATES, CLIPText, embed_texts
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.params import MMOVSegParams
from mmovseg_geo.models.mmovseg.preprocessing import as_rgb, fitted, normalize, resize, scores_on_tile
from mmovseg_geo.models.mmovseg.spectral import by_frequencies
from mmovseg_geo.models.mmovseg.views import Forward, Pixels, shape_of
from mmovseg_geo.tiles import Tiling

Inference = Literal["whole", "sliding"]
"""A tile in one view, or in four overlapping windows and one view of the whole."""
SarAlignment = Literal["aligned", "reference"]
"""SAR resized together with optical, or as the published programs show it: at its own scale, whatever optical's is."""

PROMPTS = {"scene": TEMPLATES, "imagenet": IMAGENET_TEMPLATES}
GRAY = 128.0
"""What the published programs put beside a SAR image that is too small."""
_PROMPTS_AT_ONCE = 128


class _Shown(NamedTuple):
    """One sensor as the network takes it: normalized images (B, 3, H, W) and what share of a pixel is valid."""

    image: Tensor
    valid: Tensor


class PublishedView:
    """What a user may choose about the published variants.

    Args:
        inference: `whole` resizes a tile to the network's size; `sliding` resizes it to 5/3 of that, and averages the
            scores of four windows with those of the whole tile.
        sar_alignment: `reference` gives the network the upper left corner of a large SAR tile, and a small one with
            gray around it. The released weights were trained so; at the network's own size both are the same.
        templates: prompts with `{}` for the word; several are an ensemble.

    Raises:
        ConfigError: choices that do not go together.
    """

    sar_bands: int = 3

    def __init__(
        self,
        params: MMOVSegParams,
        *,
        inference: Inference = "whole",
        sar_alignment: SarAlignment = "aligned",
        templates: Sequence[str] = TEMPLATES,
    ) -> None:
        _check("inference", inference, get_args(Inference))
        _check("sar_alignment", sar_alignment, get_args(SarAlignment))
        if inference == "sliding" and sar_alignment == "reference":
            raise ConfigError(
                "sar_alignment 'reference' is only known for whole tiles: the published sliding windows have no SAR.\n"
                "  Give inference=whole, or sar_alignment=aligned."
            )
        self.native = params.native_size
        self.inference, self.sar_alignment, self.templates = inference, sar_alignment, tuple(templates)

    @property
    def provenance(self) -> dict[str, Any]:
        """What a map made so should say of itself."""
        named = next((name for name, templates in PROMPTS.items() if templates == self.templates), None)
        return {
            "inference": self.inference,
            "sar_alignment": self.sar_alignment,
            "templates": named or list(self.templates),
        }

    @property
    def step(self) -> int:
        """Pixels from one window to the next."""
        return 2 * self.native // 3

    def prepared(self, network: MMOVSeg) -> MMOVSeg:
        by_frequencies(network.eval().head)
        return network.to(memory_format=torch.channels_last)

    def text(self, network: MMOVSeg, words: Sequence[str]) -> Tensor:
        """Unit vectors (T, C) of words."""
        step = max(1, _PROMPTS_AT_ONCE // len(self.templates))
        groups = [list(words[first : first + step]) for first in range(0, len(words), step)]
        assert isinstance(network.text, CLIPText), "a published network carries its text tower"
        return torch.cat([embed_texts(network.text, group, self.templates) for group in groups])

    def scores(
        self, network: Forward, optical: Pixels | None, sar: Pixels | None, text: Tensor, gsd_m: float
    ) -> Tensor:
        """Scores (B, T, H, W) in 0..1."""
        looked = self._whole if self.inference == "whole" else self._sliding
        return looked(network, optical, sar, text, shape_of(optical, sar))

    def tiling(self, gsd_m: float | None) -> Tiling:
        """Tiles that the network sees at the scale of the scene."""
        size = self.native if self.inference == "whole" else self.native + self.step
        return Tiling(size, self.native // 3)

    def _whole(
        self, network: Forward, optical: Pixels | None, sar: Pixels | None, text: Tensor, tile: tuple[int, int]
    ) -> Tensor:
        shown_sar = self._corner(sar) if self.sar_alignment == "reference" else self._resized(sar, self.native)
        return scores_on_tile(_logits(network, self._resized(optical, self.native), shown_sar, text), tile)

    def _sliding(
        self, network: Forward, optical: Pixels | None, sar: Pixels | None, text: Tensor, tile: tuple[int, int]
    ) -> Tensor:
        """Unlike for a whole tile, logits are resized before their sigmoid, as in the published program."""
        native, canvas = self.native, self.native + self.step
        shown, shown_sar = self._resized(optical, canvas), self._resized(sar, canvas)

        def looked(view: _Shown | None, view_sar: _Shown | None) -> Tensor:
            return torch.sigmoid(resize(_logits(network, view, view_sar, text), (native, native)))

        whole = resize(looked(_smaller(shown, native), _smaller(shown_sar, native)), (canvas, canvas))
        sums, counts = torch.zeros_like(whole), torch.zeros_like(whole[:1, :1])
        for row, col in product((0, self.step), repeat=2):
            window = (..., slice(row, row + native), slice(col, col + native))
            sums[window] += looked(_cut(shown, window), _cut(shown_sar, window))
            counts[window] += 1
        return resize((sums / counts + whole) / 2, tile)

    def _resized(self, seen: Pixels | None, side: int) -> _Shown | None:
        if seen is None:
            return None
        valid = seen.valid[:, None]
        image = normalize(as_rgb(seen.image)) * valid
        return _Shown(fitted(image, (side, side)), fitted(valid, (side, side))[:, 0])

    def _corner(self, seen: Pixels | None) -> _Shown | None:
        """SAR at its own scale: what is right and below of the network's size is cut off, what lacks is gray."""
        if seen is None:
            return None
        image, valid = (part[..., : self.native, : self.native] for part in seen)
        more = (0, self.native - image.shape[-1], 0, self.native - image.shape[-2])
        valid = F.pad(valid, more, value=1.0)
        return _Shown(normalize(F.pad(as_rgb(image), more, value=GRAY)) * valid[:, None], valid)


def prompt_templates(prompts: str | Sequence[str]) -> tuple[str, ...]:
    """Prompts by name (`scene`, `imagenet`) or as they are, parted by bars.

    Raises:
        ConfigError: a prompt without one `{}` for the word.

    >>> prompt_templates("a photo of {}|{} from above")
    ('a photo of {}', '{} from above')
    """
    if isinstance(prompts, str) and prompts in PROMPTS:
        return PROMPTS[prompts]
    found = tuple(part.strip() for part in (prompts.split("|") if isinstance(prompts, str) else prompts))
    for prompt in found:
        if prompt.count("{}") != 1 or prompt.replace("{}", "").strip("{}") != prompt.replace("{}", ""):
            raise ConfigError(
                f"prompts {prompt!r} is neither {' nor '.join(PROMPTS)}, nor a prompt with one {{}} for the word.\n"
                '  Write for example "a photo of {}|a satellite image of {}".'
            )
    return found


def _logits(network: Forward, optical: _Shown | None, sar: _Shown | None, text: Tensor) -> Tensor:
    (image, valid), (sar_image, sar_valid) = (seen or (None, None) for seen in (optical, sar))
    return network(image, sar_image, text, valid, sar_valid)


def _smaller(seen: _Shown | None, side: int) -> _Shown | None:
    if seen is None:
        return None
    return _Shown(resize(seen.image, (side, side)), resize(seen.valid[:, None], (side, side))[:, 0])


def _cut(seen: _Shown | None, window: tuple[Any, ...]) -> _Shown | None:
    return None if seen is None else _Shown(seen.image[window], seen.valid[window])


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"model option {name} {value!r} is unknown. Known: {', '.join(known)}.")
