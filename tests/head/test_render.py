"""Rasterizer, camera, normals and light against brute force and golden numbers."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from people import person
from places import SHARED

from difffae.common.errors import HeadModelMismatchError
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.rasterizer import interpolate, rasterize, silhouette
from difffae.head.render import render
from difffae.head.shading import SH_CONSTANTS, project, sh_shading, vertex_normals

GOLDEN = SHARED / "golden"


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


def neutral(head: HeadModel, batch: int = 1) -> FaceAttributes:
    light = torch.zeros(batch, 9, 3)
    light[:, 0] = 1 / SH_CONSTANTS[0]
    return FaceAttributes(
        head.name,
        torch.zeros(batch, head.shape_count),
        torch.zeros(batch, head.albedo_count),
        torch.zeros(batch, 5, 3),
        torch.tensor([[6.0, 0.0, 0.02]]).repeat(batch, 1),
        torch.zeros(batch, head.expression_count),
        light,
    )


def golden(name: str) -> dict:
    if not (GOLDEN / name).is_file():
        pytest.skip("golden numbers are not here")
    return dict(np.load(GOLDEN / name))


def brute_force(points: np.ndarray, faces: np.ndarray, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """The plain rule, in float64: nearest strictly covering triangle of each pixel centre."""
    face, depth = np.full((h, w), -1), np.full((h, w), np.inf)
    xs, ys = -1 + (2 * np.arange(w) + 1) / w, -1 + (2 * np.arange(h) + 1) / h
    for r in range(h):
        for c in range(w):
            for k, (i, j, m) in enumerate(faces):
                (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = points[i], points[j], points[m]
                area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
                if area == 0:
                    continue
                w0 = ((x1 - xs[c]) * (y2 - ys[r]) - (y1 - ys[r]) * (x2 - xs[c])) / area
                w1 = ((x2 - xs[c]) * (y0 - ys[r]) - (y2 - ys[r]) * (x0 - xs[c])) / area
                w2 = 1 - w0 - w1
                if min(w0, w1, w2) > 0 and w0 * z0 + w1 * z1 + w2 * z2 < depth[r, c]:
                    face[r, c], depth[r, c] = k, w0 * z0 + w1 * z1 + w2 * z2
    return face, np.where(face >= 0, depth, 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rasterizer_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1.4, 1.4, (2, 24, 3))
    faces = rng.integers(0, 24, (30, 3))  # some degenerate, some outside, both windings
    raster = rasterize(torch.tensor(points, dtype=torch.float32), torch.tensor(faces), 17, 23)
    for b in range(2):
        face, depth = brute_force(points[b].astype(np.float32).astype(np.float64), faces, 17, 23)
        assert (raster.face[b].numpy() == face).all()
        assert np.abs(raster.depth[b].numpy() - depth).max() < 1e-4
    assert (raster.face >= 0).any()
    inside = raster.mask
    assert torch.allclose(raster.bary.sum(-1)[inside], torch.ones(int(inside.sum())), atol=1e-5)
    assert (raster.bary[~inside] == 0).all()


def test_pixel_centres_and_orientation():
    # a triangle around the centre of the pixel in row 0 (top), column 3 (right) of a 4x4 picture
    points = torch.tensor([[[0.7, -0.8, 0.0], [0.8, -0.8, 0.0], [0.75, -0.7, 0.0]]])
    raster = rasterize(points, torch.tensor([[0, 1, 2]]), 4, 4)
    assert raster.face[0].nonzero().numel() == 32 - 2  # all but one pixel are -1
    assert raster.face[0, 0, 3] == 0


def test_nothing_to_draw():
    for points in (torch.full((1, 3, 3), 5.0), torch.full((1, 3, 3), float("nan")), torch.zeros(1, 3, 3)):
        raster = rasterize(points, torch.tensor([[0, 1, 2]]), 8, 8)
        assert (raster.face == -1).all()
        assert interpolate(raster, torch.tensor([[0, 1, 2]]), torch.ones(1, 3, 2)).abs().max() == 0


def test_negative_depth_is_nearer_and_both_windings_show():
    square = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]])
    points = torch.stack([torch.cat([square + torch.tensor([0, 0, z]) for z in (0.5, -0.25, 0.1)])])
    raster = rasterize(points, torch.tensor([[0, 1, 2], [3, 5, 4], [6, 7, 8]]), 6, 6)
    assert (raster.face[raster.mask] == 1).all()
    assert torch.allclose(raster.depth[raster.mask], torch.tensor(-0.25))


def test_interpolation_is_exact_for_linear_fields_and_differentiable(head):
    a = neutral(head)
    points = project(head.template[None], a.camera)
    raster = rasterize(points, head.faces, 256, 256)
    field = points.clone().requires_grad_()
    image = interpolate(raster, head.faces, field)
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    inside = raster.mask[0]
    # the x, y of the surface at a pixel is the pixel's own centre
    assert (image[0, 0] - (columns * 2 + 1) / 256 + 1)[inside].abs().max() < 2e-5
    assert (image[0, 1] - (rows * 2 + 1) / 256 + 1)[inside].abs().max() < 2e-5
    image.sum().backward()
    assert abs(field.grad.sum().item() - 3 * inside.sum().item()) < 1


def test_bary_gradient_follows_the_points():
    points = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [0, 1, 1]]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2]])

    def depth(p: torch.Tensor) -> torch.Tensor:
        return rasterize(p, faces, 5, 5).depth

    assert torch.autograd.gradcheck(depth, points.requires_grad_(), eps=1e-6, atol=1e-4)


def test_large_pictures_are_drawn_in_parts(monkeypatch, head):
    from difffae.head import rasterizer

    points = project(head.template[None], neutral(head).camera)
    whole = rasterize(points, head.faces, 128, 128)
    monkeypatch.setattr(rasterizer, "CHUNK", 5000)
    assert torch.equal(rasterize(points, head.faces, 128, 128).face, whole.face)


def test_very_large_pictures_are_exact():
    points = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [-1, 1, 1], [1, 1, 1]]])
    raster = rasterize(points, torch.tensor([[0, 1, 2], [3, 2, 1]]), 900, 1500)
    rows, columns = torch.meshgrid(torch.arange(900), torch.arange(1500), indexing="ij")
    below = (columns * 2 + 1) / 1500 + (rows * 2 + 1) / 900 > 2
    on_edge = ((columns * 2 + 1) / 1500 + (rows * 2 + 1) / 900 - 2).abs() < 1e-5
    assert torch.equal(raster.face[0][~on_edge], below.long()[~on_edge])
    assert torch.allclose(raster.depth[0][~on_edge], ((rows * 2 + 1) / 1800)[~on_edge], atol=1e-5)


def test_projection_matches_the_reference():
    g = golden("camera_crop.npz")
    got = project(torch.tensor(g["X"]), torch.tensor(g["cam"]))
    assert torch.allclose(got, torch.tensor(g["trans_verts"]), atol=1e-6)
    assert torch.allclose(got * torch.tensor([1.0, -1, -1]), torch.tensor(g["orth_raw"]), atol=1e-6)


def test_shading_matches_the_reference():
    g = golden("sh_shading.npz")
    assert np.allclose(np.array(SH_CONSTANTS), g["constant_factor"], atol=1e-6)
    normals = torch.tensor(g["normals"]).permute(0, 2, 3, 1)
    got = sh_shading(normals, torch.tensor(g["sh_coeff"])).permute(0, 3, 1, 2)
    assert torch.allclose(got, torch.tensor(g["shading"]), atol=1e-5)


def test_vertex_normals_of_a_plane_and_a_sphere(head):
    plane = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]])
    normals = vertex_normals(plane, torch.tensor([[0, 1, 2], [2, 1, 3]]))
    assert torch.allclose(normals, torch.tensor([0.0, 0, 1]).expand(1, 4, 3))
    eyes = head.vertex_mask("eyes") & (head.template[:, 0] > 0)
    centre = head.joints(torch.zeros(1, head.shape_count))[0, 3]
    direction = torch.nn.functional.normalize((head.template - centre)[eyes], dim=-1)
    front = direction[:, 2] > 0.3
    agree = (vertex_normals(head.template[None], head.faces)[0, eyes] * direction).sum(-1)
    assert agree[front].min() > 0.97


def test_render_has_zero_background_and_matches_its_parts(head):
    picture = render(head, neutral(head), 256)
    assert picture.image.shape == (1, 3, 256, 256)
    assert (picture.image * (1 - picture.mask)).abs().max() == 0
    assert 0.25 < picture.mask.mean() < 0.8
    unlit = picture.image[0, :, head.skin_mask(picture.raster)[0]]
    mean, _ = head.albedo_samples(picture.raster)
    assert torch.allclose(unlit, mean[0, :, head.skin_mask(picture.raster)[0]], atol=1e-5)
    assert (picture.normals.norm(dim=1)[picture.mask[:, 0] > 0] <= 1 + 1e-5).all()
    for name in ("face", "scalp", "neck", "shoulders", "ears", "lips", "eyes"):
        assert head.part_mask(picture.raster, name).sum() > 20, name
    assert head.part_mask(picture.raster, "teeth", "tongue", "mouth").sum() < 8


def test_open_jaw_shows_teeth_and_mouth(head):
    a = neutral(head)
    a.expression[0, head.expression_names.index("jawOpen")] = 0.8
    picture = render(head, a, 256)
    assert head.part_mask(picture.raster, "teeth").sum() > 20
    assert head.part_mask(picture.raster, "mouth", "tongue").sum() > 100


def test_blink_hides_the_eyeball(head):
    a = neutral(head)
    seen = head.part_mask(render(head, a, 256).raster, "eyes").sum()
    a.expression[0, [head.expression_names.index(f"eyeBlink{s}") for s in ("Left", "Right")]] = 1.0
    assert head.part_mask(render(head, a, 256).raster, "eyes").sum() < 0.1 * seen


def test_mirrored_attributes_give_the_mirrored_picture(head):
    torch.manual_seed(0)
    a = neutral(head)
    a.shape.normal_(0, 0.7)
    a.expression.uniform_(0, 0.3)
    a.pose[0, 1] = torch.tensor([0.1, 0.4, -0.1])
    flip = torch.tensor([1.0, -1.0, -1.0])
    b = FaceAttributes(
        a.head, a.shape * head.shape_parity, a.albedo, a.pose * flip, a.camera, a.expression[:, head.expression_mirror], a.light
    )
    one, two = render(head, a, 128), render(head, b, 128)
    assert (one.mask - two.mask.flip(3)).abs().mean() < 2e-3
    assert (one.image - two.image.flip(3)).abs().mean() < 6e-3


def test_batch_equals_single_pictures(head):
    torch.manual_seed(1)
    a = neutral(head, 3)
    a.shape.normal_()
    a.albedo.normal_(0, 0.5)
    together = render(head, a, (96, 128))
    for i in range(3):
        alone = render(head, a[i], (96, 128))
        assert torch.allclose(together.image[i], alone.image[0], atol=1e-4)
    assert together.image.shape == (3, 3, 96, 128)


def test_another_heads_attributes_are_refused(head):
    a = neutral(head)
    with pytest.raises(HeadModelMismatchError, match="flame"):
        render(head, FaceAttributes("flame", *list(a.tensors().values())), 64)


def test_gradients_reach_albedo_light_and_shape(head):
    a = neutral(head).map(lambda t: t.clone().requires_grad_())
    render(head, a, 64).image.square().sum().backward()
    for name in ("albedo", "light", "shape", "camera"):
        assert getattr(a, name).grad.isfinite().all()
        assert getattr(a, name).grad.abs().max() > 0, name


def test_agrees_with_pytorch3d(head):
    pytorch3d = pytest.importorskip("pytorch3d")
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    assert pytorch3d
    points = project(head.template[None], neutral(head).camera)
    ours = rasterize(points, head.faces, 128, 128)
    flipped = points * torch.tensor([-1.0, -1.0, 1.0]) + torch.tensor([0.0, 0.0, 10.0])
    theirs = rasterize_meshes(Meshes(flipped, head.faces[None]), image_size=128, blur_radius=0.0, faces_per_pixel=1)[0][0, :, :, 0]
    assert (ours.face[0] == theirs).float().mean() > 0.999


@pytest.mark.slow
def test_render_takes_at_most_60_ms(head):
    a = neutral(head)
    with torch.no_grad():
        render(head, a, 256)
        times = []
        for _ in range(15):
            start = time.process_time()
            render(head, a, 256)
            times.append(time.process_time() - start)
    # processor time of all threads: on two idle cores the wall time is at most that
    assert sorted(times)[len(times) // 2] < 0.06 * max(1, min(2, torch.get_num_threads()))


def test_silhouette_is_the_mask_of_the_raster(head: HeadModel) -> None:
    face = person(head, 2, yaw=20)
    points = project(head(face.shape, face.expression, face.pose), face.camera)
    assert torch.equal(silhouette(points, head.faces, 80, 96), rasterize(points, head.faces, 80, 96).mask)
