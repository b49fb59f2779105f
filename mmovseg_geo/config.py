"""How: the settings of a run. The defaults of every option stand here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from mmovseg_geo.errors import ConfigError, did_you_mean
from mmovseg_geo.grid import Size
from mmovseg_geo.settings import EVAL_READERS, READERS, Gcps, Precision
from mmovseg_geo.text_file import strict_yaml
from mmovseg_geo.tiles import Blend, Sensors, Speckle, Tiling
from mmovseg_geo.vocabulary import Vocabulary

C = TypeVar("C")

NO_SIZE = Size(0.0)
TWO_PIXELS = Size(2.0, "px")

ALIASES = {"segmenter": "model", "bbox": "bounds"}
"""Keys that a YAML may use for a field of another name."""

PATHS = frozenset({"classes_file", "model", "clouds", "data", "text", "dataset", "predictions", "labels", "coregister"})
"""Fields that may hold a path, which a YAML gives relative to itself."""
MAYBE_PATHS = frozenset({"model", "clouds", "coregister"})
"""Those that may hold a word as well: only what lies there is a path."""


@dataclass(frozen=True)
class SegmentConfig:
    """Everything `segment` and `batch` can be told. Text as on the command line is accepted and made a value.

    Raises:
        ConfigError: a value that cannot be meant.

    >>> SegmentConfig(classes="water,building|house", simplify="1.5px").simplify
    Size(value=1.5, unit='px')
    """

    model: str = "mmovseg-compact"
    model_options: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[tuple[str, ...], ...] | None = None
    classes_file: Path | None = None
    background: bool = False
    min_score: float | None = None

    bands: tuple[int | str, ...] | None = None
    sar_bands: tuple[int | str, ...] | None = None
    nodata: float | Literal["none"] | None = None
    optical_scale: str = "auto"
    sar_scale: str = "auto"
    speckle: Speckle = "none"
    sar_ratio: bool = False
    clouds: str = "auto"
    mask_clouds: bool = False
    gcps: Gcps | None = None
    pixel_grid: bool = False
    coregister: str = "auto"

    bounds: tuple[float, float, float, float] | None = None
    bounds_crs: str | None = None

    tile_size: int | None = None
    overlap: int | None = None
    blend: Blend | None = None
    batch_size: int | Literal["auto"] | None = None
    memory: int | None = None
    device: str = "auto"
    precision: Precision = "auto"

    polygons: bool = True
    confidence: bool = True
    preview: bool = True
    min_area: Size = NO_SIZE
    fill_holes: Size = NO_SIZE
    simplify: Size = NO_SIZE
    overwrite: bool = False
    resume: bool = False
    co: Mapping[str, str] = field(default_factory=dict)
    lco: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, read in READERS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, read(value))
        if self.classes is not None and self.classes_file is not None:
            raise ConfigError("Give either classes or a classes file, not both.")
        if self.bounds_crs is not None and self.bounds is None:
            raise ConfigError("A CRS of bounds was given, but no bounds. Add --bounds xmin,ymin,xmax,ymax.")

    def vocabulary(self) -> Vocabulary | None:
        """The classes to look for, or None where the model's own list is meant.

        A single class gets a background, for otherwise every pixel would be that class.
        """
        asked = self._asked()
        return asked.with_background() if asked is not None and len(asked) == 1 else asked

    @property
    def notes(self) -> list[str]:
        """What was decided on the user's behalf, in words."""
        asked = self._asked()
        if asked is None or len(asked) > 1:
            return []
        word = asked.classes[0].name
        return [f"{word!r} is the only class, so a background class is added; otherwise all pixels would be {word!r}."]

    def _asked(self) -> Vocabulary | None:
        if self.classes_file is not None:
            return Vocabulary.from_file(self.classes_file, background=self.background)
        return None if self.classes is None else Vocabulary.of(self.classes, background=self.background)

    @property
    def shift(self) -> tuple[float, float]:
        """(rows, cols) in optical pixels that were given for the SAR content, down and right positive."""
        if self.coregister in ("auto", "off") or self.coregister.lower().endswith(".json"):
            return 0.0, 0.0
        rows, cols = (float(part) for part in self.coregister.split(","))
        return rows, cols

    def tiling(self, tuned: Tiling) -> Tiling:
        """The tiling the model was tuned for, with what the user set in its place."""
        size = tuned.size if self.tile_size is None else self.tile_size
        overlap = self.overlap
        if overlap is None:
            # Tiles smaller than the tuned ones keep the share that overlaps.
            overlap = tuned.overlap if size >= tuned.size else tuned.overlap * size // tuned.size
        return Tiling(size, overlap, self.blend or tuned.blend)


@dataclass(frozen=True)
class EvalConfig:
    """Everything `eval` can be told. Text as on the command line is accepted and made a value.

    A segmenter is run over the images of `dataset`; or maps (`predictions`) are compared with `labels`.

    Attributes:
        dataset: a description such as `configs/datasets/ddhr-sk.yaml`; data: the folder that holds its files.
        split: of the dataset; by default the one that published scores are of.
        model: by default `mmovseg-compact`.
        as_published: a model that papers scored on the set runs with the words and settings it had there.
        sensors: only these images are shown to the model.
        gsd_m: ground sampling distance in meters of images that have no CRS.
        class_field: of vector labels. inside: class of all shapes, where no field tells it. outside: class of pixels
            in no shape; by default they are not scored.
        ignore: values of the labels, or names of classes, that are not scored.
        clouds: shares of the optical images that simulated clouds reach, 0..1, one evaluation for each.
        boundary: how far an outline may lie off, in pixels of the map (`2px`) or meters.
        draws: of the bootstrap over scenes; 0 for no intervals. seed: of clouds and bootstrap.
        error_maps: of how many scenes, those with the most wrong pixels.

    Raises:
        ConfigError: a value that cannot be meant.

    >>> EvalConfig(clouds="0,50").clouds
    (0.0, 0.5)
    """

    dataset: Path | None = None
    data: Path = Path("data")
    split: str | None = None
    model: str | None = None
    model_options: Mapping[str, str] = field(default_factory=dict)
    as_published: bool = True
    sensors: Sensors = "both"
    gsd_m: float | None = None
    min_score: float | None = None

    predictions: Path | None = None
    labels: Path | None = None
    classes: tuple[tuple[str, ...], ...] | None = None
    classes_file: Path | None = None
    class_field: str | None = None
    inside: str | None = None
    outside: str | None = None
    ignore: tuple[int | str, ...] = ()
    pixel_grid: bool = False

    clouds: tuple[float, ...] = ()
    boundary: Size = TWO_PIXELS
    draws: int = 1000
    seed: int = 0

    tile_size: int | None = None
    overlap: int | None = None
    blend: Blend | None = None
    batch_size: int = 4
    device: str = "auto"
    precision: Precision = "auto"

    error_maps: int = 20
    xlsx: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, read in EVAL_READERS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, read(value))
        if self.classes is not None and self.classes_file is not None:
            raise ConfigError("Give either classes or a classes file, not both.")

    def vocabulary(self) -> Vocabulary | None:
        """The classes that were given, or None where the files are to tell."""
        if self.classes_file is not None:
            return Vocabulary.from_file(self.classes_file)
        return None if self.classes is None else Vocabulary.of(self.classes)

    def boundary_px(self, gsd_m: float) -> float:
        """How far an outline may lie off, in pixels of `gsd_m` meters."""
        return self.boundary.value if self.boundary.unit == "px" else self.boundary.value / gsd_m

    def tiling(self, tuned: Tiling) -> Tiling:
        """The tiling the model was tuned for, with what the user set in its place."""
        return SegmentConfig(tile_size=self.tile_size, overlap=self.overlap, blend=self.blend).tiling(tuned)


def load_config(path: str | Path | None, kind: type[C], flags: Mapping[str, Any] | None = None) -> C:
    """Settings from a YAML file, where given, with the `flags` that are not None in the place of its values.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a value that does not fit.
    """
    values = {} if path is None else read_yaml(Path(path), [entry.name for entry in fields(kind)])  # type: ignore[arg-type]
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    for one, other in (("classes", "classes_file"), ("classes_file", "classes")):
        if one in given and other not in given:
            values.pop(other, None)
    try:
        settings = kind(**values) if values else None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except TypeError as error:
        raise ConfigError(f"{path}: {error}.") from error
    return replace(settings, **given) if settings is not None else kind(**given)  # type: ignore[type-var]


def read_yaml(path: Path, known: list[str]) -> dict[str, Any]:
    """Values by field name; `tiling` is unfolded and paths are made relative to the current directory.

    Raises:
        ConfigError: a file that cannot be read, is not a mapping or has a key that is not `known`.
    """
    loaded = strict_yaml(path, "the settings")
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} should hold `key: value` lines; its top level is a {type(loaded).__name__}.")
    if "splits" in loaded:
        use = "as --dataset, or its classes as --classes-file"
        raise ConfigError(f"{path} describes a set of labelled images, it holds no settings. Give it {use}.")
    values: dict[str, Any] = {}
    for key, value in loaded.items():
        for name, item in _unfolded(str(key), value, path):
            name = ALIASES.get(name, name)
            _check_key(name, known, path, parent="")
            if name in values:
                raise ConfigError(f"{path} gives {name!r} twice (perhaps under another name).")
            values[name] = _placed(name, item, path.parent)
    return values


def _unfolded(key: str, value: Any, path: Path) -> list[tuple[str, Any]]:
    """`tiling: {size, overlap, blend}` as three fields; other keys stay as they are."""
    if key != "tiling":
        return [(key.replace("-", "_"), value)]
    names = {"size": "tile_size", "overlap": "overlap", "blend": "blend"}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: `tiling` should be a mapping such as {{size: 512, overlap: 64}}, not {value!r}.")
    for name in value:
        _check_key(str(name), list(names), path, parent="tiling.")
    return [(names[name], item) for name, item in value.items()]


def _check_key(name: str, known: list[str], path: Path, *, parent: str) -> None:
    if name in known:
        return
    spellings = [*known, *(alias for alias, target in ALIASES.items() if target in known)]
    advice = did_you_mean(name, spellings if parent else [*spellings, "tiling"])
    raise ConfigError(f"{path}: unknown key {parent}{name}. {advice}")


def _placed(name: str, value: Any, folder: Path) -> Any:
    if name not in PATHS or not isinstance(value, (str, Path)):
        return value
    beside = folder / value
    if name in MAYBE_PATHS:
        return str(beside) if beside.exists() else value
    return beside
