"""Find where MediaPipe's 478 landmarks lie on the open head, and store triangles and barycentrics in its file.

    python scripts/embed_landmarks.py [--head difffae/assets/open_head.safetensors] [--overlay overlay.png]

The mean head is rendered under several lights, sizes and skin tones, the project's own landmarker looks at the pictures, and each
landmark's mean place is projected back onto the nearest visible triangle that its part of the face allows. The result is exactly
left-right symmetric. Irises are placed at the eyeballs' poles and limbs.
Shape letters: N landmarks, F faces.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import argparse
import logging
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment

from difffae.common.images import to_picture
from difffae.faces.landmarker import FaceLandmarker
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel, labelled
from difffae.head.render import render
from difffae.head.shading import face_normals, project

LOG = logging.getLogger("embed_landmarks")
SIZE = 512
LIPS = [
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
]  # fmt: skip
# the lips of a closed mouth touch: which lip a landmark belongs to is MediaPipe's topology, not the nearest triangle
UPPER_LIP = [
    185, 40, 39, 37, 0, 267, 269, 270, 409, 184, 74, 73, 72, 11, 302, 303, 304, 408,
    183, 42, 41, 38, 12, 268, 271, 272, 407, 191, 80, 81, 82, 13, 312, 311, 310, 415,
]  # fmt: skip
LOWER_LIP = [
    146, 91, 181, 84, 17, 314, 405, 321, 375, 77, 90, 180, 85, 16, 315, 404, 320, 307,
    96, 89, 179, 86, 15, 316, 403, 319, 325, 95, 88, 178, 87, 14, 317, 402, 318, 324,
]  # fmt: skip
JAW_DROP = 0.007  # metres that jawOpen moves a face of the lower lip, at least; the upper lip's move less,
CORNER = 0.0165  # but for the corners of the mouth, this far (metres) from the middle


def attributes(head: HeadModel, camera: list[float], tone: float, lit: torch.Tensor) -> FaceAttributes:
    albedo = torch.zeros(1, head.albedo_count)
    albedo[0, 0] = tone
    zero = torch.zeros(1, head.shape_count), torch.zeros(1, head.expression_count)
    return FaceAttributes(head.name, zero[0], albedo, torch.zeros(1, 5, 3), torch.tensor([camera]), zero[1], lit)


def light(*bands: float) -> torch.Tensor:
    """White light (1,9,3) whose first SH bands are given."""
    out = torch.zeros(1, 9, 3)
    out[0, : len(bands)] = torch.tensor(bands)[:, None]
    return out


def observe(head: HeadModel, landmarker: FaceLandmarker) -> np.ndarray:
    """Mean landmark positions (N,2) in the head's own x, y (metres)."""
    found = []
    for scale, tone, side in product((4.5, 5.5, 6.5), (-0.6, 0.0, 0.6), (-0.4, 0.0, 0.4)):
        camera = [scale, tone * 0.01, 0.02 + side * 0.01]
        picture = render(head, attributes(head, camera, tone, light(3.0, side, 0.25, 0.3)), SIZE)
        faces = landmarker.detect((picture.image + 0.6 * (1 - picture.mask))[0].clamp(0, 1))[0]
        if not faces:
            LOG.warning("no face at scale %.1f tone %.1f", scale, tone)
            continue
        p = faces[0].landmarks[:, :2].double().numpy()
        x = (p[:, 0] * 2 / SIZE - 1) / scale - camera[1]
        y = (1 - p[:, 1] * 2 / SIZE) / scale - camera[2]
        found.append(np.stack([x, y], -1))
    spread = np.stack(found).std(0).mean(0)
    LOG.info("%d renders, spread %.2f mm in x, %.2f mm in y", len(found), *(spread * 1000))
    return np.median(found, axis=0)


def landmark_pairs(points: np.ndarray) -> np.ndarray:
    """(N,) index of each landmark's mirror image, by the best one-to-one matching of the reflected points."""
    reflected = points * [-1, 1]
    cost = ((points[:, None] - reflected[None]) ** 2).sum(-1)
    lip = np.zeros(len(points))
    lip[UPPER_LIP], lip[LOWER_LIP] = 1, 2
    cost += lip[:, None] != lip[None]  # a square metre
    _, match = linear_sum_assignment(cost + cost.T)
    if not (match[match] == np.arange(len(match))).all():
        raise SystemExit("landmarks: left and right do not pair up; look at the overlay")
    return match


def nearest_on_triangles(points: np.ndarray, corners: np.ndarray) -> tuple[int, np.ndarray]:
    """Nearest triangle to a 2D point: index and clamped barycentrics. points (2,), corners (F,3,2)."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    v0, v1, v2 = b - a, c - a, points - a
    d = v0[:, 0] * v1[:, 1] - v0[:, 1] * v1[:, 0]
    d = np.where(np.abs(d) < 1e-14, 1e-14, d)
    w1 = (v2[:, 0] * v1[:, 1] - v2[:, 1] * v1[:, 0]) / d
    w2 = (v0[:, 0] * v2[:, 1] - v0[:, 1] * v2[:, 0]) / d
    w = np.stack([1 - w1 - w2, w1, w2], -1).clip(0, None)
    w /= w.sum(-1, keepdims=True)
    distance = np.linalg.norm((corners * w[..., None]).sum(1) - points, axis=-1)
    best = int(distance.argmin())
    return best, w[best]


def embed(head: HeadModel, points: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces (N,) and barycentrics (N,3) of the landmarks."""
    vertices = head.template.double().numpy()
    faces = head.faces.numpy()
    seen = render(head, attributes(head, [6.0, 0.0, 0.02], 0.0, torch.ones(1, 9, 3)), 2048).raster.face
    visible = np.zeros(len(faces), bool)
    visible[np.unique(seen[seen >= 0].numpy())] = True
    visible &= face_normals(head.template[None], head.faces)[0, :, 2].numpy() > 0
    table = {frozenset(f.tolist()): i for i, f in enumerate(faces)}
    mirror = head.mirror.numpy()

    def allowed(*names: str) -> np.ndarray:
        return np.flatnonzero(visible & labelled(head.face_labels, *names).numpy())

    skin, lips = allowed("face", "lips", "scalp"), allowed("lips", "face")
    jaw = head.expression_basis[head.expression_names.index("jawOpen"), :, 1].double().numpy()
    drops = jaw[faces].mean(1) < -JAW_DROP
    eyes = np.flatnonzero(labelled(head.face_labels, "eyes").numpy())
    out_face, out_bary = np.zeros(len(points), int), np.zeros((len(points), 3))
    for i in range(468):
        pool = lips if i in LIPS else skin
        if i in UPPER_LIP + LOWER_LIP and abs(points[i, 0]) < CORNER:
            pool = pool[drops[pool] == (i in LOWER_LIP)]
        k, w = nearest_on_triangles(points[i], vertices[faces[pool]][..., :2])
        out_face[i], out_bary[i] = pool[k], w
    # irises: the detected ring tells which point of the limb is which; radius and centre are the eyeball's own
    for centre, ring in ((468, range(469, 473)), (473, range(474, 478))):
        side = np.sign(points[centre, 0])
        own = eyes[np.sign(vertices[faces[eyes]][..., 0].mean(1)) == side]
        ids = np.unique(faces[own])
        pole = ids[vertices[ids, 2].argmax()]
        radius = np.mean([np.linalg.norm(points[r] - points[centre]) for r in ring])
        miss = np.linalg.norm(points[centre] - vertices[pole, :2])
        LOG.info("iris radius %.2f mm, detected centre %.2f mm from the pole", radius * 1000, miss * 1000)
        for r in (centre, *ring):
            place = vertices[pole, :2].copy()
            if r != centre:
                d = points[r] - points[centre]
                axis = int(np.abs(d).argmax())
                place[axis] += np.sign(d[axis]) * radius
            k, w = nearest_on_triangles(place, vertices[faces[own]][..., :2])
            out_face[r], out_bary[r] = own[k], w
    for i in range(len(points)):
        j = pairs[i]
        if j <= i:
            continue
        target = mirror[faces[out_face[i]]]
        k = table[frozenset(target.tolist())]
        out_face[j] = k
        out_bary[j] = [out_bary[i][list(target).index(v)] for v in faces[k]]
    return out_face, out_bary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", type=Path, default=Path(__file__).parents[1] / "difffae" / "assets" / "open_head.safetensors")
    parser.add_argument("--overlay", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_grad_enabled(False)
    head = HeadModel.load(args.head)
    points = observe(head, FaceLandmarker.load())
    pairs = landmark_pairs(points)
    points = (points + points[pairs] * [-1, 1]) / 2
    face, bary = embed(head, points, pairs)
    with safe_open(str(args.head), framework="pt") as handle:
        metadata = handle.metadata()
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    tensors["landmark_faces"] = torch.tensor(face, dtype=torch.int16)
    tensors["landmark_bary"] = torch.tensor(bary, dtype=torch.float32)
    tensors["landmark_mirror"] = torch.tensor(pairs, dtype=torch.int16)
    save_file(tensors, str(args.head), metadata=metadata)
    head = HeadModel.load(args.head)
    error = (head.landmarks(head.template[None])[0, :, :2].numpy() - points) * 1000
    LOG.info("distance embedded - detected: median %.2f mm, 95 %% %.2f mm", *np.percentile(np.linalg.norm(error, axis=1), [50, 95]))
    if args.overlay:
        draw(head, points, args.overlay)


def draw(head: HeadModel, points: np.ndarray, path: Path) -> None:
    """Render with detected (red) and embedded (green) landmarks."""
    from PIL import ImageDraw

    size, camera = 1024, [9.5, 0.0, 0.02]
    picture = render(head, attributes(head, camera, 0.0, light(3.0, 0.0, 0.3, 0.3)), size)
    image = to_picture(picture.image.clamp(0, 1))
    pen = ImageDraw.Draw(image)
    embedded = project(head.landmarks(head.template[None]), torch.tensor([camera]))[0, :, :2].numpy()
    for place, colour in (((points + camera[1:]) * camera[0] * [1, -1], (255, 0, 0)), (embedded, (0, 255, 0))):
        for x, y in (place + 1) * size / 2:
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    image.save(path)


if __name__ == "__main__":
    main()
