"""Build the look of a closed eye from synthetic portraits whose eyes are closed.

    python scripts/build_lids.py PORTRAITS difffae/assets/lids.safetensors

PORTRAITS holds the pictures named below and `landmarks.npz` (arrays `files` and `landmarks`, pixels).
The look is the logarithm of a closed eye's colour over that of the skin below it, so it fits every
skin and light. It is a mixture: the median of all eyes, which lacks the fine lines of any, and the
mean of a few that wear no make-up.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from difffae.common.checkpoint import save_checkpoint
from difffae.lab.prepare.portraits import dev_files, read_picture
from difffae.person.lids import ACROSS, ALONG, EYES, FLOOR, KIND, LidFrame

SOURCE = "SFHQ-T2I dataset (synthetic portraits, MIT License, Copyright (c) 2024 David Beniaguev); see NOTICE"
NUMBERS = (97, 105, 148, 168, 214, 248, 258, 310, 342, 446, 464, 734, 845, 875, 918, 933, 976)
PLAIN = (148, 168, 258, 734, 976)  # eyes without make-up, whose lines are kept
HEIGHT, WIDTH = 40, 56
MEDIAN_SHARE = 0.45  # the rest of the lines are the plain eyes'
BRIGHT_SHARE = 0.3  # light from above makes these lids shine: what is brighter than the skin below counts less
# lashes that lie a little beside each other make a broad pale line: how much darker its middle is
# made, where it lies and its standard deviation, in widths of the eye
LASH_DARKENING, LASH_PLACE, LASH_WIDTH = 0.35, 0.02, 0.035
DOWN = 0.04  # by how much the look moves down: a head's lids meet higher than those of photographs
REFERENCE = (0.18, 0.32), (0.2, 0.8)  # across and along: the skin below


def eye_looks(picture: Tensor, landmarks: Tensor) -> Tensor:
    """Log ratios (2,3,HEIGHT,WIDTH) of both eyes of a picture (3,H,W) uint8; landmarks (N,3) in its pixels."""
    height, width = picture.shape[-2:]
    across = torch.linspace(*ACROSS, HEIGHT)
    along = torch.linspace(*ALONG, WIDTH)
    below = (across >= REFERENCE[0][0]) & (across < REFERENCE[0][1])
    beside = (along >= REFERENCE[1][0]) & (along < REFERENCE[1][1])
    looks = []
    for eye in EYES:
        frame = LidFrame.of(landmarks[None, :, :3], eye)
        places = frame.places(across, along)
        grid = (places + 0.5) * 2 / places.new_tensor([width, height]) - 1
        patch = F.grid_sample(picture[None].float() / 255, grid, padding_mode="border", align_corners=False)
        log = (patch + FLOOR).log()
        looks.append(log - log[..., below, :][..., beside].mean((2, 3), keepdim=True))
    return torch.cat(looks)


def mixture(looks: dict[int, Tensor]) -> Tensor:
    """The look (1,HEIGHT,WIDTH) of all eyes, by the numbers of their pictures, without colours: those
    are make-up's and the light's.
    """
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    median = (torch.cat(list(looks.values())).median(0).values * luma).sum(0)
    plain = (torch.cat([looks[number] for number in PLAIN]) * luma).sum(1).mean(0)
    look = MEDIAN_SHARE * median + (1 - MEDIAN_SHARE) * plain
    look = torch.where(look > 0, BRIGHT_SHARE * look, look)
    across, along = torch.linspace(*ACROSS, HEIGHT)[:, None], torch.linspace(*ALONG, WIDTH)
    line = torch.exp(-(((across - LASH_PLACE) / LASH_WIDTH) ** 2) / 2) * (1 - ((along - 0.5) / 0.55).square()).clamp_min(0)
    look = look - LASH_DARKENING * line
    across = torch.linspace(*ACROSS, HEIGHT) - DOWN
    places = (across - ACROSS[0]) * (2 / (ACROSS[1] - ACROSS[0])) - 1
    grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, WIDTH), places, indexing="xy"), -1)
    return F.grid_sample(look[None, None], grid[None], padding_mode="border", align_corners=True)[0]


def main(folder: str, output: str) -> None:
    files = [f"sfhqt2i_{number:04d}.webp" for number in NUMBERS]
    held_out = dev_files().intersection(files)
    if held_out:
        raise SystemExit(f"{sorted(held_out)}: held out, not to be used")
    with np.load(Path(folder) / "landmarks.npz") as table:
        rows = {str(name): number for number, name in enumerate(table["files"])}
        landmarks = torch.from_numpy(table["landmarks"].astype(np.float32))
    looks = {}
    for number, file in zip(NUMBERS, files, strict=True):
        looks[number] = eye_looks(read_picture(Path(folder) / file), landmarks[rows[file]])
        print(sha256((Path(folder) / file).read_bytes()).hexdigest(), file)
    save_checkpoint(output, {"look": mixture(looks)}, kind=KIND, config={}, license="MIT", source=SOURCE, half=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
