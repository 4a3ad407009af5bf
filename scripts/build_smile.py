"""Build the folds of a smile from photographs of people who look neutral and smile.

    python scripts/build_smile.py PORTRAITS difffae/assets/smile.safetensors

PORTRAITS holds the pictures and `manifest.csv`. Of every person of the training split with a neutral
and a smiling photograph of the same studio, both are laid out on the head model's surface; the folds
are the median of the logarithms of their brightness ratios, made symmetric, without what is larger
than a fold (light, make-up, the fit's errors), per unit of the smile's coefficients. A median of many
faces shows nobody.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import csv
import sys
from hashlib import sha256
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from difffae import DiffFAE, Portrait
from difffae.carry.light import SMILE, SMILE_KIND
from difffae.common.checkpoint import save_checkpoint
from difffae.common.pixels import erode, gaussian_blur
from difffae.head.morphable import HeadModel
from difffae.head.rasterizer import interpolate_corners, rasterize
from difffae.head.shading import project, vertex_normals
from difffae.lab.prepare.portraits import dev_files, read_picture

SOURCE = "Face Research Lab London Set (CC BY 4.0, DeBruine and Jones); see NOTICE"
COLLECTION = "london"
SIDE = 128
SMILES_BY = 0.35  # more than the neutral photograph, by the manifest's scores
LARGEST = 0.7  # of a logarithm: beyond are errors
FOLD = 12.0  # standard deviation in texels of what is too large for a fold
FLOOR = 0.04


def pairs(folder: Path) -> list[tuple[str, str]]:
    """Files of a neutral and a smiling photograph of one person each."""
    people: dict[str, list[tuple[float, str]]] = {}
    held_out = dev_files()
    with open(folder / "manifest.csv", newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            if row["source"] == COLLECTION and row["file"] not in held_out:
                people.setdefault(row["person"], []).append((float(row["smile"]), row["file"]))
    both = (sorted(photos) for photos in people.values() if len(photos) == 2)
    return [(neutral[1], smiling[1]) for neutral, smiling in both if smiling[0] - neutral[0] > SMILES_BY]


def laid_out(head: HeadModel, face: Portrait) -> tuple[Tensor, Tensor]:
    """Logarithm of a photograph's luma on the head's surface, and how well it was seen: both (1,1,SIDE,SIDE)."""
    corners = torch.cat([head.uvs[:, :1] * 2 - 1, 1 - head.uvs[:, 1:] * 2, torch.zeros_like(head.uvs[:, :1])], -1)[None]
    skin = head.vertex_mask("face")[head.faces].all(1)
    raster = rasterize(corners, head.uv_faces[skin], SIDE, SIDE)
    numbers = face.attributes
    vertices = head(numbers.shape, numbers.expression, numbers.pose)
    points, normals = project(vertices, numbers.camera)[0], vertex_normals(vertices, head.faces)[0]
    places = interpolate_corners(raster, points[head.faces[skin]])[:, :2].permute(0, 2, 3, 1)
    facing = interpolate_corners(raster, normals[head.faces[skin]])[:, 2:3]
    luma = (gaussian_blur(face.picture, 0.7) * face.picture.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    seen = ((facing - 0.2) / 0.3).clamp(0, 1) * raster.mask[:, None]
    return (F.grid_sample(luma, places, padding_mode="border", align_corners=False) + FLOOR).log(), seen


def folds(ratios: Tensor, seen: Tensor, difference: float) -> Tensor:
    """(1,1,SIDE,SIDE) of the ratios of all pairs (N,1,SIDE,SIDE), which smile more by `difference` on average."""
    middle = ratios.median(0, keepdim=True).values
    known = (seen.mean(0, keepdim=True) > 0.2).to(middle)
    middle, weight = (middle + middle.flip(-1)) / 2, known * known.flip(-1)
    large = gaussian_blur(middle * weight, FOLD) / gaussian_blur(weight, FOLD).clamp_min(1e-3)
    inner = gaussian_blur(erode(weight, 3), 1.5)
    return gaussian_blur(middle - large, 0.5) * inner / difference


def beside_eyes(head: HeadModel) -> Tensor:
    """(1,1,SIDE,SIDE): 0 on lids, which move apart from the fit's, 1 elsewhere."""
    marks = head.landmarks(head.template[None])[0]
    share = torch.ones_like(head.template[:, 0])
    for outer, inner in ((33, 133), (263, 362)):
        away = (head.template - (marks[outer] + marks[inner]) / 2) / (marks[outer] - marks[inner]).norm()
        share = share.minimum(((torch.hypot(away[:, 0], 1.6 * away[:, 1]) - 0.5) / 0.3).clamp(0, 1))
    corners = torch.cat([head.uvs[:, :1] * 2 - 1, 1 - head.uvs[:, 1:] * 2, torch.zeros_like(head.uvs[:, :1])], -1)[None]
    skin = head.vertex_mask("face")[head.faces].all(1)
    raster = rasterize(corners, head.uv_faces[skin], SIDE, SIDE)
    return interpolate_corners(raster, share[head.faces[skin]][..., None])


@torch.no_grad()
def main(folder: str, output: str) -> None:
    model = DiffFAE.from_pretrained("open-256")
    head, found, differences = model.head, [], []
    smile = [head.expression_names.index(name) for name in SMILE]
    for files in pairs(Path(folder)):
        neutral, smiling = (model.analyse(read_picture(Path(folder) / file).float() / 255, 0, file) for file in files)
        (before, seen), (after, seen_too) = laid_out(head, neutral), laid_out(head, smiling)
        both = seen.minimum(seen_too)
        ratio = after - before
        found.append(((ratio - (ratio * both).sum() / both.sum()).clamp(-LARGEST, LARGEST), both))
        differences.append((smiling.attributes.expression - neutral.attributes.expression)[0, smile].mean())
        for file in files:
            print(sha256((Path(folder) / file).read_bytes()).hexdigest(), file)
    ratios, seen = (torch.cat(values) for values in zip(*found, strict=True))
    tensors = {"folds": folds(ratios, seen, float(torch.stack(differences).mean())) * beside_eyes(head)}
    save_checkpoint(output, tensors, kind=SMILE_KIND, config={"head": head.name}, license="CC BY 4.0", source=SOURCE, half=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
