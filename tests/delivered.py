"""Small products of each layout, as they are delivered, with pixels that a test chooses."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

UTM = "EPSG:32632"
CORNER = (500000.0, 5000000.0)
S1_NAME = "S1A_IW_GRDH_1SDV_20180716T004042_20180716T004107_022812_02792A_FD5B"
S2_NAME = "S2B_MSIL2A_20230115T051121_N0509_R019_T32TNS_20230115T083005"
LANDSAT_NAME = "LC08_L2SP_190031_20210601_20210608_02_T1"
PLANET_NAME = "20210601_101559_1003"


def write(path: Path, pixels: Any, meters: float = 10.0, driver: str = "GTiff", **options: Any) -> Path:
    """(H, W) or (N, H, W) pixels from one corner of UTM zone 32, as GeoTIFF or lossless JPEG 2000."""
    pixels = np.asarray(pixels)
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    gcps, tags, descriptions = (options.pop(key, None) for key in ("gcps", "tags", "descriptions"))
    profile = {"crs": UTM, "transform": Affine(meters, 0, CORNER[0], 0, -meters, CORNER[1]), **options}
    if gcps:
        profile.pop("transform"), profile.pop("crs")
    if driver == "JP2OpenJPEG":
        profile |= {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
    with rasterio.open(
        path, "w", driver=driver, count=len(pixels), height=pixels.shape[1], width=pixels.shape[2],
        dtype=pixels.dtype, **profile,
    ) as dataset:  # fmt: skip
        if gcps:
            dataset.gcps = (gcps, "EPSG:4326")
        dataset.write(pixels)
        if tags:
            dataset.update_tags(**tags)
        for band, text in enumerate(descriptions or (), 1):
            dataset.set_band_description(band, text)
    return path


def zipped(folder: Path, name: str | None = None) -> Path:
    """The folder as a zip beside it, that holds it as its top folder."""
    path = folder.parent / (name or f"{folder.stem}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def swath_points(shape: tuple[int, int], degrees: float = 9e-5) -> list[GroundControlPoint]:
    """Control points of a swath that lies a little turned about 9 E, 45 N."""
    rows, cols = (np.linspace(0, side, 4) for side in shape)
    return [
        GroundControlPoint(
            row=row, col=col, x=9.0 + degrees * (1.3 * col + 0.1 * row), y=45.155 - degrees * (row - 0.08 * col), z=0.0
        )
        for row in rows
        for col in cols
    ]


def numbers(values: np.ndarray[Any, Any] | Sequence[float]) -> str:
    return " ".join(f"{value:.10g}" for value in np.ravel(values))


def sentinel_1(
    parent: Path,
    measured: Mapping[str, np.ndarray[Any, Any]],
    *,
    name: str = S1_NAME,
    sigma: float = 500.0,
    slope: float = 0.0,
    noise: float | None = None,
    kind: str = "GRD",
    manifest: bool = True,
) -> Path:
    """A SAFE folder. `sigma` is the calibration at the first sample, and rises by `slope` with each sample."""
    safe = parent / f"{name}.SAFE"
    for number, (polarization, pixels) in enumerate(measured.items(), 1):
        low = polarization.lower()
        stem = f"s1a-iw-grd-{low}-20180716t004042-20180716t004107-022812-02792a-{number:03}"
        shape = pixels.shape
        description = {
            "TIFFTAG_IMAGEDESCRIPTION": "Sentinel-1A IW GRD HR L1",
            "TIFFTAG_SOFTWARE": "Sentinel-1 IPF 002.91",
        }
        write(safe / "measurement" / f"{stem}.tiff", pixels, gcps=swath_points(shape), tags=description)
        annotation = safe / "annotation"
        (annotation / "calibration").mkdir(parents=True, exist_ok=True)
        (annotation / f"{stem}.xml").write_text(
            f"<product><adsHeader><missionId>S1A</missionId><productType>{kind}</productType>"
            f"<polarisation>{polarization}</polarisation><mode>IW</mode><startTime>2018-07-16T00:40:42.177312</startTime>"
            "<absoluteOrbitNumber>22812</absoluteOrbitNumber></adsHeader><generalAnnotation><productInformation>"
            "<pass>Descending</pass></productInformation></generalAnnotation><imageAnnotation><imageInformation>"
            f"<numberOfSamples>{shape[1]}</numberOfSamples><numberOfLines>{shape[0]}</numberOfLines>"
            "</imageInformation></imageAnnotation></product>"
        )
        samples = np.arange(0, shape[1] + 39, 40)
        vectors = "".join(
            f"<calibrationVector><line>{line}</line><pixel>{numbers(samples)}</pixel>"
            f"<sigmaNought>{numbers(sigma + slope * samples)}</sigmaNought></calibrationVector>"
            for line in (0, shape[0] // 2, shape[0] - 1)
        )
        (annotation / "calibration" / f"calibration-{stem}.xml").write_text(
            f"<calibration><calibrationVectorList>{vectors}</calibrationVectorList></calibration>"
        )
        if noise is not None:
            ranges = "".join(
                f"<noiseRangeVector><line>{line}</line><pixel>{numbers(samples)}</pixel>"
                f"<noiseRangeLut>{numbers(np.full(len(samples), noise))}</noiseRangeLut></noiseRangeVector>"
                for line in (0, shape[0] - 1)
            )
            half = shape[1] // 2
            azimuth = "".join(
                f"<noiseAzimuthVector><swath>IW{swath}</swath><firstAzimuthLine>0</firstAzimuthLine>"
                f"<firstRangeSample>{first}</firstRangeSample><lastAzimuthLine>{shape[0] - 1}</lastAzimuthLine>"
                f"<lastRangeSample>{last}</lastRangeSample><line>0 {shape[0] - 1}</line>"
                f"<noiseAzimuthLut>{factor} {factor}</noiseAzimuthLut></noiseAzimuthVector>"
                for swath, first, last, factor in ((1, 0, half - 1, 1.0), (2, half, shape[1] - 1, 2.0))
            )
            (annotation / "calibration" / f"noise-{stem}.xml").write_text(
                f"<noise><noiseRangeVectorList>{ranges}</noiseRangeVectorList>"
                f"<noiseAzimuthVectorList>{azimuth}</noiseAzimuthVectorList></noise>"
            )
    if manifest:
        safe.mkdir(parents=True, exist_ok=True)
        (safe / "manifest.safe").write_text(
            '<xfdu:XFDU xmlns:xfdu="urn:ccsds" xmlns:safe="urn:safe" xmlns:s1="urn:s1"><safe:orbitReference>'
            '<safe:relativeOrbitNumber type="start">165</safe:relativeOrbitNumber><s1:pass>DESCENDING</s1:pass>'
            "</safe:orbitReference></xfdu:XFDU>"
        )
    return safe


def sentinel_2(
    parent: Path,
    reflectance: Mapping[str, np.ndarray[Any, Any]],
    *,
    name: str = S2_NAME,
    offset: int | None = -1000,
    driver: str = "JP2OpenJPEG",
    scene_classes: np.ndarray[Any, Any] | None = None,
    metadata: bool = True,
) -> Path:
    """A SAFE folder of L2A or L1C, by its name. Bands are reflectance (H, W), at 10 m unless named B11@20."""
    safe, level = parent / f"{name}.SAFE", "L1C" if "MSIL1C" in name else "L2A"
    safe.mkdir(parents=True)
    tile = name.split("_")[5]
    images = safe / "GRANULE" / f"{level}_{tile}_A030638_20230115T051124" / "IMG_DATA"
    suffix = "jp2" if driver == "JP2OpenJPEG" else "tif"
    stem = f"{tile}_20230115T051121"
    for band, values in reflectance.items():
        band, _, meters = band.partition("@")
        meters = meters or "10"
        stored = np.clip(np.round(values * 10000) - (offset or 0), 1, 65535).astype(np.uint16)
        stored = np.where(np.isfinite(values), stored, 0).astype(np.uint16)
        place = images / f"R{meters}m" / f"{stem}_{band}_{meters}m" if level == "L2A" else images / f"{stem}_{band}"
        write(place.with_suffix(f".{suffix}"), stored, float(meters), driver)
    if scene_classes is not None:
        write(images / "R20m" / f"{stem}_SCL_20m.{suffix}", scene_classes.astype(np.uint8), 20.0, driver)
    if metadata:
        prefix, list_tag = ("BOA_", "BOA_ADD_OFFSET") if level == "L2A" else ("", "RADIO_ADD_OFFSET")
        offsets = "".join(f'<{list_tag} band_id="{band}">{offset}</{list_tag}>' for band in range(13)) if offset else ""
        (safe / f"MTD_MSI{level}.xml").write_text(
            f'<n1:Level-User_Product xmlns:n1="urn:psd"><n1:General_Info><Product_Info><PRODUCT_URI>{name}.SAFE'
            "</PRODUCT_URI><PROCESSING_BASELINE>05.09</PROCESSING_BASELINE><Datatake><SPACECRAFT_NAME>Sentinel-2B"
            "</SPACECRAFT_NAME><DATATAKE_SENSING_START>2023-01-15T05:11:21.024Z</DATATAKE_SENSING_START>"
            "<SENSING_ORBIT_NUMBER>19</SENSING_ORBIT_NUMBER><SENSING_ORBIT_DIRECTION>DESCENDING</SENSING_ORBIT_DIRECTION>"
            f"</Datatake></Product_Info><{prefix}QUANTIFICATION_VALUE unit='none'>10000</{prefix}QUANTIFICATION_VALUE>"
            f"{offsets}</n1:General_Info><n1:Quality_Indicators_Info><Cloud_Coverage_Assessment>12.3456"
            "</Cloud_Coverage_Assessment></n1:Quality_Indicators_Info></n1:Level-User_Product>"
        )
    return safe


def landsat(
    parent: Path,
    reflectance: Mapping[str, np.ndarray[Any, Any]],
    *,
    name: str = LANDSAT_NAME,
    quality: np.ndarray[Any, Any] | None = None,
    metadata: bool = True,
) -> Path:
    """A folder of Landsat's numbered bands (`B4`) with the MTL text, whose groups contradict each other."""
    folder, level_1 = parent / name, "_L1" in name
    gain, offset = (2e-5, -0.1) if level_1 else (2.75e-5, -0.2)
    sine = np.sin(np.radians(30.0)) if level_1 else 1.0
    for band, values in reflectance.items():
        stored = np.where(np.isfinite(values), np.round((values * sine - offset) / gain), 0).astype(np.uint16)
        write(folder / f"{name}{'' if level_1 else '_SR'}_{band}.TIF", stored, 30.0, nodata=0)
    if quality is not None:
        write(folder / f"{name}_QA_PIXEL.TIF", quality.astype(np.uint16), 30.0, nodata=1)
    if metadata:

        def group(title: str, scale: float, add: float) -> str:
            bands = "".join(
                f"    REFLECTANCE_MULT_BAND_{band[1:]} = {scale:.4e}\n    REFLECTANCE_ADD_BAND_{band[1:]} = {add:.6f}\n"
                for band in reflectance
            )
            return f"  GROUP = {title}\n{bands}  END_GROUP = {title}\n"

        (folder / f"{name}_MTL.txt").write_text(
            "GROUP = LANDSAT_METADATA_FILE\n  GROUP = IMAGE_ATTRIBUTES\n    SPACECRAFT_ID = \"LANDSAT_8\"\n"
            "    DATE_ACQUIRED = 2021-06-01\n    SCENE_CENTER_TIME = \"10:02:11.1234560Z\"\n    CLOUD_COVER = 4.21\n"
            "    SUN_ELEVATION = 30.00000000\n  END_GROUP = IMAGE_ATTRIBUTES\n"
            f"  GROUP = PRODUCT_CONTENTS\n    LANDSAT_PRODUCT_ID = \"{name}\"\n  END_GROUP = PRODUCT_CONTENTS\n"
            + (group("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", 2.75e-5, -0.2) if not level_1 else "")
            + group("LEVEL1_RADIOMETRIC_RESCALING", 2e-5, -0.1)
            + "END_GROUP = LANDSAT_METADATA_FILE\nEND\n"
        )  # fmt: skip
    return folder


def planet(
    parent: Path,
    bands: np.ndarray[Any, Any],
    *,
    asset: str = "AnalyticMS_SR",
    coefficients: Sequence[float] = (),
    mask: np.ndarray[Any, Any] | None = None,
) -> Path:
    """A file of PlanetScope with stored numbers (N, H, W), its metadata and mask beside it."""
    path = write(parent / f"{PLANET_NAME}_3B_{asset}.tif", bands, 3.0, nodata=0 if bands.dtype == np.uint16 else None)
    (parent / f"{PLANET_NAME}_metadata.json").write_text(
        json.dumps(
            {"properties": {"acquired": "2021-06-01T10:15:59.123Z", "cloud_cover": 0.25, "instrument": "PSB.SD"}}
        )
    )
    if coefficients:
        parts = "".join(
            f"<ps:bandSpecificMetadata><ps:bandNumber>{band}</ps:bandNumber>"
            f"<ps:reflectanceCoefficient>{value}</ps:reflectanceCoefficient></ps:bandSpecificMetadata>"
            for band, value in enumerate(coefficients, 1)
        )
        (parent / f"{PLANET_NAME}_3B_{asset}_metadata.xml").write_text(f'<root xmlns:ps="urn:planet">{parts}</root>')
    if mask is not None:
        write(parent / f"{PLANET_NAME}_3B_udm2.tif", mask.astype(np.uint8), 3.0)
    return path
