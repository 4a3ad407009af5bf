"""Stretched expressions and opened lids: exact where they must be, bounded, and of known directions and sizes."""

from __future__ import annotations

from dataclasses import replace

import torch
from people import person

from difffae.carry.expression import EASED, EASY, GAIN, LEAST, MOST, SMALL, STARTS, WIDER, gains, lid_offsets, stretch_expression
from difffae.head.morphable import HeadModel
from difffae.head.mouth_patch import MouthPatch


def test_factors_are_those_of_both_sides_and_one_elsewhere():
    names = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "browInnerUp", "expression_17")
    factors = gains(names, torch.zeros(1))
    assert factors.tolist() == torch.tensor([GAIN["jawOpen"], GAIN["mouthSmile"], GAIN["mouthSmile"], 1.0, 1.0]).tolist()
    head = HeadModel.load()
    known = {name.removesuffix("Left").removesuffix("Right") for name in head.expression_names}
    assert known.issuperset(GAIN)


def test_differences_are_stretched_and_equal_numbers_stay():
    head = HeadModel.load()
    source = person(head, 2)
    wanted = source.expression.clone()
    smile, brow = (head.expression_names.index(name) for name in ("mouthSmileLeft", "browInnerUp"))
    wanted[:, smile] = source.expression[:, smile] + 0.2
    wanted[:, brow] = source.expression[:, brow] + 0.3
    moved = stretch_expression(source, replace(source, expression=wanted), head.expression_names).expression
    own = source.expression[0, smile]
    sooner = STARTS["mouthSmile"] * (((own + 0.2) / SMALL).clamp(max=1) - own / SMALL)  # the first of a smile takes more of the face
    assert own < SMALL
    assert torch.isclose(moved[0, smile] - own, (0.2 + sooner) * GAIN["mouthSmile"], atol=1e-6)
    assert torch.equal(moved[:, brow], wanted[:, brow])
    same = [i for i in range(len(head.expression_names)) if i not in (smile, brow)]
    assert torch.equal(moved[:, same], source.expression[:, same])


def test_stretching_is_bounded_but_never_holds_back():
    head = HeadModel.load()
    names = head.expression_names
    low, high = (
        replace(person(head, 2), expression=torch.zeros(1, len(names))),
        replace(person(head, 2), expression=torch.ones(1, len(names))),
    )
    up = stretch_expression(low, high, names).expression[0]
    down = stretch_expression(high, low, names).expression[0]
    for index, name in enumerate(names):
        assert 1 <= up[index] <= MOST, name
        assert LEAST <= down[index] <= 0, name


def test_a_wide_smile_by_number_raises_corners_less_and_anothers_smile_does_not():
    head = HeadModel.load()
    names = head.expression_names
    own, other = MouthPatch.closed(1, torch.zeros(1)), replace(MouthPatch.closed(1, torch.zeros(1)), opening=torch.tensor([0.3]))
    source = replace(person(head, 2), expression=torch.zeros(1, len(names)), mouth=own)
    wanted = torch.zeros(4, len(names))
    smile, jaw = names.index("mouthSmileLeft"), names.index("jawOpen")
    wanted[:, smile] = torch.tensor([0.3, 0.4, 0.8, 1.0])
    wanted[:, jaw] = 0.8
    by_number, lent = (
        torch.cat([stretch_expression(source, replace(source, expression=one[None], mouth=mouth), names).expression for one in wanted])
        for mouth in (own, other)
    )
    knee = EASED["mouthSmile"]
    shares = torch.tensor([0.3, knee, knee + EASY * (0.8 - knee), knee + EASY * (1 - knee)]) + STARTS["mouthSmile"]
    assert torch.allclose(by_number[:, smile], GAIN["mouthSmile"] * shares, atol=1e-6)
    assert torch.allclose(lent[2, smile], torch.tensor(GAIN["mouthSmile"] * (0.8 + STARTS["mouthSmile"])), atol=1e-6)
    assert torch.equal(by_number[:, jaw], lent[:, jaw])


def test_lids_part_by_the_measured_share_and_closed_eyes_stay_closed():
    head = HeadModel.load()
    expression = torch.zeros(3, head.expression_count)
    expression[1, head.expression_names.index("eyeBlinkLeft")] = 1
    expression[2, head.expression_names.index("eyeBlinkLeft")] = 0.5
    offsets = lid_offsets(head, expression)
    assert torch.equal(offsets[..., 0], torch.zeros_like(offsets[..., 0]))
    assert torch.equal(offsets[..., 2], torch.zeros_like(offsets[..., 2]))
    eyeballs = head.vertex_mask("eyes")
    assert torch.equal(offsets[:, eyeballs], torch.zeros_like(offsets[:, eyeballs]))
    points = head.landmarks(head.template[None])[0]
    moved = head.landmarks(offsets)
    distance = (points[[33, 133]].mean(0) - points[[263, 362]].mean(0)).norm()
    for upper, lower, side in ((159, 145, "Right"), (386, 374, "Left")):
        wider = (moved[:, upper, 1] - moved[:, lower, 1]) / distance
        assert 0.7 * WIDER < wider[0] <= WIDER, side
    left = (moved[:, 386, 1] - moved[:, 374, 1]) / distance
    assert left[1] == 0
    assert torch.isclose(left[2], left[0] / 2)
    for corner in (33, 133, 263, 362, 1, 13, 61, 10):
        assert moved[0, corner].abs().max() < 0.35 * 0.5 * WIDER * distance, corner


def test_heads_without_eyes_are_left_alone():
    head = HeadModel.load()
    tensors = {name: buffer for name, buffer in head.named_buffers() if name not in ("labels", "face_labels")}
    unlabelled = HeadModel(head.config, tensors)
    assert lid_offsets(unlabelled, torch.zeros(2, head.expression_count)).abs().sum() == 0
