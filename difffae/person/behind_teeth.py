"""What lies behind the upper teeth of a mouth that opens: the throat, the tongue, the lower teeth.

Shape letters: h and w those of a window around the mouth.

No photograph of closed lips shows any of it, so it is painted: a tongue that is a rounded surface in the light of the face,
wet, and darker the farther back it lies; the tips of the lower teeth before it; darkness behind it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head.shading import sh_shading
from .mouth_opening import MouthLight, Opening, smooth_ramp, smooth_step

# --- colours beside skin of luma 0.6 in white light, RGB ---
THROAT, WALLS, TONGUE = (0.13, 0.045, 0.04), (0.36, 0.165, 0.15), (0.60, 0.30, 0.285)
# --- in widths of the mouth ---
WALL = 0.10  # how far walls are seen from the lips
TONGUE_HALF = 0.37
TONGUE_HEIGHT = 0.02, 0.74  # of its back above the lower lip: what it has anyway, and share of the opening
FURROW = 0.03
LOWER_TEETH = 0.085  # what of them is seen above the lower lip of a mouth that is wide open
LOWER_WIDTH, LOWER_HALF, LOWER_GAP = 0.100, 0.30, 0.012  # of a tooth, of half the row that is seen, and of a gap
# --- openings from which, and up to which, they come to view ---
TONGUE_SEEN, LOWER_SEEN = (0.14, 0.42), (0.24, 0.5)
ROUND = 2.4  # power of the tongue's outline, 2 is an ellipse
LIGHTS = 0.45, 1.4  # the least and the most light on a tongue's surface, beside one that faces the viewer
BACK = 0.28  # share of the light that reaches the tongue's back


def behind_teeth(opening: Opening, light: MouthLight, lamp: Tensor, middle: float) -> Tensor:
    """Colours of the inside of a mouth, all over the window.

    Args:
        opening: the mouth.
        light: around it.
        lamp: (9,3) SH light of the face.
        middle: where along the mouth the middle of its teeth lies, in widths.

    Returns:
        (3,h,w).
    """
    wide = opening.frame.opening
    deep = smooth_ramp(opening.inside, 0.0, min(WALL, 0.3 * wide + 0.01))
    inside = torch.lerp(light.flesh(WALLS), light.flesh(THROAT), deep)
    colours, share = _tongue(opening, light, lamp)
    inside = torch.lerp(inside, colours, share)
    # the lip and the teeth behind it keep light from what lies below and behind them
    inside = inside * (1 - 0.55 * torch.exp(-((opening.above.clamp_min(0) / (0.02 + 0.09 * smooth_step(wide, *LOWER_SEEN))) ** 2)))
    colours, share = _lower_teeth(opening, light, middle)
    inside = torch.lerp(inside, colours, share)
    return inside * light.share


def _tongue(opening: Opening, light: MouthLight, lamp: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (3,h,w) and share (h,w)."""
    frame, wide = opening.frame, opening.frame.opening
    beside = (opening.along - 0.5) / TONGUE_HALF
    floor = float(frame.lower[len(frame.lower) // 2, 1])
    furrow = torch.exp(-(((opening.along - 0.5) / FURROW) ** 2))
    height = TONGUE_HEIGHT[0] + TONGUE_HEIGHT[1] * wide - 0.02 * furrow
    back = ((floor - opening.down) / height).clamp(-0.5, 1.5)  # 0 at the tip, 1 at the back
    radius = (beside.abs() ** ROUND + back.clamp_min(0) ** ROUND) ** (1 / ROUND)
    share = (1 - smooth_ramp(radius, 0.74, 1.04)) * smooth_step(wide, *TONGUE_SEEN)
    # its surface leans to the sides, and back the farther it lies in the mouth; the furrow's walls face each other
    side = 0.8 * beside * beside.abs().clamp(max=1.2) - 0.9 * ((opening.along - 0.5) / FURROW) * furrow * (1 - 0.5 * back.clamp(0, 1))
    up = torch.lerp(torch.full_like(back, -0.35), torch.full_like(back, 0.9), smooth_ramp(back, -0.15, 0.85))
    normals = F.normalize(torch.stack([side, up, torch.ones_like(side)]), dim=0)
    shade = _lit(opening, normals, lamp)
    depth = BACK + (1 - BACK) * (1 - smooth_ramp(radius, 0.15, 1.0))
    colours = light.flesh(TONGUE) * shade * depth * (1 + 0.05 * _grain(beside, back))
    wet = torch.exp(-(((beside.abs() - 0.30) / 0.16) ** 2) - ((back - 0.36) / 0.15) ** 2) * (0.7 + 0.5 * _grain(1.7 * beside, 1.3 * back))
    return colours + 0.16 * wet.clamp_min(0) * shade * light.teeth, share


def _lit(opening: Opening, normals: Tensor, lamp: Tensor) -> Tensor:
    """(3,h,w): light on normals (3,h,w), along the mouth, up and to the viewer, beside that on what faces the viewer."""
    along = F.normalize(opening.frame.along, dim=0)
    x = along[0] * normals[0] + along[1] * normals[1]
    y = along[0] * normals[1] - along[1] * normals[0]
    turned = torch.stack([x, y, normals[2]], -1)
    front = turned.new_tensor([0.0, 0.0, 1.0]).expand(1, 1, 3)
    seen, straight = sh_shading(turned[None], lamp[None])[0], sh_shading(front[None], lamp[None])[0]
    return (seen / straight.clamp_min(0.05)).clamp(*LIGHTS).permute(2, 0, 1)


def _grain(x: Tensor, y: Tensor) -> Tensor:
    """Unevenness of a tongue, about -1..1, that goes along with it."""
    return (torch.sin(23 * x + 5 * y) * torch.sin(31 * y - 9 * x + 1) + torch.sin(47 * x - 17 * y + 2) * torch.sin(41 * y + 29 * x)) / 2


def _lower_teeth(opening: Opening, light: MouthLight, middle: float) -> tuple[Tensor, Tensor]:
    """Colours (3,h,w) and share (h,w)."""
    x = opening.along - middle
    number = (x / LOWER_WIDTH).floor()
    beside = (x / LOWER_WIDTH - number - 0.5).abs() * 2
    tip = 0.006 * torch.sin(2.3 * number + 0.7) + 0.018 * beside**2.5 + 0.35 * x.square()
    seen = LOWER_TEETH * smooth_step(opening.frame.opening, *LOWER_SEEN)
    pixels = opening.frame.width * 2
    share = ((seen - tip - opening.above) * pixels + 0.5).clamp(0, 1) * (1 - smooth_ramp(x.abs(), 0.6 * LOWER_HALF, LOWER_HALF))
    share = share * smooth_step(seen, 0.01, 0.03)
    gap = torch.exp(-(((1 - beside) * LOWER_WIDTH / 2 / LOWER_GAP) ** 2))
    lip = torch.exp(-((opening.above.clamp_min(0) / 0.025) ** 2))
    brightness = 0.9 * (1 - 0.35 * gap) * (1 - 1.3 * x.abs()).clamp_min(0) * (1 - 0.25 * lip)
    return light.teeth * light.shaded(brightness), share
