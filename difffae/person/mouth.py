"""Lips, teeth and the inside of a mouth that opens.

Shape letters: B batch, V vertices, N landmarks, P points of a lip's edge, H and W picture sides, h and w those of a part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.state import Move, PosedHead
from ..common.pixels import dilate, gaussian_blur, pixel_grid, relit
from ..head.attributes import FaceAttributes
from ..head.morphable import LABELS, HeadModel
from ..head.rasterizer import Raster, interpolate
from ..head.shading import sh_shading

INNER = ("mouth", "teeth", "tongue", "sockets")  # parts that only an opening shows
MOUTH = INNER[:3]
LIPS = (13, 14)  # landmarks: middle of the upper and of the lower lip, inside
TIPS = 0.012  # how far below the teeth of a fit those of the photograph may reach, as a share of the side
INNER_DARKNESS = 0.75  # of the light reaches the inside of a mouth, which SH lighting without shadows does not know
DEEP = 0.014  # how far from the lips, as a share of the side, the middle of an open mouth lies
DEEP_DARKNESS = {"teeth": 0.6, "tongue": 0.3, "mouth": 0.15, "sockets": 1.0}  # of that light there
# landmarks of the edges of the lips, from the subject's right corner of the mouth to the left one
UPPER = (78, 80, 81, 82, 13, 312, 311, 310, 308)
LOWER = (78, 88, 178, 87, 14, 317, 402, 318, 308)
OUTER_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
FRONTAL = 0.7, 0.88  # width of a mouth in the picture, as a share of that seen from the front
WHOLE = 0.3  # most of an opening that each lip takes to stay as thick as it was
ROUND = 0.5  # most of the way to an ellipse that the lower edge of an opened mouth goes
# --- teeth, in metres ---
FORWARDS = 0.004  # by which the head model's teeth lie too far behind its lips
TOOTH_WIDTHS = (0.0084, 0.0066, 0.0076, 0.0070, 0.0070)  # from the middle to one side
TOOTH_TIPS = (0.0, 0.0007, 0.0002, 0.0008, 0.0013)  # how much higher than the first tooth's they lie
TIP_ROUNDING = 0.0011
GAP_WIDTH, GAP_DARKNESS = 0.00045, 0.33


def lips_apart(head: HeadModel, points: Tensor) -> Tensor:
    """How far the lips of a projected head are apart.

    Args:
        head: the head model.
        points: (B,V,3) projected vertices, -1..1.

    Returns:
        (B,1,1,1) in units of half the side; 0 for heads without MediaPipe's landmarks.
    """
    if not head.has_face_mesh:
        return points.new_zeros(len(points), 1, 1, 1)
    marks = head.landmarks(points)
    return (marks[:, LIPS[0], :2] - marks[:, LIPS[1], :2]).norm(dim=-1)[:, None, None, None]


def upper_teeth(head: HeadModel) -> Tensor:
    """(V,) bool: vertices of teeth that no expression moves; none for a head without teeth."""
    teeth = head.vertex_mask("teeth")
    moves = head.expression_basis.norm(dim=-1).sum(0)
    return teeth & (moves < 0.1 * torch.where(teeth, moves, 0).max())


def teeth_in_sight(head: HeadModel, raster: Raster, upper: tuple[int, ...], validity: Tensor) -> Tensor:
    """Where a photograph shows upper teeth.

    A fit takes the tips of teeth for the tongue behind them, so what lies just below its teeth
    counts as well.

    Args:
        head: the head model.
        raster: of the photograph's head.
        upper: numbers of the vertices of `upper_teeth`.
        validity: (B,1,H,W) of the photograph.

    Returns:
        (B,1,H,W) in 0..1.
    """
    is_upper = torch.zeros_like(head.labels, dtype=torch.bool)
    is_upper[list(upper)] = True
    faces = is_upper[head.faces].all(1)
    shown = (faces[raster.face.clamp_min(0)] & raster.mask)[:, None].to(validity)
    tips = dilate(shown, 2 * round(TIPS * max(validity.shape[-2:])) + 1)
    return tips.minimum(dilate(head.part_mask(raster, *MOUTH)[:, None].to(validity), 3)) * validity


def kept_teeth(move: Move, teeth: Tensor) -> tuple[Tensor, Tensor]:
    """The upper teeth of a photograph, which stay at the skull while a mouth opens.

    The fit takes their tips for the tongue, and that moves with the jaw.

    Args:
        move: the move.
        teeth: (B,1,H,W) of `teeth_in_sight`.

    Returns:
        the picture with its teeth moved and relit (B,3,H,W), and where it shows them (B,1,H,W).
    """
    source, (height, width) = move.source, move.source.size
    skull = (source.posed.points - move.posed.points)[:, list(source.upper_teeth), :2]
    half = skull.new_tensor([width / 2, height / 2])
    shift = (skull * half).mean(1) / half
    grid = pixel_grid(height, width, teeth) + shift[:, None, None]
    moved = F.grid_sample(torch.cat([source.image, teeth], 1), grid, padding_mode="border", align_corners=False)
    here = move.posed.part(*MOUTH).to(teeth)
    return relit(moved[:, :3], move.light_ratio), moved[:, 3:] * here


def inside_of_mouth(head: HeadModel, face: FaceAttributes, posed: PosedHead, where: Tensor) -> Tensor:
    """Mouth, teeth, tongue and eye sockets as the head model shows them, darker the deeper they
    lie.

    Args:
        head: the head model.
        face: B faces.
        posed: their head.
        where: (B,1,H,W) bool, the pixels of the parts INNER.

    Returns:
        (B,3,H,W) RGB 0..1.
    """
    raster = posed.raster
    facing = interpolate(raster, head.faces, posed.normals)
    albedo = F.grid_sample(head.albedo(face.albedo), head.uv_grid(raster), padding_mode="border", align_corners=False)
    shading = sh_shading(facing.permute(0, 2, 3, 1), face.light).permute(0, 3, 1, 2)
    shares = facing.new_tensor([DEEP_DARKNESS.get(name, 1.0) for name in LABELS])[head.face_labels]
    share = torch.where(where, shares[raster.face.clamp_min(0)][:, None], 1.0)
    deep = ((gaussian_blur(where.to(albedo.dtype), DEEP * max(where.shape[-2:])) - 0.35) / 0.5).clamp(0, 1)
    dark = gaussian_blur(1 - (1 - share) * deep, 1.0)
    return (INNER_DARKNESS * albedo * shading * dark).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class MouthFrame:
    """Coordinates of a mouth in a picture: along from corner to corner, and down, both in widths of the mouth.

    Attributes:
        corner: (2,) the subject's right corner, in pixels.
        along: (2,) from there to the other corner.
        down: (2,) at right angles to it, as long as the mouth is wide if seen from the front.
        upper: (P,2) the upper lip's edge in these coordinates, from corner to corner.
        lower: (P,2) the lower lip's.
        above: (Q,2) the edge of the upper lip towards the nose.
        below: (Q,2) that of the lower lip towards the chin.
    """

    corner: Tensor
    along: Tensor
    down: Tensor
    upper: Tensor
    lower: Tensor
    above: Tensor
    below: Tensor

    @classmethod
    def of(cls, landmarks: Tensor) -> MouthFrame:
        """Of landmarks (N,3), x right and y down in pixels, z in the same unit."""
        corner, along = landmarks[UPPER[0], :2], landmarks[UPPER[-1], :2] - landmarks[UPPER[0], :2]
        width = (landmarks[UPPER[-1]] - landmarks[UPPER[0]]).norm()
        down = F.normalize(torch.stack([-along[1], along[0]]), dim=0) * width
        frame = cls(corner, along, down, *[corner[None]] * 4)
        upper, lower, above, below = (frame.straight(landmarks[list(points), :2]) for points in (UPPER, LOWER, OUTER_UPPER, OUTER_LOWER))
        middle = (upper + lower) / 2
        # lips of a fit may cross by a little
        half = ((lower - upper)[:, 1] / 2).clamp_min(0)
        edges = [torch.stack([points[:, 0], middle[:, 1] + sign * half], -1) for points, sign in ((upper, -1), (lower, 1))]
        return cls(corner, along, down, *(edge[edge[:, 0].argsort()] for edge in (*edges, above, below)))

    @cached_property
    def width(self) -> float:
        """Of the mouth, seen from the front, in pixels."""
        return float(self.down.norm())

    @cached_property
    def opening(self) -> float:
        """Mean height of the opening over the middle third, in widths of the mouth."""
        along = torch.linspace(0.35, 0.65, 7, device=self.upper.device, dtype=self.upper.dtype)
        return float((edge_at(self.lower, along) - edge_at(self.upper, along)).mean().clamp_min(0))

    @property
    def middle(self) -> Tensor:
        """(2,) of the opening, in pixels."""
        half = len(self.upper) // 2
        return self.places(torch.stack([self.upper.new_tensor(0.5), (self.upper[half, 1] + self.lower[half, 1]) / 2]))

    @cached_property
    def frontal(self) -> float:
        """1 of a mouth seen from the front, 0 from the side, where edges of lips go back on themselves."""
        low, high = FRONTAL
        t = min(max((float(self.along.norm()) / self.width - low) / (high - low), 0.0), 1.0)
        return t * t * (3 - 2 * t)

    @property
    def lips(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Outer and inner edge (P,2) of the upper and of the lower lip."""
        return (self.above, self.upper), (self.below, self.lower)

    def rounded(self, amount: float, outer: float = 0.0) -> MouthFrame:
        """The same with a round lower lip: a mesh that drops its jaw pulls it to a point.

        Args:
            amount: 0..1, how far it is half an ellipse.
            outer: 0..1, how far the edge towards the chin goes along.
        """
        x, y = self.lower.unbind(-1)
        y = _smoothed(_smoothed(y))
        share = ((x - x[0]) / (x[-1] - x[0])).clamp(0, 1)
        corners = torch.lerp(y[0], y[-1], share)
        arc = corners + (y - corners).max() * (4 * share * (1 - share)).sqrt()
        y = torch.lerp(y, y.maximum(arc), ROUND * amount).maximum(edge_at(self.upper, x))
        down = torch.stack([x, outer * _smoothed(_smoothed(y - self.lower[:, 1]))], -1)
        return replace(self, lower=torch.stack([x, y], -1), below=_lowered(self.below, edge_at(down, self.below[:, 0])))

    def with_whole_lips(self, own: MouthFrame, amount: float) -> MouthFrame:
        """The same with lips as thick as another mouth's: a mesh that drops its jaw draws them thin. The upper one grows towards the nose.

        Args:
            own: the other mouth.
            amount: 0..1, how far they are.
        """
        lost = []
        for (outer, edge), (own_outer, own_edge) in zip(self.lips, own.lips, strict=True):
            x, y = edge.unbind(-1)
            there = own_edge[0, 0] + (x - x[0]) / (x[-1] - x[0]) * (own_edge[-1, 0] - own_edge[0, 0])
            thick = (edge_at(own_edge, there) - edge_at(own_outer, there)).abs() * own.width / self.width
            lost.append(amount * (thick - (y - edge_at(outer, x)).abs()).clamp_min(0))
        room = WHOLE * (self.lower[:, 1] - self.upper[:, 1]).clamp_min(0)
        grown = torch.stack([self.upper[:, 0], lost[0]], -1)
        return replace(
            self,
            lower=_lowered(self.lower, -lost[1].minimum(room)),
            above=_lowered(self.above, -edge_at(grown, self.above[:, 0])),
        )

    def straight(self, places: Tensor) -> Tensor:
        """Places (...,2) in pixels by coordinates along and down."""
        away = places - self.corner
        axes = torch.stack([self.along / self.along.square().sum(), self.down / self.down.square().sum()], -1)
        return away @ axes

    def places(self, coordinates: Tensor) -> Tensor:
        """Places (...,2) in pixels of coordinates along and down."""
        return self.corner + coordinates[..., :1] * self.along + coordinates[..., 1:] * self.down


def _smoothed(values: Tensor) -> Tensor:
    """Values (P,) along a lip, those at its corners as they are."""
    return torch.cat([values[:1], 0.25 * values[:-2] + 0.5 * values[1:-1] + 0.25 * values[2:], values[-1:]])


def _lowered(edge: Tensor, by: Tensor) -> Tensor:
    """A lip's edge (P,2) farther down by (P,)."""
    return torch.stack([edge[:, 0], edge[:, 1] + by], -1)


def edge_at(edge: Tensor, along: Tensor) -> Tensor:
    """How far down a lip's edge (P,2) lies at places along (any shape), on a smooth curve through its points."""
    x, y = edge[:, 0].contiguous(), edge[:, 1]
    slopes = torch.cat(
        [(y[1:2] - y[:1]) / (x[1:2] - x[:1]), (y[2:] - y[:-2]) / (x[2:] - x[:-2]), (y[-1:] - y[-2:-1]) / (x[-1:] - x[-2:-1])]
    )
    # Hermite's cubics between the points, by powers of the share of the way from one to the next
    step = (x[1:] - x[:-1]).clamp_min(1e-5)
    rise, first, last = y[1:] - y[:-1], step * slopes[:-1], step * slopes[1:]
    cubics = torch.stack([x[:-1], step, y[:-1], first, 3 * rise - 2 * first - last, first + last - 2 * rise])
    left = torch.searchsorted(x, along.contiguous()).clamp(1, len(x) - 1) - 1
    start, length, *powers = cubics[:, left]
    t = ((along - start) / length).clamp(0, 1)
    return powers[0] + t * (powers[1] + t * (powers[2] + t * powers[3]))


@dataclass(frozen=True, eq=False)
class DentalArch:
    """The front of the upper jaw's dental arch, half an ellipse at the skull, as a picture shows it.

    Attributes:
        axes: (3,2) pixels per metre of the unposed head: to the subject's left, up, and forwards.
        middle: (2,) where the ellipse's middle lies, at the height of the teeth's tips.
        radii: half width and depth of the ellipse in metres.
    """

    axes: Tensor
    middle: Tensor
    radii: tuple[float, float]

    @classmethod
    def of(cls, head: HeadModel, upper: tuple[int, ...], points: Tensor, size: tuple[int, int]) -> DentalArch:
        """Of a head that was projected.

        Args:
            head: the head model.
            upper: numbers of the vertices of its upper teeth.
            points: (V,3) projected vertices, -1..1.
            size: height and width of the picture in pixels.
        """
        teeth = head.template[list(upper)]
        shown = (points[list(upper), :2] + 1) * points.new_tensor([size[1] / 2, size[0] / 2]) - 0.5
        # teeth are rigid, so an affine map of the unposed ones meets the posed ones; the last bits of a solution depend on where its
        # numbers lie in memory, and a clip made twice must be the same: those of 64 are rounded away
        unposed = torch.cat([teeth, torch.ones_like(teeth[:, :1])], 1)
        solved = torch.linalg.lstsq(unposed.double(), shown.double()).solution.to(shown)
        radii = float(teeth[:, 0].abs().max()), float(teeth[:, 2].max() - teeth[:, 2].min())
        tips = torch.stack([torch.zeros_like(teeth[0, 0]), teeth[:, 1].min(), teeth[:, 2].min() + FORWARDS, torch.ones_like(teeth[0, 0])])
        # summed here: the last bits of such a product depend on where its factors lie in memory
        return cls(solved[:3], (tips[:, None] * solved).sum(0), radii)

    @property
    def tip(self) -> Tensor:
        """(2,) the foremost tip."""
        return self.middle + self.radii[1] * self.axes[2]

    def shifted(self, by: Tensor) -> DentalArch:
        """The arch elsewhere in the picture; by (2,) pixels."""
        return DentalArch(self.axes, self.middle + by, self.radii)

    def angle_and_height(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Which point of the arch places (...,2) show: its angle from the front in radians, and its height above the tips in metres."""
        right, up, front = self.axes
        level = F.normalize(torch.stack([-up[1], up[0]]), dim=0)  # along this the height does not count
        level = torch.where(right @ level < 0, -level, level)
        wide, deep = self.radii[0] * (right @ level), self.radii[1] * (front @ level)
        along = ((places - self.middle) @ level / torch.hypot(wide, deep)).clamp(-1, 1)
        angle = torch.asin(along) - torch.atan2(deep, wide)
        rest = places - self.places(angle, torch.zeros_like(angle))
        return angle, rest @ up / up.square().sum()

    def places(self, angle: Tensor, height: Tensor) -> Tensor:
        """Places (...,2) in pixels of points of the arch."""
        point = torch.stack([self.radii[0] * angle.sin(), height, self.radii[1] * angle.cos()], -1)
        return self.middle + point @ self.axes

    def length(self, angle: Tensor) -> Tensor:
        """Length of the arch from its foremost point to angles, in metres."""
        steps = torch.linspace(0, 1.6, 161, device=angle.device, dtype=angle.dtype)
        speed = torch.hypot(self.radii[0] * steps.cos(), self.radii[1] * steps.sin())
        lengths = torch.cat([speed[:1] * 0, ((speed[1:] + speed[:-1]) * 0.005).cumsum(0)])
        place = (angle.abs() * 100).clamp(0, 159.99)
        left = place.long()
        return torch.lerp(lengths[left], lengths[left + 1], place - left)


def upper_teeth_row(along: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
    """A row of teeth as it is seen from the front.

    Args:
        along: distance from the row's middle along it, in metres.
        height: above the tips of the front teeth, in metres.

    Returns:
        how far points lie above the tip of their tooth in metres, and their brightness, about 1.
    """
    edges = along.new_tensor((0.0, *TOOTH_WIDTHS)).cumsum(0)
    number = (torch.searchsorted(edges, along.contiguous(), right=True) - 1).clamp(0, len(TOOTH_WIDTHS) - 1)
    half = (edges[number + 1] - edges[number]) / 2
    beside = (along - edges[number] - half).abs() / half
    tip = along.new_tensor(TOOTH_TIPS)[number] + TIP_ROUNDING * beside.clamp(max=1) ** 2.5
    gap = torch.exp(-(((1 - beside) * half / GAP_WIDTH) ** 2))
    return height - tip, (1 - GAP_DARKNESS * gap) * (0.93 + 0.07 * (height / 0.003).clamp(0, 1)) * (1 - 0.06 * beside.square())
