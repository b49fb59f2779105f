"""MM-OVSeg beside its plain formulation (`plain.py`): the head on a CPU, the whole network on any device.

`python -m tests.benchmarks decoder` and `python -m tests.benchmarks network --device cuda` print both, in the same run,
in turns. The plain one computes in float32 without TF32, one image at a time, as published; ours in the precision and
the batch that were asked for. On a CPU seconds are the processor's on one thread, so that other programs count little.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mmovseg_geo.grid import Window
from mmovseg_geo.models.compute import device_of
from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.head import CostHead
from mmovseg_geo.models.mmovseg.params import HeadParams
from mmovseg_geo.models.mmovseg.preprocessing import as_rgb, normalize, resize
from mmovseg_geo.models.mmovseg.published import PublishedView
from mmovseg_geo.models.mmovseg.segmenter import MMOVSegSegmenter
from mmovseg_geo.models.mmovseg.spectral import by_frequencies
from mmovseg_geo.models.mmovseg.variants import PUBLISHED
from mmovseg_geo.models.weights import Weights
from mmovseg_geo.tiles import Batch
from mmovseg_geo.vocabulary import Vocabulary
from tests.benchmarks import plain

Row = tuple[str, dict[str, float]]

VARIANT = "mmovseg-vitb16"
GRID = 24
WORDS = "water,forest,cropland,grassland,building,road,bare ground,wetland"
OVERLAP = 0.25
PRODUCT = 8192
"""Side of the matrices whose product is what the device can do at most."""


def decoder(classes: tuple[int, ...] = (4, 8), batches: tuple[int, ...] = (1, 4), repeats: int = 5) -> Iterator[Row]:
    """Rows: seconds of a processor for a tile, plain and ours, their ratio, the largest difference of logits."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    params = HeadParams()
    module = CostHead(params).eval().requires_grad_(False)
    fast = CostHead(params).eval().requires_grad_(False)
    fast.load_state_dict(module.state_dict())
    by_frequencies(fast).to(memory_format=torch.channels_last)
    for number in classes:
        text = torch.randn(number, params.text_dim)
        for images in batches:
            inputs = _features(params, images)
            one = tuple([map_[:1] for map_ in part] if isinstance(part, tuple) else part[:1] for part in inputs)
            seconds, answers = _in_turns(
                {
                    "plain": lambda one=one, text=text: plain.head(module, one[0], one[1], text, one[2], one[3]),
                    "ours": lambda inputs=inputs, text=text: fast(inputs[0], inputs[1], text, inputs[2], inputs[3]),
                },
                repeats,
                torch.device("cpu"),
            )
            ours = seconds["ours"] / images
            off = float((answers["plain"] - answers["ours"][:1]).abs().max())
            figures = {"plain_s": seconds["plain"], "ours_s": ours, "times_faster": seconds["plain"] / ours}
            yield f"head, {number} classes, {images} at once", {**figures, "differ_by_1e-6": off / 1e-6}


def network(device: str, precision: str, batch_size: int, compile: bool, repeats: int, classes: int) -> Iterator[Row]:
    """A row: from pixels of tiles on the host to scores on the device."""
    where = device_of(device)
    if where.type == "cpu":
        torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    params = PUBLISHED[VARIANT]()
    model = build(params).eval().requires_grad_(False)
    vocabulary = Vocabulary.of(WORDS.split(",")[:classes])
    text = PublishedView(params).text(model, vocabulary.names).to(where)
    batch = _batch(batch_size, params.native_size)

    def plainly() -> Tensor:
        with torch.inference_mode():
            shown = [normalize(as_rgb(torch.from_numpy(image[:1]).to(where))) for image in (batch.optical, batch.sar)]
            logits = plain.network(model, shown[0], shown[1], text)
            return resize(torch.sigmoid(logits), (params.native_size,) * 2)

    model.to(where)
    plain_s, plain_answer = _in_turns({"plain": plainly}, repeats, where)
    expected = plain_answer["plain"].cpu()
    weights = Weights(Path(os.devnull), VARIANT, "none", (), {})
    segmenter = MMOVSegSegmenter(
        VARIANT,
        model.cpu(),
        PublishedView(params),
        vocabulary,
        weights,
        device=device,
        precision=precision,
        compile=compile,
    )
    segmenter.text = text  # the text tower of both is the same, and not what is measured
    ours_s, answer = _in_turns({"ours": lambda: segmenter(batch)}, repeats, where)
    found = answer["ours"][:1].float().cpu()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        segmenter.forward = segmenter.network
        segmenter(batch)
    ours = ours_s["ours"] / batch_size
    rate = counter.get_total_flops() / batch_size / ours / 1e12
    highest = _matrix_product(where, segmenter.dtype)
    step = params.native_size * (1 - OVERLAP)
    yield (
        f"{VARIANT}, {len(vocabulary.names)} classes, {batch_size} at once, {segmenter.dtype}"[:80],
        {
            "plain_ms": 1e3 * plain_s["plain"],
            "ours_ms": 1e3 * ours,
            "times_faster": plain_s["plain"] / ours,
            "scene_mpx_per_s": step**2 / 1e6 / ours,
            "tflop_per_s": rate,
            "of_matrix_product_%": 100 * rate / highest,
            "gpu_peak_mb": torch.cuda.max_memory_allocated() / 2**20 if where.type == "cuda" else 0.0,
            "same_winner_%": 100 * float((expected.argmax(1) == found.argmax(1)).float().mean()),
            "scores_differ_by": float((expected - found).abs().max()),
        },
    )


def _in_turns(
    ways: dict[str, Callable[[], Tensor]], repeats: int, device: torch.device
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Median seconds of each way, after one call that does not count, and what it answers."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    answers: dict[str, Tensor] = {}
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for way, run in ways.items():
                started = clock()
                answers[way] = run()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if turn:
                    seconds[way].append(clock() - started)
    return {way: median(found) for way, found in seconds.items()}, answers


def _features(params: HeadParams, images: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Seeded inputs of a head: dense features of both roles, guidance of both."""
    dense = torch.randn(2, images, params.text_dim, GRID, GRID)
    maps = [
        tuple(
            torch.randn(images, dim, GRID << stage + 1, GRID << stage + 1)
            for stage, dim in enumerate(params.guidance_dims)
        )
        for _ in ("clip", "dino")
    ]
    return dense[0], dense[1], maps[0], maps[1]


def _batch(images: int, side: int) -> Batch:
    rng = np.random.default_rng(0)
    optical = rng.uniform(0, 255, (images, 3, side, side)).astype(np.float32)
    sar = rng.uniform(0, 255, (images, 1, side, side)).astype(np.float32)
    seen = np.ones((images, side, side), dtype=bool)
    return Batch((Window(0, 0, side, side),) * images, optical, sar, seen, seen, 1.0)


def _matrix_product(device: torch.device, dtype: torch.dtype) -> float:
    """Tera operations a second of one large product in a precision."""
    side = PRODUCT if device.type == "cuda" else PRODUCT // 8
    left, right = torch.randn(2, side, side, device=device, dtype=dtype)
    seconds, _ = _in_turns({"product": lambda: left @ right}, 5, device)
    return 2 * side**3 / seconds["product"] / 1e12
