"""A published method with the words, weights and settings that it had on a set, ready to be scored beside the paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from array_api_compat import array_namespace

from mmovseg_geo.datasets.description import DatasetConfig
from mmovseg_geo.datasets.methods import COMMON, MethodSettings, MMOVSegSettings, SegEarthSettings
from mmovseg_geo.datasets.reading import read_dataset
from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models import load_segmenter, registry
from mmovseg_geo.models.segmenter import Array, Segmenter
from mmovseg_geo.tiles import Batch, Tiling

SEGEARTH = {"optical": "segearth-ov", "sar": "segearth-ov2-sar"}
"""Sensor to the model that looks at it alone; on optical images both versions of SegEarth-OV compute the same."""
WHOLE = Tiling(size=8192, overlap=0, blend="uniform")
"""MM-OVSeg was scored on whole images, whatever their size."""
QUICK_GELU = {"clip-vitb16-openai": "ViT-B-16-quickgelu"}
"""Weights to the architecture that they need, where it is not the one of the model's own encoder."""


def load_as_published(
    dataset: DatasetConfig | str | Path,
    method: str,
    *,
    split: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Segmenter:
    """The segmenter of a method as it was run on a set.

    Args:
        method: one of the set's `methods`, such as `segearth-ov`.
        split: whose classes are asked for; by default those of the split that published scores are of.
        options: settings of the model that shall be others than published.

    Raises:
        ConfigError: a method that the set has no settings of. WeightsError: weights that are not on this machine.

    >>> segmenter = load_as_published("configs/datasets/loveda.yaml", "segearth-ov")    # doctest: +SKIP
    """
    config = dataset if isinstance(dataset, DatasetConfig) else read_dataset(dataset)
    settings = config.settings(method)
    vocabulary = config.vocabulary(method, config.split(split).name)
    model, published = _model(method, settings, options or {})
    segmenter = load_segmenter(
        model, vocabulary, device=device, precision=precision, options={**published, **(options or {})}
    )
    if isinstance(settings, MMOVSegSettings):
        segmenter.tiling = WHOLE
    elif settings.threshold > 0:
        return WithThreshold(segmenter, settings.threshold, settings.background)
    return segmenter


def _model(method: str, settings: MethodSettings, own: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and options for `load_segmenter`."""
    if isinstance(settings, MMOVSegSettings):
        return _checkpoint(settings), {
            "inference": "whole",
            "sar_alignment": settings.sar_alignment,
            "prompts": settings.prompt,
            "synonyms": "first",
        }
    if settings.sensors not in SEGEARTH:
        raise ConfigError(f"{method} was published for one sensor; {settings.sensors} cannot be run as published.")
    options: dict[str, Any] = {
        "attention": settings.attention,
        "last": settings.last_n,
        "residual": settings.residual,
        "bias": settings.bias,
        "temperature": settings.scale,
        "upsampler": settings.upsampler,
        "long_edge": settings.resize,
        "window": settings.window or 0,
        "stride": settings.stride or settings.resize,
    }
    common = COMMON["segearth-ov" if settings.sensors == "optical" else "segearth-ov2-sar"]
    assert isinstance(common, SegEarthSettings), "both are versions of SegEarth-OV"
    if settings.encoder != common.encoder and "checkpoint" not in own:
        options |= {
            "encoder": QUICK_GELU[settings.encoder],
            "checkpoint": str(registry.weights_file(settings.encoder)),
        }
    return SEGEARTH[settings.sensors], options


def _checkpoint(settings: MMOVSegSettings) -> str:
    """The registry's name of official weights."""
    archive, _, member = settings.checkpoint.partition("/")
    for name in registry.names():
        entry = registry.entry(name)
        if entry.source is not None and (entry.source.file, entry.member) == (archive, member):
            return name
    raise ConfigError(f"No model is made from the checkpoint {settings.checkpoint}. `mmovseg models list` shows all.")


class WithThreshold:
    """A segmenter whose pixels go to one class where no class reaches a value; see `Segmenter` for the attributes.

    Unlike the `min_score` of a map the class may have any name: clutter, or bare ground.

    Args:
        segmenter: one that gives values of all classes, the background among them.
        background: index of the class that takes the other pixels.
    """

    scores_background = True

    def __init__(self, segmenter: Segmenter, threshold: float, background: int) -> None:
        assert getattr(segmenter, "scores_background", False), "values of all classes are needed"
        self.segmenter, self.threshold, self.background = segmenter, threshold, background
        self.name, self.vocabulary, self.sensors = segmenter.name, segmenter.vocabulary, segmenter.sensors
        self.tiling, self.planes = segmenter.tiling, segmenter.planes
        self.provenance: dict[str, Any] = {
            **segmenter.provenance,
            "threshold": threshold,
            "below_threshold": segmenter.vocabulary.classes[background].name,
        }

    def __call__(self, batch: Batch) -> Array:
        return self.segmenter(batch)

    def probabilities(self, scores: Array) -> Array:
        """Class values (K, H, W); where the largest is below the threshold, one minus it for the background alone."""
        values = self.segmenter.probabilities(scores)
        xp = array_namespace(values)
        best = xp.max(values, axis=0)
        claimed = best >= self.threshold
        found = xp.where(claimed[None], values, xp.zeros_like(values))
        found[self.background] = xp.where(claimed, found[self.background], 1 - best)
        return found
