"""How bright a face lit by numbers becomes: about as bright as it was, and without burnt skin.

Shape letters: B batch, V vertices, N vertices of the face's skin, H and W picture height and width.

A light ratio multiplies picture values, so a lamp from the side can push one cheek to white and the
mean of the face away from where it was. Here the photograph's colours on the skin tell what a ratio
would do to them. Where skin would become too bright, the ratio bends to a ceiling, so that the lit
side keeps its texture; the rest of the face keeps the contrast that was asked for, and its shadows
fall. Then the whole ratio is made a little darker or brighter.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, gaussian_blur, relit
from ..head.adjust import LUMINANCE
from ..head.morphable import HeadModel, labelled
from ..head.shading import face_normals, vertex_sums
from .options import CarryOptions
from .state import PosedHead, Skin, Source

GAMMA = 2.2  # picture values to the power of this are about linear light
EXPOSURES = (-1.5, 1.2)  # logarithms of picture values, within which a whole ratio is made darker or brighter
STOP = math.log(2) / GAMMA  # of linear light, as the logarithm of picture values
LOST = 3  # times what a face cannot be lit in the mean its whole light becomes darker
BEND = 4  # the higher, the closer to its ceiling a ratio stays what it is
HALVINGS = 9  # of that range, to half a percent


def face_skin(image: Tensor, posed: PosedHead, head: HeadModel, o: CarryOptions) -> Skin:
    """Colours of the photograph on the head, for the exposure of new lights.

    Args:
        image: (B,3,H,W) RGB 0..1.
        posed: the head in it.
        head: the head model.
        o: how far highlights reach.
    """
    # the camera looks along z, and a projected triangle that faces it has a negative normal there
    areas = (-face_normals(posed.points, head.faces)[..., 2]).clamp_min(0)
    area = vertex_sums(areas[..., None], head.faces, head.vertex_count)[..., 0]
    face = labelled(head.labels, "face")
    inside = (posed.points[:, face, :2].abs() <= 1).all(-1)
    side = max(image.shape[-2:])
    # single bright pixels (eyes, wet lips) are no highlight of the skin, but small bright spots are
    brightest = gaussian_blur(image.amax(1, keepdim=True), o.highlight_blur / 5 * side)
    brightest = gaussian_blur(dilate(brightest, 2 * round(o.highlight_reach * side) + 1), o.highlight_blur * side)
    return Skin(_on_vertices(image, posed)[:, face], area[:, face] * inside + 1e-9, _on_vertices(brightest, posed).clamp_min(0.02))


def brightest_cells(image: Tensor, person: Tensor, cells: int) -> Tensor:
    """Value of the brightest channel of a person around every cell of a grid over a picture.

    Args:
        image: (B,3,H,W) RGB 0..1.
        person: (B,1,H,W) share of the person, 0..1; the background does not count.
        cells: of a row and of a column.

    Returns:
        (B,cells * cells,1).
    """
    share = F.adaptive_avg_pool2d(person, cells)
    # the white of a pattern counts, and what an outline is mixed with does not
    value = F.adaptive_max_pool2d(image.amax(1, keepdim=True) * (person > 0.95), cells)
    value, known = dilate(value, 3), dilate(share, 3) + 1e-6
    return (gaussian_blur(value * known, 1.0) / gaussian_blur(known, 1.0)).flatten(2).transpose(1, 2).clamp_min(0.02)


def limited(log_ratio: Tensor, factor: float) -> Tensor:
    """The logarithm of a ratio that softly stays between a factor and its inverse."""
    limit = math.log(factor)
    return limit * torch.tanh(log_ratio / limit)


def exposed(source: Source, log_ratio: Tensor, turned: Tensor) -> Tensor:
    """A light ratio that about keeps the face's brightness and burns no skin.

    The face's mean linear light becomes at most `darker_stops` darker or `brighter_stops` brighter than
    it was, and no skin passes `highlight` that did not before. Within that, the ratio keeps its
    contrast.

    Args:
        source: the source.
        log_ratio: (B,V+P,3) logarithm of the light ratio on vertices and body, RGB.
        turned: (B,V+P,3) what of it comes from the head's turn in the source's own light.

    Returns:
        (B,V+P,3) logarithm of the ratio.
    """
    o, skin = source.options, source.skin
    face = labelled(source.head.labels, "face").nonzero()[:, 0]
    ceiling = _ceiling(source)

    def beyond(change: Tensor) -> Tensor:
        """By how much (B,1,1) the face becomes brighter with a ratio that is brighter by (B,1,1)."""
        ratio = _held(log_ratio[:, face] + change, ceiling[:, face], o.least_lit)
        return _mean_log(skin, relit(skin.colours, ratio.exp())) - before

    before = _mean_log(skin, relit(skin.colours, turned[:, face].exp()))
    now = beyond(torch.zeros_like(before))
    goal = now.clamp(-o.darker_stops * STOP, o.brighter_stops * STOP)
    goal = goal + o.shadow_share * (now - goal).clamp_max(0)
    low, high = (torch.full_like(before, end) for end in EXPOSURES)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_dark = beyond(middle) < goal
        low, high = torch.where(too_dark, middle, low), torch.where(too_dark, high, middle)
    return _held(log_ratio + (low + high) / 2, ceiling, o.least_lit)


def unburnt(source: Source, log_ratio: Tensor) -> Tensor:
    """A light ratio under which no skin passes `highlight` that did not before. What highlights cannot become brighter the
    whole ratio becomes darker, by up to `taken_stops`, so that a bright face shows another light at all.

    Args:
        source: the source.
        log_ratio: (B,V+P,3) logarithm of the light ratio on vertices and body, RGB.

    Returns:
        (B,V+P,3) logarithm of the ratio; zero stays exactly zero.
    """
    o, face, ceiling = source.options, labelled(source.head.labels, "face").nonzero()[:, 0], _ceiling(source)
    area = source.skin.area[..., None]
    lost = (log_ratio - _held(log_ratio, ceiling, o.least_lit))[:, face].mean(-1, keepdim=True).clamp_min(0)
    lost = (area * lost).sum(1, keepdim=True) / area.sum(1, keepdim=True)
    return _held(log_ratio - (LOST * lost).clamp(max=o.taken_stops * STOP), ceiling, o.least_lit)


def _ceiling(source: Source) -> Tensor:
    """(B,V+P,1) logarithm of the factor by which vertices and body can be lit before they burn."""
    o, skin = source.options, source.skin
    brightest = skin.brightest if source.body is None else torch.cat([skin.brightest, source.body.brightest], 1)
    return (math.log(o.highlight) - brightest.log()).clamp(1e-3, math.log(o.most_lit))


def _held(ratio: Tensor, room: Tensor, least: float) -> Tensor:
    """A ratio (B,n,3) that softly stays below a ceiling (B,n,1) and above the darkest, in the same colour."""
    most = ratio.amax(-1, keepdim=True)
    brighter, darker = most.clamp_min(0), most.clamp_max(0)
    return ratio + brighter / (1 + (brighter / room) ** BEND) ** (1 / BEND) - brighter + limited(darker, least) - darker


def _on_vertices(image: Tensor, posed: PosedHead) -> Tensor:
    """An image (B,C,H,W) where the vertices are: (B,V,C)."""
    at = posed.points[:, None, :, :2]
    return F.grid_sample(image, at, padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)


def _mean_log(skin: Skin, colours: Tensor) -> Tensor:
    """(B,1,1): logarithm of the picture value whose linear light is the mean of colours (B,N,3)."""
    values = colours @ colours.new_tensor(LUMINANCE)
    mean = (skin.area * values.clamp_min(1e-4) ** GAMMA).sum(1) / skin.area.sum(1)
    return (mean.log() / GAMMA)[:, None, None]


def inwards(source: Source) -> Tensor:
    """(1 or B,1,H,W): 0 at the border of a square, rising softly to 1 inside; 1 at sides at which the photograph ends within it."""
    o, image = source.options, source.image
    found = torch.ones_like(image[:1, :1])
    for dim, n in ((-2, source.size[0]), (-1, source.size[1])):
        place = torch.arange(n, device=image.device, dtype=image.dtype) + 0.5
        for side, away in ((0, place), (n - 1, place.flip(0))):
            x = (away / source.pixels(o.light_border if (dim, side) == (-2, 0) else o.body_border)).clamp(max=1)
            fall = (1 - x * x * (3 - 2 * x)).view((-1, 1) if dim == -2 else (1, -1))
            goes_on = source.validity.select(dim, side).mean((1, 2))[:, None, None, None]
            found = found * (1 - goes_on * fall)
    return found
