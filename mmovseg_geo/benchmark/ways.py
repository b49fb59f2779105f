"""Ways from an open scene to a map with one segmenter: ours, and what people write around a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from mmovseg_geo.decision import Decision
from mmovseg_geo.grid import Window
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.pipeline import segment, transfer_of
from mmovseg_geo.rasters.ahead import reading_of
from mmovseg_geo.rasters.plain import write_plain
from mmovseg_geo.rasters.scene import Scene
from mmovseg_geo.stitch import side_weights, to_numpy
from mmovseg_geo.tiles import Batch, Tile, Tiling

Way: TypeAlias = Callable[[Scene, Segmenter, Path, Tiling, int], None]
"""Maps a scene with a segmenter into a file, in tiles, so many at once."""


def ours(scene: Scene, segmenter: Segmenter, out: Path, tiling: Tiling, batch_size: int) -> None:
    """The pipeline of `mmovseg segment`, without confidence, polygons and preview, which the others do not make."""
    segment(scene, segmenter, out, tiling=tiling, batch_size=batch_size, reading=reading_of(scene))


def alone(scene: Scene, segmenter: Segmenter, out: Path, tiling: Tiling, batch_size: int) -> None:
    """Nothing but the model: one batch of the middle of the scene, as often as the scene has batches."""
    groups = list(_groups(scene, tiling, batch_size))
    batch = transfer_of(segmenter).to_device(Batch.stack([scene.read(window) for window in groups[len(groups) // 2]]))()
    for group in groups:
        scores = segmenter(batch.part(0, len(group)))
    to_numpy(scores[0, 0, :1, :1])  # a GPU is asked to finish


def loop(scene: Scene, segmenter: Segmenter, out: Path, tiling: Tiling, batch_size: int) -> None:
    """Tile after tile, each giving its middle to a map in memory, without blending."""
    labels = np.full(scene.shape, segmenter.vocabulary.ignore, dtype=segmenter.vocabulary.dtype)
    for group in _groups(scene, tiling, batch_size):
        tiles = [scene.read(window) for window in group]
        for tile, scores in zip(tiles, segmenter(Batch.stack(tiles)), strict=True):
            found = _winners(segmenter, segmenter.probabilities(scores), tile.seen_by(segmenter.sensors))
            kept, inside = _middle(tile.window, scene.shape, tiling)
            labels[kept.slices] = found[inside.slices]
    write_plain(out, [labels[None]], scene.grid, compress="DEFLATE")


def monai(scene: Scene, segmenter: Segmenter, out: Path, tiling: Tiling, batch_size: int) -> None:
    """MONAI's sliding windows over the scene in memory, with our weights of overlapping tiles."""
    import torch
    from monai.inferers import sliding_window_inference

    whole = scene.read(Window(0, 0, *scene.shape))
    device = getattr(segmenter, "device", torch.device("cpu"))
    image = whole.optical if whole.optical is not None else whole.sar

    def predict(_: Any, places: list[list[slice]]) -> Any:
        scores = segmenter(Batch.stack([_cut(whole, place[2], place[3]) for place in places]))
        return torch.as_tensor(scores)

    along = side_weights(1, 3 * tiling.size, tiling)
    # MONAI weights scores in place, which torch allows for those of inference within inference alone.
    with torch.inference_mode():
        scores = sliding_window_inference(
            torch.from_numpy(image)[None],
            (tiling.size, tiling.size),
            batch_size,
            predict,
            overlap=(tiling.overlap - 1e-6) / tiling.size if tiling.overlap else 0.0,  # it rounds steps down
            roi_weight_map=torch.from_numpy(along[:, None] * along)[None, None].to(device),
            sw_device=device,
            device=device,
            with_coord=True,
        )
    values = scores[0] if hasattr(segmenter, "device") else scores[0].numpy()
    if segmenter.planes != len(segmenter.vocabulary.scored):
        values = segmenter.probabilities(values)
    labels = _winners(segmenter, values, whole.seen_by(segmenter.sensors))
    write_plain(out, [labels[None]], scene.grid, compress="DEFLATE")


WAYS: dict[str, Way] = {"model alone": alone, "mmovseg": ours, "monai": monai, "loop": loop}
PACKAGES = {"monai": ("torch", "monai.inferers")}
"""What a way imports; done before its time is taken."""


def _groups(scene: Scene, tiling: Tiling, batch_size: int) -> Iterator[list[Window]]:
    windows = list(tiling.windows(scene.shape))
    for first in range(0, len(windows), batch_size):
        yield windows[first : first + batch_size]


def _cut(whole: Tile, rows: slice, cols: slice) -> Tile:
    parts = {name: getattr(whole, name) for name in ("optical", "sar", "optical_valid", "sar_valid")}
    cut: dict[str, Any] = {name: None if part is None else part[..., rows, cols] for name, part in parts.items()}
    return replace(whole, window=Window(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start), **cut)


def _winners(segmenter: Segmenter, values: Any, valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Labels of class values (K, h, W), without the confidence that nobody asked for."""
    vocabulary = segmenter.vocabulary
    if vocabulary.background is not None:
        return Decision.of(segmenter, None)(values, valid)[0]
    ids = np.array([entry.id for entry in vocabulary.scored], dtype=vocabulary.dtype)
    labels: NDArray[Any] = ids[to_numpy(array_namespace(values).argmax(values, axis=0))]
    labels[~valid] = vocabulary.ignore
    return labels


def _middle(window: Window, shape: tuple[int, int], tiling: Tiling) -> tuple[Window, Window]:
    """What a tile gives to the map: all but half of the overlap at sides with a neighbor; in the map, and in the tile.

    Later tiles overwrite earlier ones where the last of a row slid back.
    """
    margin = tiling.overlap // 2
    spans = []
    for start, length in zip((window.row, window.col), shape, strict=True):
        first = start + (margin if start > 0 else 0)
        last = min(start + tiling.size - (margin if start + tiling.size < length else 0), length)
        spans.append((first, last - first))
    (row, height), (col, width) = spans
    kept = Window(row, col, height, width)
    return kept, Window(row - window.row, col - window.col, height, width)
