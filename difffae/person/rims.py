"""The outline of a moved person: of skin, which is smooth, and of hair, which is not.

Shape letters: B batch, H and W picture height and width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.cutout import Cutout
from ..carry.hair_volume import head_outline, motion_around, ramp
from ..carry.state import Maps, Move, PersonSource
from ..common.pixels import dilate, erode, flow_grid, gather, gaussian_blur, gradient_norm, nearest_inside, odd, pixel_grid, relit

HAIR_RIM = 0.05  # how far into the head its outline of hair reaches, as a share of the side
BREAK = 1.5  # pixels by which the motions of neighbours differ where one surface ends before another
STRANDS = 0.1  # and how far beyond it


@dataclass(frozen=True, eq=False)
class MovedPerson:
    """The person as the passes leave it.

    Attributes:
        image: (B,3,H,W) RGB 0..1, the source's head moved and relit all over.
        validity: (B,1,H,W) of these pixels.
        alpha: (B,1,H,W) share of the moving person; the rest is what stays.
    """

    image: Tensor
    validity: Tensor
    alpha: Tensor

    def under(self, other: MovedPerson, share: Tensor) -> MovedPerson:
        """What is seen where the other one lies before this one, as far as a share (B,1,H,W) says."""
        return MovedPerson(
            torch.lerp(self.image, other.image, share),
            torch.lerp(self.validity, other.validity, share),
            torch.lerp(self.alpha, other.alpha, share),
        )


def vacated(maps: Maps, cut: Cutout, resting: Tensor) -> Tensor:
    """Where the background shows once the head has gone: its place, and that of strands beside it.

    Args:
        maps: of the source.
        cut: the same, taken apart.
        resting: (B,1,H,W) share of what stays on the shoulders.
    """
    u = max(resting.shape[-2:]) / 256
    beside = 1 - dilate(resting, odd(4 * u))
    # strands go with the head, and so does their place, where the background is plain enough to know it
    apart = (cut.backdrop.place - maps.matte).clamp_min(0) * beside * (2 * cut.plain - 1).clamp(0, 1)
    # hair has a rim of strands and light that no matte holds
    fringe = dilate(maps.body * maps.hair, odd(11 * u)) * beside
    left = gaussian_blur(dilate(maps.body, odd(5 * u)).maximum(fringe).maximum(apart), 0.7 * u)
    # of a plain wall what is the photograph's own stays so
    return ((left - 0.05) / 0.3).clamp(0, 1) * torch.lerp(torch.ones_like(left), cut.backdrop.place, cut.backdrop.wall)


def smooth_outline(move: Move, person: MovedPerson) -> MovedPerson:
    """A mesh ends in whole pixels and stairs, a head does not. Strands beside it stay as they are."""
    u, alpha, mesh = move.source.unit, person.alpha, move.posed.mesh.to(person.alpha)
    smooth = _sharpened(alpha, 1.6 * u, 3.2 / u**0.5)
    strands = gaussian_blur(dilate(move.known_maps.hair * (1 - mesh), 3), 1.0)
    alpha = torch.lerp(smooth, _sharpened(alpha, 0.8 * u, 1.7), (2 * strands).clamp(0, 1))
    scalp = move.posed.part("scalp").to(alpha)
    scalp = gaussian_blur(gather(scalp, move.posed.nearest[0]), 2 * u) * (1 - erode(mesh, odd(8 * u)))
    return replace(person, alpha=torch.lerp(alpha, _sharpened(alpha, 0.9 * u, 1.7), scalp))


def _sharpened(alpha: Tensor, sigma: float, slope: float) -> Tensor:
    """A share (B,1,H,W) without stairs, but with an edge about as steep as before."""
    return ((gaussian_blur(alpha, sigma) - 0.5) * slope + 0.5).clamp(0, 1)


def redraw_rims(move: Move, person: MovedPerson) -> MovedPerson:
    """Along the outline of bare skin the fit is wrong by a pixel or two: the colours of a core go on there."""
    if not move.any_turned:
        return person
    u = move.source.unit
    mesh = move.posed.mesh.to(person.alpha)
    deep = erode(mesh, odd(7 * u)) > 0.5
    index, away = nearest_inside(deep[:, 0])
    core = gaussian_blur(gather(person.image, index), 1.2)
    nearest = move.posed.nearest[0]

    def beside(*names: str) -> Tensor:
        return gather(move.posed.part(*names).to(mesh), nearest)

    bare = (1 - ((move.known_maps.hair - 0.15) / 0.3).clamp(0, 1)) * (~deep) * (1 - gaussian_blur(beside("scalp"), 2 * u))
    bare = bare * (1 - ((away[:, None] / u - 5) / 3).clamp(0, 1)) * move.turned * (1 - beside("ears"))
    share = gaussian_blur(bare, 0.8) * (erode(mesh, odd(4 * u)) <= 0.5)
    return replace(person, image=torch.lerp(person.image, core, share), validity=person.validity.maximum(0.6 * share))


def hair_outline(move: Move, person: MovedPerson) -> MovedPerson:
    """The outline of hair, which no camera saw where it is now, as the photograph has it in the same direction from the skull.

    A mesh ends smoothly, as a wig; hair ends in tufts and strands. So a rim of the photograph goes along with the head's outline.
    """
    told = person_of(move)
    # of heads that are bent as one piece it is not seen
    layered = move.turned if move.bend is None else move.turned * (1 - move.bend.share)
    if told.outline is None or not bool(layered.any()):
        return person
    source, head = move.source, move.source.head
    pixels = pixel_grid(*source.size, source.image)
    motion, around = motion_around(told.outline, head_outline(head, move.posed.points[..., :2]), pixels)
    grid = pixels + motion.permute(0, 2, 3, 1)
    maps = F.grid_sample(torch.cat([told.maps.body, told.maps.hair], 1), grid, padding_mode="border", align_corners=False)
    alpha, hair = maps.split(1, dim=1)
    scalp = gather(move.posed.part("scalp").to(alpha), move.posed.nearest[0])
    mesh = move.posed.mesh
    deep = nearest_inside(~mesh[:, 0])[1][:, None] / source.side
    far = move.posed.nearest[1][:, None] / source.side
    rim = (1 - ramp(deep, 0, HAIR_RIM)) * (1 - ramp(far, 0.5 * STRANDS, STRANDS))
    here = rim * around * layered * scalp * gaussian_blur((dilate(hair, odd(3 * source.unit)) > 0.5).to(alpha), source.unit)
    colours = F.grid_sample(told.maps.colours, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
    share = here * torch.where(mesh, 1 - person.validity, 1.0)
    return MovedPerson(
        torch.lerp(person.image, relit(colours, move.light_ratio), share),
        torch.lerp(person.validity, torch.full_like(share, source.options.map_validity), share),
        torch.lerp(person.alpha, alpha, here),
    )


def hang_hair(move: Move, person: MovedPerson) -> MovedPerson:
    """Hair that hangs beside and before a jaw: at the ears it goes with the head, at the shoulders it stays.

    Args:
        move: the move.
        person: everything, with the hair's place on the jaw guessed.
    """
    told = person_of(move)
    if not move.any_turned:
        return person
    # on the mesh it does as beside it
    offset = torch.where(move.posed.mesh, torch.lerp(move.offset, move.resting_offset, told.hanging), move.offset)
    grid = flow_grid(offset)
    strands = F.grid_sample(told.strands, grid, padding_mode="border", align_corners=False) * move.turned
    colours = F.grid_sample(told.maps.colours, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
    return MovedPerson(
        torch.lerp(person.image, relit(colours, move.light_ratio), strands),
        torch.lerp(person.validity, torch.ones_like(strands), strands),
        person.alpha.maximum(strands),
    )


def without_stairs(move: Move, image: Tensor) -> Tensor:
    """A picture (B,3,H,W) without the stairs of pixels where one part of the head hides another, such as a cheek the hair behind it; as
    it is if lines are left open (`CarryOptions.line`)."""
    if not move.any_turned or move.source.options.line == 0:
        return image
    inner = erode(move.posed.mesh.to(image), odd(5 * move.source.unit))
    breaks = (gradient_norm(move.offset) / BREAK - 1).clamp(0, 1) * inner
    share = gaussian_blur(dilate(breaks, 3), 0.7) * move.turned * inner
    return torch.lerp(image, gaussian_blur(image, 0.8), share)


def lit_in_place(move: Move) -> Tensor:
    """(B,3,H,W): people who do not move in another light. In the pixels of an outline it falls on the person's share of the colours
    alone: a bright wall that is mixed with dark hair would shine."""
    told = person_of(move)
    change = relit(told.own_colours, move.light_ratio) - relit(told.own_colours, move.resting_light)
    return (move.resting_image + move.known_maps.matte * change).clamp(0, 1)


def person_of(move: Move) -> PersonSource:
    """What the layers told of the source of a move that has layers."""
    assert move.source.person is not None
    return move.source.person
