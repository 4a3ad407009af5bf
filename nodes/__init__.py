"""The pack's nodes: thin adapters over the library `difffae`, one file each."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.v0_0_2 import ComfyExtension, io

from .adjust_attributes import DiffFAEAdjustAttributes
from .animate_portrait import DiffFAEAnimatePortrait
from .carry_photo import DiffFAECarryPhoto
from .compose_attributes import DiffFAEComposeAttributes
from .conditioning import DiffFAEConditioning
from .crop_face import DiffFAECropFace
from .edit_face import DiffFAEEditFace
from .edit_video import DiffFAEEditVideo
from .encode_slots import DiffFAEEncodeSlots
from .estimate_attributes import DiffFAEEstimateAttributes
from .example_portrait import DiffFAEExamplePortrait
from .from_flame_params import DiffFAEFromFlameParams
from .identity_token import DiffFAEIdentityToken
from .load_recipe import DiffFAELoadRecipe
from .loader import DiffFAELoader
from .paste_back import DiffFAEPasteBack
from .render_face import DiffFAERenderFace
from .report import DiffFAEReport
from .sampler import DiffFAESampler
from .save_image import DiffFAESaveImage
from .smooth_attributes import DiffFAESmoothAttributes
from .swap_slots import DiffFAESwapSlots
from .sweep_attributes import DiffFAESweepAttributes
from .to_flame_params import DiffFAEToFlameParams

NODES: list[type[io.ComfyNode]] = [
    DiffFAEEditFace,
    DiffFAELoader,
    DiffFAECropFace,
    DiffFAEEstimateAttributes,
    DiffFAEComposeAttributes,
    DiffFAEAdjustAttributes,
    DiffFAESweepAttributes,
    DiffFAESmoothAttributes,
    DiffFAEToFlameParams,
    DiffFAEFromFlameParams,
    DiffFAERenderFace,
    DiffFAECarryPhoto,
    DiffFAEEncodeSlots,
    DiffFAESwapSlots,
    DiffFAEIdentityToken,
    DiffFAEConditioning,
    DiffFAESampler,
    DiffFAEPasteBack,
    DiffFAEAnimatePortrait,
    DiffFAEEditVideo,
    DiffFAEReport,
    DiffFAESaveImage,
    DiffFAELoadRecipe,
    DiffFAEExamplePortrait,
]


class DiffFAEExtension(ComfyExtension):
    async def on_load(self) -> None:
        folder = os.path.join(folder_paths.models_dir, "difffae")
        paths, _ = folder_paths.folder_names_and_paths.get("difffae", ([], set()))
        if folder not in paths:
            paths = [*paths, folder]
        folder_paths.folder_names_and_paths["difffae"] = (paths, {".safetensors"})
        from .example_input import put_examples
        from .live_preview import add_routes

        put_examples(folder_paths.get_input_directory())
        add_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
