"""The person of a carried photograph apart from the background, and what neither of them showed (for `carry`).

Shape letters: B batch, V vertices, F faces, H and W picture height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import Memo, dilate, erode, gather, gaussian_blur, nearest_inside, opened, pull_push, relit, remembered
from ..head.attributes import FaceAttributes
from ..head.morphable import LABELS, HeadModel
from ..head.rasterizer import Raster, interpolate
from ..head.shading import sh_shading
from ..source.regions import Layers
from .filling import INNER, inside_of_mouth, kept_teeth
from .hair_volume import hair_weight, has_scalp


@dataclass(frozen=True)
class CarryOptions:
    """Lengths are fractions of the crop's side."""

    stretch_expression: bool = True  # by the factors of expression_gain
    reach: float = 0.18  # outside the mesh the displacement fades as exp(-(distance / reach)^2)
    hair_reach: float = 0.35  # same, where the background moves apart
    light_reach: float = 0.07  # same for the light ratio
    matte_light_reach: float = 0.14  # same, where a matte keeps the light off the background
    motion_blur: float = 0.03  # standard deviation of the blur of the extrapolated displacement
    light_blur: float = 0.01
    light_gain: float = 1.05  # of the light's change over the head: photographs have shadows, which second-order SH state too weakly
    ratio_limit: float = 8.0  # light ratios approach limit and 1/limit softly
    shading_floor: float = 0.3  # of the mean shading: SH fitted to a visible face says little about directions it hides
    hidden_shading: float = 0.6  # of the mean shading, at least, on skin that is guessed: that light is an extrapolation
    depth_tolerance: float = 0.03  # in units of the projected mesh (the crop is 2 wide)
    grazing: float = 0.4  # texture seen at less than this share of the target's foreshortening fades out: it is stretched
    fill_blur: float = 0.015  # of the colours that stand in for background which the person hid
    fill_validity: float = 0.6  # of these colours where the background around is plain
    plain_reach: float = 0.03  # how far around is looked at
    plain_spread: float = 0.04  # standard deviation of its colours (0..1) at which a background is plain no more
    outline: int = 2  # pixels around the person where the background is mixed with it, and not to be trusted once the person left
    edge_blur: float = 0.55  # pixels: standard deviation of the blur of the moved person's outline
    mesh_edge: float = 0.012  # how far skin may reach beyond the mesh, because the fit is not exact
    closing: float = 0.02  # gaps in the moved person up to this width are no view of the background
    line: float = 0.02  # lines on the head that no camera saw, narrower than this, are closed from both sides
    guess_validity: float = 0.1  # of what is only continued from around
    mirrored_validity: float = 0.4  # of hair that stands in for hair behind it
    mirrored_share: float = 0.3  # of its colour, beside the colours around
    beyond_share: float = 0.8  # of the nearest hair's colour where the mesh stands out beyond the hair
    cloth_share: float = 0.0005  # of the colour of clothes in skin that goes on, beside that of skin
    nape_hair: float = 0.04  # that hair stands out from a neck (the crop is 2 wide) until its colour counts as hair's
    stretch: float = 0.8  # validity falls as exp(-(|gradient of displacement| / stretch)^2)


@dataclass(frozen=True)
class Motion:
    """Where the pixels of a carried photograph come from.

    source, target: the two rasters of the head with its hair; normals (B,V,3) of the target's vertices; offsets (B,V,3) of hair_offsets;
    flow (B,2,H,W) source minus target position in pixels, body (B,2,H,W) the same of what rests on the shoulders; grid (B,H,W,2) the source
    positions in -1..1; seen (B,1,H,W) how well the source showed the mesh's surface point; parted (B,1,1,1) by
    how many pixels the lips part; upper (V,) the vertices of the upper teeth, skull (B,2) their
    source minus target position, or None for a head without; memo of `carry`.
    """

    source: Raster
    target: Raster
    normals: Tensor
    offsets: Tensor
    flow: Tensor
    body: Tensor
    grid: Tensor
    seen: Tensor
    parted: Tensor
    upper: Tensor | None = None
    skull: Tensor | None = None
    memo: Memo | None = None

    def sample(self, picture: Tensor) -> Tensor:
        """A map (B,C,H,W) of the source, carried along."""
        return F.grid_sample(picture, self.grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Apart:
    """image (B,3,H,W), its validity (B,1,H,W); person and front (B,1,H,W): where the person was, and is now."""

    image: Tensor
    validity: Tensor
    person: Tensor
    front: Tensor


def separate(
    image: Tensor,
    carried: Tensor,
    ratio: Tensor,
    valid: Tensor,
    known: Tensor,
    layers: Layers,
    motion: Motion,
    head: HeadModel,
    target: FaceAttributes,
    o: CarryOptions,
) -> Apart:
    """The carried person in front of the background, which stays where it is; holes in both are filled with a guess.

    image (B,3,H,W) the source, known (B,1,H,W) its validity; carried (B,3,H,W) the source moved and relit all over, by ratio (B,3,H,W),
    valid (B,1,H,W) its validity.
    """
    side = max(image.shape[-2:])
    pixels = round(o.mesh_edge * side)
    edge = 2 * pixels + 1
    on_mesh, mask = ((raster.face >= 0)[:, None].to(image.dtype) for raster in (motion.source, motion.target))
    inside = mask > 0
    # the mesh may stand out beyond the person (ears, skull): along its edge the matte decides, where the source showed that place
    person = layers.person.maximum(erode(on_mesh, 2 * edge + 1))
    on_person = motion.sample(person)
    moves = motion.flow.square().sum(1, keepdim=True).sqrt()
    # bare skin of the source is inside the target's mesh now, and what lay on its head is on the target's head; beside it they would
    # only be a smear, if they moved by more than a fit is wrong. Hair and hats stand out
    loose = motion.sample(remembered(motion.memo, "loose", lambda: _standing_out(layers, on_mesh, motion.source, head, edge)))
    # clothes do not turn with the head
    worn = dilate((layers.loose - layers.hair).clamp_min(0), edge)  # with its soft edges
    apart = (motion.flow - motion.body).square().sum(1, keepdim=True).sqrt()
    loose = loose * (1 - motion.sample(worn) * (apart / (o.mesh_edge * side) - 0.5).clamp(0, 1))
    beside = torch.lerp(on_person, loose, (moves / (o.mesh_edge * side) - 0.5).clamp(0, 1))
    # the matte cuts the mesh's rim off where the source showed background there; farther inside it leaves a hole to fill
    rim = dilate(1 - mask, 2 * edge + 1)
    cut = (motion.seen > 0) | head.part_mask(motion.target, "ears")[:, None]
    front = torch.where(inside, torch.where(cut, on_person.maximum(1 - rim), 1), beside)
    # splinters of the mesh beyond that were cut off from the head
    rounded = ((gaussian_blur(front, 0.6 * edge) - 0.35) / 0.3).clamp(0, 1)
    front = torch.where(inside & ~cut, front.minimum(rounded), front)
    # what hardly moved is not hidden by anything new, except inside the mouth
    shifted = torch.where(head.part_mask(motion.target, *INNER)[:, None], 1, (moves / (o.mesh_edge * side)).clamp(max=1))
    valid = torch.where(inside, torch.lerp(torch.ones_like(valid), valid * on_person, shifted), valid)
    # cloth on a moved jaw is what lay behind it
    jaw = head.part_mask(motion.target, "face", "ears")[:, None] * shifted
    valid = valid * (1 - jaw * motion.sample((layers.loose - layers.hair).clamp_min(0)))
    # no background shows in a gap between face and hair, but what does was not seen
    closing = round(o.closing * side) | 1
    gap = (erode(dilate(front, closing), closing) - front).clamp(0, 1)
    front, valid = front + gap, valid * (1 - gap)
    # a mesh ends in whole pixels, a person does not
    front = torch.lerp(front, gaussian_blur(front, o.edge_blur), moves.clamp(max=1))
    solid, inner = remembered(motion.memo, "solid", lambda: without_background(image, person, o))
    bare = (1 - motion.sample(inner)) * moves.clamp(max=1)
    carried = torch.lerp(carried, relit(motion.sample(solid), ratio), bare)
    # edges of a matte are soft everywhere; only where something moves do they hide what is behind
    backdrop = remembered(motion.memo, "backdrop", lambda: empty_place(image, person, o))
    behind, seen_behind = background(image, backdrop, front, moves.clamp(max=1))
    # what is behind the teeth of a mouth that opens was hardly seen: the fit takes teeth for tongue
    behind_teeth = head.part_mask(motion.target, "mouth", "tongue")[:, None]
    valid = torch.where(behind_teeth, valid * (1 - (motion.parted / (o.mesh_edge * side)).clamp(max=1)), valid)
    if motion.upper is not None and motion.skull is not None:
        teeth, shown = kept_teeth(image, ratio, head, motion.source, motion.target, motion.upper, motion.skull, known)
        shown = shown * (1 - valid)
        carried, valid = torch.lerp(carried, teeth, shown), valid.maximum(shown)
    guess, guessed, mouth = guess_person(carried, valid * front, layers, known, motion, head, target, o)
    valid = valid * (1 - mouth)
    filled = torch.lerp(guess, carried, valid)
    validity = front * valid.maximum(guessed) + (1 - front) * seen_behind * known
    return Apart(front * filled + (1 - front) * behind, validity, person, front)


def _standing_out(layers: Layers, on_mesh: Tensor, source: Raster, head: HeadModel, edge: int) -> Tensor:
    """Hair, hats and clothes of the source beside its mesh (B,1,H,W), and what of the person is far from it."""
    loose = torch.lerp(layers.person, layers.loose, dilate(on_mesh, 3 * edge)) * (1 - erode(on_mesh, edge))
    # a thin rim beside a neck is its skin, whatever the masks say; beside the scalp it may be strands
    scalp = dilate(head.part_mask(source, "scalp")[:, None].to(on_mesh), 6 * edge + 1)
    return loose.minimum(opened(loose, edge + 2).maximum(scalp))


def without_background(image: Tensor, person: Tensor, o: CarryOptions) -> tuple[Tensor, Tensor]:
    """The picture (B,3,H,W) with the person's colours going on beyond the person (B,1,H,W), whose outline is mixed with the background that
    it leaves; and where the picture's own colours are the person's alone (B,1,H,W)."""
    core = erode(person, o.outline | 1)
    inner = ((core - 0.8) / 0.15).clamp(0, 1)
    around = gather(image, nearest_inside(core[:, 0] > 0.9)[0])
    return torch.lerp(gaussian_blur(around, 1.0), image, inner), inner


def guess_person(
    moved: Tensor, known: Tensor, layers: Layers, seen: Tensor, motion: Motion, head: HeadModel, target: FaceAttributes, o: CarryOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """What the person may look like where the source did not show it: picture (B,3,H,W) and validity (B,1,H,W) of the guess, and how far it
    shows the inside of a newly opened mouth (B,1,H,W).

    Hair continues hair and skin continues skin; the inside of the mouth is the head model's. Where a hidden point of the scalp lies
    behind hair of the source, that hair stands in for it. moved (B,3,H,W), known (B,1,H,W): the carried picture and how well it is known;
    layers and seen (B,1,H,W): of the source, and how well that was known.
    """
    scalp = _scalp(motion, head, target, o)
    mirrored = motion.sample(layers.hair * seen) * scalp
    # a little of a wrong colour would fill a whole hole, and along its edge the mesh shows what lay beside the skin
    sure = erode((2 * known - 1).clamp_min(0), 2 * round(o.mesh_edge * moved.shape[-1] / 2) + 1)
    # where the head model stands out beyond the hair that was seen, that hair goes on
    beyond = scalp * (motion.target.face >= 0)[:, None] * (1 - motion.sample(layers.person))
    continued = pull_push(moved, (sure * scalp).maximum(o.mirrored_share * mirrored).maximum(o.beyond_share * beyond))
    # skin goes on in its own colour, under the light that falls on the hidden place
    shading = hidden_shading(head, motion.target, motion.normals, target.light, o)
    cloth = motion.sample((layers.loose - layers.hair).clamp_min(0))
    skin = (pull_push(moved / shading, sure * (1 - scalp) * (1 - (1 - o.cloth_share) * cloth)) * shading).clamp(0, 1)
    guess = torch.lerp(skin, continued, scalp)
    where = head.part_mask(motion.target, *INNER)[:, None]
    guess = torch.where(where, moved, guess)
    # thin gaps between lips and teeth are errors of the fit
    hole = where * (1 - known)
    core = erode(hole, 5)
    wide = torch.zeros_like(hole)
    if bool((core > 0).any()):
        wide = gaussian_blur(dilate(core, 5).minimum(hole), o.edge_blur)
        guess = torch.lerp(guess, inside_of_mouth(head, target, motion.target, motion.normals, where), wide)
    return guess, o.guess_validity + (o.mirrored_validity - o.guess_validity) * mirrored, wide


def hidden_shading(head: HeadModel, raster: Raster, normals: Tensor, light: Tensor, o: CarryOptions) -> Tensor:
    """The light (B,3,H,W) on skin that is guessed, 1 beside the head: light (B,9,3) at normals (B,V,3) is an extrapolation there, and
    never dark."""
    lit = sh_shading(normals, light)
    lit = lit.maximum(o.hidden_shading * lit.mean(1, keepdim=True)).clamp_min(o.shading_floor)
    return torch.where(raster.face[:, None] >= 0, interpolate(raster, head.faces, lit), 1.0)


def _scalp(motion: Motion, head: HeadModel, target: FaceAttributes, o: CarryOptions) -> Tensor:
    """How far the colour of a pixel is hair's rather than skin's, by its place on the target's head: (B,1,H,W), 1 outside of it."""
    outside = (motion.target.face < 0)[:, None].to(motion.normals)
    if not has_scalp(head):
        return outside
    rest = head.unposed(target.shape, target.expression)
    weight = hair_weight(head, rest)
    # a nape is skin unless hair hangs there
    hairy = (motion.offsets.norm(dim=-1) * target.camera[:, :1] / o.nape_hair).clamp(max=1)
    weight = torch.where(head.labels == LABELS.index("neck"), weight * hairy, weight)
    return interpolate(motion.target, head.faces, weight[..., None]) + outside


def background(image: Tensor, backdrop: tuple[Tensor, Tensor, Tensor], front: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """What is behind a person who moved: the picture (B,3,H,W) with the place the person left filled by the colours around, and how far
    it was seen (B,1,H,W). backdrop of empty_place; front (B,1,H,W): where the person is now; moves: 0 where nothing does."""
    wide, fill, plain = backdrop
    left = ((wide - front).clamp_min(0) / (1 - front).clamp_min(1e-3)).clamp(0, 1) * moves
    return torch.lerp(image, fill, left), 1 - left * (1 - plain)


def empty_place(image: Tensor, person: Tensor, o: CarryOptions) -> tuple[Tensor, Tensor, Tensor]:
    """The picture (B,3,H,W) as if the person (B,1,H,W) were not in it: where the person or its outline was (B,1,H,W), the picture filled
    there by the colours around, and how far that can be trusted (B,1,H,W)."""
    wide = dilate(person, 2 * o.outline + 1)
    outside = wide < 0.05
    side = max(image.shape[-2:])
    around = gather(image, nearest_inside(outside[:, 0])[0])
    fill = torch.where(outside, image, gaussian_blur(around, o.fill_blur * side))
    # a plain background goes on behind the person; of a busy one the fill says little
    reach = o.plain_reach * side
    spread = (gaussian_blur(around.square(), reach) - gaussian_blur(around, reach).square()).mean(1, keepdim=True).clamp_min(0)
    plain = o.fill_validity * torch.exp(-spread / o.plain_spread**2)
    return wide, fill, plain
