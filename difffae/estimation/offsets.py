"""Where the landmark network's points lie beside the head model's own, by yaw: a dynamic landmark embedding.

Shape letters: B batch, N landmarks (478), K basis functions of yaw (5).

A static embedding puts each landmark on one point of the mesh. The network's points do not stay there: on the far side of a
turned face they slide along the visible outline (FLAME has a contour table by yaw for the same reason), and some lie a little
beside their embedded point even from the front. The table is a weighted polynomial of yaw per landmark, fitted to the
residuals of a static fit over training portraits and their mirror images (scripts/fit_landmark_offsets.py).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..common.checkpoint import asset_path, load_checkpoint

KIND = "landmark-offsets"
FULL_YAW = 45.0  # degrees at which the polynomial's argument is 1


def yaw_basis(yaw: Tensor) -> Tensor:
    """Degrees (B,) -> (B,K): 1, t, t^2, t^3, |t|^3 with t = yaw / 45, held constant beyond 1.5."""
    t = (yaw / FULL_YAW).clamp(-1.5, 1.5)
    return torch.stack([torch.ones_like(t), t, t**2, t**3, t.abs() ** 3], -1)


class LandmarkOffsets(nn.Module):
    """Offsets of the network's landmarks from a head model's, for one head model (`head` is its name)."""

    coefficients: Tensor

    def __init__(self, head: str, coefficients: Tensor) -> None:
        """coefficients (K,N,2)."""
        super().__init__()
        self.head = head
        self.register_buffer("coefficients", coefficients, persistent=False)

    @classmethod
    def load(cls, path: str | Path | None = None) -> LandmarkOffsets:
        """The bundled table of the open head, or another file. Raises CheckpointError."""
        checkpoint = load_checkpoint(path or asset_path("landmark_offsets.safetensors"), KIND)
        return cls(checkpoint.config["head"], checkpoint.tensors["coefficients"])

    def forward(self, yaw: Tensor, roll: Tensor) -> Tensor:
        """Offsets at the turn of faces.

        Args:
            yaw, roll: (B,) degrees; positive yaw turns the face to image right, positive roll is clockwise in
                the image.

        Returns:
            (B,N,2) in units of the inter-ocular distance, x right and y down in the image.
        """
        x, y = torch.einsum("bk,knd->bnd", yaw_basis(yaw), self.coefficients).unbind(-1)
        c, s = (f(torch.deg2rad(roll))[:, None] for f in (torch.cos, torch.sin))
        return torch.stack([c * x - s * y, s * x + c * y], -1)
