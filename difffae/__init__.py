"""DiffFAE: one-shot facial appearance editing. Importing the package is instant; its names load what they need when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .common.errors import DiffFAEError as DiffFAEError
    from .edit.editor import DiffFAE as DiffFAE
    from .head.adjust import Adjustments as Adjustments
    from .head.attributes import FaceAttributes as FaceAttributes
    from .head.attributes import compose as compose

__version__ = "0.1.0"
_HOMES = {
    "Adjustments": "head.adjust",
    "DiffFAE": "edit.editor",
    "DiffFAEError": "common.errors",
    "FaceAttributes": "head.attributes",
    "compose": "head.attributes",
}
__all__ = ["Adjustments", "DiffFAE", "DiffFAEError", "FaceAttributes", "__version__", "compose"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'difffae' has no attribute '{name}'")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
