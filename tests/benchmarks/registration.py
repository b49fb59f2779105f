"""How well SAR is aligned to optical images: `python -m tests.benchmarks.registration` (needs MMOVSEG_SHARED).

Beside `phase_cross_correlation` of scikit-image, mutual information of SimpleITK (`pip install -e ".[bench]"`) and
AROSICS where these are installed. Prints the tables of docs/coregistration.md.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from scipy import ndimage
from scipy.spatial import KDTree

from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.registration import Pair, Registration, register
from mmovseg_geo.rasters.registration.information import mutual_information
from mmovseg_geo.rasters.scene import open_scene
from tests.conftest import shared_folder

TIES = ("SO1", "SO2", "SO5", "cfog_visible_sar1", "cfog_visible_sar2_rosenheim")
LANDCOVER = ("282D_485L_3_3", "637U_59R_1_3", "609U_541L_3_0")
TRUTH = {"282D": (2, 3), "637U": (1, 3), "Spain": (1, 1), "609U": (0, 0)}
LENGTHS = (2.5, 7.0, 15.3, 30.0)
"""Pixels by which SAR images are shifted in each of eight directions."""
Motion = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def pairs(data: Path) -> dict[str, Pair]:
    """Every S1/S2 pair of the shared data, read as a scene reads it."""
    found = {name[:4]: data / "s1_s2_landcover" / name for name in LANDCOVER}
    files = {name: (folder / "rgb.tif", folder / "sar.tif") for name, folder in found.items()}
    spain = data / "s1_s2_flood" / "Spain_7370579"
    files["Spain"] = (spain / "rgb.tif", spain / "sar.tif")
    for folder in sorted((data / "s1_s2_bigearthnet").glob("S2*")):
        files[f"BigEarthNet {folder.name[-5:]}"] = (folder / "rgb_uint16.tif", folder / "sar.tif")
    for picture in sorted((data / "s1_s2_pairs_png" / "optical").glob("*.png")):
        radar = picture.parents[1] / "sar" / picture.name.replace("_s2_", "_s1_")
        files[f"SEN1-2 {picture.stem.split('_')[-1]}"] = (picture, radar)
    told = {}
    for name, (optical, sar) in files.items():
        with open_scene(optical, sar, pixel_grid=optical.suffix == ".png") as scene:
            tile = scene.read(Window(0, 0, *scene.shape))
        told[name] = Pair(tile.optical, tile.optical_valid, tile.sar, tile.sar_valid)
    return told


def tied(folder: Path) -> tuple[Pair, np.ndarray, np.ndarray]:
    """A pair with hand-picked points: images, and rows and columns (N, 2) in the optical and the SAR image."""
    rows = list(csv.DictReader((folder / "tiepoints.csv").open()))
    ref, mov = (np.array([[float(r[f"{who}_row"]), float(r[f"{who}_col"])] for r in rows]) for who in ("ref", "mov"))
    if (folder / "ref_sar.png").exists():  # the SAR image is the reference there
        optical, sar, ref, mov = folder / "mov_optical.png", folder / "ref_sar.png", mov, ref
    else:
        optical, sar = next(folder.glob("visible*.tif")), next(folder.glob("SAR*.tif"))
    colors, gray = _pixels(optical, "RGB"), _pixels(sar, "L")
    every = [np.ones(image.shape[1:], bool) for image in (colors, gray)]
    return Pair(colors, every[0], gray, every[1]), ref, mov


def _pixels(path: Path, mode: str) -> np.ndarray:
    try:
        image = np.asarray(Image.open(path).convert(mode), np.float32)
    except OSError:  # some readers refuse Rosenheim's TIFF, GDAL opens it
        with rasterio.open(path) as dataset:
            image = np.moveaxis(dataset.read(), 0, -1).astype(np.float32).squeeze()
    return image[None] if image.ndim == 2 else np.ascontiguousarray(np.moveaxis(image, -1, 0))


def rmse(motion: Motion, ref: np.ndarray, mov: np.ndarray) -> float:
    """Pixels by which the motion (where SAR content of an optical place lies) misses the points."""
    rows, cols = motion(ref[:, 0], ref[:, 1])
    return float(np.sqrt(((rows - mov[:, 0]) ** 2 + (cols - mov[:, 1]) ** 2).mean()))


def ours(pair: Pair, model: str) -> tuple[Motion, Registration]:
    """mmovseg's motion and all it says."""
    found = register([pair], pair.shape, model=model)
    moved = found.displacement
    return lambda r, c: tuple(at - by for at, by in zip((r, c), moved.at(r, c), strict=True)), found


def by_phase(pair: Pair) -> Motion:
    """The shift of scikit-image's phase correlation."""
    from skimage.registration import phase_cross_correlation

    height, width = (min(a, b) for a, b in zip(pair.shape, pair.sar_valid.shape, strict=True))
    optical, sar = pair.optical.mean(axis=0)[:height, :width], pair.sar[0, :height, :width]
    shift = phase_cross_correlation(optical, sar, upsample_factor=10)[0]
    return lambda r, c: (r - shift[0], c - shift[1])


def by_information(pair: Pair, model: str) -> Motion:
    """SimpleITK's mutual information, from coarse to fine."""
    import SimpleITK as sitk

    fixed, moving = (sitk.GetImageFromArray(np.ascontiguousarray(i)) for i in (pair.optical.mean(axis=0), pair.sar[0]))
    start = sitk.TranslationTransform(2)
    if model == "affine":
        start = sitk.AffineTransform(2)
        start.SetCenter([side / 2 for side in pair.shape[::-1]])
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2, 1])
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)

    def motion(rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        told = np.array([start.TransformPoint((float(c), float(r))) for r, c in zip(rows, cols, strict=True)])
        return told[:, 1], told[:, 0]

    return motion


def by_arosics(pair: Pair) -> Motion:
    """The global shift of AROSICS, on the files it wants."""
    from arosics import COREG

    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, image in (("optical", pair.optical.mean(axis=0)), ("sar", pair.sar[0])):
            paths.append(f"{folder}/{name}.tif")
            profile = {"driver": "GTiff", "height": image.shape[0], "width": image.shape[1], "count": 1}
            place = rasterio.Affine(1, 0, 500000, 0, -1, 5000000)
            with rasterio.open(paths[-1], "w", dtype="float32", crs="EPSG:32633", transform=place, **profile) as out:
                out.write(image.astype(np.float32), 1)
        found = COREG(*paths, max_shift=40, q=True, ignore_errors=True)
        found.calculate_spatial_shifts()
        x, y = found.coreg_info["corrected_shifts_px"]["x"] or 0.0, found.coreg_info["corrected_shifts_px"]["y"] or 0.0
    return lambda r, c: (r - y, c - x)


def moved(pair: Pair, rows: float, cols: float) -> Pair:
    """The SAR image with its content moved, unseen where there is none."""
    sar = np.stack([ndimage.shift(band, (rows, cols), order=1, mode="nearest") for band in pair.sar])
    seen = ndimage.shift(pair.sar_valid.astype(float), (rows, cols), order=1, cval=0) > 0.999
    return Pair(pair.optical, pair.optical_valid, np.where(seen, sar, 0).astype(np.float32), seen)


def _tried(run: Callable[[], Motion], ref: np.ndarray, mov: np.ndarray) -> str:
    try:
        return f"{rmse(run(), ref, mov):.2f}"
    except ImportError:
        return "not installed"
    except Exception as error:  # another program's failure is a result here
        return f"failed ({type(error).__name__})"


def tie_points(data: Path) -> None:
    """RMSE at hand-picked points, before and after each method."""
    heads = "| pair | start | mmovseg shift | mmovseg affine | confidence | phase correlation | MI shift "
    print(f"\n{heads}| MI affine | AROSICS |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in TIES:
        pair, ref, mov = tied(data / "sar_optical_matching" / name)
        still = rmse(lambda r, c: (r, c), ref, mov)
        shift, affine = ours(pair, "shift"), ours(pair, "affine")
        others = [
            _tried(lambda pair=pair: by_phase(pair), ref, mov),
            _tried(lambda pair=pair: by_information(pair, "shift"), ref, mov),
            _tried(lambda pair=pair: by_information(pair, "affine"), ref, mov),
            _tried(lambda pair=pair: by_arosics(pair), ref, mov),
        ]
        told = [f"{rmse(motion, ref, mov):.2f}" for motion, _ in (shift, affine)]
        sure = f"{affine[1].confidence:.2f}" + ("" if affine[1].applied else " (refused)")
        print(f"| {name} | {still:.2f} | {' | '.join(told)} | {sure} | {' | '.join(others)} |", flush=True)


def residuals(found: dict[str, Pair]) -> None:
    """Shifts of the pairs as they are, and mutual information before and after what is applied."""
    print("\n| pair | rows | cols | confidence | applied | read off | MI before | MI after |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, pair in found.items():
        told = register([pair], pair.shape)
        still = (pair.optical, pair.optical_valid, pair.sar[0], pair.sar_valid)
        before, after = mutual_information(*still, told.displacement)
        truth = TRUTH.get(name, "")
        print(
            f"| {name} | {told.rows:+.2f} | {told.cols:+.2f} | {told.confidence:.2f} | "
            f"{'yes' if told.applied else 'no'} | {truth} | {before:.4f} | {after:.4f} |",
            flush=True,
        )


def known_shifts(found: dict[str, Pair], lengths: tuple[float, ...]) -> None:
    """How often a shift laid on a pair is found, relative to the estimate without it."""
    print("\n| pair | cases | confident | right to 0.5 px | wrong by over 2 px |")
    print("| --- | --- | --- | --- | --- |")
    total = np.zeros(4, int)
    for name, pair in found.items():
        base = register([pair], pair.shape)
        counts = np.zeros(4, int)
        for length in lengths:
            for direction in range(8):
                angle = direction * np.pi / 4
                rows, cols = round(length * np.sin(angle), 2), round(length * np.cos(angle), 2)
                told = register([moved(pair, rows, cols)], pair.shape)
                away = np.hypot(told.rows - base.rows + rows, told.cols - base.cols + cols)
                counts += [1, told.confident, told.confident and away <= 0.5, told.confident and away > 2]
        total += counts
        print(f"| {name} ({base.confidence:.2f}) | {' | '.join(map(str, counts))} |", flush=True)
    print(f"| all | {' | '.join(map(str, total))} |")
    print(f"\n{total[2] / max(total[1], 1):.1%} of the confident cases right to 0.5 px,", end=" ")
    print(f"{total[3] / max(total[0], 1):.1%} of all cases wrong by over 2 px and called confident.")


def large(side: int) -> None:
    """Time and memory of a large pair: the estimate of `coregister --check`, in this process."""
    import resource

    from mmovseg_geo.rasters.registration import register_scene

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        profile = {"driver": "GTiff", "height": side, "width": side, "crs": "EPSG:32633", "tiled": True}
        profile["transform"] = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
        # Fields of about 30 pixels, drawn 4 times too coarse; SAR content lies 5 rows above and 3 columns to the left.
        coarse = side // 4 + 4
        count = coarse * coarse // 64
        points = rng.uniform(0, coarse, (count, 2))
        nearest = np.concatenate(
            [
                KDTree(points).query(np.moveaxis(np.mgrid[row : min(row + 256, coarse), 0:coarse], 0, -1))[1]
                for row in range(0, coarse, 256)
            ]
        )
        colors = rng.uniform(30, 220, (4, count)).astype(np.float32)
        with (
            rasterio.open(f"{folder}/s2.tif", "w", count=3, dtype="uint8", **profile) as optical,
            rasterio.open(f"{folder}/s1.tif", "w", count=1, dtype="float32", **profile) as sar,
        ):
            for row in range(0, side, 256):
                rows, cols = np.arange(row, min(row + 256, side)), np.arange(side)
                own = nearest[np.ix_(rows // 4, cols // 4)]
                other = nearest[np.ix_((rows + 5) // 4, (cols + 3) // 4)]
                window = rasterio.windows.Window(0, row, side, len(rows))
                optical.write(colors[:3][:, own].astype(np.uint8), window=window)
                power = colors[3][other] / 12 - 22 + rng.normal(0, 2.5, other.shape)
                sar.write(power[None].astype(np.float32), window=window)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started, used = time.perf_counter(), time.process_time()
        with open_scene(f"{folder}/s2.tif", f"{folder}/s1.tif", clouds="auto") as scene:
            told = register_scene(scene)
        wall, cpu = time.perf_counter() - started, time.process_time() - used
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"\n{side} x {side}: {wall:.1f} s ({cpu:.1f} s of the processor), peak {peak / 1e3:.0f} MB")
        print(f"(before the estimate {before / 1e3:.0f} MB). {told.why} ({told.confidence:.2f})")


def main() -> None:
    """Print the tables that were asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=["ties", "residuals", "shifts", "large"])
    parser.add_argument("--side", type=int, default=10980, help="of the large pair")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="of the known shifts, in pixels")
    given = parser.parse_args()
    data = shared_folder() / "data"
    if "ties" in given.tables:
        tie_points(data)
    if {"residuals", "shifts"} & set(given.tables):
        found = pairs(data)
        if "residuals" in given.tables:
            residuals(found)
        if "shifts" in given.tables:
            known_shifts(found, tuple(float(text) for text in given.lengths.split(",")))
    if "large" in given.tables:
        large(given.side)


if __name__ == "__main__":
    main()
