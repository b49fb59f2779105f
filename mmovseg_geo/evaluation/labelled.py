"""A segmenter run over labelled images and scored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from mmovseg_geo.datasets import LabelledImages
from mmovseg_geo.errors import ConfigError, SceneError
from mmovseg_geo.evaluation.confusion import Confusion, Scores
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.pipeline import segment
from mmovseg_geo.tiles import Tiling

Progress = Callable[[int, int], None]
"""Told the number of images done and of all images."""


def evaluate(
    images: LabelledImages,
    segmenter: Segmenter,
    *,
    tiling: Tiling | None = None,
    batch_size: int = 4,
    min_score: float | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Map every image as `segment` would and score the maps at the labels' own size.

    Args:
        images: those of `open_dataset`; the segmenter must be made for `images.vocabulary()`.
        min_score: as in `segment`.

    Raises:
        ConfigError: a segmenter for other classes. SceneError: files that cannot be read, or that differ in size.

    >>> images = open_dataset("configs/datasets/ddhr-sk.yaml", "data")              # doctest: +SKIP
    >>> scores = evaluate(images, load_segmenter("mmovseg-vitb16-ddhr-sk", images.vocabulary()))  # doctest: +SKIP
    """
    expected = images.vocabulary()
    ids = tuple(entry.id for entry in segmenter.vocabulary.classes)
    if sorted(ids) != list(range(len(expected))):
        raise ConfigError(
            f"{segmenter.name} was made for {len(ids)} classes with the ids {', '.join(map(str, ids))}; the labels of "
            f"{images.config.name} are 0 to {len(expected) - 1}. Load it with the vocabulary of the set."
        )
    confusion = Confusion(expected.names)
    with tempfile.TemporaryDirectory(prefix="mmovseg-") as folder:
        out = Path(folder) / "labels.tif"
        for done, image in enumerate(images.images, 1):
            labels = images.labels(image)
            with image.scene(segmenter.sensors) as scene:
                if scene.shape != labels.shape:
                    raise SceneError(
                        f"{image.labels} has {labels.shape[0]} x {labels.shape[1]} pixels, its image {scene.name} "
                        f"{scene.shape[0]} x {scene.shape[1]}. Labels must have the size of the image."
                    )
                found = segment(
                    scene,
                    segmenter,
                    out,
                    tiling=tiling,
                    batch_size=batch_size,
                    min_score=min_score,
                    overwrite=True,
                )
            confusion.add(labels, found.read())
            if progress:
                progress(done, len(images))
    return confusion.scores()
