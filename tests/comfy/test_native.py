"""MODEL and VAE are ComfyUI's own kinds: its samplers, schedulers, previews, VAE nodes and memory management work on them."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from client import ROOT, Comfy
from graphs import MODEL, VAE, conditioned, core_sampler, edited, link, node, sampler, saved
from inprocess import Pack
from pictures import portrait
from PIL import Image
from server import find, start
from torch import Tensor

CHECKPOINT = ROOT / "difffae/assets/open-256.safetensors"
DETERMINISTIC = ("euler", "heun", "dpm_2", "lms", "dpmpp_2m", "ipndm", "deis", "res_multistep", "ddim", "uni_pc", "gradient_estimation")
STOCHASTIC = ("euler_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde", "ddpm", "lcm", "er_sde", "sa_solver")
SCHEDULERS = ("normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "beta", "kl_optimal", "linear_quadratic")


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().clamp_min(1e-12).log10())


def pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255


# inside this process: samplers, schedulers, schedule


@pytest.fixture(scope="module")
def edit(pack: Pack) -> dict:
    """The astronaut with the officer's pose, expression and light, up to the sampler's inputs."""
    picture, _, crop = pack.run("DiffFAECropFace", image=portrait("source.png"))
    (own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
    (wanted,) = pack.run("DiffFAEEstimateAttributes", image=portrait("query.png"))
    (target,) = pack.run("DiffFAEComposeAttributes", source=own, pose=wanted, expression=wanted, light=wanted)
    slots = pack.run("DiffFAEEncodeSlots", image=picture)[0]
    (identity,) = pack.run("DiffFAEIdentityToken", image=picture, crop=crop)
    carried, _, carry, *_ = pack.run("DiffFAECarryPhoto", image=picture, source=own, target=target, crop=crop, slots=slots)
    (render, *_) = pack.run("DiffFAERenderFace", attributes=target)
    positive, negative, latent = pack.run("DiffFAEConditioning", slots=slots, identity=identity, render=render, carry=carry)
    carried = F.interpolate(carried.movedim(-1, 1), picture.shape[1:3], mode="bicubic", antialias=True).movedim(1, -1)  # of its own size
    return {"crop": picture, "carried": carried, "positive": positive, "negative": negative, "latent": latent}


def drawn(pack: Pack, edit: dict, **settings) -> Tensor:
    whole = {"positive": edit["positive"], "latent": edit["latent"], "steps": 10, "denoise": 1.0}
    return pack.run("DiffFAESampler", **(whole | settings))[0]


@pytest.fixture(scope="module")
def expected(pack: Pack, edit: dict) -> Tensor:
    """20 deterministic steps, of which the others are held to be approximations."""
    result = drawn(pack, edit, steps=20)
    assert psnr(result, edit["carried"]) > 20  # plausible: much of it is the photograph
    return result


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_samplers_agree(pack: Pack, edit: dict, expected: Tensor, name: str) -> None:
    # half of Heun's steps are the other sampler's whole ones, and large where the schedule's finish leaves few: 33 dB with 10 since the
    # background goes along with a turned head and is trusted less, as the denoiser has not seen it do
    steps = 20 if name == "heun" else 10
    assert psnr(drawn(pack, edit, sampler_name=name, steps=steps), expected) > (38 if name == "heun" else 40)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_are_close(pack: Pack, edit: dict, expected: Tensor, name: str) -> None:
    """They draw other noise on the way: they may differ where the photograph did not show what is there."""
    assert psnr(drawn(pack, edit, sampler_name=name), expected) > 27


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_agree(pack: Pack, edit: dict, expected: Tensor, name: str) -> None:
    # linear_quadratic spends almost all its steps at pure noise, and its last one from there
    assert psnr(drawn(pack, edit, scheduler=name), expected) > (27 if name == "linear_quadratic" else 40)


def test_samplers_that_stop_short_are_not_offered(pack: Pack, edit: dict, expected: Tensor) -> None:
    """dpm_fast and dpm_adaptive end at the schedule's lowest noise, and where the model's last step is a large one that is visible."""
    (options,) = (own.options for own in pack.nodes["DiffFAESampler"].define_schema().inputs if own.id == "sampler_name")
    assert {"dpm_fast", "dpm_adaptive"}.isdisjoint(options)
    assert {*DETERMINISTIC, *STOCHASTIC} <= set(options)
    # 18.5 dB with the schedule's finish at 0.4, 12.8 dB at 0.6; those that are offered have 30 dB and more
    assert psnr(drawn(pack, edit, sampler_name="dpm_fast"), expected) < 25


def test_schedule(pack: Pack) -> None:
    sampling = pack.model.get_model_object("model_sampling")
    schedule = pack.model.model.diffusion_model.denoiser.config.schedule
    first, last = round(schedule.finish * schedule.train_steps), schedule.train_steps - 1
    levels = torch.arange(first, last + 1)
    assert torch.equal(sampling.timestep(sampling.sigma(levels)), levels)
    alphas = pack.library("diffusion.schedule").alphas_cumprod(schedule)
    assert float(sampling.sigma_min) == pytest.approx(float(((1 - alphas[first]) / alphas[first]).sqrt()), rel=1e-5)
    assert float(sampling.sigma(torch.tensor(800.0))) == pytest.approx(float(((1 - alphas[800]) / alphas[800]).sqrt()), rel=1e-5)
    assert float(sampling.sigma_max) > 4000  # pure noise
    # shares of the sampling, for nodes that act on a part of it
    assert sampling.percent_to_sigma(0.0) > float(sampling.sigma_max)
    assert sampling.percent_to_sigma(0.5) == pytest.approx(float(sampling.sigma(torch.tensor((first + last) / 2))))
    assert sampling.percent_to_sigma(0.999) == pytest.approx(float(sampling.sigma_min), rel=0.01)
    assert sampling.percent_to_sigma(1.0) == 0.0


@pytest.mark.parametrize(("ours", "theirs"), [("ddim", "euler"), ("ddim", "ddim"), ("dpmpp_2m", "dpmpp_2m")])
def test_the_library_samples_the_same(pack: Pack, edit: dict, ours: str, theirs: str) -> None:
    """The same noise through the library's sampler and through ComfyUI's."""
    (context, extra), names = edit["positive"][0], ("identity", "render", "carried", "validity")
    conditions = pack.library("diffusion.conditions").Conditions(context, *(extra[f"difffae_{name}"] for name in names))
    sampling = pack.library("diffusion.sampling")
    network = pack.model.model.diffusion_model.denoiser
    latents = sampling.sample(network, conditions, 20, ours, 7)
    assert psnr(pack.vae.decode(latents), drawn(pack, edit, sampler_name=theirs, steps=20, seed=7)) > 50


def test_cfg_needs_negative_and_changes_the_picture(pack: Pack, edit: dict, expected: Tensor) -> None:
    message = "cfg: is 3, which needs negative; wire DiffFAE Conditioning's negative output, or set cfg to 1"
    with pytest.raises(pack.library("common.errors").ConfigError, match=f"^{re.escape(message)}$"):
        drawn(pack, edit, cfg=3.0)
    strong = drawn(pack, edit, cfg=3.0, negative=edit["negative"])
    assert 15 < psnr(strong, expected) < 45


def test_less_denoising_stays_closer_to_the_photograph(pack: Pack, edit: dict) -> None:
    closeness = [psnr(drawn(pack, edit, denoise=denoise), edit["carried"]) for denoise in (1.0, 0.5, 0.0)]
    assert closeness[0] < closeness[1] < closeness[2]
    start = pack.vae.decode(edit["latent"]["samples"])
    assert torch.equal(drawn(pack, edit, denoise=0.0), start)


def fails(pack: Pack, message: str):
    return pytest.raises(pack.library("common.errors").ConfigError, match="^" + re.escape(message))


def test_what_does_not_fit_is_refused(pack: Pack, edit: dict) -> None:
    context, extra = edit["positive"][0]
    message = "conditioning: was not made for this model; wire the outputs of DiffFAE Conditioning into the sampler"
    text = torch.zeros(1, 77, 768)
    for foreign in ([[text, {"pooled_output": text[:, 0]}]], [[text, extra]], [[context, {}]]):
        with fails(pack, message):
            drawn(pack, edit, positive=foreign)
    with fails(pack, "latent_image: is for 512x384 pixels, the conditioning for 256x256; use the LATENT of DiffFAE Conditioning"):
        drawn(pack, edit, latent={"samples": torch.randn(1, pack.vae.latent_channels, 48, 64)})
    with fails(pack, "latent_image: the latents have 4 channels and the conditioning 8, but this model has 8; take model, vae and"):
        drawn(pack, edit, latent={"samples": torch.randn(1, 4, 32, 32)})
    with fails(pack, "vae: is another model's; wire the VAE of Load DiffFAE"):
        pack.run("DiffFAEConditioning", vae=object(), slots=None, identity=None, render=None)
    with pytest.raises(pack.library("common.errors").ImageError, match=r"^samples: latents \(1, 4, 32, 32\) do not belong to this VAE"):
        pack.vae.decode(torch.zeros(1, 4, 32, 32))
    with pytest.raises(pack.library("common.errors").ImageError, match=r"^pixels: 7x7 is too small to encode; 8 pixels a side are needed$"):
        pack.vae.encode(torch.zeros(1, 7, 7, 3))


def test_patched_models_sample(pack: Pack, edit: dict, expected: Tensor) -> None:
    """What core's patch nodes do: clones, weight patches, object patches, wrappers of the network."""
    same = pack.model.clone()
    assert torch.equal(drawn(pack, edit, model=same, steps=20), expected)

    def twice(apply, arguments: dict) -> Tensor:
        return apply(arguments["input"], arguments["timestep"], **arguments["c"])

    same.set_model_unet_function_wrapper(twice)
    assert torch.equal(drawn(pack, edit, model=same, steps=20), expected)
    patched = pack.model.clone()
    name = next(key for key in pack.model.model_state_dict() if key.endswith("weight") and "out" in key)
    weight = pack.model.model_state_dict()[name]
    assert patched.add_patches({name: ("diff", (torch.ones_like(weight),))}, 0.5) == [name]
    changed = drawn(pack, edit, model=patched, steps=20)
    assert psnr(changed, expected) < 60
    assert torch.equal(drawn(pack, edit, steps=20), expected)  # and the model itself is as it was

    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, RescaleCFG

    (rescaled,) = RescaleCFG().patch(pack.model, 0.7)
    assert psnr(drawn(pack, edit, model=rescaled, steps=20), expected) > 60  # at cfg 1 there is nothing to rescale
    (discrete,) = ModelSamplingDiscrete().patch(pack.model, "v_prediction", True)
    assert psnr(drawn(pack, edit, model=discrete), expected) > 20  # the whole schedule, beyond `finish`


EIGHT_BITS = ("fp8_e4m3fn_unet", "fp8_e5m2_unet", "fp8_e8m0fnu_unet")


@pytest.mark.parametrize("flag", [*EIGHT_BITS, "bf16_unet", "fp16_unet", "fp32_unet", "fp64_unet", "force_fp16", "force_fp32"])
def test_precisions(pack: Pack, edit: dict, flag: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """ComfyUI's flags for the precision of diffusion models. 8 bits are for storing alone: the loader says that it takes another one."""
    from comfy.cli_args import args

    monkeypatch.setattr(args, flag, True)
    model = pack.run("DiffFAELoader")[0]
    dtype = model.model.diffusion_model.dtype
    assert dtype.itemsize > 1
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("model: float8")]
    assert len(said) == (flag in EIGHT_BITS)
    assert all(message.endswith(f"DiffFAE runs in {str(dtype).removeprefix('torch.')}") for message in said)
    # bfloat16 has 8 bits of mantissa, which is 63 dB here; the others have more
    assert psnr(drawn(pack, edit, model=model, steps=2, denoise=0.2), drawn(pack, edit, steps=2, denoise=0.2)) > 55


def test_networks_are_under_memory_management(pack: Pack, edit: dict) -> None:
    import comfy.model_management as mm

    drawn(pack, edit, steps=1)
    before = pack.run("DiffFAEEncodeSlots", image=edit["crop"])[0].slots.tokens
    loaded = [one.model for one in mm.current_loaded_models]
    assert any(one.model is pack.model.model for one in loaded)
    for part in (pack.vae.patcher, pack.bundle.parts["slots"]):
        assert any(one is part for one in loaded)
    mm.unload_all_models()
    assert mm.current_loaded_models == []
    assert torch.equal(pack.run("DiffFAEEncodeSlots", image=edit["crop"])[0].slots.tokens, before)


def test_vae_round_trip(pack: Pack, edit: dict) -> None:
    assert psnr(pack.vae.decode(pack.vae.encode(edit["crop"])), edit["crop"]) >= 30
    whole = portrait("query.png")[:, :501, :399]
    assert pack.vae.encode(whole).shape == (1, pack.vae.latent_channels, 62, 49)
    assert psnr(pack.vae.decode(pack.vae.encode(whole)), whole[:, 2:498, 3:395]) >= 26
    grey = edit["crop"].mean(-1, keepdim=True)
    assert torch.equal(pack.vae.encode(grey), pack.vae.encode(grey.expand(-1, -1, -1, 3)))


def test_previews_have_the_latents_colours(pack: Pack, edit: dict) -> None:
    latent_format = pack.model.model.latent_format
    factors, bias = torch.tensor(latent_format.latent_rgb_factors), torch.tensor(latent_format.latent_rgb_factors_bias)
    shown = torch.einsum("bzhw,zc->bchw", pack.vae.encode(edit["crop"]), factors) + bias[:, None, None]
    wanted = torch.nn.functional.avg_pool2d(edit["crop"].movedim(-1, 1), 8) * 2 - 1
    assert (shown - wanted).abs().mean() < 0.2


# through the server


def stock(comfy: Comfy) -> dict:
    """The edit by core nodes and by ours."""
    return {
        **conditioned(comfy),
        "ours": sampler(),
        "core": core_sampler(),
        "core decoded": node("VAEDecode", samples=link("core"), vae=VAE),
        "noise": node("RandomNoise", noise_seed=0),
        "guider": node("BasicGuider", model=MODEL, conditioning=link("conditioning")),
        "select": node("KSamplerSelect", sampler_name="dpmpp_2m"),
        "sigmas": node("BasicScheduler", model=MODEL, scheduler="normal", steps=3, denoise=1.0),
        "advanced": node(
            "SamplerCustomAdvanced",
            **{"noise": link("noise"), "guider": link("guider"), "sampler": link("select"), "sigmas": link("sigmas")},
            latent_image=link("conditioning", 2),
        ),
        "advanced decoded": node("VAEDecode", samples=link("advanced"), vae=VAE),
        "karras": node("KarrasScheduler", steps=6, sigma_max=1000.0, sigma_min=2.7, rho=7.0),
        "other": node(
            "SamplerCustomAdvanced",
            **{"noise": link("noise"), "guider": link("guider"), "sampler": link("select"), "sigmas": link("karras")},
            latent_image=link("conditioning", 2),
        ),
        "other decoded": node("VAEDecode", samples=link("other"), vae=VAE),
        "empty": node("EmptyLatentImage", width=256, height=256, batch_size=1),
        "from empty": core_sampler(latent_image=link("empty")),
        "empty decoded": node("VAEDecode", samples=link("from empty"), vae=VAE),
        **saved("ours", "core decoded", "advanced decoded", "other decoded", "empty decoded"),
    }


def test_core_samplers_draw_the_same(comfy_each: Comfy) -> None:
    result = comfy_each.run(stock(comfy_each))
    ours, *others = (
        pixels(result.images(f"save {name}")[0]) for name in ("ours", "core decoded", "advanced decoded", "empty decoded", "other decoded")
    )
    for other in others[:3]:  # at pure noise it makes no difference what the start was
        assert psnr(other, ours) > 48
    assert torch.equal(others[0], ours)
    assert torch.equal(others[1], ours)
    assert psnr(others[3], ours) > 27


def test_previews_come_while_sampling(comfy: Comfy) -> None:
    result = comfy.run({**conditioned(comfy), "ours": sampler(steps=8, seed=3), **saved("ours")})
    shown = [preview.image for preview in result.previews if preview.node == "ours"]
    assert len(shown) >= 6
    assert [step.value for step in result.progress if step.node == "ours" and step.max == 8] == list(range(1, 9))
    final = pixels(result.images("save ours")[0].resize((32, 32), Image.Resampling.BOX)).flatten()
    last = pixels(shown[-1].resize((32, 32), Image.Resampling.BOX)).flatten()
    assert torch.corrcoef(torch.stack([final, last]))[0, 1] > 0.9


def test_core_vae_nodes(comfy_each: Comfy) -> None:
    prompt = conditioned(comfy_each)
    keep = {name: prompt[name] for name in ("load", "query")}
    tiles = {"tile_size": 256, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    decoders = {"VAEDecode": {}, "VAEDecodeTiled": tiles}
    graph = {
        **keep,
        "plain": node("VAEEncode", pixels=link("query"), vae=VAE),
        "tiled": node("VAEEncodeTiled", pixels=link("query"), vae=VAE, **tiles),
    }
    for encoder in ("plain", "tiled"):
        for decoder, options in decoders.items():
            graph |= {f"{encoder} {decoder}": node(decoder, samples=link(encoder), vae=VAE, **options), **saved(f"{encoder} {decoder}")}
    result = comfy_each.run(graph)
    pictures = {name: pixels(result.images(f"save {name}")[0]) for name in graph if "VAEDecode" in name and not name.startswith("save")}
    assert len(pictures) == 4
    assert psnr(pictures["plain VAEDecode"], portrait("query.png")[0]) > 27
    for name, picture in pictures.items():
        assert picture.shape == (512, 512, 3)
        assert psnr(picture, pictures["plain VAEDecode"]) > 32, name


def test_inpainting_keeps_what_is_not_masked(comfy: Comfy) -> None:
    """SetLatentNoiseMask and VAEEncodeForInpaint: the right half is drawn, the left half stays."""
    graph = {
        **conditioned(comfy),
        "nothing": node("SolidMask", value=0.0, width=256, height=256),
        "all": node("SolidMask", value=1.0, width=128, height=256),
        "half": node("MaskComposite", destination=link("nothing"), source=link("all"), x=128, y=0, operation="add"),
        "plain": node("VAEEncode", pixels=link("crop"), vae=VAE),
        "masked": node("SetLatentNoiseMask", samples=link("plain"), mask=link("half")),
        "inpaint": node("VAEEncodeForInpaint", pixels=link("crop"), vae=VAE, mask=link("half"), grow_mask_by=6),
        "a": core_sampler(latent_image=link("masked"), steps=5),
        "b": core_sampler(latent_image=link("inpaint"), steps=5),
        "same": node("VAEDecode", samples=link("plain"), vae=VAE),
        "from mask": node("VAEDecode", samples=link("a"), vae=VAE),
        "from inpaint": node("VAEDecode", samples=link("b"), vae=VAE),
        **saved("same", "from mask", "from inpaint"),
    }
    result = comfy.run(graph)
    same, *drawings = (pixels(result.images(f"save {name}")[0]) for name in ("same", "from mask", "from inpaint"))
    for drawing in drawings:
        assert psnr(drawing[:, :96], same[:, :96]) > 35
        assert psnr(drawing[:, 160:], same[:, 160:]) < 25


WRONG_SIZE = "latent_image: is for 512x512 pixels, the conditioning for 256x256; use the LATENT of DiffFAE Conditioning"
WRONG_VAE = "vae: is another model's; wire the VAE of Load DiffFAE"


@pytest.mark.parametrize(
    ("added", "where", "inputs", "message"),
    [
        (node("EmptyLatentImage", width=512, height=512, batch_size=1), "sample", {"latent": link("added")}, WRONG_SIZE),
        (node("VAELoader", vae_name="pixel_space"), "conditioning", {"vae": link("added")}, WRONG_VAE),
    ],
    ids=["latent", "vae"],
)
def test_errors_reach_the_user(comfy_each: Comfy, added: dict, where: str, inputs: dict, message: str) -> None:
    graph = {**conditioned(comfy_each), "added": added, "sample": sampler(), **saved("sample")}
    graph[where]["inputs"] |= inputs
    result = comfy_each.run(graph, expect_error=True)
    assert (result.error.node_id, result.error.exception_message) == (where, message)
    assert result.error.exception_type.split(".")[-1] == "ConfigError"


def test_freed_models_draw_the_same(comfy: Comfy) -> None:
    graph = {**conditioned(comfy), "ours": sampler(seed=11), **saved("ours")}
    (first,) = comfy.run(graph).images("save ours")
    comfy.free()
    again = comfy.run(graph)
    assert "load" in again.executed
    assert again.images("save ours")[0].tobytes() == first.tobytes()


@pytest.fixture(scope="module")
def checkpoints(comfy: Comfy) -> Iterator[Path]:
    folder = comfy.base / "models/difffae"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sub").mkdir(exist_ok=True)
    shutil.copy(CHECKPOINT, folder / "sub/mine.safetensors")
    (folder / "cut.safetensors").write_bytes(CHECKPOINT.read_bytes()[:100_000])
    (folder / "empty.safetensors").write_bytes(b"")
    shutil.copy(ROOT / "difffae/assets/landmarks.safetensors", folder / "foreign.safetensors")
    (folder / "notes.txt").write_text("no model")
    yield folder
    for path in folder.rglob("*.*"):  # the files only: ComfyUI does not look again for folders that it has seen
        path.unlink()


def test_checkpoints_in_the_models_folder(comfy: Comfy, checkpoints: Path) -> None:
    (options, *_) = comfy.object_info("DiffFAELoader")["input"]["required"]["checkpoint"]
    options = options if isinstance(options, list) else comfy.object_info("DiffFAELoader")["input"]["required"]["checkpoint"][1]["options"]
    assert options[:2] == ["open-256", "paper-mini"]
    assert sorted(options[2:]) == ["cut.safetensors", "empty.safetensors", "foreign.safetensors", str(Path("sub/mine.safetensors"))]
    graph = {**conditioned(comfy), "ours": sampler(), **saved("ours")}
    (first,) = comfy.run(graph).images("save ours")
    graph["load"] = node("DiffFAELoader", checkpoint=str(Path("sub/mine.safetensors")))
    (second,) = comfy.run(graph).images("save ours")
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("name", ["cut", "empty", "foreign"])
def test_files_that_are_no_checkpoint(comfy: Comfy, checkpoints: Path, name: str) -> None:
    graph = {**conditioned(comfy), **saved("render"), "load": node("DiffFAELoader", checkpoint=f"{name}.safetensors")}
    error = comfy.run(graph, expect_error=True).error
    assert (error.node_id, error.exception_type.split(".")[-1]) == ("load", "CheckpointError")
    assert f"{name}.safetensors" in error.exception_message
    assert len(error.exception_message.splitlines()) == 1
    missing = comfy.run({**graph, "load": node("DiffFAELoader", checkpoint="gone.safetensors")}, expect_error=True)
    assert (missing.status, missing.error.node_id) == ("rejected", "load")


# Flags for memory, precision, caches and attention that go together with --cpu. --lowvram, --novram, --highvram and --gpu-only do not, and
# by --enable-dynamic-vram ComfyUI itself ends
FLAGS = {
    "stored in 8 bits": ("--fp8_e4m3fn-unet", "--fp16-vae", "--fp16-intermediates", "--cache-none", "--force-channels-last"),
    "bfloat16": ("--bf16-unet", "--bf16-vae", "--disable-smart-memory", "--cache-lru", "1", "--deterministic"),
    "half": ("--force-fp16", "--cpu-vae", "--reserve-vram", "1", "--cache-classic", "--use-split-cross-attention", "--disable-mmap"),
    "double": (
        "--fp64-unet",
        "--fp32-vae",
        "--cache-ram",
        "4",
        "--use-quad-cross-attention",
        "--disable-dynamic-vram",
        "--force-upcast-attention",
    ),
    "fast": (
        "--fp8_e5m2-unet",
        "--supports-fp8-compute",
        "--fast",
        "--high-ram",
        "--disable-pinned-memory",
        "--async-offload",
        "--force-non-blocking",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAGS)
def test_flags_of_the_command_line(comfy: Comfy, tmp_path: Path, name: str) -> None:
    """A whole edit in a ComfyUI that was started with them gives the picture that it gives without."""
    graph = edited(comfy, denoise=0.2)
    (expected,) = comfy.run(graph | saved("paste")).images("save paste")
    with start(find(), tmp_path, flags=FLAGS[name]) as other:
        (picture,) = other.run(edited(other, denoise=0.2) | saved("paste"), timeout=900).images("save paste")
    assert psnr(pixels(picture), pixels(expected)) > 40


def test_tokens_are_plain_data(pack: Pack, edit: dict) -> None:
    """CONDITIONING and LATENT hold tensors and lists only, so that core nodes that copy or batch them work."""
    context, extra = edit["positive"][0]
    assert isinstance(context, Tensor)
    assert all(isinstance(value, Tensor) for value in extra.values())
    assert set(edit["latent"]) == {"samples"}
    assert not dataclasses.is_dataclass(edit["positive"])
