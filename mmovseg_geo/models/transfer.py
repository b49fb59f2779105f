"""Tiles to a GPU and finished bytes back, without anybody waiting: pinned memory and a stream of copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmovseg_geo.models.segmenter import DeviceTransfer
from mmovseg_geo.tiles import Batch

PIXELS = ("optical", "sar")


def transfer_to(device: torch.device) -> DeviceTransfer | None:
    """How batches reach a device and bytes come back; None where they need not move."""
    return CudaTransfer(device) if device.type == "cuda" else None


def nothing_seen(valid: NDArray[np.bool_] | Tensor) -> bool:
    """Whether a sensor saw nothing in a whole batch; one that is on a GPU saw something, and nobody waits to ask."""
    return not isinstance(valid, Tensor) and not valid.any()


class CudaTransfer:
    """Copies of their own stream, beside the kernels."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def to_device(self, batch: Batch) -> Callable[[], Batch]:
        """Start copying a batch, in any thread; the thread of the model calls what it returns, to use it.

        A sensor that saw nothing in any tile is left out. The copies are float32 images and boolean masks.
        """
        moved: dict[str, Tensor | None] = {}
        with torch.cuda.stream(self._stream):
            for sensor in PIXELS:
                image, valid = getattr(batch, sensor), getattr(batch, f"{sensor}_valid")
                seen = image is not None and valid is not None and bool(valid.any())
                moved[sensor] = self._copied(image) if seen else None
                moved[f"{sensor}_valid"] = self._copied(valid) if seen else None
            done = self._stream.record_event()

        def arrived() -> Batch:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(done)
            for tensor in moved.values():
                if tensor is not None:
                    tensor.record_stream(current)  # its memory may be used again only after what is queued now
            return replace(batch, **moved)  # type: ignore[arg-type]

        return arrived

    def to_host(self, *arrays: Tensor) -> Callable[[], tuple[NDArray[Any], ...]]:
        """Start copying tensors to the host; what it returns waits for them."""
        copies = [
            torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
            for tensor in arrays
        ]
        done = torch.cuda.current_stream(self.device).record_event()

        def arrived() -> tuple[NDArray[Any], ...]:
            done.synchronize()
            return tuple(np.asarray(tensor) for tensor in copies)

        return arrived

    def free_bytes(self) -> int:
        """Memory of the GPU that nothing holds, or that only torch keeps for later."""
        free, _ = torch.cuda.mem_get_info(self.device)
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(free + kept)

    def peak_of(self, work: Callable[[], object]) -> int:
        """Bytes that work takes at its peak, beyond what is allocated now."""
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        torch.cuda.synchronize(self.device)
        return int(torch.cuda.max_memory_allocated(self.device) - before)

    def _copied(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).pin_memory().to(self.device, non_blocking=True)
