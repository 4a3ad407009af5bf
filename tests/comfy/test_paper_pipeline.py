"""The paper's own way in the nodes: a model that is shown no photograph paints everything from noise, and says so where it cannot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from inprocess import Pack
from pictures import frame, raises


@pytest.fixture(scope="module")
def loaded(pack: Pack) -> dict[str, Any]:
    return dict(zip(("model", "vae", "difffae"), pack.run("DiffFAELoader", checkpoint="paper-mini"), strict=True))


def test_the_loader_lists_it_after_the_default(pack: Pack) -> None:
    (checkpoint,) = pack.nodes["DiffFAELoader"].define_schema().inputs
    assert checkpoint.options[:2] == ["open-256", "paper-mini"]
    assert checkpoint.default == "open-256"


def test_edit_face_paints_everything(pack: Pack, loaded: dict[str, Any]) -> None:
    image = frame("900x600", "one")[0]
    result = pack.run("DiffFAEEditFace", image=image, checkpoint="paper-mini", diffusion=True, yaw=15.0, **loaded)[0]
    crop = pack.run("DiffFAECropFace", difffae=loaded["difffae"], image=image)[2]
    (square,) = crop.squares
    changed = (result - image).abs().amax(-1)[0]
    inside = torch.zeros_like(changed, dtype=torch.bool)
    inside[square.top : square.top + square.side, square.left : square.left + square.side] = True
    assert result.shape == image.shape
    assert changed[inside].mean() > 0.03
    assert changed[~inside].max() == 0


def test_without_a_photograph_nothing_is_moved(pack: Pack, loaded: dict[str, Any]) -> None:
    image, bundle = frame("900x600", "one")[0], {"difffae": loaded["difffae"]}
    alone = "difffae: paper-mini carries no photograph that could be moved alone; turn diffusion on, or wire model and vae"
    with raises(pack, "ConfigError", alone):
        pack.run("DiffFAEEditFace", image=image, checkpoint="paper-mini", diffusion=False, yaw=15.0, **loaded)
    picture, _, crop = pack.run("DiffFAECropFace", **bundle, image=image)
    (attributes,) = pack.run("DiffFAEEstimateAttributes", **bundle, image=picture, crop=crop)
    with raises(pack, "ConfigError", "difffae: paper-mini is shown no photograph; leave Carry Photo out, and set denoise to 1"):
        pack.run("DiffFAECarryPhoto", **bundle, image=picture, source=attributes, target=attributes, crop=crop)
    with raises(pack, "ConfigError", "denoise: model 'paper-mini' carries no photograph to keep; leave denoise out, or set it to 1"):
        painter = pack.module("clips").Painter(loaded["difffae"], loaded["model"], loaded["vae"])
        painter.sampling(pack.library("edit.description").Sampling(denoise=0.2))
