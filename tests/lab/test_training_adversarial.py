"""The discriminator of the denoiser's training: what it learns, whom its verdict reaches, and how a run goes on with it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from training_files import COMMON, DENOISER, denoiser_stage, first_items, first_losses, write_denoiser_shards

from difffae.common.errors import ConfigError
from difffae.common.pixels import gaussian_blur
from difffae.diffusion.denoiser import DenoiserConfig
from difffae.diffusion.schedule import add_noise, alphas_cumprod, predicted_clean
from difffae.lab.losses.adversarial import DETAIL_GAIN, Adversary
from difffae.lab.training.denoiser import DenoiserTraining, train_denoiser, verdict_shares
from difffae.lab.training.denoiser_batch import drop_conditions, read_batch

pytestmark = pytest.mark.usefixtures("one_thread")
RIVAL = {"adversarial_weight": 0.5, "adversarial_alone": 0, "adversarial_warmup": 0, "discriminator_width": 4, "discriminator_rate": 1e-2}
SIZES = [(4, 16, False), (8, 32, True), (8, 32, False), (4, 16, True)]  # latent channels, side, carry


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_denoiser_shards(tmp_path / "denoiser")


def options_of(shards: Path, folder: str = "run", **changes: object) -> DenoiserTraining:
    options = {"shards": str(shards), "folder": str(shards.parent / folder), "steps": 4, "autocast": False, "log_every": 1}
    return DenoiserTraining(**{**COMMON, **RIVAL, **options, **changes})


def weights_of(options: DenoiserTraining, **how: object) -> dict[str, torch.Tensor]:
    """The averaged weights of a run."""
    return train_denoiser(options, DENOISER, **how).state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def rows(options: DenoiserTraining) -> list[dict]:
    lines = [json.loads(line) for line in (Path(options.folder) / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def saved(options: DenoiserTraining) -> dict:
    return torch.load(options.checkpoint, weights_only=True)


def test_shares_of_noise_levels() -> None:
    shares = verdict_shares(torch.tensor([249, 250, 549, 550, 400, 0, 999, 300]), 250, 550)
    assert shares is not None
    assert shares.tolist() == [0, 2, 2, 0, 2, 0, 0, 2]
    assert shares.mean() == 1
    assert verdict_shares(torch.tensor([0, 999]), 250, 550) is None


@pytest.mark.slow
def test_weight_zero_changes_nothing(shards: Path) -> None:
    """Whatever else is said of a discriminator: the same weights bit for bit, and a checkpoint without one."""
    off, plain = options_of(shards, "off", adversarial_weight=0.0), DenoiserTraining(**COMMON, shards=str(shards), steps=4, autocast=False)
    plain = dataclasses.replace(plain, folder=str(shards.parent / "plain"))
    assert same(weights_of(off), weights_of(plain))
    assert "stage" not in saved(off)
    assert not any("verdict_real" in row or "adversarial" in row for row in rows(off))


def test_the_same_random_numbers_with_it(shards: Path) -> None:
    one, other = (first_items(denoiser_stage(options_of(shards, adversarial_weight=weight))[0])[0] for weight in (0.0, 0.5))
    assert one.shares is None
    assert other.shares is not None
    for name in ("steps", "noise", "judged"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert torch.equal(one.samples[0]["target"], other.samples[0]["target"])


def test_loss_adds_the_weighted_verdict(shards: Path) -> None:
    """The loss is that without it plus weight times the mean verdict on the judged rows, computed here anew, against the denoiser."""
    options = options_of(shards, adversarial_from=0.2, adversarial_to=0.8)
    stage, model = denoiser_stage(options)
    torch.nn.init.normal_(model["denoiser"].unet.conv_out.weight, std=0.1)  # a new one answers zero
    loss, parts = first_losses(stage, model)[0]
    plain, _ = first_losses(denoiser_stage(dataclasses.replace(options, adversarial_weight=0.0))[0], model)[0]
    item = first_items(stage)[0]
    judged = (item.steps >= 200) & (item.steps < 800)
    assert 0 < judged.sum() < len(judged)
    batch = read_batch(item.samples, model, options)
    told, alphas = drop_conditions(batch, item.dropout), alphas_cumprod(DENOISER.schedule)
    noisy = add_noise(batch.target, item.noise, item.steps, alphas)
    clean = predicted_clean(noisy, model["denoiser"](noisy, item.steps, told), item.steps, alphas, "v_prediction")
    assert stage.adversary is not None
    assert told.carried is not None
    assert told.validity is not None
    detail = (clean - gaussian_blur(clean, 1.0)) * DETAIL_GAIN
    verdicts = stage.adversary.network.layers(torch.cat([detail, told.render, told.carried, told.validity], dim=1)[judged])
    torch.testing.assert_close(parts["adversarial"], -verdicts.mean().detach())
    torch.testing.assert_close(loss, plain - 0.5 * verdicts.mean())


def test_parts_of_a_batch_add_up(shards: Path) -> None:
    """Accumulated parts, and rows of several processes, some without a row to judge: the same verdict, and the same gradient of the
    discriminator."""
    found = {}
    for count in (1, 4):
        stage, model = denoiser_stage(options_of(shards, adversarial_from=0.2, adversarial_to=0.8))
        assert stage.adversary is not None
        found[count] = torch.stack([parts["adversarial"] for _, parts in first_losses(stage, model, count)]).mean()
        gradients: list[torch.Tensor] = []
        stage.adversary.network.eval()
        stage.adversary.network.train = lambda: None  # the power iteration would run more often in parts
        parts = stage.adversary.learn(lambda tensors, to=gradients: to.extend(tensor.clone() for tensor in tensors))
        found[count, "learnt"], found[count, "gradients"] = parts, gradients
    items = first_items(stage, 4)
    assert any((item.shares == 0).all() for item in items if item.shares is not None)
    torch.testing.assert_close(found[1], found[4])
    torch.testing.assert_close(found[1, "learnt"], found[4, "learnt"])
    torch.testing.assert_close(found[1, "gradients"], found[4, "gradients"])


def test_gradient_reaches_the_denoiser_in_judged_rows_alone(shards: Path) -> None:
    gradients = {}
    for weight in (0.0, 0.5):
        stage, model = denoiser_stage(options_of(shards, adversarial_weight=weight, adversarial_from=0.2, adversarial_to=0.8))
        answers: list[torch.Tensor] = []
        model["denoiser"].register_forward_hook(lambda module, given, answer, to=answers: (answer.retain_grad(), to.append(answer))[0])
        (item,) = first_items(stage)
        with stage.around(model):
            stage.loss(model, item)[0].backward()
        gradients[weight] = answers[0].grad
        if stage.adversary is not None:
            assert all(parameter.grad is None for parameter in stage.adversary.network.parameters())
    judged = (item.steps >= 200) & (item.steps < 800)
    changed = (gradients[0.5] != gradients[0.0]).flatten(1).any(dim=1)
    assert 0 < judged.sum() < len(judged)
    assert torch.equal(changed, judged)
    assert (gradients[0.5] - gradients[0.0])[judged].norm() > 1e-3 * gradients[0.0][judged].norm()


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "side", "carry"), SIZES)
def test_it_learns_to_tell_blurred_latents(channels: int, side: int, carry: bool) -> None:
    """Real latents from their means, as a denoiser paints them where it was shown nothing: a fifth of the steps that a run has before
    the verdict counts are enough."""
    g, defaults = torch.Generator().manual_seed(0), DenoiserTraining()
    sizes = defaults.discriminator_width, defaults.discriminator_layers, defaults.discriminator_detail
    inputs = DenoiserConfig(latent_channels=channels, carry=carry).in_channels
    adversary = Adversary(*sizes, defaults.discriminator_rate, "cpu", 0, inputs)

    def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        real = gaussian_blur(torch.randn(8, channels, side, side, generator=g), 0.6) * 2
        validity = (gaussian_blur(torch.randn(8, 1, side, side, generator=g), 2.0) > 0).float()
        fake = gaussian_blur(real, 1.0)
        known = [gaussian_blur(real, 2.0)] + ([real * validity, validity] if carry else [])
        return real, (torch.lerp(fake, real, validity) if carry else fake), torch.cat(known, dim=1)

    losses = []
    for _ in range(60):
        real, fake, known = batch()
        adversary.generator_loss(real, fake, known)
        losses.append(adversary.learn(lambda tensors: None)["discriminator"].item())
    assert losses[0] > 0.9
    assert sum(losses[-10:]) / 10 < (0.75 if carry else 0.25)  # with carry half of the cells are the same in both: 0.5 at best
    with torch.no_grad():
        real, fake, known = batch()  # it never saw these
        verdicts = [adversary.network.eval()(latents, known).mean(dim=(1, 2, 3)) for latents in (real, fake)]
    assert (verdicts[0] > verdicts[1]).all()
    assert (verdicts[0] - verdicts[1]).mean() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "side", "carry"), SIZES)
def test_trains_at_every_size(channels: int, side: int, carry: bool, tmp_path: Path) -> None:
    shards = write_denoiser_shards(tmp_path / "s", channels, side)
    config = dataclasses.replace(DENOISER, sample_size=side, latent_channels=channels, carry=carry)
    options = options_of(shards, adversarial_from=0.0, adversarial_to=1.0, steps=2, adversarial_start=1, delta=0.0)
    moved = train_denoiser(options, config).state_dict()
    plain = train_denoiser(dataclasses.replace(options, folder=str(tmp_path / "plain"), adversarial_weight=0.0), config).state_dict()
    assert any(not torch.equal(value, plain[name]) for name, value in moved.items())
    first = saved(options)["stage"]["discriminator"]["layers.0.parametrizations.weight.original"]
    assert first.shape == (4, 3 * channels + 1 if carry else 2 * channels, 4, 4)
    assert ["discriminator" in row for row in rows(options)] == [False, True]
    assert rows(options)[1]["discriminator"] == pytest.approx(1.0, abs=0.3)  # what one that knows nothing pays


def test_it_begins_alone(shards: Path) -> None:
    """While the discriminator learns alone, the denoiser's weights are bit for bit those without it; afterwards they are not."""
    plain = options_of(shards, "plain", adversarial_weight=0.0, steps=0, minutes=1e9)
    judged = dataclasses.replace(plain, adversarial_weight=0.5, adversarial_alone=2, adversarial_warmup=2, adversarial_to=1.0)
    judged = dataclasses.replace(judged, adversarial_from=0.0, folder=str(shards.parent / "judged"))
    steps = {}
    for stop in (3, 4):  # the weight is 0 in the steps 0, 1 and 2, and half of it in the step 3
        steps[stop] = same(weights_of(plain, stop_step=stop), weights_of(judged, stop_step=stop))
    assert steps == {3: True, 4: False}
    assert all(row["discriminator"] > 0 for row in rows(judged))


def test_a_run_goes_on_with_one(shards: Path) -> None:
    """A checkpoint without a discriminator gets one that begins alone, whatever its step is."""
    plain = options_of(shards, "a", adversarial_weight=0.0, steps=5)
    weights_of(plain, stop_step=3)
    options = dataclasses.replace(plain, adversarial_weight=0.5, adversarial_alone=9, adversarial_from=0.0, adversarial_to=1.0)
    assert same(weights_of(options), weights_of(dataclasses.replace(plain, folder=str(shards.parent / "b"))))
    assert ["discriminator" in row for row in rows(options)] == [False] * 3 + [True] * 2


@pytest.mark.slow
def test_resumes_exactly(shards: Path) -> None:
    """Interrupted in the middle of the warm-up: denoiser, discriminator and its optimizer are those of a whole run."""
    options = options_of(shards, "whole", steps=6, adversarial_alone=1, adversarial_warmup=4, adversarial_from=0.0, adversarial_to=1.0)
    parts = dataclasses.replace(options, folder=str(shards.parent / "parts"))
    whole = weights_of(options)
    weights_of(parts, stop_step=3)
    assert same(weights_of(parts), whole)
    one, other = saved(options)["stage"], saved(parts)["stage"]
    assert same(one["discriminator"], other["discriminator"])
    for index, moments in one["optimizer"]["state"].items():
        assert same(moments, other["optimizer"]["state"][index])
    assert [row["loss"] for row in rows(parts)] == [row["loss"] for row in rows(options)]


def test_one_of_other_sizes_is_refused(shards: Path) -> None:
    options = options_of(shards, adversarial_from=0.0, adversarial_to=1.0, steps=2)
    weights_of(options, stop_step=1)
    for changes in ({"discriminator_width": 8}, {"discriminator_layers": 1}):
        with pytest.raises(ConfigError, match=r"last.pt: its discriminator has other sizes than discriminator_width="):
            weights_of(dataclasses.replace(options, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adversarial_weight": -1.0}, "adversarial_weight=-1.0: must be 0"),
        ({"adversarial_weight": float("nan")}, "adversarial_weight=nan: must be 0"),
        ({"adversarial_start": -1}, "adversarial_start=-1: is a number of steps"),
        ({"adversarial_alone": -1}, "adversarial_alone=-1: is a number of steps"),
        ({"adversarial_warmup": -1}, "adversarial_warmup=-1: is a number of steps"),
        ({"adversarial_from": 0.6}, "adversarial_from=0.6, adversarial_to=0.55: shares of the schedule's 1000 noise levels"),
        ({"adversarial_to": 1.5}, "adversarial_to=1.5: shares of the schedule"),
        ({"adversarial_from": -0.1}, "adversarial_from=-0.1"),
        ({"adversarial_from": 0.5, "adversarial_to": 0.5}, "at least one of them between"),
        ({"discriminator_width": 0}, "discriminator_width=0, discriminator_layers=2: must both be 1 or more"),
        ({"discriminator_layers": 0}, "discriminator_layers=0: must both be 1 or more"),
        ({"discriminator_layers": 4}, "discriminator_layers=4: halve 8 cells to less than one; 3 are the most"),
        ({"discriminator_detail": -1.0}, "discriminator_detail=-1.0: is a blur's standard deviation"),
        ({"discriminator_rate": 0.0}, "discriminator_rate=0.0: must be above 0"),
    ],
)
def test_options_that_cannot_work(shards: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        weights_of(options_of(shards, **changes))
    assert not options_of(shards).checkpoint.exists()
