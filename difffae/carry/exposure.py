"""How bright a face lit by numbers becomes: about as bright as it was, and without burnt skin.

Shape letters: B batch, V vertices, N vertices of the face's skin, H and W picture height and width.

A light ratio multiplies picture values, so a lamp from the side can push one cheek to white and the
mean of the face away from where it was. Here the photograph's colours on the skin tell what a ratio
would do to them; then the whole ratio is made a little darker or brighter, and where that is not
enough, flatter.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import relit
from ..head.adjust import LUMINANCE
from ..head.morphable import HeadModel, labelled
from ..head.shading import face_normals
from .state import PosedHead, Skin, Source

GAMMA = 2.2  # picture values to the power of this are about linear light
WHITE = 0.95  # skin above this is burnt in the photograph already
HALVINGS = 6  # of the search for how flat a light must be, to about one percent


def face_skin(image: Tensor, posed: PosedHead, head: HeadModel) -> Skin:
    """Colours of the photograph on the skin of the face.

    Args:
        image: (B,3,H,W) RGB 0..1.
        posed: the head in it.
        head: the head model.
    """
    # the camera looks along z, and a projected triangle that faces it has a negative normal there
    areas = (-face_normals(posed.points, head.faces)[..., 2]).clamp_min(0)
    area = torch.zeros_like(posed.points[..., 0])
    for corner in range(3):
        area = area.index_add(1, head.faces[:, corner], areas)
    face = labelled(head.labels, "face")
    points = posed.points[:, face, :2]
    colours = F.grid_sample(image, points[:, None], padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)
    inside = (points.abs() <= 1).all(-1)
    return Skin(colours, area[:, face] * inside + 1e-9)


def exposed(source: Source, log_ratio: Tensor, turned: Tensor) -> Tensor:
    """A light ratio that keeps the face's brightness and its highlights.

    The face's mean linear light may differ by `brightness_stops` from what it was. If its brightest
    skin passes `highlight`, the ratio is made darker within these stops, and only then
    flatter. Nothing is done to a ratio that does neither.

    Args:
        source: the source.
        log_ratio: (B,V,3) logarithm of the light ratio, RGB.
        turned: (B,V,3) what of it comes from the head's turn in the source's own light.

    Returns:
        (B,V,3) logarithm of the ratio.
    """
    o, skin = source.options, source.skin
    face = labelled(source.head.labels, "face")
    wanted = log_ratio[:, face]
    before = _mean_log(skin, relit(skin.colours, turned[:, face].exp()))
    goal = _highlight(skin, skin.colours, o.highlight_share).clamp_min(math.log(o.highlight))

    def brightened(share: Tensor) -> tuple[Tensor, Tensor]:
        """Change (B,1,1) of the logarithm for a ratio flattened to a share, and whether skin burns
        nevertheless.
        """
        ratio = (share * wanted).exp()
        beyond = _mean_log(skin, relit(skin.colours, ratio)) - before
        most = o.brightness_stops * math.log(2) / GAMMA
        room = goal - _highlight(skin, skin.colours * ratio, o.highlight_share)
        change = room.clamp(max=0).maximum(-most - beyond).minimum(most - beyond)
        return change, change > room + 1e-6

    full = torch.ones_like(before)
    flat = torch.full_like(before, o.flattest_light)
    low, high = flat, full
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        burns = brightened(middle)[1]
        low, high = torch.where(burns, low, middle), torch.where(burns, middle, high)
    share = torch.where(brightened(full)[1], low, full)
    return share * log_ratio + brightened(share)[0]


def _mean_log(skin: Skin, colours: Tensor) -> Tensor:
    """(B,1,1): logarithm of the picture value whose linear light is the mean of colours (B,N,3)."""
    values = colours @ colours.new_tensor(LUMINANCE)
    mean = (skin.area * values.clamp_min(1e-4) ** GAMMA).sum(1) / skin.area.sum(1)
    return (mean.log() / GAMMA)[:, None, None]


def _highlight(skin: Skin, colours: Tensor, share: float) -> Tensor:
    """(B,1,1): logarithm of the value that only a share of the skin passes, in any channel of
    colours (B,N,3); without what is burnt in the photograph.
    """
    values, order = colours.amax(-1).sort(dim=1, descending=True)
    sound = skin.area * ((skin.colours.amax(-1) <= WHITE) + 1e-6)
    area = sound.gather(1, order).cumsum(1)
    place = (area < share * area[:, -1:]).sum(1, keepdim=True).clamp(max=values.shape[1] - 1)
    return values.gather(1, place).clamp_min(1e-4).log()[..., None]
