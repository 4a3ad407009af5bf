"""Mouths that open: what is painted inside, what stays the photograph's own, and where nothing changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from painted import SIZE, SKIN, paint
from people import person

from difffae.carry.expression import stretch_expression
from difffae.carry.light import SMILE
from difffae.carry.options import CarryOptions
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.head.shading import project
from difffae.person.mouth import DentalArch, MouthFrame, edge_at, upper_teeth, upper_teeth_row
from difffae.person.mouth_opening import MouthLight, Opening, luma_of, mouth_marks
from difffae.person.prepared import Carried, carry, prepare, start_move
from difffae.source.regions import Layers

WITHOUT = CarryOptions(mouths=False, folds=False)
INSIDE = ("mouth", "teeth", "tongue")


def expressing(head: HeadModel, face: FaceAttributes, **values: float) -> FaceAttributes:
    expression = face.expression.clone()
    for name, value in values.items():
        expression[:, head.expression_names.index(name)] = value
    return replace(face, expression=expression)


def near(head: HeadModel, yaw: float = 0.0) -> FaceAttributes:
    """A face with a closed mouth of some 40 pixels."""
    return replace(person(head, 3, yaw=yaw, expression=0.0), camera=torch.tensor([[12.0, 0.0, 0.05]]))


def projected(head: HeadModel, face: FaceAttributes) -> torch.Tensor:
    """(V,3) projected vertices, -1..1."""
    return project(head(face.shape, face.expression, face.pose), face.camera)[0]


def mouth(head: HeadModel, face: FaceAttributes) -> MouthFrame:
    marks = head.landmarks(projected(head, face)[None])[0]
    return MouthFrame.of((marks + torch.tensor([1.0, 1.0, 0.0])) * SIZE / 2 - torch.tensor([0.5, 0.5, 0.0]))


def moved(head: HeadModel, source: FaceAttributes, target: FaceAttributes, skin: torch.Tensor = SKIN) -> tuple[Carried, Carried]:
    """With mouths, and without."""
    picture = paint((render(head, source, SIZE).mask, skin))
    return carry(picture, source, target, head), carry(picture, source, target, head, options=WITHOUT)


def luma_at(image: torch.Tensor, frame: MouthFrame, along: float, below: float) -> float:
    """Of a pixel by its place: along the mouth, and below the upper lip."""
    down = float(edge_at(frame.upper, torch.tensor([along]))) + below
    x, y = frame.places(torch.tensor([along, down])).round().long().tolist()
    return float(image[0, :, y, x].mean())


@pytest.mark.parametrize("yaw", [0.0, 20.0])
def test_places_of_the_dental_arch_come_back(head: HeadModel, yaw: float):
    face = near(head, yaw)
    upper = tuple(upper_teeth(head).nonzero()[:, 0].tolist())
    arch = DentalArch.of(head, upper, projected(head, face), (SIZE, SIZE))
    angle, height = torch.linspace(-0.5, 0.5, 9), torch.linspace(0, 0.008, 9)
    back_angle, back_height = arch.angle_and_height(arch.places(angle, height))
    assert (back_angle - angle).abs().max() < 1e-3
    assert (back_height - height).abs().max() < 1e-5
    # the front teeth are nearly straight: their arc is as long as it is wide
    assert float(arch.length(torch.tensor(0.2))) == pytest.approx(arch.radii[0] * 0.2, rel=0.02)
    assert float(arch.length(torch.tensor(-0.2))) == float(arch.length(torch.tensor(0.2)))


def test_teeth_have_gaps_and_tips():
    along = torch.tensor([0.0042, 0.0084, 0.0117])  # middle of the first tooth, gap, middle of the second
    height, brightness = upper_teeth_row(along, torch.full_like(along, 0.004))
    assert brightness[1] < 0.7 * brightness[0]
    assert brightness[2] > 0.9 * brightness[0]
    assert float(height[0]) == pytest.approx(0.004)
    assert float(height[0] - height[2]) == pytest.approx(0.0007, abs=1e-6)  # the second tooth is shorter


@pytest.mark.parametrize("skin", [(0.85, 0.68, 0.6), (0.30, 0.19, 0.14)])
def test_a_wide_mouth_has_teeth_above_and_is_dark_below(head: HeadModel, skin: tuple[float, float, float]):
    source = near(head)
    target = expressing(head, source, jawOpen=0.6)
    colour = torch.tensor(skin)
    new, _ = moved(head, source, target, colour)
    frame = mouth(head, stretch_expression(source, target, head.expression_names))
    assert frame.opening > 0.3
    teeth = luma_at(new.image, frame, 0.45, 0.07)
    dark = luma_at(new.image, frame, 0.5, 0.5 * frame.opening)
    assert dark < 0.35 * teeth
    assert teeth < 1.05 * float(colour.mean())  # never brighter than the skin around
    assert teeth > 0.35 * float(colour.mean())


def test_a_tongue_lies_behind_the_lower_teeth_and_a_dark_throat_above_it(head: HeadModel):
    source = near(head)
    target = expressing(head, source, jawOpen=0.8)
    new, _ = moved(head, source, target)
    frame = mouth(head, stretch_expression(source, target, head.expression_names))
    wide = frame.opening
    throat, back, tongue = (luma_at(new.image, frame, along, share * wide) for along, share in ((0.2, 0.4), (0.5, 0.35), (0.5, 0.72)))
    lower = max(luma_at(new.image, frame, 0.46, wide - above) for above in (0.02, 0.04, 0.06))
    assert throat < 0.5 * tongue
    assert back < 0.8 * tongue
    assert lower > 1.3 * tongue
    down = float(edge_at(frame.upper, torch.tensor([0.5]))) + 0.72 * wide
    x, y = frame.places(torch.tensor([0.5, down])).round().long().tolist()
    red, green, blue = new.image[0, :, y, x].tolist()
    assert red > 1.4 * max(green, blue)


def test_a_picture_without_colours_has_a_mouth_without(head: HeadModel):
    source = near(head)
    new = carry(paint((render(head, source, SIZE).mask, torch.full((3,), 0.6))), source, expressing(head, source, jawOpen=0.6), head)
    inside = (new.validity - CarryOptions().mouth_validity).abs()[:, 0] < 1e-3
    assert int(inside.sum()) > 200
    assert float((new.image.amax(1) - new.image.amin(1))[inside].max()) < 0.03


def test_a_mouth_opens_without_a_jump(head: HeadModel):
    """Between steps of the slider pixels change by what moves over them, and no more in one step than in others."""
    source = near(head)
    picture = paint((render(head, source, SIZE).mask, SKIN))
    prepared = prepare(picture, source, head)
    images = torch.cat([prepared.move(expressing(head, source, jawOpen=0.15 + 0.05 * step)).image for step in range(7)])
    steps = (images[1:] - images[:-1]).abs().mean((1, 2, 3))
    assert float(steps.max()) < 2.5 * float(steps.median())


def test_teeth_are_as_bright_as_those_that_the_photograph_shows(head: HeadModel):
    """A dark face whose teeth are seen keeps bright ones where they are painted."""
    source = expressing(head, near(head), jawOpen=0.15, mouthUpperUpLeft=0.6, mouthUpperUpRight=0.6)
    drawn = render(head, source, SIZE)
    teeth = head.part_mask(drawn.raster, "teeth")[:, None]
    skin = torch.tensor([0.30, 0.20, 0.15])
    size = (SIZE, SIZE)
    lights = []
    for white in (0.45, 0.75):
        picture = paint((drawn.mask, skin), (teeth, torch.full((3,), white)))
        nothing = torch.zeros_like(drawn.mask)
        layers = Layers(drawn.mask, drawn.mask, nothing, nothing)
        prepared = prepare(picture, source, head, layers=layers)
        move = start_move(prepared, expressing(head, source, jawOpen=0.6))
        frames = [MouthFrame.of(mouth_marks(head, posed.points, size)[0]) for posed in (move.posed, prepared.posed)]
        opening = Opening.of(*frames, size)
        window = picture[opening.here]
        lights.append(MouthLight.around(move, 0, opening, window, torch.ones_like(window[:, :1])))
    dark, bright = (float(luma_of(light.teeth).mean()) for light in lights)
    assert bright > 1.4 * dark
    assert lights[0].own == pytest.approx(0.45, abs=0.05)


@pytest.mark.parametrize(("shown", "own"), [((0.75, 0.95, 0.75), True), ((0.62, 0.30, 0.27), False)])
def test_a_smile_that_shows_teeth_gets_no_others(head: HeadModel, shown: tuple[float, float, float], own: bool):
    """Pale green teeth of a smile are the only ones as it opens; red flesh between lips is no teeth, and there usual ones come to view."""
    values = {f"{name}{side}": 0.6 for name in ("mouthSmile", "mouthUpperUp") for side in ("Left", "Right")}
    source = expressing(head, near(head), jawOpen=0.1, **values)
    drawn = render(head, source, SIZE)
    inside = head.part_mask(drawn.raster, *INSIDE)[:, None]
    picture = paint((drawn.mask, SKIN), (inside, torch.tensor(shown)))
    nothing = torch.zeros_like(drawn.mask)
    layers = Layers(drawn.mask, drawn.mask, nothing, nothing)
    target = expressing(head, source, jawOpen=0.6)
    new = carry(picture, source, target, head, layers=layers)
    frame = mouth(head, stretch_expression(source, target, head.expression_names))
    x, y = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy")
    along, down = frame.straight(torch.stack([x, y], -1).float()).unbind(-1)
    mid = (along - 0.5).abs() < 0.25
    between = mid & (down > edge_at(frame.upper, along) + 0.04) & (down < edge_at(frame.lower, along) - 0.15)
    red, green, _ = new.image[0]
    bright = between & (green > 0.58)  # and no rim of a tooth
    assert int(bright.sum()) > 20
    assert float((green > red + 0.05)[bright].float().mean()) == pytest.approx(1.0 if own else 0.0, abs=0.02)


def test_only_the_mouth_changes_and_what_is_painted_says_so(head: HeadModel):
    source = near(head)
    target = expressing(head, source, jawOpen=0.6)
    new, old = moved(head, source, target)
    frame = mouth(head, stretch_expression(source, target, head.expression_names))
    x, y = frame.middle.tolist()
    changed = (new.image != old.image).any(1)[0]
    rows, columns = changed.nonzero().unbind(-1)
    assert int(changed.sum()) > 200
    assert float((columns - x).abs().max()) < 0.8 * frame.width
    assert float((rows - y).abs().max()) < (0.5 * frame.opening + 0.4) * frame.width
    painted = (new.validity != old.validity)[0, 0]
    assert not (painted & ~changed).any()
    assert float(new.validity[0, 0, round(y), round(x)]) == pytest.approx(CarryOptions().mouth_validity)


def test_a_jaw_that_opens_farther_shows_more(head: HeadModel):
    source = near(head)
    dark = []
    for jaw in (0.1, 0.3, 0.6, 1.0):
        new, _ = moved(head, source, expressing(head, source, jawOpen=jaw))
        dark.append(int((new.image.mean(1) < 0.35 * SKIN.mean()).sum()))
    assert 0 < dark[0] < dark[1] < dark[2] < dark[3]


@pytest.mark.parametrize("changes", [{}, {"browInnerUp": 0.8}, {"eyeLookInLeft": 0.5}])
def test_closed_mouths_keep_their_bits(head: HeadModel, changes: dict[str, float]):
    source = near(head)
    new, old = moved(head, source, expressing(head, source, **changes))
    assert torch.equal(new.image, old.image)
    assert torch.equal(new.validity, old.validity)


def test_an_open_mouth_that_moves_keeps_its_own_inside(head: HeadModel):
    """A green mouth turns: green it stays, between the lips."""
    source = expressing(head, near(head), jawOpen=0.4)
    drawn = render(head, source, SIZE)
    inside = head.part_mask(drawn.raster, *INSIDE)[:, None]
    picture = paint((drawn.mask, SKIN), (inside, torch.tensor([0.1, 0.7, 0.1])))
    target = expressing(head, replace(near(head, yaw=12.0)), jawOpen=0.4)
    new = carry(picture, source, target, head)
    x, y = mouth(head, target).middle.round().long().tolist()
    red, green, _ = new.image[0, :, y, x].tolist()
    assert green > 3 * red
    still = carry(picture, source, source, head)
    assert torch.equal(still.image, picture)


def test_rows_of_a_batch_are_as_alone(head: HeadModel):
    source = near(head)
    targets = [expressing(head, source, jawOpen=0.6), source]
    picture = paint((render(head, source, SIZE).mask, SKIN))
    together = carry(picture.expand(2, -1, -1, -1), source, FaceAttributes.cat(targets), head)
    assert (together.image[0] - carry(picture, source, targets[0], head).image[0]).abs().mean() < 1e-4
    assert torch.equal(together.image[1], picture[0])


def test_a_smile_has_folds_and_no_other_edit_has(head: HeadModel):
    source = near(head)
    picture = paint((render(head, source, SIZE).mask, SKIN))
    folded, plain = (CarryOptions(mouths=False, folds=folds) for folds in (True, False))
    depths = []
    for smile in (0.0, 0.3, 0.8):
        target = expressing(head, source, **dict.fromkeys(SMILE, smile))
        new, old = carry(picture, source, target, head, options=folded), carry(picture, source, target, head, options=plain)
        depths.append(float((new.light_ratio / old.light_ratio).log().abs().max()))
    assert depths[0] == 0
    assert 0.02 < depths[1] < depths[2] < 0.8
    target = expressing(head, source, jawOpen=0.5)
    new, old = carry(picture, source, target, head, options=folded), carry(picture, source, target, head, options=plain)
    assert torch.equal(new.light_ratio, old.light_ratio)
