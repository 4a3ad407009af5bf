"""Everything a synthetic person can wear: MakeHuman's skins, eyes, brows, lashes, hair and tops, fitted to the open head.

Shape letters: V and F vertices and faces of the head, N hm08 vertices, T texture side, A albedo coefficients.
Colours are sRGB 0..1; textures (C,T,T) with row 0 at v = 1.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...common.checkpoint import asset_path, load_checkpoint
from ...common.errors import ConfigError
from ...common.images import from_picture
from ...common.pixels import box_blur
from ...head.morphable import HeadModel, labelled
from .complexion import Complexion, Skin, wrinkles
from .proxies import Proxy, bind
from .randomness import generator

BASE = "hm08_base.safetensors"
TEXTURE = 1024
HAIR = ("short01", "short02", "short03", "short04", "bob01", "bob02", "long01", "ponytail01", "braid01", "afro01")
UNTEXTURED = ("afro01", "bob01")  # MakeHuman's textures of these are not to be had: ours
TOPS = ("male_casualsuit04", "male_casualsuit06", "male_elegantsuit01", "female_casualsuit01", "female_elegantsuit01", "female_sportsuit01")
PAINTED = ("crew", "vneck", "turtleneck", "scoop")  # tops that are painted on the head's own shoulders, see `paint.garment`
BROWS = tuple(f"eyebrow{k:03d}" for k in range(1, 13))
LASHES = ("eyelashes01", "eyelashes02", "eyelashes03", "eyelashes04")
EYE_CENTRE = (0.29, 0.29)  # of one eyeball's disc in MakeHuman's eye textures
# polar angle from the pupil in degrees, and its radius in the texture: measured on eyes/high-poly/high-poly.obj
EYE_ANGLES, EYE_RADII = (0, 12, 20, 28, 36, 44, 52, 68, 90), (0, 0.04, 0.064, 0.093, 0.133, 0.159, 0.19, 0.232, 0.247)
CARRIERS = {  # labels of the head's vertices that a proxy may hang on
    "hair": ("face", "scalp", "neck", "shoulders", "ears"), "clothes": ("neck", "shoulders"), "eyebrows": ("face",), "eyelashes": ("face",),
}  # fmt: skip
WIDTHS = {"hair": 0.12, "clothes": 0.1, "eyebrows": 0.03, "eyelashes": 0.025}  # decimetres, see `bind`


def read_picture(path: Path, size: int, mode: str = "RGB") -> Tensor:
    """(C,size,size) float 0..1, area-averaged. Raises ConfigError if it cannot be read."""
    try:
        with Image.open(path) as handle:
            handle.draft("RGB", (size, size))
            return from_picture(handle.convert(mode).resize((size, size), Image.Resampling.BOX))
    except OSError as error:
        raise ConfigError(f"{path}: no readable picture ({error}); copy MakeHuman's assets again") from error


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
        self.macro = data.tensors["macro"].float()  # (3,2,2,S), see scripts/build_synthetic_base.py
        self.spread = data.tensors["spread"].float()  # (S,)
        self.complexion = Complexion(head, self.uv)
        self.skins = tuple(sorted(str(p) for p in folder.glob("skins/*/*.jpg") if "suit" not in p.parent.name))
        self.irises = tuple(sorted(str(p) for p in folder.glob("eyes/materials/*.png")))
        # kept for as long as the wardrobe is
        self.mesh, self.texture, self.strands = cache(self._mesh), cache(self._texture), cache(self._strands)
        self.skin, self.iris, self.relief = cache(self._skin), cache(self._iris), cache(self._relief)
        self.border, self.scalp_cover = cache(self._border), cache(self._scalp_cover)
        self.atlas = lru_cache(maxsize=6)(self._atlas)  # 48 MB each

    def vertices_of(self, *names: str) -> Tensor:
        """(V,) bool: head vertices with one of these labels."""
        return labelled(self.head.labels, *names)

    def _mesh(self, kind: str, name: str, mirrored: bool = False) -> Proxy:
        if mirrored:
            return self.mesh(kind, name).mirrored(self.head.mirror)
        carriers = self.vertices_of(*CARRIERS[kind]).numpy()
        follows = kind in ("eyebrows", "eyelashes")
        return bind(self.folder / kind / name / name, self.base, self.source, carriers, follows=follows, spread=WIDTHS[kind])

    def _texture(self, kind: str, name: str) -> Tensor:
        """(4,T,T) RGBA of a proxy, or (3,T,T) of clothes."""
        found = sorted((self.folder / kind / name).glob("*.png"))
        if not found:
            raise ConfigError(f"{self.folder / kind / name}: holds no texture; copy MakeHuman's assets again")
        return read_picture(found[0], TEXTURE, "RGB" if kind == "clothes" else "RGBA")

    def _atlas(self, path: str) -> Tensor:
        """A skin atlas (3,T,T) in hm08's layout."""
        return read_picture(Path(path), 2 * TEXTURE)

    def _skin(self, path: str) -> Skin:
        return self.complexion.read(self.atlas(path))

    def _relief(self) -> Tensor:
        """(1,T,T): the fine relief of the oldest skin, see `complexion.wrinkles`; zero if there is none."""
        old = [p for p in self.skins if "/old_" in p]
        return wrinkles(self.atlas(old[0])) if old else torch.zeros(1, 8, 8)

    def _strands(self, name: str) -> Tensor:
        """(2,T,T) of hair: brightness relative to the hair's mean without its large dark and bright patches, which were painted for
        another colour; and opacity."""
        if name in UNTEXTURED:
            return procedural_hair(name)
        rgba = self.texture("hair", name)
        grey, alpha = rgba[:3].mean(0), rgba[3]
        both = torch.stack([grey * alpha, alpha])[None]
        mean = float((grey * alpha).sum() / alpha.sum())
        dark = mean < 0.2  # ratios of near-black paint are wild
        radius = TEXTURE // (40 if dark else 16)
        small = box_blur(F.avg_pool2d(both, 8), radius // 8, 2)
        around = F.interpolate(small, alpha.shape, mode="bilinear", align_corners=False)[0]
        local = (around[0] / around[1].clamp_min(1e-4)).clamp_min(0.02)
        contrast, patches = (0.6, 0.08) if dark else (0.9, 0.25)
        return torch.stack([((grey / local) ** contrast * (local / mean) ** patches).clamp(0.6 if dark else 0.3, 2.0), alpha])

    def _iris(self, path: str) -> Tensor:
        """Front view of an eyeball (3,256,256): radius 1 is 90 degrees from the pupil, as in the head's own eye texture."""
        texture = read_picture(Path(path), TEXTURE)
        if "brown" in Path(path).name:  # these are redder than brown eyes are
            grey = texture.mean(0, keepdim=True) * torch.tensor([1.06, 0.98, 0.9])[:, None, None]
            texture = 0.5 * texture + 0.5 * grey
        ys, xs = np.meshgrid(np.linspace(1, -1, 256), np.linspace(-1, 1, 256), indexing="ij")
        radius = np.hypot(xs, ys)
        stretch = np.interp(radius.clip(0, 1) * 90, EYE_ANGLES, EYE_RADII) / radius.clip(1e-3)
        grid = np.stack([(EYE_CENTRE[0] + xs * stretch) * 2 - 1, 1 - (EYE_CENTRE[1] + ys * stretch) * 2], -1)
        return F.grid_sample(texture[None], torch.from_numpy(grid).float()[None], align_corners=False)[0]

    def _border(self, name: str) -> Tensor:
        """(P,): 1 on the free edges of hair `name` (edges that one triangle alone has) well off the scalp, else 0."""
        proxy = self.mesh("hair", name)
        count = len(proxy.index)
        edges = torch.cat([proxy.faces[:, [0, 1]], proxy.faces[:, [1, 2]], proxy.faces[:, [2, 0]]]).sort(1).values
        unique, times = (edges[:, 0] * count + edges[:, 1]).unique(return_counts=True)
        single = unique[times == 1]
        out = torch.zeros(count)
        out[torch.cat([single // count, single % count])] = 1
        template = self.head.template
        skull = template[self.vertices_of("scalp")]
        return out * (torch.cdist(proxy.rest(template[None])[0], skull).amin(1) > 0.02)

    def _scalp_cover(self, name: str, mirrored: bool = False) -> Tensor:
        """(V,) 0..1: where hair `name` ("" = cropped: the whole scalp) hides the skin, so that gaps between strands are not bald."""
        scalp = self.vertices_of("scalp")
        if name == "":
            return self._soften(scalp.float())
        hair = self.mesh("hair", name, mirrored).rest(self.head.template[None])[0]
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


def procedural_hair(name: str) -> Tensor:
    """(2,T,T) brightness and opacity: curls for an afro, straight strands for the rest."""
    rng = generator(17, len(name))

    def noise(rows: int, columns: int) -> Tensor:
        grid = torch.from_numpy(rng.normal(0, 1, (1, 1, rows, columns))).float()
        return F.interpolate(grid, (TEXTURE, TEXTURE), mode="bicubic", align_corners=False)[0, 0]

    if name.startswith("afro"):
        warp = noise(40, 40) + 0.6 * noise(90, 90)
        curls = torch.sin(3.0 * warp + 1.5 * noise(140, 140))
        return torch.stack([(1 + 0.38 * curls + 0.12 * noise(200, 200)).clamp(0.35, 1.8), (0.75 + 0.5 * curls).clamp(0, 1)])
    strands = 0.10 * noise(4, 260) + 0.13 * noise(7, 500) + 0.05 * noise(3, 90)
    return torch.stack([(1 + strands).clamp(0.4, 1.8), torch.ones(TEXTURE, TEXTURE)])
