"""What a photograph shows where, finely enough to lay its hair or clothes over another (for
`region_transfer`).

The slots' masks are 32x32: a fringe or a collar that is off by a cell is nothing to a change of
light, but to a swap it is a strip of the old hair on the forehead. Between hair and skin, and
between cloth and skin, colours decide.

Shape letters: B batch, R regions (4, in the order of `vocabulary.REGIONS`), K photographs, V vertices,
H and W picture sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.light import hidden_shading
from ..carry.options import CarryOptions
from ..common.pixels import dilate, erode, flow_grid, gaussian_blur, pull_push
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.rasterizer import rasterize
from ..head.shading import project, vertex_normals
from ..person.prepared import Carried
from ..source.regions import GUIDE_EPS, Layers
from ..vocabulary import REGIONS

FACE, HAIR, CLOTHES, BACKGROUND = range(len(REGIONS))
# MediaPipe's landmarks around brows, eyes, nose and mouth, clockwise from the left brow: no hair
# hangs there, whatever a mask makes of a shadow
FEATURES = (70, 105, 334, 300, 446, 291, 199, 61, 226)
# and around all of the face below the brows, where only masks say what is hair: brows, glasses and
# beards have its colours
BELOW_BROWS = (127, 70, 105, 334, 300, 356, 361, 397, 378, 152, 149, 172, 132)
# lengths as shares of the side
HAIR_REACH, CLOTH_REACH = 0.08, 0.05  # how far beyond a mask colours may add to it: one cell of the slots is 0.031
COLOUR_WINDOW = 0.05  # standard deviation of the window in which hair or cloth, and skin, have one colour each
SKIN_INSIDE = 0.04  # how far inside the mask of skin its colour is read
RIM = 0.04  # of the person beside the head, whose bare skin is none
LEAST_SPREAD = 2e-3  # variance of those colours (0..1)
# log odds of hair where the masks say skin: what is taken must not be skin; what is taken away may
# be, since other skin comes in its place
TAKEN, TAKEN_AWAY = 0.0, 1.5
CLOTH = -1.5  # of cloth, the same for both: a chin's shadow is dark, too


@dataclass(frozen=True, eq=False)
class FaceAreas:
    """Where a head lies in a picture.

    Attributes:
        features: (B,1,H,W) 1 on the inner face, from the brows to the mouth.
        below_brows: (B,1,H,W) 1 on the face without its forehead.
        skin: (B,1,H,W) 1 on the head model's face and ears.
        mesh: (B,1,H,W) 1 on all of the head model.
        shading: (B,3,H,W) the light on it, RGB; 1 beside it.
        side: pixels of the square around the face, which is the picture or the middle of it: of this side lengths are shares.
    """

    features: Tensor
    below_brows: Tensor
    skin: Tensor
    mesh: Tensor
    shading: Tensor
    side: int

    @classmethod
    def of(cls, head: HeadModel, face: FaceAttributes, picture: Tensor, side: int | None = None) -> FaceAreas:
        """Of faces in pictures.

        Args:
            head: the head model.
            face: B faces.
            picture: (B,3,H,W).
            side: of the square around the face; None: the picture is that square.
        """
        vertices = head(face.shape, face.expression, face.pose)
        points = project(vertices, face.camera)
        height, width = picture.shape[-2:]
        raster = rasterize(points, head.faces, height, width)
        skin, mesh = (mask[:, None].to(picture) for mask in (head.skin_mask(raster), raster.face >= 0))
        shading = hidden_shading(head, raster, vertex_normals(vertices, head.faces), face.light, CarryOptions())
        features, below_brows = (_inside(head, points, outline, picture) for outline in (FEATURES, BELOW_BROWS))
        return cls(features, below_brows, skin, mesh, shading, side or max(height, width))


@dataclass(frozen=True, eq=False)
class Parts:
    """A carried photograph and what it shows where.

    Attributes:
        carried: the photograph.
        shares: (B,R,H,W) of the regions, which sum to 1.
        owner_share: (B,K,H,W) the share of each photograph in the picture: the source's, then those
            of the references that hair was taken of, in their order. The rest to 1 is guesses.
    """

    carried: Carried
    shares: Tensor
    owner_share: Tensor


def _inside(head: HeadModel, points: Tensor, outline: Sequence[int], picture: Tensor) -> Tensor:
    """(B,1,H,W): 1 inside a convex outline of landmarks; all zeros for a head without MediaPipe's
    landmarks.
    """
    from kornia.utils import draw_convex_polygon

    height, width = picture.shape[-2:]
    empty = picture.new_zeros(len(points), 1, height, width)
    if not head.has_face_mesh:
        return empty
    corners = (head.landmarks(points)[:, list(outline), :2] + 1) / 2 * points.new_tensor([width, height]) - 0.5
    return draw_convex_polygon(empty, corners.to(picture), picture.new_ones(len(points), 1))


def refined(picture: Tensor, layers: Layers, areas: FaceAreas, prior: float) -> Layers:
    """Layers whose hair and clothes reach as far as their colours do: fringes over a forehead,
    collars over a neck.

    Args:
        picture: (B,3,H,W).
        layers: of the picture.
        areas: of the head in it.
        prior: log odds of hair where the layers say skin, TAKEN or TAKEN_AWAY.
    """
    cloth = (layers.loose - layers.hair).clamp_min(0)
    bare = (layers.person - layers.loose).clamp_min(0)
    hair = layers.hair * (1 - areas.features)
    face = bare * areas.skin
    hair = hair.maximum(_by_colour(picture, hair, face, bare * (1 - areas.below_brows), HAIR_REACH * areas.side, prior, areas.side))
    hair = hair * (1 - areas.features)
    where = bare * (1 - areas.skin) * (1 - areas.below_brows)
    cloth = cloth.maximum(_by_colour(picture, cloth, face, where, CLOTH_REACH * areas.side, CLOTH, areas.side)).minimum(1 - hair)
    return replace(layers, hair=hair, loose=hair + cloth)


def _by_colour(picture: Tensor, region: Tensor, bare: Tensor, where: Tensor, reach: float, prior: float, side: int) -> Tensor:
    """How far pixels near a region that are said to be bare skin look like the region.

    Args:
        picture: (B,3,H,W).
        region: (B,1,H,W) hair or clothes, by the masks.
        bare: (B,1,H,W) skin, by the masks.
        where: (B,1,H,W) the part of the skin that may be something else.
        reach: how far from the region, in pixels.
        prior: log odds of the region.
        side: of the square around the face.

    Returns:
        (B,1,H,W) in 0..1.
    """
    from kornia.filters import guided_blur

    inside = erode(region, 5)
    skin = erode(bare, 2 * round(SKIN_INSIDE * side) + 1)
    near = ((dilate(region, 2 * round(reach) + 1) - 0.3) / 0.4).clamp(0, 1) * where
    (mean, spread), (mean_skin, spread_skin) = _colours(picture, inside, side), _colours(picture, skin, side)
    odds = (picture - mean_skin).square() / spread_skin - (picture - mean).square() / spread + (spread_skin / spread).log()
    found = torch.sigmoid(gaussian_blur(0.5 * odds.sum(1, keepdim=True), 1.0).clamp(-6, 6) + prior)
    return guided_blur(picture, found * near, 7, GUIDE_EPS, border_type="replicate").clamp(0, 1)


def _colours(picture: Tensor, weight: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Local mean (B,3,H,W) and overall variance (B,3,1,1) of the colours that a weight (B,1,H,W)
    picks.
    """
    mean = gaussian_blur(pull_push(picture, weight), COLOUR_WINDOW * side)
    spread = (weight * (picture - mean).square()).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp_min(1e-4)
    return mean, spread + LEAST_SPREAD


def moved_shares(carried: Carried, layers: Layers, areas: FaceAreas) -> Tensor:
    """Shares of the regions in a carried photograph.

    Args:
        carried: the photograph.
        layers: of the photograph before it was carried.
        areas: of the head where it is now.

    Returns:
        (B,R,H,W), which sum to 1.
    """
    grid = flow_grid(carried.offset_to_source)
    both = torch.cat([layers.hair, (layers.loose - layers.hair).clamp_min(0)], dim=1)
    worn = F.grid_sample(both, grid, padding_mode="border", align_corners=False)
    bare = (1 - worn.sum(1, keepdim=True)).clamp_min(0)
    # beside the head the soft rim of hair and clothes is theirs, not skin
    rim = bare * (1 - dilate(areas.mesh, 5)) * dilate(worn.sum(1, keepdim=True), 2 * round(RIM * areas.side) + 1)
    kind = pull_push(worn / worn.sum(1, keepdim=True).clamp_min(1e-4), worn.sum(1, keepdim=True).clamp(0, 1))
    worn = worn + rim * kind / kind.sum(1, keepdim=True).clamp_min(1e-4)
    alpha = carried.person_alpha
    shares = torch.cat([alpha * (bare - rim), alpha * worn, 1 - alpha], dim=1).clamp_min(0)
    return shares / shares.sum(1, keepdim=True)
