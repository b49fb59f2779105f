"""OpenAI's byte pair tokens of words, by open_clip's tokenizer alone: all of open_clip takes seconds to import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any

from torch import Tensor

CONTEXT = 77
"""Longest text in tokens of OpenAI's towers, with the two that begin and end it."""
_NAME = "open_clip.tokenizer"


def tokenize(texts: Sequence[str], context: int = CONTEXT) -> Tensor:
    """Token ids (T, context), zero padded; a text that is longer is cut, and still ends with the end token."""
    ids: Tensor = _tokenizer().tokenize(list(texts), context_length=context)
    return ids


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    """open_clip's module, run from its file; by its package only where that file cannot be found by itself.

    Importing it by name would import the package first, and with it torchvision, timm and every network of open_clip.
    """
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = find_spec("open_clip")
    spec = PathFinder.find_spec(_NAME, package.submodule_search_locations) if package else None
    if spec is None or spec.loader is None:
        return import_module(_NAME)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
