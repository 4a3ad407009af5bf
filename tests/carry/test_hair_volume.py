"""Hair as a volume: where it may stand out, how far it reaches, how what is beside it moves."""

from __future__ import annotations

import torch
from painted import SIZE
from people import person

from difffae.carry.hair_volume import hair_offsets, hair_weight, head_outline, motion_around
from difffae.common.pixels import erode, pixel_grid
from difffae.head.morphable import HeadModel
from difffae.head.rasterizer import rasterize
from difffae.head.shading import project


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
    assert weight[head.vertex_mask("scalp")].mean() > 0.9
    for part in ("lips", "eyes", "mouth", "shoulders"):
        assert weight[head.vertex_mask(part)].max() < 0.05, part
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
