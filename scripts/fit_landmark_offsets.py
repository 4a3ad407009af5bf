"""Fit the yaw-dependent landmark offsets of a head model from portraits that were fitted without them.

    python scripts/fit_landmark_offsets.py FITTED.safetensors difffae/assets/landmark_offsets.safetensors

FITTED is what `python -m difffae prepare fit --static` writes for the train split.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import sys

import torch
from safetensors.torch import load_file

from difffae.common.checkpoint import save_checkpoint
from difffae.common.rotations import to_yaw_pitch_roll
from difffae.estimation.fit import inter_ocular
from difffae.estimation.offsets import KIND, yaw_basis
from difffae.head.morphable import HeadModel
from difffae.head.shading import project
from difffae.lab.prepare.pairs import attributes_of

SOURCE = "residuals of the open head's static landmark embedding over the training portraits named in NOTICE"


@torch.no_grad()
def main(fitted: str, output: str) -> None:
    head = HeadModel.load()
    data = load_file(fitted)
    faces = attributes_of(data, head)
    points = []
    for rows in torch.arange(len(faces)).split(64):
        face = faces[rows]
        vertices = project(head(face.shape, face.expression, face.pose), face.camera)
        points.append((head.landmarks(vertices)[..., :2] + 1) * data["pictures"].shape[-1] / 2)
    residual = (data["landmarks"][..., :2] - torch.cat(points)) / inter_ocular(data["landmarks"])[:, None, None]
    yaw, _, roll = to_yaw_pitch_roll(faces.pose[:, 1]).unbind(-1)
    c, s = (f(torch.deg2rad(roll))[:, None] for f in (torch.cos, torch.sin))
    x, y = residual.unbind(-1)
    upright = torch.stack([c * x + s * y, -s * x + c * y], -1)  # without the roll
    mirrored = upright[:, head.landmark_mirror] * torch.tensor([-1.0, 1.0])
    residual, yaw = torch.cat([upright, mirrored]), torch.cat([yaw, -yaw])
    # every range of yaw counts alike, though most portraits look at the camera
    share = torch.histc(yaw, 60, -60, 60)[((yaw + 60) / 2).long().clamp(0, 59)] / len(yaw)
    basis = yaw_basis(yaw)
    weighted = (basis / (0.01 + share)[:, None]).T
    table = torch.linalg.solve(weighted @ basis + 0.1 * torch.eye(basis.shape[1]), weighted @ residual.flatten(1)).unflatten(1, (-1, 2))
    before, after = (r.norm(dim=-1).mean().item() for r in (residual, residual - torch.einsum("bk,knd->bnd", basis, table)))
    print(f"mean residual {before:.4f} -> {after:.4f} of the inter-ocular distance")
    save_checkpoint(output, {"coefficients": table}, kind=KIND, config={"head": head.name}, license="Apache-2.0", source=SOURCE, half=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
