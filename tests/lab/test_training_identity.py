"""The identity loss of the denoiser's training: what it measures, whom its gradient reaches, and which shards it reads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_files import COMMON, DENOISER, FIRST_STAGE, SLOTS, denoiser_stage, first_items, first_losses, write_denoiser_shards

from difffae.common.checkpoint import save_checkpoint
from difffae.common.errors import ConfigError
from difffae.diffusion.autoencoder import Autoencoder
from difffae.diffusion.first_stages import describe
from difffae.diffusion.schedule import add_noise, alphas_cumprod, predicted_clean
from difffae.lab.losses.identity_loss import IdentityLoss, judged_rows
from difffae.lab.prepare.pairs import encode_shards
from difffae.lab.prepare.shards import Shards, write_shard
from difffae.lab.training.denoiser import DenoiserTraining, train_denoiser
from difffae.lab.training.denoiser_batch import drop_conditions, read_batch
from difffae.source.identity import IdentityEncoder, IdentityNetwork
from difffae.source.slots import SlotEncoder

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 64  # of the decoded pictures: latents of 8, 8 times smaller


@pytest.fixture
def first_stage(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    stage = Autoencoder(FIRST_STAGE)
    save_checkpoint(
        tmp_path / "first.safetensors", stage.state_dict(), kind="first-stage", config=describe(stage), license="test", source="test"
    )
    return tmp_path / "first.safetensors"


def landmarks(count: int) -> torch.Tensor:
    """Five points that make a face of most of the picture, the other 473 anywhere: (N,478,2)."""
    points = torch.rand(count, 478, 2, generator=torch.Generator().manual_seed(4)) * SIDE
    for index, place in {263: (46, 22), 362: (38, 23), 33: (16, 22), 133: (25, 23), 2: (32, 40)}.items():
        points[:, index] = torch.tensor(place).float()
    return points


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """As those of the other tests, with what the identity loss needs."""
    folder = write_denoiser_shards(tmp_path / "denoiser")
    g = torch.Generator().manual_seed(2)
    for path in sorted(folder.glob("*.safetensors")):
        more = {"target_landmarks": landmarks(6).half(), "target_identity": (0.1 * torch.randn(6, 128, generator=g)).half()}
        write_shard(path, load_file(str(path)) | more)
    return folder


def options_of(shards: Path, decoder: Path, **changes: object) -> DenoiserTraining:
    options = {"shards": str(shards), "folder": str(shards.parent / "run"), "first_stage": str(decoder), "steps": 3, "autocast": False}
    return DenoiserTraining(**{**COMMON, **options, "identity_weight": 0.5, **changes})


def test_judged_rows() -> None:
    steps = torch.tensor([10, 800, 549, 550, 20, 30])
    assert judged_rows(steps, 550, 3).tolist() == [True, False, True, False, True, False]
    assert judged_rows(steps, 550, 9).tolist() == [True, False, True, False, True, True]
    assert not judged_rows(steps, 10, 9).any()


def test_distance_is_that_of_the_decoded_picture(first_stage: Path, shards: Path) -> None:
    stage, _ = denoiser_stage(options_of(shards, first_stage))
    assert stage.identity is not None
    latents, points = torch.randn(2, 2, 8, 8), landmarks(2)
    network = IdentityNetwork.load()
    seen = network.embed(stage.identity.first_stage.decode(latents), points)
    assert stage.identity(latents, points, seen).max() < 1e-5
    torch.testing.assert_close(stage.identity(latents, points, torch.zeros(2, 128)), seen.norm(dim=1))


def test_loss_adds_the_weighted_distance(first_stage: Path, shards: Path) -> None:
    """The loss is that without it plus weight times the mean distance of the judged rows, computed here anew."""
    options = options_of(shards, first_stage, identity_until=1.0, identity_samples=3)
    stage, model = denoiser_stage(options)
    loss, parts = first_losses(stage, model)[0]
    plain, _ = first_losses(denoiser_stage(dataclasses.replace(options, identity_weight=0.0))[0], model)[0]
    item = first_items(stage)[0]
    assert item.judged.tolist() == [True, True, True, False]
    batch = read_batch(item.samples, model, options)
    alphas = alphas_cumprod(DENOISER.schedule)
    noisy = add_noise(batch.target, item.noise, item.steps, alphas)
    prediction = model["denoiser"](noisy, item.steps, drop_conditions(batch, item.dropout))
    clean = predicted_clean(noisy, prediction, item.steps, alphas, "v_prediction")[:3]
    assert stage.identity is not None
    assert batch.landmarks is not None
    assert batch.who is not None
    expected = stage.identity(clean, batch.landmarks[:3], batch.who[:3]).mean()
    torch.testing.assert_close(parts["identity"], expected.detach())
    torch.testing.assert_close(loss, plain + 0.5 * expected)


def test_parts_of_a_batch_add_up(first_stage: Path, shards: Path) -> None:
    """Accumulated parts, and rows of several processes: the same mean over the batch's judged rows."""
    stage, model = denoiser_stage(options_of(shards, first_stage, identity_until=1.0, identity_samples=3))
    one, two = (torch.stack([parts["identity"] for _, parts in first_losses(stage, model, count)]).mean() for count in (1, 2))
    torch.testing.assert_close(one, two)


def test_gradient_reaches_the_denoiser_alone(first_stage: Path, shards: Path) -> None:
    gradients = {}
    for weight in (0.0, 0.5):
        options = options_of(shards, first_stage, identity_weight=weight, identity_until=1.0)
        stage, model = denoiser_stage(options)
        with stage.around(model):
            stage.loss(model, first_items(stage)[0])[0].backward()
        gradients[weight] = model["denoiser"].unet.conv_out.weight.grad  # the layers before it still wait: it starts at zero
        if stage.identity is not None:
            assert [name for name, value in stage.identity.named_parameters() if value.grad is not None or value.requires_grad] == []
    difference = gradients[0.5] - gradients[0.0]
    assert torch.isfinite(difference).all()
    assert difference.norm() > 1e-3 * gradients[0.0].norm()


def test_levels_above_the_limit_are_not_judged(first_stage: Path, shards: Path) -> None:
    stage, model = denoiser_stage(options_of(shards, first_stage, identity_until=1e-6))
    loss, parts = first_losses(stage, model)[0]
    plain, _ = first_losses(denoiser_stage(options_of(shards, first_stage, identity_weight=0.0))[0], model)[0]
    assert parts["identity"] == 0
    assert torch.equal(loss, plain)


@pytest.mark.slow
def test_weight_zero_changes_nothing(first_stage: Path, shards: Path, tmp_path: Path) -> None:
    """Without it the weights are bit for bit those of shards that know nothing of it, and neither they nor a first stage are needed."""
    bare = write_denoiser_shards(tmp_path / "bare")
    options = options_of(bare, first_stage, identity_weight=0.0, first_stage="", folder=str(tmp_path / "a"))
    before = train_denoiser(options, DENOISER).state_dict()
    after = train_denoiser(options_of(shards, first_stage, identity_weight=0.0, folder=str(tmp_path / "b")), DENOISER).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_descent_finds_the_identity(first_stage: Path, shards: Path) -> None:
    """Latents that follow the gradient come nearer to the identity that other latents have."""
    stage, _ = denoiser_stage(options_of(shards, first_stage))
    assert stage.identity is not None
    g, points = torch.Generator().manual_seed(0), landmarks(1)
    wanted = stage.identity.network.embed(stage.identity.first_stage.decode(3 * torch.randn(1, 2, 8, 8, generator=g)), points)
    latents = torch.randn(1, 2, 8, 8, generator=g).requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=0.1)
    distances = []
    for _ in range(30):
        optimizer.zero_grad()
        distance = stage.identity(latents, points, wanted).sum()
        distance.backward()
        optimizer.step()
        distances.append(distance.item())
    assert min(distances) < 0.7 * distances[0]


@pytest.mark.slow
def test_training_resumes(first_stage: Path, shards: Path, tmp_path: Path) -> None:
    """An interrupted run ends as a whole one does; the dev loss needs no identities."""
    bare = write_denoiser_shards(tmp_path / "bare")
    options = options_of(shards, first_stage, identity_until=1.0, dev_shards=str(bare))
    end = train_denoiser(dataclasses.replace(options, folder=str(tmp_path / "whole")), DENOISER).state_dict()
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [row["identity"] > 0 for row in log if "loss" in row] == [True, True]  # the second step, and the third, which ends it
    assert "dev_diffusion" in log[-1]
    assert "dev_identity" not in log[-1]
    parts = dataclasses.replace(options, folder=str(tmp_path / "parts"))
    train_denoiser(parts, DENOISER, stop_step=1)
    assert all(torch.equal(value, end[name]) for name, value in train_denoiser(parts).state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_stage": ""}, "name the file that decodes them in first_stage"),
        ({"identity_weight": -1.0}, "identity_weight=-1.0"),
        ({"identity_until": 0.0}, "identity_until=0.0"),
        ({"identity_until": 1.5}, "identity_until=1.5"),
        ({"identity_samples": 0}, "identity_samples=0"),
    ],
)
def test_options_that_cannot_work(first_stage: Path, shards: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_denoiser(options_of(shards, first_stage, **changes), DENOISER)


def test_parts_that_do_not_go_together(first_stage: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no 'target_identity'"):
        train_denoiser(options_of(write_denoiser_shards(tmp_path / "bare"), first_stage), DENOISER)
    stage = Autoencoder(dataclasses.replace(FIRST_STAGE, latent_channels=3))
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, stage.state_dict(), kind="first-stage", config=describe(stage), license="test", source="test")
    with pytest.raises(ConfigError, match="first_stage has 3 latent channels, the shards 2"):
        train_denoiser(options_of(shards, path), DENOISER)
    for file in shards.glob("*.safetensors"):
        write_shard(file, load_file(str(file)) | {"target_identity": torch.zeros(6, 512)})
    with pytest.raises(ConfigError, match="512 numbers, those of 'dlib-resnet-v1' 128"):
        train_denoiser(options_of(shards, first_stage), DENOISER)


def test_networks_without_gradients_are_refused() -> None:
    class Onnx(IdentityEncoder):
        name = "arcface-100"

    with pytest.raises(ConfigError, match="'arcface-100' runs as an ONNX file"):
        IdentityLoss(Autoencoder(FIRST_STAGE), Onnx())


def test_encode_keeps_what_joint_training_and_the_identity_loss_need(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    pictures = {
        name: torch.randint(0, 256, (2, channels, SIDE, SIDE), generator=g, dtype=torch.uint8)
        for name, channels in {"target": 3, "render": 3, "carried": 3, "source": 3, "validity": 1}.items()
    }
    old = tmp_path / "old.safetensors"  # pictures that were prepared before targets had landmarks
    write_shard(old, pictures | {"landmarks": landmarks(2)})
    write_shard(tmp_path / "new.safetensors", pictures | {"landmarks": landmarks(2), "target_landmarks": landmarks(2).flip(0)})
    stage, slots, network = Autoencoder(FIRST_STAGE).eval(), SlotEncoder(SLOTS).eval(), IdentityNetwork.load()
    paths = [old, tmp_path / "new.safetensors"]
    encode_shards(paths, tmp_path / "frozen", stage, slots, network)
    encode_shards(paths, tmp_path / "joint", stage, None, network)
    frozen, joint = (load_file(str(tmp_path / name / "new.safetensors")) for name in ("frozen", "joint"))
    assert "target_identity" not in load_file(str(tmp_path / "frozen" / "old.safetensors"))
    assert len(Shards(tmp_path / "frozen", ("target", "tokens", "masks"))) == 4
    assert set(frozen) - set(joint) == {"tokens", "masks"}
    assert set(joint) - set(frozen) == {"source", "query"}
    assert torch.equal(joint["source"], pictures["source"])
    assert torch.equal(joint["query"], pictures["target"])
    seen = network.embed(pictures["target"].float() / 255, landmarks(2).flip(0))
    torch.testing.assert_close(frozen["target_identity"].float(), seen, atol=2e-3, rtol=0)
    torch.testing.assert_close(frozen["target_landmarks"].float(), landmarks(2).flip(0), atol=0.04, rtol=0)
