"""SegEarth-OV and SegEarth-OV-2 as segmenters: tiles in, scores of words out; one sensor, or both mixed late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.compute import device_of, dtype_of, mixed
from mmovseg_geo.models.segearth.scoring import class_values
from mmovseg_geo.models.segearth.view import View
from mmovseg_geo.models.transfer import nothing_seen, transfer_to
from mmovseg_geo.tiles import Batch, Sensor
from mmovseg_geo.vocabulary import Vocabulary

HALF_SEEN = 0.5
"""A pixel is valid in every tile or in none, so its averaged validity is 0 or 1 but for rounding."""
TINY = 1e-6


class SegEarthSegmenter:
    """Views of one or two sensors with their vocabulary; see `models.segmenter.Segmenter` for what callers may use.

    What is averaged over tiles are similarities to words. With two sensors, the similarities to each lie side by side,
    those of pixels that the sensor did not see as zeros, and behind them two planes that tell where each one saw:
    dividing by these gives back the mean over what was seen.

    Args:
        optical_weight: w of P = w P_optical + (1 - w) P_sar, where both sensors saw the pixel; where one did not,
            the other decides.

    Raises:
        ConfigError: a weight outside 0..1.
    """

    scores_background = True

    def __init__(
        self,
        name: str,
        views: Mapping[Sensor, View],
        vocabulary: Vocabulary,
        *,
        device: str = "auto",
        precision: str = "auto",
        optical_weight: float = 0.5,
    ) -> None:
        if not 0 <= optical_weight <= 1:
            raise ConfigError(f"optical_weight {optical_weight:g} is not between 0 and 1.")
        self.name = name
        self.sar_bands = 1
        self.vocabulary = vocabulary
        self.views = dict(views)
        self.sensors: frozenset[Sensor] = frozenset(views)
        self.device = device_of(device)
        self.dtype = dtype_of(precision, self.device)
        self.transfer = transfer_to(self.device)
        self.optical_weight = optical_weight
        self.counts = [len(entry.words) for entry in vocabulary.classes]
        self.tiling = next(iter(self.views.values())).recipe.tiling()
        words = sum(self.counts)
        self.planes = words if len(views) == 1 else 2 * words + 2
        self.provenance: dict[str, Any] = {
            "model": name,
            "precision": str(self.dtype).removeprefix("torch."),
            "prompts": [list(entry.words) for entry in vocabulary.classes],
            "templates": "the 80 ImageNet prompts published with CLIP",
            **{sensor: view.facts for sensor, view in self.views.items()},
        }
        if len(views) == 2:
            self.provenance["optical_weight"] = optical_weight

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Scores (B, Q, H, W) float32."""
        pixels: dict[Sensor, tuple[Any, Any]] = {
            "optical": (batch.optical, batch.optical_valid),
            "sar": (batch.sar, batch.sar_valid),
        }
        shape = batch.valid.shape
        found = {sensor: self._seen(view, *pixels[sensor], shape) for sensor, view in self.views.items()}
        if len(found) == 1:
            ((scores, _),) = found.values()
            return scores
        parts = [scores * valid for scores, valid in found.values()]
        return torch.cat([*parts, *(valid for _, valid in found.values())], dim=1)

    def probabilities(self, scores: Any) -> Any:
        """Averaged scores (Q, H, W), a tensor or a numpy array, to class values (K, H, W) in 0..1."""
        if not isinstance(scores, Tensor):
            return self.probabilities(torch.from_numpy(scores)).numpy()
        if len(self.views) == 1:
            (view,) = self.views.values()
            return class_values(scores, self.counts, view.recipe.temperature)
        words = sum(self.counts)
        shares, values = [], []
        for index, (sensor, view) in enumerate(self.views.items()):
            seen = scores[2 * words + index]
            mean = scores[index * words : (index + 1) * words] / seen.clamp(min=TINY)
            values.append(class_values(mean, self.counts, view.recipe.temperature))
            weight = self.optical_weight if sensor == "optical" else 1 - self.optical_weight
            shares.append(torch.where(seen > HALF_SEEN, max(weight, TINY), 0.0))
        total = (shares[0] + shares[1]).clamp(min=TINY)
        return sum(share / total * value for share, value in zip(shares, values, strict=True))

    def _seen(
        self, view: View, image: NDArray[Any] | None, valid: NDArray[Any] | None, shape: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Scores (B, Q, H, W) of one sensor and its validity (B, 1, H, W); zeros where it saw nothing at all."""
        if image is None or valid is None or nothing_seen(valid):
            empty = torch.zeros(shape[0], 1, *shape[1:], device=self.device)
            return empty.expand(-1, sum(self.counts), -1, -1), empty
        mask = torch.as_tensor(valid).to(self.device, torch.float32)
        with mixed(self.device, self.dtype):
            scores = view(torch.as_tensor(image).to(self.device, torch.float32) * mask[:, None], mask)
        return scores.float(), mask[:, None]
