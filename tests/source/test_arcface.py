"""ArcFace: sizes, alignment, tokens, ONNX files, and the choice of a network by name or file."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from places import TESTS
from torch import Tensor

from difffae.common.checkpoint import save_checkpoint
from difffae.common.errors import CheckpointError, ConfigError
from difffae.source.arcface import CHIP, FIVE, TEMPLATE, AlignedIdentity, ArcFace
from difffae.source.identity import IdentityNetwork
from difffae.source.identity_networks import load_identity

GOLDEN = TESTS / "golden"


@pytest.mark.parametrize(("depth", "expected"), [("r18", 24_025_600), ("r50", 43_590_848), ("r100", 65_156_160)])
def test_sizes_of_arcface_torch(depth: str, expected: int) -> None:
    with torch.device("meta"):
        network = ArcFace(depth)
    assert sum(p.numel() for p in network.parameters()) == expected


def face(turn: float = 0.0, scale: float = 2.0, shift: tuple[float, float] = (40.0, 30.0)) -> tuple[Tensor, Tensor]:
    """A picture with a dot at each point of the template, turned and scaled, and its 478 landmarks, of which only the five are set."""
    angle = torch.tensor(turn).deg2rad()
    matrix = scale * torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    points = (torch.tensor(TEMPLATE) + 0.5 - 56) @ matrix.T + 112 + torch.tensor(shift)
    landmarks = torch.zeros(1, 478, 3)
    for (first, second), point in zip(FIVE, points, strict=True):
        apart = torch.tensor([3.0, 1.0]) if first != second else torch.zeros(2)
        landmarks[0, first, :2], landmarks[0, second, :2] = point - apart, point + apart
    axis = torch.arange(320) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    distance = (x[None] - points[:, 0, None, None]).square() + (y[None] - points[:, 1, None, None]).square()
    dots = torch.exp(-distance / (2 * (2.0 * scale) ** 2))
    picture = torch.stack([dots[0] + dots[1], dots[2], dots[3] + dots[4]])[None]
    return picture, landmarks


@pytest.mark.parametrize("turn", [0.0, 25.0, -40.0])
def test_alignment_puts_the_five_points_on_the_template(turn: float) -> None:
    """insightface's template counts pixel centres from 0: the brightest pixel of a dot has the template's number, to half a pixel."""
    picture, landmarks = face(turn)
    chip = AlignedIdentity("test").align(picture, landmarks)
    assert chip.shape == (1, 3, CHIP, CHIP)
    halves = torch.zeros(2, CHIP)
    halves[0, : CHIP // 2], halves[1, CHIP // 2 :] = 1, 1
    regions = [chip[0, 0] * halves[0], chip[0, 0] * halves[1], chip[0, 1], chip[0, 2] * halves[0], chip[0, 2] * halves[1]]
    axis = torch.arange(float(CHIP))
    for region, (x, y) in zip(regions, TEMPLATE, strict=True):
        mass = region / region.sum()
        assert abs(float((mass.sum(dim=0) * axis).sum()) - x) < 0.05
        assert abs(float((mass.sum(dim=1) * axis).sum()) - y) < 0.05


def test_alignment_is_umeyamas_from_the_face_to_the_template() -> None:
    """A face that the template does not fit, a smile: with the fit the other way round the chip would show it smaller. The expected
    matrix is Umeyama's by the SVD, as scikit-image and insightface compute it."""
    picture, landmarks = face(20.0)
    landmarks[0, 61, :2] += torch.tensor([-22.0, -9.0])
    landmarks[0, 291, :2] += torch.tensor([20.0, -5.0])
    source = landmarks[0, FIVE, :2].mean(dim=1).double()
    target = torch.tensor(TEMPLATE).double() + 0.5
    s, t = source - source.mean(0), target - target.mean(0)
    u, singular, vh = torch.linalg.svd(t.T @ s / 5)
    matrix = (u @ vh) * (singular.sum() / s.square().sum(1).mean())
    nose = matrix @ s[2] + target.mean(0) - 0.5
    chip = AlignedIdentity("test").align(picture, landmarks)[0, 1]
    axis, mass = torch.arange(float(CHIP)), chip / chip.sum()
    assert abs(float((mass.sum(dim=0) * axis).sum()) - float(nose[0])) < 0.05
    assert abs(float((mass.sum(dim=1) * axis).sum()) - float(nose[1])) < 0.05
    residual = (s @ matrix.T - t).square().sum() / t.square().sum()
    assert residual > 0.03  # the share by which the other fit's scale would differ
    width = ((axis[None] - nose[0]).square() * mass).sum().sqrt()  # of the dot: 4 pixels of the picture, scaled
    assert abs(float(width) / (4 * float(torch.linalg.det(matrix).sqrt())) - 1) < 0.02


@pytest.mark.parametrize("name", ["large", "small"])
def test_chips_are_insightfaces_pixel_by_pixel(name: str) -> None:
    """Chips of norm_crop (scikit-image 0.26's SimilarityTransform, OpenCV 5.0's warpAffine) of a picture that is noise: every 11th pixel.
    The large face is three times the chip's size, where samples that are averaged would be up to a hundred levels off; the small one is
    enlarged, and lies beyond the picture's corner."""
    golden = json.loads((GOLDEN / "insightface_chip.json").read_text())[name]
    y, x, c = torch.meshgrid(torch.arange(320), torch.arange(300), torch.arange(3), indexing="ij")
    picture = ((y * y * 7 + x * x * 13 + y * x * 5 + c * 91) % 256).float().permute(2, 0, 1)[None] / 255
    landmarks = torch.zeros(1, 478, 3)
    for (first, second), point in zip(FIVE, golden["points"], strict=True):
        landmarks[0, first, :2] = landmarks[0, second, :2] = torch.tensor(point) + 0.5  # insightface counts pixel centres from 0
    chip = AlignedIdentity("test").align(picture, landmarks)[0].permute(1, 2, 0) * 255
    pixels = torch.tensor(golden["pixels"]).float()
    assert (pixels == 0).all(dim=-1).any()  # some lie beyond the picture
    assert (chip[3::11, 3::11] - pixels).abs().max() < 0.52  # theirs are rounded to whole levels


@pytest.fixture(scope="module")
def network() -> ArcFace:
    torch.manual_seed(0)
    return ArcFace("r18").eval()


def test_tokens_have_length_one_and_carry_gradients(network: ArcFace) -> None:
    picture, landmarks = face(10.0)
    picture.requires_grad_(True)
    token = network.embed(picture, landmarks)
    assert token.shape == (1, 512)
    assert torch.allclose(token.norm(dim=1), torch.ones(1), atol=1e-5)
    token[0, 0].backward()
    assert picture.grad.abs().max() > 0
    chip = network.align(picture, landmarks)
    assert torch.allclose(token, F.normalize(network(chip), dim=1), atol=1e-5)


def test_distance_is_the_cosine(network: ArcFace) -> None:
    a = torch.tensor([[3.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    b = torch.tensor([[5.0, 0.0], [0.0, 2.0], [-4.0, 0.0]])
    assert torch.allclose(network.distance(a, b), torch.tensor([0.0, 1.0, 2.0]))


def test_a_file_says_which_network_it_holds(network: ArcFace, tmp_path: Path) -> None:
    path = tmp_path / "id.safetensors"
    save_checkpoint(path, network.state_dict(), kind="identity", config={"network": network.name}, license="test", source="test")
    again = load_identity(path, "arcface-r18")
    assert not any(p.requires_grad for p in again.parameters())
    chip = torch.rand(1, 3, CHIP, CHIP)
    with torch.no_grad():
        assert torch.equal(again(chip), network(chip))
    assert isinstance(load_identity(), IdentityNetwork)
    with pytest.raises(CheckpointError, match=r"id\.safetensors: is 'arcface-r18', but this model was trained with 'arcface-r50'"):
        load_identity(path, "arcface-r50")
    save_checkpoint(path, network.state_dict(), kind="identity", config={"network": "arcface-r7"}, license="test", source="test")
    with pytest.raises(CheckpointError, match="identity network 'arcface-r7' is unknown; choose from dlib-resnet-v1, arcface-r18"):
        load_identity(path)


def write_onnx(path: Path, scales_itself: bool = False, batch: str | int = "batch", size: int = CHIP) -> Tensor:
    """A network that answers a random linear function of the picture, 512 numbers; returns its matrix (512, 3 size size).

    With scales_itself it first takes 0..255 to -1..1, as graphs from mxnet do."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    matrix = torch.randn(512, 3 * size * size, generator=torch.Generator().manual_seed(0)) / 100
    nodes, value = [], "data"
    constants = {"matrix": matrix.T, "half": torch.tensor(127.5), "scale": torch.tensor(1 / 127.5)}
    if scales_itself:
        nodes = [helper.make_node("Sub", ["data", "half"], ["a"]), helper.make_node("Mul", ["a", "scale"], ["b"])]
        value = "b"
    nodes += [helper.make_node("Flatten", [value], ["flat"]), helper.make_node("MatMul", ["flat", "matrix"], ["out"])]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [batch, 512])],
        [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return matrix


@pytest.mark.parametrize(("scales_itself", "batch"), [(False, "batch"), (True, "batch"), (False, 1)])
def test_onnx_networks_get_what_they_were_trained_on(scales_itself: bool, batch: str | int, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    matrix = write_onnx(tmp_path / "w600k_r50.onnx", scales_itself, batch)
    network = load_identity(tmp_path / "w600k_r50.onnx")
    assert network.name == "onnx-w600k_r50"
    chips = torch.rand(2, 3, CHIP, CHIP)
    assert torch.allclose(network(chips), (chips * 2 - 1).flatten(1) @ matrix.T, atol=1e-4)
    picture, landmarks = face(5.0)
    token = network.embed(picture, landmarks)
    assert torch.allclose(token, F.normalize((network.align(picture, landmarks) * 2 - 1).flatten(1) @ matrix.T, dim=1), atol=1e-5)


def test_onnx_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    write_onnx(tmp_path / "detector.onnx", size=64)
    with pytest.raises(CheckpointError, match=r"detector\.onnx: takes .*give the pack's recognition model"):
        load_identity(tmp_path / "detector.onnx")
    whole = tmp_path / "net.onnx"
    write_onnx(whole)
    (tmp_path / "cut.onnx").write_bytes(whole.read_bytes()[:-5000])
    with pytest.raises(CheckpointError, match=r"cut\.onnx: not a complete ONNX network"):
        load_identity(tmp_path / "cut.onnx")
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such weights file"):
        load_identity(tmp_path / "none.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"net\.onnx: needs onnxruntime, which is not installed; pip install onnxruntime"):
        load_identity(whole)


def test_insightface_sees_bgr_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in with insightface's calls: get_model, prepare, get_feat."""
    seen = []

    class Model:
        taskname, input_shape = "recognition", ["None", 3, CHIP, CHIP]

        def prepare(self, ctx_id: int) -> None:
            seen.append(ctx_id)

        def get_feat(self, pictures):
            seen.extend(pictures)
            return torch.arange(512.0).expand(len(pictures), -1).numpy()

    zoo = types.ModuleType("insightface.model_zoo")
    zoo.get_model = lambda name: Model() if name == "buffalo_l" else None
    monkeypatch.setitem(sys.modules, "insightface", types.ModuleType("insightface"))
    monkeypatch.setitem(sys.modules, "insightface.model_zoo", zoo)
    network = load_identity("insightface:buffalo_l")
    chips = torch.zeros(2, 3, CHIP, CHIP)
    chips[0, 0], chips[1, 2] = 1.0, 0.5
    assert torch.equal(network(chips)[1], torch.arange(512.0))
    assert seen[1].shape == (CHIP, CHIP, 3)
    assert seen[1][0, 0].tolist() == [0, 0, 255]
    assert seen[2][0, 0].tolist() == [128, 0, 0]
    with pytest.raises(CheckpointError, match="insightface:other: no recognition model"):
        load_identity("insightface:other")


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "batch"), [(3.1, "batch"), (1.0, 1), (0.6, "batch")])
def test_the_installed_insightface_sees_what_we_see(scale: float, batch: str | int, tmp_path: Path) -> None:
    """A picture that is noise: chips as its own norm_crop cuts them, and the embedding that its own model gives of picture and points, by
    insightface:FILE and by the file alone."""
    face_align = pytest.importorskip("insightface.utils.face_align", reason="insightface is not installed")
    from insightface.model_zoo import get_model

    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (420, 400, 3), dtype=np.uint8)  # RGB
    turn = np.deg2rad(17)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (np.array(TEMPLATE) - 56) @ matrix.T + (190, 205) + rng.normal(0, 2 * scale, (5, 2))  # counted from pixel centres
    landmarks = torch.zeros(1, 478, 3)
    for (first, second), point in zip(FIVE, points, strict=True):
        landmarks[0, first, :2] = landmarks[0, second, :2] = torch.from_numpy(point) + 0.5
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255

    theirs = face_align.norm_crop(picture, points.astype(np.float32))
    ours = AlignedIdentity("test").align(image, landmarks)[0].permute(1, 2, 0) * 255
    # theirs are whole levels; OpenCV before 5 also rounds the place of a sample to 1/32 of a pixel, which is up to 255/32 of noise
    assert (ours - torch.from_numpy(theirs)).abs().max() < (0.52 if int(__import__("cv2").__version__[0]) >= 5 else 9)

    path = tmp_path / "net.onnx"
    write_onnx(path, batch=batch)
    model = get_model(str(path))
    model.prepare(ctx_id=-1)
    token = model.get(np.ascontiguousarray(picture[..., ::-1]), types.SimpleNamespace(kps=points.astype(np.float32)))
    token = F.normalize(torch.from_numpy(token), dim=0)
    assert token.std() > 0.02  # it says something
    # the file alone gets chips that are not rounded to whole levels: half a level of noise beside 60 of signal turns the token by 1e-5
    for file, least in ((f"insightface:{path}", 1 - 2e-6), (path, 1 - 5e-5)):
        both = load_identity(file).embed(image.expand(2, -1, -1, -1), landmarks.expand(2, -1, -1)).double()
        assert F.cosine_similarity(both, token.double(), dim=1).min() > least
    with pytest.raises(CheckpointError, match=r"insightface:.*none\.onnx: no such weights file"):
        load_identity(f"insightface:{tmp_path / 'none.onnx'}")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"insightface:.*net\.onnx: cannot be read"):
        load_identity(f"insightface:{path}")
