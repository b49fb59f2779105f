"""MM-OVSeg as a segmenter: tiles in, a score for every class and pixel out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError, WeightsError
from mmovseg_geo.models import SEGMENTERS, SETTINGS, check_options, imported, registry, switch
from mmovseg_geo.models.compiled import Compiled
from mmovseg_geo.models.compute import device_of, dtype_of, mixed, stored_in
from mmovseg_geo.models.mmovseg import compact
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.views import CompactView, Forward, Pixels, View
from mmovseg_geo.models.transfer import nothing_seen, transfer_to
from mmovseg_geo.models.weights import Weights, bundled_weights, open_weights
from mmovseg_geo.tiles import Batch, Sensor
from mmovseg_geo.vocabulary import Vocabulary

Synonyms = Literal["mean", "max", "first"]
TEXT = 2
"""Position of the words among the inputs of `MMOVSeg.forward`."""
VARIANTS = tuple(name for name in SEGMENTERS if name.startswith("mmovseg-"))
"""What the weights of one file may be for."""


class MMOVSegSegmenter:
    """A network with its vocabulary; see `models.segmenter.Segmenter` for what callers may use.

    The words of a class are joined in one of three ways: `mean` (the default) averages their unit text vectors, so that
    a class costs one plane whatever its synonyms; `max` scores every word and takes the best; `first` leaves the
    synonyms out, as the published programs do.
    Scores are sigmoids, so classes do not compete: 0.5 means "more likely than not", whatever else is asked for.

    With `compile` the network is compiled for the machine at its first batch (see `models.compiled`).
    """

    sensors: frozenset[Sensor] = frozenset({"optical", "sar"})

    def __init__(
        self, name: str, network: MMOVSeg, view: View, vocabulary: Vocabulary, weights: Weights, *,
        gsd_m: float | None = None, device: str = "auto", precision: str = "auto", synonyms: Synonyms = "mean",
        compile: bool | str = False,
    ) -> None:  # fmt: skip
        if synonyms not in get_args(Synonyms):
            raise ConfigError(f"model option synonyms {synonyms!r} is unknown. Known: {', '.join(get_args(Synonyms))}.")
        compiled = switch("compile", compile)
        self.name = name
        self.vocabulary = vocabulary
        self.view = view
        self.tiling = view.tiling(gsd_m)
        self.sar_bands = view.sar_bands
        self.device = device_of(device)
        self.dtype = dtype_of(precision, self.device)
        self.transfer = transfer_to(self.device)
        self.synonyms = synonyms
        self.words = [entry.words[:1] if synonyms == "first" else entry.words for entry in vocabulary.scored]
        self.text = _embedded(network, view, self.words, synonyms).to(self.device)
        network.text = None
        network = view.prepared(network).to(self.device).requires_grad_(False)
        if self.dtype != torch.float32:
            for part in ("optical", "sar", "adapters"):
                stored_in(network.get_submodule(part), self.dtype)
        self.network = network
        self.forward: Forward = Compiled(network, self.device, shared=(TEXT,)) if compiled else network
        self.planes = len(self.text)
        self.provenance: dict[str, Any] = {
            "model": name,
            "weights_sha256": weights.sha256,
            "weights_licence": weights.licence,
            "precision": str(self.dtype).removeprefix("torch."),
            "synonyms": synonyms,
            "prompts": [list(words) for words in self.words],
            **view.provenance,
        }

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Scores (B, Q, H, W) float32 in 0..1; 0 where neither sensor saw anything is not promised."""
        optical = self._pixels(batch.optical, batch.optical_valid)
        sar = self._pixels(batch.sar, batch.sar_valid)
        if optical is None and sar is None:
            shape = batch.valid.shape
            return torch.zeros(shape[0], self.planes, *shape[1:], device=self.device)
        with mixed(self.device, self.dtype):
            scores = self.view.scores(self.forward, optical, sar, self.text, batch.gsd_m)
        return scores.float()

    def probabilities(self, scores: Any) -> Any:
        """Averaged scores (Q, H, W) to class values (K, H, W) in 0..1."""
        if self.synonyms != "max":
            return scores.clip(0, 1)
        if not isinstance(scores, Tensor):
            return self.probabilities(torch.from_numpy(scores)).numpy()
        groups = torch.split(scores, [len(words) for words in self.words])
        return torch.stack([group.amax(0) for group in groups]).clip(0, 1)

    def _pixels(self, image: NDArray[Any] | None, valid: NDArray[Any] | None) -> Pixels | None:
        """One sensor of the batch, or None where it saw nothing at all."""
        if image is None or valid is None or nothing_seen(valid):
            return None
        mask = torch.as_tensor(valid).to(self.device, torch.float32)
        return Pixels(torch.as_tensor(image).to(self.device, torch.float32) * mask[:, None], mask)


def mmovseg_compact(
    vocabulary: Vocabulary | None = None, *, weights: Path | None = None, device: str = "auto",
    precision: str = "auto", gsd_m: float | None = None, synonyms: Synonyms = "mean", compile: bool | str = False,
) -> MMOVSegSegmenter:  # fmt: skip
    """The bundled model, or another training of it, for a vocabulary."""
    found = bundled_weights() if weights is None else open_weights(weights)
    if found.variant != "mmovseg-compact":
        raise WeightsError(f"{found.path}: these weights are for {found.variant}, not for mmovseg-compact.")
    network = compact.trained(found)
    asked = vocabulary_of(vocabulary, found)
    assert isinstance(network.head, compact.SpeakingHead), "a compact network leans"
    network.head.lean_for(background=asked.background is not None)
    return MMOVSegSegmenter(
        "mmovseg-compact", network, CompactView(), asked, found,
        gsd_m=gsd_m, device=device, precision=precision, synonyms=synonyms, compile=compile,
    )  # fmt: skip


def from_file(
    vocabulary: Vocabulary | None = None, *, weights: Path | None = None, **settings: Any
) -> MMOVSegSegmenter:
    """The segmenter that a weights file says it is for; its settings and options are those of its builder."""
    if weights is None:
        raise WeightsError("No weights file was given; name a .safetensors file.")
    variant = open_weights(weights).variant
    if variant in registry.PART_OPTIONS:
        raise WeightsError(f"{weights}: {variant} is no whole model.\n{registry.as_part(variant, weights)}")
    if variant not in VARIANTS:
        raise WeightsError(f"{weights}: made for the unknown network {variant!r}. Known: {', '.join(VARIANTS)}.")
    builder: Callable[..., MMOVSegSegmenter] = imported(SEGMENTERS[variant])
    check_options(variant, builder, [name for name in settings if name not in SETTINGS])
    return builder(vocabulary, weights=weights, **settings)


def vocabulary_of(asked: Vocabulary | None, weights: Weights) -> Vocabulary:
    if asked is not None:
        return asked
    if "vocabulary" in weights.details:  # with ids and colors
        return Vocabulary.from_json(weights.details["vocabulary"])
    if not weights.classes:
        raise WeightsError(f"{weights.path}: these weights bring no class list. Say what to look for with --classes.")
    return Vocabulary.of([list(words) for words in weights.classes])


@torch.inference_mode()
def _embedded(network: MMOVSeg, view: View, words: list[tuple[str, ...]], synonyms: Synonyms) -> Tensor:
    """Unit vectors (Q, C): one for each class, or one for each word."""
    vectors = view.text(network.eval(), [word for group in words for word in group])
    if synonyms == "max":
        return vectors.clone()
    groups = torch.split(vectors, [len(group) for group in words])
    means = [group.mean(0) for group in groups]
    return F.normalize(torch.stack(means), dim=-1)
