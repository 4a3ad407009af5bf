"""The pack's socket types and what travels on them.

Shape letters: B frames, I identity size.
Every payload keeps the order of the frames; a payload of one frame serves any number of them.

DIFFFAE          Bundle (bundle.py): the networks of one profile but for denoiser and first stage, which are MODEL and VAE
DIFFFAE_CROP     difffae.Faces: the squares that were cut out, and the landmarks in them
FACE_ATTRIBUTES  difffae.FaceAttributes: the numbers of a 3D head, B faces
SLOT_TOKENS      difffae.Faces with slots, and with the swaps that were asked for
IDENTITY_TOKEN   tensor (B,I)
DIFFFAE_CARRY    difffae.edit.description.MovedPhoto
DIFFFAE_REPORT   Report
FACE_LANDMARKS   ComfyUI's own (MediaPipe nodes); read, never made
SEGS             of Impact Pack's detectors: ((height, width), segments), each with a bbox of x0, y0, x1, y1; read, never made
FLAME_PARAMS     of comfyui-face3d: a dict of tensors, see difffae/head/flame_params.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.v0_0_2 import io

if TYPE_CHECKING:
    from ..difffae.report.results import Row

BundleSocket = io.Custom("DIFFFAE")
CropSocket = io.Custom("DIFFFAE_CROP")
AttributesSocket = io.Custom("FACE_ATTRIBUTES")
TokensSocket = io.Custom("SLOT_TOKENS")
IdentitySocket = io.Custom("IDENTITY_TOKEN")
CarrySocket = io.Custom("DIFFFAE_CARRY")
ReportSocket = io.Custom("DIFFFAE_REPORT")
LandmarksSocket = io.Custom("FACE_LANDMARKS")
SegsSocket = io.Custom("SEGS")
FlameParamsSocket = io.Custom("FLAME_PARAMS")


@dataclass(frozen=True, eq=False)
class Report:
    """rows: for every frame, what was measured on it."""

    rows: list[list[Row]]

    def mean(self, *keys: str) -> float:
        """Mean over frames and keys of what could be measured; NaN where nothing could."""
        values = [row.value for frame in self.rows for row in frame if row.key in keys and not math.isnan(row.value)]
        return sum(values) / len(values) if values else math.nan

    def text(self) -> str:
        """For people: one frame with its notes, or the means of many."""
        if len(self.rows) == 1:
            return "\n".join(f"{row.label}: {row.value:.3f} ({row.note})" for row in self.rows[0])
        means = [f"{row.label}: {self.mean(row.key):.3f}" for row in self.rows[0]]
        return "\n".join([f"means of {len(self.rows)} frames", *means])
