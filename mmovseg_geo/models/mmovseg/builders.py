"""Segmenters of the published kind: MM-OVSeg around CLIP and DINO encoders, by the name of the variant."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models.mmovseg import named
from mmovseg_geo.models.mmovseg.checkpoint import build_loaded
from mmovseg_geo.models.mmovseg.published import Inference, PublishedView, SarAlignment, prompt_templates
from mmovseg_geo.models.mmovseg.segmenter import MMOVSegSegmenter, Synonyms, vocabulary_of
from mmovseg_geo.models.mmovseg.variants import PUBLISHED
from mmovseg_geo.models.weights import open_weights
from mmovseg_geo.vocabulary import Vocabulary


def _published(
    name: str, vocabulary: Vocabulary | None = None, *, weights: Path | None = None, device: str = "auto",
    precision: str = "auto", gsd_m: float | None = None, inference: Inference = "whole",
    sar_alignment: SarAlignment = "aligned", prompts: str = "scene", synonyms: Synonyms = "mean",
    compile: bool | str = False,
) -> MMOVSegSegmenter:  # fmt: skip
    """A published variant; its options are those of `PublishedView`, and prompts as `prompt_templates` reads them."""
    params = PUBLISHED[name]()
    templates = prompt_templates(prompts)
    view = PublishedView(params, inference=inference, sar_alignment=sar_alignment, templates=templates)
    if weights is None:
        raise WeightsError(
            f"{name} is a network without weights of its own.\n"
            f"  Take a published checkpoint (--model {name}-pie; mmovseg models list shows all), give a file with\n"
            "  --model PATH.safetensors, or use the bundled mmovseg-compact."
        )
    found = open_weights(weights)
    network = build_loaded(params, found.tensors(), source=str(found.path))
    return MMOVSegSegmenter(
        found.details.get("name", name), network, view, vocabulary_of(vocabulary, found), found,
        gsd_m=gsd_m, device=device, precision=precision, synonyms=synonyms, compile=compile,
    )  # fmt: skip


mmovseg_vitb16 = partial(_published, "mmovseg-vitb16")
mmovseg_vitl14 = partial(_published, "mmovseg-vitl14")


def mmovseg_custom(
    vocabulary: Vocabulary | None = None, *, weights: Path | None = None, device: str = "auto",
    precision: str = "auto", gsd_m: float | None = None, clip: str | None = None, dino: str | None = None,
    size: int | str | None = None, inference: Inference = "whole", prompts: str = "scene",
    synonyms: Synonyms = "mean",
    compile: bool | str = False,
) -> MMOVSegSegmenter:  # fmt: skip
    """A variant by the names of its encoders, with weights that were trained for it.

    Names may be left out where a weights file says them; otherwise they must agree with it.
    """
    names = {"clip": clip or named.CLIP, "dino": dino or named.DINO}
    if weights is None:
        named.named(**names, size=size or named.SIZE)
        said = " ".join(f"{option}={name}" for option, name in names.items())
        raise WeightsError(
            f"{named.VARIANT} with {said} can be built, but nothing has trained it:\n"
            "  encoders alone are no model, because what joins them starts at random. Give the file of a trained one\n"
            "  with --model PATH.safetensors, or use the bundled mmovseg-compact.\n"
            "  For maps from a pretrained CLIP alone there is segearth-ov with --model-option encoder=NAME."
        )
    found = open_weights(weights)
    if found.variant != named.VARIANT:
        raise WeightsError(f"{found.path}: these weights are for {found.variant}, not for {named.VARIANT}.")
    params = named.from_metadata(found.details, found.path)
    if found.details.get("trained") != "yes":
        raise WeightsError(
            f"{found.path}: at most the encoders of this network are trained; its cost head is not, so that a\n"
            "  map would be noise. Train it, and give the file that comes out (with `trained` `yes` in its metadata)."
        )
    asked = params
    if clip:
        asked = replace(asked, clip=named.clip_params(clip))
    if dino:
        asked = replace(asked, dino=named.dino_params(dino))
    named.check_same(asked, params, found.path)
    if size is not None:
        params = replace(params, native_size=named.tile_size(size))
    view = PublishedView(params, inference=inference, templates=prompt_templates(prompts))
    network = build_loaded(params, found.tensors(), source=str(found.path))
    return MMOVSegSegmenter(
        found.details.get("name", named.VARIANT), network, view, vocabulary_of(vocabulary, found), found,
        gsd_m=gsd_m, device=device, precision=precision, synonyms=synonyms, compile=compile,
    )  # fmt: skip
