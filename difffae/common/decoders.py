"""Picture formats that Pillow reads only with a plugin, or only in later versions."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from .errors import ImageError

HEAD = 32  # bytes that tell the format


@dataclass(frozen=True)
class Plugin:
    """What reads one format. Some modules register themselves when they are imported, others by a function."""

    format: str
    package: str
    module: str
    register: str = ""


HEIC = Plugin("HEIC", "pillow-heif", "pillow_heif", "register_heif_opener")
AVIF = Plugin("AVIF", "pillow-avif-plugin", "pillow_avif")
JPEG_XL = Plugin("JPEG XL", "pillow-jxl-plugin", "pillow_jxl")
BRANDS = {b"avif": AVIF, b"avis": AVIF} | dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), HEIC)
JPEG_XL_STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")


def plugin_for(head: bytes) -> Plugin | None:
    """What reads a file that begins so; None for all others."""
    if head.startswith(JPEG_XL_STARTS):
        return JPEG_XL
    return BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None


def open_with_plugins(path: Path) -> Image.Image:
    """As Pillow's `open`, with the plugin that the file needs, where that is installed.

    Raises:
        ImageError: it is not installed. Others as Pillow's `open`.
    """
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        with open(path, "rb") as file:
            plugin = plugin_for(file.read(HEAD))
        if plugin is None:
            raise
    try:
        module = import_module(plugin.module)
    except ImportError as error:
        raise ImageError(
            f"{path}: is a picture in {plugin.format}, which needs another package; run `pip install {plugin.package}`, or save it as PNG"
        ) from error
    if plugin.register:
        getattr(module, plugin.register)()
    return Image.open(path)
