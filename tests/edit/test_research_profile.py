"""The paper's own profile end to end: FLAME and DECA files (synthetic ones of their layout), no carry, a toy denoiser."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from deca_parts import faces_of
from places import SHARED
from small_models import small

from difffae import DiffFAE
from difffae.common.checkpoint import asset_path, save_checkpoint
from difffae.common.errors import CheckpointError, ConfigError
from difffae.common.images import read_image
from difffae.convert.flame import convert
from difffae.edit.description import RegionSwap, Sampling
from difffae.edit.loading import load_parts
from difffae.edit.model import EditModel
from difffae.estimation.deca import Deca, DecaFit
from difffae.faces.landmarker import FaceLandmarker
from difffae.head.adjust import Adjustments
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.lab.prepare.networks import Networks
from difffae.lab.videos import prepare_video
from difffae.lab.videos.clips import Chunk
from difffae.source.identity import IdentityNetwork

GOLDEN = SHARED / "golden"


@pytest.fixture(scope="module")
def files(tmp_path_factory, deca: Deca) -> dict[str, Path]:
    if not (GOLDEN / "flame_like.pkl").is_file():
        pytest.skip("golden numbers are not here")
    folder = tmp_path_factory.mktemp("research")
    head, weights, model = (folder / f"{name}.safetensors" for name in ("flame", "deca", "model"))
    convert([GOLDEN / "flame_like.pkl"], head)
    save_checkpoint(weights, deca.state_dict(), kind="deca", config={}, license="test", source="test")
    parts = small(carry=False)
    EditModel(parts.autoencoder, parts.slots, parts.denoiser, "paper-like", head=HeadModel.load(head).name).save(
        model, license="test", source="test"
    )
    return {"head": head, "deca": weights, "model": model}


@pytest.mark.slow
def test_edit_by_flame_and_deca(files: dict[str, Path]) -> None:
    pipeline = DiffFAE.from_pretrained(files["model"], head=files["head"], deca=files["deca"])
    assert isinstance(pipeline.estimator, DecaFit)
    image, _ = read_image(asset_path("source.png"))
    portrait = pipeline.analyse(image)
    assert portrait.attributes.light.shape == (1, 9, 3)
    assert portrait.attributes.shape.shape == (1, 100)
    assert torch.equal(pipeline.edit(portrait, take=()).image, image)
    # a paper-like model has no photograph to fall back on: every pixel of the square is the model's
    result = pipeline.edit(portrait, pose_from=replace(portrait, attributes=turned(portrait.attributes)), sampling=Sampling(steps=2))
    assert result.image.shape == image.shape
    assert torch.isfinite(result.image).all()
    assert result.render.amax() > 0.05
    assert result.validity.max() == 0
    assert (result.crop - portrait.picture).abs().mean() > 0.02
    with pytest.raises(ConfigError, match="carries no photograph"):
        pipeline.edit(portrait, image, sampling=Sampling(denoise=0))
    with pytest.raises(ConfigError, match="carries no photograph"):
        pipeline.edit(portrait, image, swaps=[RegionSwap(portrait)])


@pytest.mark.slow
def test_renders_show_decas_wrinkles(deca: Deca, surface_head: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = DecaFit(deca, surface_head)
    model = small(carry=False)
    model.head = surface_head.name
    pipeline = DiffFAE(model, surface_head, FaceLandmarker.load(), IdentityNetwork.load(), estimator=fit)
    face = faces_of(surface_head, seed=6)
    with torch.no_grad():
        detailed, plain = render(surface_head, face, 64, fit.surface).image, render(surface_head, face, 64).image
        assert (detailed - plain).abs().mean() > 1e-3
        assert torch.equal(pipeline.render(face).image, detailed)
        assert torch.equal(pipeline.render(replace(face, detail=None)).image, plain)
    # what an edit is told, and what training is: the same render
    portrait = pipeline.analyse(read_image(asset_path("source.png"))[0])
    result = pipeline.edit(replace(portrait, attributes=face), adjust=Adjustments(light_azimuth=40), sampling=Sampling(steps=1))
    assert result.attributes.detail is not None
    assert torch.equal(result.render, render(surface_head, result.attributes, 64, fit.surface).image)
    networks = Networks()
    networks.__dict__ |= {"landmarker": pipeline.landmarker, "estimator": fit, "identity": pipeline.identity}
    monkeypatch.setattr(prepare_video, "load_networks", lambda *files: networks)
    frame = (portrait.picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
    track = prepare_video.FaceTrack(64, 64, [None], {0: portrait.landmarks[0]}, {0: portrait.blendshapes[0]})
    options = prepare_video.VideoOptions(size=64)
    with torch.no_grad():
        (files,) = prepare_video.frame_files([frame], [0], Chunk(0, 1, (0, 0, 64, 64)), track, options)
        stored = prepare_video.decode_frame(files)
        names = ("shape", "albedo", "pose", "camera", "expression", "light", "detail")
        again = FaceAttributes(surface_head.name, **{name: stored[name][None] for name in names})
        drawn = render(surface_head, again, 64, fit.surface).image[0].clamp(0, 1) * 255
    assert (drawn - stored["render"].float()).abs().max() <= 0.51
    assert options.describe()["detail"] is True


def turned(attributes):
    pose = attributes.pose.clone()
    pose[:, 0, 1] += 0.3
    return replace(attributes, pose=pose)


@pytest.mark.slow
def test_files_beside_the_model_are_found(files: dict[str, Path]) -> None:
    assert files["head"].name == f"{HeadModel.load(files['head']).name}.safetensors"
    parts = load_parts(files["model"])
    assert list(parts.estimators) == ["fit"]
    assert isinstance(parts.estimators["fit"], DecaFit)
    assert parts.estimators["fit"].head is parts.head
    assert parts.files["estimator"] == files["deca"]
    assert parts.licenses()["estimator"] == "test"
    assert isinstance(DiffFAE.from_pretrained(files["model"]).estimator, DecaFit)


def test_files_that_do_not_belong_together(files: dict[str, Path], tmp_path: Path) -> None:
    alone = shutil.copy(files["model"], tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="trained with renders of"):
        DiffFAE.from_pretrained(alone)
    with pytest.raises(CheckpointError, match="give DECA's weights with --deca"):
        DiffFAE.from_pretrained(files["model"], head=files["head"])
    with pytest.raises(CheckpointError, match="trained with renders of 'open'"):
        DiffFAE.from_pretrained("open-256", head=files["head"], deca=files["deca"])
