"""Train the network that finds things before a face, on portraits with things pasted before them.

    python scripts/build_occluders.py PORTRAITS difffae/assets/occluders.safetensors [MINUTES [START]]

START is such a file to go on from. The one that ships had 25 minutes of one core, and then 14 with more shadows and profiles.

PORTRAITS holds pictures and `landmarks.npz`; those of the dev split and every tenth other one are not trained on, and of the latter it
says at the end what is found on them. A thing is a disc, a box, a band, a blob, fingers or what covers the lower face; it has one colour,
that of skin, or is a piece of another portrait.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

from difffae.common.checkpoint import save_checkpoint
from difffae.common.pixels import gaussian_blur
from difffae.faces.crop import OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT, OVAL_TOP
from difffae.lab.prepare.portraits import dev_files, read_landmarks, read_picture
from difffae.source.occluder_matte import GRID, KIND, OccluderMatte
from difffae.source.occlusion import upright_square

SOURCE = "trained by this project on licence-clean portraits; see NOTICE"
SIDE = 192  # of the squares that training cuts its own from, wider by WIDER
WIDER = 1.3
BATCH, RATE, WARMUP, AVERAGED = 16, 2e-3, 100, 0.998
BARE = 0.55  # share of squares without a thing
SHADED = 0.4  # share of them with a shadow
ASIDE, OFTEN = 0.74, 4  # faces narrower than this, in their heights, are rare, as profiles are: they come so many times as often
SHRUNK, SHIFTED, TURNED = 0.14, 0.07, 0.14  # logarithm of scale, share of the side, radians: how far landmarks may be off
CHEEKS = (50, 280, 101, 330)
EYES, LIPS, NOSE = (159, 386), (13, 14), 4


@dataclass(frozen=True)
class Face:
    """A portrait's square (3,SIDE,SIDE) uint8, its landmarks (478,2) in pixels of it, and the median colour (3,) of its cheeks, 0..1."""

    square: Tensor
    points: np.ndarray
    skin: np.ndarray

    @property
    def aside(self) -> bool:
        """Whether it is seen from the side."""
        top, chin, left, right = self.points[[OVAL_TOP, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT]]
        return float(np.linalg.norm(left - right)) < ASIDE * float(np.linalg.norm(chin - top))


def read_faces(folder: Path) -> list[Face]:
    """All portraits that may be trained on."""
    table, held_back = read_landmarks(folder), dev_files()
    faces = []
    for file, landmarks in zip(table["files"], table["landmarks"], strict=True):
        if file in held_back:
            continue
        image, points = read_picture(folder / str(file))[None].float() / 255, torch.as_tensor(landmarks[:, :2]).float()
        (square,), middle, sides = upright_square(image, points, SIDE, WIDER)
        seen = (((points - middle) @ sides.T / sides.square().sum(-1) + 1) / 2 * SIDE).numpy()
        columns, rows = np.clip(np.round(seen[list(CHEEKS)]).astype(int), 0, SIDE - 1).T
        faces.append(Face((square * 255).round().to(torch.uint8), seen, np.median(square[:, rows, columns].numpy(), 1)))
    return faces


class Things:
    """Draws things before faces."""

    def __init__(self, faces: list[Face], seed: int) -> None:
        self.faces, self.random = [face for face in faces for _ in range(OFTEN if face.aside else 1)], np.random.default_rng(seed)

    def before(self, face: Face) -> tuple[Tensor, Tensor]:
        """A face's square (3,SIDE,SIDE) 0..1 with a thing before it, and the thing's share (1,SIDE,SIDE)."""
        image, random = face.square.float() / 255, self.random
        if random.random() < SHADED:
            image = self._shadow(image)
        if random.random() < BARE:
            return image, torch.zeros(1, SIDE, SIDE)
        share, relief = self._shape(face)
        colours = (self._colours(face) * relief).clamp(0, 1)
        if random.random() < 0.5:  # lit as the face is
            light = gaussian_blur(image.mean(0)[None, None], 0.08 * SIDE)[0]
            colours = (colours * (light / light.mean().clamp_min(0.05)).clamp(0.5, 1.6)).clamp(0, 1)
        if random.random() < 0.4:  # it casts a shadow
            down, right = (int(v) for v in random.integers(-5, 6, 2))
            shade = gaussian_blur(share.roll((down, right), (-2, -1))[None], random.uniform(1.5, 5))[0]
            image = image * (1 - random.uniform(0.15, 0.5) * shade)
        return torch.lerp(image, colours, share), share

    def _shadow(self, image: Tensor) -> Tensor:
        """A face with a shadow over a part of it, which is no thing."""
        share = self._blob(self.random.uniform(0.2, 0.8))
        share = gaussian_blur(share[None, None], self.random.uniform(0.6, 6))[0]
        tint = torch.as_tensor(self.random.uniform(0.9, 1.1, (3, 1, 1))).float()
        return (image * (1 - share * self.random.uniform(0.1, 0.95) * tint)).clamp(0, 1)

    def _blob(self, amount: float) -> Tensor:
        """(SIDE,SIDE): patches with smooth outlines that cover about so much."""
        rough = torch.as_tensor(self.random.standard_normal((1, 1, *self.random.integers(3, 9, 2)))).float()
        smooth = F.interpolate(rough, (SIDE, SIDE), mode="bicubic", align_corners=False)[0, 0]
        return ((smooth - smooth.quantile(1 - amount)) * SIDE / 8).clamp(0, 1)

    def _place(self, face: Face) -> np.ndarray:
        """Where a thing is, mostly at the mouth: (2,)."""
        points, chance = face.points, self.random.random()
        if chance < 0.65:
            place = points[list(LIPS)].mean(0)
        elif chance < 0.8:
            place = points[self.random.choice(EYES)]
        else:
            place = points[self.random.integers(468)]
        return place + self.random.normal(0, 0.03 * SIDE, 2)

    def _shape(self, face: Face) -> tuple[Tensor, Tensor]:
        """Share (1,SIDE,SIDE) of a thing, and the factor (1,SIDE,SIDE) of its brightness."""
        random, scale = self.random, 2
        place = self._place(face)
        kind = random.choice(["disc", "box", "band", "blob", "fingers", "lower"], p=[0.17, 0.2, 0.11, 0.12, 0.22, 0.18])
        relief = torch.ones(1, SIDE, SIDE)
        if kind == "blob":
            near = torch.as_tensor(np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1) - place).float().norm(dim=-1)
            share = self._blob(0.5) * ((random.uniform(0.12, 0.3) * SIDE - near) / 2 + 1).clamp(0, 1)
            return share[None], relief
        layer = Image.new("L", (SIDE * scale, SIDE * scale))
        shade = Image.new("L", layer.size, 200)
        draw, lines = ImageDraw.Draw(layer), ImageDraw.Draw(shade)

        def polygon(points: np.ndarray) -> None:
            draw.polygon([tuple(point) for point in points * scale], fill=255)

        angle = random.uniform(0, 2 * math.pi)
        along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
        if kind == "disc":
            radius = random.uniform(0.05, 0.16) * SIDE
            turn = np.linspace(0, 2 * math.pi, 40)[:, None]
            polygon(place + radius * np.cos(turn) * along + radius * random.uniform(0.6, 1) * np.sin(turn) * across)
            if random.random() < 0.6:  # on a stick
                foot = np.array([random.uniform(-0.2, 0.2) * SIDE, SIDE])
                wide = random.uniform(0.01, 0.05) * SIDE * np.array([1, 0])
                polygon(np.stack([place - wide, place + wide, place + foot + wide * 1.4, place + foot - wide * 1.4]))
        elif kind == "box":
            half = np.array([random.uniform(0.05, 0.24), random.uniform(0.04, 0.15)]) * SIDE
            if random.random() < 0.4:  # upright, and longer downwards, as cups are
                along, across = np.array([1.0, random.normal(0, 0.1)]), np.array([random.normal(0, 0.1), 1.0])
                half[1] *= random.uniform(1, 2.5)
                place = place + across * half[1] * random.uniform(0, 0.9)
            taper = random.uniform(0.75, 1)
            corners = [(-1, -1), (1, -1), (taper, 1), (-taper, 1)]
            polygon(np.stack([place + a * half[0] * along + b * half[1] * across for a, b in corners]))
        elif kind == "band":
            half_width = random.uniform(0.03, 0.12) * SIDE
            polygon(np.stack([place + a * SIDE * along + b * half_width * across for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]))
        elif kind == "fingers":
            self._fingers(draw, lines, place, along, across, scale)
        else:
            self._lower(draw, lines, face, scale)
        share = torch.as_tensor(np.asarray(layer.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).copy())[None].float() / 255
        relief = torch.as_tensor(np.asarray(shade.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).copy())[None].float() / 200
        if kind in ("disc", "box") and random.random() < 0.5:  # round, darker to its edges
            inner = gaussian_blur(share[None], random.uniform(0.02, 0.06) * SIDE)[0]
            relief = relief * (1 - random.uniform(0.2, 0.6) * (1 - inner))
        return gaussian_blur(share[None], random.uniform(0.3, 1.1))[0], relief

    def _fingers(
        self, draw: ImageDraw.ImageDraw, lines: ImageDraw.ImageDraw, place: np.ndarray, along: np.ndarray, across: np.ndarray, scale: int
    ) -> None:
        """One to five fingers that come from one side, and the hand behind them."""
        random = self.random
        count, wide = int(random.integers(1, 6)), random.uniform(0.035, 0.065) * SIDE
        bend = random.normal(0, 0.12)
        for index in range(count):
            tip = place + across * wide * 1.02 * (index - (count - 1) / 2) - along * random.uniform(0.02, 0.14) * SIDE
            root = tip + along * random.uniform(0.3, 0.6) * SIDE + across * bend * SIDE * random.uniform(0.8, 1.2)
            shine = int(random.uniform(175, 225))
            for target, fill in ((draw, 255), (lines, shine)):
                target.line([tuple(tip * scale), tuple(root * scale)], fill=fill, width=int(wide * scale))
                box = np.concatenate([tip - wide / 2, tip + wide / 2]) * scale
                target.ellipse(list(box), fill=fill)
            dark = across * wide / 2
            gap = [tuple((tip + dark) * scale), tuple((root + dark) * scale)]
            lines.line(gap, fill=int(random.uniform(70, 170)), width=int(max(1, random.uniform(0.004, 0.014) * SIDE * scale)))
        if random.random() < 0.7:
            palm = place + along * random.uniform(0.3, 0.5) * SIDE
            corners = ((0, -0.6), (0.6, -0.7), (0.6, 0.8), (0, 0.6))
            draw.polygon([tuple((palm + a * SIDE * along + b * count * wide * across) * scale) for a, b in corners], fill=255)

    def _lower(self, draw: ImageDraw.ImageDraw, lines: ImageDraw.ImageDraw, face: Face, scale: int) -> None:
        """What covers the lower face: a mask, or a cloth that goes on to the picture's sides."""
        random, points = self.random, face.points
        nose, chin = points[NOSE], points[OVAL_BOTTOM]
        left, right = points[OVAL_LEFT], points[OVAL_RIGHT]
        down = chin - nose
        top = nose - down * random.uniform(-0.45, 0.5)
        low = chin + down * random.uniform(-0.1, 0.35)
        wide = (right - left) / 2 * random.uniform(0.75, 1.05)
        if random.random() < 0.3:
            wide, low = wide * random.uniform(1.3, 2.5), chin + down * random.uniform(0.5, 2)
        sides = down * random.uniform(-0.2, 0.5)
        outline = [top - wide + sides, top - wide * 0.4, top, top + wide * 0.4, top + wide + sides]
        outline += [low + wide * random.uniform(0.4, 1) - sides * 0.5, low, low - wide * random.uniform(0.4, 1) - sides * 0.5]
        draw.polygon([tuple(point * scale) for point in outline], fill=255)
        for _ in range(int(random.integers(0, 6))):  # folds
            middle = top + (low - top) * random.uniform(0.1, 0.95)
            sag = down * random.normal(0, 0.08)
            path = [tuple((middle + a * wide + (1 - a * a) * sag) * scale) for a in np.linspace(-1, 1, 9)]
            lines.line(path, fill=int(random.uniform(120, 240)), width=int(random.integers(1, 6)))

    def _colours(self, face: Face) -> Tensor:
        """(3,SIDE,SIDE) 0..1: one colour, skin, or a piece of another portrait."""
        random, chance = self.random, self.random.random()
        if chance < 0.35:
            other = self.faces[random.integers(len(self.faces))].square.float() / 255
            size = int(random.uniform(0.2, 0.7) * SIDE)
            row, column = random.integers(0, SIDE - size, 2)
            piece = other[None, :, row : row + size, column : column + size]
            return F.interpolate(piece, (SIDE, SIDE), mode="bilinear", align_corners=False)[0] * random.uniform(0.7, 1.3)
        if chance < 0.65:
            own = face.skin if random.random() < 0.6 else self.faces[random.integers(len(self.faces))].skin
            colour = own * random.uniform(0.7, 1.2) * random.uniform(0.94, 1.06, 3)
        elif chance < 0.8:
            colour = np.full(3, random.uniform(0.02, 1)) * random.uniform(0.92, 1.08, 3)
        else:
            colour = random.random(3)
        colours = torch.as_tensor(colour).float()[:, None, None].expand(3, SIDE, SIDE)
        rough = torch.as_tensor(random.standard_normal((1, 1, 6, 6))).float()
        uneven = F.interpolate(rough, (SIDE, SIDE), mode="bicubic", align_corners=False)[0]
        if random.random() < 0.3:  # woven, striped or meshed
            angle, wave = random.uniform(0, math.pi), random.uniform(2.5, 14)
            ys, xs = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
            uneven = uneven + random.uniform(0.5, 3) * torch.sin((xs * math.cos(angle) + ys * math.sin(angle)) * 2 * math.pi / wave)
        grain = torch.as_tensor(random.standard_normal((1, SIDE, SIDE))).float() * random.uniform(0, 0.03)
        return (colours * (1 + random.uniform(0.01, 0.12) * uneven) + grain).clamp(0, 1)


def batch_of(things: Things, count: int) -> tuple[Tensor, Tensor]:
    """Squares (count,3,GRID,GRID) 0..1 and shares (count,1,GRID,GRID), seen as landmarks that are off would cut them out."""
    random = things.random
    made = [things.before(things.faces[random.integers(len(things.faces))]) for _ in range(count)]
    both = torch.stack([torch.cat(one) for one in made])
    size = torch.as_tensor(np.exp(random.uniform(-SHRUNK, SHRUNK, count))).float() / WIDER
    turn = torch.as_tensor(random.uniform(-TURNED, TURNED, count)).float()
    mirror = torch.as_tensor(random.choice([-1.0, 1.0], count)).float()
    shift = torch.as_tensor(random.uniform(-SHIFTED, SHIFTED, (count, 2))).float() * 2 / WIDER
    cos, sin = size * turn.cos(), size * turn.sin()
    rows = [torch.stack([cos * mirror, -sin, shift[:, 0]], -1), torch.stack([sin * mirror, cos, shift[:, 1]], -1)]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 4, GRID, GRID], align_corners=False)
    both = F.grid_sample(both, grid, padding_mode="border", align_corners=False)
    squares, shares = both[:, :3], both[:, 3:]
    if random.random() < 0.3:
        squares = gaussian_blur(squares, random.uniform(0.4, 1.5))
    gain = torch.as_tensor(np.exp(random.normal(0, 0.15, (count, 1, 1, 1)) + random.normal(0, 0.06, (count, 3, 1, 1)))).float()
    gamma = torch.as_tensor(np.exp(random.normal(0, 0.15, (count, 1, 1, 1)))).float()
    squares = (squares.clamp(1e-3, 1).pow(gamma) * gain).clamp(0, 1)
    grey = torch.as_tensor(random.random((count, 1, 1, 1)) < 0.08)
    squares = torch.where(grey, squares.mean(1, keepdim=True), squares)
    return (squares + torch.randn_like(squares) * random.uniform(0, 0.02)).clamp(0, 1), shares


def train(faces: list[Face], minutes: float, start: str | None) -> OccluderMatte:
    """The network, with averaged weights."""
    torch.manual_seed(0)
    things, network, rate = Things(faces, 0), OccluderMatte(), RATE
    if start is not None:
        network.load_state_dict(OccluderMatte.load(start).state_dict())
        rate = RATE / 3
    averaged = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGED))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-3)
    began, step, mean = time.monotonic(), 0, 0.0
    while (passed := (time.monotonic() - began) / 60 / minutes) < 1:
        squares, shares = batch_of(things, BATCH)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARMUP) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * passed)))
        loss = loss_of(network.logits(squares), shares)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(network)
        step += 1
        mean += (float(loss.detach()) - mean) / min(step, 100)
        if step % 100 == 0:
            print(f"step {step}, {passed:.0%}, loss {mean:.4f}", flush=True)
    trained = averaged.module
    assert isinstance(trained, OccluderMatte)
    return trained.eval().requires_grad_(False)


def loss_of(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross entropy, and what the overlap lacks (dice), the latter of squares with a thing."""
    found = logits.sigmoid()
    overlap = 1 - (2 * (found * shares).sum((1, 2, 3)) + 1) / ((found + shares).sum((1, 2, 3)) + 1)
    there = (shares.sum((1, 2, 3)) > 0).to(overlap)
    return F.binary_cross_entropy_with_logits(logits, shares) + 0.3 * (overlap * there).sum() / there.sum().clamp_min(1)


def main(folder: str, output: str, minutes: str = "25", start: str | None = None) -> None:
    faces = read_faces(Path(folder))
    seen, others = [face for index, face in enumerate(faces) if index % 10], faces[::10]
    print(f"{len(seen)} portraits to train on, {len(others)} to look at")
    network = train(seen, float(minutes), start)
    torch.manual_seed(1)
    squares, shares = batch_of(Things(others, 1), 256)
    with torch.inference_mode():
        found, shares = (network(squares) > 0.5).float(), (shares > 0.5).float()
    there = shares.sum((1, 2, 3)) > 30
    overlap = (found * shares).sum((1, 2, 3)) / found.maximum(shares).sum((1, 2, 3)).clamp_min(1)
    print(f"intersection over union {overlap[there].mean():.3f}, found where nothing is {found[~there].mean():.5f}")
    tensors = network.state_dict()
    save_checkpoint(
        output, tensors, kind=KIND, config={"widths": [16, 32, 48, 64]}, license="Apache-2.0", source=SOURCE, eight_bit=True, half=True
    )


if __name__ == "__main__":
    main(*sys.argv[1:5])
