"""Eyes that close: lids, lashes and creases that an open eye does not show.

Shape letters: B batch, V vertices, N landmarks, P points of a lid's edge, H and W picture height and
width, h and w sides of the look.

A mesh closes an eye by stretching the narrow strip of skin above it, which has neither the lashes nor
the shading of a lid. So the look of a closed eye is laid over it: the logarithm of its brightness
over that of the skin below the eye, in a frame that runs from corner to corner along the edge of the upper
lid (scripts/build_lids.py made it from synthetic portraits). The skin's own colour, in the light of
the moved picture, is continued from around.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.state import LidSource, Move
from ..common.checkpoint import asset_path, load_checkpoint
from ..common.pixels import gaussian_blur, pull_push
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.rasterizer import interpolate

KIND = "lids"
FLOOR = 0.03  # added to colours, so that black has a logarithm
# the frame of the look, in widths of the eye: from the outer corner (0) to the inner one (1), and
# from above the lid's edge (negative) to below
ALONG, ACROSS = (-0.2, 1.2), (-0.42, 0.42)


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
BLINK_STARTS, BLINK_RANGE = 0.5, 0.35  # of the stretched coefficient: a lid that begins to show, and shows whole
ALIKE = 0.4  # coefficients of two eyes that differ by less belong to one blink, the more the less they do
SHOWN_CLOSED, SHOWN_OPEN = 0.6, 0.45  # a source's coefficient from which, and up to which, its own lid, or none, shows
LID_HEIGHT = 0.30  # of the almond that is laid, in widths of the eye
LASHES = 0.13  # how far lashes reach below the edge
HALF_WIDTH = 0.62  # of the almond
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


def lid_source(head: HeadModel, face: FaceAttributes) -> LidSource | None:
    """What closing the eyes of photographs needs.

    Args:
        head: the head model.
        face: B faces of the photographs.

    Returns:
        None for heads without MediaPipe's landmarks or coefficients that close eyes.
    """
    if not head.has_face_mesh or not {eye.blink for eye in EYES}.issubset(head.expression_names):
        return None
    points = head.landmarks(head.template[None])[0]
    around = []
    for eye in EYES:
        outer, inner = points[eye.upper[0]], points[eye.upper[-1]]
        width = (outer - inner).norm()
        distance = (head.template - (outer + inner) / 2).norm(dim=-1) / width
        # the ridge of the nose may hide the eye behind it
        sideways = (head.template[:, 0] / inner[0] - 0.35) / 0.3
        around.append(((AROUND - distance) / 0.3).clamp(0, 1) * sideways.clamp(0, 1))
    look = load_checkpoint(asset_path("lids.safetensors"), KIND).tensors["look"].to(face.expression)
    batch, names = len(face), head.expression_names
    blink = face.expression[:, [names.index(eye.blink) for eye in EYES]]
    shown = ((blink - SHOWN_OPEN) / (SHOWN_CLOSED - SHOWN_OPEN)).clamp(0, 1)
    return LidSource(look.expand(batch, -1, -1, -1), torch.stack(around, -1).expand(batch, -1, -1), blink, 1 - shown)


def close_lids(move: Move, image: Tensor, validity: Tensor) -> tuple[Tensor, Tensor]:
    """Lay the look of closed eyes over eyes that close.

    Args:
        move: the move.
        image: (B,3,H,W) the moved picture.
        validity: (B,1,H,W) of it.

    Returns:
        picture and validity; equal bit for bit in rows where no eye closes beyond the source's.
    """
    lids, head = move.source.lids, move.source.head
    if lids is None:
        return image, validity
    height, width = image.shape[-2:]
    marks = head.landmarks(move.posed.points)
    scale = marks.new_tensor([width / 2, height / 2, max(height, width) / 2])
    marks = (marks + marks.new_tensor([1, 1, 0])) * scale - marks.new_tensor([0.5, 0.5, 0])
    skin = interpolate(move.posed.raster, head.faces, lids.around)
    if move.maps is not None:
        skin = skin * (1 - move.maps.hair)
    names = [head.expression_names.index(eye.blink) for eye in EYES]
    amounts = _lid_amounts(move.target.expression[:, names], lids).tolist()
    images, validities = list(image.split(1)), list(validity.split(1))
    for row, both in enumerate(amounts):
        for side, amount in enumerate(both):
            if amount > 0:
                one = slice(row, row + 1)
                frame = LidFrame.of(marks[one], EYES[side])
                owned = amount, skin[one, side : side + 1], lids.look[one], move.source.options.lid_validity
                images[row], validities[row] = _closed(images[row], validities[row], frame, *owned)
    return torch.cat(images), torch.cat(validities)


def _lid_amounts(blink: Tensor, lids: LidSource) -> Tensor:
    """How far the lids of both eyes show (B,2), by the wanted coefficients (B,2); 0 for an eye that does not close further."""
    closes = blink - lids.blink.clamp_min(BLINK_STARTS)
    alone = (closes / BLINK_RANGE).clamp(0, 1)
    # scores of two eyes that are closed differ, and one lid without lashes beside one with them is worse than both
    alike = (1 - (blink[:, :1] - blink[:, 1:]).abs() / ALIKE).clamp(0, 1)
    together = torch.lerp(alone, alone.amax(1, keepdim=True), alike) * (closes / 0.1).clamp(0, 1)
    return alone.maximum(together) * lids.open


def _closed(
    image: Tensor, validity: Tensor, frame: LidFrame, amount: float, skin: Tensor, look: Tensor, trust: float
) -> tuple[Tensor, Tensor]:
    """One picture (1,3,H,W) and its validity (1,1,H,W), with one eye closed.

    Args:
        image: the picture.
        validity: of it.
        frame: of the eye.
        amount: 0..1, how far the lid shows.
        skin: (1,1,H,W) what belongs to the eye.
        look: (1,1,h,w) of a closed eye.
        trust: validity of the lid.
    """
    height, width = image.shape[-2:]
    rows, columns = _window(frame, (height, width))
    here = (..., rows, columns)
    places = torch.stack(
        torch.meshgrid(*(torch.arange(n, device=image.device, dtype=image.dtype) for n in (width, height)), indexing="xy"), -1
    )
    along, across = frame.coordinates(places[None, rows, columns])
    eye_width = float(frame.across.norm())
    grid = torch.stack([_unit(along, ALONG), _unit(across, ACROSS)], -1)
    ratio = F.grid_sample(look, grid, padding_mode="border", align_corners=True).exp()
    share = gaussian_blur(_almond(along, across)[:, None] * skin[here], 0.03 * eye_width + 0.3) * amount
    bare = _bare_skin(image[here], validity[here] * skin[here], along, across, eye_width)
    made = ((bare + FLOOR) * ratio - FLOOR).clamp(0, 1)
    image, validity = image.clone(), validity.clone()
    image[here] = torch.lerp(image[here], made, share)
    validity[here] = torch.lerp(validity[here], torch.full_like(share, trust), share)
    return image, validity


def _almond(along: Tensor, across: Tensor) -> Tensor:
    """The lid with its lashes, 0..1, by coordinates."""
    beside = (along - 0.5).abs()
    top = LID_HEIGHT * (1 - (beside / HALF_WIDTH).square()).clamp_min(0)
    above, below = ((across + top) / 0.06 + 0.5).clamp(0, 1), ((LASHES - across) / 0.08).clamp(0, 1)
    return above * below * ((HALF_WIDTH - beside) / 0.10).clamp(0, 1)


def _bare_skin(image: Tensor, known: Tensor, along: Tensor, across: Tensor, width: float) -> Tensor:
    """The colour of the skin (B,3,H,W) below the eye, continued over it."""
    below = (across > 0.16) & (across < 0.5) & (along > -0.1) & (along < 1.1)
    skin = pull_push(image, (below[:, None] & (known > 0.5)).to(image))
    return gaussian_blur(skin, 0.05 * width + 0.6)


def _unit(values: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Values between bounds as -1..1."""
    return (values - bounds[0]) * (2 / (bounds[1] - bounds[0])) - 1


def _window(frame: LidFrame, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the picture around an eye."""
    middle = frame.corner + frame.along / 2
    reach = 1.2 * frame.across.norm(dim=-1, keepdim=True)
    low, high = (middle - reach)[0].floor().tolist(), (middle + reach)[0].ceil().tolist()
    columns, rows = (slice(int(min(max(a, 0), n - 1)), int(min(max(b, 1), n))) for a, b, n in zip(low, high, size[::-1], strict=True))
    return rows, columns
