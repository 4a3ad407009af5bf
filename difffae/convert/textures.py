"""What lies in the UV square of FLAME: texture spaces, masks, DECA's fixed displacement, and the UV layout itself.

Letters: F faces, T uv coordinates, A albedo coefficients, R = 256 texels along a side. Row 0 of a map is the top, v = 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..common.errors import CheckpointError
from .unpickle import read_npy

SIDE = 512  # of the published texture spaces; DECA shades at 256
LAYOUT_ROWS = 1_000_000  # of an .obj file, more is not a head


def read_texture_space(arrays: dict[str, np.ndarray], path: Path, count: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Mean (3,R,R), basis (A,3,R,R), RGB around 0..1, and the space's name, from FLAME_texture.npz or FLAME_albedo_from_BFM.npz.

    DECA's convention (decalib/models/FLAME.py, FLAMETex): the files are BGR; nearest reduction to 256 takes the even texels; the
    FLAME space (keys mean, tex_dir) is divided by 255, the BFM space (keys MU, PC) is in 0..1 already. Raises CheckpointError.
    """
    if "mean" in arrays and "tex_dir" in arrays:
        mean, basis, name, scale = arrays["mean"], arrays["tex_dir"], "flame", 255.0
    elif "MU" in arrays and "PC" in arrays:
        mean, basis, name, scale = arrays["MU"], arrays["PC"], "bfm", 1.0
    else:
        raise CheckpointError(
            f"{path}: holds {', '.join(sorted(arrays)[:6]) or 'nothing'}, but a texture space has mean and tex_dir (FLAME_texture.npz) or "
            "MU and PC (FLAME_albedo_from_BFM.npz); choose one of these files"
        )
    texels = SIDE * SIDE * 3
    if mean.size != texels or basis.size == 0 or basis.size % texels or basis.shape[-1] * texels != basis.size:
        raise CheckpointError(
            f"{path}: mean {mean.shape} and basis {basis.shape} are not of a {SIDE}x{SIDE} texture; get the file from its official site"
        )
    if count > basis.shape[-1]:
        raise CheckpointError(f"{path}: has {basis.shape[-1]} components, but {count} were asked for; lower --set albedo_count")
    mean = mean.reshape(SIDE, SIDE, 3)[::2, ::2, ::-1].transpose(2, 0, 1)
    basis = basis.reshape(SIDE, SIDE, 3, -1)[::2, ::2, ::-1, :count].transpose(3, 2, 0, 1)
    return np.float32(mean) / np.float32(scale), np.float32(basis) / np.float32(scale), name


def read_mask(path: Path) -> np.ndarray:
    """A UV mask picture: its first channel (R,R) in 0..1. Raises CheckpointError."""
    try:
        with Image.open(path) as picture:
            if picture.width != picture.height or picture.width > 4096:
                raise CheckpointError(f"{path}: {picture.width}x{picture.height}, but a UV mask is a square; choose uv_face_eye_mask.png")
            return np.asarray(picture.convert("RGB"), dtype=np.float32)[..., 0] / 255
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise CheckpointError(f"{path}: not a complete picture ({error}); get it again from DECA's repository") from error


def read_displacement(path: Path) -> np.ndarray:
    """DECA's fixed displacement (R,R), metres. Raises CheckpointError."""
    values = read_npy(path)
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.shape[0] != values.shape[1] or values.dtype.kind != "f":
        raise CheckpointError(f"{path}: not a square map of numbers; choose fixed_displacement_256.npy of DECA's repository")
    return values.astype(np.float32)


def read_layout(path: Path, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """UV coordinates (T,2), v up, and their faces (F,3), in the order of `faces` (F,3), from an .obj file such as head_template.obj.

    The file's triangles may come in another order or start at another corner. Raises CheckpointError.
    """
    uvs: list[tuple[float, float]] = []
    corners: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    try:
        with open(path, encoding="utf-8") as handle:
            for number, line in enumerate(handle):
                if number > LAYOUT_ROWS:
                    raise ValueError(f"more than {LAYOUT_ROWS} lines")
                kind, *fields = line.split() or [""]
                if kind == "vt":
                    uvs.append((float(fields[0]), float(fields[1])))
                elif kind == "f":
                    pairs = [(int(v) - 1, int(vt) - 1) for v, vt in (field.split("/")[:2] for field in fields)]
                    corners[tuple(sorted(v for v, _ in pairs))] = pairs
    except (OSError, UnicodeDecodeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: not a Wavefront mesh with UV coordinates ({error}); choose DECA's head_template.obj") from error
    rows = []
    for face in faces.tolist():
        uv_of = dict(corners.get(tuple(sorted(face)), []))
        if len(uv_of) != 3:
            raise CheckpointError(f"{path}: has no triangle {tuple(face)} with UVs, so it is another head's mesh; choose head_template.obj")
        rows.append([uv_of[v] for v in face])
    table, uv_faces = np.asarray(uvs, dtype=np.float32).reshape(-1, 2), np.asarray(rows, dtype=np.int64)
    check_layout(table, uv_faces, len(faces), path)
    return table, uv_faces


def check_layout(uvs: np.ndarray, uv_faces: np.ndarray, count: int, path: Path) -> None:
    """Raises CheckpointError if UV faces do not fit their coordinates or the mesh of `count` faces."""
    fits = uvs.ndim == 2 and uvs.shape[1] == 2 and uv_faces.shape == (count, 3) and np.isfinite(uvs).all()
    if not fits or uv_faces.min() < 0 or uv_faces.max() >= len(uvs):
        raise CheckpointError(f"{path}: its UV layout does not fit a mesh of {count} faces; get the file from its official site")
