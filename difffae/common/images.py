"""Reading and writing picture files.

Shape letters: H and W picture height and width.
Pictures are float (3,H,W) RGB in 0..1, alpha is (1,H,W) in 0..1. Every problem is an ImageError of one line that names the file.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from .decoders import open_with_plugins
from .errors import DiffFAEError, ImageError
from .files import atomic_write
from .xmp import save_options

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SRGB_ROUNDING = 3  # steps of 255 up to which a profile says the same as sRGB: several files of it round differently
MAX_PIXELS = 89_000_000  # float RGB of this size is 1 GiB; far above the 24 megapixels of a usual camera


def read_image(path: str | Path) -> tuple[Tensor, Tensor | None]:
    """Read a picture file.

    It is turned upright by its EXIF orientation and converted to sRGB if it embeds a profile that
    says another colour for its pixels; grey, palette, CMYK, 16-bit and floating-point pictures become RGB; of an animation the
    first frame is read. Colours under transparency stay as stored.

    Args:
        path: PNG, JPEG, WebP or whatever else Pillow reads; HEIC, AVIF and JPEG XL with a plugin where one is installed.

    Returns:
        RGB (3,H,W) in 0..1, and alpha (1,H,W) in 0..1 or None where the file has no transparency.

    Raises:
        ImageError: the file is missing, is no picture, is damaged or has more than MAX_PIXELS pixels.

    >>> from difffae import read_image
    >>> from difffae.common.checkpoint import asset_path
    >>> image, alpha = read_image(asset_path("source.png"))
    >>> image.shape, alpha
    (torch.Size([3, 384, 384]), None)
    """
    with opened(path) as picture:
        picture.seek(0)
        picture.load()
        return _to_tensors(_upright(picture))


def has_one_channel(path: str | Path) -> bool:
    """Whether a picture file stores brightness and no colours, whatever its depth and with or without transparency.

    Args:
        path: as for `read_image`.

    Raises:
        ImageError: as there.
    """
    with opened(path) as picture:
        return picture.mode in ("1", "L", "LA", "F") or picture.mode.startswith("I")


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """A picture file while it is read.

    Args:
        path: of the file.

    Yields:
        Pillow's picture, whose pixels are not read yet.

    Raises:
        ImageError: it cannot be opened, is too large, or turns out to be damaged within the block.
    """
    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path}: is a folder; give the path of a picture file")
    if not path.exists():
        raise ImageError(f"{path}: no such picture; check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked below, and odd metadata is no concern of the user
            with open_with_plugins(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ImageError(
                        f"{path}: {picture.width}x{picture.height} pixels are too many; scale it below {MAX_PIXELS // 1_000_000} megapixels"
                    )
                yield picture
    except DiffFAEError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not a picture that can be read; use a PNG, JPEG or WebP file") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: too many pixels; scale it below {MAX_PIXELS // 1_000_000} megapixels") from error
    except PermissionError as error:
        raise ImageError(f"{path}: may not be read; change its permissions") from error
    except Exception as error:  # decoders of damaged files raise OSError, SyntaxError, ValueError, struct.error, zlib.error ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: the picture is damaged ({reason}); save or download it again") from error


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return picture


def _to_tensors(picture: Image.Image) -> tuple[Tensor, Tensor | None]:
    if picture.mode.startswith("I") or picture.mode == "F":  # one channel of more than 8 bits
        profile = _profile(picture, "GRAY")
        values = np.asarray(picture).astype(np.float32)
        if picture.mode != "F" or values.max(initial=0) > 1:
            # 16-bit files open as "I;16" or, in older versions of Pillow, as "I"; a floating picture above 1 counts to 255
            values /= 65535.0 if picture.mode != "F" else 255.0
        values = np.nan_to_num(values).clip(0, 1)
        if profile is None:
            return torch.from_numpy(values).expand(3, -1, -1).contiguous(), None
        picture = Image.fromarray((values * 65535).round().astype(np.uint16))
        return from_picture(_converted(picture, profile)), None
    alpha = None
    if picture.has_transparency_data:
        alpha = torch.from_numpy(np.array(picture.convert("RGBA").getchannel("A"))).float().div_(255)[None]
    return from_picture(_to_srgb(picture)).contiguous(), alpha


def _to_srgb(picture: Image.Image) -> Image.Image:
    """A picture of 8 bits per channel as sRGB, without transparency. Its profile counts by what it does to colours; one that belongs to
    other pixels, or that cannot be used, changes nothing."""
    space = {"L": "GRAY", "LA": "GRAY", "1": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}.get(picture.mode, "RGB")
    profile = _profile(picture, space)
    if profile is None and space == "Lab":  # Pillow knows no other way from there
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    if space == "GRAY" and profile is None:
        profile = _profile(picture, "RGB")  # some programs leave the profile when they take the colours away
        space = "GRAY" if profile is None else "RGB"
    pixels = {"GRAY": "L", "Lab": "LAB"}.get(space, space)
    colours = picture.convert("RGBA") if picture.has_transparency_data else picture
    colours = colours if colours.mode == pixels else colours.convert(pixels)
    if profile is not None:
        return _converted(colours, profile)
    return colours if pixels == "RGB" else colours.convert("RGB")


def _profile(picture: Image.Image, space: str) -> ImageCms.ImageCmsProfile | None:
    """The embedded profile if it is one of this colour space, as the ICC names them, and says anything else than sRGB."""
    stored = picture.info.get("icc_profile")
    if not stored:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(stored))
        if profile.profile.xcolor_space.strip() != space:
            return None
        if space in ("RGB", "GRAY"):
            steps = np.linspace(0, 255, 9).round().astype(np.uint8)
            colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
            sample = Image.fromarray(colours if space == "RGB" else colours[..., 0])
            changed = np.abs(np.asarray(_converted(sample, profile), np.int16) - np.asarray(sample.convert("RGB")))
            if changed.max() <= SRGB_ROUNDING:
                return None
        return profile
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _converted(picture: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """Pixels of a profile as sRGB with 8 bits."""
    converted = ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # it is only where the picture is changed in its place
    return converted


class Embedded(Protocol):
    """What a picture file can carry beside its pixels, such as `difffae.edit.recipe.Recipe`."""

    def chunks(self) -> dict[str, str]:
        """Texts of a PNG, by name."""

    def packet(self) -> bytes:
        """An XMP packet, for every format."""


def check_writable(path: str | Path) -> Path:
    """Make sure that a picture can be written, before any long work.

    Args:
        path: the file to be.

    Returns:
        the same, as a Path.

    Raises:
        ImageError: an ending that is not known, no such folder, or no permission to write there.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ImageError(f"{path}: the ending '{path.suffix}' is not known; end the output's name in .png, .jpg or .webp")
    return check_folder(path)


def check_folder(path: Path) -> Path:
    """As `check_writable`, whatever the ending."""
    if path.is_dir():
        raise ImageError(f"{path}: is a folder; give the path of a file")
    folder = path.parent
    if not folder.is_dir():
        raise ImageError(f"{path}: there is no folder {folder}; create it first")
    try:
        # permissions alone do not tell (read-only mounts, quotas), so write a byte
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
    except OSError as error:
        raise ImageError(f"{path}: cannot write into {folder} ({error.strerror}); choose another folder") from error
    if path.exists() and not os.access(path, os.W_OK):
        raise ImageError(f"{path}: the file is write-protected; choose another name")
    return path


def write_image(
    path: str | Path,
    image: Tensor,
    alpha: Tensor | None = None,
    text: Mapping[str, str] | None = None,
    recipe: Embedded | None = None,
    one_channel: bool = False,
) -> None:
    """Write a picture as PNG, JPEG or WebP, with 8 bits per channel; the file appears whole or not at all.

    Args:
        path: its ending chooses the format.
        image: (3,H,W) or (1,3,H,W) RGB 0..1; what lies outside is clipped.
        alpha: (1,H,W) in 0..1, kept in PNG and WebP; a JPEG, which has none, is laid over white.
        text: stored in PNG only (tEXt).
        recipe: stored in every format; `edit.recipe.read_recipe` reads it back.
        one_channel: store a picture without colours as brightness alone; one with colours, and a WebP, which knows no such pictures, keep
            three channels.

    Raises:
        ImageError: more than one picture, or a file that cannot be written.

    >>> import torch
    >>> from difffae import read_image, write_image
    >>> write_image("grey.png", torch.full((3, 4, 6), 0.5))
    >>> read_image("grey.png")[0][0, 0, :2]
    tensor([0.5020, 0.5020])
    """
    path = check_writable(path)
    pixels = _to_bytes(image, alpha)
    picture = Image.fromarray(_brightness(pixels) if one_channel and _is_grey(pixels) else pixels)
    kind = FORMATS[path.suffix.lower()]
    options: dict = {}
    if kind == "JPEG":
        if picture.mode in ("RGBA", "LA"):
            white = Image.new(picture.mode.removesuffix("A"), picture.size, "white")
            white.paste(picture, mask=picture.getchannel("A"))
            picture = white
        options = {"quality": 95, "subsampling": 0}
    elif kind == "WEBP":
        options = {"quality": 95, "method": 4, "exact": True}
    chunks = {**(text or {}), **(recipe.chunks() if recipe is not None else {})}
    try:
        options |= save_options(kind, chunks, recipe.packet() if recipe is not None else None)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    try:
        with atomic_write(path) as temporary:
            picture.save(temporary, kind, **options)
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be written ({' '.join(str(error).split())}); choose another name, format or folder") from error


def to_picture(image: Tensor) -> Image.Image:
    """A picture (3,H,W) or (1,3,H,W), 0..1, as 8-bit RGB."""
    return Image.fromarray(_to_bytes(image, None))


def from_picture(picture: Image.Image) -> Tensor:
    """An 8-bit picture of C channels as (C,H,W), 0..1."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def _to_bytes(image: Tensor, alpha: Tensor | None) -> np.ndarray:
    """-> (H,W,3) or (H,W,4) uint8, rounded to nearest, so that 8-bit files come back bit for bit."""
    if image.dim() == 4:
        if image.shape[0] != 1:
            raise ImageError(f"a batch of {image.shape[0]} pictures cannot go into one file; write them one by one")
        image = image[0]
    channels = image if alpha is None else torch.cat([image, alpha.to(image).reshape(1, *image.shape[-2:])])
    return channels.detach().cpu().float().mul(255).round_().clamp_(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def _is_grey(pixels: np.ndarray) -> bool:
    """Whether pixels (H,W,3 or 4) uint8 have no colours; grey that was mixed with transparency may be rounded in one channel."""
    colours = pixels[..., :3]
    return bool((colours.max(-1) - colours.min(-1)).max(initial=0) <= 1)


def _brightness(pixels: np.ndarray) -> np.ndarray:
    """Grey pixels (H,W,3 or 4) uint8 as brightness (H,W), or with alpha (H,W,2): the middle one of the three channels."""
    grey = np.sort(pixels[..., :3], -1)[..., 1]
    return grey if pixels.shape[-1] == 3 else np.stack([grey, pixels[..., 3]], -1)
