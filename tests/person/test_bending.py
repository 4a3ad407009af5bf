"""Turned heads bent as one piece, against known motions and known pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from painted import GREEN, SIZE, SKIN, paint
from people import person
from torch import Tensor

from difffae.carry.motion import follow_surface
from difffae.carry.options import CarryOptions
from difffae.common.pixels import dilate, gradient_norm, pixel_grid
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.person.bending import matte_outline
from difffae.person.prepared import carry, prepare, start_move
from difffae.source.regions import Layers


def turned(head: HeadModel, afro, yaw: float):
    image, layers, face = afro
    source = prepare(image, face, head, layers=layers)
    return start_move(source, replace(face, pose=person(head, 3, yaw=yaw).pose))


def enlarged(offset: Tensor) -> Tensor:
    """By how much an offset (1,2,H,W) in pixels enlarges what it looks at; not positive where it folds."""
    dx, dy = offset[0, :, :-1].diff(dim=-1), offset[0, ..., :-1].diff(dim=-2)
    return (1 + dx[0]) * (1 + dy[1]) - dx[1] * dy[0]


@pytest.mark.parametrize("yaw", [20.0, -20.0, 35.0])
def test_the_face_goes_with_the_mesh_and_all_else_smoothly(head: HeadModel, afro, yaw: float) -> None:
    move = turned(head, afro, yaw)
    bend = move.bend
    assert bend.share.item() == 1
    core = bend.core[0, 0] > 0.99999
    assert core.sum() > 1000
    shown = follow_surface(move.source, move.posed, move.source.log_shading * 0).offset
    assert (move.offset - shown)[0, :, core].norm(dim=0).max() < 1e-3
    # beside the face nothing is torn and nothing folds, in neither of the fields
    beside = (bend.core < 0.01)[0, 0, :-1, :-1]
    for offset in (bend.under, bend.over):
        assert gradient_norm(offset)[bend.core < 0.01].quantile(0.99) < 4.0
        assert enlarged(offset)[beside].quantile(0.001) > 0.1
    # where the square ends the photograph goes on: its background keeps its place, but where the head hides it
    behind = ((dilate(afro[1].person, 17) == 0) & (bend.hides == 0)).expand(-1, 2, -1, -1)
    border = torch.ones_like(behind)
    border[..., 1:-1, 1:-1] = False
    assert (behind & border).sum() > 200
    assert bend.under[behind & border].abs().max() < 0.5


def test_a_face_that_was_not_seen_is_left_to_the_layers(head: HeadModel, afro) -> None:
    image = afro[0]
    face = person(head, 3, yaw=-35)
    covered = render(head, face, SIZE).mask
    seen = Layers(covered, covered, torch.zeros_like(covered), torch.zeros_like(covered))
    target = replace(face, pose=person(head, 3, yaw=20).pose)
    assert start_move(prepare(image, face, head, layers=seen), target).bend.share.item() == 0
    options = CarryOptions(bend=None)
    assert start_move(prepare(image, face, head, layers=seen, options=options), target).bend is None
    layered, both = carry(image, face, target, head, layers=seen, options=options), carry(image, face, target, head, layers=seen)
    assert torch.equal(layered.image, both.image)


def test_hair_that_covers_a_side_goes_on_covering_it(head: HeadModel) -> None:
    """A face in half profile whose other side is under hair: what comes into view there is hair, and needs no layers."""
    face = person(head, 3, yaw=25)
    covered = render(head, face, SIZE).mask
    columns = torch.arange(SIZE)[None, None, None]
    side = columns > (covered * columns).amax(-1, keepdim=True) - 32
    shares = []
    for hair in (torch.zeros_like(covered), dilate(covered, 31) * side):
        whole = covered.maximum(hair)
        layers = Layers(whole, whole, hair, hair)
        image = paint((covered, SKIN), (hair, GREEN))
        move = start_move(prepare(image, face, head, layers=layers), replace(face, pose=person(head, 3, yaw=-10).pose))
        shares.append(move.bend.share.item())
    assert shares == [0, 1]


def test_a_bent_photograph_needs_no_layers(head: HeadModel, afro) -> None:
    """Without options of a bend it is put together from layers; with them, what is seen was in the photograph."""
    image, layers, face = afro
    options = CarryOptions(bend=None)
    target = replace(face, pose=person(head, 3, yaw=20).pose)
    assert start_move(prepare(image, face, head, layers=layers, options=options), target).bend is None
    colours = torch.tensor([[0.1, 0.2, 0.9], [0.9, 0.1, 0.1], [0.1, 0.8, 0.2]])
    covered = render(head, face, SIZE).mask
    inner = 1 - dilate(1 - covered, 21)
    blue, red, green = colours[..., None, None]
    picture = torch.where(inner > 0, green, torch.where(covered > 0, red, blue))
    none = torch.zeros_like(covered)
    moved = carry(picture, face, target, head, layers=Layers(covered, covered, none, none)).image
    mixed = (moved[0].flatten(1).T[:, None] - colours).abs().amax(-1).amin(1)
    # no colour but these three and the mixtures along their borders; the eyes and the mouth are drawn
    assert (mixed > 0.3).float().mean() < 0.02


@pytest.mark.parametrize("yaw", [20.0, -20.0])
def test_a_jaw_goes_over_a_collar_which_stays(head: HeadModel, yaw: float) -> None:
    face = person(head, 3)
    covered = render(head, face, SIZE).mask
    rows = torch.arange(SIZE)[:, None]
    chin = ((prepare(paint((covered, SKIN)), face, head).posed.points[0, head.vertex_mask("face"), 1].max() + 1) * SIZE - 1) / 2
    cloth = (rows > chin + 3).float().expand(1, 1, SIZE, SIZE)
    whole, none = covered.maximum(cloth), torch.zeros_like(covered)
    source = prepare(paint((covered, SKIN), (cloth, GREEN)), face, head, layers=Layers(whole, whole, cloth, none))
    move = start_move(source, replace(face, pose=person(head, 3, yaw=yaw, pitch=-12).pose))
    moved = source.move(move.target)
    # two fields are laid over each other below the jaw, on the side to which the face goes, and nowhere else
    apart = (move.bend.over - move.bend.under).norm(dim=1, keepdim=True) > 1
    columns = pixel_grid(SIZE, SIZE, covered)[..., 0]
    hidden = apart & (move.bend.face > 0.9) & (move.bend.core < 0.01) & (rows > chin)
    assert hidden.sum() > 50
    side = (move.posed.points - source.posed.points)[0, head.vertex_mask("face"), 0].mean().sign()
    assert (columns.expand_as(apart)[hidden] * side).mean() > 0
    # cloth that is seen lies where it was
    seen = ((moved.image - GREEN[None, :, None, None]).abs().amax(1, keepdim=True) < 0.1) & (move.bend.face < 0.1)
    low = (rows > chin + 30).expand_as(seen)
    assert move.offset.norm(dim=1, keepdim=True)[low & (cloth > 0)].max() < 1.0
    assert seen.sum() > 100


def test_a_brim_stays_whole(head: HeadModel) -> None:
    """A hat's brim is far from any head model's surface; what is taken apart along that is torn."""
    face = person(head, 3)
    covered = render(head, face, SIZE).mask
    top = torch.nonzero(covered[0, 0].any(1))[0].item()
    rows = torch.arange(SIZE)[:, None]
    columns = (torch.arange(SIZE) - SIZE / 2).abs()[None]
    hat = ((rows > top + 12) & (rows < top + 22) & (columns < 62)) | ((rows > top - 14) & (rows < top + 22) & (columns < 34))
    hat = hat[None, None].float()
    image = paint((covered, SKIN), (hat, GREEN))
    whole = covered.maximum(hat)
    moved = carry(image, face, replace(face, pose=person(head, 3, yaw=20).pose), head, layers=Layers(whole, whole, hat, hat))
    green = ((moved.image - GREEN[None, :, None, None]).abs().amax(1, keepdim=True) < 0.15).float()
    assert 0.8 < green.sum() / hat.sum() < 1.2
    # one piece: what is grown from one of its pixels fills it
    grown, places = torch.zeros_like(green), green[0, 0].nonzero()
    row, column = places[len(places) // 2]
    grown[0, 0, row, column] = 1
    for _ in range(2 * SIZE):
        grown = dilate(grown, 3) * green
    assert grown.sum() > 0.97 * green.sum()


def test_the_outline_is_the_mattes_where_that_ends_near_it(head: HeadModel, afro) -> None:
    image, layers, face = afro
    source = prepare(image, face, head, layers=layers).person
    larger, smaller, none = (
        matte_outline(source.outline, matte).reach.median()
        for matte in (dilate(layers.person, 9), 1 - dilate(1 - layers.person, 9), torch.ones_like(layers.person))
    )
    as_it_is = matte_outline(source.outline, layers.person).reach.median()
    assert larger - as_it_is == pytest.approx(4 / (SIZE / 2), abs=0.015)
    assert as_it_is - smaller == pytest.approx(4 / (SIZE / 2), abs=0.015)
    assert torch.allclose(none, source.outline.reach.median(), atol=1e-6)


@pytest.mark.parametrize(("yaw", "pitch"), [(20.0, 0.0), (-25.0, 0.0), (0.0, 20.0)])
def test_a_plain_wall_keeps_its_place_to_the_bit(head: HeadModel, yaw: float, pitch: float) -> None:
    """A wall that is lit unevenly, with grain: what neither the old nor the new person covers stays the photograph."""
    face = person(head, 3)
    covered = render(head, face, SIZE).mask
    grain = 0.01 * torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    wall = (0.6 + 0.1 * pixel_grid(SIZE, SIZE, covered)[..., 1] + grain).clamp(0, 1)
    image = torch.where(covered > 0, SKIN[None, :, None, None], wall)
    none = torch.zeros_like(covered)
    source = prepare(image, face, head, layers=Layers(covered, covered, none, none))
    target = replace(face, pose=person(head, 3, yaw=yaw, pitch=pitch).pose)
    move, moved = start_move(source, target), source.move(target)
    assert move.bend.share.item() == 1
    persons = dilate(covered.maximum((moved.person_alpha > 0.2).to(covered)), 17)
    dragged = (persons == 0) & (move.bend.under.norm(dim=1, keepdim=True) > 1)
    assert dragged.sum() > 500  # the background would go along there
    apart = (persons == 0).expand_as(image)
    assert torch.equal(moved.image[apart], image[apart])
    assert moved.validity[persons == 0].min() == 1
    # and what the old person covered is the wall, whose colours go on
    left = ((covered > 0) & (moved.person_alpha < 1e-3)).expand_as(image)
    assert left.sum() > 100
    assert (moved.image - wall)[left].abs().max() < 0.05


def expressed(head: HeadModel, face, **scores: float):
    expression = face.expression.clone()
    for name, score in scores.items():
        expression[:, head.expression_names.index(name)] = score
    return replace(face, expression=expression)


def test_an_opened_mouth_leaves_the_skull_of_a_head_that_faces_aside(head: HeadModel) -> None:
    """The joints that a head turns around are regressed from the expressed head, where a jaw that drops moves them."""
    face = person(head, 3, yaw=30, expression=0.0)
    source = prepare(paint((render(head, face, SIZE).mask, SKIN)), face, head)
    opened_mouth = expressed(head, face, jawOpen=0.6)
    still = ~torch.isclose(head.expression_basis[head.expression_names.index("jawOpen")].norm(dim=-1), torch.zeros(()), atol=1e-5)
    scalp = head.vertex_mask("scalp") & ~still
    assert scalp.sum() > 100
    posed = start_move(source, opened_mouth).posed
    assert (posed.points - source.posed.points)[:, scalp].abs().max() < 1e-6
    alone = head(opened_mouth.shape, opened_mouth.expression, opened_mouth.pose) - head(face.shape, face.expression, face.pose)
    assert alone[:, scalp].norm(dim=-1).min() > 1e-3  # of itself the head model moves it, by millimetres


def test_what_lies_beside_a_jaw_that_moves_goes_on_smoothly(head: HeadModel, afro) -> None:
    image, layers, face = afro
    source = prepare(image, face, head, layers=layers)
    for scores, share in (({"jawOpen": 0.6}, 1.0), ({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, 0.0)):
        bend = start_move(source, expressed(head, face, **scores)).bend
        assert (0.0 if bend is None else bend.share.item()) == share
    move = start_move(source, expressed(head, face, jawOpen=0.6))
    assert move.bend is not None
    assert gradient_norm(move.bend.under)[move.bend.core < 0.01].quantile(0.99) < 1.5
    # above the face nothing changes
    rows = pixel_grid(SIZE, SIZE, torch.zeros(1))[..., 1]
    above = rows < source.posed.points[0, head.vertex_mask("face"), 1].min() - 0.1
    moved = carry(image, face, expressed(head, face, jawOpen=0.6), head, layers=layers).image
    assert (moved - image)[..., above].abs().max() < 1 / 255


@pytest.mark.parametrize("roll", [20.0, -30.0])
def test_a_head_that_rolls_keeps_its_form_before_a_background_that_stays(head: HeadModel, roll: float) -> None:
    """A background that goes along would have to be wrung around the head, or press it out of shape."""
    face = person(head, 3)
    covered = render(head, face, SIZE).mask
    pixels = pixel_grid(SIZE, SIZE, covered)
    busy = 0.5 + 0.3 * torch.stack([torch.sin(9 * pixels[..., 0]), torch.cos(7 * pixels[..., 1]), torch.sin(5 * pixels.sum(-1))])
    image, none = torch.where(covered > 0, SKIN[None, :, None, None], busy), torch.zeros_like(covered)
    source = prepare(image, face, head, layers=Layers(covered, covered, none, none))
    target = replace(face, pose=person(head, 3, roll=roll).pose)
    move, moved = start_move(source, target), source.move(target)
    assert move.bend.share.item() == 1
    # as large as before, and where the head model has it
    above = pixels[..., 1] < source.posed.points[0, head.vertex_mask("face"), 1].max() - 0.1
    wanted = move.posed.mesh & ~move.posed.part("neck", "shoulders") & above
    shown = (moved.person_alpha > 0.5) & above
    assert (wanted & shown).sum() / (wanted | shown).sum() > 0.9
    # far from both, the photograph
    apart = (dilate(covered.maximum((moved.person_alpha > 0.02).to(covered)), 25) == 0).expand_as(image)
    assert apart.sum() > 3000
    assert (moved.image - image)[apart].abs().max() < 0.02


def test_an_ear_that_a_turned_head_hides_is_not_pressed_beside_its_cheek(head: HeadModel) -> None:
    """A bare head with blue ears before a green wall: turned by 40 degrees it shows one of them. Under hair ears are not told apart."""
    face = person(head, 3)
    shown = render(head, face, SIZE)
    covered, none = shown.mask, torch.zeros_like(shown.mask)
    blue = torch.tensor([0.1, 0.1, 0.9])[None, :, None, None]
    ears = prepare(none.expand(-1, 3, -1, -1), face, head).posed.part("ears")
    image = torch.where(covered > 0, SKIN[None, :, None, None], GREEN[None, :, None, None])
    image = torch.where(ears, blue, image)
    left = torch.zeros_like(covered)
    left[..., : SIZE // 2] = 1
    for yaw, gone in ((40.0, 1 - left), (-40.0, left)):
        bare, haired = (prepare(image, face, head, layers=Layers(covered, covered, none, hair)) for hair in (none, covered))
        target = replace(face, pose=person(head, 3, yaw=yaw).pose)
        bend = start_move(bare, target).bend
        assert (bend.gone * ears * gone).sum() > 0.95 * (ears * gone).sum()
        assert (bend.gone * (1 - gone)).max() < 1e-6
        assert start_move(haired, target).bend.gone.max() == 0
        # the bent photograph shows the other ear alone
        moved = bare.move(target).image
        seen = ((moved[:, 2:] - moved[:, :2].amax(1, keepdim=True)) > 0.3).to(left)
        assert (seen * gone).sum() < 0.05 * (seen * (1 - gone)).sum()
        assert start_move(bare, replace(face, pose=person(head, 3, yaw=yaw / 5).pose)).bend.gone.max() == 0
