"""The pack's socket types and what travels on them.

Shape letters: B frames, S slots, D token size, I identity size, h and w latent sides (32), C crop side in pixels (256).
Every payload keeps the order of the frames; a payload of one frame serves any number of them.

DIFFFAE          Bundle (bundle.py): the networks of one profile but for denoiser and first stage, which are MODEL and VAE
DIFFFAE_CROP     Crop: the squares that were cut out, and the landmarks in them
FACE_ATTRIBUTES  difffae.FaceAttributes: the numbers of a 3D head, B faces
SLOT_TOKENS      Tokens
IDENTITY_TOKEN   tensor (B,I)
DIFFFAE_CARRY    Carry
DIFFFAE_REPORT   Report
FACE_LANDMARKS   ComfyUI's own (MediaPipe nodes); read, never made
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..difffae.faces.crop import FaceCrop

if TYPE_CHECKING:
    from ..difffae.edit.report import Row

BundleSocket = io.Custom("DIFFFAE")
CropSocket = io.Custom("DIFFFAE_CROP")
AttributesSocket = io.Custom("FACE_ATTRIBUTES")
TokensSocket = io.Custom("SLOT_TOKENS")
IdentitySocket = io.Custom("IDENTITY_TOKEN")
CarrySocket = io.Custom("DIFFFAE_CARRY")
ReportSocket = io.Custom("DIFFFAE_REPORT")
LandmarksSocket = io.Custom("FACE_LANDMARKS")


@dataclass(frozen=True, eq=False)
class Crop:
    """squares, one per frame; picture (B,3,C,C) what they show; known (B,1,C,C), 0 where a square left its picture; landmarks (B,478,3) in
    crop pixels; blendshapes (B,52); original (B,H,W,C) the IMAGE they were cut from, or None for pictures that were squares already."""

    squares: list[FaceCrop]
    picture: Tensor
    known: Tensor
    landmarks: Tensor
    blendshapes: Tensor
    original: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Tokens:
    """tokens (B,S,D); masks (B,S,h,w), which sum to 1 over the slots; order: the region of every slot; redraw (B,1,h,w), 1 where the
    tokens no longer describe the picture they came from, because a region was swapped by tokens alone, or None; matte (B,1,C,C) the share of
    person in that picture, or None: then the masks say where the person is; photo (B,3,C,C) that picture, or None, and crop its landmarks,
    where they are known; taken: the regions that came from the photographs of references, in their order."""

    tokens: Tensor
    masks: Tensor
    order: tuple[str, ...]
    redraw: Tensor | None = None
    matte: Tensor | None = None
    photo: Tensor | None = None
    crop: Crop | None = None
    taken: tuple[Taken, ...] = ()


@dataclass(frozen=True, eq=False)
class Taken:
    """Regions that a swap took from the photograph of a reference, and how strongly (0..1)."""

    reference: Tokens
    regions: tuple[str, ...]
    strength: float


@dataclass(frozen=True, eq=False)
class Borrowed:
    """Where a carried photograph shows a reference: whose (B,1,C,C) its share; flow, ratio and front as of Carry, from the squares of its
    crop; original (B,H,W,C), the IMAGE those were cut from."""

    squares: list[FaceCrop]
    original: Tensor
    flow: Tensor
    ratio: Tensor
    front: Tensor
    whose: Tensor


@dataclass(frozen=True, eq=False)
class Carry:
    """image (B,3,C,C) the carried photograph; validity (B,1,C,C); source (B,3,C,C) the photograph itself; flow (B,2,C,C),
    ratio (B,3,C,C) and front (B,1,C,C): how its pixels moved and were relit, and which did; unchanged (B,) bool: nothing was asked of this frame, so its pixels stay as
    they are; whose (B,1,C,C) the share of its pixels that are the source's own; borrowed: those of the references of swaps."""

    image: Tensor
    validity: Tensor
    source: Tensor
    flow: Tensor
    ratio: Tensor
    front: Tensor
    unchanged: Tensor
    whose: Tensor
    borrowed: tuple[Borrowed, ...] = ()


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
