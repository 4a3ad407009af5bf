"""To and From FLAME_PARAMS with a checkpoint of a FLAME head: random stand-ins of FLAME and DECA, since theirs are licensed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from client import Comfy
from deca_parts import deca, surface_head  # noqa: F401  (fixtures)
from graphs import BUNDLE, SOURCE, link, node, saved
from inprocess import Pack
from pictures import portrait, raises
from small_models import small

from difffae.common.checkpoint import save_checkpoint
from difffae.edit.model import EditModel
from difffae.estimation.deca import Deca
from difffae.head.morphable import HeadModel

# what comfyui-face3d's nodes ask of each field, for B faces
SIZES = {"shape": 100, "expression": 50, "pose": 6, "scale": 1, "translation": 3}


def write_files(folder: Path, deca: Deca, head: HeadModel) -> Path:  # noqa: F811
    """A model of random weights whose head is FLAME, with the files that it needs beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"license": "test", "source": "test"}
    save_checkpoint(folder / f"{head.name}.safetensors", dict(head.named_buffers()), kind="head", config=head.config, **about)
    save_checkpoint(folder / "deca.safetensors", deca.state_dict(), kind="deca", config={}, **about)
    parts = small(carry=False)
    path = folder / "flame-toy.safetensors"
    EditModel(parts.autoencoder, parts.slots, parts.denoiser, "flame-toy", head=head.name).save(path, **about)
    return path


@pytest.fixture(scope="module")
def bundle(pack: Pack, deca: Deca, surface_head: HeadModel, tmp_path_factory) -> dict[str, Any]:  # noqa: F811
    path = write_files(tmp_path_factory.mktemp("flame"), deca, surface_head)
    return {"difffae": pack.module("open_checkpoint").open_checkpoint("flame-toy", path)[2]}


def test_numbers_go_out_and_come_back(pack: Pack, bundle: dict[str, Any]) -> None:
    two = torch.cat([portrait("source.png"), portrait("source.png").flip(2)])
    picture, _, crop = pack.run("DiffFAECropFace", **bundle, image=two)
    (own,) = pack.run("DiffFAEEstimateAttributes", **bundle, image=picture, crop=crop)
    (params,) = pack.run("DiffFAEToFlameParams", **bundle, attributes=own)
    assert {name: tuple(value.shape) for name, value in params.items() if name != "fix_z_trans"} == {n: (2, s) for n, s in SIZES.items()}
    assert all(value.dtype == torch.float32 and value.device.type == "cpu" for name, value in params.items() if name in SIZES)
    library = pack.library("head.flame_params").to_flame_params(bundle["difffae"].head, own)
    assert all(torch.equal(params[name], library[name]) for name in SIZES)
    (back,) = pack.run("DiffFAEFromFlameParams", **bundle, flame_params=params, attributes=own)
    for name, value in own.tensors().items():
        torch.testing.assert_close(getattr(back, name), value, rtol=5e-7 if name == "camera" else 0, atol=1e-8 if name == "camera" else 0)
    # an edit of comfyui-face3d: a wider jaw and twice the size
    edited = params | {"pose": params["pose"] + torch.tensor([0, 0, 0, 0.2, 0, 0]), "scale": params["scale"] * 2}
    (wider,) = pack.run("DiffFAEFromFlameParams", **bundle, flame_params=edited, attributes=own[0])
    rows = own.pose.clone()
    rows[:, 2, 0] += 0.2
    rows[:, 3:] = own.pose[:1, 3:]
    torch.testing.assert_close(wider.pose, rows)
    torch.testing.assert_close(wider.camera[:, 0], own.camera[:, 0] * 2)


def test_the_open_head_says_what_to_load(pack: Pack, bundle: dict[str, Any]) -> None:
    picture, _, crop = pack.run("DiffFAECropFace", image=portrait("source.png"))
    (own,) = pack.run("DiffFAEEstimateAttributes", image=picture, crop=crop)
    wrong = "difffae: its head model 'open' is not FLAME, whose numbers FLAME_PARAMS are"
    advice = f"{wrong}; load a checkpoint with a FLAME head, see docs/own-files.md"
    with raises(pack, "HeadModelMismatchError", advice):
        pack.run("DiffFAEToFlameParams", attributes=own)
    params = {name: torch.ones(1, size) for name, size in SIZES.items()} | {"fix_z_trans": False}
    with raises(pack, "HeadModelMismatchError", advice):
        pack.run("DiffFAEFromFlameParams", flame_params=params)
    with raises(pack, "HeadModelMismatchError", "attributes: made for head model 'open', but difffae has 'flame'; use one checkpoint"):
        pack.run("DiffFAEToFlameParams", **bundle, attributes=own)
    with raises(pack, "ConfigError", "flame_params: lacks its fields; wire FLAME_PARAMS of comfyui-face3d or of To FLAME_PARAMS"):
        pack.run("DiffFAEFromFlameParams", **bundle, flame_params="something")


@pytest.fixture
def installed(comfy: Comfy, deca: Deca, surface_head: HeadModel) -> Iterator[Path]:  # noqa: F811
    """The model in ComfyUI's folder, which other tests share."""
    folder = comfy.base / "models" / "difffae"
    before = set(folder.glob("*"))
    yield write_files(folder, deca, surface_head)
    for path in set(folder.glob("*")) - before:
        path.unlink()


def test_a_turned_head_is_drawn_in_its_place(comfy: Comfy, installed: Path) -> None:
    """In a graph: what went through FLAME_PARAMS renders as what did not, also after Adjust."""
    path = installed
    graph = {
        "load": node("DiffFAELoader", checkpoint=path.name),
        "source": node("LoadImage", image=comfy.upload(SOURCE)),
        "crop": node("DiffFAECropFace", difffae=BUNDLE, image=link("source"), face=0, missing_face="error", smoothing=0.0),
        "own": node("DiffFAEEstimateAttributes", difffae=BUNDLE, image=link("crop"), crop=link("crop", 2)),
        "params": node("DiffFAEToFlameParams", difffae=BUNDLE, attributes=link("own")),
        "back": node("DiffFAEFromFlameParams", difffae=BUNDLE, flame_params=link("params"), attributes=link("own")),
        "plain": node("DiffFAEFromFlameParams", difffae=BUNDLE, flame_params=link("params")),
    }
    for name in ("own", "back", "plain"):
        graph[f"render {name}"] = node("DiffFAERenderFace", difffae=BUNDLE, attributes=link(name), shading="textured", size=256)
    result = comfy.run(graph | saved("render own", "render back", "render plain"))
    own, back, plain = (np.asarray(result.images(f"save render {name}")[0].convert("RGB"), np.float32) for name in ("own", "back", "plain"))
    assert (own > 0).mean() > 0.05
    # the camera's last bit may move a pixel on an edge
    assert (np.abs(own - back).max(-1) > 1).mean() < 1e-3
    assert ((own > 0).any(-1) != (plain > 0).any(-1)).mean() < 0.01
    assert np.abs(own - plain).mean() > 1  # its own light is missing
    refused = comfy.run(graph | {"load": node("DiffFAELoader", checkpoint="open-256")} | saved("render back"), expect_error=True)
    assert refused.error.node_type == "DiffFAEToFlameParams"
    assert "load a checkpoint with a FLAME head" in refused.error.exception_message
