"""The training of MM-OVSeg as a stage against the recorded steps: loss, what learns, gradients, what a step changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.checkpoint import rules
from mmovseg_geo.models.mmovseg.params import MMOVSegParams
from mmovseg_geo.models.mmovseg.preprocessing import MEAN, STD, as_rgb, normalize, pad_to_multiple, resize
from mmovseg_geo.models.state_dict import their_shapes
from mmovseg_geo.training.loop_settings import LoopSettings
from mmovseg_geo.training.stages.mmovseg import CLIP_RATE, OPTIMIZATION, SegmentationStage, Settings
from mmovseg_geo.training.stages.networks import Begun
from tests.parity.fixture import Fixture
from tests.parity.reference import class_names, label_of, network, network_params
from tests.parity.test_reference import cases

LOSS_OFF, GRADIENT_OFF = 1e-5, 1e-3
"""Allowed of a training step: of the loss, and of a gradient in its own norm."""
ROWS = ".parametrizations.in_proj_weight.original"
PARTS = ("q", "k", "v")
GRADIENT = "grad/"
"""Before the key whose gradient was stored."""


def quick_cases() -> list[Any]:
    """Recorded training steps of networks a few channels wide."""
    return [case for case in cases("train") if "slow" not in [mark.name for mark in case.marks]]


def stage_of(fixture: Fixture, **settings: str) -> SegmentationStage:
    params = network_params(fixture)
    begun = Begun(network(fixture), params, "mmovseg-custom", {})
    stage = SegmentationStage(begun, class_names(fixture), Settings(**settings), templates=[fixture.meta["prompt"]])
    stage.train()
    return stage


def batch_of(fixture: Fixture) -> dict[str, object]:
    """Images as the network sees them: at its own size, with what is padded in the mean color."""
    count, native = fixture.meta["batch"], network_params(fixture).native_size
    images = {}
    for sensor, bands, size in (("optical", 3, fixture.size), ("sar", 1, fixture.sar_size)):
        image = as_rgb(torch.from_numpy(fixture.images(sensor, bands, size)))
        if size != (native, native):
            padded = pad_to_multiple(normalize(image), fixture.meta["size_divisibility"])
            spread, mean = (torch.tensor(values).view(3, 1, 1) for values in (STD, MEAN))
            image = resize(padded, (native, native)) * spread + mean
        images[sensor] = image
    valid = {f"{name}_valid": torch.ones(count, *image.shape[-2:]) for name, image in images.items()}
    labels = torch.from_numpy(np.stack([label_of(fixture, b) for b in range(count)])).long()
    return {**images, **valid, "labels": labels, "id": [str(b) for b in range(count)]}


def official_name(params: MMOVSegParams, name: str, value: Tensor) -> str:
    """The official key that a parameter of a stage of this network is of."""
    ours, _, part = name.removeprefix("network.").partition(ROWS)
    shape = tuple(value.shape)
    if not part:
        (found,) = their_shapes({ours: shape}, rules(params))
        return found
    keys = their_shapes({f"{ours}.in_proj_weight": (3 * shape[0], *shape[1:])}, rules(params))
    return next(key for key in keys if key.endswith(f".{PARTS[int(part)]}_proj_weight"))


@pytest.mark.parametrize("fixture", cases("train"))
def test_the_stage_meets_loss_trained_parameters_and_gradients(fixture: Fixture) -> None:
    stage, expected = stage_of(fixture), fixture.recorded()
    loss = stage(batch_of(fixture))
    loss.backward()
    assert abs(loss.item() - expected["loss"][0]) <= LOSS_OFF
    gradients = {}
    for name, value in stage.trained().items():
        assert value.grad is not None, name
        gradients[official_name(network_params(fixture), name, value)] = value.grad
    assert sorted(gradients) == fixture.meta["trainable"]
    norms = np.array([float(gradients[name].norm()) for name in fixture.meta["trainable"]])
    total = float(np.linalg.norm(norms))
    assert abs(total - fixture.meta["grad_norm_total"]) <= GRADIENT_OFF * total
    off = np.abs(norms - expected["grad_norm"])
    # A gradient that is zero by the method has rounding for a norm.
    allowed = np.maximum(GRADIENT_OFF * expected["grad_norm"], 1e-6 * total)
    worst = int((off - allowed).argmax())
    assert (off <= allowed).all(), f"{fixture.meta['trainable'][worst]}: off by {off[worst]:.3g}"
    for name in (name for name in expected if name.startswith(GRADIENT)):
        stride = fixture.meta["tensors"][name]["stride"]
        difference = gradients[name.removeprefix(GRADIENT)].numpy().reshape(-1)[::stride] - expected[name]
        assert np.abs(difference).max() <= GRADIENT_OFF * np.abs(expected[name]).max(), name


@pytest.mark.parametrize("fixture", quick_cases())
def test_a_mask_leaves_out_what_has_no_label(fixture: Fixture) -> None:
    """What is left out is the share that the recorded loss has of those pixels: no class is there."""
    stage, batch = stage_of(fixture, ignore="mask"), batch_of(fixture)
    labels: Any = batch["labels"]
    with torch.no_grad():
        logits = resize(stage.logits(batch, stage.embedded(stage.words)), labels.shape[1:])
        masked = float(stage(batch))
    unknown = (labels == 255)[:, None].expand_as(logits)
    assert 0 < unknown.sum() < unknown.numel()
    of_unknown = float(F.softplus(logits[unknown].double()).sum())
    recorded = float(fixture.recorded()["loss"][0])
    assert masked == pytest.approx((recorded * unknown.numel() - of_unknown) / int((~unknown).sum()), abs=LOSS_OFF)
    if recorded == pytest.approx(1.619, abs=5e-4):  # the case that the description of the fixtures names
        assert masked == pytest.approx(1.466, abs=5e-4)


@pytest.mark.parametrize("fixture", quick_cases())
def test_one_step_changes_what_learns_and_nothing_else(fixture: Fixture) -> None:
    """With a rate at which decay alone can be seen: it is all that moves the queries of the last visual block."""
    stage = stage_of(fixture)
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    optimizer = torch.optim.AdamW(stage.groups(weight_decay=0.1), lr=0.1)
    for group in optimizer.param_groups:
        group["lr"] *= group["rate"]
    stage(batch_of(fixture)).backward()
    torch.nn.utils.clip_grad_norm_(stage.trained().values(), OPTIMIZATION.gradient_clip)
    optimizer.step()
    changed = {name for name, value in stage.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(stage.trained())


def test_the_published_numbers_are_the_defaults() -> None:
    published = LoopSettings(
        steps=80_000, batch_size=8, learning_rate=2.5e-4, weight_decay=1e-4, gradient_clip=0.01, check_every=5000
    )
    assert published == OPTIMIZATION
    assert (OPTIMIZATION.schedule, OPTIMIZATION.warmup_steps, OPTIMIZATION.precision) == ("cosine", 0, "fp32")
    assert (OPTIMIZATION.optimizer, OPTIMIZATION.clip_steps, CLIP_RATE) == ("adamw", None, 0.01)
    assert Settings() == Settings(ignore="zeros", clip_rate=0.01, prompts="scene")
