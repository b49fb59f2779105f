"""What the text of a setting means: `READERS` turns text, numbers and lists of a YAML or a flag into typed values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from mmovseg_geo.errors import ConfigError, did_you_mean
from mmovseg_geo.grid import Size
from mmovseg_geo.tiles import Blend, OpticalScale, SarScale, Sensors, Speckle

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Gcps = Literal["tps"]


def words(value: Any) -> tuple[tuple[str, ...], ...]:
    """`"water,building|house"` or `["water", ["building", "house"]]` as one tuple of words per class."""
    groups = [part.split("|") for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(groups, Sequence):
        raise ConfigError(f"classes {value!r} is not a list. Write [water, [building, house]] or water,building|house.")
    found = []
    for group in groups:
        parts = [group] if not isinstance(group, (list, tuple)) else group
        if not all(isinstance(part, (str, int, float)) and not isinstance(part, bool) for part in parts):
            raise ConfigError(f"classes: {group!r} is not a class. Give a word, or a list of a name and its synonyms.")
        found.append(tuple(str(part).strip() for part in parts))
    return tuple(found)


def bands(value: Any) -> tuple[int | str, ...]:
    """`"4,3,2"` or `[red, green, blue]`: band numbers from 1, or names."""
    parts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else [value]
    found: list[int | str] = []
    for part in (str(part).strip() for part in parts):
        if not part:
            raise ConfigError(
                f"bands {value!r} has an empty part. Write numbers from 1, or names: 4,3,2 or red,green,blue."
            )
        if part.lstrip("+-").isdigit() and int(part) < 1:
            raise ConfigError(f"Band {part} does not exist: bands are counted from 1.")
        found.append(int(part) if part.isdigit() else part)
    return tuple(found)


def nodata(value: Any) -> Any:
    """A number (nan too), or `"none"` where every value is data."""
    if isinstance(value, str) and value.strip().lower() == "none":
        return "none"
    return number(value, name="nodata", hint="Give a number, nan, or none.", finite=False)


def number(value: Any, *, name: str, hint: str = "Give a number.", finite: bool = True) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} {value!r} is not a number. {hint}") from None
    if finite and not math.isfinite(found):
        raise ConfigError(f"{name} {value!r} is not a finite number. {hint}")
    return found


def share(value: Any, *, name: str) -> float:
    found = number(value, name=name)
    if not 0 <= found <= 1:
        raise ConfigError(f"{name} {found:g} is not between 0 and 1.")
    return found


def whole(value: Any, *, name: str, least: int) -> int:
    found = number(value, name=name)
    if found != int(found) or found < least:
        raise ConfigError(f"{name} {found:g} is not a whole number of at least {least}.")
    return int(found)


def tiles_at_once(value: Any) -> int | str:
    """A number of tiles, or `auto`."""
    return "auto" if value == "auto" else whole(value, name="batch-size", least=1)


def memory(value: Any) -> int:
    """`"4GB"`, `"800MB"` or `"4GiB"` as bytes; a whole number is one of bytes already."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt])(i?)b?\s*", str(value), re.IGNORECASE)
    if not match or not float(match[1]):
        raise ConfigError(f"memory {value!r} is not an amount of memory. Write it as 4GB or 800MB.")
    unit: int = (1024 if match[3] else 1000) ** ("KMGT".index(match[2].upper()) + 1)
    return round(float(match[1]) * unit)


def bytes_text(count: int) -> str:
    """Bytes as `memory` reads them, rounded up to two digits behind the point, or to megabytes.

    >>> bytes_text(1_234_567_890), bytes_text(640_100_000)
    ('1.24GB', '641MB')
    """
    return f"{math.ceil(count / 10**7) / 100:g}GB" if count >= 10**9 else f"{math.ceil(count / 10**6)}MB"


def switch(value: Any, *, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} {value!r} is neither true nor false.")
    return value


def choice(value: Any, *, name: str, among: Sequence[str]) -> str:
    text = str(value)
    if text not in among:
        raise ConfigError(f"{name} {text!r} is unknown. {did_you_mean(text, among)}")
    return text


def scale(value: Any, *, name: str, among: Sequence[str]) -> str:
    """A keyword, or `"MIN,MAX"`: the values that become black and white."""
    text = ",".join(str(part) for part in value) if isinstance(value, (list, tuple)) else str(value).strip()
    if "," not in text:
        return choice(text, name=name, among=[*among, "MIN,MAX"])
    ends = [number(part, name=name) for part in text.split(",")]
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise ConfigError(f"{name} {text!r} should be two numbers, the smaller first: MIN,MAX.")
    return text


def coregister(value: Any) -> str:
    """`auto`, `off`, a file that `coregister` wrote, or `"rows,cols"` in pixels, as text."""
    text = ",".join(str(part) for part in value) if isinstance(value, (list, tuple)) else str(value).strip()
    # YAML reads a bare `off` as false.
    if text in ("off", "False"):
        return "off"
    if text == "auto" or Path(text).suffix.lower() == ".json":
        return text
    parts = text.split(",")
    if len(parts) == 2:
        return ",".join(f"{number(part, name='coregister'):g}" for part in parts)
    raise ConfigError(
        f'coregister {text!r} is neither auto, off, a .json of `mmovseg coregister`, nor "rows,cols" in pixels '
        "(down and right positive)."
    )


def cloud_source(value: Any) -> str:
    """`auto`, `off` or a file, perhaps with the kind of its values before it."""
    # YAML reads a bare `off` as false.
    return "off" if value is False else text(value, name="clouds")


def bounds(value: Any) -> tuple[float, float, float, float]:
    """xmin, ymin, xmax, ymax."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or len(parts) != 4:
        raise ConfigError(f"bounds {value!r} should be four numbers: xmin,ymin,xmax,ymax.")
    xmin, ymin, xmax, ymax = (number(part, name="bounds") for part in parts)
    if xmin >= xmax or ymin >= ymax:
        raise ConfigError(f"bounds {xmin:g},{ymin:g},{xmax:g},{ymax:g} are empty; the order is xmin,ymin,xmax,ymax.")
    return xmin, ymin, xmax, ymax


def size(value: Any) -> Size:
    return value if isinstance(value, Size) else Size.parse(value)


def pairs(value: Any, *, name: str, example: str) -> dict[str, str]:
    """`["KEY=VALUE"]` or a mapping, keys in capitals as GDAL lists them."""
    if isinstance(value, Mapping):
        return {str(key).upper(): _option_text(item) for key, item in value.items()}
    found = {}
    for part in value if isinstance(value, (list, tuple)) else [value]:
        key, sign, text = str(part).partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"{name} {part!r} is not KEY=VALUE, such as {example}.")
        found[key.strip().upper()] = text.strip()
    return found


def named(value: Any, *, name: str, example: str) -> dict[str, str]:
    """`["key=value"]` or a mapping, keys as Python spells names."""
    return {key.lower().replace("-", "_"): text for key, text in pairs(value, name=name, example=example).items()}


def _option_text(value: Any) -> str:
    return ("YES" if value else "NO") if isinstance(value, bool) else str(value)


def device(value: Any) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:n`."""
    text = str(value).strip().lower()
    kind, _, index = text.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (":" in text and not (kind == "cuda" and index.isdigit())):
        raise ConfigError(f"device {value!r} is unknown. Give auto, cpu, cuda or cuda:0.")
    return text


def text(value: Any, *, name: str) -> str:
    if not isinstance(value, (str, int, float, Path)) or not str(value).strip():
        raise ConfigError(f"{name} {value!r} is not text. Give one word or name.")
    return str(value).strip()


def path(value: Any, *, name: str) -> Path:
    if not isinstance(value, (str, Path)):
        raise ConfigError(f"{name} {value!r} is not a path.")
    return Path(value)


READERS: dict[str, Callable[[Any], Any]] = {
    "model": partial(text, name="model"),
    "model_options": partial(named, name="model-option", example="factor=0.5"),
    "classes": words,
    "classes_file": partial(path, name="classes-file"),
    "background": partial(switch, name="background"),
    "min_score": partial(share, name="min-score"),
    "bands": bands,
    "sar_bands": bands,
    "nodata": nodata,
    "optical_scale": partial(scale, name="optical-scale", among=get_args(OpticalScale)),
    "sar_scale": partial(scale, name="sar-scale", among=get_args(SarScale)),
    "speckle": partial(choice, name="speckle", among=get_args(Speckle)),
    "clouds": cloud_source,
    "sar_ratio": partial(switch, name="sar-ratio"),
    "mask_clouds": partial(switch, name="mask-clouds"),
    "gcps": partial(choice, name="gcps", among=get_args(Gcps)),
    "pixel_grid": partial(switch, name="pixel-grid"),
    "coregister": coregister,
    "bounds": bounds,
    "bounds_crs": partial(text, name="bounds-crs"),
    "tile_size": partial(whole, name="tile-size", least=1),
    "overlap": partial(whole, name="overlap", least=0),
    "blend": partial(choice, name="blend", among=get_args(Blend)),
    "batch_size": tiles_at_once,
    "memory": memory,
    "device": device,
    "precision": partial(choice, name="precision", among=get_args(Precision)),
    "polygons": partial(switch, name="polygons"),
    "confidence": partial(switch, name="confidence"),
    "preview": partial(switch, name="preview"),
    "min_area": size,
    "fill_holes": size,
    "simplify": size,
    "overwrite": partial(switch, name="overwrite"),
    "resume": partial(switch, name="resume"),
    "co": partial(pairs, name="co", example="COMPRESS=ZSTD"),
    "lco": partial(pairs, name="lco", example="SPATIAL_INDEX=NO"),
}
"""Setting to the function that reads it."""


def ignored(value: Any) -> tuple[int | str, ...]:
    """`"0,3,cloud"` or `[0, 3, cloud]`: stored values of labels, and names of classes."""
    parts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else [value]
    texts = [str(part).strip() for part in parts]
    if not all(texts):
        raise ConfigError(f"ignore {value!r} has an empty part. Write values and names of classes: 0,3,cloud.")
    return tuple(int(text) if text.lstrip("+-").isdigit() else text for text in texts)


def covers(value: Any) -> tuple[float, ...]:
    """`"0,25,50"` or `[0, 25, 50]` percent as shares; shares themselves where they are a tuple already."""
    if isinstance(value, tuple):
        return value
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    found = [number(part, name="clouds", hint="Give percents: 0,25,50,75,100.") for part in parts]
    wrong = [one for one in found if not 0 <= one <= 100]
    if wrong or not found or len(set(found)) < len(found):
        what = f"{wrong[0]:g} is not between 0 and 100" if wrong else f"{value!r} names a percent twice or none"
        raise ConfigError(f"clouds: {what}. Give percents: 0,25,50,75,100.")
    return tuple(one / 100 for one in found)


def positive(value: Any, *, name: str) -> float:
    found = number(value, name=name)
    if found <= 0:
        raise ConfigError(f"{name} {found:g} is not positive.")
    return found


EVAL_READERS: dict[str, Callable[[Any], Any]] = {
    **{
        name: READERS[name]
        for name in (
            "model", "model_options", "classes", "classes_file", "min_score", "pixel_grid", "tile_size", "overlap",
            "blend", "device", "precision", "overwrite",
        )
    },
    "batch_size": partial(whole, name="batch-size", least=1),
    "dataset": partial(path, name="dataset"),
    "data": partial(path, name="data"),
    "split": partial(text, name="split"),
    "as_published": partial(switch, name="as-published"),
    "sensors": partial(choice, name="sensors", among=get_args(Sensors)),
    "gsd_m": partial(positive, name="gsd-m"),
    "predictions": partial(path, name="predictions"),
    "labels": partial(path, name="labels"),
    "class_field": partial(text, name="class-field"),
    "inside": partial(text, name="inside"),
    "outside": partial(text, name="outside"),
    "ignore": ignored,
    "clouds": covers,
    "boundary": size,
    "draws": partial(whole, name="draws", least=0),
    "seed": partial(whole, name="seed", least=0),
    "error_maps": partial(whole, name="error-maps", least=0),
    "xlsx": partial(switch, name="xlsx"),
}  # fmt: skip
"""The same of `EvalConfig`."""
