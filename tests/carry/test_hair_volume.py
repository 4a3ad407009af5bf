"""Hair as a volume: where it may stand out, how far it reaches, how what is beside it moves."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from painted import SIZE
from people import person
from torch import Tensor

from difffae.carry.hair_volume import hair_offsets, hair_weight, head_outline, middle_of_skull, motion_around, outline_offsets
from difffae.common.pixels import erode, pixel_grid
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.rasterizer import rasterize
from difffae.head.shading import project
from difffae.source.regions import Layers


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


def covered(head: HeadModel, face: FaceAttributes, offsets: Tensor) -> Tensor:
    """(B,1,H,W): 1 where the head lies."""
    vertices = head(face.shape, face.expression, face.pose, offsets)
    return rasterize(project(vertices, face.camera), head.faces, SIZE, SIZE).mask[:, None].float()


def scaled(mask: Tensor, middle: Tensor, x: float, y: float) -> Tensor:
    """A mask with everything x and y times as far from a middle (2,)."""
    grid = (pixel_grid(SIZE, SIZE, mask) - middle) / torch.tensor([x, y]) + middle
    return (F.grid_sample(mask, grid[None], align_corners=False) > 0.5).float()


def bare(person_mask: Tensor, hair: Tensor | None = None) -> Layers:
    hair = torch.zeros_like(person_mask) if hair is None else hair
    return Layers(person_mask, person_mask, hair, hair)


def radii(mask: Tensor, middle: Tensor, degrees: range) -> Tensor:
    """How far a mask reaches from a middle (2,) in directions from up, clockwise, in pixels."""
    steps = torch.arange(0, 0.95, 1 / SIZE)
    found = []
    for degree in degrees:
        towards = torch.tensor([math.sin(math.radians(degree)), -math.cos(math.radians(degree))])
        grid = (middle + steps[:, None] * towards)[None, None]
        inside = F.grid_sample(mask, grid, mode="bilinear", align_corners=False)[0, 0, 0] > 0.5
        found.append(float(steps[inside].max()) * SIZE / 2)
    return torch.tensor(found)


def fitted(head: HeadModel, seed: int, x: float, y: float, **pose: float) -> tuple[FaceAttributes, Tensor, Tensor, Tensor, Tensor]:
    """A bald person in a picture whose matte is x and y times as large as the mesh: attributes,
    middle (2,), and masks before, after and as they should be.
    """
    face = person(head, seed, **pose)
    before = covered(head, face, torch.zeros(1, head.vertex_count, 3))
    points = project(head(face.shape, face.expression, face.pose), face.camera)[..., :2]
    middle = middle_of_skull(head, points)[0, 0]
    wanted = scaled(before, middle, x, y)
    offsets = outline_offsets(head, face, torch.zeros(1, head.vertex_count, 3), bare(wanted))
    return face, middle, before, covered(head, face, offsets), wanted


@pytest.mark.parametrize(("scale", "pose"), [(0.88, {}), (0.92, {"yaw": 25.0}), (1.08, {}), (1.08, {"pitch": -15.0, "roll": 12.0})])
def test_outline_meets_the_matte_both_ways(head: HeadModel, scale: float, pose: dict):
    _, middle, before, after, wanted = fitted(head, 1, scale, scale, **pose)
    around = range(-100, 101, 4)
    wrong, left = (radii(mask, middle, around) - radii(wanted, middle, around) for mask in (before, after))
    assert wrong.abs().mean() > 3
    assert left.abs().mean() < 0.8
    assert left.abs().quantile(0.85) < 1.5


def test_neck_gets_the_width_of_the_matte(head: HeadModel):
    for scale in (0.85, 1.08):
        face, _, before, after, wanted = fitted(head, 1, scale, 1.0)
        points = project(head(face.shape, face.expression, face.pose), face.camera)[0, :, :2]
        chin = round(float((points[head.vertex_mask("face"), 1].max() + 1) * SIZE / 2))
        rows = slice(chin + 2, chin + 10)
        ratio = after[..., rows, :].sum() / before[..., rows, :].sum()
        assert abs(float(ratio / (wanted[..., rows, :].sum() / before[..., rows, :].sum())) - 1) < 0.04


def test_outline_stays_where_the_picture_tells_nothing(head: HeadModel):
    face = person(head, 1)
    none = torch.zeros(1, head.vertex_count, 3)
    nobody = torch.zeros(1, 1, SIZE, SIZE)
    assert torch.equal(outline_offsets(head, face, none, bare(nobody)), none)
    # hair all around: where it ends is not where the head does
    everywhere = torch.ones(1, 1, SIZE, SIZE)
    assert torch.equal(outline_offsets(head, face, none, bare(everywhere, everywhere)), none)
    # eyes, lips and the face's middle never move
    wanted = scaled(covered(head, face, none), torch.zeros(2), 0.9, 0.9)
    offsets = outline_offsets(head, face, none, bare(wanted))[0]
    assert offsets.abs().max() > 1e-3
    assert torch.equal(offsets[head.vertex_mask("eyes", "lips", "mouth", "teeth")].abs().max(), torch.tensor(0.0))


def test_outlines_of_a_batch_are_fitted_one_by_one(head: HeadModel):
    faces = [person(head, seed) for seed in (1, 2)]
    none = torch.zeros(1, head.vertex_count, 3)
    mattes = [scaled(covered(head, face, none), torch.zeros(2), scale, scale) for face, scale in zip(faces, (0.9, 1.04), strict=True)]
    alone = torch.cat([outline_offsets(head, face, none, bare(matte)) for face, matte in zip(faces, mattes, strict=True)])
    together = outline_offsets(head, FaceAttributes.cat(faces), none.expand(2, -1, -1), bare(torch.cat(mattes)))
    assert torch.allclose(together, alone, atol=1e-5)
