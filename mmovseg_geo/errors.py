"""Every way it can go wrong. A message says what was found, what was expected and what to do."""

from __future__ import annotations


class MmovsegError(Exception):
    """Base of all errors a user can meet; the command line prints it without a traceback."""


class ConfigError(MmovsegError):
    """A setting that does not fit."""


class VocabularyError(MmovsegError):
    """No classes, duplicates, or a name that cannot be used."""


class SceneError(MmovsegError):
    """Inputs that cannot become one scene."""


class MissingCRS(SceneError):
    """A raster without a coordinate reference system where one is needed."""


class NoOverlap(SceneError):
    """Optical and SAR cover different places."""


class MissingBand(SceneError):
    """A band that was asked for, or is needed, is not there."""


class RegistrationFailed(SceneError):
    """The shift between SAR and optical could not be estimated."""


class WeightsError(MmovsegError):
    """Weights that are missing, altered, or made for another network."""


class OutputError(MmovsegError):
    """An output exists already, has an unknown suffix, or cannot be written."""
