"""The paper's configurations (Tables 4 and 5): exact sizes, and a training step of each by Eq. 8."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from difffae.cli import main
from difffae.common.errors import ConfigError
from difffae.diffusion.conditions import Conditions
from difffae.diffusion.schedule import add_noise, alphas_cumprod
from difffae.edit.model import EditModel
from difffae.edit.profiles import Profile, profile
from difffae.lab.losses.losses import attention_consistency, diffusion_loss, total_loss
from difffae.source.slots import SlotEncoder, SlotsConfig

NEEDED = 14  # GB of free memory for a step at full size: weights and gradients 7, activations, and room for others


def narrow(paper: Profile) -> Profile:
    """The same layout at a tenth of the width."""
    first = paper.first_stage | {"block_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_groups": 4}
    slots = replace(paper.slots, stem_channels=8, block_channels=(8, 8, 16, 32), norm_groups=4, head_width=4)
    denoiser = replace(paper.denoiser, block_channels=(32, 64, 128, 128))
    return replace(paper, first_stage=first, slots=slots, denoiser=denoiser)


def training_step(model: EditModel, size: int) -> Tensor:
    """Forward of slots and U-Net, the losses of Eq. 8 and their gradients at batch 1; returns the loss."""
    g = torch.Generator().manual_seed(0)
    source, query, render = (torch.rand(1, 3, size, size, generator=g) for _ in range(3))
    tokens = model.slots(source)[0]
    with torch.no_grad():
        masks = model.slots(query)[1]
        clean, shown = model.autoencoder.encode(query), model.autoencoder.encode(render)
    identity = torch.nn.functional.normalize(torch.randn(1, 512, generator=g))
    noise, step = torch.randn(clean.shape, generator=g), torch.tensor([400])
    noisy = add_noise(clean, noise, step, alphas_cumprod(model.schedule))
    with model.denoiser.record_attention() as maps:
        prediction = model.denoiser(noisy, step, Conditions(tokens, identity, shown))
        assert prediction.shape == (1, 4, size // 8, size // 8)
        assert len(maps) == 16
        loss = total_loss(diffusion_loss(prediction, noise), attention_consistency(maps.values(), masks))
        loss.backward()
    return loss


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper-256", "paper-512"])
@pytest.mark.parametrize(("first_stage", "expected"), [("vq-f8", 67_717_295), ("kl-f8", 83_653_863)])
def test_the_command_prints_the_papers_sizes(name: str, first_stage: str, expected: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", name, "--first-stage", first_stage, "--count"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["denoiser"] == 865_839_684
    assert counts["denoiser_unet"] == 845_155_524
    assert counts["slots_encoder"] == 15_225_472
    assert counts["first_stage"] == expected
    assert counts["identity"] == 43_590_848


def test_the_papers_noise_goes_with_the_first_stage() -> None:
    assert profile("paper-256", "vq-f8").denoiser.schedule.beta_end == 0.0195
    assert profile("paper-256", "kl-f8").denoiser.schedule.beta_end == 0.012
    assert not profile("paper-256").denoiser.carry
    with torch.device("meta"):
        assert profile("paper-512").build("meta").image_size == 512


def test_both_sizes_have_table_4s_encoder() -> None:
    """At 512 the same layers see the picture at half its size: 32x32 cells (Table 4), and the tokens of the 256 model with its weights."""
    large, small = (narrow(profile(name)).slots for name in ("paper-512", "paper-256"))
    torch.manual_seed(0)
    encoder, other = SlotEncoder(large).eval(), SlotEncoder(small).eval()
    other.load_state_dict(encoder.state_dict())
    picture = torch.rand(1, 3, 256, 256).repeat_interleave(2, 2).repeat_interleave(2, 3)  # averaging pairs gives the small one back
    with torch.no_grad():
        tokens, masks = encoder(picture)
        assert masks.shape == (1, 4, 32, 32)
        reduced = torch.nn.functional.interpolate(picture, (256, 256), mode="bilinear", antialias=True)
        known = other(reduced)
    assert torch.equal(tokens, known[0])
    assert torch.equal(masks, known[1])
    assert SlotsConfig(**{name: value for name, value in large.to_dict().items() if name != "input_size"}).input_size == 0  # older files
    with pytest.raises(ConfigError, match="sides divisible by 64"):
        encoder(torch.rand(1, 3, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper-256", "paper-512"])
def test_a_narrow_step_reaches_every_weight(name: str) -> None:
    paper = profile(name)
    model = narrow(paper).build(seed=0)
    # 512 pixels would take minutes; the layout is the same. At 128 the encoder's middle is one cell, which attends to nothing else
    size = 256
    torch.nn.init.normal_(model.denoiser.unet.conv_out.weight, std=0.02)  # zero at the start: it would stop every other gradient
    assert torch.isfinite(training_step(model, size))
    parts = {f"{part}.{key}": p for part in ("denoiser", "slots") for key, p in getattr(model, part).named_parameters()}
    idle = {name for name, p in parts.items() if p.grad is None or p.grad.abs().max() == 0}
    # AdaIN starts with weights of zero but gets gradients; normalisation takes the mean of what goes into it, so biases before it are idle
    assert not {name for name in idle if not name.endswith("bias")}
    assert all(p.grad is None for p in model.autoencoder.parameters())


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = narrow(profile("paper-256")).build(seed=0)
        torch.nn.init.normal_(model.denoiser.unet.conv_out.weight, std=0.02, generator=torch.Generator().manual_seed(0))
        model.train()
        if checkpointing:
            model.denoiser.unet.enable_gradient_checkpointing()
        training_step(model, 128)
        gradients.append({name: p.grad for name, p in model.denoiser.named_parameters()})
    assert all(torch.allclose(gradients[0][name], gradients[1][name], atol=1e-6) for name in gradients[0])


def free_memory() -> float:
    """GB that processes may still take, or 0 where the system does not tell."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("MemAvailable")), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper-256", "paper-512"])
def test_a_step_at_full_size(name: str) -> None:
    free = free_memory()
    if free < NEEDED:
        pytest.skip(f"{free:.0f} GB of memory are free; a step at full size needs {NEEDED}")
    model = profile(name).build(seed=0)
    assert sum(p.numel() for p in model.denoiser.parameters()) == 865_839_684
    model.denoiser.unet.enable_gradient_checkpointing()
    model.denoiser.unet.train()
    weight = model.denoiser.unet.conv_out.weight
    before = weight.detach().clone()
    trained = [*model.denoiser.parameters(), *model.slots.parameters()]
    optimizer = torch.optim.SGD(trained, lr=1e-2)
    loss = training_step(model, 256 if name == "paper-256" else 512)
    optimizer.step()
    assert torch.isfinite(loss)
    assert torch.isfinite(weight).all()
    assert not torch.equal(weight, before)
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0
