"""DECA: networks, code, crops and cameras, whole renders against a slow reference, detail, conversion of its weights.

The real weights are licensed, so the networks have random ones of DECA's sizes.
"""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import slow_render as slow
import torch
import torch.nn.functional as F
from deca_parts import faces_of, randomize, unset
from flame_files import GOLDEN, Calls, write_layout

from difffae.common.errors import CheckpointError, ConfigError, HeadModelMismatchError
from difffae.convert.deca import convert as convert_deca
from difffae.convert.flame import convert as convert_flame
from difffae.convert.unpickle import read_pickle
from difffae.estimation.deca import Deca, DecaFit, Encoder, attributes_of
from difffae.estimation.deca_crop import IBUG_OF_MEDIAPIPE, camera_in_frame, crop, crop_matrix, square_of_box, square_of_points, to_picture
from difffae.head.attributes import FaceAttributes
from difffae.head.detail import DetailDecoder, DetailSurface, grid_triangles
from difffae.head.morphable import HeadModel
from difffae.head.rasterizer import rasterize
from difffae.head.render import render
from difffae.head.shading import project, vertex_normals


def golden(name: str) -> dict:
    if not (GOLDEN / name).is_file():
        pytest.skip("golden numbers are not here")
    return dict(np.load(GOLDEN / name))


def test_sizes_and_names_are_decas():
    with torch.device("meta"):
        network = Deca()
    counts = [sum(p.numel() for p in part.parameters()) for part in (network.coarse, network.detail, network.decoder)]
    assert counts == [25_848_108, 25_737_408, 1_773_345]
    names = set(network.coarse.state_dict())
    assert len(names) == 322
    assert {"encoder.layer3.5.bn3.running_var", "encoder.layer4.0.downsample.0.weight", "layers.0.bias", "layers.2.weight"} <= names
    blocks = sorted({int(name.split(".")[1]) for name in network.decoder.state_dict() if name.startswith("conv_blocks")})
    assert blocks == [0, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 21]


def test_encoder_is_resnet50_with_the_stride_in_the_middle_convolution():
    encoder = randomize(unset(lambda: Encoder(236)))
    w = encoder.state_dict()
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    def conv(x: torch.Tensor, name: str, norm: str, stride: int = 1) -> torch.Tensor:
        kernel = w[f"encoder.{name}.weight"]
        y = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        mean, var, gain, bias = (w[f"encoder.{norm}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias"))
        return (y - mean) / (var + 1e-5).sqrt() * gain + bias

    x = F.max_pool2d(conv(picture, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = conv(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = conv(y, f"{name}.conv2", f"{name}.bn2", stride).relu()
            y = conv(y, f"{name}.conv3", f"{name}.bn3")
            skip = conv(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if block == 0 else x
            x = (y + skip).relu()
    hidden = (x.mean((2, 3)) @ w["layers.0.weight"].T + w["layers.0.bias"]).relu()
    expected = hidden @ w["layers.2.weight"].T + w["layers.2.bias"]
    with torch.no_grad():
        assert torch.allclose(encoder(picture), expected, atol=1e-4 * float(expected.abs().max()))


def test_decoder_normalises_with_epsilon_of_four_fifths():
    decoder = randomize(unset(DetailDecoder), 2)
    w = decoder.state_dict()
    generator = torch.Generator().manual_seed(3)
    jaw, expression, code = (torch.randn(2, n, generator=generator) for n in (3, 50, 128))

    def norm(x: torch.Tensor, k: int, epsilon: float) -> torch.Tensor:
        mean, var, gain, bias = (w[f"conv_blocks.{k}.{f}"][:, None, None] for f in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean) / (var + epsilon).sqrt() * gain + bias

    x = (torch.cat([jaw, expression, code], 1) @ w["l1.0.weight"].T + w["l1.0.bias"]).view(2, 128, 8, 8)
    x = norm(x, 0, 1e-5)
    for k in (2, 6, 10, 14, 18):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = F.conv2d(x, w[f"conv_blocks.{k}.weight"], w[f"conv_blocks.{k}.bias"], padding=1)
        x = F.leaky_relu(norm(x, k + 1, 0.8), 0.2)
    x = F.conv2d(x, w["conv_blocks.21.weight"], w["conv_blocks.21.bias"], padding=1)
    with torch.no_grad():
        got = decoder(jaw, expression, code)
    assert got.shape == (2, 1, 256, 256)
    assert torch.allclose(got, x.tanh() * 0.01, atol=1e-7)
    assert 1e-4 < got.abs().max() <= 0.01


def test_the_236_numbers_are_in_decas_order():
    face = attributes_of(torch.arange(472.0).view(2, 236), "flame", torch.zeros(2, 128))
    assert face.shape[0].tolist() == list(range(100))
    assert face.albedo[0].tolist() == list(range(100, 150))
    assert face.expression[1].tolist() == list(range(386, 436))
    assert face.pose[0].tolist() == [[200, 201, 202], [0, 0, 0], [203, 204, 205], [0, 0, 0], [0, 0, 0]]
    assert face.camera[0].tolist() == [206, 207, 208]
    assert face.light[0, :2].tolist() == [[209, 210, 211], [212, 213, 214]]  # bands of RGB


# crops and cameras


def test_crop_matches_the_reference():
    g = golden("camera_crop.npz")
    points = torch.tensor(g["kpt"])[None]
    centre, side = square_of_points(points)
    assert np.abs(centre[0].numpy() - g["center_kpt68"]).max() < 1e-9
    assert side.item() == int(g["size_kpt68"] * 1.25)
    low, high = points.amin(1), points.amax(1)
    box_centre, box_side = square_of_box(torch.cat([low, high], 1))
    assert np.abs(box_centre[0].numpy() - g["center_bbox"]).max() < 1e-9
    assert box_side.item() == int(g["size_bbox"] * 1.25)
    matrix = crop_matrix(centre, side)
    assert np.abs(matrix[0].numpy() - g["tform"]).max() < 1e-4
    image = torch.tensor(g["image"]).permute(2, 0, 1)[None].float() / 255
    got = crop(image, matrix)
    assert np.abs(got[0].numpy() - g["crop"]).max() < 1e-4


def test_original_frame_matches_the_reference():
    g = golden("camera_crop.npz")
    height, width = g["orig_hw"].tolist()
    got = to_picture(torch.tensor(g["trans_verts"][:1]), torch.tensor(g["tform"])[None], height, width)
    assert np.abs(got.numpy() - g["trans_verts_orig"]).max() < 2e-6


@pytest.mark.parametrize("side", [256, 512])
def test_frame_camera_projects_where_the_crop_lies(side):
    torch.manual_seed(0)
    vertices, camera = torch.randn(3, 40, 3) * 0.1, torch.tensor([[9.0, 0.01, -0.02], [7.0, 0.0, 0.03], [10.0, -0.03, 0.0]])
    centre = torch.tensor([[120.3, 131.0], [100.0, 128.0], [140.0, 90.5]]) * side / 256
    matrix = crop_matrix(centre, torch.tensor([151.0, 200.0, 90.0]) * side / 256)
    want = to_picture(project(vertices, camera), matrix, side, side)
    got = project(vertices, camera_in_frame(camera, matrix, side))
    assert (got[..., :2] - want[..., :2]).abs().max() < 1e-5
    assert torch.equal(got[..., 2].argsort(1), want[..., 2].argsort(1))


def test_faces_without_size_are_refused():
    with pytest.raises(ConfigError, match="no size"):
        crop_matrix(*square_of_points(torch.full((1, 68, 2), 5.0)))
    with pytest.raises(ConfigError, match="no size"):
        crop_matrix(*square_of_points(torch.full((1, 68, 2), float("nan"))))


def test_mediapipe_points_stand_for_the_68():
    head = HeadModel.load()
    points = head.landmarks(head.template[None])[0, list(IBUG_OF_MEDIAPIPE)]
    x, y = points[:, 0], points[:, 1]
    assert len(set(IBUG_OF_MEDIAPIPE)) == 68
    assert (x[:17].diff() > 0).float().mean() > 0.8  # jaw line from image left to right
    assert x[:17].argmin() <= 1
    assert x[:17].argmax() >= 15
    assert y.argmin() in (7, 8, 9)  # the chin
    assert set(y.topk(10).indices.tolist()) == set(range(17, 27))  # the brows
    assert (x[17:27].diff() > 0).all()
    assert x[36] < x[39] < 0 < x[42] < x[45]
    assert y[27] > y[28] > y[29] > y[30]
    assert x[48] < x[31:36].min() < x[31:36].max() < x[54]
    assert y[51] > y[62] > y[66] > y[57]  # lips from above


# estimator


@pytest.mark.slow
def test_estimator_places_the_face_in_the_frame(deca, surface_head):
    fit = DecaFit(deca, surface_head)
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(2, 3, 128, 128, generator=generator)
    landmarks = torch.rand(2, 478, 3, generator=generator) * 40 + torch.tensor([30.0, 40.0, 0.0])
    face = fit(image, landmarks, torch.zeros(2, 52))
    matrix = crop_matrix(*square_of_points(landmarks[:, list(IBUG_OF_MEDIAPIPE), :2] - 0.5))
    crops = crop(image, matrix)
    code = deca.coarse(crops)
    assert torch.allclose(face.shape, code[:, :100], atol=1e-5)
    assert torch.allclose(face.detail, deca.detail(crops), atol=1e-5)
    vertices = surface_head(face.shape, face.expression, face.pose)
    in_crop = project(vertices, code[:, 206:209])
    assert torch.allclose(project(vertices, face.camera)[..., :2], to_picture(in_crop, matrix, 128, 128)[..., :2], atol=1e-4)
    # the render in the frame is the render of the crop, moved
    frame = render(surface_head, face, 128, fit.surface)
    moved = rasterize(to_picture(in_crop, matrix, 128, 128), surface_head.faces, 128, 128)
    assert (moved.mask == (frame.mask[:, 0] > 0)).float().mean() > 0.999
    assert 0.02 < frame.mask.mean() < 0.95
    with pytest.raises(ConfigError, match="square"):
        fit(image[..., :100], landmarks, torch.zeros(2, 52))


def test_estimator_refuses_a_head_that_is_not_flame(deca):
    with pytest.raises(HeadModelMismatchError, match="convert flame"):
        DecaFit(deca, HeadModel.load())


# whole renders


def agreement(ours: torch.Tensor, reference: np.ndarray) -> float:
    """Share of pixels whose three channels are within 2e-3; ours (3,H,W), reference (H,W,3)."""
    error = np.abs(ours.permute(1, 2, 0).numpy() - reference).max(-1)
    return float((error < 2e-3).mean())


def slow_picture(head: HeadModel, face: FaceAttributes, vertices: np.ndarray, texture: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """A texture (R,R,3) on one face by the plain rules: picture (size,size,3), face numbers, barycentrics."""
    faces, camera = head.faces.numpy(), face.camera[0].double().numpy()
    number, bary = slow.rasterize(slow.project(vertices, camera), faces, size, size)
    uv = slow.attributes(number, bary, head.uvs.double().numpy()[head.uv_faces.numpy()])
    picture = slow.sample(texture, uv) * (number >= 0)[..., None]
    return picture, number, bary


def convert_with_texture(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The FLAME-sized pickle with a UV layout seen from the front and a smooth texture: its mean and basis at 256, RGB."""
    raw = read_pickle(GOLDEN / "flame_like.pkl")
    points, faces = raw["v_template"], raw["f"].astype(int)
    uvs = 0.5 + (points[:, :2] - points[:, :2].mean(0)) * 2.4
    write_layout(folder / "head_template.obj", uvs, faces, faces)
    rows, columns = np.mgrid[:512, :512] / 512
    mean = 0.5 + 0.3 * np.stack([np.sin(20 * rows), np.cos(25 * columns), np.sin(15 * (rows + columns))], -1)
    basis = 0.1 * np.sin(30 * rows[..., None, None] * (1 + np.arange(3)[:, None]) + np.arange(2) + 9 * columns[..., None, None])
    np.savez(folder / "FLAME_albedo_from_BFM.npz", MU=mean.reshape(1, -1), PC=basis.reshape(-1, 2))
    inputs = [GOLDEN / "flame_like.pkl", folder / "head_template.obj", folder / "FLAME_albedo_from_BFM.npz"]
    convert_flame(inputs, folder / "flame.safetensors", albedo_count=2)
    return mean[::2, ::2, ::-1], basis[::2, ::2, ::-1]


@pytest.mark.slow
def test_whole_render_of_a_flame_sized_head(tmp_path):
    g = golden("flame.npz")
    mean, basis = convert_with_texture(tmp_path)
    head = HeadModel.load(tmp_path / "flame.safetensors")
    for code in (2,):
        pose = torch.zeros(1, 5, 3)
        pose[0, 0], pose[0, 2] = torch.tensor(g["pose"][code, :3]), torch.tensor(g["pose"][code, 3:])
        face = faces_of(head, seed=code, scale=7.5)
        shape, expression = torch.tensor(g["shape"][code])[None], torch.tensor(g["exp"][code])[None]
        face = FaceAttributes(head.name, shape, face.albedo, pose, face.camera, expression, face.light)
        vertices = g["vertices"][code].astype(np.float64)
        texture = mean + basis @ face.albedo[0].double().numpy()
        albedo, number, bary = slow_picture(head, face, vertices, texture, 224)
        normals = slow.attributes(number, bary, slow.vertex_normals(vertices, head.faces.numpy())[head.faces.numpy()])
        reference = albedo * slow.shade(normals, face.light[0].double().numpy())
        ours = render(head, face, 224).image[0]
        assert (number >= 0).mean() > 0.2
        assert reference.std() > 0.1
        assert agreement(ours, reference) >= 0.995


def test_detail_render_matches_the_slow_reference(deca, surface_head):
    head, size = surface_head, 224
    surface = DetailSurface(head, deca.decoder)
    face = faces_of(head, seed=5)
    with torch.no_grad():
        ours = render(head, face, size, surface)
        plain = render(head, face, size)
        displacement = deca.decoder(face.pose[:, 2], face.expression, face.detail)[0, 0].double().numpy()
    vertices = head(face.shape, face.expression, face.pose)[0].double().numpy()
    faces, mask = head.faces.numpy(), head.uv_detail_mask.double().numpy()[..., None]
    uv = head.uvs.double().numpy()
    layout = np.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1], np.ones(len(uv))], -1)
    number, bary = slow.rasterize(layout, head.uv_faces.numpy(), 256, 256)
    normals = slow.vertex_normals(vertices, faces)
    points, coarse = slow.attributes(number, bary, vertices[faces]), slow.attributes(number, bary, normals[faces])
    moved = points + (displacement[..., None] * mask + head.fixed_displacement.double().numpy()[..., None]) * coarse
    triangles = []
    for x in range(2, 253):
        for y in range(5, 250):
            a = y * 256 + x
            triangles += [[a, a + 256, a + 1], [a + 1, a + 256, a + 257]]
    fine = slow.vertex_normals(moved.reshape(-1, 3), np.array(triangles)).reshape(256, 256, 3)
    detailed = fine * mask + coarse * (1 - mask)
    albedo = head.albedo(face.albedo)[0].permute(1, 2, 0).double().numpy()
    texture = albedo * slow.shade(detailed, face.light[0].double().numpy())
    reference, *_ = slow_picture(head, face, vertices, texture, size)
    assert agreement(ours.image[0], reference) >= 0.995
    seen, *_ = slow_picture(head, face, vertices, detailed, size)
    assert agreement(ours.normals[0], seen) >= 0.995
    # wrinkles are there, and they are not the coarse render
    assert (ours.image - plain.image).abs().mean() > 1e-3
    assert (ours.normals[0, 2] > 0).float().sum() > 0.9 * ours.mask.sum()  # they point outwards


def test_detail_follows_light_and_expression_and_keeps_the_silhouette(deca, surface_head):
    surface = DetailSurface(surface_head, deca.decoder)
    face = faces_of(surface_head, seed=6)
    other = FaceAttributes(face.head, face.shape, face.albedo, face.pose, face.camera, face.expression, face.light * 0.5, face.detail)
    with torch.no_grad():
        one, two = render(surface_head, face, 96, surface), render(surface_head, other, 96, surface)
        assert torch.allclose(one.image * 0.5, two.image, atol=1e-5)
        assert torch.equal(one.mask, render(surface_head, face, 96).mask)
        maps = [surface(face, *self_and_normals(surface_head, f)) for f in (face, other)]
    assert torch.equal(maps[0].displacement, maps[1].displacement)
    with pytest.raises(ConfigError, match="no detail code"):
        surface(attributes_of(torch.zeros(1, 236), "flame"), *self_and_normals(surface_head, face))


def self_and_normals(head: HeadModel, face: FaceAttributes) -> tuple[torch.Tensor, torch.Tensor]:
    vertices = head(face.shape, face.expression, face.pose)
    return vertices, vertex_normals(vertices, head.faces)


def test_a_head_without_uv_maps_has_no_detail_surface(deca):
    with pytest.raises(ConfigError, match="uv_face_eye_mask"):
        DetailSurface(HeadModel.load(), deca.decoder)


def test_grid_triangles_are_wound_outwards():
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    plane = torch.stack([columns, -rows, torch.zeros(12, 12)], -1).view(1, -1, 3)  # u to the right, v up, seen from the front
    triangles = grid_triangles(12, 2, 5)
    assert len(triangles) == 2 * (12 - 5) * (12 - 11)
    used = triangles.unique()
    assert (vertex_normals(plane, triangles)[0, used, 2] == 1).all()


# conversion


def stored(**change) -> dict:
    """A file's content with one constant per tensor, which torch.save writes as one number each."""
    with torch.device("meta"):
        network = Deca()
    count = iter(range(1, 10_000))
    parts = {
        theirs: {name: torch.tensor(next(count)).to(value.dtype).expand(value.shape) for name, value in part.state_dict().items()}
        for theirs, part in (("E_flame", network.coarse), ("E_detail", network.detail), ("D_detail", network.decoder))
    }
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    return parts | {"opt": optimizer, "global_step": 5, "batch_size": 8} | change


@pytest.mark.slow
def test_conversion_keeps_every_tensor_and_drops_the_optimizer(tmp_path):
    content = stored()
    torch.save(content, tmp_path / "deca_model.tar")
    convert_deca([tmp_path / "deca_model.tar"], tmp_path / "deca.safetensors")
    network = Deca.load(tmp_path / "deca.safetensors")
    for theirs, part in (("E_flame", network.coarse), ("E_detail", network.detail), ("D_detail", network.decoder)):
        state = part.state_dict()
        assert state.keys() == content[theirs].keys()
        assert all(torch.equal(state[name], value) for name, value in content[theirs].items())
    from safetensors import safe_open

    with safe_open(str(tmp_path / "deca.safetensors"), framework="pt") as handle:
        assert "do not redistribute" in handle.metadata()["license"]
        assert not any("opt" in name for name in handle.keys())  # noqa: SIM118


def without(part: str, name: str) -> dict:
    content = stored()
    content[part].pop(name)
    return content


def reshaped(part: str, name: str) -> dict:
    content = stored()
    content[part][name] = torch.zeros(3, 3)
    return content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: [1], "lacks E_flame"),
        (lambda: {k: v for k, v in stored().items() if k != "E_detail"}, "lacks E_flame, E_detail"),
        (lambda: without("E_flame", "layers.2.bias"), r"E_flame: lacks 'layers.2.bias'"),
        (lambda: reshaped("D_detail", "l1.0.weight"), r"D_detail: 'l1.0.weight' is \(3, 3\)"),
        (lambda: stored(E_flame=stored()["E_flame"] | {"fc.weight": torch.zeros(2)}), "unknown 'fc.weight'"),
        (lambda: stored(E_detail=stored()["E_detail"] | {"layers.2.bias": torch.full((128,), torch.nan)}), "not finite"),
        (lambda: stored(extra=Calls(os.system, "true")), r"(posix|nt)\.system"),
    ],
)
def test_other_files_are_refused(tmp_path, make, match):
    torch.save(make(), tmp_path / "deca_model.tar")
    with pytest.raises(CheckpointError, match=match):
        convert_deca([tmp_path / "deca_model.tar"], tmp_path / "deca.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["deca_model.tar"]


def test_truncated_weights_are_refused(tmp_path):
    torch.save(stored(), tmp_path / "whole.tar")
    data = (tmp_path / "whole.tar").read_bytes()
    for share in (0.0, 0.3, 0.9):
        (tmp_path / "deca_model.tar").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(CheckpointError, match=r"deca_model\.tar: not a complete"):
            convert_deca([tmp_path / "deca_model.tar"], tmp_path / "deca.safetensors")
    assert not (tmp_path / "deca.safetensors").exists()


# pytorch3d


def documented_pytorch3d(calls: list) -> types.ModuleType:
    """rasterize_meshes by its documentation: x left, y up, -1..1 over the shorter side, faces counted through the batch."""

    class Meshes:
        def __init__(self, verts: torch.Tensor, faces: torch.Tensor) -> None:
            self.verts, self.faces = verts, faces

    def rasterize_meshes(meshes: Meshes, image_size, blur_radius, faces_per_pixel, **options):
        calls.append(options)
        assert (blur_radius, faces_per_pixel) == (0.0, 1)
        height, width = image_size
        assert (meshes.verts[..., 2] > 0).all()  # it draws nothing behind the camera
        numbers, depths, weights = [], [], []
        for k, (verts, faces) in enumerate(zip(meshes.verts.double().numpy(), meshes.faces.numpy(), strict=True)):
            shorter = min(height, width)
            seen = verts * [-shorter / width, -shorter / height, 1]
            number, bary = slow.rasterize(seen, faces, height, width)
            depth = (bary * verts[faces[number.clip(0)], 2]).sum(-1)
            hit = number >= 0
            numbers.append(np.where(hit, number + k * len(faces), -1))
            depths.append(np.where(hit, depth, -1))
            weights.append(np.where(hit[..., None], bary, -1))
        made = [torch.tensor(np.stack(x))[:, :, :, None] for x in (numbers, depths, weights)]
        return made[0], made[1].float(), made[2].float(), torch.zeros_like(made[1])

    module = types.ModuleType("rasterize_meshes")
    module.rasterize_meshes, module.Meshes = rasterize_meshes, Meshes
    return module


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40), (40, 24)])
def test_pytorch3d_backend_by_the_documented_interface(monkeypatch, surface_head, height, width):
    calls: list = []
    fake = documented_pytorch3d(calls)
    for name in (
        "pytorch3d",
        "pytorch3d.renderer",
        "pytorch3d.renderer.mesh",
        "pytorch3d.renderer.mesh.rasterize_meshes",
        "pytorch3d.structures",
    ):
        monkeypatch.setitem(sys.modules, name, fake)
    face = faces_of(surface_head, batch=2, scale=6.0)
    points = project(surface_head(face.shape, face.expression, face.pose), face.camera)
    ours = rasterize(points, surface_head.faces, height, width)
    theirs = rasterize(points, surface_head.faces, height, width, backend="pytorch3d")
    assert 0.1 < ours.mask.float().mean() < 0.95
    same = ours.face == theirs.face
    assert same.float().mean() > 0.998
    assert (ours.bary - theirs.bary)[same].abs().max() < 1e-3
    assert (ours.depth - theirs.depth)[same].abs().max() < 1e-4
    assert calls[0]["perspective_correct"] is False
    assert calls[0]["cull_backfaces"] is False


def test_backends_that_cannot_be_used_say_so(monkeypatch, surface_head):
    points = torch.zeros(1, 676, 3)
    with pytest.raises(ConfigError, match="choose from"):
        rasterize(points, surface_head.faces, 8, 8, backend="opengl")
    monkeypatch.setitem(sys.modules, "pytorch3d", None)
    with pytest.raises(ConfigError, match="install pytorch3d"):
        rasterize(points, surface_head.faces, 8, 8, backend="pytorch3d")


def test_parity_and_speed_beside_pytorch3d(surface_head):
    pytest.importorskip("pytorch3d", reason="pytorch3d is not installed; it has no wheel on PyPI for current versions of torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    head = HeadModel.load().to(device)
    shape, expression, pose = (torch.zeros(4, *n, device=device) for n in ((head.shape_count,), (head.expression_count,), (5, 3)))
    points = project(head(shape, expression, pose), torch.tensor([[6.0, 0, 0.02]], device=device).repeat(4, 1))
    rasters, times = {}, {}
    for backend in ("torch", "pytorch3d"):
        for _ in range(3):
            start = time.perf_counter()
            rasters[backend] = rasterize(points, head.faces, 256, 256, backend=backend)
            rasters[backend].face.sum().item()
            times[backend] = time.perf_counter() - start
    a, b = rasters["torch"], rasters["pytorch3d"]
    same = a.face == b.face
    assert same.float().mean() > 0.999
    assert (a.bary - b.bary)[same].abs().max() < 1e-3
    assert (a.depth - b.depth)[same].abs().max() < 1e-4
    assert times["torch"] < 5 * times["pytorch3d"]
