"""convert unet, kl-f8, vq-f8, arcface: numbers of the networks' own code, every layout they come in, and files that must be refused."""

from __future__ import annotations

import collections
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from compvis import golden, picture, weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file

import difffae.convert.unet as unet_module
from difffae.cli import main
from difffae.common.checkpoint import load_checkpoint
from difffae.common.errors import CheckpointError
from difffae.convert.unet import read_unet
from difffae.diffusion.conditions import Conditions
from difffae.diffusion.denoiser import Denoiser, DenoiserConfig
from difffae.diffusion.first_stages import load_first_stage
from difffae.diffusion.initialisation import init_from, initialise
from difffae.edit.profiles import Profile, profile
from difffae.source.arcface import ArcFace
from difffae.source.identity_networks import load_identity
from difffae.source.slots import SlotEncoder

TINY = replace(
    DenoiserConfig(), sample_size=8, block_channels=(32, 64, 128, 128), identity_size=16, token_size=48, adain="none"
)  # the golden U-Net


@pytest.fixture(scope="module")
def compvis() -> dict:
    return golden("compvis")


def convert(kind: str, source: Path, output: Path, *options: str) -> int:
    return main(["convert", kind, str(source), "--output", str(output), *options])


def metadata(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as handle:
        return handle.metadata()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vq-f8", "kl-f8"])
@pytest.mark.parametrize("layout", ["file.safetensors", "alone.ckpt"])
def test_first_stage_answers_as_compvis_own_code(kind: str, layout: str, compvis: dict, tmp_path: Path) -> None:
    state = weights(compvis[kind]["shapes"])
    if layout == "alone.ckpt":  # as CompVis saves it, with the discriminator's weights and a training framework's class beside
        state |= {"loss.discriminator.main.0.weight": torch.zeros(3)}
        torch.save({"state_dict": state, "epoch": 3, "callbacks": {framework_class(): {"best": torch.ones(1)}}}, tmp_path / layout)
    else:
        save_file({f"first_stage_model.{name}": tensor for name, tensor in state.items()}, tmp_path / layout)
    output = tmp_path / "stage.safetensors"
    assert convert(kind, tmp_path / layout, output) == 0
    stage = load_first_stage(output)
    images, latents = picture(1, 3, 32, 32), picture(1, 4, 4, 4)
    encoded = stage.encode(images * 0.5 + 0.5) / stage.config.latent_scale
    decoded = stage.decode(latents * stage.config.latent_scale) * 2 - 1
    assert torch.allclose(encoded.flatten(), torch.tensor(compvis[kind]["encoded"]), atol=1e-4)
    assert torch.allclose(decoded[0, :, ::4, ::4].flatten(), torch.tensor(compvis[kind]["decoded"]), atol=1e-4)
    assert stage.config.latent_scale == {"vq-f8": 1.0, "kl-f8": 0.18215}[kind]
    assert {"vq-f8": "MIT", "kl-f8": "OpenRAIL"}[kind] in metadata(output)["license"]


def framework_class() -> type:
    """A class that pickles under the name of a training framework's, as in Stable Diffusion's own .ckpt files."""
    import sys
    import types

    name = "pytorch_lightning.callbacks.model_checkpoint"
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        sys.modules.setdefault(part, types.ModuleType(part))
    kind = type("ModelCheckpoint", (), {"__module__": name})
    sys.modules[name].ModelCheckpoint = kind
    return kind


@pytest.mark.slow
@pytest.mark.parametrize("old_names", [False, True])
def test_kl_f8_from_a_diffusers_folder(old_names: bool, compvis: dict, tmp_path: Path) -> None:
    """The same weights in diffusers' layout, whose attention had other names in 2022, give the same file."""
    save_file(weights(compvis["kl-f8"]["shapes"]), tmp_path / "compvis.safetensors")
    assert convert("kl-f8", tmp_path / "compvis.safetensors", tmp_path / "one.safetensors") == 0
    stage = load_first_stage(tmp_path / "one.safetensors")
    folder = tmp_path / "pipeline" / "vae"
    stage.network.save_pretrained(folder)
    if old_names:
        names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        state = stage.network.state_dict()
        for new, old in names.items():
            state = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in state.items()}
        save_file(state, folder / "diffusion_pytorch_model.safetensors")
    assert convert("kl-f8", tmp_path / "pipeline", tmp_path / "two.safetensors", "--license", "mine") == 0
    one, two = (load_checkpoint(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert two.license == "mine"
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)


def test_our_names_are_those_of_diffusers_own_converter(compvis: dict) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    from difffae.convert.first_stage import rename

    with torch.device("meta"):
        network = AutoencoderKL(
            block_out_channels=(32, 64, 128, 128),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
    shapes = compvis["kl-f8"]["shapes"]
    theirs = convert_ldm_vae_checkpoint({f"first_stage_model.{name}": t for name, t in weights(shapes).items()}, network.config)
    assert {rename(name) for name in shapes} == set(theirs) == set(network.state_dict())


@pytest.fixture
def tiny_unet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The converter's target at the golden U-Net's width; the paper's is 865 million parameters large."""

    def small(name: str, first_stage: str) -> Profile:
        real = profile(name, first_stage)
        return replace(real, denoiser=replace(TINY, sample_size=real.denoiser.sample_size // 4, schedule=real.denoiser.schedule))

    monkeypatch.setattr(unet_module, "profile", small)


def test_unet_answers_as_compvis_own_code(compvis: dict, tiny_unet: None, tmp_path: Path) -> None:
    save_file(weights(compvis["unet"]["shapes"]), tmp_path / "sd.safetensors")
    assert convert("unet", tmp_path / "sd.safetensors", tmp_path / "init.safetensors") == 0
    denoiser = Denoiser.load(tmp_path / "init.safetensors")
    conditions = Conditions(picture(2, 5, 48), torch.zeros(2, 16), torch.randn(2, 4, 8, 8))  # whatever the render: its weights are zero
    with torch.no_grad():
        output = denoiser(picture(2, 4, 8, 8), torch.tensor([3, 801]), conditions)
    assert torch.allclose(output.flatten(), torch.tensor(compvis["unet"]["output"]), atol=1e-4)
    assert denoiser.config.schedule.beta_end == 0.012
    assert "685 tensors copied, 1 widened, 0 fresh" in metadata(tmp_path / "init.safetensors")["source"]


@pytest.mark.slow
def test_unet_ema_and_other_layouts(compvis: dict, tiny_unet: None, tmp_path: Path) -> None:
    state = weights(compvis["unet"]["shapes"])
    ema = {"model_ema." + "".join(name.split(".")[1:]): tensor + 1 for name, tensor in state.items()}
    torch.save({"state_dict": state | ema, "global_step": 1}, tmp_path / "sd.ckpt")
    plain = read_unet(tmp_path / "sd.ckpt", TINY)
    averaged = read_unet(tmp_path / "sd.ckpt", TINY, ema=True)
    assert plain.keys() == averaged.keys()
    assert all(torch.allclose(averaged[name], plain[name] + 1) for name in plain)

    bare = {name.removeprefix("model.diffusion_model."): tensor.half() for name, tensor in state.items()}
    save_file(bare, tmp_path / "bare.safetensors")
    assert convert("unet", tmp_path / "bare.safetensors", tmp_path / "init.safetensors", "--set", "first_stage=vq-f8") == 0
    assert Denoiser.load(tmp_path / "init.safetensors").config.schedule.beta_end == 0.0195
    with safe_open(str(tmp_path / "init.safetensors"), framework="pt") as handle:  # half stays half: 1.7 GB instead of 3.5
        assert handle.get_tensor("unet.conv_out.weight").dtype == torch.float16

    network = UNet2DConditionModel(
        in_channels=4, block_out_channels=TINY.block_channels, cross_attention_dim=48, attention_head_dim=8, sample_size=8
    )
    network.load_state_dict(plain)
    network.save_pretrained(tmp_path / "diffusers" / "unet")
    for folder in (tmp_path / "diffusers", tmp_path / "diffusers" / "unet"):
        again = read_unet(folder, TINY)
        assert again.keys() == plain.keys()
        assert all(torch.equal(again[name], plain[name]) for name in plain)


def test_stable_diffusion_and_the_paper_differ_in_33_tensors() -> None:
    with torch.device("meta"):
        source = UNet2DConditionModel(
            sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8
        )
        denoiser = Denoiser(profile("paper-256").denoiser)
        carrying = Denoiser(replace(profile("paper-256").denoiser, carry=True))
    state = {f"unet.{name}": tensor for name, tensor in source.state_dict().items()}
    assert len(state) == 686
    assert sum(tensor.numel() for tensor in state.values()) == 859_520_964
    for target in (denoiser, carrying):
        report = initialise(target, state, "sd")
        assert len(report.copied) == 653
        assert report.widened == ("unet.conv_in.weight",)
        fresh = [name for name in report.fresh if ".adain." not in name]
        assert len(fresh) == 32
        assert sum(target.get_parameter(name).numel() for name in fresh) + denoiser.unet.conv_in.weight.numel() == 4_815_360
        assert len(report.fresh) - 32 == 44  # weight and bias of 22 AdaINs


def test_training_starts_from_the_file_whatever_the_ablation(compvis: dict, tiny_unet: None, tmp_path: Path) -> None:
    save_file(weights(compvis["unet"]["shapes"]), tmp_path / "sd.safetensors")
    assert convert("unet", tmp_path / "sd.safetensors", tmp_path / "init.safetensors") == 0
    config = replace(TINY, token_size=24, adain="replace", carry=True)
    torch.manual_seed(1)
    denoiser = Denoiser(config)
    before = {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}
    report = init_from(denoiser, tmp_path / "init.safetensors")
    after, file = denoiser.state_dict(), load_checkpoint(tmp_path / "init.safetensors").tensors
    assert set(report.copied) | set(report.widened) | set(report.fresh) == set(after)
    assert {name for name in after if ".adain." in name} <= set(report.fresh)  # the file's was never trained
    assert all(torch.equal(after[name], before[name]) for name in report.fresh)
    assert all(torch.equal(after[name], file[name]) for name in report.copied)
    inputs = after["unet.conv_in.weight"]
    assert inputs.shape[1] == 13
    assert torch.equal(inputs[:, :8], file["unet.conv_in.weight"])
    assert inputs[:, 4:].abs().max() == 0
    with pytest.raises(CheckpointError, match=r"init\.safetensors: .*give a U-Net of this denoiser's layout"):
        init_from(Denoiser(replace(TINY, block_channels=(32, 64, 128, 64))), tmp_path / "init.safetensors")


@pytest.mark.slow
def test_arcface_answers_as_arcface_torch(tmp_path: Path) -> None:
    known = golden("iresnet18")
    state = collections.OrderedDict(weights(known["shapes"]))
    torch.save({"epoch": 20, "state_dict_backbone": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "r18.pth")
    assert convert("arcface", tmp_path / "r18.pth", tmp_path / "id.safetensors") == 0
    network = load_identity(tmp_path / "id.safetensors", "arcface-r18")
    assert isinstance(network, ArcFace)
    with torch.no_grad():
        features = network(picture(2, 3, 112, 112) * 0.5 + 0.5)
    assert torch.allclose(features.flatten(), torch.tensor(known["features"]), atol=2e-3)
    assert "non-commercial" in metadata(tmp_path / "id.safetensors")["license"]


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("hostile-was-here",)


def broken(kind: str, path: Path, shapes: dict[str, list[int]]) -> str:
    """Write one unusable file; returns what its error must say."""
    state = weights(shapes)
    if kind == "truncated.ckpt":
        torch.save({"state_dict": state}, path)
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "truncated.safetensors":
        save_file(state, path)
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind in ("hostile.ckpt", "hostile.pt"):
        with path.open("wb") as file:
            pickle.dump({"state_dict": state, "x": Hostile()}, file, protocol=2)
        if kind == "hostile.pt":
            torch.save({"state_dict": state, "x": Hostile()}, path)
    elif kind == "text.ckpt":
        path.write_text("<html>404</html>")
    elif kind == "list.pth":
        torch.save([1, 2], path)
        return "instead of named tensors"
    elif kind == "other.safetensors":
        save_file({"weight": torch.ones(2)}, path)
        return "give "
    elif kind == "shape.safetensors":
        name = next(name for name in state if name.endswith(("conv_out.weight", "input_blocks.1.0.in_layers.2.bias", "layer1.0.bn2.bias")))
        save_file(state | {name: torch.ones(5)}, path)
        return "instead of"
    elif kind == "missing.safetensors":
        name = next(name for name in state if name.endswith(("conv_out.weight", "input_blocks.1.0.in_layers.2.bias", "layer1.0.bn2.bias")))
        save_file({key: tensor for key, tensor in state.items() if key != name}, path)
        return "give "
    return "download it again"


BROKEN = ["truncated.ckpt", "truncated.safetensors", "hostile.ckpt", "hostile.pt", "text.ckpt", "list.pth"]
BROKEN += ["other.safetensors", "shape.safetensors", "missing.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("what", ["unet", "vq-f8", "arcface"])
def test_unusable_files_are_refused(
    what: str,
    kind: str,
    compvis: dict,
    tiny_unet: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shapes = golden("iresnet18")["shapes"] if what == "arcface" else compvis[what]["shapes"]
    if what == "arcface":  # its last layer has 12 million numbers
        shapes = {name: shape for name, shape in shapes.items() if name != "fc.weight"} | {"fc.weight": [4, 4]}
    says = broken(kind, tmp_path / kind, shapes)
    assert convert(what, tmp_path / kind, tmp_path / "out.safetensors") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert kind in message
    assert says in message
    assert sorted(path.name for path in tmp_path.iterdir()) == [kind]  # no output, no temporary file, and nothing ran


@pytest.mark.parametrize(
    ("kind", "source", "says"),
    [
        ("kl-f8", "vq-f8", "convert it as vq-f8"),
        ("vq-f8", "kl-f8", "convert it as kl-f8"),
        ("unet", "kl-f8", "holds no U-Net"),
        ("arcface", "kl-f8", "no iresnet"),
        ("kl-f8", "unet", "holds no first stage"),
    ],
)
def test_a_file_of_another_kind_is_named(kind: str, source: str, says: str, compvis: dict, tmp_path: Path, capsys) -> None:
    save_file(weights(compvis[source]["shapes"]), tmp_path / "x.safetensors")
    assert convert(kind, tmp_path / "x.safetensors", tmp_path / "out.safetensors") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_other_versions_and_folders_are_refused(compvis: dict, tmp_path: Path, capsys) -> None:
    state = weights(compvis["unet"]["shapes"])
    flat = {name: tensor[..., 0, 0] if name.endswith("proj_in.weight") else tensor for name, tensor in state.items()}
    save_file(flat, tmp_path / "v2.safetensors")
    f4 = {name: tensor for name, tensor in weights(compvis["vq-f8"]["shapes"]).items() if ".down.3." not in name}
    save_file(f4, tmp_path / "f4.safetensors")
    (tmp_path / "empty").mkdir()
    for kind, source, says in (
        ("unet", "v2.safetensors", "not of Stable Diffusion v1's layout"),
        ("vq-f8", "f4.safetensors", "a first stage with f = 4"),
        ("unet", "empty", "unet/diffusion_pytorch_model.safetensors or empty/diffusion_pytorch_model.safetensors was expected"),
    ):
        assert convert(kind, tmp_path / source, tmp_path / "out.safetensors") == 2
        message = capsys.readouterr().err
        assert says in message
        assert source in message


@pytest.mark.parametrize("wrapped", [False, True])
def test_slots_answer_as_slotdiffusions_own_code(wrapped: bool, tmp_path: Path) -> None:
    """Golden numbers of SADiffusion.encode in the sizes of its CelebA models, on a picture of 32x32: tokens, and the last round's masks."""
    known = golden("slotdiffusion")
    grid = torch.rand(1, 8, 8, 4)  # only its size counts
    state = weights(known["shapes"]) | {"encoder_pos_embedding.grid": grid, "dm_decoder.model.weight": torch.ones(3)}
    if wrapped:  # as a trainer in several processes leaves it
        state = {"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}
    torch.save(state, tmp_path / "sa_ldm.pth")
    assert convert("slots", tmp_path / "sa_ldm.pth", tmp_path / "slots.safetensors") == 0
    encoder = SlotEncoder.load(tmp_path / "slots.safetensors")
    c = encoder.config
    assert (c.encoder, c.image_size, c.input_size, c.block_channels, c.layers_per_block) == ("resnet", 32, 0, (64, 128, 256), 2)
    assert (c.slot_count, c.slot_size, c.slot_hidden, c.feature_channels, c.order) == (4, 192, 384, 192, ())
    with torch.no_grad():
        tokens, masks = encoder(picture(1, 3, 32, 32) * 0.5 + 0.5)
    assert masks.shape == (1, 4, 8, 8)
    torch.testing.assert_close(tokens[0, :, ::8].flatten(), torch.tensor(known["slots"]), atol=2e-5, rtol=0)
    torch.testing.assert_close(masks.flatten(), torch.tensor(known["masks"]), atol=2e-5, rtol=0)
    assert "MIT" in metadata(tmp_path / "slots.safetensors")["license"]


def test_slots_for_a_larger_model_see_the_size_they_were_trained_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = golden("slotdiffusion")
    state = weights(known["shapes"]) | {"encoder_pos_embedding.grid": torch.zeros(1, 8, 8, 4)}
    torch.save({"state_dict": state}, tmp_path / "sa.pth")
    assert convert("slots", tmp_path / "sa.pth", tmp_path / "slots.safetensors", "--set", "image_size=64") == 0
    encoder = SlotEncoder.load(tmp_path / "slots.safetensors")
    image = picture(1, 3, 64, 64) * 0.2 + 0.5
    with torch.no_grad():
        tokens, masks = encoder(image)
        reduced = torch.nn.functional.interpolate(image, (32, 32), mode="bilinear", antialias=True)
        encoder.config = replace(encoder.config, image_size=32, input_size=0)
        assert torch.equal(tokens, encoder(reduced)[0])
    assert masks.shape == (1, 4, 8, 8)
    # gradients come through with less memory, too
    encoder.train().requires_grad_(True)
    encoder(reduced)[0].sum().backward()
    plain = {name: p.grad.clone() for name, p in encoder.named_parameters()}
    encoder.zero_grad()
    encoder.encoder.save_memory()
    encoder(reduced)[0].sum().backward()
    assert all(torch.allclose(p.grad, plain[name], atol=1e-6) for name, p in encoder.named_parameters())

    def refused(change: dict, *options: str) -> str:
        torch.save(state | change, tmp_path / "other.pth")
        assert convert("slots", tmp_path / "other.pth", tmp_path / "none.safetensors", *options) == 2
        assert not (tmp_path / "none.safetensors").exists()
        return capsys.readouterr().err

    assert "image_size 16 and iterations 3: at least 32, or 0" in refused({}, "--set", "image_size=16")
    assert "has an unknown 'encoder.blocks.0.weight'" in refused({"encoder.blocks.0.weight": torch.ones(2)})
    assert "'attention.project_k.weight' is (192, 100)" in refused({"slot_attention.project_k.weight": torch.ones(192, 100)})
    del state["init_latents"]
    assert "no slot attention of SlotDiffusion with a ResNet" in refused({})
