"""What a picture shows inside its mouth goes along the sockets of attributes."""

from __future__ import annotations

import torch
from inprocess import Pack
from pictures import portrait


def test_an_expression_brings_its_mouth(pack: Pack) -> None:
    picture, _, crop = pack.run("DiffFAECropFace", image=portrait("source.png"))
    (own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
    (wanted,) = pack.run("DiffFAEEstimateAttributes", image=portrait("query.png"))
    (composed,) = pack.run("DiffFAEComposeAttributes", source=own, expression=wanted)
    assert torch.equal(composed.mouth.picture, wanted.mouth.picture)
    (posed,) = pack.run("DiffFAEComposeAttributes", source=own, pose=wanted)
    assert torch.equal(posed.mouth.picture, own.mouth.picture)
    (adjusted,) = pack.run("DiffFAEAdjustAttributes", attributes=composed, yaw=5.0)
    assert torch.equal(adjusted.mouth.picture, wanted.mouth.picture)
