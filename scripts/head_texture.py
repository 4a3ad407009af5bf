"""Albedo atlas of the open head: UV layout, baked skins, tone axes, eyes, teeth, tongue. Used by build_head.py only.

Shape letters: F faces, T atlas coordinates, R texels along a side. Colours are sRGB 0..1; atlas uv has v up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from head_geometry import EYE_RINGS, EYE_SEGMENTS, Geometry
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from difffae.head.rasterizer import interpolate_corners, rasterize
from difffae.lab.people.makehuman import read_mhclo, read_obj

# rectangles of the atlas in texels of a 256 map: x0, y0, x1, y1 (y down)
RECTS = {
    "head": (1, 1, 255, 190),
    "shoulders": (1, 193, 127, 255),
    "mouth": (130, 193, 178, 228),
    "socket": (181, 193, 203, 224),
    "eyes": (206, 193, 255, 242),
    "upper-teeth": (130, 231, 192, 242),
    "lower-teeth": (130, 244, 192, 255),
    "tongue": (195, 226, 205, 255),
}
EYE_SEEN = np.radians(60)  # the eyeball's part that the lids can uncover; what lies behind takes the rim's texels
BROW_GAIN = 1.7  # the mean of several brows is thinner than each of them
IRIS_SHRINK = 0.8
LOCAL_STRENGTH = 0.7  # the local components come from 12 uneven skins and must not compete with light
# the Monk skin tone scale's ten swatches: the range of colours the tone axes must span
MONK = ("f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420")


def islands(geometry: Geometry) -> np.ndarray:
    """Name of the atlas rectangle of each face (F,)."""
    uv_faces = geometry.face_uvs
    edges = uv_faces[uv_faces[:, 0] >= 0]
    pairs = np.concatenate([edges[:, :2], edges[:, 1:]])
    count = len(geometry.base.uvs)
    _, component = connected_components(coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count)))
    names = np.array(["shoulders"] * len(uv_faces), dtype=object)
    names[geometry.face_part == 1] = "upper-teeth"
    names[geometry.face_part == 2] = "lower-teeth"
    names[geometry.face_part == 3] = "tongue"
    names[geometry.face_part == 4] = "eyes"
    body = geometry.face_part == 0
    for c in np.unique(component[uv_faces[body, 0]]):
        members = body & (component[uv_faces[:, 0].clip(0)] == c)
        centre = geometry.base.uvs[uv_faces[members]].mean((0, 1))
        if centre[0] > 0.65:
            names[members] = "head" if centre[1] > 0.15 else "mouth"
        elif centre[0] < 0.16:
            names[members] = "socket"
    return names


def layout(geometry: Geometry, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Atlas uvs (T,2) and uv_faces (F,3)."""
    uvs: list[np.ndarray] = []
    uv_faces = np.zeros_like(geometry.faces)
    offset = 0
    for name, rect in RECTS.items():
        if name == "eyes":
            continue
        chosen = np.flatnonzero(names == name)
        ids, inverse = np.unique(geometry.face_uvs[chosen], return_inverse=True)
        raw = geometry.base.uvs[ids]
        if name == "head":
            # hm08 stores the face lying on its side: turn it upright and give its middle more texels
            t = raw[:, 1] - (raw[:, 1].min() + raw[:, 1].max()) / 2
            x = stretch(t / np.abs(t).max(), -1.0, [(0.0, 0.35, 3.0)])
            y = (raw[:, 0] - raw[:, 0].min()) / np.ptp(raw[:, 0])
            y = stretch(y, 0.0, [(0.56, 0.09, 3.0), (0.70, 0.14, 2.0)])  # eyes; nose and mouth
            unit = np.stack([x, y], -1)  # y down
        elif name == "socket":
            x = np.where(raw[:, 0] > 0.0815, 0.163 - raw[:, 0], raw[:, 0])  # both sockets share the rectangle
            unit = np.stack([(x - x.min()) / (x.max() - x.min()), (raw[:, 1].max() - raw[:, 1]) / np.ptp(raw[:, 1])], -1)
        else:
            unit = (raw - raw.min(0)) / np.ptp(raw, axis=0)
            unit[:, 1] = 1 - unit[:, 1]
        uvs.append(_place(unit, rect))
        uv_faces[chosen] = inverse.reshape(-1, 3) + offset
        offset += len(ids)
    phi = np.arange(EYE_SEGMENTS) * 2 * np.pi / EYE_SEGMENTS
    rings = [np.stack([np.cos(phi), -np.sin(phi)], -1) * min(angle / EYE_SEEN, 1.0) for angle in EYE_RINGS]
    eye = (np.concatenate([[[0.0, 0.0]], *rings]) + 1) / 2
    uvs.append(_place(eye, RECTS["eyes"]))
    n = len(eye)
    chosen = np.flatnonzero(names == "eyes")
    uv_faces[chosen] = (geometry.faces[chosen] - geometry.eye_start) % n + offset
    return np.concatenate(uvs), uv_faces


def stretch(t: np.ndarray, low: float, bumps: list[tuple[float, float, float]]) -> np.ndarray:
    """Monotone map of low..1 onto 0..1 whose slope is larger by `zoom` around each (centre, width, zoom)."""
    grid = np.linspace(low, 1, 2001)
    density = 1 + sum((zoom * np.exp(-(((grid - centre) / width) ** 2)) for centre, width, zoom in bumps), np.zeros_like(grid))
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(t, grid, total / total[-1])


def _place(unit: np.ndarray, rect: tuple[int, int, int, int]) -> np.ndarray:
    x0, y0, x1, y1 = rect
    return np.stack([x0 + unit[:, 0] * (x1 - x0), 256 - (y0 + unit[:, 1] * (y1 - y0))], -1) / 256


class Baker:
    """Evaluates per-corner attributes at the atlas' texels."""

    def __init__(self, uvs: np.ndarray, uv_faces: np.ndarray, size: int):
        points = torch.tensor(np.concatenate([uvs * [2, -2] + [-1, 1], np.zeros((len(uvs), 1))], -1), dtype=torch.float32)[None]
        self.raster = rasterize(points, torch.tensor(uv_faces), size, size)
        self.face = self.raster.face[0].numpy()
        self.size = size

    def corners(self, attributes: np.ndarray) -> np.ndarray:
        """(F,3,C) -> (R,R,C)."""
        return interpolate_corners(self.raster, torch.tensor(attributes, dtype=torch.float32))[0].permute(1, 2, 0).numpy()

    def fill(self, image: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Texels that no face covers take the nearest covered texel, so that sampling at seams never mixes in background."""
        index = distance_transform_edt(~known, return_distances=False, return_indices=True)
        return image[index[0], index[1]]


def sample(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear samples of image (H,W,C) at uv (...,2), v up."""
    h, w = image.shape[:2]
    x = np.clip(uv[..., 0] * w - 0.5, 0, w - 1.001)
    y = np.clip((1 - uv[..., 1]) * h - 0.5, 0, h - 1.001)
    x0, y0 = x.astype(int), y.astype(int)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    top = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    return top * (1 - fy) + (image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx) * fy


def load_image(path: Path, size: int, mode: str = "RGB") -> np.ndarray:
    return np.asarray(Image.open(path).convert(mode).resize((size, size), Image.Resampling.BOX), np.float32) / 255


def mirrored_uvs(geometry: Geometry) -> np.ndarray:
    """(F,3) hm08 uv index of each corner's mirror image (its own index where the mirrored face is not found)."""
    table = {}
    for face, uv in zip(geometry.faces, geometry.face_uvs, strict=True):
        table[frozenset(face.tolist())] = dict(zip(face.tolist(), uv.tolist(), strict=True))
    out = geometry.face_uvs.copy()
    for i, face in enumerate(geometry.mirror[geometry.faces].tolist()):
        found = table.get(frozenset(face))
        if found is not None:
            out[i] = [found[v] for v in face]
    return out


def surface_samples(obj_path: Path, mhclo_path: Path, vertices: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random points (count,3) on a fitted proxy and their uv (count,2)."""
    obj = read_obj(obj_path)
    triangles, corners = obj.triangles()
    p, t = read_mhclo(mhclo_path).apply(vertices)[triangles], obj.uvs[corners]
    area = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=-1)
    rng = np.random.default_rng(seed)
    face = rng.choice(len(p), count, p=area / area.sum())
    bary = rng.dirichlet([1, 1, 1], count)[..., None]
    return (p[face] * bary).sum(1), (t[face] * bary).sum(1)


def eyeball_texture(makehuman: Path, material: str, size: int) -> np.ndarray:
    """Front view of an eyeball (size,size,3): radius 1 is EYE_SEEN, equidistant in the polar angle."""
    obj = read_obj(makehuman / "eyes" / "high-poly" / "high-poly.obj")
    image = load_image(makehuman / "eyes" / "materials" / f"{material}_eye.png", 1024)
    # the disc of one eyeball lies around uv (0.29, 0.29); its vertices tell how the polar angle maps to uv
    triangles, corners = obj.triangles()
    ids, first = np.unique(triangles, return_index=True)
    uv = obj.uvs[corners.ravel()[first]]
    disc = np.linalg.norm(uv - [0.29, 0.29], axis=1) < 0.29
    points, uv = obj.vertices[ids[disc]], uv[disc]
    pole = uv[np.linalg.norm(uv - [0.29, 0.29], axis=1).argmin()]
    centre = (points.max(0) + points.min(0)) / 2
    d = points - centre
    angle = np.arccos(np.clip(d[:, 2] / np.linalg.norm(d, axis=1), -1, 1))
    radius = np.linalg.norm(uv - pole, axis=1)
    order = np.argsort(angle)
    grid = np.linspace(0, np.pi / 2, 19)
    curve = np.interp(grid, angle[order], np.maximum.accumulate(gaussian_filter(radius[order], 2)))
    # MakeHuman's eyeballs are larger than real ones: shrink the iris to a natural share of the eye's opening
    curve = np.interp(grid, grid * IRIS_SHRINK, curve)
    y, x = np.mgrid[:size, :size]
    dx, dy = (x + 0.5) / size * 2 - 1, 1 - (y + 0.5) / size * 2
    r = np.hypot(dx, dy)
    s = np.interp(np.clip(r, 0, 1) * EYE_SEEN, grid, curve) / np.maximum(r, 1e-6)
    return sample(image, np.stack([pole[0] + dx * s, pole[1] + dy * s], -1))


def brow_cover(makehuman: Path, vertices: np.ndarray, points: np.ndarray, styles: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Eyebrows painted on the skin: opacity (P,) and colour (P,3) at surface points (P,3), the mean over some styles."""
    alpha, colour = np.zeros(len(points)), np.zeros((len(points), 3))
    for style in styles:
        folder = makehuman / "eyebrows" / style
        at, uv = surface_samples(next(folder.glob("*.obj")), next(folder.glob("*.mhclo")), vertices, 60000, 1)
        texture = load_image(next(folder.glob("*.png")), 512, "RGBA")
        rgba = sample(texture, uv)
        # the strips lie on the skin; folds of the lid behind them must stay clean
        near, index = cKDTree(at).query(points, k=12, distance_upper_bound=0.03)
        weight = np.where(np.isfinite(near), np.exp(-((near / 0.016) ** 2)), 0.0) / 12
        rgba = np.concatenate([rgba, np.zeros((1, 4))])[index]
        opacity = rgba[..., 3] * weight
        alpha += opacity.sum(1) / len(styles)
        colour += (rgba[..., :3] * opacity[..., None]).sum(1) / len(styles)
    return (alpha * BROW_GAIN).clip(0, 0.9), colour / np.maximum(alpha, 1e-6)[:, None]


def tone_axes(skin_colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean skin colour (3,) and two tone axes (2,3) with unit-variance coefficients: melanin (+ is lighter), redness."""
    monk = np.array([[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code in MONK])
    colours = np.concatenate([monk, skin_colours])
    mean = colours.mean(0)
    _, s, vt = np.linalg.svd(colours - mean, full_matrices=False)
    axes = vt[:2] * s[:2, None] / np.sqrt(len(colours))
    axes[0] *= np.sign(axes[0].sum())
    axes[1] *= np.sign(axes[1, 0] - axes[1, 2])
    return mean, axes


def albedo_model(
    skins: np.ndarray, face: np.ndarray, skin_weight: np.ndarray, painted: np.ndarray, brow: np.ndarray, brow_colour: np.ndarray, local: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """skins (K,R,R,3) baked; face (R,R) bool, bare skin of the face; skin_weight (R,R) 1 on skin; painted (R,R,3) the other
    parts; brow opacity (R,R) and colour (R,R,3).

    Returns mean (R,R,3), basis (2 + local,R,R,3), variance of the texture detail that the local components keep.
    """
    colours = np.median(skins[:, face], axis=1)
    mean_colour, axes = tone_axes(colours)
    detail = skins / colours[:, None, None]
    mean_detail = detail.mean(0)
    tone = axes[:, None, None] * mean_detail
    # stubble and painted shading of the scalp differ wildly between the skins, but say little about a face
    importance = gaussian_filter(np.where(face | (brow > 0.05), LOCAL_STRENGTH, 0.1), 5.0) * skin_weight
    residual = (detail - mean_detail) * mean_colour * importance[..., None]
    # what looks like another skin tone belongs to the tone axes
    share = tone[:, face].reshape(2, -1)
    projector = np.linalg.pinv(share.T)
    inside = residual[:, face].reshape(len(skins), -1)
    residual -= np.tensordot(inside @ projector.T, tone, axes=1) * importance[..., None]
    x = residual.reshape(len(skins), -1)
    values, vectors = np.linalg.eigh(x @ x.T / len(x))
    order = np.argsort(values)[::-1][:local]
    parts = (vectors[:, order].T @ x / np.sqrt(len(x))).reshape(local, *residual.shape[1:])
    bare = (skin_weight * (1 - brow))[..., None]
    mean = mean_colour * mean_detail
    mean = mean * (1 - brow[..., None]) + brow_colour * brow[..., None]
    mean = mean * skin_weight[..., None] + painted * (1 - skin_weight[..., None])
    return mean, np.concatenate([tone, parts]) * bare, float(values[order].sum() / values.sum())
