"""Blendshape network: 146 of the 478 landmarks -> 52 ARKit-like scores.

Source: the MLP-Mixer (Tolstikhin et al. 2021, arXiv:2105.01601) "GHUM marker poser" of Google's MediaPipe Face Landmarker; names in its
order.

Shapes: N faces, 146 input points, T = 97 tokens (1 for the output, 96 from the points), D = 64 channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLENDSHAPE_NAMES: tuple[str, ...] = (
    *("_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft"),
    *("cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight"),
    *(
        "eyeLookOutLeft",
        "eyeLookOutRight",
        "eyeLookUpLeft",
        "eyeLookUpRight",
        "eyeSquintLeft",
        "eyeSquintRight",
        "eyeWideLeft",
        "eyeWideRight",
    ),
    *(
        "jawForward",
        "jawLeft",
        "jawOpen",
        "jawRight",
        "mouthClose",
        "mouthDimpleLeft",
        "mouthDimpleRight",
        "mouthFrownLeft",
        "mouthFrownRight",
    ),
    *(
        "mouthFunnel",
        "mouthLeft",
        "mouthLowerDownLeft",
        "mouthLowerDownRight",
        "mouthPressLeft",
        "mouthPressRight",
        "mouthPucker",
        "mouthRight",
    ),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft"),
    *("mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight"),
)

# the landmarks that the network reads, in its order (MediaPipe's kLandmarksSubsetIdxs)
# fmt: off
LANDMARK_SUBSET: tuple[int, ...] = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81, 82, 84, 87, 88,
    91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162,
    163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291,
    293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375,
    377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471,
    472, 473, 474, 475, 476, 477,
)
# fmt: on

POINTS, TOKENS, CHANNELS, BLOCKS = len(LANDMARK_SUBSET), 97, 64, 4


class MixerBlock(nn.Module):
    """Token mixing, then channel mixing, each behind a layer norm without offset and with a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_tokens = nn.LayerNorm(CHANNELS, eps=1e-6, bias=False)
        self.tokens_in = nn.Linear(TOKENS, 384)
        self.tokens_out = nn.Linear(384, TOKENS)
        self.norm_channels = nn.LayerNorm(CHANNELS, eps=1e-6, bias=False)
        self.channels_in = nn.Linear(CHANNELS, 256)
        self.channels_out = nn.Linear(256, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.tokens_out(F.relu(self.tokens_in(self.norm_tokens(x).transpose(1, 2))))
        x = x + mixed.transpose(1, 2)
        return x + self.channels_out(F.relu(self.channels_in(self.norm_channels(x))))


class BlendshapeNetwork(nn.Module):
    """Landmarks (N,478,2 or 3), any unit with square pixels -> scores (N,52) in 0..1, in the order of BLENDSHAPE_NAMES."""

    subset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.points = nn.Linear(POINTS, TOKENS - 1)
        self.embed = nn.Linear(2, CHANNELS)
        self.extra_token = nn.Parameter(torch.zeros(1, 1, CHANNELS))
        self.blocks = nn.Sequential(*[MixerBlock() for _ in range(BLOCKS)])
        self.scores = nn.Linear(CHANNELS, len(BLENDSHAPE_NAMES))
        self.register_buffer("subset", torch.tensor(LANDMARK_SUBSET), persistent=False)

    def forward(self, landmarks: Tensor) -> Tensor:
        points = landmarks[:, self.subset, :2]
        points = points - points.mean(dim=1, keepdim=True)
        points = points / points.norm(dim=-1, keepdim=True).mean(dim=1, keepdim=True).clamp_min(1e-12)
        x = self.points((points / 2).transpose(1, 2)).transpose(1, 2)
        x = torch.cat([self.extra_token.expand(len(x), -1, -1), self.embed(x)], dim=1)
        return self.scores(self.blocks(x)[:, 0]).sigmoid()
