"""What training of a variant by name begins with: pretrained encoders, fresh adapters and a fresh cost head.

An encoder's weights are a file, or the name of a set that its library publishes; the latter only where it is on this
machine already.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from open_clip import get_pretrained_cfg, list_pretrained_tags_by_model
from timm.models.eva import Eva
from timm.models.eva import checkpoint_filter_fn as eva_layout
from timm.models.vision_transformer import checkpoint_filter_fn as vit_layout
from torch import Tensor

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models import hub
from mmovseg_geo.models.clip import CLIPText, DenseCLIP, dense_config, with_weights
from mmovseg_geo.models.convert import CHECKSUM, Converted, checksum, write
from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.encoders import CLIPAndDINO, DINOv1, Registered
from mmovseg_geo.models.mmovseg.named import VARIANT, to_metadata
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.params import MMOVSegParams
from mmovseg_geo.models.pickled import read_checkpoint
from mmovseg_geo.models.state_dict import load

_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_TIMM_FILE = "model.safetensors"
_BACKBONE = "backbone."
_PERIODS = "rope_embed.periods"
_NO_ENCODER = ("head.", "mask_token", "local_cls_norm.")
"""Parts of DINO checkpoints that only their own training used."""


def with_encoders(
    params: MMOVSegParams,
    *,
    clip: str | Path | None = None,
    dino: str | Path | None = None,
    sar: str | Path | None = None,
) -> MMOVSeg:
    """The network with pretrained encoders; what is left out starts at random, like the head always does.

    Args:
        clip: a checkpoint of the CLIP architecture, or a tag of open_clip such as `openai`.
        dino, sar: a checkpoint of the DINO for the optical and for the SAR image, or a timm name with its tag.

    Raises:
        WeightsError: a file that cannot be read or is for another network, or a set that is not on this machine.
    """
    network = build(params)
    optical, text = network.optical, network.text
    assert isinstance(optical, CLIPAndDINO)
    assert isinstance(text, CLIPText)
    if clip is not None:
        _load_clip(optical.clip, text, params, clip)
    if dino is not None:
        _load_dino(optical.dino, dino)
    if sar is not None:
        assert isinstance(network.sar, DINOv1 | Registered)
        _load_dino(network.sar, sar)
    return network


def save(network: MMOVSeg, params: MMOVSegParams, path: Path, *, trained: bool, overwrite: bool = False) -> Path:
    """Write weights that say what they are; `--model PATH` takes them where the whole network is `trained`.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    tensors = dict(network.state_dict())
    about = {**to_metadata(params), "trained": "yes" if trained else "no", "licence": "unknown"}
    return write(Converted(VARIANT, tensors, {**about, CHECKSUM: checksum(tensors)}), path, overwrite=overwrite)


def _load_clip(dense: DenseCLIP, text: CLIPText, params: MMOVSegParams, asked: str | Path) -> None:
    name, wanted = params.clip.architecture, params.clip.embed_dim
    path = Path(asked) if Path(asked).is_file() else _cached_clip(name, str(asked))
    state = read_checkpoint(path)
    found = state.get("text_projection")
    if found is not None and found.shape[-1] != wanted:
        raise WeightsError(
            f"{path}: in it, images and words share {found.shape[-1]} channels; in {name} they share {wanted}.\n"
            "  It is a checkpoint of another architecture: name that one."
        )
    model = with_weights(dense_config(name), state, source=str(path))
    both = model.state_dict()
    visual = {key.removeprefix("visual."): value for key, value in both.items() if key.startswith("visual.")}
    words = {key: value for key, value in both.items() if not key.startswith(("visual.", "logit_"))}
    load(dense.visual, visual, source=str(path))
    load(text.tower, words, source=str(path))


def _load_dino(encoder: DINOv1 | Registered, asked: str | Path) -> None:
    path = Path(asked) if Path(asked).is_file() else _cached_dino(str(asked))
    state = _encoder_of(read_checkpoint(path))
    vit = encoder.vit
    layout: Any = eva_layout if isinstance(vit, Eva) else vit_layout
    weights: dict[str, Tensor] = {
        key: value.float() for key, value in layout(dict(state), vit).items() if not key.startswith(_NO_ENCODER)
    }
    own = vit.state_dict()
    if "rope.periods" in own:
        weights["rope.periods"] = state.get(_PERIODS, own["rope.periods"]).float()
    load(vit, weights, source=str(path))


def _encoder_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's own entries, where a training program kept projection heads beside it."""
    inside = {key.removeprefix(_BACKBONE): value for key, value in state.items() if key.startswith(_BACKBONE)}
    return inside or dict(state)


def _cached_clip(name: str, tag: str) -> Path:
    tags = list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise WeightsError(
            f"clip {tag!r} is neither a file nor a set of weights for {name}. Known sets: {', '.join(tags) or 'none'}."
        )
    repository, _, _ = str(get_pretrained_cfg(name, tag).get("hf_hub", "")).rpartition("/")
    for file in _CLIP_FILES:
        path = hub.in_cache(repository, file) if repository else None
        if path is not None:
            return path
    raise _absent(f"{tag} of {name}", repository, _CLIP_FILES[0])


def _cached_dino(name: str) -> Path:
    if not timm.is_model_pretrained(name):
        raise WeightsError(f"dino {name!r} is neither a file nor a set of weights that timm knows.")
    described = timm.get_pretrained_cfg(name)
    repository = (described.hf_hub_id if described else None) or ""
    path = hub.in_cache(repository, _TIMM_FILE) if repository else None
    if path is None:
        raise _absent(name, repository, _TIMM_FILE)
    return path


def _absent(what: str, repository: str, file: str) -> WeightsError:
    if not repository:
        return WeightsError(f"The weights {what} are not on the Hugging Face hub. Give their file.")
    return WeightsError(f"The weights {what} are not on this machine. Bring them: hf download {repository} {file}")
