"""DiffFAE: one-shot facial appearance editing. Importing the package is instant; its names load what they need when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .common.errors import DiffFAEError as DiffFAEError
    from .common.images import read_image as read_image
    from .common.images import write_image as write_image
    from .edit.description import Edit as Edit
    from .edit.description import Faces as Faces
    from .edit.description import Portrait as Portrait
    from .edit.description import RegionSwap as RegionSwap
    from .edit.description import Sampling as Sampling
    from .edit.editor import DiffFAE as DiffFAE
    from .edit.result import EditResult as EditResult
    from .head.adjust import Adjustments as Adjustments
    from .head.attributes import FaceAttributes as FaceAttributes
    from .head.attributes import compose as compose

__version__ = "0.2.0"
_HOMES = {
    "common.errors": ("DiffFAEError",),
    "common.images": ("read_image", "write_image"),
    "edit.description": ("Edit", "Faces", "Portrait", "RegionSwap", "Sampling"),
    "edit.editor": ("DiffFAE", "EditResult"),
    "head.adjust": ("Adjustments",),
    "head.attributes": ("FaceAttributes", "compose"),
}
__all__ = [
    "Adjustments",
    "DiffFAE",
    "DiffFAEError",
    "Edit",
    "EditResult",
    "FaceAttributes",
    "Faces",
    "Portrait",
    "RegionSwap",
    "Sampling",
    "__version__",
    "compose",
    "read_image",
    "write_image",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module 'difffae' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
