"""Lids that are open as far as photographs', against known directions and sizes."""

from __future__ import annotations

import torch

from difffae.carry.eyelids import WIDER, lid_offsets
from difffae.head.morphable import LABELS, HeadModel


def test_lids_part_by_the_measured_share_and_closed_eyes_stay_closed():
    head = HeadModel.load()
    expression = torch.zeros(3, head.expression_count)
    expression[1, head.expression_names.index("eyeBlinkLeft")] = 1
    expression[2, head.expression_names.index("eyeBlinkLeft")] = 0.5
    offsets = lid_offsets(head, expression)
    assert torch.equal(offsets[..., 0], torch.zeros_like(offsets[..., 0]))
    assert torch.equal(offsets[..., 2], torch.zeros_like(offsets[..., 2]))
    eyeballs = head.labels == LABELS.index("eyes")
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
