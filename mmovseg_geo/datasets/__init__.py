"""Labelled images on disk, described by YAML: chips to train on, and the sets that published methods were scored on."""

from __future__ import annotations

from mmovseg_geo.datasets.as_published import load_as_published
from mmovseg_geo.datasets.description import DatasetConfig, Split
from mmovseg_geo.datasets.images import LabelledImage, LabelledImages, open_dataset
from mmovseg_geo.datasets.paired import PairedChip, PairedDataset
from mmovseg_geo.datasets.reading import read_dataset

__all__ = [
    "DatasetConfig",
    "LabelledImage",
    "LabelledImages",
    "PairedChip",
    "PairedDataset",
    "Split",
    "load_as_published",
    "open_dataset",
    "read_dataset",
]
