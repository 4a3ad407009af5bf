"""Everything a synthetic person can wear: MakeHuman's skins, eyes, brows, lashes, hair and tops, fitted to the open head.

Shape letters: V and F vertices and faces of the head, N hm08 vertices, T texture side, A albedo coefficients.
Colours are sRGB 0..1; textures (C,T,T) with row 0 at v = 1.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..checkpoint import asset_path, load_checkpoint
from ..errors import ConfigError
from ..head import LABELS, HeadModel
from ..render import interpolate_corners, rasterize
from .proxies import Proxy, bind

BASE = "hm08_base.safetensors"
TEXTURE = 1024
HAIR = ("short01", "short02", "short03", "short04", "bob02", "long01", "ponytail01", "braid01")
TOPS = ("male_casualsuit04", "male_casualsuit06", "male_elegantsuit01", "female_casualsuit01", "female_elegantsuit01", "female_sportsuit01")
BROWS = tuple(f"eyebrow{k:03d}" for k in range(1, 13))
LASHES = ("eyelashes01", "eyelashes02", "eyelashes03", "eyelashes04")
EYE_CENTRE = (0.29, 0.29)  # of one eyeball's disc in MakeHuman's eye textures
# polar angle from the pupil in degrees, and its radius in the texture: measured on eyes/high-poly/high-poly.obj
EYE_ANGLES, EYE_RADII = (0, 12, 20, 28, 36, 44, 52, 68, 90), (0, 0.04, 0.064, 0.093, 0.133, 0.159, 0.19, 0.232, 0.247)
WIDTHS = {"hair": 0.12, "clothes": 0.1, "eyebrows": 0.03, "eyelashes": 0.025}  # decimetres, see `bind`


def read_picture(path: Path, size: int, mode: str = "RGB") -> Tensor:
    """(C,size,size) float 0..1, area-averaged. Raises ConfigError if it cannot be read."""
    try:
        with Image.open(path) as handle:
            handle.draft("RGB", (size, size))
            picture = handle.convert(mode).resize((size, size), Image.Resampling.BOX)
    except OSError as error:
        raise ConfigError(f"{path}: no readable picture ({error}); copy MakeHuman's assets again") from error
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


class Wardrobe:
    """MakeHuman's folder bound to one head. Meshes and textures are read when first used, and kept."""

    def __init__(self, folder: Path, head: HeadModel) -> None:
        if not (folder / "skins").is_dir() or not (folder / "hair").is_dir():
            raise ConfigError(f"{folder}: no skins/ and hair/ in it; give the folder of MakeHuman's CC0 assets")
        data = load_checkpoint(asset_path(BASE), "synthetic-base")
        self.folder, self.head = folder, head
        self.base = data.tensors["vertices"].double().numpy() * data.config["vertex_unit"]
        self.source = data.tensors["source"].long().numpy()
        self.uv = data.tensors["uv"].float() * data.config["uv_unit"]  # (F,3,2)
        if len(self.source) != head.vertex_count or len(self.uv) != len(head.faces):
            raise ConfigError(
                f"head '{head.name}': {head.vertex_count} vertices, but synthetic people need the open head's {len(self.source)}; load that"
            )
        self.skins = tuple(sorted(str(p) for p in folder.glob("skins/*/*.jpg") if "suit" not in p.parent.name))
        self.irises = tuple(sorted(str(p) for p in folder.glob("eyes/materials/*.png")))
        self.mesh = lru_cache(maxsize=None)(self._mesh)
        self.texture = lru_cache(maxsize=None)(self._texture)
        self.skin = lru_cache(maxsize=None)(self._skin)
        self.iris = lru_cache(maxsize=None)(self._iris)
        self.scalp_cover = lru_cache(maxsize=None)(self._scalp_cover)

    def vertices_of(self, *names: str) -> Tensor:
        """(V,) bool: head vertices with one of these labels."""
        return torch.isin(self.head.labels, torch.tensor([LABELS.index(name) for name in names]))

    def _mesh(self, kind: str, name: str) -> Proxy:
        folder = self.folder / kind / name
        labels = {
            "hair": ("face", "scalp", "neck", "shoulders", "ears"),
            "clothes": ("neck", "shoulders"),
            "eyebrows": ("face",),
            "eyelashes": ("face",),
        }[kind]
        carriers = self.vertices_of(*labels).numpy()
        follows = kind in ("eyebrows", "eyelashes")
        return bind(
            folder / f"{name}.obj", folder / f"{name}.mhclo", self.base, self.source, carriers, follows=follows, spread=WIDTHS[kind]
        )

    def _texture(self, kind: str, name: str) -> Tensor:
        """(4,T,T) RGBA of a proxy, or (3,T,T) of clothes."""
        found = sorted((self.folder / kind / name).glob("*.png"))
        if not found:
            raise ConfigError(f"{self.folder / kind / name}: holds no texture; copy MakeHuman's assets again")
        opaque = kind == "clothes"
        return read_picture(found[0], TEXTURE, "RGB" if opaque else "RGBA")

    def _skin(self, path: str) -> tuple[Tensor, Tensor]:
        """A skin atlas (3,T,T) in hm08's layout, and the albedo coefficients (A,) that come nearest to it on face, ears and neck."""
        atlas = read_picture(Path(path), 2 * TEXTURE)
        head, size = self.head, self.head.albedo_mean.shape[-1]
        flat = torch.cat([head.uvs * torch.tensor([2.0, -2.0]) + torch.tensor([-1.0, 1.0]), torch.zeros(len(head.uvs), 1)], 1)
        raster = rasterize(flat[None], head.uv_faces, size, size)
        uv = interpolate_corners(raster, self.uv)[0].permute(1, 2, 0)  # (R,R,2)
        baked = F.grid_sample(
            F.avg_pool2d(atlas[None], 4), torch.stack([uv[..., 0] * 2 - 1, 1 - uv[..., 1] * 2], -1)[None], align_corners=False
        )[0]
        inside = head.part_mask(raster, "face", "ears", "neck")[0].flatten()
        basis = F.interpolate(head.albedo_basis, (size, size), mode="bilinear", align_corners=False)
        basis = basis.flatten(2)[:, :, inside].flatten(1).T  # (3P,A)
        difference = (baked - head.albedo_mean).flatten(1)[:, inside].flatten()
        # brows are painted on the mean, not on the atlas: where the basis is weak nothing can be learnt
        strong = basis[:, 0].abs() > 0.5 * basis[:, 0].abs().median()
        basis, difference = basis[strong], difference[strong]
        ridge = 1e-3 * len(basis) * torch.eye(basis.shape[1]) * basis.square().mean()
        return atlas, torch.linalg.solve(basis.T @ basis + ridge, basis.T @ difference)

    def _iris(self, path: str) -> Tensor:
        """Front view of an eyeball (3,256,256): radius 1 is 90 degrees from the pupil, as in the head's own eye texture."""
        texture = read_picture(Path(path), TEXTURE)
        ys, xs = np.meshgrid(np.linspace(1, -1, 256), np.linspace(-1, 1, 256), indexing="ij")
        radius = np.hypot(xs, ys)
        stretch = np.interp(radius.clip(0, 1) * 90, EYE_ANGLES, EYE_RADII) / radius.clip(1e-3)
        grid = np.stack([(EYE_CENTRE[0] + xs * stretch) * 2 - 1, 1 - (EYE_CENTRE[1] + ys * stretch) * 2], -1)
        return F.grid_sample(texture[None], torch.from_numpy(grid).float()[None], align_corners=False)[0]

    def _scalp_cover(self, name: str) -> Tensor:
        """(V,) 0..1: where hair `name` ("" = cropped: the whole scalp) hides the skin, so that gaps between strands are not bald."""
        scalp = self.vertices_of("scalp")
        if name == "":
            return self._soften(scalp.float())
        hair = self.mesh("hair", name).rest(self.head.template[None])[0]
        skull = self.vertices_of("scalp", "face", "neck")
        distance = torch.cdist(self.head.template, hair).amin(1)
        return self._soften((skull & scalp & (distance < 0.03)).float())

    def _soften(self, weight: Tensor, rounds: int = 2) -> Tensor:
        """Average vertex weights (V,) over neighbours."""
        faces = self.head.faces
        for _ in range(rounds):
            total, count = torch.zeros_like(weight), torch.zeros_like(weight)
            mean = weight[faces].mean(1)
            for k in range(3):
                total.index_add_(0, faces[:, k], mean)
                count.index_add_(0, faces[:, k], torch.ones_like(mean))
            weight = total / count.clamp_min(1)
        return weight
