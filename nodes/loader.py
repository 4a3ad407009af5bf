"""Load a DiffFAE checkpoint as MODEL, VAE and DIFFFAE."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.v0_0_2 import io

from ..difffae.vocabulary import BUNDLED_MODELS
from .sockets import BundleSocket


class DiffFAELoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAELoader",
            display_name="Load DiffFAE",
            category="DiffFAE",
            description="Loads a face editing model. open-256 and paper-mini come with the pack and need no download; others are "
            ".safetensors files in models/difffae.",
            search_aliases=["face editor", "expression editor", "load face model", "portrait edit", "difffae"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=[*BUNDLED_MODELS, *folder_paths.get_filename_list("difffae")],
                    default=BUNDLED_MODELS[0],
                    tooltip="open-256 is built in: small, open and offline. So is paper-mini, the paper's own structure at 128x128, for study. "
                    "Files in models/difffae appear below them.",
                )
            ],
            outputs=[
                io.Model.Output(tooltip="The denoiser, for KSampler or DiffFAE Sampler."),
                io.Vae.Output(tooltip="The first stage, for VAE Encode and VAE Decode."),
                BundleSocket.Output(
                    "difffae", display_name="difffae", tooltip="Landmarks, 3D head, slots and identity, for all other DiffFAE nodes."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str) -> str:
        if checkpoint in BUNDLED_MODELS:
            return checkpoint
        path = Path(folder_paths.get_full_path_or_raise("difffae", checkpoint))
        return f"{path}:{path.stat().st_mtime_ns}"

    @classmethod
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        from .open_checkpoint import open_checkpoint

        path = None if checkpoint in BUNDLED_MODELS else Path(folder_paths.get_full_path_or_raise("difffae", checkpoint))
        return io.NodeOutput(*open_checkpoint(checkpoint, path))
