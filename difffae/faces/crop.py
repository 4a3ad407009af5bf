"""Square crop around a face and its exact inverse, with feathered paste-back (paper section 5.1 for the framing).

Shape letters: B batch, H and W picture height and width, S crop size (256).
Pixel coordinates: x right, y down, pixel centres at +0.5. Crops are aligned to whole pixels of the picture, so that a crop whose
side equals its size is a plain copy, and resampling has one well-defined grid in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.errors import ConfigError
from ..vocabulary import FEATHER

# Of the face mesh: top and bottom, left and right of the face oval
OVAL_TOP, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT = 10, 152, 234, 454
HEIGHT_PER_WIDTH = 1.25  # of a frontal face oval
SIDE_PER_HEIGHT = 1.9  # hair and shoulders come in
CENTRE_AT = 0.52  # height of the oval's centre in the crop
DETAIL_TOLERANCE = 0.02  # an edit that changes the structure by this much (RMS, 0..1) no longer takes the photograph's fine detail


@dataclass(frozen=True)
class FaceCrop:
    """A square of a picture.

    left, top      of the square in whole picture pixels; negative where it leaves the picture
    side           of the square in whole picture pixels
    height, width  of the picture
    size           side of the crop in its own pixels

    >>> import torch
    >>> from difffae.faces.crop import FaceCrop
    >>> crop = FaceCrop(left=100, top=50, side=128, height=480, width=640, size=256)
    >>> crop.to_crop(torch.tensor([[164.0, 114.0]]))
    tensor([[128., 128.]])
    """

    left: int
    top: int
    side: int
    height: int
    width: int
    size: int = 256

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in picture pixels."""
        return self.left + self.side / 2, self.top + self.side / 2

    def to_crop(self, points: Tensor) -> Tensor:
        """(...,2 or 3) picture pixels -> crop pixels; a third coordinate (depth in pixels) is only scaled."""
        return (points - self._offset(points)) * (self.size / self.side)

    def to_picture(self, points: Tensor) -> Tensor:
        """(...,2 or 3) crop pixels -> picture pixels, the inverse of `to_crop`."""
        return points * (self.side / self.size) + self._offset(points)

    def flipped(self) -> FaceCrop:
        """The crop of the horizontally flipped picture that shows the flipped content."""
        return FaceCrop(self.width - self.left - self.side, self.top, self.side, self.height, self.width, self.size)

    def _offset(self, points: Tensor) -> Tensor:
        return torch.tensor([self.left, self.top, 0][: points.shape[-1]], dtype=points.dtype, device=points.device)


def crop_square(landmarks: Tensor, shape: Sequence[int], size: int = 256) -> FaceCrop:
    """The square around a face.

    Its side is 1.9 s with s = ((h^8 + (1.25 w)^8) / 2)^(1/8), where h and w are the height and width of the
    face oval in the image plane: a smooth maximum, since yaw shortens w and pitch shortens h (the other one
    then rules, at 92 %). The middle of the oval lies at 52 % of the crop's height; the crop is never turned.

    Args:
        landmarks: (478,2 or more) in pixels of the picture.
        shape: its (height, width).
        size: side of the crop in its own pixels.

    Raises:
        ConfigError: points that are not finite.
    """
    height, width = shape
    points = landmarks[[OVAL_TOP, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT], :2].detach().double().cpu()
    if not bool(torch.isfinite(points).all()):
        raise ConfigError("crop: the face's landmarks are not finite numbers; detect the face again")
    top, bottom, left, right = points
    high = float((top - bottom).norm())
    wide = HEIGHT_PER_WIDTH * float((left - right).norm())
    largest = max(high, wide, 1e-6)
    scale = largest * (((high / largest) ** 8 + (wide / largest) ** 8) / 2) ** (1 / 8)
    side = max(8, 2 * round(SIDE_PER_HEIGHT * scale / 2))  # even, as pyramids need it
    x, y = points.mean(0).tolist()
    return FaceCrop(round(x - side / 2), round(y - CENTRE_AT * side), side, height, width, size)


def _each(crops: FaceCrop | Sequence[FaceCrop], batch: int) -> list[FaceCrop]:
    items = [crops] * batch if isinstance(crops, FaceCrop) else list(crops)
    if len(items) != batch:
        raise ConfigError(f"crop: {len(items)} crops for {batch} pictures; give one, or one each")
    return items


def _check(images: Tensor, crop: FaceCrop) -> None:
    if tuple(images.shape[-2:]) != (crop.height, crop.width):
        got = f"{images.shape[-1]}x{images.shape[-2]}"
        raise ConfigError(f"crop: made for a {crop.width}x{crop.height} picture, but this one is {got}; use the picture it was made from")


def _resize(image: Tensor, size: int, mode: str = "bicubic") -> Tensor:
    """(B,C,h,w) -> (B,C,size,size), anti-aliased; a picture of that size is returned as it is."""
    if tuple(image.shape[-2:]) == (size, size):
        return image
    return F.interpolate(image, (size, size), mode=mode, antialias=True, align_corners=False)


def extract(image: Tensor, crops: FaceCrop | Sequence[FaceCrop]) -> tuple[Tensor, Tensor]:
    """Cut out the face.

    Args:
        image: (B,3,H,W) or (3,H,W).
        crops: one for all pictures, or one per picture, all of one size.

    Returns:
        crop (B,3,S,S) and known (B,1,S,S). Outside the picture its border pixels are repeated and known
        is 0; inside known is 1, with anti-aliased values where the border falls within a crop pixel.

    Raises:
        ConfigError: pictures of another size or number than the crops.

    >>> import torch
    >>> from difffae.faces.crop import FaceCrop, extract
    >>> crop = FaceCrop(left=-16, top=0, side=64, height=64, width=64, size=64)
    >>> square, known = extract(torch.rand(3, 64, 64), crop)
    >>> square.shape, known[0, 0, 0, 14:18]
    (torch.Size([1, 3, 64, 64]), tensor([0., 0., 1., 1.]))
    """
    image = image[None] if image.dim() == 3 else image
    pictures, known = [], []
    for row, crop in zip(image, _each(crops, len(image)), strict=True):
        _check(row, crop)
        xs = torch.arange(crop.left, crop.left + crop.side, device=row.device)
        ys = torch.arange(crop.top, crop.top + crop.side, device=row.device)
        if crop.left >= 0 and crop.top >= 0 and crop.left + crop.side <= crop.width and crop.top + crop.side <= crop.height:
            square = row[:, crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
        else:
            square = row[:, ys.clamp(0, crop.height - 1)][:, :, xs.clamp(0, crop.width - 1)]
        inside = ((ys >= 0) & (ys < crop.height))[:, None] & ((xs >= 0) & (xs < crop.width))[None]
        pictures.append(_resize(square[None], crop.size).clamp(0, 1))
        known.append(_resize(inside.to(row.dtype)[None, None], crop.size, "bilinear").clamp(0, 1))
    return torch.cat(pictures), torch.cat(known)


def put_square(picture: Tensor, square: Tensor, crop: FaceCrop) -> Tensor:
    """A picture (B,C,H,W) with a square (B,C,side,side) of its own pixels put in its place, as far as that lies in the picture."""
    x0, x1 = max(crop.left, 0), min(crop.left + crop.side, crop.width)
    y0, y1 = max(crop.top, 0), min(crop.top + crop.side, crop.height)
    result = picture.clone()
    if x0 < x1 and y0 < y1:
        result[..., y0:y1, x0:x1] = square[..., y0 - crop.top : y1 - crop.top, x0 - crop.left : x1 - crop.left]
    return result


def _window(radius: int, like: Tensor) -> Tensor:
    """Hann window of 2 radius + 1 taps that sums to 1."""
    t = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype) / (radius + 1)
    window = 0.5 + 0.5 * torch.cos(torch.pi * t)
    return window / window.sum()


def _blur(x: Tensor, radius: int) -> Tensor:
    """Separable blur of (B,C,h,w) with repeated borders."""
    return _blur_valid(F.pad(x, (radius,) * 4, mode="replicate"), radius)


def _blur_valid(x: Tensor, radius: int) -> Tensor:
    """Separable blur of (B,C,h,w); `radius` pixels are lost on every side."""
    channels = x.shape[1]
    window = _window(radius, x)
    x = F.conv2d(x, window[None, None, :, None].expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, window[None, None, None, :].expand(channels, 1, 1, -1), groups=channels)


def inner_feather(support: Tensor, radius: int, crop: FaceCrop) -> Tensor:
    """A weight that rises from the edge of a support inwards.

    The crop's own border counts as an edge, except on sides where the crop reaches the picture's frame:
    there is no seam there.

    Args:
        support: (B,1,S,S), 0 or 1.
        radius: crop pixels within which the weight rises to 1.
        crop: the place of the square.

    Returns:
        (B,1,S,S), 0 outside the support.
    """
    radius = max(1, radius)
    padded = F.pad(support, (radius,) * 4, mode="replicate")
    if crop.left > 0:
        padded[..., :radius] = 0
    if crop.top > 0:
        padded[..., :radius, :] = 0
    if crop.left + crop.side < crop.width:
        padded[..., -radius:] = 0
    if crop.top + crop.side < crop.height:
        padded[..., -radius:, :] = 0
    t = (2 * _blur_valid(padded, radius) - 1).clamp(0, 1)
    return t * t * (3 - 2 * t)


def paste(
    original: Tensor,
    edited: Tensor,
    original_crop: Tensor,
    crops: FaceCrop | Sequence[FaceCrop],
    mask: Tensor | None = None,
    feather: float = FEATHER,
    detail: Sequence[Tensor | None] | None = None,
    own_share: Tensor | None = None,
) -> Tensor:
    """Put an edited crop back into its picture.

    What is pasted is the difference edited - original_crop, so an unchanged crop gives back the picture bit for bit, and pixels
    outside the crop are never touched. At the border the difference is blended in two bands (Burt and Adelson, "A multiresolution
    spline", 1983): its fine part over `feather`, its coarse part (colour and brightness) over three times that, so that a
    different tint of the edit ends softly. Where the photograph is larger than the crop, its fine detail, which the crop
    cannot hold, stays wherever the edit left the structure alone; where the edit moved something, that detail goes, and `detail` comes.

    Args:
        original: (B,3,H,W) or (3,H,W), the picture; one picture serves many edits.
        edited: (B,3,S,S).
        original_crop: (B,3,S,S), what `extract` returned.
        crops: one for all, or one each.
        mask: (B,1,S,S), 1 where the edit counts; None is everywhere.
        feather: width of the blended border as a fraction of the crop's side.
        detail: per edit (3,side,side) or None, fine detail for a picture larger than the crop
            (compositing.moved_detail).
        own_share: (B,1,S,S), 0 where the crop shows something else than the picture, whose detail goes there
            even where the structure looks alike.

    Returns:
        (B,3,H,W), a new tensor.

    Raises:
        ConfigError: pictures of another size or number than the crops.

    >>> import torch
    >>> from difffae.faces.crop import FaceCrop, extract, paste
    >>> picture = torch.rand(3, 96, 128)
    >>> crop = FaceCrop(left=20, top=10, side=64, height=96, width=128, size=64)
    >>> square, _ = extract(picture, crop)
    >>> torch.equal(paste(picture, square, square, crop)[0], picture)
    True
    """
    original = original[None] if original.dim() == 3 else original
    batch = max(len(original), len(edited))
    result = original.expand(batch, -1, -1, -1).clone()
    for index, crop in enumerate(_each(crops, batch)):
        _check(original, crop)
        x0, x1 = max(crop.left, 0), min(crop.left + crop.side, crop.width)
        y0, y1 = max(crop.top, 0), min(crop.top + crop.side, crop.height)
        if x0 >= x1 or y0 >= y1:
            continue
        before = original_crop[index % len(original_crop)][None].to(result)
        difference = edited[index % len(edited)][None].to(result) - before
        radius = max(1, round(feather * crop.size))
        coarse = _blur(difference, radius)
        fine = difference - coarse
        support = torch.ones_like(difference[:, :1]) if mask is None else (mask[index % len(mask)][None].to(result) > 1e-3).to(result)
        weight = torch.ones_like(support) if mask is None else mask[index % len(mask)][None].to(result)
        narrow = inner_feather(support, radius, crop) * weight
        wide = inner_feather(support, 3 * radius, crop) * weight
        here = (slice(None), slice(None), slice(y0 - crop.top, y1 - crop.top), slice(x0 - crop.left, x1 - crop.left))
        change = _resize(narrow * fine + wide * coarse, crop.side)[here]
        picture = result[index : index + 1, :, y0:y1, x0:x1]
        lost = torch.zeros_like(narrow)  # share of the photograph's own detail that goes
        if crop.side != crop.size:  # an enlarged crop does not hold a photograph's finest detail either
            activity = _blur(fine.square().mean(1, keepdim=True), max(1, crop.size // 64)).clamp_min(0)
            lost = narrow * (1 - torch.exp(-activity / DETAIL_TOLERANCE**2))
        if own_share is not None:
            lost = lost.maximum(narrow * (1 - own_share[index % len(own_share)][None].to(result)))
        if own_share is not None or crop.side != crop.size:
            own = picture - _resize(before, crop.side)[here]
            new = None if detail is None else detail[index]
            replaced = own if new is None else own - new.to(own)[None][here]
            change = change - _resize(lost, crop.side, "bilinear")[here] * replaced
        result[index : index + 1, :, y0:y1, x0:x1] = (picture + change).clamp(0, 1)
    return result
