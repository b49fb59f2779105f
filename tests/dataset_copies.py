"""Copies of three images of the papers' sets: names, formats and label encodings as published, written for a test.

The facts stand here once more, on purpose: a test of a set's file compares it with this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import ROOT

SETS = {path.stem: path for path in sorted((ROOT / "configs" / "datasets").glob("*.yaml"))}
"""Set to the file that describes it."""

BLOCK = 16
"""Pixels along a side of a flat block, which JPEG keeps."""
BLOCKS = 5
STEP = 11
"""Classes from block to block; it has no divisor in common with any number of classes, so that all of them occur."""
IGNORED = 255


@dataclass(frozen=True)
class Copy:
    """One split of one set: names with `{}` for the image, its class count, and how its labels are stored.

    Attributes:
        ids: three images of the split; `others`: images beside them that do not belong to it.
        background: the class that takes what no other claims in a map, by its index.
    """

    dataset: str
    split: str
    labels: str
    classes: int
    optical: str | None = None
    sar: str | None = None
    code: str = "index"
    ids: tuple[str, ...] = ("tile_1", "tile_2", "tile.3")
    others: tuple[str, ...] = ()
    listing: str | None = None
    background: int | None = None

    def __str__(self) -> str:
        return f"{self.dataset}-{self.split}"

    def draw(self, number: int) -> np.ndarray:
        """Class indices (H, W) of an image, in flat blocks that no two images share; some blocks are not scored."""
        blocks = (np.arange(BLOCKS**2) * STEP + number) % self.classes
        if self.code in ("index", "reduce_zero", "isprs"):
            blocks[number::11] = IGNORED
        return np.kron(blocks.reshape(BLOCKS, BLOCKS), np.ones((BLOCK, BLOCK), int))

    def write(self, root: Path, *, shown: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Write the images and return what their labels say; images show that, or what `shown` has for them."""
        truths = {}
        for number, name in enumerate((*self.ids, *self.others)):
            truths[name] = self.draw(number)
            seen = (shown or {}).get(name, truths[name])
            for pattern in (self.optical, self.sar):
                if pattern is not None:
                    save(root / pattern.format(name), self.pictured(seen))
            save(root / self.labels.format(name), CODES[self.code](truths[name], number))
        if self.listing is not None:
            lines = [f"some/folder/{self.ids[0]}.png", "", "# a remark", *self.ids[1:]]
            (root / self.listing).write_text("\n".join(lines), encoding="utf-8")
        return {name: truths[name] for name in self.ids}

    def pictured(self, indices: np.ndarray) -> np.ndarray:
        """Gray (H, W, 3) from which the `threshold` model reads the classes; black is background."""
        scored = [index for index in range(self.classes) if index != self.background]
        levels = np.zeros(256, np.uint8)
        for place, index in enumerate(scored):
            levels[index] = round(255 * (place + 0.5) / len(scored))
        return np.repeat(levels[indices][..., None], 3, axis=2)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    Image.fromarray(pixels.astype(np.uint8)).save(path, **options)


def as_is(indices: np.ndarray, _: int) -> np.ndarray:
    return indices


def reduce_zero(indices: np.ndarray, number: int) -> np.ndarray:
    """Index plus one; what is not scored is 0, and 255 in one image."""
    return np.where(indices == IGNORED, IGNORED if number == 1 else 0, indices + 1)


def halves(indices: np.ndarray, number: int) -> np.ndarray:
    """Any value below 128 for class 0, any from there on for class 1."""
    return np.where(indices == 1, (255, 160, 142)[number % 3], (0, 60, 110)[number % 3])


def damage(indices: np.ndarray, number: int) -> np.ndarray:
    return indices * (number + 1)


def painted(table: dict[tuple[int, int, int], int]) -> Callable[[np.ndarray, int], np.ndarray]:
    """Pictures in the colors of a table; where several colors stand for a class, images take turns."""

    def paint(indices: np.ndarray, number: int) -> np.ndarray:
        picture = np.zeros((*indices.shape, 3), np.uint8)
        for index in np.unique(indices):
            colors = [color for color, value in table.items() if value == index]
            picture[indices == index] = colors[number % len(colors)]
        return picture

    return paint


ISAID = {
    (0, 0, 0): 0,
    (0, 0, 63): 1,
    (0, 63, 63): 2,
    (0, 63, 0): 3,
    (0, 63, 127): 4,
    (0, 63, 191): 5,
    (0, 63, 255): 6,
    (0, 127, 63): 7,
    (0, 127, 127): 8,
    (0, 0, 127): 9,
    (0, 0, 191): 10,
    (0, 0, 255): 11,
    (0, 191, 127): 12,
    (0, 127, 191): 13,
    (0, 127, 255): 14,
    (0, 100, 155): 15,
}
UAVID = {
    (0, 0, 0): 0,
    (128, 0, 0): 1,
    (128, 64, 128): 2,
    (192, 0, 192): 3,
    (64, 0, 128): 3,
    (0, 128, 0): 4,
    (128, 128, 0): 5,
    (64, 64, 0): 6,
}
ISPRS = {
    (0, 0, 0): IGNORED,
    (255, 255, 255): 0,
    (0, 0, 255): 1,
    (0, 255, 255): 2,
    (0, 255, 0): 3,
    (255, 255, 0): 4,
    (255, 0, 0): 5,
}
CODES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "index": as_is,
    "reduce_zero": reduce_zero,
    "halves": halves,
    "damage": damage,
    "isaid": painted(ISAID),
    "uavid": painted(UAVID),
    "isprs": painted(ISPRS),
}


def _pair(dataset: str, split: str, root: str, optical: str, sar: str, labels: str, classes: int, kind="png") -> Copy:
    return Copy(
        dataset,
        split,
        f"{root}/{labels}/{{}}.png",
        classes,
        f"{root}/{optical}/{{}}.{kind}",
        f"{root}/{sar}/{{}}.{kind}",
    )


def _optical(dataset: str, split: str, kinds: str, classes: int, code: str = "index", **more) -> Copy:
    image, _, label = kinds.partition(" ")
    return Copy(dataset, split, f"labels/{{}}.{label}", classes, optical=f"images/{{}}.{image}", code=code, **more)


def _two(dataset: str, split: str, kinds: str, code: str = "halves", **more) -> Copy:
    return _optical(dataset, split, kinds, 2, code, background=0, **more)


def _sar(dataset: str, split: str, kinds: str, classes: int, code: str = "index", listed: bool = True, **more) -> Copy:
    image, _, label = kinds.partition(" ")
    others, listing = (("tile_4",), f"{split}.txt") if listed else ((), None)
    return Copy(
        dataset, split, f"labels/{{}}.{label}", classes, sar=f"sar/{{}}.{image}", code=code, others=others,
        listing=listing, **more,
    )  # fmt: skip


COPIES = (
    _pair("pie-clean", "val", "PIE_RGBSAR/val", "rgb", "sar", "D2masks6", 6),
    _pair("pie-clean", "train", "PIE_RGBSAR/train", "rgb", "sar", "D2masks6", 4),
    _pair("pie-cloud", "val", "PIE_RGBSAR/val", "rgb_clouds", "sar", "D2masks6", 6),
    _pair("pie-cloud", "train", "PIE_RGBSAR/train", "rgb_clouds", "sar", "D2masks6", 4),
    _pair("ddhr-sk", "val", "DDSK/val", "rgb_clouds", "sar", "D2masks", 5),
    _pair("ddhr-sk", "train", "DDSK/train", "rgb_clouds", "sar", "D2masks3class", 3),
    _pair("ddhr-ch", "val", "DDCH/val", "rgb_clouds", "sar", "D2masks", 5, kind="jpg"),
    _pair("oem-thin", "val", "OEM/val", "rgb_cloud_thin", "imgs", "D2masks", 8),
    _pair("oem-thin", "train", "OEM/train", "rgb_cloud_thin", "imgs", "D2masks5class", 5),
    _pair("oem-thick", "val", "OEM/val", "rgb_cloud", "imgs", "D2masks", 8),
    _pair("oem-thick", "train", "OEM/train", "rgb_cloud", "imgs", "D2masks5class", 5),
    _optical("openearthmap", "val", "tif tif", 9, background=0),
    _optical("loveda", "val", "png png", 7, "reduce_zero", background=0),
    Copy("isaid", "val", "labels/{}_instance_color_RGB.png", 16, "images/{}.png", code="isaid", background=0),
    _optical("potsdam", "val", "png png", 6, "isprs", ids=("2_13_0", "4_15_512", "7_13_9"), others=("2_10_0", "12_13")),
    _optical("vaihingen", "val", "png png", 6, "isprs", ids=("area2_0", "area20_0", "area38"), others=("area21",)),
    _optical("uavid", "test", "png png", 7, "uavid", background=0),
    _optical("udd5", "val", "JPG png", 5, background=4),
    _optical("vdd", "test", "JPG png", 7, background=0),
    _two("whu-aerial", "val", "png png"),
    _two("whu-satellite2", "test", "tif tif"),
    _two("inria", "test", "png png", ids=("vienna3_0", "tyrol-w36_1000", "kitsap9"), others=("vienna30", "austin2")),
    _two("xbd", "test", "png png", "damage"),
    _two("chn6-cug", "val", "jpg png"),
    _two("deepglobe-road", "evaluated", "jpg png"),
    _two("massachusetts-road", "evaluated", "jpg png"),
    _two("spacenet-road", "evaluated", "jpg png"),
    _two("wbs-si", "evaluated", "jpg jpg", listing="evaluated.txt", others=("tile_4",)),
    _sar("openearthmap-sar", "test", "tif tif", 9, listed=False, background=0),
    _sar("ddhr-korea", "val", "jpg png", 5),
    _sar("ddhr-shandong", "val", "jpg png", 5),
    _sar("ddhr-xian", "val", "jpg png", 5),
    _sar("fusar-map", "test", "tif png", 5),
    _sar("whu-opt-sar", "test", "tif tif", 7, "reduce_zero", listed=False),
    _sar("pie-rgb-sar", "val", "tif tif", 6, background=0),
    _sar("yeseg-opt-sar", "test", "png png", 6),
    _sar("hrsid", "test", "png png", 2, background=0),
)  # fmt: skip


def copy_of(dataset: str, split: str | None = None) -> Copy:
    """The copy of a set's split, by default of the split that it is scored on."""
    return next(copy for copy in COPIES if copy.dataset == dataset and split in (None, copy.split))
