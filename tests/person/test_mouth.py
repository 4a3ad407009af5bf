"""The inside of a mouth that opens, and the teeth that stay."""

from __future__ import annotations

from dataclasses import replace

import torch
from painted import SIZE, SKIN, paint
from people import person

from difffae.carry.options import CarryOptions
from difffae.common.pixels import dilate, erode
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.person.mouth import ROUND, MouthFrame, upper_teeth
from difffae.person.prepared import carry
from difffae.source.regions import Layers


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
    assert (moved.validity[inside] - CarryOptions().mouth_validity).abs().max() < 0.01  # a guess that may be shown
    brow = drawn.raster.face[:, None] >= 0
    brow[..., SIZE // 3 :, :] = False
    assert (moved.image - image)[brow.expand(-1, 3, -1, -1)].abs().max() < 2e-3  # hardly anything moves above


def test_upper_teeth_stay_at_the_skull_while_the_mouth_opens(head: HeadModel):
    """A smile of white teeth opens: where the teeth were there are teeth, below them the dark inside."""
    upper = upper_teeth(head)
    assert int(upper.sum()) == 68
    rest = head.template[upper, 1]
    lower = head.template[head.vertex_mask("teeth") & ~upper, 1]
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
    # but for its rim, which lips cover that are as thick as they were
    deep = erode((head.part_mask(target.raster, "mouth", "tongue")[:, None] & ~(dilate(inside.float(), 7) > 0)).float(), 5) > 0
    assert int(deep.sum()) > 20
    assert moved.image.amax(1, keepdim=True)[deep].mean() < 0.35


def test_an_opened_mouth_has_a_round_lower_edge():
    """Lips of a mesh that drops its jaw meet in a point; half way to half an ellipse they go, and the lowest place stays."""
    along, upper = torch.linspace(0, 1, 9), torch.zeros(9)
    pointed = 0.5 - (along - 0.5).abs()
    frame = MouthFrame(
        torch.zeros(2),
        torch.tensor([40.0, 0.0]),
        torch.tensor([0.0, 40.0]),
        *(torch.stack([along, y], -1) for y in (upper, pointed, upper, pointed)),
    )
    plain, round_ = frame.rounded(0.0).lower[:, 1], frame.rounded(1.0).lower[:, 1]
    lowest = float(plain.max())
    ellipse = lowest * (1 - (2 * along - 1) ** 2).sqrt()
    assert torch.allclose(round_, plain + ROUND * (ellipse - plain).clamp_min(0), atol=1e-5)
    assert round_[2] > 1.2 * plain[2]
    assert float(round_.max()) == lowest
    assert round_[0] == round_[-1] == 0
