"""What is seen of a bent photograph: the person before the background, and the face as the mesh moves it.

Shape letters: B batch, H and W picture height and width, N pixels. Lengths named u are 1/256 of the side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.hair_volume import ramp
from ..carry.motion import Bend
from ..carry.options import CutoutOptions
from ..carry.state import Move
from ..common.pixels import dilate, erode, flow_determinant, flow_grid, flow_length, gaussian_blur, gradient_norm, odd, relit
from .bending import bend_options
from .rims import MovedPerson, person_of

PRESSED = (0.3, 0.6)  # gradient of the motion from which, and at which, several pixels of the photograph are one


def bent_person(move: Move, face: MovedPerson) -> MovedPerson:
    """The bent photograph.

    Args:
        move: of turned heads, or of faces whose outline moves.
        face: its inside, with a mouth that opens.
    """
    assert move.bend is not None
    source, told, o, u = move.source, person_of(move), bend_options(move.source), move.source.unit
    back = told.backdrop
    image, matte = torch.lerp(source.image, back.filled, move.bend.gone), told.maps.matte * (1 - move.bend.gone)
    shown = _shown(move.bend, torch.cat([image, told.maps.colours, matte, 1 - source.validity, back.filled], 1))
    whole, colours, soft_alpha, unknown, dragged_wall = shown.split([3, 3, 1, 1, 3], 1)
    alpha, share = _steep(move, soft_alpha)
    whole, colours = relit(whole, move.light_ratio), relit(colours, move.light_ratio)
    person = torch.lerp(colours, whole, ((alpha - 0.9) / 0.1).clamp(0, 1))
    dragged = (flow_length(move.bend.offset) - 0.5).clamp(0, 0.5) * 2
    # while the skull stays, what hardly moves uncovers nothing
    vacated = told.vacated * dragged.maximum((3 * move.turned).clamp(max=1))
    apart = torch.lerp(torch.lerp(move.resting_image, back.filled, vacated), person, alpha)
    # a plain wall stays, to the bit, and what the photograph shows before it goes: the person with strands and light that no matte holds
    dragged_wall = relit(dragged_wall, move.light_ratio)
    # but for what lies far from it, such as the ends of strands
    around = gaussian_blur(dilate((soft_alpha > 0.1).to(alpha), odd(14 * u)), 2 * u)
    before_wall = back.filled + around * (whole - dragged_wall) + soft_alpha * (dragged_wall - back.filled)
    whole = torch.lerp(whole, before_wall, back.wall)
    # beside it the photograph's own background, where that is seen
    beside = torch.lerp(torch.lerp(whole, dragged_wall, ramp(soft_alpha, 0.05, 0.3)), back.filled, back.wall)
    steep = torch.lerp(beside, colours, alpha)
    whole = torch.lerp(whole, steep, ramp(soft_alpha, 0.0, 0.002) * (1 - ramp(alpha, 0.9, 1.0)) * ramp(share, 0.0, 0.05))
    # where a head goes it hides what is behind it, which would else be pressed together beside it
    kept = move.bend.hides * (1 - told.vacated.maximum(told.maps.matte)) * (1 - back.wall)
    whole = torch.lerp(whole, torch.lerp(move.resting_image, person, alpha), kept)
    plain = gaussian_blur(back.validity, 4 * u) / CutoutOptions().fill_validity
    # what can be made up behind the head is not as good as the background itself, gone along, but for lines that would be crooked
    busy = (((0.8 - plain) / 0.2).clamp(0, 1) * ramp(back.lines, *o.lines)).maximum(move.bend.rolls)
    if source.options.still_background:
        busy = torch.ones_like(busy)
    strained = ramp(gaussian_blur(gradient_norm(move.bend.offset), 1.5 * u), *o.stretched)
    gone_along = torch.lerp(torch.ones_like(alpha), torch.full_like(alpha, o.background_validity), dragged)
    left = torch.lerp(told.vacated, back.place, back.wall)
    behind = torch.lerp(gone_along, torch.lerp(torch.ones_like(left), back.validity, left), busy.maximum(back.wall))
    # what stays is known where it is
    stays = busy.maximum(back.wall) * (1 - alpha)
    valid = (1 - torch.lerp(unknown, 1 - source.validity, stays)) * torch.lerp(behind, 1 - 0.5 * strained * (1 - move.bend.core), alpha)
    well = gaussian_blur(erode(ramp(move.seen, 0.3, 0.6), odd(3 * u)), 1.5 * u)
    valid = torch.lerp(valid, torch.ones_like(valid), kept * (1 - alpha))
    bent = MovedPerson(torch.lerp(whole, apart, busy), valid, alpha)
    return bent.under(face, erode(move.bend.core, odd(4 * u)) * well)


def _steep(move: Move, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The outline (B,1,H,W) of a bent person, of bare skin as steep as it was where it was drawn out; and where that is (B,1,H,W)."""
    assert move.bend is not None
    u, was = move.source.unit, move.source.posed
    skin = dilate(was.part("face", "ears", "neck").to(alpha), odd(9 * u)) * (1 - dilate(was.part("scalp").to(alpha), odd(5 * u)))
    skin = F.grid_sample(skin, flow_grid(move.bend.offset), padding_mode="border", align_corners=False)
    drawn = gaussian_blur(flow_determinant(move.bend.offset), 4 * u).clamp(0.4, 1)
    share = skin * ramp(1 - drawn, 0.1, 0.3) * (1 - gaussian_blur(dilate(move.known_maps.hair, odd(5 * u)), u))
    steep = gaussian_blur(((alpha - 0.5) / drawn.sqrt() + 0.5).clamp(0, 1), 0.6)
    return torch.lerp(alpha, steep, share), share


def _shown(bend: Bend, picture: Tensor) -> Tensor:
    """The photograph, its person's colours and alpha, what is unknown, and the empty background (B,11,H,W), bent.

    Along the rim of a head that goes before the rest both are mixed, and where several pixels of the photograph are one, these are.
    """
    sharp = F.grid_sample(picture, flow_grid(bend.offset), mode="bicubic", padding_mode="border", align_corners=False)
    low, high = PRESSED
    share = gaussian_blur(ramp(gradient_norm(bend.offset), low, high), 1.0)
    rim = (8 * bend.face * (1 - bend.face)).clamp(max=1)
    share = share.maximum((flow_length(bend.over - bend.under) - 0.5).clamp(0, 1) * rim)
    # beside sharp outlines cubic weights ring
    share = share.maximum((-1000 * sharp[:, 6:7]).clamp(0, 1))
    fine = [F.pixel_unshuffle(F.interpolate(offset, scale_factor=2, mode="bilinear"), 2) for offset in (bend.under, bend.over)]
    rows = []
    for row, there in enumerate(share[:, 0] > 0):
        mixed = sharp[row].clamp(0, 1)
        under, over = (_averaged(picture[row : row + 1], offset[row], there) for offset in fine)
        smooth = torch.lerp(under, over, bend.face[row][:, there])
        mixed[:, there] = torch.lerp(mixed[:, there], smooth, share[row][:, there])
        rows.append(mixed)
    return torch.stack(rows)


def _averaged(picture: Tensor, offset: Tensor, there: Tensor) -> Tensor:
    """A picture (1,C,H,W) at pixels of the target (H,W): the mean over their quarters, whose offsets (8,H,W) are given: (C,N)."""
    height, width = there.shape
    rows, columns = there.nonzero().unbind(-1)
    x, y = offset[:, there].unflatten(0, (2, 4))
    quarter = torch.tensor([-0.25, 0.25], device=x.device, dtype=x.dtype)
    x = x + columns + quarter.repeat(2)[:, None]
    y = y + rows + quarter.repeat_interleave(2)[:, None]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)[None]
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)[0].mean(1)
