"""What a fixture describes, built with our modules: weights by the seeded rules, tensors by the reference's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmovseg_geo.models.clip import CLIPText, embed_texts
from mmovseg_geo.models.compute import mixed
from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.checkpoint import HEAD_RULES, build_loaded, dino_rules, rules
from mmovseg_geo.models.mmovseg.encoders import DINOv1, DINOv3, dino
from mmovseg_geo.models.mmovseg.head import CostHead
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.params import CLIPParams, DINOParams, HeadParams, MMOVSegParams, hook_layers
from mmovseg_geo.models.mmovseg.preprocessing import as_rgb, normalize, pad_to_multiple, scores_on_tile
from mmovseg_geo.models.state_dict import load, rename, their_shapes
from tests.parity.fixture import Fixture, raw, unit, weight
from tests.parity.recording import Tensors, add_sensors, dino_hook, head_hooks, network_hooks, recording

PADDED_CLASSES = 256
SYNONYM_SEPARATOR = ", "


class SeededWeights(Mapping[str, Tensor]):
    """A reference state dict whose values are made when they are asked for, so that none is held twice."""

    def __init__(self, seed: int, shapes: Mapping[str, tuple[int, ...]], fixed: Mapping[str, Tensor]) -> None:
        self.seed, self.shapes, self.fixed = seed, shapes, fixed

    def __getitem__(self, key: str) -> Tensor:
        return self.fixed[key] if key in self.fixed else torch.from_numpy(weight(self.seed, key, self.shapes[key]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def head_params(head: Mapping[str, Any], embed_dim: int) -> HeadParams:
    pooling = set(head["pooling"])
    assert len(pooling) == 1, f"pooling {head['pooling']} is not square"
    return HeadParams(
        text_dim=embed_dim,
        hidden_dim=head["hidden_dim"],
        appearance_dim=head["appearance_proj"],
        text_guidance_dim=head["text_proj"],
        guidance_dims=tuple(head["guidance_dims"]),
        guidance_proj=tuple(head["guidance_proj"]),
        decoder_dims=tuple(head["decoder_dims"]),
        num_layers=head["num_layers"],
        num_heads=head["num_heads"],
        window=head["window"],
        pooling=pooling.pop(),
        padded_classes=PADDED_CLASSES,
    )


def dino_params(model: Mapping[str, Any]) -> DINOParams:
    widths = {name: model[name] for name in ("embed_dim", "depth", "num_heads", "patch")}
    return DINOParams(family=model["type"], **widths)


def network_params(fixture: Fixture) -> MMOVSegParams:
    """Numbers of a whole model; its input size and stride follow from the recorded input and the cost grid."""
    model, clip = fixture.meta["model"], fixture.meta["model"]["clip"]
    recorded = fixture.meta["tensors"].get("dino_optical_input")
    native_size = recorded["shape"][-2] if recorded else fixture.size[0]
    named = ("embed_dim", "patch", "vision_width", "vision_layers", "text_width", "text_heads", "text_layers")
    return MMOVSegParams(
        clip=CLIPParams(image_size=clip["image_resolution"], **{name: clip[name] for name in named}),
        dino=dino_params(model["dino"]),
        head=head_params(model["head"], clip["embed_dim"]),
        stride=native_size // model["head"]["grid"][0],
        native_size=native_size,
    )


def head_tensors(fixture: Fixture) -> Tensors:
    """Sections 6 to 8 alone, on seeded features."""
    meta, head = fixture.meta, fixture.meta["model"]["head"]
    module = CostHead(head_params(head, meta["model"]["embed_dim"])).eval()
    ours = {f"head.{key}": tuple(value.shape) for key, value in module.state_dict().items()}
    official = SeededWeights(fixture.seed, their_shapes(ours, HEAD_RULES), {})
    load(module, {key.removeprefix("head."): value for key, value in rename(official, HEAD_RULES).items()})

    def features(name: str, *shape: int) -> Tensor:
        return torch.from_numpy(fixture.features(name, shape))

    def guidance(name: str) -> tuple[Tensor, ...]:
        maps = []
        for stage, dim in enumerate(head["guidance_dims"]):
            height, width = (cells * 2 ** (stage + 1) for cells in head["grid"])
            maps.append(features(f"{name}_guidance_{height}", meta["batch"], dim, height, width))
        return tuple(maps)

    channels = meta["model"]["embed_dim"]
    dense_shape = (meta["batch"], channels, *head["grid"])
    with recording(head_hooks(module)) as tensors, torch.no_grad():
        module(
            features("clip", *dense_shape),
            features("dense", *dense_shape),
            features("text", meta["num_classes"], channels),
            guidance("clip"),
            guidance("dino"),
        )
    return tensors


def dino_tensors(fixture: Fixture) -> Tensors:
    """A DINO encoder alone, on a seeded input."""
    meta = fixture.meta
    layers = sorted(int(name.removeprefix("layer")) for name in meta["tensors"] if name.startswith("layer"))
    params, side = dino_params(meta["model"]), meta.get("size", (384, 384))
    module = dino(params, layers).eval()
    prefix = meta["key_prefix"]
    table = dino_rules(params.family, prefix, "")
    ours = {key: tuple(value.shape) for key, value in module.vit.state_dict().items()}
    official = SeededWeights(fixture.seed, their_shapes(ours, table), _periods(module, prefix))
    load(module.vit, rename(official, table))
    image = torch.from_numpy(unit(fixture.seed, f"{meta['input']}/x", (meta["batch"], 3, *side)))
    with recording([dino_hook(module, [f"layer{layer}" for layer in layers])]) as tensors, torch.no_grad():
        module(image)
    grid = side[0] // params.patch, side[1] // params.patch
    if isinstance(module, DINOv1):
        tensors[f"pos_embed_{grid[0]}"] = module.positions(grid).detach().numpy()
    else:
        sin, cos = module.vit.rope.get_embed(list(grid)).chunk(2, dim=-1)
        tensors.update(rope_sin=sin.numpy(), rope_cos=cos.numpy())
    return tensors


def network(fixture: Fixture) -> MMOVSeg:
    """The whole model with its seeded weights."""
    params = network_params(fixture)
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in build(params).state_dict().items()}
    table = rules(params)
    fixed: dict[str, Tensor] = {}
    if params.dino.family == "dinov3":
        encoder = dino(params.dino, hook_layers(params.dino.depth))
        fixed = {**_periods(encoder, "dino_model."), **_periods(encoder, "dino_sarmodel.")}
    official = SeededWeights(fixture.seed, their_shapes(shapes, table), fixed)
    return build_loaded(params, rename(official, table))


def network_tensors(fixture: Fixture) -> Tensors:
    """A whole forward pass as the reference does it: optical and SAR padded each by itself, scores stretched."""
    meta, model = fixture.meta, network(fixture)
    with recording(network_hooks(model, meta["model"]["head"]["grid"][0])) as tensors, torch.no_grad():
        embedded = embedded_classes(fixture, model)
        logits = logits_of(fixture, model, embedded)
    add_sensors(tensors)
    assert isinstance(model.text, CLIPText)
    tensors["tokens"] = model.text.tokens([meta["prompt"].format(name) for name in class_names(fixture)]).numpy()
    tensors["text_embeds"] = embedded[:, None].numpy()
    tensors["sem_seg"] = scores_on_tile(logits[:1], fixture.out)[0].numpy()
    return tensors


def class_names(fixture: Fixture) -> list[str]:
    return [name.split(SYNONYM_SEPARATOR)[0] for name in fixture.meta["classes"]]


def embedded_classes(fixture: Fixture, model: MMOVSeg) -> Tensor:
    """Unit vectors (T, C)."""
    assert isinstance(model.text, CLIPText)
    return embed_texts(model.text, class_names(fixture), [fixture.meta["prompt"]])


def logits_of(fixture: Fixture, model: MMOVSeg, embedded: Tensor) -> Tensor:
    optical = torch.from_numpy(fixture.images("optical", 3, fixture.size))
    sar = as_rgb(torch.from_numpy(fixture.images("sar", 1, fixture.sar_size)))
    divisor, device = fixture.meta["size_divisibility"], embedded.device
    shown = (pad_to_multiple(normalize(x.to(device)), divisor) for x in (optical, sar))
    native = network_params(fixture).native_size
    logits: Tensor = model(*shown, embedded, size=(native, native))
    return logits


def scores_on(fixture: Fixture, device: str) -> Tensors:
    """What the network gives on a device: logits, and the scores of the first image."""
    model = network(fixture)
    with torch.no_grad():
        embedded = embedded_classes(fixture, model).to(device)
        logits = logits_of(fixture, model.to(device), embedded).float().cpu()
    return {"logits": logits.numpy(), "sem_seg": scores_on_tile(logits[:1], fixture.out)[0].numpy()}


def bfloat16_agreement(fixture: Fixture, device: str, *, apart: float) -> float:
    """Share of the pixels with a clear winner in float32, by more than `apart`, that have it in bfloat16 too."""
    model = network(fixture)
    with torch.no_grad():
        embedded = embedded_classes(fixture, model).to(device)
        model.to(device)
        exact = scores_on_tile(logits_of(fixture, model, embedded), fixture.out)
        with mixed(torch.device(device), torch.bfloat16):
            rough = scores_on_tile(logits_of(fixture, model, embedded), fixture.out)
    best = exact.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > apart
    assert clear.any(), "no pixel has a clear winner"
    return float((exact.argmax(1) == rough.argmax(1))[clear].float().mean())


def label_of(fixture: Fixture, item: int) -> np.ndarray:
    """Seeded labels (H, W) in squares of 24 pixels, 255 for none."""
    (height, width), count = fixture.size, len(fixture.meta["classes"])
    rows, cols = -(-height // 24), -(-width // 24)
    values = (raw(fixture.seed, f"{fixture.meta['input']}/{item}/label", rows * cols) >> np.uint64(56)) % (count + 1)
    values[values == count] = 255
    return values.reshape(rows, cols).repeat(24, 0).repeat(24, 1)[:height, :width].astype(np.uint8)


def _periods(encoder: DINOv1 | DINOv3, prefix: str) -> dict[str, Tensor]:
    """What the seeded weights leave out: the periods of the rotary positions, by their formula."""
    if isinstance(encoder, DINOv1):
        return {}
    head_dim = encoder.vit.embed_dim // encoder.vit.blocks[0].attn.num_heads
    exponents = 2 * torch.arange(head_dim // 4, dtype=torch.float32) / (head_dim // 2)
    return {f"{prefix}rope_embed.periods": torch.tensor(DINOv3.ROPE_BASE) ** exponents}
