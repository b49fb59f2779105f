"""Large kernels by their Fourier transform, for inference on a CPU.

A 7 x 7 kernel takes 49 products for every pair of channels and cell. In the space of frequencies one complex product is
left for about every second cell: a third of the time for a few classes, a fifth for many. Exact up to rounding.

Shape suffixes: N images, I and O channels in and out, H rows, W columns, F frequencies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.head import CostHead

LEAST_KERNEL = 5
"""Below it the plain convolution is faster."""


class SpectralConv(nn.Conv2d):
    """What a convolution of stride 1 that keeps its grid gives, in single precision on a CPU; elsewhere it is asked.

    The transform of the weights is kept for the grid that came last: for 256 to 128 channels on 24 x 24 cells 97 MB.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        kernel = conv.kernel_size[0], conv.kernel_size[1]
        middle = kernel[0] // 2, kernel[1] // 2
        super().__init__(
            conv.in_channels, conv.out_channels, kernel, padding=middle, bias=conv.bias is not None, device="meta"
        )
        self.weight, self.bias = conv.weight, conv.bias
        self._size = (0, 0)
        self._spectrum_FIO = torch.empty(0)

    def forward(self, x_NIHW: Tensor) -> Tensor:
        if x_NIHW.device.type != "cpu" or x_NIHW.dtype != torch.float32:
            return super().forward(x_NIHW)
        height, width = x_NIHW.shape[-2:]
        kernel = self.kernel_size
        # Beyond the end of the grid half a kernel of zeros is enough: what looks over the beginning wraps into them.
        size = height + kernel[0] // 2, width + kernel[1] // 2
        x_FNI = torch.fft.rfft2(x_NIHW, s=size).permute(2, 3, 0, 1).flatten(0, 1)
        y_FNO = torch.bmm(x_FNI, self._weights(size))
        y_HWNO = torch.fft.irfft2(y_FNO.view(size[0], -1, *y_FNO.shape[1:]), s=size, dim=(0, 1))[:height, :width]
        y_NOHW: Tensor = y_HWNO.permute(2, 3, 0, 1)
        return y_NOHW if self.bias is None else y_NOHW + self.bias[:, None, None]

    def _weights(self, size: tuple[int, int]) -> Tensor:
        """The transform (F, I, O) of the kernel around its middle; conjugate, as networks correlate."""
        if self._size != size:
            (rows, cols), (height, width) = self.weight.shape[-2:], size
            padded = F.pad(self.weight, (0, width - cols, 0, height - rows))
            around = padded.roll((-(rows // 2), -(cols // 2)), dims=(-2, -1))
            spectrum = torch.fft.rfft2(around).conj().permute(2, 3, 1, 0).flatten(0, 1)
            self._spectrum_FIO = spectrum.resolve_conj().contiguous()
            self._size = size
        return self._spectrum_FIO


def by_frequencies(head: CostHead) -> CostHead:
    """The head for inference, its largest convolution by frequencies where that is faster."""
    conv = head.fusion.fuse
    if isinstance(conv, nn.Conv2d) and min(conv.kernel_size) >= LEAST_KERNEL:
        head.fusion.fuse = SpectralConv(conv)
    return head
