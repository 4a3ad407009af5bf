"""The recipe of a picture, from the graph that made it, and files that carry it.

Shape letters: B pictures, H and W their sides.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
from comfy.cli_args import args
from comfy_api.v0_0_2 import io, ui
from comfyui_version import __version__ as comfyui_version
from PIL import Image
from torch import Tensor

from ..difffae.common.errors import ImageError
from ..difffae.common.files import atomic_write
from ..difffae.edit.recipe import Recipe, pnginfo, software
from ..difffae.head.attributes import FaceAttributes
from .bundle import Bundle
from .sockets import Report


def upstream(prompt: Mapping[str, Any], node: str) -> list[str]:
    """Ids of the nodes that `node` depends on, in an order in which they can run; `node` itself is left out."""
    order: list[str] = []
    waiting = [(str(node), False)]
    while waiting:
        current, done = waiting.pop()
        if current in order or current not in prompt:
            continue
        if done:
            order.append(current)
            continue
        waiting.append((current, True))
        links = [value for value in prompt[current].get("inputs", {}).values() if isinstance(value, list) and len(value) == 2]
        waiting += [(str(link[0]), False) for link in reversed(links)]
    return order[:-1]


def recipe_of(
    prompt: Mapping[str, Any], node: str, bundle: Bundle | None, attributes: FaceAttributes | None, report: Report | None, batch: int
) -> Recipe:
    """What the nodes before this one did: their settings, without wires. Identity distances are left out if their number does not fit."""
    steps = []
    for name in upstream(prompt, node):
        inputs = prompt[name].get("inputs", {})
        settings = {key: value for key, value in inputs.items() if isinstance(value, str | int | float | bool)}
        if settings:
            steps.append({"node": prompt[name]["class_type"], **settings})
    checkpoint = None
    if bundle is not None:
        checkpoint = {
            "name": bundle.name,
            "sha256": bundle.sha256,
            "license": bundle.licenses["checkpoint"],
            "identity": bundle.identity_name,
        }
    distances: list[float | None] | None = None
    if report is not None:
        found = [row.value for frame in report.rows for row in frame if row.key == "identity"]
        distances = [None if math.isnan(value) else round(value, 4) for value in found] if len(found) in (1, batch) else None
    if attributes is not None and len(attributes) not in (1, batch):
        raise ImageError(f"attributes: has {len(attributes)} frames, but images has {batch}; give 1, or as many")
    return Recipe(
        software=software(comfyui=comfyui_version),
        checkpoint=checkpoint,
        steps=steps,
        attributes=None if attributes is None else json.loads(attributes.to_json()),
        identity_distance=distances,
    )


def save_pictures(images: Tensor, prefix: str, recipe: Recipe, hidden: io.HiddenHolder) -> ui.SavedImages:
    """PNG files in ComfyUI's output folder, each with its frame's recipe and, unless ComfyUI runs with --disable-metadata, the workflow.
    A file appears whole or not at all."""
    height, width = images.shape[1:3]
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory(), width, height)
    texts = {}
    if not args.disable_metadata:
        texts = {"prompt": hidden.prompt} | (hidden.extra_pnginfo or {})
    extra = {key: json.dumps(value) for key, value in texts.items() if value is not None}
    saved = []
    for index, image in enumerate(images):
        bytes_ = image.float().nan_to_num().mul(255).round().clamp(0, 255).cpu().numpy().astype(np.uint8)
        pixels = Image.fromarray(bytes_[..., 0] if bytes_.shape[-1] == 1 else bytes_)
        path = Path(folder) / f"{name.replace('%batch_num%', str(index))}_{counter + index:05}_.png"
        with atomic_write(path) as temporary:
            pixels.save(temporary, "PNG", pnginfo=pnginfo(recipe.frame(index), extra), compress_level=4)
        saved.append(ui.SavedResult(path.name, subfolder, io.FolderType.output))
    return ui.SavedImages(saved)
