"""Eyes as a layer of their own: eyeballs that turn under lids that close and open.

Shape letters: B batch, N landmarks, W columns of a curve, h and w sides of the white's texture, k
sides of the iris's, H and W picture height and width, M places. Pairs are the subject's right and
left eye.

The mesh of a head does not move eyes: its lids and irises are nowhere near the photograph's to a
pixel, and what lies between is torn. Instead every eye is taken apart once: curves of its lids, the
white as if no iris lay on it, the iris as if no lid lay on it. A target puts the curves and the iris
elsewhere; skin and lashes follow the lids, and between the lids lie white and iris. Everything is
measured in a frame of the eye: along from the corner at the subject's right (-0.5) to that at the
left (0.5), across downwards, in widths of the eye.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.expression import changed_by_number
from ..carry.state import EyeSource, Move, PosedHead
from ..common.pixels import relit, sampled
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.rasterizer import interpolate
from .eye_textures import ABOVE, BELOW, DISC_REACH, iris_places, iris_texture, linear_ramp, white_texture
from .lids import COLUMNS, EYES, REACH, SIDES, EyeFrame, closed_look, columns, curve_at, curve_through, lowered_lid, skin_around

MOVED = tuple(f"eye{name}{side}" for name in ("Blink", "Wide", "LookIn", "LookOut", "LookUp", "LookDown") for side in SIDES)
IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))  # landmarks: the middle, and four of the edge
BROWS = ((46, 53, 52, 65, 55), (276, 283, 282, 295, 285))  # the lower edge

# What coefficients move, in widths of the eye
LOOK_ASIDE, LOOK_UP, LOOK_DOWN = 0.31, 0.28, 0.28
UPPER_UP, UPPER_DOWN = 0.17, 0.24  # how far the upper lid follows
LOWER_UP, LOWER_DOWN = 0.02, 0.05  # how far the lower lid does
OPENING, BLINK_CLOSES, WIDE_OPENS = 0.36, 0.46, 0.12  # how far lids are apart, by their coefficients
ALIKE = 0.2  # openings that differ by less belong to one blink, the more the less they do
FARTHEST = 0.37  # of an iris from the middle
HANGS = 0.05  # an iris, above the middle between the lids
MEET = 0.015  # closed lids meet so far below the open lower lid
RIGID_ABOVE, RIGID_BELOW = 0.07, 0.04  # skin and lashes beside the edges of lids, which are not stretched
STRETCHED = 0.3  # how far below the eye skin moves along
LEAST_LIGHT = 0.4  # what reaches an eyeball between lids that almost meet
# how far over the lid's edge its fold begins, how much of the lid's way that goes along, and how much more steeply skin does than evenly
FOLD, FOLD_FOLLOWS, FOLD_STAYS = 0.14, 0.1, 1.2
BARE = (0.02, 0.08)  # a lid that comes down so far begins to show, and shows its own skin
SHOWS_LID = 0.10  # lids less far apart begin to show the look of closed ones


def eye_source(head: HeadModel, face: FaceAttributes, image: Tensor, posed: PosedHead, landmarks: Tensor | None) -> EyeSource | None:
    """Take the eyes of photographs apart.

    Args:
        head: the head model.
        face: B faces of the photographs.
        image: (B,3,H,W) RGB 0..1.
        posed: their head.
        landmarks: (B,478,3) of the photographs, in their pixels; None takes those of the head, which lie less exactly.

    Returns:
        None for heads without MediaPipe's landmarks and ARKit's coefficients of eyes.
    """
    if not head.has_face_mesh or not set(MOVED).issubset(head.expression_names):
        return None
    on_head = head_landmarks(head, posed, image)
    seen = on_head if landmarks is None else landmarks.to(image)
    polar = iris_places(image)
    apart = [_taken_apart(image, seen, side, polar) for side in range(2)]
    upper, lower, top, iris, white, disc = (torch.stack(parts, 1) for parts in zip(*apart, strict=True))
    look, closed = closed_look(head, face, image, seen)
    return EyeSource(seen, on_head, upper, lower, top, iris, white, disc, look, closed, skin_around(head).expand(len(face), -1, -1))


def head_landmarks(head: HeadModel, posed: PosedHead, image: Tensor) -> Tensor:
    """(B,N,3) of a posed head in pixels of an image (B,3,H,W)."""
    height, width = image.shape[-2:]
    scale = image.new_tensor([width / 2, height / 2, max(height, width) / 2])
    return (head.landmarks(posed.points) + image.new_tensor([1, 1, 0])) * scale - image.new_tensor([0.5, 0.5, 0])


def _taken_apart(image: Tensor, landmarks: Tensor, side: int, polar: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Curves, iris and textures of one eye, in the order of EyeSource; polar is what `iris_places` gives."""
    frame, eye = EyeFrame.of(landmarks, side), EYES[side]
    upper, lower, brow = (curve_through(frame.coordinates(landmarks[:, list(marks), :2])) for marks in (eye.upper, eye.lower, BROWS[side]))
    lower = lower.maximum(upper)
    top = upper + 0.7 * (brow - upper).clamp(-0.6, -0.15)
    ring = frame.coordinates(landmarks[:, list(IRISES[side]), :2])
    radius = (ring[:, 1:] - ring[:, :1]).norm(dim=-1).mean(1).clamp(0.19, 0.25)
    iris = torch.cat([ring[:, 0], radius[:, None]], -1)
    white, shade = white_texture(image, frame, (upper, lower), iris)
    disc = iris_texture(image, frame, (upper, lower), iris, shade, polar)
    return upper, lower, top, iris, torch.cat([white, shade[:, None, :, None].expand(-1, 1, -1, COLUMNS)], 1), disc


def rested_eyes(own: FaceAttributes, target: FaceAttributes, names: tuple[str, ...]) -> FaceAttributes:
    """The target with the source's eyes: what is left to the mesh."""
    codes = [names.index(name) for name in MOVED]
    expression = target.expression.clone()
    expression[:, codes] = own.expression[:, codes].expand(len(expression), -1)
    return replace(target, expression=expression)


@dataclass(frozen=True, eq=False)
class EyeTarget:
    """One eye where it shall be.

    Attributes:
        frame: in the picture.
        upper: (B,W) edge of the upper lid.
        lower: (B,W) edge of the lower lid.
        middle: (B,2) of the iris.
        bare: (B,) how far the skin of a lid that comes down shows.
        lid: (B,) how far the look of a closed lid shows.
    """

    frame: EyeFrame
    upper: Tensor
    lower: Tensor
    middle: Tensor
    bare: Tensor
    lid: Tensor

    def rows(self, row: slice) -> EyeTarget:
        frame = EyeFrame(self.frame.middle[row], self.frame.along[row], self.frame.across[row])
        return EyeTarget(frame, self.upper[row], self.lower[row], self.middle[row], self.bare[row], self.lid[row])


def _targets(move: Move, eyes: EyeSource, face: FaceAttributes) -> list[EyeTarget]:
    """Both eyes where B faces want them."""
    names, own, wanted = move.source.head.expression_names, move.source.face.expression, face.expression
    looks = _looks(move, eyes, face)
    landmarks = eyes.landmarks + head_landmarks(move.source.head, move.posed, move.source.image) - eyes.on_head

    def change(name: str) -> Tensor:
        column = names.index(f"eye{name}")
        return (wanted - looks)[:, column]

    # the eyes look at one thing
    aside = change("LookInRight") - change("LookOutRight") + change("LookOutLeft") - change("LookInLeft")
    up, down = ((change(f"{name}Right") + change(f"{name}Left")) / 2 for name in ("LookUp", "LookDown"))
    openings = torch.stack([_openings(names, code) for code in (own, wanted)], 1)
    # scores of two eyes that are as open as each other differ a little
    alike = (1 - (openings[:, 1, :1] - openings[:, 1, 1:]).abs() / ALIKE).clamp(0, 1)[:, None]
    openings = torch.lerp(openings, openings.mean(2, keepdim=True).expand_as(openings), alike)
    found = []
    for side in range(2):
        frame = EyeFrame.of(landmarks, side)
        upper, lower = eyes.upper[:, side], eyes.lower[:, side]
        before, after = openings[:, 0, side], openings[:, 1, side]
        kept = (after / before.clamp_min(0.04)).clamp(0, 1)[:, None]
        more = (after - before.clamp_min(0)).clamp_min(0)[:, None]
        bow = (1 - (2 * columns(upper)).square()).clamp_min(0)
        follows, follows_below = (
            (lowers * down - lifts * up)[:, None] * bow.sqrt() for lowers, lifts in ((UPPER_DOWN, UPPER_UP), (LOWER_DOWN, LOWER_UP))
        )
        meet = lower + MEET * bow
        lowered = (torch.lerp(meet, upper + follows, kept) - 0.85 * more * bow.sqrt()).minimum(meet.maximum(upper))
        lower = lower + (0.15 * more * bow.sqrt() + kept * follows_below)
        middle = frame.coordinates(landmarks[:, IRISES[side][0], :2])
        # a closed eye's iris lies anywhere; in an open one it hangs from the upper lid
        hanging = ((lowered + lower) / 2)[:, COLUMNS // 2] - HANGS
        middle = torch.stack([middle[:, 0], torch.lerp(hanging, middle[:, 1], eyes.open[:, side])], -1)
        x = middle[:, 0] + LOOK_ASIDE / 2 * aside
        y = middle[:, 1] - LOOK_UP * up + LOOK_DOWN * down
        x = x.maximum(middle[:, 0].clamp_max(-FARTHEST)).minimum(middle[:, 0].clamp_min(FARTHEST))
        apart = (lower - lowered)[:, COLUMNS // 2 - 10 : COLUMNS // 2 + 10].mean(1)
        closes = (after < before) * eyes.open[:, side]
        lid = linear_ramp(-apart, -SHOWS_LID, -0.035) * closes
        drop = (lowered - upper)[:, COLUMNS // 2 - 10 : COLUMNS // 2 + 10].mean(1)
        bare = (linear_ramp(drop, *BARE) * eyes.open[:, side]).maximum(lid)
        found.append(EyeTarget(frame, lowered, lower, torch.stack([x, y], -1), bare, lid))
    return found


def _looks(move: Move, eyes: EyeSource, wanted: FaceAttributes) -> Tensor:
    """The source's coefficients (B,E), with where its eyes look from.

    Scores say of closed eyes that they look down; where they would look if they were open nobody knows, and they are drawn level. Another
    photograph says where its own eyes look, so from there it is level, too; numbers say by how much to look elsewhere.
    """
    own, names = move.source.face.expression, move.source.head.expression_names
    known = torch.ones_like(own)
    for side, name in enumerate(SIDES):
        known[:, [names.index(code) for code in MOVED if "Look" in code and code.endswith(name)]] = eyes.open[:, side, None]
    return torch.where(changed_by_number(move.source.face, wanted), own, own * known)


def _openings(names: tuple[str, ...], codes: Tensor) -> Tensor:
    """How far the lids of both eyes are apart (B,2) by coefficients (B,E), less than 0 for lids pressed together."""
    blink, wide = (codes[:, [names.index(f"eye{name}{side}") for side in SIDES]] for name in ("Blink", "Wide"))
    return OPENING - BLINK_CLOSES * blink + WIDE_OPENS * wide


def move_eyes(move: Move, wanted: FaceAttributes, image: Tensor, validity: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Turn, close and open the eyes of a moved picture.

    Args:
        move: the move, of which the mesh keeps the source's eyes.
        wanted: B faces with the eyes that are wanted.
        image: (B,3,H,W) the moved picture.
        validity: (B,1,H,W) of it.

    Returns:
        picture, validity, offset to the source (B,2,H,W) in pixels, and the share of the source's own
        pixels (B,1,H,W); equal bit for bit, and 1, around eyes that do not change.
    """
    eyes, names = move.source.eyes, move.source.head.expression_names
    own_share, offset = torch.ones_like(validity), move.offset
    if eyes is None:
        return image, validity, offset, own_share
    other = move.source.face.expression != wanted.expression
    looks, lids = (
        [[names.index(name) for name in MOVED if name.endswith(side) and ("Look" in name) == look] for side in SIDES]
        for look in (True, False)
    )
    changes = torch.stack([other[:, [*looks[0], *looks[1], *lids[side]]].any(1) for side in range(2)], 1)
    if not bool(changes.any()):
        return image, validity, offset, own_share
    skin = interpolate(move.posed.raster, move.source.head.faces, eyes.around)
    if move.maps is not None:
        skin = skin * (1 - linear_ramp(move.maps.hair, 0.9, 1.0))  # an eye beside hair is no hair
    picture = torch.cat([image, validity, offset, own_share], 1)
    rows = list(picture.split(1))
    for side, target in enumerate(_targets(move, eyes, wanted)):
        for row, changed in enumerate(changes.tolist()):
            if changed[side]:
                rows[row] = _moved(rows[row], move, (row, side), target.rows(slice(row, row + 1)), skin)
    image, validity, offset, own_share = torch.cat(rows).split([3, 1, 2, 1], dim=1)
    return image, validity, offset, own_share


def _moved(picture: Tensor, move: Move, which: tuple[int, int], target: EyeTarget, skin: Tensor) -> Tensor:
    """One picture (1,7,H,W) of `move_eyes` with one eye moved.

    Args:
        picture: image, validity, offset and share of own pixels.
        move: the move.
        which: row and side.
        target: of that row.
        skin: (B,2,H,W) what belongs to the eyes.
    """
    (row, side), eyes = which, move.source.eyes
    assert eyes is not None
    one = slice(row, row + 1)
    height, width = picture.shape[-2:]
    reach = 1.1 * torch.maximum(target.frame.along.norm(), target.frame.across.norm())
    low, high = (target.frame.middle[0] - reach).floor().tolist(), (target.frame.middle[0] + reach).ceil().tolist()
    xs, ys = (slice(int(min(max(a, 0), n - 1)), int(min(max(b, 1), n))) for a, b, n in zip(low, high, (width, height), strict=True))
    here = (..., ys, xs)
    line = [torch.arange(n, device=picture.device, dtype=picture.dtype) for n in (width, height)]
    places = torch.stack(torch.meshgrid(line[0][xs], line[1][ys], indexing="xy"), -1)[None]
    along, across = target.frame.coordinates(places).unbind(-1)
    belongs, ratio = skin[one, side : side + 1][here], move.light_ratio[one][here]
    image, validity, offset, own = picture[here].split([3, 1, 2, 1], dim=1)

    shift = _lid_shift(along, across, target, tuple(curve[one, side] for curve in (eyes.upper, eyes.lower, eyes.top)))
    shift = shift * linear_ramp(REACH - along.abs(), 0.0, 0.2)
    pixels = shift[..., None] * target.frame.across[:, None, None]
    through = places + pixels
    there = sampled(picture[:, 4:6], through, "bilinear") + pixels.permute(0, 3, 1, 2)
    shifted = relit(sampled(move.source.image[one], places + there.permute(0, 2, 3, 1)).clamp(0, 1), ratio)
    moves = (shift.abs()[:, None] > 1e-4).to(image) * belongs
    image = torch.lerp(image, shifted, moves)
    validity = torch.lerp(validity, sampled(picture[:, 3:4], through, "bilinear"), moves)
    offset = torch.lerp(offset, there, moves)

    ball, inside, known = _eyeball(along, across, target, eyes, (one, side))
    inside = inside * belongs
    image = torch.lerp(image, relit(ball, ratio), inside)
    validity = torch.lerp(validity, move.source.options.lid_validity + (1 - move.source.options.lid_validity) * known, inside)
    own = own * (1 - inside)
    if float(target.bare) > 0:
        frame = target.frame.lid_frame(target.upper, side)
        fold = (eyes.upper[one, side] - FOLD).maximum(eyes.top[one, side]) + FOLD_FOLLOWS * (
            target.upper - eyes.upper[one, side]
        ).clamp_min(0)
        over = curve_at(target.upper - fold, along)
        image, share = lowered_lid(
            image, validity * belongs, frame.coordinates(places), (float(target.bare), float(target.lid)), over, eyes.look[one], frame
        )
        validity = torch.lerp(validity, torch.full_like(share, move.source.options.lid_validity), share)
        own = own * (1 - share)
    picture = picture.clone()
    picture[here] = torch.cat([image, validity, offset, own], 1)
    return picture


def _lid_shift(along: Tensor, across: Tensor, target: EyeTarget, source: tuple[Tensor, ...]) -> Tensor:
    """(B,h,w) how far above (negative) its place a pixel beside the lids is found in the source's eye."""
    upper, lower = curve_at(target.upper, along), curve_at(target.lower, along)
    was_upper, was_lower, top = (curve_at(curve, along) for curve in source)
    top = top.minimum(torch.minimum(upper, was_upper) - RIGID_ABOVE - 0.08)
    bottom = torch.maximum(lower, was_lower) + RIGID_BELOW + STRETCHED
    # a lid that comes down comes out from under its fold, which stays; one that goes up takes all skin along
    above = _ramp_between(across, top, upper - RIGID_ABOVE) ** (1 + FOLD_STAYS * linear_ramp(upper - was_upper, 0.0, 0.1)) * (
        was_upper - upper
    )
    below = _ramp_between(-across, -bottom, -lower - RIGID_BELOW) * (was_lower - lower)
    middle = (upper + lower) / 2
    return torch.where(across < middle, above, below)


def _ramp_between(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return ((values - low) / (high - low).clamp_min(1e-4)).clamp(0, 1)


def _eyeball(along: Tensor, across: Tensor, target: EyeTarget, eyes: EyeSource, which: tuple[slice, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The eyeball (1,3,h,w), where it lies between the lids (1,1,h,w), and where the photograph shows it."""
    one, side = which
    upper, lower = curve_at(target.upper, along), curve_at(target.lower, along)
    depth = (across - upper) / (lower - upper).clamp_min(0.02)
    texture = torch.stack([along / REACH, 2 * (depth - ABOVE) / (BELOW - ABOVE) - 1], -1)
    white = F.grid_sample(eyes.white[one, side], texture, mode="bicubic", padding_mode="border", align_corners=True)
    away = (torch.stack([along, across], -1) - target.middle[:, None, None]) / eyes.iris[one, side, None, None, 2:]
    disc = F.grid_sample(eyes.disc[one, side], away / DISC_REACH, mode="bicubic", padding_mode="border", align_corners=True)
    covers = linear_ramp(-away.norm(dim=-1), -1.12, -0.95)[:, None]
    ball = torch.lerp(white[:, :3], disc[:, :3] * white[:, 3:].clamp(0.3, 1), covers).clamp(0, 1)
    # a lid that comes down keeps the light off
    narrower = (lower - upper).clamp_min(0) / (curve_at(eyes.lower[one, side], along) - curve_at(eyes.upper[one, side], along)).clamp_min(
        0.05
    )
    ball = ball * (LEAST_LIGHT + (1 - LEAST_LIGHT) * linear_ramp(narrower, 0.0, 0.9))[:, None]
    soft = 0.5 / target.frame.across.norm() + 0.01  # half a pixel
    inside = ((across - upper) / soft).clamp(0, 1) * ((lower - across) / soft + 0.5).clamp(0, 1) * linear_ramp(0.5 - along.abs(), 0.0, 0.04)
    return ball, inside[:, None], (covers * disc[:, 3:]).clamp(0, 1)
