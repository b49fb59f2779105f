"""Arrays in, scores out: the table of segmenters by name. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from mmovseg_geo.errors import ConfigError, WeightsError, did_you_mean
from mmovseg_geo.models import registry
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.vocabulary import Vocabulary

SEGMENTERS = {
    "mmovseg-compact": "mmovseg_geo.models.mmovseg.segmenter:mmovseg_compact",
    "mmovseg-vitb16": "mmovseg_geo.models.mmovseg.builders:mmovseg_vitb16",
    "mmovseg-vitl14": "mmovseg_geo.models.mmovseg.builders:mmovseg_vitl14",
    "mmovseg-custom": "mmovseg_geo.models.mmovseg.builders:mmovseg_custom",
    "segearth-ov": "mmovseg_geo.models.segearth.builders:segearth_ov",
    "segearth-ov2": "mmovseg_geo.models.segearth.builders:segearth_ov2",
    "segearth-ov2-sar": "mmovseg_geo.models.segearth.builders:segearth_ov2_sar",
    "threshold": "mmovseg_geo.models.threshold:threshold",
}
"""Name to `module:builder`; a builder takes (vocabulary | None, *, weights, device, precision, gsd_m) and, by name, the
options of its model."""

SETTINGS = ("vocabulary", "weights", "device", "precision", "gsd_m")
"""What every builder takes; its other parameters are options of the model."""

DEFAULT = "mmovseg-compact"


def load_segmenter(
    model: str = DEFAULT,
    classes: Vocabulary | str | Sequence[str | Sequence[str]] | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    gsd_m: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Segmenter:
    """A segmenter ready for a vocabulary.

    Args:
        model: a name of `SEGMENTERS` or of `mmovseg models list`, a weights file (`.safetensors`), or
            `package.module:builder`.
        classes: words as on the command line, a list whose nested lists give synonyms, or None for the model's own.
        device: `auto`, `cpu`, `cuda` or `cuda:n`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        gsd_m: ground sampling distance of the scene in meters; the tiling is chosen for it.
        options: settings of this model, as values or as text.

    Raises:
        ConfigError: unknown model, or an option that it does not have.
        VocabularyError: classes that cannot be used.
        WeightsError: missing, damaged or foreign weights.

    >>> load_segmenter("threshold", "dark,bright").planes
    2
    """
    vocabulary = classes if classes is None or isinstance(classes, Vocabulary) else Vocabulary.of(classes)
    builder, weights = _builder(model)
    options = dict(options or {})
    check_options(model, builder, list(options))
    segmenter: Segmenter = builder(
        vocabulary, weights=weights, device=device, precision=precision, gsd_m=gsd_m, **options
    )
    return segmenter


def check_options(model: str, builder: Callable[..., Any], names: list[str]) -> None:
    """Whether a model has options of these names; a builder that takes any option checks them itself.

    Raises:
        ConfigError: a name that it does not have.
    """
    parameters = {} if not names else signature(builder).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [name for name in parameters if name not in SETTINGS]
    for name in names:
        if name not in known:
            has = f"It has {', '.join(known) or 'none'}."
            raise ConfigError(f"{model} has no option {name!r}. {did_you_mean(name, known, otherwise=has)}")


def switch(name: str, value: bool | str) -> bool:
    """What a model option means that is true or false, as a value or as text.

    Raises:
        ConfigError: neither.

    >>> switch("compile", "yes")
    True
    """
    text = str(value).lower()
    if text not in ("true", "false", "yes", "no"):
        raise ConfigError(f"model option {name} {value!r} is neither true nor false.")
    return text in ("true", "yes")


def sensors_of(model: str) -> tuple[str, ...]:
    """The sensors that a model given by name can use; empty where only the loaded model can tell.

    >>> sensors_of("segearth-ov2-sar")
    ('sar',)
    """
    return registry.entry(model).sensors if model in registry.names() else ()


def reads_only_sar(model: str) -> bool:
    """Whether a model that is given by name takes SAR images and no others."""
    return sensors_of(model) == ("sar",)


def _builder(model: str) -> tuple[Callable[..., Any], Path | None]:
    if model in SEGMENTERS:
        return imported(SEGMENTERS[model]), None
    if ":" in model and not Path(model).exists() and model.partition(":")[0].replace(".", "").isidentifier():
        return imported(model), None
    if model in registry.names():
        return _registered(model)
    if Path(model).is_file() and model.endswith(registry.PICKLED):
        raise WeightsError(registry.as_published(Path(model)))
    if model.endswith(".safetensors") or Path(model).exists():
        if not Path(model).is_file():
            raise WeightsError(f"{registry.absent(Path(model))}\n  Or give a name: {_names()}.")
        return imported("mmovseg_geo.models.mmovseg.segmenter:from_file"), Path(model)
    known = f"Known: {_names()}; the names of `mmovseg models list`; or a .safetensors file."
    advice = did_you_mean(model, (*SEGMENTERS, *registry.names()), otherwise=known)
    raise ConfigError(f"Unknown model {model!r}. {advice}")


def _registered(name: str) -> tuple[Callable[..., Any], Path | None]:
    """A published checkpoint: the builder of its network, and its file."""
    found = registry.entry(name)
    if found.network not in SEGMENTERS:
        raise ConfigError(f"{name} is no whole model, but a {found.method}: {found.about}.\n{_as_part(found)}")
    path = registry.weights_file(name)  # before the import, which takes seconds
    return imported(SEGMENTERS[found.network]), path


def _as_part(found: registry.Entry) -> str:
    """Where a part belongs, indented as the second line of a message."""
    systems = [entry for entry in map(registry.entry, registry.names()) if found.name in (*entry.parts, *entry.wanted)]
    if systems:
        return f"  It comes with {' and '.join(entry.name for entry in systems)}: give --model {systems[0].name}"
    return registry.as_part(found.network or "", registry.cached(found.name) or "FILE")


def imported(target: str) -> Callable[..., Any]:
    """What `package.module:builder` names.

    Raises:
        ConfigError: there is no such builder.
    """
    module, _, name = target.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        advice = "Give package.module:builder that Python finds from here."
        raise ConfigError(f"Cannot load the model builder {target!r}: {error}. {advice}") from error
    if not callable(found):
        raise ConfigError(f"{target!r} builds no model: it is a {type(found).__name__}. Name a function or a class.")
    return found


def _names() -> str:
    return ", ".join(SEGMENTERS)
