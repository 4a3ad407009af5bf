"""A person before a background: hair that turns with the head, clothes that do not, guesses for holes, against known pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from painted import GREEN, HAIR, SIZE, SKIN, WALL, paint
from people import directional, person

from difffae.carry.options import CarryOptions
from difffae.common.pixels import dilate, erode, pixel_grid
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.head.shading import project, sh_shading
from difffae.person.passes import guess_person
from difffae.person.prepared import carry, prepare, start_move
from difffae.source.regions import Layers


def test_hair_turns_with_the_head_and_leaves_no_double(head: HeadModel, afro):
    image, layers, face = afro
    target = replace(face, pose=person(head, 3, yaw=20).pose)
    moved = carry(image, face, target, head, layers=layers)
    is_hair = (moved.image - HAIR[None, :, None, None]).abs().amax(1, keepdim=True) < 0.12
    area = (layers.hair > 0).sum()
    assert 0.8 < is_hair.sum() / area < 1.6  # the back of the head comes to view
    # every pixel is hair, skin, wall, or a mixture at an edge; the edges are a small part
    colours = torch.stack([(moved.image - colour[None, :, None, None]).abs().amax(1) for colour in (HAIR, SKIN, WALL)])
    assert (colours.amin(0) > 0.12).float().mean() < 0.05
    # beside the turned head with its hair there is wall, in place
    far = erode(1 - moved.person_alpha, 5).expand(-1, 3, -1, -1) == 1
    assert (moved.image - WALL[None, :, None, None])[far & (dilate(layers.person, 9).expand(-1, 3, -1, -1) == 0)].abs().max() < 1e-6


def dressed(head: HeadModel, hair_hangs: bool) -> tuple[torch.Tensor, Layers, FaceAttributes, torch.Tensor]:
    """A bald person with a striped collar that stands up beside the jaw, or with hair there: picture, layers, attributes, where it is."""
    face = person(head, 3)
    covered = render(head, face, SIZE).mask
    points = project(head(face.shape, face.expression, face.pose), face.camera)[..., :2]
    chin = points[0, head.vertex_mask("face"), 1].max()
    worn = dilate(covered, 41) * (pixel_grid(SIZE, SIZE, covered)[..., 1] > chin)[None, None] * (1 - covered)
    stripes = (torch.arange(SIZE) // 2 % 2).bool()[None, None, None, :]
    picture = torch.where((worn > 0) & stripes, GREEN[None, :, None, None], paint((covered, SKIN), (worn, HAIR)))
    person_mask, nothing = covered.maximum(worn), torch.zeros_like(worn)
    return picture, Layers(person_mask, person_mask, worn, worn if hair_hangs else nothing), face, worn


@pytest.mark.parametrize("hair_hangs", [False, True], ids=["clothes", "hanging hair"])
def test_what_rests_on_the_shoulders_does_not_turn(head: HeadModel, hair_hangs: bool) -> None:
    image, layers, face, worn = dressed(head, hair_hangs)
    target = replace(face, pose=person(head, 3, yaw=20).pose)
    moved = carry(image, face, target, head, layers=layers)
    still = (erode(worn, 9) > 0) & (moved.mesh_mask == 0)
    assert still.sum() > 300
    assert moved.offset_to_source.norm(dim=1, keepdim=True)[still].max() < 1.5
    assert ((moved.image - image).abs().amax(1, keepdim=True)[still] < 0.1).float().mean() > 0.95
    # the stripes come to no other place
    green = ((moved.image - GREEN[None, :, None, None]).abs().amax(1, keepdim=True) < 0.2) & (dilate(worn, 5) == 0)
    assert green.sum() < 10


def test_hidden_hair_is_a_guess_and_says_so(head: HeadModel, afro):
    image, layers, face = afro
    target = replace(face, pose=person(head, 3, yaw=30).pose)
    moved = carry(image, face, target, head, layers=layers, options=CarryOptions(bend=None))
    # the neck, which keeps its place while the render's turns, is bare below the ears
    ears = project(head(face.shape, face.expression, target.pose), face.camera)[0, head.vertex_mask("ears"), 1]
    above = torch.linspace(-1, 1, SIZE)[:, None] < ears.amax()
    only_hair = (render(head, target, SIZE).mask == 0) & above
    turned_to_view = (moved.validity > 0.3) & (moved.validity <= CarryOptions.map_validity) & (moved.person_alpha > 0.99) & only_hair
    assert turned_to_view.sum() > 100
    colours = moved.image.permute(0, 2, 3, 1)[turned_to_view[:, 0]]
    assert ((colours - HAIR).abs().amax(1) < 0.15).float().mean() > 0.8


def test_hidden_skin_is_lit_by_the_light_that_falls_on_it(head: HeadModel):
    light = directional(0.45, 0.0, 0.1)  # from the side of the cheek that is in view
    face = person(head, 3, yaw=-25, light=light)
    target = replace(face, pose=person(head, 3, yaw=25).pose)
    lit = []
    for one in (face, target):
        drawn = render(head, one, SIZE)
        shading = sh_shading(drawn.normals.permute(0, 2, 3, 1), light).permute(0, 3, 1, 2).clamp(0.1, 1.1)
        lit.append((drawn.mask, (0.8 * SKIN[None, :, None, None] * shading).clamp(0, 1)))
    (covered, image), (_, truth) = lit
    image = torch.where(covered > 0, image, WALL[None, :, None, None])
    moved = carry(image, face, target, head, layers=Layers(covered, covered, torch.zeros_like(covered), torch.zeros_like(covered)))
    cheeks = head.part_mask(render(head, target, SIZE).raster, "face")[:, None]
    # what the head's other side shows, and what neither does
    hidden = (cheeks & (moved.validity <= CarryOptions.map_validity)).expand(-1, 3, -1, -1)
    assert hidden.sum() > 5000
    assert (moved.image - truth)[hidden].abs().mean() < 0.03


def test_skin_goes_on_as_skin_beside_cloth(head: HeadModel):
    """A hole between cheek and a green scarf that covers the neck is filled with skin, not with a mixture."""
    face = person(head, 3, light=directional(0.0, 0.0, 0.0), expression=0.0)
    drawn = render(head, face, SIZE)
    scarf = head.part_mask(drawn.raster, "neck", "shoulders")[:, None].float()
    picture = paint((drawn.mask, SKIN), (scarf, GREEN))
    chin = int(torch.nonzero(head.part_mask(drawn.raster, "face")[0].any(1)).max())
    known = torch.ones_like(scarf)
    known[..., chin - 10 : chin + 1, :] = 0
    nothing = torch.zeros_like(scarf)
    layers = Layers(drawn.mask, drawn.mask, scarf, nothing)
    hole = (head.part_mask(drawn.raster, "face")[:, None] & (known == 0)).expand(-1, 3, -1, -1)
    skin = SKIN[None, :, None, None].expand_as(picture)
    off = []
    for share in (CarryOptions.cloth_share, 1.0):
        move = start_move(prepare(picture, face, head, known, layers, CarryOptions(cloth_share=share)), face)
        guess = guess_person(move, picture, known * drawn.mask)
        off.append((guess.image - skin).abs()[hole])
    assert off[0].mean() < 0.04, [x.mean() for x in off]
    assert off[1].mean() > 3 * off[0].mean(), [x.mean() for x in off]


def test_a_head_that_stays_looks_the_same_beside_one_that_turns(head: HeadModel, afro):
    """Light alone takes a shorter way if nothing in the batch moves."""
    image, layers, face = afro
    prepared = prepare(image, face, head, layers=layers)
    lit, turned = replace(face, light=directional(0.5, 0.1, 0.4)), replace(face, pose=person(head, 3, yaw=20).pose)
    alone, both = prepared.move(lit), prepared.move(FaceAttributes.cat([lit, turned, face]))
    assert (alone.image - image).abs().max() > 0.05
    for name in ("image", "validity", "offset_to_source", "light_ratio", "mesh_mask", "person_alpha", "own_share"):
        assert torch.allclose(getattr(alone, name), getattr(both, name)[:1], atol=1e-4), name
    assert torch.equal(both.image[2:], image)
    assert torch.equal(prepared.move(face).image, image)
