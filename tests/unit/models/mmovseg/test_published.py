"""What a user may choose about the published variants, on networks a few channels wide."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.grid import Window
from mmovseg_geo.models import load_segmenter
from mmovseg_geo.models.clip import IMAGENET_TEMPLATES, TEMPLATES
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.preprocessing import normalize
from mmovseg_geo.models.mmovseg.published import PublishedView, prompt_templates
from mmovseg_geo.models.mmovseg.segmenter import MMOVSegSegmenter
from mmovseg_geo.models.mmovseg.variants import PUBLISHED, mmovseg_vitb16
from mmovseg_geo.models.mmovseg.views import Pixels
from mmovseg_geo.tiles import Batch
from tests.unit.models.mmovseg.tiny import tiny_network, tiny_params

NATIVE = 64
CLASSES = "water,city|town,bare ground"

Load = Callable[..., MMOVSegSegmenter]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """A published variant with random weights, from a file, as `--model FILE --model-option ...` gives it."""
    monkeypatch.setitem(PUBLISHED, "mmovseg-vitb16", tiny_params)
    path = tmp_path / "tiny.safetensors"
    save_file(tiny_network().state_dict(), path, {"variant": "mmovseg-vitb16", "classes": json.dumps([["water"]])})

    def loaded(classes: str | None = CLASSES, **options: object) -> MMOVSegSegmenter:
        found = load_segmenter(str(path), classes, device="cpu", precision="fp32", options=options)
        assert isinstance(found, MMOVSegSegmenter)
        return found

    return loaded


def batch_of(side: int | tuple[int, int] = NATIVE, *, count: int = 1) -> Batch:
    height, width = (side, side) if isinstance(side, int) else side
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 4, -(-height // 8), -(-width // 8))).repeat(8, 2).repeat(8, 3)
    pixels = coarse[..., :height, :width].astype(np.float32)
    valid = np.ones((count, height, width), bool)
    return Batch((Window(0, 0, height, width),) * count, pixels[:, :3], pixels[:, 3:], valid, valid, 1.0)


def seen_by(network: MMOVSeg, run: Callable[[], object]) -> list[Tensor]:
    """What the SAR encoder is shown while something runs."""
    shown: list[Tensor] = []
    hook = network.sar.vit.patch_embed.register_forward_hook(lambda _m, inputs, _out: shown.append(inputs[0]))  # type: ignore[attr-defined]
    run()
    hook.remove()
    return shown


@pytest.mark.parametrize("inference", ["whole", "sliding"])
@pytest.mark.parametrize("side", [NATIVE, 40, 106, (50, 90)])
def test_scores_cover_the_pixels_of_any_tile(load: Load, inference: str, side: int | tuple[int, int]) -> None:
    batch = batch_of(side)
    scores = load(inference=inference)(batch)
    assert scores.shape == (1, 3, *batch.valid.shape[1:])
    assert 0 <= scores.min() <= scores.max() <= 1


def test_a_tile_of_the_networks_size_is_shown_as_it_is(load: Load) -> None:
    segmenter, batch = load(), batch_of()
    (shown,) = seen_by(segmenter.network, lambda: segmenter(batch))
    assert batch.sar is not None
    torch.testing.assert_close(shown, normalize(torch.from_numpy(batch.sar).expand(-1, 3, -1, -1)))


def test_sar_lies_over_optical_in_a_tile_of_any_size(load: Load) -> None:
    """The published programs resize optical and leave SAR at its own scale (section 14, 4)."""
    segmenter = load()
    for side in (32, 128):
        batch = batch_of(side)
        assert batch.optical is not None
        same = replace(batch, sar=batch.optical[:, :1])
        (shown,) = seen_by(segmenter.network, lambda same=same: segmenter(same))
        view = segmenter.view
        assert isinstance(view, PublishedView)
        optical = view._resized(Pixels(torch.from_numpy(batch.optical), torch.ones(1, side, side)), NATIVE)
        assert optical is not None
        gray = optical.image[:, :1] * 68.5005327 + 122.7709383
        torch.testing.assert_close(shown, normalize(gray.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


def test_the_reference_shows_small_sar_in_a_corner_of_gray(load: Load) -> None:
    segmenter, batch = load(sar_alignment="reference"), batch_of(40)
    (shown,) = seen_by(segmenter.network, lambda: segmenter(batch))
    assert batch.sar is not None
    pixels = torch.full((1, 3, NATIVE, NATIVE), 128.0)
    pixels[:, :, :40, :40] = torch.from_numpy(batch.sar)
    torch.testing.assert_close(shown, normalize(pixels))


def test_the_reference_cuts_large_sar(load: Load) -> None:
    segmenter, batch = load(sar_alignment="reference"), batch_of(100)
    (shown,) = seen_by(segmenter.network, lambda: segmenter(batch))
    assert batch.sar is not None
    torch.testing.assert_close(
        shown, normalize(torch.from_numpy(batch.sar[..., :NATIVE, :NATIVE]).expand(-1, 3, -1, -1))
    )


def test_both_geometries_agree_on_tiles_of_the_networks_size(load: Load) -> None:
    batch = batch_of()
    torch.testing.assert_close(load()(batch), load(sar_alignment="reference")(batch))


def test_sliding_windows_are_averaged_with_the_whole_as_published(load: Load) -> None:
    """On a tile as large as the canvas, step by step as section 10 says."""
    segmenter = load(inference="sliding")
    step = 2 * NATIVE // 3
    side = NATIVE + step
    batch = batch_of(side)
    assert batch.optical is not None
    assert batch.sar is not None
    images = [normalize(torch.from_numpy(x).expand(-1, 3, -1, -1)) for x in (batch.optical, batch.sar)]

    def to(size: int, x: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)

    def logits(views: list[Tensor]) -> Tensor:
        with torch.inference_mode():
            return to(NATIVE, segmenter.network(*views, segmenter.text)).sigmoid()

    total, counts = torch.zeros(1, 3, side, side), torch.zeros(side, side)
    for row in (0, step):
        for col in (0, step):
            cut = (slice(row, row + NATIVE), slice(col, col + NATIVE))
            total[(..., *cut)] += logits([x[(..., *cut)] for x in images])
            counts[cut] += 1
    whole = to(side, logits([to(NATIVE, x) for x in images]))
    torch.testing.assert_close(segmenter(batch), (total / counts + whole) / 2, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("inference", ["whole", "sliding"])
def test_every_tile_of_a_batch_gets_its_own_scores(load: Load, inference: str) -> None:
    segmenter, batch = load(inference=inference), batch_of(80, count=3)
    together = segmenter(batch)
    assert batch.optical is not None
    assert batch.sar is not None
    valid = batch.valid[:1]
    for index in range(3):
        one = slice(index, index + 1)
        alone = Batch(batch.windows[one], batch.optical[one], batch.sar[one], valid, valid, 1.0)
        torch.testing.assert_close(together[one], segmenter(alone), atol=1e-5, rtol=1e-4)


def test_pixels_keep_their_place_in_tiles_that_are_not_square(load: Load) -> None:
    """What is right of an upright cut through a wide tile changes little on the left, and what changed is seen."""
    segmenter, batch = load(), batch_of((64, 192))
    changed = batch_of((64, 192))
    assert batch.optical is not None
    assert changed.optical is not None
    changed.optical[..., 160:] = 255 - changed.optical[..., 160:]
    moved = (segmenter(batch) - segmenter(changed)).abs().mean(dim=(0, 1, 2))
    assert moved[160:].mean() > 2 * moved[:96].mean()


def test_synonyms_may_be_left_out_as_in_the_published_programs(load: Load) -> None:
    batch = batch_of()
    first, plain = load(synonyms="first"), load("water,city,bare ground")
    torch.testing.assert_close(first(batch), plain(batch))
    assert not torch.allclose(load()(batch), plain(batch))


def test_an_ensemble_of_prompts_is_the_mean_of_unit_vectors(load: Load) -> None:
    ensemble = load(prompts="a photo of {}|{} from above")
    words = [entry.name for entry in ensemble.vocabulary.scored][::2]
    text = tiny_network().text
    units = [
        torch.nn.functional.normalize(text.encode([prompt.format(word) for word in words]), dim=-1)  # type: ignore[union-attr, operator]
        for prompt in ("a photo of {}", "{} from above")
    ]
    expected = torch.nn.functional.normalize(sum(units), dim=-1)  # type: ignore[arg-type]
    torch.testing.assert_close(ensemble.text[::2], expected)


def test_the_eighty_prompts_of_clip_change_the_vectors(load: Load) -> None:
    one, many = load(), load(prompts="imagenet")
    assert not torch.allclose(one.text, many.text)
    torch.testing.assert_close(many.text.norm(dim=-1), torch.ones(3))


def test_prompts_go_by_name_or_as_they_are() -> None:
    assert prompt_templates("scene") == TEMPLATES
    assert prompt_templates("imagenet") == IMAGENET_TEMPLATES
    assert prompt_templates(["a {}"]) == ("a {}",)


@pytest.mark.parametrize("prompts", ["imagnet", "a {} and a {}", "a {word}", "a {}{0}"])
def test_a_prompt_without_one_place_for_the_word_is_an_error(prompts: str) -> None:
    with pytest.raises(ConfigError, match="prompts"):
        prompt_templates(prompts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inference": "slide"}, "inference 'slide' is unknown. Known: whole, sliding"),
        ({"sar_alignment": "off"}, "Known: aligned, reference"),
        ({"synonyms": "best"}, "Known: mean, max, first"),
        ({"inference": "sliding", "sar_alignment": "reference"}, "inference=whole, or sar_alignment=aligned"),
        ({"infrence": "sliding"}, "Did you mean inference"),
    ],
)
def test_what_cannot_be_meant_is_an_error(load: Load, options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(**options)


def test_a_map_says_how_it_was_looked_at(load: Load) -> None:
    said = load(inference="sliding", prompts="{} from above").provenance
    assert (said["inference"], said["sar_alignment"], said["templates"]) == ("sliding", "aligned", ["{} from above"])
    assert load(prompts="imagenet").provenance["templates"] == "imagenet"


def test_tiles_of_a_scene_are_seen_at_its_scale() -> None:
    params = mmovseg_vitb16()
    assert PublishedView(params).tiling(None).size == 384
    assert PublishedView(params, inference="sliding").tiling(None).size == 640


@pytest.mark.parametrize("inference", ["whole", "sliding"])
@pytest.mark.parametrize("missing", ["optical", "sar"])
def test_one_sensor_is_enough(load: Load, inference: str, missing: str) -> None:
    batch = replace(batch_of(90), **{missing: None, f"{missing}_valid": None})
    assert load(inference=inference)(batch).isfinite().all()
