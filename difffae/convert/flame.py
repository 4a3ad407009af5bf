"""FLAME -> a head model file (difffae.head.morphable), with whatever of DECA's data files is given.

Letters: V vertices (5023), F faces (9976), S shape, E expression, A albedo coefficients, R = 256 texels along a side of a UV map.

Inputs are told apart by what they are, not by their order:
  generic_model.pkl             FLAME 2020 or 2023: template, shape, expression and pose directions, joints, skinning   needed
  landmark_embedding.npy        68 landmarks and the contour that slides with yaw
  head_template.obj             UV layout
  FLAME_texture.npz or FLAME_albedo_from_BFM.npz   albedo; the first also has the UV layout. DECA was trained with the second.
  uv_face_eye_mask.png          where DECA's displacement acts; uv_face_mask.png is told by its name
  fixed_displacement_256.npy    what DECA adds to every displacement map
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..common.checkpoint import save_checkpoint
from ..common.errors import CheckpointError, ConfigError
from ..head.morphable import PARENTS, HeadModel
from .textures import check_layout, read_displacement, read_layout, read_mask, read_texture_space
from .unpickle import read_npy, read_npz, read_pickle

LICENSES = {
    "model": "FLAME licence of the Max Planck Society, that of the release it was converted from (flame.is.tue.mpg.de)",
    "deca": "DECA licence for landmarks, UV layout, masks and displacement (non-commercial)",
    "flame": "FLAME texture space (non-commercial)",
    "bfm": "Basel Face Model 2017 licence for the albedo (non-commercial)",
}
WARNING = "do not redistribute this file"
SHAPES = 300  # shape directions come before the expressions in `shapedirs`
KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")
EMBEDDING = {
    "static_lmk_faces_idx": ("static_faces", (51,)),
    "static_lmk_bary_coords": ("static_bary", (51, 3)),
    "dynamic_lmk_faces_idx": ("contour_faces", (79, 17)),
    "dynamic_lmk_bary_coords": ("contour_bary", (79, 17, 3)),
    "full_lmk_faces_idx": ("landmark_faces", (68,)),
    "full_lmk_bary_coords": ("landmark_bary", (68, 3)),
}


def convert(
    inputs: list[Path],
    output: Path,
    *,
    license: str = "",
    name: str = "flame",
    shape_count: int = 100,
    expression_count: int = 50,
    albedo_count: int = 50,
) -> None:
    """FLAME with whatever of DECA's data files is given.

    Args:
        inputs: Files in any order; the module's text says which.
        output: The file to write.
        license: What it says of its licence; empty: those of the inputs.
        name: Of the head model.
        shape_count, expression_count, albedo_count: Coefficients that are kept; the defaults are DECA's.

    Raises:
        CheckpointError: For files that cannot be what they should be.
        ConfigError: For inputs that make no set.
    """
    models = [path for path in inputs if path.suffix == ".pkl"]
    if len(models) != 1:
        raise ConfigError(f"convert flame: {len(models)} .pkl files were given; give FLAME's generic_model.pkl and no other")
    tensors = read_model(models[0], shape_count, expression_count)
    config: dict = {"name": name, "expression_names": [f"psi{i}" for i in range(expression_count)], "albedo_space": "srgb"}
    terms = ["model"]
    for path in sorted(set(inputs) - set(models), key=lambda p: (p.suffix == ".obj", str(p))):  # an .obj overrides the texture's UVs
        found, fields = read_extra(path, tensors["faces"].numpy(), albedo_count)
        repeated = set(found) & set(tensors) - {"uvs", "uv_faces"}
        if repeated:
            raise ConfigError(f"{path}: brings {', '.join(sorted(repeated))} a second time; give one file of each kind")
        tensors.update(found)
        config.update(fields)
        terms.append(fields.get("albedo_source", "deca"))
    if "albedo_mean" in tensors and "uvs" not in tensors:
        raise ConfigError("convert flame: an albedo without a UV layout cannot be shown; give DECA's head_template.obj too")
    HeadModel(config, tensors)  # its checks, before anything is written
    text = license or "; ".join([LICENSES[term] for term in dict.fromkeys(terms)] + [WARNING])
    source = "converted from " + ", ".join(path.name for path in inputs)
    save_checkpoint(output, tensors, kind="head", config=config, license=text, source=source)


def read_model(path: Path, shape_count: int, expression_count: int) -> dict[str, torch.Tensor]:
    """The tensors of a head model from FLAME's pickle, float32. Raises CheckpointError."""
    raw = read_pickle(path)
    if missing := [key for key in KEYS if not isinstance(raw, dict) or key not in raw]:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}, so it is not a FLAME model; choose generic_model.pkl")
    arrays = {key: _numbers(raw[key], key, path) for key in KEYS}
    vertices = arrays["v_template"].shape[0] if arrays["v_template"].ndim == 2 else 0
    faces = arrays["f"]
    expected: dict[str, tuple[int | None, ...]] = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, None),
        "posedirs": (vertices, 3, 36),
        "J_regressor": (5, vertices),
        "weights": (vertices, 5),
        "f": (None, 3),
        "kintree_table": (2, 5),
    }
    for key, want in expected.items():
        got = arrays[key].shape
        if vertices == 0 or len(got) != len(want) or any(w is not None and w != g for w, g in zip(want, got, strict=True)):
            shown = "x".join("N" if w is None else str(w) for w in want)
            raise CheckpointError(f"{path}: {key} has shape {got}, expected {shown}; it is damaged or not a FLAME model")
    if faces.size == 0 or faces.min() < 0 or faces.max() >= vertices:
        raise CheckpointError(f"{path}: its faces name vertices beyond the {vertices} it has; it is damaged")
    parents = [-1 if p in (-1, 2**32 - 1) else int(p) for p in arrays["kintree_table"][0].tolist()]
    if tuple(parents) != PARENTS:
        raise CheckpointError(f"{path}: its joints hang together as {parents}, not as FLAME's {list(PARENTS)}; choose generic_model.pkl")
    directions = arrays["shapedirs"]
    last = directions.shape[2]
    if not (0 < shape_count <= min(SHAPES, last) and 0 <= expression_count <= last - SHAPES):
        raise CheckpointError(
            f"{path}: has {last} shape directions, of which {SHAPES} are identity; {shape_count} shape and {expression_count} expression "
            "coefficients were asked for, lower --set shape_count or expression_count"
        )
    chosen = {
        "template": arrays["v_template"],
        "shape_basis": directions[..., :shape_count].transpose(2, 0, 1),
        "expression_basis": directions[..., SHAPES : SHAPES + expression_count].transpose(2, 0, 1),
        "pose_basis": arrays["posedirs"].transpose(2, 0, 1),
        "joint_regressor": arrays["J_regressor"],
        "skin_weights": arrays["weights"],
    }
    if bad := [key for key, array in chosen.items() if not np.isfinite(array).all()]:
        raise CheckpointError(f"{path}: {bad[0]} has values that are not finite; it is damaged")
    tensors = {key: torch.from_numpy(np.array(array, dtype=np.float32)) for key, array in chosen.items()}
    return tensors | {"faces": torch.from_numpy(faces.astype(np.int64))}


def _numbers(value: object, key: str, path: Path) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise CheckpointError(f"{path}: {key} is no array of numbers; it is damaged or not a FLAME model")
    return value


def read_extra(path: Path, faces: np.ndarray, albedo_count: int) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and config fields of one of the further inputs. Raises CheckpointError, ConfigError."""
    if path.suffix == ".obj":
        uvs, uv_faces = read_layout(path, faces)
        return {"uvs": torch.from_numpy(uvs), "uv_faces": torch.from_numpy(uv_faces)}, {}
    if path.suffix == ".npz":
        return _read_texture(path, faces, albedo_count)
    if path.suffix == ".png":
        key = "uv_face_mask" if "face_mask" in path.stem else "uv_detail_mask"
        return {key: torch.from_numpy(read_mask(path))}, {}
    if path.suffix == ".npy":
        if "displacement" in path.stem:
            return {"fixed_displacement": torch.from_numpy(read_displacement(path))}, {}
        return read_embedding(path, len(faces)), {"landmarks": "ibug-68"}
    raise ConfigError(f"{path}: not a file that `convert flame` knows; it takes .pkl, .npy, .obj, .npz and .png, see docs/own-files.md")


def _read_texture(path: Path, faces: np.ndarray, albedo_count: int) -> tuple[dict[str, torch.Tensor], dict]:
    arrays = read_npz(path)
    mean, basis, source = read_texture_space(arrays, path, albedo_count)
    tensors = {"albedo_mean": torch.from_numpy(mean), "albedo_basis": torch.from_numpy(np.ascontiguousarray(basis))}
    if "vt" in arrays and "ft" in arrays:
        uvs, uv_faces = arrays["vt"].astype(np.float32), arrays["ft"].astype(np.int64)
        check_layout(uvs, uv_faces, len(faces), path)
        tensors |= {"uvs": torch.from_numpy(uvs), "uv_faces": torch.from_numpy(uv_faces)}
    return tensors, {"albedo_source": source}


def read_embedding(path: Path, face_count: int) -> dict[str, torch.Tensor]:
    """DECA's landmark_embedding.npy: static 51, contour by yaw 79x17 and full 68, as faces and barycentrics. Raises CheckpointError."""
    raw = read_npy(path)
    tensors: dict[str, torch.Tensor] = {}
    for key, (target, shape) in EMBEDDING.items():
        value = raw.get(key) if isinstance(raw, dict) else None
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.size != int(np.prod(shape)):
            raise CheckpointError(f"{path}: lacks {key} of shape {shape}; choose landmark_embedding.npy of DECA's repository")
        value = value.reshape(shape)
        index = target.endswith("_faces")
        if index and (value.min() < 0 or value.max() >= face_count):
            raise CheckpointError(f"{path}: {key} names faces beyond the {face_count} of the mesh; choose another file")
        tensors[target] = torch.from_numpy(value.astype(np.int64 if index else np.float32))
    return tensors
