"""Hair that turns with the head, holes that are filled, and the inside of a mouth, against pictures with known pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from people import directional, person

from difffae.carry.filling import closed_lines, without_background
from difffae.carry.hair_volume import hair_offsets, hair_weight, head_outline, middle_of_skull, motion_around
from difffae.carry.mouth import upper_teeth
from difffae.carry.options import CarryOptions
from difffae.carry.person import guess_person
from difffae.carry.prepared import carry, prepare, start_move
from difffae.common.pixels import dilate, erode, opened, pixel_grid, pull_push
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import LABELS, HeadModel
from difffae.head.rasterizer import rasterize
from difffae.head.render import render
from difffae.head.shading import project, sh_shading
from difffae.source.regions import Layers

SIZE = 192
HAIR, SKIN, WALL = torch.tensor([0.25, 0.15, 0.1]), torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.3, 0.5, 0.7])
GREEN = torch.tensor([0.2, 0.8, 0.1])


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


def paint(*layers: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """(1,3,SIZE,SIZE): a wall and what is in front of it, masks (1,1,SIZE,SIZE) with their colours."""
    picture = WALL[None, :, None, None].expand(1, 3, SIZE, SIZE)
    for mask, colour in layers:
        picture = torch.where(mask > 0, colour[None, :, None, None], picture)
    return picture.contiguous()


@pytest.fixture(scope="module")
def afro(head: HeadModel):
    """A person with a round mass of hair of 12 pixels around the skull: picture, layers, attributes."""
    face = person(head, 3)
    covered = render(head, face, SIZE).mask
    points = project(head(face.shape, face.expression, face.pose), face.camera)[..., :2]
    middle = middle_of_skull(head, points)[0, 0]
    above = (pixel_grid(SIZE, SIZE, covered)[..., 1] < middle[1] + 0.1)[None, None]
    hair = dilate(covered, 25) * above * (1 - covered)
    person_mask = covered.maximum(hair)
    return paint((covered, SKIN), (hair, HAIR)), Layers(person_mask, person_mask, hair, hair), face


def test_lines_that_no_camera_saw_are_closed_from_both_sides():
    """Red above and blue below a line of green: the line goes, and neither a hole nor a place that may not be closed is touched."""
    picture = torch.zeros(1, 3, 40, 40)
    picture[:, 0, :19], picture[:, 2, 21:] = 0.8, 0.6
    picture[:, 1, 19:21] = 1
    validity = torch.ones(1, 1, 40, 40)
    validity[..., 19:21, :] = 0
    validity[..., 3:12, 3:12] = 0  # a hole of nine pixels
    where = torch.ones_like(validity)
    where[..., 30:] = 0
    image, closed = closed_lines(picture, validity, where, 5)
    assert torch.equal(closed[..., 19:21, :30], torch.ones(1, 1, 2, 30))
    assert image[0, 1, 19:21, :28].max() < 0.01  # no green is left
    assert torch.allclose(image[0, :, 19, 20] + image[0, :, 20, 20], torch.tensor([0.8, 0, 0.6]), atol=0.01)
    assert image[0, 0, 19, 20] > 2 * image[0, 0, 20, 20]  # each side's own colour prevails
    line = torch.zeros(40, 40, dtype=torch.bool)
    line[19:21, :30] = True
    assert torch.equal(image[..., ~line], picture[..., ~line])
    assert torch.equal(closed[..., ~line], validity[..., ~line])
    still, same = closed_lines(picture, torch.ones_like(validity), where, 5)
    assert torch.equal(still, picture)
    assert same.min() == 1


def test_pull_push_keeps_known_pixels_and_continues_a_plane():
    ramp = torch.linspace(0.2, 0.8, 37)[None, None, None].expand(1, 3, 29, 37)
    known = torch.ones(1, 1, 29, 37)
    known[..., 8:20, 10:26] = 0
    filled = pull_push(torch.where(known > 0, ramp, 9.0), known)
    assert torch.equal(filled[known.expand(-1, 3, -1, -1) > 0], ramp[known.expand(-1, 3, -1, -1) > 0])
    assert (filled - ramp).abs().max() < 0.12
    assert torch.allclose(pull_push(torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)), torch.tensor(0.5))
    one = torch.zeros(1, 1, 16, 16)
    one[..., 3, 5] = 1
    assert torch.allclose(pull_push(torch.full((1, 2, 16, 16), 0.3), one), torch.tensor(0.3), atol=1e-5)


def test_erode_is_the_opposite_of_dilate():
    mask = (torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    assert torch.equal(erode(mask, 5), 1 - dilate(1 - mask, 5))


def test_bald_heads_and_heads_without_labels_get_no_hair(head: HeadModel):
    face = person(head, 1)
    vertices = head(face.shape, face.expression, face.pose)
    assert torch.equal(hair_offsets(head, face, vertices, torch.zeros(1, 1, SIZE, SIZE)), torch.zeros_like(vertices))
    tensors = {name: buffer for name, buffer in head.named_buffers() if name not in ("labels", "face_labels")}
    unlabelled = HeadModel(head.config, tensors)
    assert torch.equal(hair_offsets(unlabelled, face, vertices, torch.ones(1, 1, SIZE, SIZE)), torch.zeros_like(vertices))


def test_hair_weight_spares_face_and_throat_and_is_symmetric(head: HeadModel):
    rest = head.template[None]
    weight = hair_weight(head, rest)[0]
    assert weight[head.labels == LABELS.index("scalp")].mean() > 0.9
    for part in ("lips", "eyes", "mouth", "shoulders"):
        assert weight[head.labels == LABELS.index(part)].max() < 0.05, part
    assert (weight - weight[head.mirror]).abs().max() < 5e-3  # the mesh is symmetric to a fraction of a millimetre


def test_lifted_scalp_reaches_the_outline_of_the_hair(head: HeadModel, afro):
    _, layers, face = afro
    vertices = head(face.shape, face.expression, face.pose)
    lifted = head(face.shape, face.expression, face.pose, hair_offsets(head, face, vertices, layers.hair))
    covers = (rasterize(project(lifted, face.camera), head.faces, SIZE, SIZE).face >= 0)[:, None]
    hair, outside = layers.hair > 0, erode(1 - layers.person, 7) > 0
    assert covers[hair].float().mean() > 0.85
    assert covers[outside].float().mean() < 0.01
    # the face itself stays where it was
    face_vertices = hair_weight(head, head.unposed(face.shape, face.expression))[0] == 0
    assert torch.equal(lifted[:, face_vertices], vertices[:, face_vertices])


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
    chin = points[0, head.labels == LABELS.index("face"), 1].max()
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


def test_the_person_takes_no_background_along() -> None:
    """The colour of the outline's pixels, half wall, becomes the person's."""
    person_mask = torch.zeros(1, 1, 64, 64)
    person_mask[..., 20:] = 1
    person_mask[..., 19] = 0.5
    image = torch.lerp(WALL[None, :, None, None].expand(1, 3, 64, 64), SKIN[None, :, None, None], person_mask)
    solid, inner = without_background(image, person_mask, CarryOptions.outline)
    assert (solid - SKIN[None, :, None, None]).abs().max() < 1e-5
    assert torch.equal(inner[..., 24:], torch.ones(1, 1, 64, 40))
    assert float(inner[..., :20].max()) == 0


def test_opened_drops_what_is_narrow() -> None:
    bars = torch.zeros(1, 1, 32, 32)
    bars[..., 4:8], bars[..., 14:24] = 1, 1
    kept = opened(bars, 5)
    assert torch.equal(kept[..., 12:], bars[..., 12:])
    assert float(kept[..., :12].max()) == 0


def test_hidden_hair_is_a_guess_and_says_so(head: HeadModel, afro):
    image, layers, face = afro
    target = replace(face, pose=person(head, 3, yaw=30).pose)
    moved = carry(image, face, target, head, layers=layers)
    only_hair = render(head, target, SIZE).mask == 0
    turned_to_view = (moved.validity > 0.3) & (moved.validity < 0.5) & (moved.person_alpha > 0.99) & only_hair
    assert turned_to_view.sum() > 100
    colours = moved.image.permute(0, 2, 3, 1)[turned_to_view[:, 0]]
    assert ((colours - HAIR).abs().amax(1) < 0.15).float().mean() > 0.8


def test_an_opened_mouth_shows_the_head_models_inside(head: HeadModel):
    face = person(head, 3, expression=0.0)
    jaw = face.expression.clone()
    jaw[:, head.expression_names.index("jawOpen")] = 0.8
    target = replace(face, expression=jaw)
    covered = render(head, face, SIZE).mask
    image = paint((covered, SKIN))
    nothing = torch.zeros_like(covered)
    moved = carry(image, face, target, head, layers=Layers(covered, covered, nothing, nothing))
    drawn = render(head, target, SIZE)
    inside = erode(head.part_mask(drawn.raster, "mouth", "tongue")[:, None].float(), 5) > 0
    assert inside.sum() > 20
    assert moved.image[inside.expand(-1, 3, -1, -1)].mean() < 0.5 * SKIN.mean()  # dark, not skin
    assert moved.validity[inside].max() <= 0.15
    brow = drawn.raster.face[:, None] >= 0
    brow[..., SIZE // 3 :, :] = False
    assert (moved.image - image)[brow.expand(-1, 3, -1, -1)].abs().max() < 2e-3  # hardly anything moves above


def test_upper_teeth_stay_at_the_skull_while_the_mouth_opens(head: HeadModel):
    """A smile of white teeth opens: where the teeth were there are teeth, below them the dark inside."""
    upper = upper_teeth(head)
    assert int(upper.sum()) == 68
    rest = head.template[upper, 1]
    lower = head.template[(head.labels == LABELS.index("teeth")) & ~upper, 1]
    assert rest.mean() > lower.mean()
    smile = replace(person(head, 3, expression=0.0), camera=torch.tensor([[14.0, 0.0, 0.06]]))  # near, so that teeth are many pixels
    names = head.expression_names
    for name, value in (("mouthSmile", 0.5), ("mouthUpperUp", 0.6)):
        smile.expression[0, [names.index(f"{name}Left"), names.index(f"{name}Right")]] = value
    smile.expression[0, names.index("jawOpen")] = 0.15
    opened = replace(smile, expression=smile.expression.clone())
    opened.expression[0, names.index("jawOpen")] = 0.7
    drawn, target = render(head, smile, SIZE), render(head, opened, SIZE)
    inside = head.part_mask(drawn.raster, "mouth", "teeth", "tongue")[:, None]
    picture = paint((drawn.mask, SKIN), (inside, torch.ones(3)))
    layers = Layers(drawn.mask, drawn.mask, torch.zeros_like(drawn.mask), torch.zeros_like(drawn.mask))
    moved = carry(picture, smile, opened, head, layers=layers, options=CarryOptions(stretch_expression=False))
    still = erode((inside & head.part_mask(target.raster, "mouth", "teeth", "tongue")[:, None]).float(), 3) > 0
    assert int(still.sum()) > 20
    assert moved.image.amin(1, keepdim=True)[still].min() > 0.9
    assert moved.validity[still].min() > 0.5
    deep = head.part_mask(target.raster, "mouth", "tongue")[:, None] & ~(dilate(inside.float(), 7) > 0)
    assert int(deep.sum()) > 20
    assert moved.image.amax(1, keepdim=True)[deep].mean() < 0.35


def test_motion_around_is_zero_where_nothing_moves_and_a_shift_for_a_shift(head: HeadModel):
    face = person(head, 2)
    points = project(head(face.shape, face.expression, face.pose), face.camera)[..., :2]
    grid = pixel_grid(64, 64, points)
    still = head_outline(head, points)
    same, holds = motion_around(still, still, grid)
    assert torch.equal(same, torch.zeros_like(same))
    shift = torch.tensor([0.1, -0.05])
    shifted, _ = motion_around(still, head_outline(head, points + shift), grid)
    assert torch.allclose(shifted, -shift.view(1, 2, 1, 1).expand_as(shifted), atol=1e-4)
    assert holds.min() == 0
    assert holds.max() == 1


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
    hidden = (cheeks & (moved.validity < 0.15)).expand(-1, 3, -1, -1)
    assert hidden.sum() > 300
    assert (moved.image - truth)[hidden].abs().mean() < 0.06


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
