"""The paper's own profile end to end: FLAME and DECA files (synthetic ones of their layout), no carry, a toy denoiser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_deca import deca, randomize, unset  # noqa: F401  (a fixture and its helpers)
from test_model import small

from difffae import DiffFAE
from difffae.checkpoint import asset_path, save_checkpoint
from difffae.convert.flame import convert
from difffae.deca import Deca, DecaFit
from difffae.errors import CheckpointError, ConfigError
from difffae.images import read_image
from difffae.model import EditModel

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"


@pytest.fixture(scope="module")
def files(tmp_path_factory, deca: Deca) -> dict[str, Path]:  # noqa: F811
    if not (GOLDEN / "flame_like.pkl").is_file():
        pytest.skip("golden numbers are not here")
    folder = tmp_path_factory.mktemp("research")
    head, weights, model = (folder / f"{name}.safetensors" for name in ("flame", "deca", "model"))
    convert([GOLDEN / "flame_like.pkl"], head)
    save_checkpoint(weights, deca.state_dict(), kind="deca", config={}, license="test", source="test")
    from difffae.head import HeadModel

    parts = small(carry=False)
    EditModel(parts.autoencoder, parts.slots, parts.denoiser, "paper-like", head=HeadModel.load(head).name).save(
        model, license="test", source="test"
    )
    return {"head": head, "deca": weights, "model": model}


def test_edit_by_flame_and_deca(files: dict[str, Path]) -> None:
    pipeline = DiffFAE.from_pretrained(files["model"], head=files["head"], deca=files["deca"])
    assert isinstance(pipeline.estimator, DecaFit)
    image, _ = read_image(asset_path("source.png"))
    portrait = pipeline.analyse(image)
    assert portrait.attributes.light.shape == (1, 9, 3)
    assert portrait.attributes.shape.shape == (1, 100)
    assert torch.equal(pipeline.edit(portrait, take=()).image, image)
    # a paper-like model has no photograph to fall back on: every pixel of the square is the model's
    result = pipeline.edit(portrait, pose_from=replace(portrait, attributes=turned(portrait.attributes)), steps=2)
    assert result.image.shape == image.shape
    assert torch.isfinite(result.image).all()
    assert result.render.amax() > 0.05
    assert result.validity.max() == 0
    assert (result.crop - portrait.picture).abs().mean() > 0.02
    with pytest.raises(ConfigError, match="carries no photograph"):
        pipeline.edit(portrait, image, preview=True)


def turned(attributes):
    pose = attributes.pose.clone()
    pose[:, 0, 1] += 0.3
    return replace(attributes, pose=pose)


def test_files_that_do_not_belong_together(files: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match="trained with renders of"):
        DiffFAE.from_pretrained(files["model"])
    with pytest.raises(CheckpointError, match="give DECA's weights with --deca"):
        DiffFAE.from_pretrained(files["model"], head=files["head"])
    with pytest.raises(CheckpointError, match="trained with renders of 'open'"):
        DiffFAE.from_pretrained("open-256", head=files["head"], deca=files["deca"])
