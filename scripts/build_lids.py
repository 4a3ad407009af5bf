"""Build the looks of closed eyes from synthetic portraits whose eyes are closed.

    python scripts/build_lids.py PORTRAITS difffae/assets/lids.safetensors

PORTRAITS holds the pictures named below and `landmarks.npz` (arrays `files` and `landmarks`, pixels).
Every look is that of a single eye, as only that has the hairs and the lines of one: the logarithm of its brightness over that of
the skin around it, so that it fits every skin and light. Its fold lies where those of all looks do, its lid is about as bright
as the skin around it, and its lashes are as dark as said here: how much the light and the make-up darkened them is theirs.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from difffae.common.checkpoint import save_checkpoint
from difffae.common.pixels import luma_of, sampled
from difffae.lab.prepare.portraits import dev_files, read_picture
from difffae.person.lid_skin import FLOOR, skin_light
from difffae.person.lids import ACROSS, ALONG, EYES, KIND, LidFrame, lash_part, level_on_lid

SOURCE = "SFHQ-T2I dataset (synthetic portraits, MIT License, Copyright (c) 2024 David Beniaguev); see NOTICE"
HEIGHT, WIDTH = 40, 64
SKIN = (1.1, 1.2)  # along from the eye's middle and across: what is skin in these portraits
LID, BAND, MIDDLE = (-0.25, -0.1), (0.0, 0.1), (0.2, 0.8)  # the lid and its lashes, across and along
LEVEL, BRIGHT_SHARE = 0.02, 0.5  # the mean of the lid; lids that shine do so less


@dataclass(frozen=True)
class Closed:
    """A closed eye: the number of its portrait, its row in EYES, how high its fold lies, and how dark its lashes shall be."""

    number: int
    side: int
    fold: float
    lashes: float


# from eyes without to those with made-up lashes, in the order of lids.PLAINEST
BANK = (Closed(168, 1, 0.28, -0.65), Closed(214, 0, 0.30, -0.85), Closed(845, 1, 0.30, -0.80))


def eye_look(picture: Tensor, landmarks: Tensor, closed: Closed) -> Tensor:
    """The look (HEIGHT,WIDTH) of an eye of a picture (3,H,W) uint8; landmarks (N,3) in its pixels."""
    image = picture[None].float() / 255
    line = [torch.arange(n, dtype=image.dtype) for n in picture.shape[:0:-1]]
    frame = LidFrame.of(landmarks[None], EYES[closed.side])
    along, across = frame.coordinates(torch.stack(torch.meshgrid(line[0], line[1], indexing="xy"), -1)[None])
    known = (((along - 0.5).abs() < SKIN[0]) & (across.abs() < SKIN[1]))[:, None].to(image)
    light = skin_light(image, known, (along, across), torch.full_like(across, closed.fold), float(frame.across.norm()))
    ratio = (luma_of(image) + FLOOR).log() - (light + FLOOR).log()
    down, right = torch.linspace(*ACROSS, HEIGHT), torch.linspace(*ALONG, WIDTH)
    look = sampled(ratio, frame.places(-level_on_lid(-down, torch.tensor(closed.fold), back=True), right))[0, 0]
    return _levelled(look, down[:, None], right, closed.lashes)


def _levelled(look: Tensor, down: Tensor, right: Tensor, dark: float) -> Tensor:
    """A look whose lid and whose lashes are as bright as asked for."""
    middle = (right > MIDDLE[0]) & (right < MIDDLE[1])
    lid, band = (((down > low) & (down < high) & middle) for low, high in (LID, BAND))
    above = ((-down - 0.02) / 0.06).clamp(0, 1) * ((0.7 - (right - 0.5).abs()) / 0.2).clamp(0, 1)
    look = look + (LEVEL - look[lid].mean()) * above
    look = torch.where(look > 0, BRIGHT_SHARE * look, look)
    lashes = lash_part(look, -down)
    return look + lashes * ((dark - look[band].mean()) / lashes[band].mean())


def main(folder: str, output: str) -> None:
    files = [f"sfhqt2i_{closed.number:04d}.webp" for closed in BANK]
    held_out = dev_files().intersection(files)
    if held_out:
        raise SystemExit(f"{sorted(held_out)}: held out, not to be used")
    with np.load(Path(folder) / "landmarks.npz") as table:
        rows = {str(name): number for number, name in enumerate(table["files"])}
        landmarks = torch.from_numpy(table["landmarks"].astype(np.float32))
    looks = []
    for closed, file in zip(BANK, files, strict=True):
        looks.append(eye_look(read_picture(Path(folder) / file), landmarks[rows[file]], closed))
        print(sha256((Path(folder) / file).read_bytes()).hexdigest(), file)
    save_checkpoint(output, {"look": torch.stack(looks)}, kind=KIND, config={}, license="MIT", source=SOURCE, half=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
