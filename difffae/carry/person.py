"""The moved person in front of the background, which stays, and what neither of them showed.

Shape letters: B batch, H and W picture height and width.

`person_before_background` sends a picture that was moved as a whole through named passes, each of
which corrects colours, validity or outline for one reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..common.pixels import dilate, erode, gaussian_blur, opened, pixel_grid, pull_push, relit
from ..head.morphable import HeadModel
from ..head.rasterizer import Raster, interpolate
from ..source.regions import Layers
from .filling import closed_lines, empty_place, without_background
from .hair_volume import below_chin, hair_weight, has_scalp, head_outline
from .head_map import head_map, with_map
from .light import hidden_shading
from .mouth import INNER, inside_of_mouth, kept_teeth, lips_apart, teeth_in_sight
from .state import Maps, Move, PersonSource, Source


@dataclass(frozen=True, eq=False)
class MovedPerson:
    """The person as the passes leave it.

    Attributes:
        image: (B,3,H,W) RGB 0..1, the source moved and relit all over.
        validity: (B,1,H,W) of these pixels.
        alpha: (B,1,H,W) share of the person; the rest is background.
    """

    image: Tensor
    validity: Tensor
    alpha: Tensor


def person_source(source: Source, layers: Layers) -> PersonSource:
    """What the layers of a source tell, worked out once for all its moves.

    Args:
        source: the source, without its `person`.
        layers: of the same picture.
    """
    o, head, raster = source.options, source.head, source.posed.raster
    edge = source.window(o.mesh_edge)
    mesh = source.posed.mesh.to(source.image.dtype)
    # the mesh may stand out beyond the person (ears, skull): along its edge the matte decides
    person = layers.person.maximum(erode(mesh, 2 * edge + 1))
    cloth = (layers.loose - layers.hair).clamp_min(0)
    colours, own = without_background(source.image, person, o.outline)
    maps = Maps(
        light=layers.light,
        matte=layers.person,
        person=person,
        standing_out=_standing_out(layers, mesh, raster, head, edge),
        worn=dilate(cloth, edge),
        cloth=cloth,
        hair=layers.hair * source.validity,
        own=own,
        colours=colours,
    )
    points = source.posed.points
    low = below_chin(head, points[..., :2], pixel_grid(*source.size, source.image))
    upper = source.upper_teeth
    return PersonSource(
        layers=layers,
        maps=maps,
        resting=(cloth + layers.hair * low).clamp(max=1),
        backdrop=empty_place(source.image, person, o),
        outline=head_outline(head, points[..., :2]) if has_scalp(head) else None,
        lips_apart=lips_apart(head, points),
        teeth=teeth_in_sight(head, raster, upper, source.validity) if upper else None,
        head_map=head_map(source, layers, colours),
    )


def _standing_out(layers: Layers, mesh: Tensor, raster: Raster, head: HeadModel, edge: int) -> Tensor:
    """Hair, hats and clothes beside the mesh (B,1,H,W), and what of the person is far from it.
    edge: pixels, odd.
    """
    loose = torch.lerp(layers.person, layers.loose, dilate(mesh, 3 * edge)) * (1 - erode(mesh, edge))
    # a thin rim beside a neck is its skin, whatever the masks say; beside the scalp it may be
    # strands
    scalp = dilate(head.part_mask(raster, "scalp")[:, None].to(mesh), 6 * edge + 1)
    return loose.minimum(opened(loose, edge + 2).maximum(scalp))


def person_before_background(move: Move, image: Tensor, validity: Tensor) -> MovedPerson:
    """Put the moved person before the background, and fill the holes of both with a guess.

    Args:
        move: the move, of a source with layers.
        image: (B,3,H,W) the source moved and relit all over.
        validity: (B,1,H,W) of that.

    Returns:
        the finished picture; its alpha is the moved person's. Rows in which nothing moves stay as
        they were.
    """
    source = move.source
    move, validity = with_map(move, validity)
    person = MovedPerson(image, validity, cut_out(move))
    for improve in (
        distrust_edges_and_cloth,
        close_gaps,
        soften_outline,
        leave_old_background,
        distrust_behind_teeth,
        keep_teeth,
        fill_holes,
    ):
        person = improve(move, person)
    person = before_background(move, person)
    image = torch.where(move.unlit & move.still, source.image, person.image)
    valid = torch.where(move.still, source.validity, person.validity)
    alpha = torch.where(move.still, _told(move).maps.person, person.alpha)
    size = round(source.pixels(source.options.line)) | 1
    mesh = move.posed.mesh.to(image.dtype)
    return MovedPerson(*closed_lines(image, valid, erode(mesh, size) * (1 - move.still.to(mesh)), size), alpha)


def cut_out(move: Move) -> Tensor:
    """The moved person's outline, before it is softened.

    On the mesh the person is, but for the mesh's rim, where the matte decides if the source showed
    that place. Beside the mesh only what stands out from it counts (hair, hats, clothes): bare skin
    of the source is inside the target's mesh now, and beside it would be a smear, if it moved by
    more than a fit is wrong.

    Returns:
        (B,1,H,W) share of the person.
    """
    source, maps = move.source, _maps(move)
    edge = source.window(source.options.mesh_edge)
    inside = move.posed.mesh
    # clothes do not turn with the head
    apart = (move.offset - move.resting_offset).square().sum(1, keepdim=True).sqrt()
    loose = maps.standing_out * (1 - maps.worn * (_in_edges(move, apart) - 0.5).clamp(0, 1))
    beside = torch.lerp(maps.person, loose, (_in_edges(move, move.shift) - 0.5).clamp(0, 1))
    # farther inside than its rim, background on the mesh is a hole to fill
    rim = dilate(1 - inside.to(beside), 2 * edge + 1)
    cut = (move.seen > 0) | source.head.part_mask(move.posed.raster, "ears")[:, None]
    alpha = torch.where(inside, torch.where(cut, maps.person.maximum(1 - rim), 1), beside)
    # splinters of the mesh beyond that were cut off from the head
    rounded = ((gaussian_blur(alpha, 0.6 * edge) - 0.35) / 0.3).clamp(0, 1)
    return torch.where(inside & ~cut, alpha.minimum(rounded), alpha)


def distrust_edges_and_cloth(move: Move, person: MovedPerson) -> MovedPerson:
    """What hardly moved is valid on the mesh: nothing new hides it. What moved is, as far as it was
    person.

    Cloth on a moved jaw is what lay behind it.
    """
    maps, head, raster = _maps(move), move.source.head, move.posed.raster
    # the inside of a mouth changes without moving
    shifted = torch.where(head.part_mask(raster, *INNER)[:, None], 1, _in_edges(move, move.shift).clamp(max=1))
    on_mesh = torch.lerp(torch.ones_like(person.validity), person.validity * maps.person, shifted)
    valid = torch.where(move.posed.mesh, on_mesh, person.validity)
    jaw = head.part_mask(raster, "face", "ears")[:, None] * shifted
    return replace(person, validity=valid * (1 - jaw * maps.cloth))


def close_gaps(move: Move, person: MovedPerson) -> MovedPerson:
    """No background shows in a narrow gap between face and hair; what does was not seen."""
    size = round(move.source.pixels(move.source.options.closing)) | 1
    gap = (erode(dilate(person.alpha, size), size) - person.alpha).clamp(0, 1)
    return replace(person, alpha=person.alpha + gap, validity=person.validity * (1 - gap))


def soften_outline(move: Move, person: MovedPerson) -> MovedPerson:
    """A mesh ends in whole pixels, a person does not."""
    blurred = gaussian_blur(person.alpha, move.source.options.edge_blur)
    return replace(person, alpha=torch.lerp(person.alpha, blurred, _moves(move)))


def leave_old_background(move: Move, person: MovedPerson) -> MovedPerson:
    """A person who moves takes no colours of the old background along."""
    maps = _maps(move)
    mixed = (1 - maps.own) * _moves(move)
    return replace(person, image=torch.lerp(person.image, relit(maps.colours, move.light_ratio), mixed))


def distrust_behind_teeth(move: Move, person: MovedPerson) -> MovedPerson:
    """What is behind the teeth of a mouth that opens was hardly seen: the fit takes teeth for
    tongue.
    """
    head = move.source.head
    opened_by = (lips_apart(head, move.posed.points) - _told(move).lips_apart).clamp_min(0) * move.source.size[0] / 2
    behind = head.part_mask(move.posed.raster, "mouth", "tongue")[:, None]
    less = person.validity * (1 - _in_edges(move, opened_by).clamp(max=1))
    return replace(person, validity=torch.where(behind, less, person.validity))


def keep_teeth(move: Move, person: MovedPerson) -> MovedPerson:
    """Upper teeth that the photograph shows stay at the skull."""
    teeth = _told(move).teeth
    if teeth is None:
        return person
    image, shown = kept_teeth(move, teeth)
    shown = shown * (1 - person.validity)
    return replace(person, image=torch.lerp(person.image, image, shown), validity=person.validity.maximum(shown))


def fill_holes(move: Move, person: MovedPerson) -> MovedPerson:
    """Where the person is not known, a guess stands in, as far as it is not."""
    guess = guess_person(move, person.image, person.validity * person.alpha)
    valid = person.validity * (1 - guess.inner)
    return replace(person, image=torch.lerp(guess.image, person.image, valid), validity=valid.maximum(guess.validity))


def before_background(move: Move, person: MovedPerson) -> MovedPerson:
    """The person over the background, in which the place that the person left is filled."""
    image, validity = background(move, person.alpha)
    return replace(
        person,
        image=person.alpha * person.image + (1 - person.alpha) * image,
        validity=person.alpha * person.validity + (1 - person.alpha) * validity * move.source.validity,
    )


def background(move: Move, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """What is behind a person who moved.

    Edges of a matte are soft everywhere; only where something moves do they hide what is behind.

    Args:
        move: the move.
        alpha: (B,1,H,W) where the person is now.

    Returns:
        the picture with the place the person left filled (B,3,H,W), and how far it was seen
        (B,1,H,W).
    """
    behind = _told(move).backdrop
    left = ((behind.place - alpha).clamp_min(0) / (1 - alpha).clamp_min(1e-3)).clamp(0, 1) * _moves(move)
    return torch.lerp(move.source.image, behind.filled, left), 1 - left * (1 - behind.validity)


@dataclass(frozen=True, eq=False)
class Guess:
    """What the person may look like where the source did not show it.

    Attributes:
        image: (B,3,H,W).
        validity: (B,1,H,W) of the guess.
        inner: (B,1,H,W) how far it shows the inside of a newly opened mouth.
    """

    image: Tensor
    validity: Tensor
    inner: Tensor


def guess_person(move: Move, image: Tensor, known: Tensor) -> Guess:
    """Hair continues hair and skin continues skin; the inside of the mouth is the head model's.

    Where a hidden point of the scalp lies behind hair of the source, that hair stands in for it.

    Args:
        move: the move.
        image: (B,3,H,W) the moved picture.
        known: (B,1,H,W) how well it is known.
    """
    source, maps, o = move.source, _maps(move), move.source.options
    scalp = _hairy(move)
    mirrored = maps.hair * scalp
    # a little of a wrong colour would fill a whole hole, and along its edge the mesh shows what lay
    # beside the skin
    sure = erode((2 * known - 1).clamp_min(0), 2 * round(source.pixels(o.mesh_edge) / 2) + 1)
    # where the head model stands out beyond the hair that was seen, that hair goes on
    beyond = scalp * move.posed.mesh * (1 - maps.matte)
    weight = (sure * scalp).maximum(o.mirrored_share * mirrored).maximum(o.beyond_share * beyond)
    hair = pull_push(image, weight)
    # skin goes on in its own colour, under the light that falls on the hidden place
    shading = hidden_shading(source.head, move.posed.raster, move.posed.normals, move.target.light, o)
    skin = pull_push(image / shading, sure * (1 - scalp) * (1 - (1 - o.cloth_share) * maps.cloth))
    guess = torch.lerp((skin * shading).clamp(0, 1), hair, scalp)
    guess, inner = _with_inner_mouth(move, guess, image, known)
    validity = o.guess_validity + (o.mirrored_validity - o.guess_validity) * mirrored
    if move.completed is not None:
        guess = torch.lerp(guess, move.completed.image, move.completed.where)
        validity = torch.lerp(validity, torch.full_like(validity, o.map_validity), move.completed.where)
    return Guess(guess, validity, inner)


def _with_inner_mouth(move: Move, guess: Tensor, image: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """A guess (B,3,H,W) with the head model's mouth where that is newly open, and how far it is
    (B,1,H,W).
    """
    where = move.source.head.part_mask(move.posed.raster, *INNER)[:, None]
    guess = torch.where(where, image, guess)
    # thin gaps between lips and teeth are errors of the fit
    hole = where * (1 - known)
    core = erode(hole, 5)
    if not bool((core > 0).any()):
        return guess, torch.zeros_like(hole)
    wide = gaussian_blur(dilate(core, 5).minimum(hole), move.source.options.edge_blur)
    return torch.lerp(guess, inside_of_mouth(move.source.head, move.target, move.posed, where), wide), wide


def _hairy(move: Move) -> Tensor:
    """How far a pixel's colour is hair's rather than skin's, by its place on the head: (B,1,H,W), 1
    beside the head.
    """
    head, target, raster = move.source.head, move.target, move.posed.raster
    outside = (~move.posed.mesh).to(move.posed.normals)
    if not has_scalp(head):
        return outside
    weight = hair_weight(head, head.unposed(target.shape, target.expression))
    # a nape is skin unless hair hangs there
    stands_out = move.source.hair_offsets.norm(dim=-1) * target.camera[:, :1]
    hanging = (stands_out / move.source.options.nape_hair).clamp(max=1)
    weight = torch.where(head.vertex_mask("neck"), weight * hanging, weight)
    return interpolate(raster, head.faces, weight[..., None]) + outside


def _told(move: Move) -> PersonSource:
    assert move.source.person is not None
    return move.source.person


def _maps(move: Move) -> Maps:
    assert move.maps is not None
    return move.maps


def _in_edges(move: Move, pixels: Tensor) -> Tensor:
    """A distance in pixels as a multiple of what a fit may be wrong by (`mesh_edge`)."""
    return pixels / move.source.pixels(move.source.options.mesh_edge)


def _moves(move: Move) -> Tensor:
    """(B,1,H,W): 0 where nothing moves, 1 where it does by a pixel or more."""
    return move.shift.clamp(max=1)
