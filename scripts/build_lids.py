"""Build the look of a closed eye from a synthetic portrait whose eyes are closed.

    python scripts/build_lids.py PORTRAITS difffae/assets/lids.safetensors

PORTRAITS holds the picture named below and `landmarks.npz` (arrays `files` and `landmarks`, pixels).
The look is that of a single eye, as a mean of several has neither hairs nor lines: the logarithm of its brightness over that of
the skin around it, so that it fits every skin and light. Its lid is made about as bright as that skin, its lashes as dark as
said here: how much the light and make-up darkened them is the portrait's.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from difffae.common.checkpoint import save_checkpoint
from difffae.common.pixels import luma_of, sampled
from difffae.lab.prepare.portraits import dev_files, read_picture
from difffae.person.lids import ACROSS, ALONG, EYES, KIND, LOOK_FOLD, LidFrame, lash_part
from difffae.person.skin_tone import LID_FLOOR, skin_light

SOURCE = "SFHQ-T2I dataset (synthetic portraits, MIT License, Copyright (c) 2024 David Beniaguev); see NOTICE"
FILE, SIDE = "sfhqt2i_0214.webp", 0  # and the row of its eye in EYES
HEIGHT, WIDTH = 40, 64
DOWN = 0.02  # by how much the look moves down: a head's lids meet higher than those of photographs
SKIN = (1.1, 1.2)  # along from the eye's middle and across: what is skin in these portraits
LID, BAND, MIDDLE = (-0.25, -0.1), (0.0, 0.1), (0.2, 0.8)  # the lid and its lashes, across and along
LEVEL, DARK = 0.02, -0.85  # the means of the lid and of its lashes
BRIGHT_SHARE, FOLD_SHARE = 0.5, 1.6  # lids that shine do so less; the fold of this eye, a young one, is made deeper


def eye_look(picture: Tensor, landmarks: Tensor) -> Tensor:
    """The look (1,HEIGHT,WIDTH) of an eye of a picture (3,H,W) uint8; landmarks (N,3) in its pixels."""
    image = picture[None].float() / 255
    line = [torch.arange(n, dtype=image.dtype) for n in picture.shape[:0:-1]]
    frame = LidFrame.of(landmarks[None], EYES[SIDE])
    along, across = frame.coordinates(torch.stack(torch.meshgrid(line[0], line[1], indexing="xy"), -1)[None])
    across = across + DOWN
    known = (((along - 0.5).abs() < SKIN[0]) & (across.abs() < SKIN[1]))[:, None].to(image)
    light = skin_light(image, known, (along, across), torch.full_like(across, LOOK_FOLD), float(frame.across.norm()))
    ratio = (luma_of(image) + LID_FLOOR).log() - (light + LID_FLOOR).log()
    down, right = torch.linspace(*ACROSS, HEIGHT), torch.linspace(*ALONG, WIDTH)
    look, down = sampled(ratio, frame.places(down - DOWN, right))[0], down[:, None]
    middle = (right > MIDDLE[0]) & (right < MIDDLE[1])
    lid, band = ((down > low) & (down < high) & middle for low, high in (LID, BAND))
    above = ((-down - 0.02) / 0.06).clamp(0, 1) * ((0.7 - (right - 0.5).abs()) / 0.2).clamp(0, 1)
    look = look + (LEVEL - look[:, lid].mean()) * above
    look = torch.where(look > 0, BRIGHT_SHARE * look, look * (1 + (FOLD_SHARE - 1) * ((-down - LOOK_FOLD / 2) / 0.06).clamp(0, 1)))
    lashes = lash_part(look, -down)
    return look + lashes * ((DARK - look[:, band].mean()) / lashes[:, band].mean())


def main(folder: str, output: str) -> None:
    if FILE in dev_files():
        raise SystemExit(f"{FILE}: held out, not to be used")
    with np.load(Path(folder) / "landmarks.npz") as table:
        landmarks = torch.from_numpy(table["landmarks"][[str(name) for name in table["files"]].index(FILE)].astype(np.float32))
    look = eye_look(read_picture(Path(folder) / FILE), landmarks)
    print(sha256((Path(folder) / FILE).read_bytes()).hexdigest(), FILE)
    save_checkpoint(output, {"look": look}, kind=KIND, config={}, license="MIT", source=SOURCE, half=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
