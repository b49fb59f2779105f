"""Patch features raised to pixels, guided by the image: SimFeatUp's `jbu_one` and FeatUp's `jbu_stack`.

Each of four stages doubles the grid: a pixel becomes a weighted sum of the pixels around it in the bicubically doubled
map, with weights from the guidance. That is linear in the coarse cells, so a square of pixels is one product of
matrices, (pixels x cells) times (cells x channels): the doubled map is never made, and no neighborhood of all channels
is copied for every pixel. Weights keep the published names.

Shape suffixes: B images, C channels, H rows and W columns; U rows and V columns of squares, P pixels of a square
(Y rows, X columns), S pixels of a square and its border, E features of the guidance, K taps (I rows, J columns), N
source cells under a square (M along an axis).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError, WeightsError
from mmovseg_geo.models.pickled import read_checkpoint
from mmovseg_geo.models.segearth.recipe import Upsampling
from mmovseg_geo.models.state_dict import load

STAGES = 4
FACTOR = 2**STAGES
"""Pixels of the guidance along one side of a cell."""
RADIUS = {"jbu_one": 5, "jbu_stack": 3}
GUIDANCE_DIM = 32
CORRECTION = 0.1
"""Share of what a `fixup_proj` computes that is added."""
SQUARE = 8
"""Pixels along one side of what is computed as one product; even, for a cell becomes two pixels."""
STRIP_BYTES = 1 << 23
"""Of the source cells gathered at once: they stay in the processor's cache."""
_PREFIX = "upsampler."


def build_upsampler(kind: Upsampling, dim: int, *, patch: int = FACTOR) -> nn.Module:
    """A module from features (B, dim, h, w) and guidance (B, 3, H, W) to features (B, dim, H, W), fresh weights.

    Args:
        patch: pixels along one side of an encoder's patch.

    Raises:
        ConfigError: an unknown kind, or a patch that the kind cannot serve.

    >>> build_upsampler("bilinear", 2)(torch.zeros(1, 2, 3, 4), torch.zeros(1, 3, 48, 64)).shape
    torch.Size([1, 2, 48, 64])
    """
    if kind not in get_args(Upsampling):
        raise ConfigError(f"Unknown upsampler {kind!r}. Known: {', '.join(get_args(Upsampling))}.")
    if kind == "bilinear":
        return BilinearUpsampler()
    if patch != FACTOR:
        raise ConfigError(
            f"upsampler {kind!r} doubles the grid {STAGES} times, so it needs an encoder with patches of {FACTOR} "
            f"pixels; this one has patches of {patch}.\n  Use the upsampler bilinear, or another encoder."
        )
    return JointBilateralUpsampler(dim, radius=RADIUS[kind], shared=kind == "jbu_one")


def load_upsampler(path: str | Path, *, patch: int = FACTOR, trust_pickle: bool = False) -> JointBilateralUpsampler:
    """The upsampler of a published checkpoint or of its tensors as safetensors, ready for inference.

    Raises:
        ConfigError: a patch that it cannot serve.
        WeightsError: the file cannot be read, or is not an upsampler.
    """
    state = read_checkpoint(path, trust_pickle=trust_pickle)
    if any(key.startswith(_PREFIX) for key in state):
        state = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    kind: Upsampling = "jbu_one" if "up.range_temp" in state else "jbu_stack"
    last = state.get("fixup_proj.1.weight")
    if last is None or last.ndim != 4 or f"{_stage_names(kind == 'jbu_one')[-1]}.range_temp" not in state:
        raise WeightsError(
            f"{path}: not an upsampler; expected fixup_proj.1.weight, and up.range_temp (jbu_one) or up1 to up4 "
            f"(jbu_stack), found {', '.join(sorted(state)[:4]) or 'nothing'}, …\n"
            "  Give a checkpoint of SimFeatUp or of FeatUp's jbu_stack."
        )
    upsampler = build_upsampler(kind, last.shape[0], patch=patch)
    assert isinstance(upsampler, JointBilateralUpsampler), "neither kind is bilinear"
    load(upsampler, {key: value.float() for key, value in state.items()}, source=str(path))
    return upsampler.eval().requires_grad_(False)


class BilinearUpsampler(nn.Module):
    """The baseline without parameters; the guidance only says how large."""

    def forward(self, source_BCHW: Tensor, guidance_B3HW: Tensor) -> Tensor:
        size = guidance_B3HW.shape[-2], guidance_B3HW.shape[-1]
        return F.interpolate(source_BCHW, size=size, mode="bilinear", align_corners=False)


class JointBilateralUpsampler(nn.Module):
    """Four doublings and a last projection (section 3.2).

    Args:
        dim: C, channels of the features.
        radius: of the kernels, in pixels of the doubled grid.
        shared: the same parameters serve all stages (`up`), or each has its own (`up1` to `up4`).
    """

    def __init__(self, dim: int, *, radius: int, shared: bool) -> None:
        super().__init__()
        self.dim, self.radius = dim, radius
        self.stages = _stage_names(shared)
        for name in dict.fromkeys(self.stages):
            self.add_module(name, JointBilateralDoubling(radius))
        self.fixup_proj = nn.Sequential(nn.Identity(), nn.Conv2d(dim, dim, 1))

    def forward(self, source_BCHW: Tensor, guidance_B3HW: Tensor) -> Tensor:
        """Features (B, C, H, W), channels last in memory, of source (B, C, H / 16, W / 16).

        Raises:
            ValueError: sizes that do not belong together.
        """
        height, width = source_BCHW.shape[-2:]
        if guidance_B3HW.shape[-2:] != (FACTOR * height, FACTOR * width):
            found = " x ".join(map(str, guidance_B3HW.shape[-2:]))
            raise ValueError(
                f"guidance of {found} pixels for {height} x {width} cells; expected {FACTOR} times as many"
            )
        # Pixels mirrored beyond the border must exist: a map with fewer cells is repeated at its end.
        least = self.radius // 2 + 1
        more = (0, max(least - width, 0), 0, max(least - height, 0))
        x_BHWC = rearrange(F.pad(source_BCHW, more, mode="replicate"), "b c h w -> b h w c")
        guidance_B3HW = F.pad(guidance_B3HW, [FACTOR * cells for cells in more], mode="replicate")
        # The stages mix pixels, all channels alike, so mixing channels may come first, where there are fewest pixels.
        project: Any = self.fixup_proj[1]
        x_BHWC = x_BHWC + CORRECTION * F.linear(x_BHWC, project.weight.flatten(1))
        for name in self.stages:
            size = 2 * x_BHWC.shape[1], 2 * x_BHWC.shape[2]
            x_BHWC = getattr(self, name)(x_BHWC, F.adaptive_avg_pool2d(guidance_B3HW, size))
        x_BHWC = x_BHWC[:, : FACTOR * height, : FACTOR * width].add_(CORRECTION * project.bias)
        return rearrange(x_BHWC, "b h w c -> b c h w")


class JointBilateralDoubling(nn.Module):
    """One stage: kernels from guidance (B, 3, 2H, 2W), applied to a map (B, H, W, C) (section 3.3)."""

    def __init__(self, radius: int) -> None:
        super().__init__()
        taps = (2 * radius + 1) ** 2
        self.radius = radius
        self.range_temp = nn.Parameter(torch.zeros(()))
        self.sigma_spatial = nn.Parameter(torch.ones(()))
        self.range_proj = _perceptron(3, GUIDANCE_DIM, GUIDANCE_DIM)
        self.fixup_proj = _perceptron(taps + 3, taps, taps)

    def forward(self, source_BHWC: Tensor, guidance_B3HW: Tensor) -> Tensor:
        """The doubled map (B, 2H, 2W, C)."""
        batch, height, width, channels = source_BHWC.shape
        down, across = (_axis(cells, self.radius, source_BHWC.device) for cells in (height, width))
        seen, colors = self.squares(guidance_B3HW)
        out = source_BHWC.new_empty(batch, down.squares * SQUARE, across.squares * SQUARE, channels)
        cells = down.cells.shape[1] * across.cells.shape[1]
        row_bytes = batch * across.squares * cells * channels * source_BHWC.element_size()
        step = max(1, STRIP_BYTES // row_bytes)
        for first in range(0, down.squares, step):
            strip = slice(first, first + step)
            kernel_BUVPK = self.kernel(seen[:, strip], colors[:, strip])
            shares_BUVPN = _on_cells(kernel_BUVPK, down.shares[strip], across.shares)
            under_BUVMMC = source_BHWC[:, down.cells[strip, None, :, None], across.cells[None, :, None, :]]
            pixels_BUVPC = shares_BUVPN @ under_BUVMMC.flatten(3, 4)
            rows = slice(SQUARE * first, SQUARE * (first + pixels_BUVPC.shape[1]))
            out[:, rows] = rearrange(pixels_BUVPC, "b u v (y x) c -> b (u y) (v x) c", y=SQUARE)
        return out[:, : 2 * height, : 2 * width]

    def squares(self, guidance_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the guidance (B, U, V, S, S, E), mirrored at the border, and its colors (B, U, V, Y, X, 3)."""
        mirrored = F.pad(self.range_proj(guidance_B3HW), (self.radius,) * 4, mode="reflect")
        return _squares(mirrored, border=self.radius), _squares(guidance_B3HW, border=0)

    def kernel(self, seen_BUVSSE: Tensor, colors_BUVYX3: Tensor) -> Tensor:
        """Weights (B, U, V, P, K) of the taps of every pixel; after the correction they may be negative."""
        colors_BUVP3 = colors_BUVYX3.flatten(3, 4)
        kernel = self.range_weights(seen_BUVSSE) * self.spatial_weights()
        kernel = kernel / kernel.sum(dim=-1, keepdim=True).clamp(min=1e-7)
        first, gelu, _, last = self.fixup_proj
        hidden = gelu(_pointwise(first, torch.cat([kernel, colors_BUVP3], dim=-1)))
        return kernel + CORRECTION * _pointwise(last, hidden)

    def range_weights(self, seen_BUVSSE: Tensor) -> Tensor:
        """How much each tap looks like the pixel (B, U, V, P, K), summing to 1."""
        radius, taps = self.radius, 2 * self.radius + 1
        side = SQUARE + 2 * radius
        temperature = self.range_temp.exp().clamp(1e-4, 1e4)
        inside = seen_BUVSSE[:, :, :, radius : radius + SQUARE, radius : radius + SQUARE].flatten(3, 4) * temperature
        alike_BUVPS = (inside @ seen_BUVSSE.flatten(3, 4).transpose(-1, -2)).contiguous()
        # Of all pixels around the square, tap (i, j) of its pixel (y, x) is (y + i, x + j).
        shape = (*alike_BUVPS.shape[:3], SQUARE, SQUARE, taps, taps)
        pixel = alike_BUVPS.stride(3)
        strides = (*alike_BUVPS.stride()[:3], SQUARE * pixel + side, pixel + 1, side, 1)
        return alike_BUVPS.as_strided(shape, strides).flatten(5, 6).flatten(3, 4).softmax(dim=-1)

    def spatial_weights(self) -> Tensor:
        """How near each tap is (K,)."""
        along = torch.linspace(-1, 1, 2 * self.radius + 1, device=self.sigma_spatial.device)
        apart = (along[:, None] ** 2 + along[None, :] ** 2).flatten()
        return torch.exp(-apart / (2 * self.sigma_spatial**2))


class _Axis(NamedTuple):
    """Along one side of a map: the squares of the doubled one, and what they take from.

    Attributes:
        squares: how many; the last may reach beyond the map.
        cells: (squares, M), the cells under each.
        shares: (squares, pixel, tap, M), share of each cell in the doubled and mirrored pixel of a tap.
    """

    squares: int
    cells: Tensor
    shares: Tensor


def _axis(length: int, radius: int, device: torch.device) -> _Axis:
    """Bicubic doubling of `length` cells with mirrored borders, by the operators themselves on unit vectors."""
    doubled = F.interpolate(torch.eye(length)[None, :, :, None], size=(2 * length, 1), mode="bicubic")
    by_pixel = F.pad(doubled, (0, 0, radius, radius), mode="reflect")[0, :, :, 0].T
    squares = -(-2 * length // SQUARE)
    by_pixel = F.pad(by_pixel, (0, 0, 0, squares * SQUARE - 2 * length))
    by_square = by_pixel.unfold(0, SQUARE + 2 * radius, SQUARE)
    numbers = torch.arange(length)
    used = by_square.ne(0).any(-1)
    first = torch.where(used, numbers, length).amin(1)
    count = int((torch.where(used, numbers, 0).amax(1) - first).max()) + 1
    cells = first.clamp(max=length - count)[:, None] + torch.arange(count)
    around = by_square.gather(1, cells[:, :, None].expand(-1, -1, by_square.shape[-1]))
    shares = around.unfold(2, 2 * radius + 1, 1)
    return _Axis(squares, cells.to(device), rearrange(shares, "u m p k -> u p k m").to(device))


def _squares(map_BEHW: Tensor, *, border: int) -> Tensor:
    """Squares with the `border` that the map has (B, U, V, S, S, E); zeros beyond the end of the map."""
    height, width = (side - 2 * border for side in map_BEHW.shape[-2:])
    whole_BEHW = F.pad(map_BEHW, (0, -width % SQUARE, 0, -height % SQUARE))
    whole_BHWE = rearrange(whole_BEHW, "b e h w -> b h w e").contiguous()
    views = whole_BHWE.unfold(1, SQUARE + 2 * border, SQUARE).unfold(2, SQUARE + 2 * border, SQUARE)
    return rearrange(views, "b u v e y x -> b u v y x e")


def _on_cells(kernel_BUVPK: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Weights of taps as weights (B, U, V, P, N) of the source cells that the taps are made of."""
    taps = down.shape[2]
    kernel = rearrange(kernel_BUVPK, "b u v (y x) (i j) -> b u v y x i j", y=SQUARE, i=taps)
    by_rows = torch.einsum("buvyxij,uyim->buvyxmj", kernel, down.to(kernel.dtype))
    by_cells = torch.einsum("buvyxmj,vxjn->buvyxmn", by_rows, across.to(kernel.dtype))
    return by_cells.flatten(5, 6).flatten(3, 4)


def _perceptron(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Where the published module drops out while it is trained, nothing happens; the place gives the names."""
    return nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.GELU(), nn.Identity(), nn.Conv2d(hidden, out, 1))


def _pointwise(conv: Any, x: Tensor) -> Tensor:
    """A convolution of single pixels, on channels that come last."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def _stage_names(shared: bool) -> list[str]:
    return ["up"] * STAGES if shared else [f"up{stage + 1}" for stage in range(STAGES)]
