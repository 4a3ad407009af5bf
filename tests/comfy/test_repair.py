"""Checkpoints of other people paint what no photograph showed, through stock nodes, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_checkpoints
from client import Comfy, Result
from inprocess import Pack
from test_workflows import added, find, picture, prompt, seen

SMALL = 128  # of the square that is painted; the real ones are 512 and more


@pytest.fixture(scope="module")
def files(comfy: Comfy, pack: Pack) -> None:
    """pack: ComfyUI's own modules, which say what the checkpoints' layouts are."""
    models = comfy.base / "models"
    tiny_checkpoints.sd15_inpainting(models / "checkpoints" / "tiny.safetensors")
    tiny_checkpoints.sdxl_inpainting(models / "checkpoints" / "tiny_xl.safetensors")
    tiny_checkpoints.flux_fill(*(models / folder / "tiny.safetensors" for folder in ("diffusion_models", "vae", "text_encoders")))


def shrunk(graph: dict[str, Any]) -> dict[str, Any]:
    """The same at a size that two CPU cores paint at once."""
    graph[find(graph, "ImageScale")]["inputs"] |= {"width": SMALL, "height": SMALL}
    graph[find(graph, "KSampler")]["inputs"]["steps"] = 2
    return graph


def check(graph: dict[str, Any], comfy: Comfy) -> Result:
    moved, repaired = find(graph, "DiffFAEPasteBack", "The moved photograph"), find(graph, "SaveImage", "Result")
    before, mask = seen(graph, moved), added(graph, "MaskPreview", mask=[moved, 3])
    result = comfy.run(graph)
    first, last = picture(result, before), picture(result, repaired)
    unseen = picture(result, mask)[..., 0]
    assert first.shape == last.shape == (384, 384, 3)
    assert 0.01 < (unseen > 0.5).mean() < 0.4
    changed = np.abs(last - first).max(-1)
    # the mask goes through the square's own size, so that its edge is as wide as a pixel of that
    edge = np.zeros_like(unseen, bool)
    rows, columns = np.nonzero(unseen > 0)
    for row, column in zip(rows, columns, strict=True):
        edge[max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5] = True
    assert changed[~edge].max() <= 1 / 255
    # weights of chance paint noise, which is no skin and no wall
    assert changed[unseen > 0.98].mean() > 0.05
    return result


@pytest.mark.slow
def test_stable_diffusion_inpainting(comfy: Comfy, files: None) -> None:
    graph = shrunk(prompt("repair_sd_inpainting"))
    graph[find(graph, "CheckpointLoaderSimple")]["inputs"]["ckpt_name"] = "tiny.safetensors"
    check(graph, comfy)


@pytest.mark.slow
def test_sdxl_inpainting(comfy: Comfy, files: None) -> None:
    """The same template with another file, as its note says."""
    graph = shrunk(prompt("repair_sd_inpainting"))
    graph[find(graph, "CheckpointLoaderSimple")]["inputs"]["ckpt_name"] = "tiny_xl.safetensors"
    check(graph, comfy)


@pytest.mark.slow
def test_flux_fill(comfy: Comfy, files: None) -> None:
    graph = shrunk(prompt("repair_flux_fill"))
    for kind, name in (("UNETLoader", "unet_name"), ("VAELoader", "vae_name")):
        graph[find(graph, kind)]["inputs"][name] = "tiny.safetensors"
    graph[find(graph, "DualCLIPLoader")] |= {
        "class_type": "CLIPLoader",
        "inputs": {"clip_name": "tiny.safetensors", "type": "stable_diffusion"},
    }
    check(graph, comfy)
