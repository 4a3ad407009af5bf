"""Geometry of the open head: which vertices, sampled identities, PCA, expressions, joints. Used by build_head.py only.

Shape letters: N hm08 vertices, V kept vertices, F triangles, S shape components, E expressions, K identity targets.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difffae.lab.people.makehuman import Obj, read_obj

LOCAL_GROUPS = ("head", "nose", "mouth", "eyes", "ears", "cheek", "chin", "forehead", "eyebrows", "neck")
OPPOSITES = {"incr": "decr", "up": "down", "forward": "backward", "out": "in", "convex": "concave", "big": "small"}
EYE_RINGS = np.radians([7, 13, 20, 27, 33, 42, 52, 64, 77, 90])  # polar angles of the eyeball's rings
EYE_SEGMENTS = 20
EYE_RATIO = 0.1478 / 0.1395  # radius of MakeHuman's fitted sclera / mean radius of the eye helper, on the base mesh


@dataclass
class Geometry:
    """The kept mesh in hm08's base shape; `source` (V,) is the hm08 index, or -1 for eyeball vertices."""

    base: Obj
    source: np.ndarray
    mirror: np.ndarray
    faces: np.ndarray
    face_uvs: np.ndarray  # (F,3) uv index into base.uvs, -1 for eyeballs
    face_part: np.ndarray  # (F,) index into PARTS
    eye_start: int
    groups: dict


PARTS = ("body", "helper-upper-teeth", "helper-lower-teeth", "helper-tongue", "eyes")


def read_target(path: Path, count: int) -> np.ndarray:
    """Morph target (.target or .target.gz): lines `index dx dy dz` -> dense offsets (N,3)."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    rows = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    offsets = np.zeros((count, 3), np.float32)
    if rows:
        offsets[[int(r[0]) for r in rows]] = np.array([r[1:4] for r in rows], np.float32)
    return offsets


def group_indices(groups: dict[str, list[list[int]]], name: str) -> np.ndarray:
    """Vertex indices of a group of basemesh_vertex_groups.json, which lists inclusive ranges."""
    return np.concatenate([np.arange(a, b + 1) for a, b in groups[name]])


def eyeball() -> tuple[np.ndarray, np.ndarray]:
    """Unit front hemisphere around +z: directions (R,3) and triangles, left-right symmetric."""
    phi = np.arange(EYE_SEGMENTS) * 2 * np.pi / EYE_SEGMENTS
    rings = [np.stack([np.sin(t) * np.cos(phi), np.sin(t) * np.sin(phi), np.full_like(phi, np.cos(t))], -1) for t in EYE_RINGS]
    points = np.concatenate([[[0.0, 0.0, 1.0]], *rings])
    faces = []
    n = EYE_SEGMENTS
    for j in range(n):
        k = (j + 1) % n
        faces.append([0, 1 + j, 1 + k])
        for i in range(len(EYE_RINGS) - 1):
            a, b = 1 + i * n, 1 + (i + 1) * n
            faces += [[a + j, b + j, b + k], [a + j, b + k, a + k]]
    return points, np.array(faces)


def hm08_mirror(path: Path, count: int) -> np.ndarray:
    mirror = np.arange(count)
    pairs = np.array([line.split()[:2] for line in path.read_text().splitlines() if len(line.split()) >= 2], int)
    mirror[pairs[:, 0]] = pairs[:, 1]
    return mirror


def build_geometry(mpfb: Path, lowest: float, widest: float) -> Geometry:
    """Crop hm08 above y = lowest and |x| < widest (decimetres), triangulate symmetrically, add eyeballs."""
    base = read_obj(mpfb / "3dobjs" / "base.obj")
    groups = json.loads((mpfb / "mesh_metadata" / "basemesh_vertex_groups.json").read_text())
    full_mirror = hm08_mirror(mpfb / "mesh_metadata" / "hm08.mirror", len(base.vertices))
    keep = (base.vertices[:, 1] > lowest) & (np.abs(base.vertices[:, 0]) < widest)
    faces, face_uvs, part = [], [], []
    for index, name in enumerate(PARTS[:-1]):
        for polygon in base.groups[name]:
            ids = [v for v, _ in polygon]
            if not all(keep[v] for v in ids):
                continue
            # the diagonal is chosen by a rule that a vertex and its mirror image share, so triangles mirror too
            key = [min(v, full_mirror[v]) for v in ids]
            start = int(np.argmin(key)) if len(ids) == 4 else 0
            turned = polygon[start:] + polygon[:start]
            for k in range(1, len(turned) - 1):
                tri = (turned[0], turned[k], turned[k + 1])
                faces.append([v for v, _ in tri])
                face_uvs.append([t for _, t in tri])
                part.append(index)
    source = np.unique(np.array(faces))
    new = np.full(len(base.vertices), -1)
    new[source] = np.arange(len(source))
    all_faces = new[np.array(faces)]
    mirror = new[full_mirror[source]]
    directions, eye_faces = eyeball()
    eye_start, n = len(source), len(directions)
    left, right = eye_start, eye_start + n
    # the right eyeball is the mirror image of the left, so its winding turns around
    all_faces = np.concatenate([all_faces, eye_faces + left, eye_faces[:, ::-1] + right])
    mirror = np.concatenate([mirror, np.arange(n) + right, np.arange(n) + left])
    pad = np.full((2 * len(eye_faces), 3), -1)
    return Geometry(
        base,
        np.concatenate([source, np.full(2 * n, -1)]),
        mirror,
        all_faces,
        np.concatenate([np.array(face_uvs), pad]),
        np.concatenate([np.array(part), np.full(2 * len(eye_faces), 4)]),
        eye_start,
        groups,
    )


class Assembler:
    """Turns hm08 vertices (...,M,3), given at the hm08 indices `needed` (M,), into the kept vertices (...,V,3)."""

    def __init__(self, geometry: Geometry):
        g = geometry
        joints = ["joint-neck", "joint-head", "joint-spine-1", "joint-l-eye", "joint-r-eye"]
        extra = [group_indices(g.groups, name) for name in ["helper-l-eye", "helper-r-eye", *joints]]
        self.needed = np.unique(np.concatenate([g.source[g.source >= 0], *extra]))
        where = np.full(len(g.base.vertices), -1)
        where[self.needed] = np.arange(len(self.needed))
        self.body = where[g.source[g.source >= 0]]
        self.eyes = [where[group_indices(g.groups, f"helper-{side}-eye")] for side in "lr"]
        self.joint_groups = {name: where[group_indices(g.groups, name)] for name in joints}
        self.directions = eyeball()[0]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        parts = [points[..., self.body, :]]
        for index, flip in zip(self.eyes, (1.0, -1.0), strict=True):
            helper = points[..., index, :]
            centre = helper.mean(-2, keepdims=True)
            radius = np.linalg.norm(helper - centre, axis=-1).mean(-1)[..., None, None] * EYE_RATIO
            parts.append(centre + radius * (self.directions * [flip, 1, 1]).astype(points.dtype))
        return np.concatenate(parts, axis=-2)

    def joint(self, points: np.ndarray, name: str) -> np.ndarray:
        return points[..., self.joint_groups[name], :].mean(-2)


def load_identity_targets(mpfb: Path, needed: np.ndarray, count: int) -> tuple[dict[str, np.ndarray], list[list[tuple[str, str | None]]]]:
    """Macro targets by name, and local controls: each a list of (positive, negative) target names, left and right side together."""

    def read(folder: str) -> dict[str, np.ndarray]:
        paths = sorted((mpfb / "targets" / folder).glob("*.target.gz"))
        return {path.name.removesuffix(".target.gz"): read_target(path, count)[needed] for path in paths}

    table = read("macrodetails")
    local = {name: offsets for group in LOCAL_GROUPS for name, offsets in read(group).items()}
    # moves of the whole head are the camera's and the joints' business
    names = {name for name in local if not name.startswith(("neck-trans", "head-trans"))}
    table |= {name: local[name] for name in local if name in names}
    controls: list[list[tuple[str, str | None]]] = []
    used: set[str] = set()
    negatives = set(OPPOSITES.values())
    for name in sorted(names):
        stem, _, last = name.rpartition("-")
        if name in used or (last in negatives and any(f"{stem}-{p}" in names for p, n in OPPOSITES.items() if n == last)):
            continue
        opposite = f"{stem}-{OPPOSITES[last]}" if last in OPPOSITES else None
        if opposite not in names:
            opposite = None
        sides = [(name, opposite)]
        if name.startswith("l-"):
            sides.append(("r-" + name[2:], "r-" + opposite[2:] if opposite else None))
        elif name.startswith("r-"):
            continue
        controls.append(sides)
        used.update(n for pair in sides for n in pair if n)
    asymmetric = {name: offsets for name, offsets in read("asym").items() if name.startswith("asym-")}
    single: list[list[tuple[str, str | None]]] = [[(name, None)] for name in asymmetric]
    return table | asymmetric, [*controls, *single]


def sample_identities(
    table: dict[str, np.ndarray], controls: list[list[tuple[str, str | None]]], samples: int, seed: int
) -> tuple[np.ndarray, list[str]]:
    """Random weights (samples, K) over the targets of `table`, in its order."""
    rng = np.random.default_rng(seed)
    names = list(table)
    column = {name: i for i, name in enumerate(names)}
    weights = np.zeros((samples, len(names)), np.float32)
    races = ("african", "asian", "caucasian")
    for row in weights:
        race = dict(zip(races, rng.dirichlet([0.5] * 3), strict=True))
        male = rng.beta(0.5, 0.5)
        gender = {"male": male, "female": 1 - male}
        age = rng.beta(1.0, 1.4)  # 0 young (25 years) .. 1 old (90)
        child = rng.uniform(0.1, 0.6) if rng.random() < 0.08 else 0.0
        ages = {"child": child, "young": (1 - child) * (1 - age), "old": (1 - child) * age}
        levels = []
        for word in ("muscle", "weight"):
            t = np.clip(rng.normal(0.0, 0.45), -1, 1)
            levels.append({f"min{word}": max(-t, 0), f"average{word}": 1 - abs(t), f"max{word}": max(t, 0)})
        for g, wg in gender.items():
            for a, wa in ages.items():
                for r, wr in race.items():
                    row[column[f"{r}-{g}-{a}"]] = wg * wa * wr
                for m, wm in levels[0].items():
                    for w, ww in levels[1].items():
                        row[column[f"universal-{g}-{a}-{m}-{w}"]] = wg * wa * wm * ww
        for sides in controls:
            asym = sides[0][0].startswith("asym")
            shared = rng.normal(0, 0.12 if asym else 0.35)
            for positive, negative in sides:
                t = np.clip(shared + (rng.normal(0, 0.05) if len(sides) == 2 else 0.0), -1, 1)
                if negative is None:
                    # one-sided targets would bias the mean: half of their samples stay off, the rest are small
                    row[column[positive]] += abs(t) * 0.5
                elif t >= 0:
                    row[column[positive]] += t
                else:
                    row[column[negative]] -= t
    return weights, names


def principal_components(
    points: np.ndarray, mirror: np.ndarray, weight: np.ndarray, keep: float, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """PCA of aligned samples (M,V,3) and their mirror images: every component is exactly symmetric or antisymmetric.

    weight (V,) is the importance of a vertex. Returns mean (V,3), basis (S,V,3) scaled to unit-variance coefficients,
    parity (S,) +1 or -1 under mirroring, and the weighted variance kept.
    """
    flip = np.array([-1, 1, 1], points.dtype)
    other = points[:, mirror] * flip
    mean = ((points + other) / 2).mean(0)
    root = np.sqrt(weight)[:, None].astype(points.dtype)
    found = []
    total = 0.0
    for sign in (1, -1):
        part = (points + sign * other) / 2
        if sign == 1:
            part = part - mean
        x = (part * root).reshape(len(points), -1)
        gram = x.astype(np.float64) @ x.T.astype(np.float64) / len(points)
        values, vectors = np.linalg.eigh(gram)
        total += np.trace(gram)
        for i in np.argsort(values)[::-1][:most]:
            u = vectors[:, i] * np.sqrt(len(points))  # unit-variance coefficients of the samples
            found.append((values[i], sign, np.tensordot(u, part, axes=(0, 0)) / len(points)))
    found.sort(key=lambda item: -item[0])
    share = np.cumsum([v for v, _, _ in found]) / total
    count = min(most, int(np.searchsorted(share, keep)) + 1)
    basis = np.stack([b for _, _, b in found[:count]])
    parity = np.array([p for _, p, _ in found[:count]])
    basis = (basis + parity[:, None, None] * basis[:, mirror] * flip) / 2
    return mean, basis, parity, float(share[count - 1])


def align(points: np.ndarray, reference: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale and move every sample so that its chosen vertices match the reference's size and place (no rotation).

    Weak perspective cannot see size, so size is left to the camera. Returns points, scales (M,), shifts (M,3).
    """
    target = reference[chosen]
    centre = target.mean(0)
    spread = np.sqrt(((target - centre) ** 2).sum())
    own = points[:, chosen]
    own_centre = own.mean(1)
    scale = spread / np.sqrt(((own - own_centre[:, None]) ** 2).sum((1, 2)))
    shift = centre - scale[:, None] * own_centre
    return points * scale[:, None, None] + shift[:, None], scale, shift


def fit_regressor(points: np.ndarray, joint: np.ndarray, candidates: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Weights (V,) on candidate vertices, summing to 1 and symmetric, that reproduce joint (M,3) from points (M,V,3)."""
    x = points[:, candidates].transpose(0, 2, 1).reshape(-1, len(candidates)).astype(np.float64)
    y = joint.reshape(-1).astype(np.float64)
    strong = 1e3
    a = np.concatenate([x, strong * np.ones((1, len(candidates))), 0.05 * np.eye(len(candidates))])
    b = np.concatenate([y, [strong], np.full(len(candidates), 0.05 / len(candidates))])
    solution = np.linalg.lstsq(a, b, rcond=None)[0]
    out = np.zeros(points.shape[1])
    out[candidates] = solution
    out = (out + out[mirror]) / 2
    return out / out.sum()
