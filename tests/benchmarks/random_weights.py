"""Weights of the published shapes with random values, kept where the commands look for published ones."""

from __future__ import annotations

import open_clip
import torch
from torch import Tensor

from mmovseg_geo.models import registry
from mmovseg_geo.models.convert import Converted, write
from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.variants import PUBLISHED
from mmovseg_geo.models.segearth.builders import OPTICAL
from mmovseg_geo.models.segearth.upsampler import build_upsampler


def provide(name: str) -> None:
    """Make the files that `name` runs on, in the cache of HF_HOME; those that are there are kept."""
    found = registry.entry(name)
    if found.source is None:
        for part in (*found.parts, *found.wanted):
            provide(part)
        return
    path = registry.stored(name)
    if not path.is_file():
        assert found.network is not None, name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(Converted(found.network, _random(found.network), {"variant": found.network, "name": name}), path)


def _random(network: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    if network in PUBLISHED:
        return build(PUBLISHED[network]()).state_dict()
    if network == "clip-vitb16":
        return open_clip.create_model(OPTICAL.encoder, pretrained=None).state_dict()
    return build_upsampler("jbu_one", 512).state_dict()
