"""EfficientNet-Lite0 (arXiv:1905.11946; without squeeze-and-excitation, activations bounded by 6) as an encoder.

Layers have the names of timm's `efficientnet_lite0`. That library is not imported, because it takes longer to start and
more memory than a small map does.
Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-3
STEM = 32
STAGES = ((1, 3, 1, 16), (2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320))
"""Blocks, kernel, stride of the first block, and channels of each stage."""
TAKEN = (0, 1, 2, 4, 6)
"""Stages whose last maps are features, at strides 2, 4, 8, 16 and 32."""
EXPANSION = 6


class Lite0(nn.Module):
    """Image planes in, maps of 16, 24, 40, 112 and 320 channels at strides 2 to 32 out."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(planes, STEM, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM, eps=EPS)
        stages, width = [], STEM
        for number, (count, kernel, stride, wide) in enumerate(STAGES):
            blocks: list[nn.Module] = []
            for place in range(count):
                step = stride if place == 0 else 1
                blocks.append(Separable(width, wide) if number == 0 else Inverted(width, wide, kernel, step))
                width = wide
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, planes_BCHW: Tensor) -> list[Tensor]:
        x = F.relu6(self.bn1(self.conv_stem(planes_BCHW)))
        maps = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in TAKEN:
                maps.append(x)
        return maps


class Separable(nn.Module):
    """A convolution of each channel, then one of each pixel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs, eps=EPS)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, eps=EPS)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x: Tensor = self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x_BCHW)))))
        return x


class Inverted(nn.Module):
    """Widened, convolved channel by channel, narrowed; beside an identity where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = EXPANSION * inputs
        self.conv_pw = nn.Conv2d(inputs, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, eps=EPS)
        self.conv_dw = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide, eps=EPS)
        self.conv_pwl = nn.Conv2d(wide, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps=EPS)
        self.stays = stride == 1 and inputs == outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x: Tensor = F.relu6(self.bn1(self.conv_pw(x_BCHW)))
        x = self.bn3(self.conv_pwl(F.relu6(self.bn2(self.conv_dw(x)))))
        return x + x_BCHW if self.stays else x
