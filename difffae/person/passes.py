"""The moved person in front of the background, which stays, and what neither of them showed.

Shape letters: B batch, H and W picture height and width.

What lies in front of what: the empty background, the neck, what rests on the shoulders (clothes, hanging hair), the head. The
source is taken apart into them once (`person_source`); `person_before_background` puts the moved person together again, in named
passes, each of which corrects colours, validity or outline for one reason.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.cloth import crisp_cloth
from ..carry.cutout import cut_out, going_on, resting_share, two_coats, wall_seen_through
from ..carry.filling import closed_lines
from ..carry.hair_volume import below_chin, has_scalp, head_outline, nape
from ..carry.head_map import head_map, with_map
from ..carry.options import CutoutOptions
from ..carry.state import Maps, Move, PersonSource, Source
from ..common.pixels import dilate, erode, flow_grid, gather, gaussian_blur, odd, opened, pixel_grid, relit
from ..common.rows import Later
from ..head.rasterizer import interpolate
from ..source.regions import Layers
from .bending import matte_outline
from .bent_person import bent_person
from .guess import guess_person
from .mouth import INNER, kept_teeth, lips_apart, teeth_in_sight
from .rims import MovedPerson, hair_outline, hang_hair, lit_in_place, person_of, redraw_rims, smooth_outline, vacated, without_stairs

EVEN_JAW = 4.5  # blur of where the head ends and the neck begins, u


def person_source(source: Source, layers: Layers) -> PersonSource:
    """What the layers of a source tell, worked out once for all its moves.

    Args:
        source: the source, without its `person`.
        layers: of the same picture.
    """
    o, head, raster = source.options, source.head, source.posed.raster
    edge = source.window(o.mesh_edge)
    mesh = source.posed.mesh.to(source.image.dtype)
    points = source.posed.points
    grid = pixel_grid(*source.size, source.image)
    low = below_chin(head, points[..., :2], grid)
    cut = cut_out(source.image, layers, CutoutOptions(structure=o.structure), source.inside_picture)
    face = source.posed.part("face").to(mesh) * (1 - layers.hair)
    cloth = crisp_cloth(source.image, (layers.loose - layers.hair).clamp_min(0), cut.alpha, layers.hair, face)
    above = gaussian_blur(erode(source.posed.part("face", "ears", "scalp").to(mesh), odd(7 * source.unit)), 1.0)
    cloth = (cloth * (3 * low).clamp(max=1) * (1 - above)).minimum(cut.alpha)
    resting = resting_share(cut.alpha, cloth, layers.hair, source.posed)
    body = (cut.alpha - resting).clamp_min(0)
    # a collar goes on behind the jaw in front of it, and cloth behind all that moves
    front = going_on(resting, body * source.posed.part("face", "ears", "scalp"))
    colours, resting_colours = two_coats(source.image, cut, body, resting, cloth, layers.hair)
    maps = Maps(
        light=layers.light,
        matte=cut.alpha,
        body=body,
        firm=erode(body, odd(7 * source.unit)),
        standing_out=_standing_out(replace(layers, person=cut.alpha), mesh, source.posed.part("scalp").to(mesh), edge) * (1 - resting),
        # what hangs before a face is the head's own
        hanging=cloth.maximum(layers.hair * below_chin(head, points[..., :2], grid, 0.5) * (1 - above)),
        resting=((resting - 0.1) / 0.4).clamp(0, 1),
        hair=layers.hair * source.validity,
        colours=colours,
    )
    outline = head_outline(head, points[..., :2]) if has_scalp(head) else None
    teeth = teeth_in_sight(head, raster, source.upper_teeth, source.validity)
    return PersonSource(
        layers=layers,
        maps=maps,
        hanging=(cloth + layers.hair * below_chin(head, points[..., :2], grid, 1.25)).clamp(max=1),
        strands=cut.alpha
        * layers.hair
        * below_chin(head, points[..., :2], grid, 0.5)
        * (1 - cloth)
        * (1 - wall_seen_through(source.image, cut, layers.hair)),
        resting=torch.cat([resting, front, going_on(front, body)], dim=1),
        resting_colours=resting_colours,
        backdrop=cut.backdrop,
        vacated=vacated(maps, cut, resting),
        outline=outline,
        own_outline=None if outline is None else matte_outline(outline, cut.alpha, o.bend),
        own_colours=cut.colours,
        lips_apart=lips_apart(head, points),
        teeth=teeth if bool(teeth.any()) else None,
        head_map=Later(lambda: head_map(source, layers, maps)),
    )


def _standing_out(layers: Layers, mesh: Tensor, scalp: Tensor, edge: int) -> Tensor:
    """Hair, hats and clothes beside the mesh (B,1,H,W), and what of the person is far from it.
    edge: pixels, odd.
    """
    loose = torch.lerp(layers.person, layers.loose, dilate(mesh, 3 * edge)) * (1 - erode(mesh, edge))
    # a thin rim beside a neck is its skin, whatever the masks say; beside the scalp it may be
    # strands
    scalp = dilate(scalp, 6 * edge + 1)
    return loose.minimum(opened(loose, edge + 2).maximum(scalp))


def person_before_background(move: Move, image: Tensor, validity: Tensor) -> MovedPerson:
    """Put the moved person before the background, and fill the holes of both with a guess.

    Args:
        move: the move, of a source with layers.
        image: (B,3,H,W) the source moved and relit all over, as one surface.
        validity: (B,1,H,W) of that.

    Returns:
        the finished picture; its alpha is the person's, moved and resting. Where nothing moves nearby it is `image`.
    """
    source, maps = move.source, move.known_maps
    if move.all_still:
        return MovedPerson(torch.where(move.unlit, source.image, lit_in_place(move)), source.validity, person_of(move).layers.person)
    near = _activity(move)
    # what hardly moves stays one surface, before a background that does not move at all
    still = torch.lerp(move.resting_image, image, maps.matte)
    if bool(move.still.any()):
        still = torch.where(move.still, lit_in_place(move), still)
    still = torch.where(move.unlit & move.still, source.image, still)
    still_valid = torch.where(move.still, source.validity, validity.maximum(1 - maps.matte) * source.validity)
    person = MovedPerson(still, still_valid, person_of(move).layers.person)
    bent = torch.zeros_like(near) if move.bend is None else near * move.bend.share
    if move.bend is None or bool((move.bend.share < 1).any()):
        person = person.under(_layered(move, validity), (near - bent) / (1 - bent).clamp_min(1e-6))
    person = _without_lines(move, person)
    if move.bend is None:
        return person
    return person.under(bent_person(move, _without_lines(move, _face(move, validity))), bent)


def _without_lines(move: Move, person: MovedPerson) -> MovedPerson:
    """The same with narrow lines that fold over closed, and no stairs where one part of the head hides another."""
    size = round(move.source.pixels(move.source.options.line)) | 1
    inside = erode(move.posed.mesh.to(person.image), size) * (1 - move.still.to(person.image))
    image, valid = closed_lines(person.image, person.validity, inside, size)
    return MovedPerson(without_stairs(move, image), valid, person.alpha)


def _layered(move: Move, validity: Tensor) -> MovedPerson:
    """Everything, put together from layers."""
    move, validity = with_map(move, validity)
    person = MovedPerson(_lit(move), validity, cut_out_moved(move))
    trust = (distrust_edges_and_cloth, distrust_behind_teeth)
    for improve in (close_gaps, smooth_outline, *trust, keep_teeth, fill_holes, redraw_rims, hair_outline):
        person = improve(move, person)
    return hang_hair(move, in_order(move, person))


def _face(move: Move, validity: Tensor) -> MovedPerson:
    """The inside of the face of a bent head: eyes, and the mouth as it opens."""
    person = MovedPerson(_lit(move), validity, torch.ones_like(validity))
    for improve in (distrust_behind_teeth, keep_teeth, fill_holes):
        person = improve(move, person)
    return person


def _lit(move: Move) -> Tensor:
    """(B,3,H,W) the colours of the person, moved without loss of detail."""
    colours = F.grid_sample(person_of(move).maps.colours, move.grid, mode="bicubic", padding_mode="border", align_corners=False)
    return relit(colours.clamp(0, 1), move.light_ratio)


def cut_out_moved(move: Move) -> Tensor:
    """The moved head's outline.

    On the mesh the person is, but for the mesh's rim, where the matte decides if the source showed that place. Beside the mesh
    only what stands out from it counts (hair, hats): bare skin of the source is inside the target's mesh now, and beside it
    would be a smear, but for a pixel or two by which the fit is wrong.

    Returns:
        (B,1,H,W) share of what moves with the head.
    """
    source, maps = move.source, move.known_maps
    u, inside = source.unit, move.posed.mesh
    mesh = inside.to(maps.body)
    rim = dilate(1 - mesh, odd(5 * u))
    cut = ((move.seen > 0) | move.posed.part("ears")).to(mesh)
    cut = gaussian_blur(cut * mesh, 1.2 * u) / gaussian_blur(mesh, 1.2 * u).clamp_min(0.05)
    cut = ((cut - 0.3) / 0.4).clamp(0, 1) * rim
    on_mesh = torch.lerp(torch.ones_like(mesh), maps.matte, cut)
    if not move.any_turned:
        return torch.where(inside, on_mesh, maps.body)
    away = move.posed.nearest[1][:, None] / u
    skin = maps.body * (1 - (away - 0.7) / 1.2).clamp(0, 1) * (1 - maps.hair)
    hair = maps.standing_out * (2 * maps.hair - 0.3).clamp(0, 1)
    # beside a face, which was not the head's outline before, the rim of close hair is a loop without hair in it
    beside_face = dilate(gather(move.posed.part("face").to(mesh), move.posed.nearest[0]), odd(9 * u))
    hair = torch.lerp(hair, opened(hair, odd(5 * u)), beside_face)
    return torch.where(inside, on_mesh, torch.lerp(maps.body, hair.maximum(skin), move.turned))


def close_gaps(move: Move, person: MovedPerson) -> MovedPerson:
    """No background shows in a narrow gap between face and hair; what does was not seen. Below the head gaps are none."""
    if not move.any_turned:
        return person
    size = odd(1.3 * move.source.pixels(move.source.options.closing))
    neck = move.posed.part("neck", "shoulders").to(person.alpha)
    above = 1 - gather(neck, move.posed.nearest[0])
    gap = (erode(dilate(person.alpha, size), size) - person.alpha).clamp(0, 1) * above * move.turned
    return replace(person, alpha=person.alpha + gap, validity=person.validity * (1 - gap))


def distrust_edges_and_cloth(move: Move, person: MovedPerson) -> MovedPerson:
    """What hardly moved is valid on the mesh: nothing new hides it. What moved is, as far as it was the moving person.

    Cloth, or hair that hangs, on a moved jaw is what lay behind it.
    """
    maps, posed, u = move.known_maps, move.posed, move.source.unit
    # the inside of a mouth changes without moving
    shifted = torch.where(posed.part(*INNER), 1, _in_edges(move, _shift_around(move)).clamp(max=1))
    rim = dilate(1 - move.posed.mesh.to(maps.body), odd(5 * u))
    own = maps.body.maximum((1 - rim) * maps.matte) * (1 - maps.resting)
    on_mesh = torch.lerp(torch.ones_like(person.validity), person.validity * own, shifted)
    valid = torch.where(move.posed.mesh, on_mesh, person.validity)
    if move.any_turned:
        # the photograph's outline, stretched over a side that turns to the camera, is a smear that holds background
        inner = gaussian_blur(erode(move.posed.mesh.to(valid), odd(9 * u)), 1.5 * u) * move.turned
        valid = valid * (1 - inner * (1 - maps.firm) * shifted)
    neck = posed.part("neck")
    valid = torch.where(neck, valid.minimum(opened(valid, odd(4 * u))), valid)
    jaw = posed.part("face", "ears") * shifted
    return replace(person, validity=valid * (1 - jaw * maps.hanging))


def distrust_behind_teeth(move: Move, person: MovedPerson) -> MovedPerson:
    """What is behind the teeth of a mouth that opens was hardly seen: the fit takes teeth for
    tongue.
    """
    head = move.source.head
    opened_by = (lips_apart(head, move.posed.points) - person_of(move).lips_apart).clamp_min(0) * move.source.size[0] / 2
    behind = move.posed.part("mouth", "tongue")
    less = person.validity * (1 - _in_edges(move, opened_by).clamp(max=1))
    return replace(person, validity=torch.where(behind, less, person.validity))


def keep_teeth(move: Move, person: MovedPerson) -> MovedPerson:
    """Upper teeth that the photograph shows stay at the skull."""
    teeth = person_of(move).teeth
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


def in_order(move: Move, person: MovedPerson) -> MovedPerson:
    """The empty background, the neck, what rests on the shoulders, the head.

    Returns:
        picture and validity of all, and the alpha of the whole person.
    """
    source, u = move.source, move.source.unit
    told, back = person_of(move), person_of(move).backdrop
    base, left, resting = what_stays(move)
    headness, shoulders = _head_not_neck(move)
    over = person.alpha * (1 - resting * (1 - headness)) * (1 - gaussian_blur(shoulders * move.posed.mesh, u))
    # a neck that comes out of its collar is a fair guess
    neck = move.posed.part("neck").to(over) * (1 - headness) * move.turned
    valid = person.validity.maximum(0.45 * neck)
    behind = (1 - left * (1 - back.validity)) * source.validity
    alpha = over + (1 - over) * told.layers.person.minimum(1 - left).maximum(resting)
    return MovedPerson(torch.lerp(base, person.image, over), torch.lerp(behind, valid, over), alpha)


def what_stays(move: Move) -> tuple[Tensor, Tensor, Tensor]:
    """Everything behind the head.

    Returns:
        picture (B,3,H,W); where the head was and nothing is known now (B,1,H,W); and the share of what rests on the shoulders (B,1,H,W).
    """
    told, u = person_of(move), move.source.unit
    grid = flow_grid(move.resting_offset)
    both = torch.cat([told.resting, told.resting_colours], dim=1)
    seen, share, behind, colours = F.grid_sample(both, grid, padding_mode="border", align_corners=False).split([1, 1, 1, 3], dim=1)
    # shoulders that moved left their place, too
    went = (move.resting_shift - 0.3).clamp(0, 1)
    left = told.vacated.maximum(dilate(told.resting[:, :1].maximum(share), odd(5 * u)) * went)
    made = torch.lerp(told.backdrop.filled, relit(colours, move.resting_light), behind)
    return torch.lerp(move.resting_image, made, left), left * (1 - seen), share


def _head_not_neck(move: Move) -> tuple[Tensor, Tensor]:
    """By the nearest place on the mesh, how far a pixel is the head's rather than the neck's, and whether it is the shoulders'; each
    (B,1,H,W).
    """
    head, raster, u, mesh = move.source.head, move.posed.raster, move.source.unit, move.posed.mesh.to(move.offset)
    nearest = move.posed.nearest[0]
    upper = ~(head.vertex_mask("neck", "shoulders") | nape(head, move.unposed))
    share = interpolate(raster, head.faces, upper.to(mesh).expand(len(mesh), -1)[..., None])
    share = gaussian_blur(share * mesh, 0.8 * u) / gaussian_blur(mesh, 0.8 * u).clamp_min(0.05)
    share = gather(((share - 0.3) / 0.2).clamp(0, 1), nearest)
    # the mesh's parts end in teeth as wide as its triangles, which a jaw that drops over a collar would show
    share = torch.lerp(gaussian_blur(share, EVEN_JAW * u), gaussian_blur(share, 1.6 * u), move.turned)
    shoulders = gather(move.posed.shoulders[:, None].to(mesh), nearest)
    # hair hangs over what rests on the shoulders
    return ((share - 0.38) / 0.24).clamp(0, 1).maximum(move.known_maps.hair), shoulders * (1 - move.known_maps.hair)


def _activity(move: Move) -> Tensor:
    """(B,1,H,W): 1 where the person moves nearby, 0 where nothing does and the picture can stay as it is."""
    u = move.source.unit
    moves = (move.shift.maximum(move.resting_shift) - 0.3).clamp(0, 1)
    return gaussian_blur(dilate(moves, odd(9 * u)), 2 * u) * (1 - move.still.to(moves))


def _shift_around(move: Move) -> Tensor:
    """(B,1,H,W): by how many pixels a pixel or, on the mesh, one near it moved. A point of a turned
    head may lie where another one did before: it moved by nothing, and was not seen.
    """
    around = dilate(move.shift, move.source.window(2 * move.source.options.mesh_edge))
    return torch.where(move.posed.mesh, around, move.shift)


def _in_edges(move: Move, pixels: Tensor) -> Tensor:
    """A distance in pixels as a multiple of what a fit may be wrong by (`mesh_edge`)."""
    return pixels / move.source.pixels(move.source.options.mesh_edge)
