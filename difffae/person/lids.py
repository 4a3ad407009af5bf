"""Eyes that close: lids, lashes and creases that an open eye does not show.

Shape letters: B batch, V vertices, N landmarks, P points of a lid's edge, W columns of a curve or
width of a picture, H its height, h and w sides of the look.

An eye closes by stretching the narrow strip of skin above it, which has neither the lashes nor the
shading of a lid. So the look of a closed eye is laid over it: the logarithm of its brightness over
that of the skin around it, in a frame that runs from corner to corner along the edge of the upper
lid. It is the look of a single eye (scripts/build_lids.py took it from a synthetic portrait), as a mean of
several has no hairs and no lines; its lashes are the darker the darker the person's own are. The
lid comes out from under the person's own fold, which stays: above it all pixels are the
photograph's. How bright the skin is, its colour and its grain are the person's own (`skin_tone`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.checkpoint import asset_path, load_checkpoint
from ..common.pixels import dilate, erode, gaussian_blur, luma_of, odd, pull_push, sampled
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from .skin_tone import LID_FLOOR, coloured, grain, skin_light

KIND = "lids"
# the frame of the look, in widths of the eye: from the outer corner (0) to the inner one (1), and
# from above the lid's edge (negative) to below
ALONG, ACROSS = (-0.3, 1.3), (-0.46, 0.34)


@dataclass(frozen=True)
class Eye:
    """Landmarks of an eye from its outer to its inner corner, on the upper and the lower lid."""

    blink: str
    upper: tuple[int, ...]
    lower: tuple[int, ...]


EYES = (
    Eye("eyeBlinkRight", (33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    Eye("eyeBlinkLeft", (263, 466, 388, 387, 386, 385, 384, 398, 362), (263, 249, 390, 373, 374, 380, 381, 382, 362)),
)
SIDES = ("Right", "Left")  # the subject's, in the order of EYES
SHOWN_CLOSED, SHOWN_OPEN = 0.6, 0.45  # a source's coefficient from which, and up to which, its own lid, or none, shows
# the lid that is laid
LASHES = 0.11  # how far lashes reach below the edge
OWN_LASHES = (0.05, 0.10)  # the person's own lashes on the edge of a lid that is not closed: above them lies the lid
OWN_LINE, OWN_DARK = (-0.01, 0.035), 0.5  # and the line that they make: its middle and its width, and the logarithm of its darkness
FADES = (-0.02, 0.10)  # over the fold, where a lid goes over into the person's own skin
LOOK_FOLD, RIGID, LEAST_HEIGHT = 0.30, 0.06, 0.16  # how high a look's fold is, and what below it is not stretched; the lowest fold
# what of a look is lashes: what is darker (a logarithm) than shades are, and lies so far above and below the edge
DARKEST_SHADE, LASHES_UP, LASHES_DOWN = 0.35, 0.1, 0.3
# where an open eye's lashes are, on the lid's outer half, and its skin; how much darker (a logarithm) plain lashes are and made-up ones,
# and how much of the look's lashes these get
OWN_ALONG, OWN_ACROSS, OWN_SKIN, OWN_LASHES_DARK, LASHES_SHARE = (-0.05, 0.5), (-0.09, 0.03), (0.5, 0.8), (0.7, 1.4), (1.0, 1.4)
# lashes of the open eye that stick out beyond its outer corner: where they lie, how thick they may be, and how much darker than skin
STRANDS_ALONG, STRANDS_ACROSS, STRANDS_THICK, STRANDS_DARK = (-0.4, 1.1), (-0.12, 0.1), 0.34, (0.1, 0.3)
REACH, COLUMNS = 0.8, 96  # of curves: how far to both sides of the eye's middle, and in how many columns
AROUND = 1.3  # in widths of the eye from its middle: skin that belongs to it


@dataclass(frozen=True, eq=False)
class LidFrame:
    """Coordinates along and across the edge of upper lids, in pictures.

    Attributes:
        corner: (B,2) the outer corner.
        along: (B,2) from there to the inner corner.
        across: (B,2) at right angles to it, downwards, as long as the eye is wide if seen from the front.
        edge: (B,P,2) the edge's points in these coordinates, in the order of the first.
    """

    corner: Tensor
    along: Tensor
    across: Tensor
    edge: Tensor

    @classmethod
    def of(cls, landmarks: Tensor, eye: Eye) -> LidFrame:
        """Of landmarks (B,N,3), x right and y down in pixels, z in the same unit."""
        upper, lower = landmarks[:, list(eye.upper)], landmarks[:, list(eye.lower)]
        corner, along = upper[:, 0, :2], upper[:, -1, :2] - upper[:, 0, :2]
        width = (upper[:, -1] - upper[:, 0]).norm(dim=-1, keepdim=True)
        across = F.normalize(torch.stack([-along[:, 1], along[:, 0]], -1), dim=-1) * width
        # the eye on the other side of the face runs the other way
        across = across * torch.where((across * (landmarks[:, 152, :2] - landmarks[:, 10, :2])).sum(-1, keepdim=True) < 0, -1.0, 1.0)
        frame = cls(corner, along, across, upper[..., :2])
        up, low = frame._straight(upper[..., :2]), frame._straight(lower[..., :2])
        middle, half = (up[..., 1] + low[..., 1]) / 2, (low[..., 1] - up[..., 1]).clamp_min(0) / 2
        edge = torch.stack([up[..., 0].contiguous().sort(-1).values, middle - half], -1)
        return cls(corner, along, across, edge)

    def _straight(self, places: Tensor) -> Tensor:
        """Places (B,...,2) by straight coordinates along and across."""
        away = places - self.corner.view(-1, *[1] * (places.dim() - 2), 2)
        axes = torch.stack(
            [self.along / self.along.square().sum(-1, keepdim=True), self.across / self.across.square().sum(-1, keepdim=True)], -1
        )
        return torch.einsum("b...i,bij->b...j", away, axes)

    def _edge_at(self, along: Tensor) -> Tensor:
        """How far across the edge lies at places (B,M) along."""
        x, y = (values.contiguous() for values in self.edge.unbind(-1))
        right = torch.searchsorted(x, along.contiguous()).clamp(1, x.shape[-1] - 1)
        x0, x1, y0, y1 = x.gather(1, right - 1), x.gather(1, right), y.gather(1, right - 1), y.gather(1, right)
        return torch.lerp(y0, y1, ((along - x0) / (x1 - x0).clamp_min(1e-5)).clamp(0, 1))

    def coordinates(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Along and across, from the edge, of places (B,H,W,2): each (B,H,W)."""
        along, across = self._straight(places).unbind(-1)
        return along, across - self._edge_at(along.flatten(1)).view_as(across)

    def places(self, across: Tensor, along: Tensor) -> Tensor:
        """Places (B,h,w,2) of a grid of coordinates (h,) across, from the edge, and (w,) along."""
        down = across[None, :, None] + self._edge_at(along[None].expand(len(self.edge), -1))[:, None]
        right = along[None, None].expand_as(down)
        return self.corner[:, None, None] + right[..., None] * self.along[:, None, None] + down[..., None] * self.across[:, None, None]


@dataclass(frozen=True, eq=False)
class EyeFrame:
    """The frames of one eye in some pictures.

    Attributes:
        middle: (B,2) in pixels.
        along: (B,2) as long as the eye is wide in the picture.
        across: (B,2) as long as it is wide if seen from the front.
    """

    middle: Tensor
    along: Tensor
    across: Tensor

    @classmethod
    def of(cls, landmarks: Tensor, side: int) -> EyeFrame:
        """Of landmarks (B,N,3), x right and y down in pixels, z in the same unit."""
        ends = (EYES[side].upper[0], EYES[side].upper[-1])
        right, left = (landmarks[:, end] for end in (ends if side == 0 else ends[::-1]))
        along = (left - right)[:, :2]
        down = F.normalize(torch.stack([-along[:, 1], along[:, 0]], -1), dim=-1)
        return cls((left + right)[:, :2] / 2, along, down * (left - right).norm(dim=-1, keepdim=True))

    def coordinates(self, places: Tensor) -> Tensor:
        """Places (B,...,2) in pixels as along and across."""
        away = places - self.middle.view(-1, *[1] * (places.dim() - 2), 2)
        axes = [axis / axis.square().sum(-1, keepdim=True) for axis in (self.along, self.across)]
        return torch.einsum("b...i,bij->b...j", away, torch.stack(axes, -1))

    def places(self, along: Tensor, across: Tensor) -> Tensor:
        """Pixels (B,h,w,2) of coordinates (B,h,w)."""
        middle, x, y = (vector[:, None, None] for vector in (self.middle, self.along, self.across))
        return middle + along[..., None] * x + across[..., None] * y

    def lid_frame(self, edge: Tensor, side: int) -> LidFrame:
        """That of a closed lid whose edge is a curve (B,W)."""
        sign = 1 - 2 * side
        x = columns(edge)
        outwards = (x + 0.5 if side == 0 else (0.5 - x).flip(-1)).expand_as(edge)
        points = torch.stack([outwards, edge if side == 0 else edge.flip(-1)], -1)
        return LidFrame(self.middle - 0.5 * sign * self.along, sign * self.along, self.across, points)


def columns(like: Tensor) -> Tensor:
    """(W,) where curves have their values, along."""
    return torch.linspace(-REACH, REACH, COLUMNS, device=like.device, dtype=like.dtype)


def curve_through(points: Tensor) -> Tensor:
    """(B,W) through points (B,P,2) of coordinates, level beyond the outermost."""
    order = points[..., 0].argsort(-1)
    x, y = points[..., 0].gather(1, order), points[..., 1].gather(1, order)
    at = columns(points).expand(len(points), -1).contiguous()
    right = torch.searchsorted(x.contiguous(), at).clamp(1, x.shape[-1] - 1)
    x0, x1, y0, y1 = x.gather(1, right - 1), x.gather(1, right), y.gather(1, right - 1), y.gather(1, right)
    curve = torch.lerp(y0, y1, ((at - x0) / (x1 - x0).clamp_min(1e-4)).clamp(0, 1))
    taps = torch.exp(-0.5 * (torch.arange(-4, 5, device=at.device, dtype=at.dtype) / 1.7) ** 2)
    return F.conv1d(F.pad(curve[:, None], (4, 4), mode="replicate"), (taps / taps.sum())[None, None])[:, 0]


def curve_at(curve: Tensor, along: Tensor) -> Tensor:
    """Values of a curve (B,W) at (B,h,w) along."""
    place = ((along + REACH) * ((COLUMNS - 1) / (2 * REACH))).clamp(0, COLUMNS - 1 - 1e-3).flatten(1)
    left = place.floor().long()
    return torch.lerp(curve.gather(1, left), curve.gather(1, left + 1), place - left).view_as(along)


def closed_look(head: HeadModel, face: FaceAttributes, image: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """What closing the eyes of photographs needs.

    Args:
        head: the head model.
        face: B faces of the photographs.
        image: (B,3,H,W) RGB 0..1.
        landmarks: (B,N,3) in its pixels.

    Returns:
        the look (B,1,h,w), and how far the photographs show the eyes open (B,2), 0..1.
    """
    look = load_checkpoint(asset_path("lids.safetensors"), KIND).tensors["look"].to(face.expression)
    blink = face.expression[:, [head.expression_names.index(eye.blink) for eye in EYES]]
    dark = torch.stack([_own_lashes(image, landmarks, side) for side in range(2)]).mean(0)
    (plain, painted), (low, high) = OWN_LASHES_DARK, LASHES_SHARE
    share = low + (high - low) * ((dark - plain) / (painted - plain)).clamp(0, 1)
    lashes = lash_part(look, -torch.linspace(*ACROSS, look.shape[1], device=look.device)[:, None])
    return look + (share[:, None, None, None] - 1) * lashes, 1 - ((blink - SHOWN_OPEN) / (SHOWN_CLOSED - SHOWN_OPEN)).clamp(0, 1)


def _own_lashes(image: Tensor, landmarks: Tensor, side: int) -> Tensor:
    """The logarithm (B,) of how much darker than skin the lashes of an open eye are."""
    frame = LidFrame.of(landmarks, EYES[side])

    def part(across: tuple[float, float], along: tuple[float, float]) -> Tensor:
        line = [torch.linspace(*bounds, 12, device=image.device, dtype=image.dtype) for bounds in (across, along)]
        return luma_of(sampled(image, frame.places(*line), "bilinear")) + LID_FLOOR

    skin = part(OWN_SKIN, (0.1, 0.9)).mean((1, 2, 3), keepdim=True)
    return (skin / part(OWN_ACROSS, OWN_ALONG)).log().mean((1, 2, 3))


def skin_around(head: HeadModel) -> Tensor:
    """(1,V,2) how far vertices belong to each eye."""
    points = head.landmarks(head.template[None])[0]
    around = []
    for eye in EYES:
        outer, inner = points[eye.upper[0]], points[eye.upper[-1]]
        width = (outer - inner).norm()
        distance = (head.template - (outer + inner) / 2).norm(dim=-1) / width
        # the ridge of the nose may hide the eye behind it
        sideways = (head.template[:, 0] / inner[0] - 0.35) / 0.3
        around.append(((AROUND - distance) / 0.3).clamp(0, 1) * sideways.clamp(0, 1))
    return torch.stack(around, -1)[None]


def lowered_lid(
    image: Tensor,
    known: Tensor,
    coordinates: tuple[Tensor, Tensor],
    amounts: tuple[float, float],
    height: Tensor,
    look: Tensor,
    frame: LidFrame,
) -> tuple[Tensor, Tensor]:
    """Lay a lid over an eye that closes.

    Args:
        image: (1,3,H,W) the picture around the eye.
        known: (1,1,H,W) where it shows skin that belongs to the eye.
        coordinates: along and across of its pixels.
        amounts: 0..1, how far the skin of the lid shows, and how far the lashes of a closed one do.
        height: (1,H,W) of the fold over the lid's edge, in widths of the eye.
        look: (1,1,h,w) of a closed eye.
        frame: of the eye.

    Returns:
        the picture, and the share of the lid in it (1,1,H,W).
    """
    along, across = coordinates
    width = float(frame.across.norm())
    image, bare = _without_strands(image, known, coordinates, amounts[0], height, width)
    up = _level_on_look(-across, height)
    dark = F.grid_sample(look, torch.stack([_unit(along, ALONG), _unit(-up, ACROSS)], -1), padding_mode="border", align_corners=True)
    lashes = lash_part(dark, up[:, None]) * _tapers(along)[:, None]
    light = skin_light(image, known, coordinates, height, width) * (dark - lashes).exp() * grain(image, frame.across)
    made = coloured(image, known, coordinates, height, width, light)
    # the edge of a lid that is not closed
    line = torch.exp(-(((across - OWN_LINE[0]) / OWN_LINE[1]) ** 2)) * (1 - (2 * along - 1).square()).clamp_min(0).sqrt()
    line = (OWN_DARK * amounts[0] * (1 - amounts[1]) * line)[:, None] * known
    image = (image - (image + LID_FLOOR) * (1 - (-line).exp())).clamp_min(0)
    low, high = OWN_LASHES
    amount = torch.lerp(
        torch.full_like(across, amounts[1]), torch.full_like(across, amounts[0]), ((-across - low) / (high - low)).clamp(0, 1)
    )
    share = gaussian_blur((_place(along, across, height) * amount)[:, None] * known, 0.015 * width + 0.3)
    image, drawn = torch.lerp(image, made, share), 1 - (lashes * amounts[1] * known).exp()
    return (image - (image + LID_FLOOR) * drawn).clamp_min(0), share.maximum(bare).maximum((2 * drawn).clamp_max(1))


def _level_on_look(up: Tensor, height: Tensor) -> Tensor:
    """Where above a look's edge lies what is `up` above that of a lid whose fold is at a height."""
    height = height.clamp_min(LEAST_HEIGHT)
    lid = RIGID + (up - RIGID) * ((LOOK_FOLD - RIGID) / (height - RIGID))
    return torch.where(up < RIGID, up, torch.where(up < height, lid, LOOK_FOLD + up - height))


def _tapers(along: Tensor) -> Tensor:
    """How much of a look's lashes is drawn (B,H,W): at the inner corner they thin out."""
    return ((along - ALONG[0]) / 0.1).clamp(0, 1) * ((1.1 - along) / 0.3).clamp(0, 1)


def lash_part(dark: Tensor, up: Tensor) -> Tensor:
    """What of the logarithms of a look, so far above its edge, is lashes: 0 or less."""
    return (dark + DARKEST_SHADE).clamp_max(0) * ((up < LASHES_UP) & (up > -LASHES_DOWN))


def _place(along: Tensor, across: Tensor, height: Tensor) -> Tensor:
    """The lid with its lashes (B,H,W), 0..1, by coordinates."""
    above, below = ((height + FADES[1] + across) / (FADES[1] - FADES[0])).clamp(0, 1), ((LASHES - across) / 0.06).clamp(0, 1)
    return above * below * ((0.58 - (along - 0.5).abs()) / 0.10).clamp(0, 1)


def _without_strands(
    image: Tensor, known: Tensor, coordinates: tuple[Tensor, Tensor], amount: float, height: Tensor, width: float
) -> tuple[Tensor, Tensor]:
    """A picture without the lashes and the corner of the open eye, and the share of what is new in it."""
    (left, right), (top, bottom) = STRANDS_ALONG, STRANDS_ACROSS
    along, across = coordinates
    place = ((along - left) / 0.1).clamp(0, 1) * ((right - along) / 0.1).clamp(0, 1)
    place = place * ((across + height - top) / 0.08).clamp(0, 1) * ((bottom - across) / 0.06).clamp(0, 1)
    place = place[:, None] * known
    size = odd(STRANDS_THICK * width)
    closed = gaussian_blur(erode(dilate(image, size), size), 0.02 * width + 0.3)
    darker = ((closed + LID_FLOOR) / (image + LID_FLOOR)).log().mean(1, keepdim=True)
    low, high = STRANDS_DARK
    strands = dilate(((darker - low) / (high - low)).clamp(0, 1), odd(0.06 * width)) * place
    skin = pull_push(image, (1 - strands) * known * (across > top - height)[:, None])
    share = gaussian_blur(strands, 0.02 * width + 0.3) * amount
    return torch.lerp(image, skin, share), share


def _unit(values: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Values between bounds as -1..1."""
    return (values - bounds[0]) * (2 / (bounds[1] - bounds[0])) - 1
