"""Cache what the estimator network's training reads: small pictures with landmarks, codes, and the surface that each pixel shows.

Shape letters: M samples, B batch, N landmarks (478), Q side of the small pictures (144), R of their surfaces (72).

`write_codes` reads a fitted file (`prepare fit`) or a folder of synthetic shards (`prepare people`) and writes one file:
pictures (M,3,Q,Q), known (M,1,Q,Q), skin (M,1,R,R) uint8; normals (M,3,R,R) int8, 127 = 1; uv (M,2,R,R) float16, the grid of the albedo
map; landmarks (M,N,3) in pixels of 256x256; blendshapes (M,52); error (M,), landmark error over the inter-ocular distance; the codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ...estimation.choose import SIDE
from ...estimation.fit import LandmarkFit
from ...faces.landmarker import FaceLandmarker, face_roi
from ...head.attributes import FaceAttributes
from ...head.morphable import HeadModel
from ...head.rasterizer import interpolate, rasterize
from ...head.shading import project, vertex_normals
from .networks import agreed
from .pairs import FIELDS, FITTED, attributes_of, landmark_error, to_bytes
from .shards import read_shard, shards_in, stated_fingerprints, write_rows

STORED = 144  # side of the stored pictures: a little more than the network sees, since they are turned and shifted
SURFACE = 72  # side of what the pixels show: light and skin colour are smooth


def write_codes(
    source: Path,
    output: Path,
    fit: LandmarkFit,
    landmarker: FaceLandmarker,
    batch: int = 8,
    fingerprints: Mapping[str, str] | None = None,
) -> None:
    """Write the file that `train estimator` reads.

    Args:
        source: A fitted file, or a folder of shards of synthetic pairs, whose landmarks are looked up here.
        output: The file to write.
        fit: Whose head model the codes are of; it measures their landmark errors.
        landmarker: Finds the landmarks of synthetic pairs.
        batch: Samples that are worked on together.
        fingerprints: Of the head's file.

    Raises:
        ConfigError: If there is no usable sample, or for numbers of another head file.
    """

    def completed(sample: dict[str, Tensor]) -> dict[str, Tensor]:
        sample |= surface(fit.head, attributes_of(sample, fit.head), SURFACE)
        for name in ("pictures", "known"):
            small = F.interpolate(sample[name].float() / 255, (STORED, STORED), mode="bilinear", antialias=True, align_corners=False)
            sample[name] = to_bytes(small)
        return sample

    known = dict(fingerprints or {})
    for path in [source] if source.is_file() else shards_in(source):
        known = agreed(path, stated_fingerprints(path), known)
    parts = _fitted(source, batch) if source.is_file() else _synthetic(source, fit, landmarker, batch)
    write_rows(output, map(completed, parts), known)


def _fitted(path: Path, batch: int) -> Iterator[dict[str, Tensor]]:
    data = read_shard(path, FITTED, "`prepare fit` or `prepare portraits`")
    for part in tqdm(torch.arange(len(data["pictures"])).split(batch), desc=path.name):
        yield {name: data[name][part] for name in FITTED}


@torch.no_grad()
def _synthetic(folder: Path, fit: LandmarkFit, landmarker: FaceLandmarker, batch: int) -> Iterator[dict[str, Tensor]]:
    """Both pictures of every pair; faces that the landmark network does not recognise are left out."""
    for path in shards_in(folder):
        data = read_shard(path, ("images", *FIELDS), "`prepare people`")
        flat = {name: data[name].flatten(0, 1) for name in ("images", *FIELDS)}
        for part in tqdm(torch.arange(len(flat["images"])).split(batch), desc=path.name):
            pictures = flat["images"][part]
            face = attributes_of({name: flat[name][part] for name in FIELDS}, fit.head)
            side = pictures.shape[-1]
            rois = face_roi(fit.landmarks(face, side))
            found = [landmarker.landmarks_in(p, roi[None])[0][0] for p, roi in zip(pictures.float() / 255, rois, strict=True)]
            seen = torch.tensor([one.score >= landmarker.threshold for one in found])
            if not bool(seen.any()):
                continue
            landmarks = torch.stack([one.landmarks for one in found])[seen]
            face, pictures = face[seen], pictures[seen]
            yield {
                "pictures": pictures,
                "known": torch.full_like(pictures[:, :1], 255),
                "landmarks": landmarks * (SIDE / side),
                "blendshapes": torch.stack([one.blendshapes for one in found])[seen],
                "error": landmark_error(fit, face, landmarks, side),
                **{name: getattr(face, name) for name in FIELDS},
            }


@torch.no_grad()
def surface(head: HeadModel, face: FaceAttributes, side: int) -> dict[str, Tensor]:
    """What the pixels of a square show of a head: normals (zero outside), uv and skin, as `write_codes` stores them."""
    vertices = head(face.shape, face.expression, face.pose)
    raster = rasterize(project(vertices, face.camera), head.faces, side, side)
    normals = F.normalize(interpolate(raster, head.faces, vertex_normals(vertices, head.faces)), dim=1) * raster.mask[:, None]
    skin = head.part_mask(raster, "face", "ears", "neck", "lips")
    return {
        "normals": (normals * 127).round().to(torch.int8),
        "uv": (head.uv_grid(raster).permute(0, 3, 1, 2) * raster.mask[:, None]).half(),
        "skin": to_bytes(skin[:, None].float()),
    }
