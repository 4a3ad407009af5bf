"""Checkpoints of other kinds than open-256: 512 pixels, and another encoder of the source in the slots' place."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from inprocess import Pack
from pictures import portrait


def toy_file(pack: Pack, path: Path, sample_size: int, other_encoder: bool = False) -> Path:
    """A model of random weights without carry, whose crops have 8 * sample_size pixels a side."""
    names = ("diffusion.autoencoder", "diffusion.denoiser", "source.slots", "edit.model", "source.other_encoders")
    autoencoder, denoiser, slots, model, encoders = map(pack.library, names)
    torch.manual_seed(0)
    sizes = {"latent_channels": 4, "width": 16, "deep_width": 16, "encoder_blocks": (1, 1), "decoder_blocks": (1, 1), "norm_groups": 4}
    first = autoencoder.Autoencoder(autoencoder.AutoencoderConfig(**sizes))
    config = denoiser.DenoiserConfig(
        sample_size=sample_size, block_channels=(32, 32), attention_levels=(False, True), norm_groups=8, identity_size=128
    )
    encoder = slots.SlotEncoder(slots.SlotsConfig.open_256())
    if other_encoder:
        encoder = encoders.SourceEncoder("vae", encoders.LatentBackbone(first), (sample_size // encoders.PATCH) ** 2, config.token_size)
    model.EditModel(first, encoder, denoiser.Denoiser(config), "toy").save(path, license="test", source="test")
    return path


def opened(pack: Pack, path: Path) -> dict[str, Any]:
    return dict(zip(("model", "vae", "difffae"), pack.module("open_checkpoint").open_checkpoint("toy", path), strict=True))


def test_a_512_model_edits_at_512(pack: Pack, tmp_path: Path) -> None:
    path = toy_file(pack, tmp_path / "toy.safetensors", 64)
    loaded = opened(pack, path)
    bundle = {"difffae": loaded["difffae"]}
    image = portrait("source.png")
    picture, _, crop = pack.run("DiffFAECropFace", **bundle, image=image)
    assert picture.shape == (1, 512, 512, 3)
    (own,) = pack.run("DiffFAEEstimateAttributes", **bundle, image=picture, crop=crop)
    # the same numbers as in Python, and as at 256
    library = pack.library("edit.editor").DiffFAE.from_pretrained(path).analyse(image[0].movedim(-1, 0)).attributes
    small, _, small_crop = pack.run("DiffFAECropFace", image=image)
    (at_256,) = pack.run("DiffFAEEstimateAttributes", image=small, crop=small_crop)
    for name, values in own.tensors().items():
        torch.testing.assert_close(values.cpu(), library.tensors()[name], atol=1e-4, rtol=0)
        torch.testing.assert_close(values.cpu(), at_256.tensors()[name].cpu(), atol=5e-3, rtol=0)
    slots, *masks = pack.run("DiffFAEEncodeSlots", **bundle, image=picture)
    assert masks[0].shape == (1, 512, 512)
    (identity,) = pack.run("DiffFAEIdentityToken", **bundle, image=picture, crop=crop)
    render = pack.run("DiffFAERenderFace", **bundle, attributes=own, size=512)[0]
    positive, _, latent = pack.run("DiffFAEConditioning", vae=loaded["vae"], slots=slots, identity=identity, render=render)
    edited = pack.run("DiffFAESampler", model=loaded["model"], vae=loaded["vae"], positive=positive, latent=latent, steps=1)[0]
    assert edited.shape == (1, 512, 512, 3)
    pasted = pack.run("DiffFAEPasteBack", original=image, edited=edited, crop=crop)[0]
    assert pasted.shape == image.shape
    assert (pasted - image).abs().mean() > 0.02


def test_a_model_without_slots_says_so(pack: Pack, tmp_path: Path) -> None:
    bundle = {"difffae": opened(pack, toy_file(pack, tmp_path / "toy.safetensors", 32, other_encoder=True))["difffae"]}
    picture, _, crop = pack.run("DiffFAECropFace", **bundle, image=portrait("source.png"))
    (own,) = pack.run("DiffFAEEstimateAttributes", **bundle, image=picture, crop=crop)
    assert pack.run("DiffFAERenderFace", **bundle, attributes=own)[1].mean() > 0.1
    with pytest.raises(pack.library("common.errors").ConfigError, match="toy was trained with another encoder of the source"):
        pack.run("DiffFAEEncodeSlots", **bundle, image=picture)


def test_the_estimator_network_is_a_choice_of_the_open_heads_models_alone(pack: Pack) -> None:
    picture, _, crop = pack.run("DiffFAECropFace", image=portrait("source.png"))
    (fit,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
    (network,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop, estimator="network")
    assert not torch.equal(network.pose, fit.pose)
    assert (network.pose - fit.pose).abs().max() < 0.07  # 4 degrees
    assert (network.expression - fit.expression).abs().mean() < 0.03
    bundle = dataclasses.replace(pack.bundle, parts={name: part for name, part in pack.bundle.parts.items() if name != "network"})
    with pytest.raises(Exception, match="has a head model of its own"):
        pack.run("DiffFAEEstimateAttributes", difffae=bundle, image=picture, crop=crop, estimator="network")


def test_networks_that_share_modules_move_together(pack: Pack, tmp_path: Path) -> None:
    """The fit of open-256 has the slots, the matte and the head of the bundle; of two patchers one would move them away from the other."""
    parts = pack.bundle.parts
    assert pack.bundle.estimator.hair.slots is pack.bundle.slots
    assert pack.bundle.estimator.hair.matte is pack.bundle.matte
    assert pack.bundle.network.head is pack.bundle.head
    held = {id(part): {id(module) for module in part.model.modules()} for part in parts.values()}
    assert len(held) == 3
    assert len(set.union(*held.values())) == sum(map(len, held.values()))
    # another model has slots of its own, and still one matte and one head
    other = opened(pack, toy_file(pack, tmp_path / "toy.safetensors", 32))["difffae"]
    assert other.estimator.hair.slots is not other.slots
    assert other.estimator.hair.matte is other.matte
    assert other.network.head is other.head
    assert other.licenses["checkpoint"] == "test"
